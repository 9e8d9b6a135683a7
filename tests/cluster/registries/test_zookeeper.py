"""ZooKeeper as a registry: it conforms, and sessions may end at any time."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from kazoo.exceptions import ConnectionLoss

from fastrpc.cluster import Gone, Instance, Listing, Put, Registry, open_registry
from fastrpc.cluster.instance import encode_instance
from fastrpc.cluster.registries.zookeeper import ZooKeeperRegistry
from fastrpc.errors import ConfigError, RegistryLost
from fastrpc.testing.registry import check_registry, registry_checks
from tests.cluster.engines.process import free_port
from tests.cluster.engines.zookeeper_server import (
    ZooKeepers,
    ZooKeeperServer,
    end_session,
    known_of,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

ONE = Instance(id="one", addresses=("tcp://127.0.0.1:7000",))
TWO = Instance(id="two", addresses=("tcp://127.0.0.1:7001",))


@pytest.fixture(scope="module")
def server() -> Iterator[ZooKeeperServer]:
    with ZooKeepers() as all_of_them:
        yield all_of_them.servers[0]


def make(target: str, ttl: float = 10.0) -> ZooKeeperRegistry:
    registry = open_registry(target, ttl=ttl)
    assert isinstance(registry, ZooKeeperRegistry)
    return registry


@asynccontextmanager
async def opened(target: str, ttl: float = 10.0) -> AsyncIterator[ZooKeeperRegistry]:
    registry = make(target, ttl)
    try:
        yield registry
    finally:
        await registry.aclose()


async def end(server: ZooKeeperServer, registry: Registry) -> None:
    await asyncio.to_thread(end_session, server, known_of(registry))


async def put(registry: ZooKeeperRegistry, path: str, text: bytes, **options: Any) -> None:
    """Write a node past all rules, in the session of *registry*."""

    def question(client: Any) -> Any:
        return client.create_async(path, text, makepath=True, **options)

    await registry._session.ask(question)


@pytest.mark.asyncio
@pytest.mark.parametrize("check", registry_checks("publish", "expire", "poison"))
async def test_zookeeper_conforms(server: ZooKeeperServer, check: str) -> None:
    async def expire(registry: Registry) -> None:
        await end(server, registry)

    async with opened(server.target) as foreign:

        async def poison(service: str, id: str, text: bytes) -> None:
            await put(foreign, f"/fastrpc/{service}/{id}", text)

        await check_registry(
            lambda: make(server.target), only=check, expire=expire, poison=poison, is_polled=True
        )


def kill_client(registry: ZooKeeperRegistry) -> None:
    """Let a registry's threads end as those of a killed process: its session stays."""
    client = registry._session._client
    client._stopped.set()  # it will not connect again
    client.handler.cut()


async def insist(registry: Registry, service: str, instance: Instance) -> None:
    """Call again until the registry can."""
    while True:
        try:
            return await registry.publish(service, instance)
        except RegistryLost:
            await asyncio.sleep(0.01)


async def keep(registry: Registry, service: str, instance: Instance, stated: asyncio.Event) -> None:
    """Do what an announcer does about sessions."""
    lost = 0
    while True:
        await insist(registry, service, instance)
        stated.set()
        lost = await registry.wait_lost(lost)


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_f12_killed_session_is_registered_again_100_of_100(server: ZooKeeperServer) -> None:
    times: list[float] = []
    async with opened(server.target) as other:
        watch = other.watch("f12")
        assert await anext(watch) == Listing(())
        names = [f"n{number}" for number in range(10)]
        await asyncio.gather(*(kill_ten_times(server, other, name, times) for name in names))
        # Whoever watched was never told that anybody had withdrawn anything.
        await other.publish("f12", TWO)
        told = [await anext(watch)]
        while told[-1] != Put(TWO):
            told.append(await anext(watch))
        assert {each.is_explicit for each in told if isinstance(each, Gone)} <= {False}
        await watch.aclose()
    assert len(times) == 100
    assert max(times) < 5


