"""Redis as a registry: it conforms, and what Redis goes through is survived."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from fastrpc.cluster import Gone, Instance, Listing, Put, Registry, open_registry
from fastrpc.cluster.instance import INSTANCES_MAX
from fastrpc.cluster.registries.redis import RedisRegistry
from fastrpc.errors import ConfigError, RegistryLost
from fastrpc.testing.registry import check_registry, registry_checks
from tests.cluster.engines.process import free_port
from tests.cluster.engines.redis_server import RedisServer

pytestmark = pytest.mark.slow

ONE = Instance(id="one", addresses=("tcp://127.0.0.1:7000",))
TWO = Instance(id="two", addresses=("tcp://127.0.0.1:7001",))


@pytest.fixture(scope="module")
def running() -> Iterator[RedisServer]:
    """One server for all tests that leave it alone."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def shared(running: RedisServer) -> RedisServer:
    """The same, empty."""
    running.ask("FLUSHALL")
    return running


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server of a test's own."""
    with RedisServer() as server:
        yield server


@asynccontextmanager
async def opened(target: str, ttl: float = 15.0) -> AsyncIterator[RedisRegistry]:
    registry = open_registry(target, ttl=ttl)
    assert isinstance(registry, RedisRegistry)
    try:
        yield registry
    finally:
        await registry.aclose()


def entries_of(registry: RedisRegistry) -> list[tuple[str, str, str]]:
    """Key, index and id of all that a registry has published."""
    found = []
    for key in sorted(registry._published):
        base, _, id = key.rpartition("/")
        found.append((key, f"{base}#index", id))
    return found


async def expire(server: RedisServer, registry: Registry) -> None:
    """Do what time does to entries that nobody renews."""
    assert isinstance(registry, RedisRegistry)
    token = registry._token.encode()
    for key, index, id in entries_of(registry):
        if token in server.ask("GET", key):
            server.ask("PEXPIRE", key, "1")
            server.ask("ZADD", index, "XX", "1", id)


def poison(
    server: RedisServer, service: str, id: str, text: bytes, prefix: str = "fastrpc"
) -> None:
    server.ask("SET", f"{prefix}/{service}/{id}", b"somebody " + text, "PX", "60000")
    server.ask("ZADD", f"{prefix}/{service}#index", "1e15", id)


async def until(watch: Any, change: object) -> None:
    while await anext(watch) != change:
        pass


async def insist(call: Any, *args: Any) -> None:
    """Call again until the registry can."""
    while True:
        try:
            await call(*args)
            return
        except RegistryLost:
            await asyncio.sleep(0.02)


@pytest.mark.asyncio
@pytest.mark.parametrize("check", registry_checks("publish", "expire", "poison"))
async def test_redis_conforms(shared: RedisServer, check: str) -> None:
    async def expire_it(registry: Registry) -> None:
        await expire(shared, registry)

    async def poison_it(service: str, id: str, text: bytes) -> None:
        poison(shared, service, id, text)

    await check_registry(
        lambda: open_registry(shared.target, ttl=3),
        only=check,
        expire=expire_it,
        poison=poison_it,
        is_polled=True,
    )


@pytest.mark.asyncio
async def test_entry_is_a_key_with_an_end_and_an_owner(shared: RedisServer) -> None:
    async with opened(f"{shared.target}/own/x/Arith", ttl=7) as registry:
        await registry.publish("Arith", ONE)
        left = int(shared.ask("PTTL", "own/x/Arith/one").strip(b":\r\n"))
        assert 5000 < left <= 7000
        assert registry._token.encode() + b' {"id":"one"' in shared.ask("GET", "own/x/Arith/one")
        assert await registry.services() == ("Arith",)
    async with opened(shared.target) as other:
        assert (await other.list("Arith")).instances == ()


@pytest.mark.asyncio
async def test_withdrawn_and_expired_are_told_apart(shared: RedisServer) -> None:
    async with opened(shared.target, ttl=1) as registry:
        watch = registry.watch("apart")
        assert await anext(watch) == Listing(())
        await registry.publish("apart", ONE)
        assert await anext(watch) == Put(ONE)
        await registry.withdraw("apart", "one")
        assert await anext(watch) == Gone("one", is_explicit=True)
        await registry.publish("apart", TWO)
        assert await anext(watch) == Put(TWO)
        assert await anext(watch) == Gone("two", is_explicit=False)  # its time ran out
        assert await registry.services() == ()
        await watch.aclose()