async def kill_ten_times(
    server: ZooKeeperServer, other: Registry, id: str, times: list[float]
) -> None:
    loop, stated = asyncio.get_running_loop(), asyncio.Event()
    instance = Instance(id=id, addresses=ONE.addresses)
    async with opened(server.target) as registry:
        keeper = asyncio.create_task(keep(registry, "f12", instance, stated))
        await stated.wait()
        for _ in range(10):
            stated.clear()
            known = known_of(registry)
            await asyncio.to_thread(end_session, server, known)
            begun = loop.time()
            await stated.wait()
            assert known_of(registry) != known
            assert instance in (await other.list("f12")).instances
            times.append(loop.time() - begun)
        keeper.cancel()


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_f12_session_that_ran_out_is_registered_again(server: ZooKeeperServer) -> None:
    # Nobody hears of us for longer than a session: the same as a process that is stopped.
    async with opened(server.target, ttl=1) as registry, opened(server.target) as other:
        await registry.publish("paused", ONE)
        known = known_of(registry)
        watch = other.watch("paused")
        assert await anext(watch) == Listing((ONE,))
        stated = asyncio.Event()
        async with asyncio.timeout(10):
            with frozen(registry):
                assert await anext(watch) == Gone("one")
            await registry.wait_lost()
            keeper = asyncio.create_task(keep(registry, "paused", ONE, stated))
            assert await anext(watch) == Put(ONE)
        assert known_of(registry) != known
        keeper.cancel()
        await watch.aclose()


@contextmanager
def frozen(registry: ZooKeeperRegistry, at_most: float = 20.0) -> Iterator[None]:
    """Stop the thread that speaks with the server, where it waits for something to do."""
    handler = registry._session._client.handler
    select, stopped, gate = handler.select, threading.Event(), threading.Event()

    def wait(*args: Any, **options: Any) -> Any:
        stopped.set()
        gate.wait(at_most)
        return select(*args, **options)

    handler.select = wait
    try:
        stopped.wait(at_most)
        yield
    finally:
        handler.select = select
        gate.set()


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_f13_fast_restart_over_old_nodes_100_of_100(server: ZooKeeperServer) -> None:
    """Sessions of 1 s, which are over soon after their owners were killed."""
    many = [Instance(id=f"n{number}", addresses=ONE.addresses) for number in range(100)]
    before = [make(server.target, ttl=1) for _ in range(4)]
    async with opened(server.target, ttl=1) as after, opened(server.target) as other:
        for number, instance in enumerate(many):
            await before[number % 4].publish("f13", instance)
        old = {known_of(registry)[0] for registry in before}
        for registry in before:
            kill_client(registry)
        for instance in many:  # at once: every old node is there
            await after.publish("f13", instance)
        async with asyncio.timeout(10):
            # The old sessions are at their end when their own nodes are gone.
            while await owners(other, "f13") & old:
                await asyncio.sleep(0)
            await asyncio.sleep(3 * after.ttl)
        assert set((await other.list("f13")).instances) == set(many)
        assert await owners(other, "f13") == {known_of(after)[0]}
    for registry in before:
        await registry.aclose()


async def owners(registry: ZooKeeperRegistry, service: str) -> set[int]:
    listing = await registry.list(service)
    found = set()
    for each in listing.instances:
        path = f"/fastrpc/{service}/{each.id}"
        node = await registry._session.ask(lambda client, path=path: client.exists_async(path))
        found.add(node.ephemeralOwner)
    return found


@pytest.mark.asyncio
async def test_old_session_that_ends_in_the_middle_is_no_obstacle(server: ZooKeeperServer) -> None:
    """Each step of a statement finds things otherwise than the step before."""
    async with opened(server.target) as foreign, opened(server.target) as registry:
        path = "/fastrpc/middle/one"

        async def vanish() -> None:
            await foreign._session.ask(lambda client: client.delete_async(path))

        async def appear() -> None:
            await put(foreign, path, b"theirs", ephemeral=True)

        for turns in (
            [appear, vanish],  # it is seen, and gone when it is to be replaced
            [None, appear],  # it is not there, and there when it is to be made
            [None, appear, vanish],
        ):
            ask, left = registry._session.ask, list(turns)

            async def asked(question: Any, ask: Any = ask, left: Any = left) -> Any:
                turn = left.pop(0) if left else None
                if turn is not None:
                    await turn()
                return await ask(question)

            registry._session.ask = asked  # type: ignore[method-assign]
            try:
                await registry.publish("middle", ONE)
            finally:
                registry._session.ask = ask  # type: ignore[method-assign]
            assert (await foreign.list("middle")).instances == (ONE,)
            assert await owners(foreign, "middle") == {known_of(registry)[0]}
            await registry.withdraw("middle", "one")


@pytest.mark.asyncio
async def test_lost_reply_is_recognised(server: ZooKeeperServer) -> None:
    async with opened(server.target) as registry, opened(server.target) as other:
        await other.publish("reply", TWO)  # so that the service is there
        await registry.list("reply")
        client = registry._session._client
        create, created = client.create_async, 0

        def lose(*args: Any, **options: Any) -> Any:
            nonlocal created
            created += 1
            lost = client.handler.async_result()
            create(*args, **options).rawlink(lambda _: lost.set_exception(ConnectionLoss()))
            return lost

        client.create_async = lose
        with pytest.raises(RegistryLost, match="ConnectionLoss"):
            await registry.publish("reply", ONE)
        assert set((await other.list("reply")).instances) == {ONE, TWO}  # it was done all the same
        node = await registry._session.ask(lambda client: client.exists_async("/fastrpc/reply/one"))
        await registry.publish("reply", ONE)
        again = await registry._session.ask(
            lambda client: client.exists_async("/fastrpc/reply/one")
        )
        assert (created, again) == (1, node)
        await other.withdraw("reply", "two")


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_server_that_is_away_is_no_reason_to_be_gone(
    server: ZooKeeperServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastrpc.cluster.registries.zksession.PATIENCE", 0.5)
    async with opened(server.target) as registry, opened(server.target) as other:
        await registry.publish("away", ONE)
        watch = other.watch("away")
        assert await anext(watch) == Listing((ONE,))
        lost = asyncio.ensure_future(registry.wait_lost())
        server.kill()
        with pytest.raises(RegistryLost, match="connection was lost"):
            raise AssertionError(f"told {await anext(watch)}")
        with pytest.raises(RegistryLost):
            await other.list("away")
        server.start()
        again = other.watch("away")
        while True:
            try:
                assert await anext(again) == Listing((ONE,))
                break
            except RegistryLost:
                again = other.watch("away")
        assert not lost.done()  # it kept its word: the session is the same
        await insist(registry, "away", TWO)
        assert await anext(again) == Put(TWO)
        lost.cancel()
        await again.aclose()


@pytest.mark.asyncio
async def test_withdrawn_and_ended_are_told_apart(server: ZooKeeperServer) -> None:
    async with opened(server.target) as registry, opened(server.target) as other:
        watch = other.watch("apart")
        assert await anext(watch) == Listing(())
        await registry.publish("apart", ONE)
        assert await anext(watch) == Put(ONE)
        await registry.withdraw("apart", "one")
        assert await anext(watch) == Gone("one", is_explicit=True)
        await registry.publish("apart", ONE)
        assert await anext(watch) == Put(ONE)
        await registry.aclose()  # the session ends, and nobody has said why
        assert await anext(watch) == Gone("one", is_explicit=False)
        await watch.aclose()


@pytest.mark.asyncio
async def test_time_of_a_session_is_what_the_server_grants(server: ZooKeeperServer) -> None:
    async with opened(server.target, ttl=100) as registry:
        assert registry.ttl == 100
        await registry.list("ttl")
        assert registry.ttl == 60


@pytest.mark.asyncio
async def test_password_makes_nodes_that_others_only_read(server: ZooKeeperServer) -> None:
    place = f"{server.host}/secure/Arith"
    async with opened(f"zookeeper://me:s3cret%3A@{place}") as mine:
        await mine.publish("Arith", ONE)
        async with opened(f"zookeeper://{place}") as nobody:
            assert (await nobody.list("Arith")).instances == (ONE,)
            for instance in (ONE, TWO):
                with pytest.raises(ConfigError, match="NoAuth"):
                    await nobody.publish("Arith", instance)
        async with opened(f"zookeeper://me:s3cret%3A@{place}") as again:
            await again.publish("Arith", ONE)
            await again.withdraw("Arith", "one")
            assert await mine.services() == ()


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_nodes_that_are_no_entries_are_refused_for_good(server: ZooKeeperServer) -> None:
    async with opened(server.target) as registry:
        await put(registry, "/fastrpc/odd/one/more", b"")
        with pytest.raises(ConfigError, match="NotEmpty"):
            await registry.publish("odd", ONE)
        await put(registry, "/fastrpc/leaf", b"", ephemeral=True)
        with pytest.raises(ConfigError, match="NoChildrenForEphemerals"):
            await registry.publish("leaf", ONE)


def make_nodes(instances: Sequence[Instance], client: Any) -> Any:
    steps = client.transaction()
    for each in instances:
        steps.create(f"/fastrpc/many/{each.id}", encode_instance(each), ephemeral=True)
    return steps.commit_async()


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_of_a_thousand_only_what_has_changed_is_read(server: ZooKeeperServer) -> None:
    async with opened(server.target) as owner, opened(server.target) as registry:
        many = [Instance(id=f"n{number}", addresses=ONE.addresses) for number in range(1000)]
        await owner.publish("many", many[0])
        for start in range(1, 1000, 333):
            await owner._session.ask(partial(make_nodes, many[start : start + 333]))
        watch = registry.watch("many")
        assert len((await anext(watch)).instances) == 1000
        asked: list[str] = []
        client = registry._session._client
        get = client.get_async

        def noted(path: str, *args: Any) -> Any:
            asked.append(path)
            return get(path, *args)

        client.get_async = noted
        await owner.publish("many", ONE)
        assert await anext(watch) == Put(ONE)
        await owner.withdraw("many", "n7")
        assert await anext(watch) == Gone("n7", is_explicit=True)
        heavy = Instance(id="n8", addresses=ONE.addresses, weight=2)
        await owner.publish("many", heavy)
        assert await anext(watch) == Put(heavy)
        # One each, the notes of the service, and at most a look at what was deleted.
        assert len(asked) <= 5
        await watch.aclose()


@pytest.mark.asyncio
async def test_watches_that_end_leave_nothing_with_kazoo(server: ZooKeeperServer) -> None:
    async with opened(server.target) as registry:
        await registry.publish("leak", ONE)
        for _ in range(20):
            watch = registry.watch("leak")
            assert await anext(watch) == Listing((ONE,))
            await watch.aclose()
        client = registry._session._client
        watchers = [*client._data_watchers.values(), *client._child_watchers.values()]
        assert [len(each) for each in watchers] == [1, 1]


@pytest.mark.asyncio
async def test_server_that_never_answers_blocks_neither_calls_nor_the_end(
    server: ZooKeeperServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastrpc.cluster.registries.zksession.PATIENCE", 0.2)
    monkeypatch.setattr("fastrpc.cluster.registries.zksession.END_PATIENCE", 0.2)
    registry = make(server.target, ttl=1)
    await registry.publish("stuck", ONE)
    server.pause()
    try:
        with frozen(registry, at_most=5):
            # Far more than kazoo's pipe takes, and nobody reads it.
            calls = [registry.list("stuck") for _ in range(1000)]
            async with asyncio.timeout(4):
                answers = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(answer) for answer in answers} == {RegistryLost}
        async with asyncio.timeout(5):
            await registry.aclose()
    finally:
        server.resume()


@pytest.mark.asyncio
async def test_nobody_there_and_closed_are_told(server: ZooKeeperServer) -> None:
    async with opened(server.target) as registry:
        await registry.publish("closed", ONE)
        watch = registry.watch("closed")
        await anext(watch)
        lost = asyncio.ensure_future(registry.wait_lost())
    assert not lost.done()
    lost.cancel()
    for call in (
        registry.publish("closed", ONE),
        registry.withdraw("closed", "one"),
        registry.list("closed"),
        registry.services(),
        anext(watch),
    ):
        with pytest.raises(RegistryLost, match="closed"):
            await call


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_encrypted_and_only_with_whom_we_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, other, port = trustme.CA(), trustme.CA(), free_port()
    certificate = authority.issue_cert("127.0.0.1")
    # Java reads keys in this form only.
    key = serialization.load_pem_private_key(
        certificate.private_key_pem.bytes(), None
    ).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    chain = b"".join(each.bytes() for each in certificate.cert_chain_pems)
    (tmp_path / "server.pem").write_bytes(key + chain)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    other.cert_pem.write_to_path(str(tmp_path / "other.pem"))
    more = [
        f"secureClientPort={port}",
        "secureClientPortAddress=127.0.0.1",
        "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory",
        f"ssl.keyStore.location={tmp_path / 'server.pem'}",
        f"ssl.trustStore.location={tmp_path / 'ca.pem'}",
        "ssl.clientAuth=none",
    ]
    with ZooKeepers(more=more):
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        async with opened(f"zookeeper+tls://127.0.0.1:{port}") as registry:
            await registry.publish("Arith", ONE)
            assert (await registry.list("Arith")).instances == (ONE,)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "other.pem"))
        monkeypatch.setattr("fastrpc.cluster.registries.zksession.PATIENCE", 0.5)
        async with opened(f"zookeeper+tls://127.0.0.1:{port}") as registry:
            with pytest.raises(RegistryLost, match="no connection in 0.5 s: .*certificate"):
                await registry.publish("Arith", ONE)