@pytest.mark.asyncio
async def test_killed_and_restarted_server_knows_all_again(server: RedisServer) -> None:
    async with opened(server.target, ttl=1.5) as registry, opened(server.target, ttl=1.5) as other:
        await registry.publish("Arith", ONE)
        await registry.publish("Arith", TWO)
        watch = other.watch("Arith")
        assert len((await anext(watch)).instances) == 2
        lost = asyncio.ensure_future(registry.wait_lost())
        server.kill()
        with pytest.raises(RegistryLost, match=f"redis at 127.0.0.1:{server.port}: "):
            while True:  # what was seen is not told to be gone
                raise AssertionError(f"told {await anext(watch)}")
        with pytest.raises(RegistryLost):
            await registry.publish("Arith", ONE)
        with pytest.raises(RegistryLost):
            await other.list("Arith")
        assert not lost.done()
        server.start()
        await lost  # it has forgotten everything, which nobody but us can tell it
        await insist(registry.publish, "Arith", ONE)
        await insist(registry.publish, "Arith", TWO)
        assert set((await other.list("Arith")).instances) == {ONE, TWO}


@pytest.mark.asyncio
async def test_server_that_sleeps_is_away_and_then_there(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastrpc.cluster.registries.redislink.PATIENCE", 0.3)
    async with opened(server.target, ttl=1) as registry:
        await registry.publish("Arith", ONE)
        assert (await registry.list("Arith")).instances == (ONE,)
        server.send("DEBUG", "SLEEP", "1.5")
        await asyncio.to_thread(server.pause)  # and is not so quick to wake up
        with pytest.raises(RegistryLost, match="no answer"):
            await registry.publish("Arith", ONE)
        with pytest.raises(RegistryLost, match="no answer"):
            await registry.list("Arith")
        server.resume()
        await insist(registry.publish, "Arith", ONE)
        assert (await registry.list("Arith")).instances == (ONE,)


@pytest.mark.asyncio
async def test_missed_messages_are_made_up_for_by_polling(shared: RedisServer) -> None:
    async with opened(shared.target, ttl=1) as registry, opened(shared.target) as owner:
        watch = registry.watch("quiet")
        assert await anext(watch) == Listing(())
        # Written past all scripts: there is neither a message nor a line in the log.
        key = "fastrpc/quiet/one"
        text = b'o {"id": "one", "addresses": ["tcp://127.0.0.1:7000"]}'
        shared.ask("SET", key, text)
        shared.ask("ZADD", "fastrpc/quiet#index", "1e15", "one")
        assert await anext(watch) == Put(ONE)
        shared.ask("SET", key, text.replace(b"}", b', "weight": 2}'))
        changed = await anext(watch)
        assert isinstance(changed, Put)
        assert changed.instance.weight == 2
        shared.ask("DEL", key)
        assert await anext(watch) == Gone("one")
        await owner.publish("quiet", ONE)  # the index had it all the time
        assert await anext(watch) == Put(ONE)
        await watch.aclose()


@pytest.mark.asyncio
async def test_messages_tell_at_once_and_a_listener_that_is_cut_off_listens_again(
    shared: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastrpc.cluster.registries.redislink.LISTEN_AGAIN", 0.01)
    # An hour to live: polling would not tell within the time of this test.
    async with opened(shared.target, ttl=3600) as registry:
        watch = registry.watch("cut")
        assert await anext(watch) == Listing(())
        async with asyncio.timeout(10):
            for id in ("a", "b", "c"):
                each = Instance(id=id, addresses=ONE.addresses)
                await registry.publish("cut", each)
                assert await anext(watch) == Put(each)
            shared.ask("CLIENT", "KILL", "TYPE", "pubsub")
            for id in ("d", "e", "f"):
                each = Instance(id=id, addresses=ONE.addresses)
                await registry.publish("cut", each)
                assert await anext(watch) == Put(each)
        await watch.aclose()


@pytest.mark.asyncio
async def test_entry_in_other_hands_is_a_loss_and_is_left_alone(shared: RedisServer) -> None:
    async with opened(shared.target, ttl=1.5) as one, opened(shared.target) as other:
        await one.publish("hands", ONE)
        await one.publish("hands", TWO)
        lost = asyncio.ensure_future(one.wait_lost())
        await other.publish("hands", ONE)
        await lost
        await one.withdraw("hands", "one")
        assert ONE in (await one.list("hands")).instances
        # Told once: who does not publish it again does not want it any more.
        again = asyncio.ensure_future(one.wait_lost(lost.result()))
        await one.publish("hands", ONE)
        await one.publish("hands", TWO)
        assert not again.done()
        again.cancel()


@pytest.mark.asyncio
async def test_next_host_is_asked_when_one_is_down_or_only_reads(
    shared: RedisServer, server: RedisServer
) -> None:
    server.ask("REPLICAOF", "127.0.0.1", str(shared.port))
    ports = (free_port(), server.port, shared.port)  # nobody listens at the first
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    async with opened(f"redis://{hosts}") as registry, opened(shared.target) as other:
        await insist(registry.publish, "hosts", ONE)
        assert (await other.list("hosts")).instances == (ONE,)


@pytest.mark.asyncio
async def test_password_is_asked_for() -> None:
    with RedisServer("--requirepass", "s3cret/:@") as server:
        where = f"127.0.0.1:{server.port}"
        async with opened(f"redis://default:s3cret%2F%3A%40@{where}") as registry:
            await registry.publish("Arith", ONE)
        for login in ("", "default:wrong@", "nobody:wrong@"):
            async with opened(f"redis://{login}{where}") as registry:
                with pytest.raises(ConfigError, match=f"redis at {where}") as caught:
                    await registry.publish("Arith", ONE)
                assert "wrong" not in str(caught.value).replace("WRONGPASS", "")
                with pytest.raises(RegistryLost):
                    await registry.list("Arith")


@pytest.mark.asyncio
async def test_key_of_another_kind_is_replaced_and_an_index_of_another_kind_refused(
    shared: RedisServer,
) -> None:
    async with opened(shared.target) as registry:
        shared.ask("RPUSH", "fastrpc/kinds/one", "x")
        assert (await registry.list("kinds")).instances == ()
        await registry.publish("kinds", ONE)
        assert (await registry.list("kinds")).instances == (ONE,)
        shared.ask("SET", "fastrpc/broken#index", "x")
        for call in (registry.publish("broken", ONE), registry.list("broken")):
            with pytest.raises(RegistryLost, match="WRONGTYPE"):
                await call
        assert (await registry.list("kinds")).instances == (ONE,)


@pytest.mark.asyncio
async def test_limits_of_what_is_read(shared: RedisServer) -> None:
    async with opened(shared.target) as registry:
        await registry.publish("huge", ONE)
        poison(shared, "huge", "big", b"x" * 1_000_000)
        poison(shared, "huge", "p" * 200, b"{}")
        listing = await registry.list("huge")
        assert (listing.instances, listing.skipped) == ((ONE,), 2)
        ids = [str(number) for number in range(INSTANCES_MAX + 7)]
        shared.ask("ZADD", "fastrpc/crowd#index", *(word for id in ids for word in ("1e15", id)))
        entries = [
            (f"fastrpc/crowd/{id}", f'o {{"id": "{id}", "addresses": ["tcp://h:1"]}}') for id in ids
        ]
        shared.ask("MSET", *(word for entry in entries for word in entry))
        listing = await registry.list("crowd")
        assert (len(listing.instances), listing.skipped) == (INSTANCES_MAX, 7)


@pytest.mark.asyncio
async def test_what_has_not_changed_is_not_read_again(
    shared: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(shared.target) as registry, opened(shared.target) as owner:
        many = [Instance(id=f"n{number}", addresses=ONE.addresses) for number in range(300)]
        for each in many:
            await owner.publish("calm", each)
        watch = registry.watch("calm")
        assert len((await anext(watch)).instances) == 300
        read: list[str] = []

        async def note(service: str, ids: Any) -> dict[str, bytes]:
            read.extend(ids)
            return await RedisRegistry._read(registry, service, ids)

        monkeypatch.setattr(registry, "_read", note)
        for each in many:
            await owner.publish("calm", each)  # renewals say nothing new
        await owner.publish("calm", ONE)
        assert await anext(watch) == Put(ONE)
        await owner.withdraw("calm", "n7")
        assert await anext(watch) == Gone("n7", is_explicit=True)
        assert read == ["one"]
        await watch.aclose()


@pytest.mark.asyncio
async def test_closed_registry_says_so_and_leaves_no_connection(server: RedisServer) -> None:
    async with opened(server.target) as registry:
        await registry.publish("Arith", ONE)
        watch = registry.watch("Arith")
        await anext(watch)
        waiting = asyncio.ensure_future(registry.list("Arith"))
        await asyncio.sleep(0)
    with pytest.raises(RegistryLost, match="closed"):
        await waiting
    for call in (
        registry.publish("Arith", ONE),
        registry.withdraw("Arith", "one"),
        registry.list("Arith"),
        registry.services(),
        anext(watch),
    ):
        with pytest.raises(RegistryLost, match="closed"):
            await call
    while server.ask("CLIENT", "LIST").count(b"id=") > 1:
        await asyncio.sleep(0.01)
    assert b'"one"' in server.ask("GET", "fastrpc/Arith/one")  # it expires


@pytest.mark.asyncio
async def test_encrypted_and_only_with_whom_we_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    pem, ca, port = str(tmp_path / "server.pem"), str(tmp_path / "ca.pem"), free_port()
    files = ["--tls-cert-file", pem, "--tls-key-file", pem, "--tls-ca-cert-file", ca]
    with RedisServer("--tls-port", str(port), *files, "--tls-auth-clients", "no"):
        async with opened(f"redis+tls://127.0.0.1:{port}") as registry:
            with pytest.raises(RegistryLost, match="certificate"):
                await registry.publish("Arith", ONE)
        monkeypatch.setenv("SSL_CERT_FILE", ca)
        async with opened(f"redis+tls://127.0.0.1:{port}") as registry:
            await registry.publish("Arith", ONE)
            assert (await registry.list("Arith")).instances == (ONE,)
