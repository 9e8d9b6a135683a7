import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

import fastrpc
from fastrpc.cluster import Change, Gone, Instance, Listing, Put, parse_cluster
from fastrpc.cluster.instance import INSTANCES_MAX, encode_instance
from fastrpc.cluster.registrar.contract import News
from fastrpc.cluster.registrar.leases import LeaseLimits
from fastrpc.cluster.registrar.run import Registrar
from fastrpc.cluster.registries import embedded as embedded_module
from fastrpc.cluster.registries.embedded import EmbeddedRegistry, _Reading
from fastrpc.errors import ConfigError, RegistryLost
from fastrpc.testing.registry import check_registry, registry_checks
from tests.cluster.registrars import Relay, registrar_scene


def instance(id: str, weight: float = 1.0) -> Instance:
    return Instance(id=id, addresses=("tcp://127.0.0.1:7000",), weight=weight)


def open_hosts(*hosts: str, ttl: float = 15.0) -> EmbeddedRegistry:
    return EmbeddedRegistry(parse_cluster(f"registry://{','.join(hosts)}"), ttl=ttl)


@contextmanager
def dead_port() -> Iterator[str]:
    """Give a host where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


class Watch:
    """A watch, and what is known by it."""

    def __init__(self, registry: EmbeddedRegistry) -> None:
        self.changes = registry.watch("Arith")
        self.known: set[str] = set()

    async def until(self, *ids: str) -> list[Change]:
        """Read changes until exactly these are known; at least one."""
        read: list[Change] = []
        while not read or self.known != set(ids):
            change = await anext(self.changes)
            read.append(change)
            if isinstance(change, Listing):
                self.known = {each.id for each in change.instances}
            elif isinstance(change, Put):
                self.known.add(change.instance.id)
            else:
                self.known.discard(change.id)
        return read

    async def aclose(self) -> None:
        await self.changes.aclose()  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", registry_checks("publish", "expire", "poison"))
@pytest.mark.asyncio
async def test_it_keeps_the_contract(name: str) -> None:
    async with registrar_scene() as scene:
        await check_registry(scene.owner, only=name, expire=scene.expire, poison=scene.poison)


@pytest.mark.asyncio
async def test_who_loses_an_entry_to_another_hears_of_it_at_once() -> None:
    async with registrar_scene() as scene:
        former, other = scene.owner(), scene.owner()
        lost = asyncio.ensure_future(former.wait_lost())
        await former.publish("Arith", instance("a"))
        while former.owner not in scene.registrar.keeper.leases._guards:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0)
        assert not lost.done()
        await other.publish("Arith", instance("a", weight=2.0))
        assert await lost == 1
        await former.publish("Arith", instance("a"))  # and it is the former's again
        await other.withdraw("Arith", "a")
        assert (await scene.raw.list("Arith")).instances == (instance("a"),)
        for each in (former, other):
            await each.aclose()


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_two_hosts_keep_the_contract_together() -> None:
    async with registrar_scene() as one, registrar_scene() as two:
        await check_registry(lambda: open_hosts(one.host, two.host))


@pytest.mark.slow
@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_one_host_of_two_that_is_dead_is_no_matter() -> None:
    async with registrar_scene() as scene:
        with dead_port() as dead:
            await check_registry(lambda: open_hosts(dead, scene.host))


@pytest.mark.asyncio
async def test_an_owner_publishes_to_all_and_watches_fail_over() -> None:
    async with registrar_scene() as two:
        async with registrar_scene() as one:
            owner, reader = open_hosts(one.host, two.host), open_hosts(one.host, two.host)
            for id in ("a", "b"):
                await owner.publish("Arith", instance(id))
            assert one.registrar.keeper.leases.count == 2
            assert two.registrar.keeper.leases.count == 2
            watch = Watch(reader)
            await watch.until("a", "b")
            assert (await reader.list("Arith")).instances == (instance("a"), instance("b"))
        # The first is gone: another list, from the second, and nobody was told to be gone.
        (change,) = await watch.until("a", "b")
        assert isinstance(change, Listing)
        assert len((await reader.list("Arith")).instances) == 2
        assert await reader.services() == ("Arith",)
        await owner.publish("Arith", instance("c"))
        assert await watch.until("a", "b", "c") == [Put(instance("c"))]
        await owner.withdraw("Arith", "c")
        assert await watch.until("a", "b") == [Gone("c", is_explicit=True)]
        await watch.aclose()
        await owner.aclose()
        await reader.aclose()


@pytest.mark.asyncio
async def test_a_host_that_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_module, "PATIENCE", 0.01)
    for name in ("CONNECT", "ANSWER"):
        monkeypatch.setattr(embedded_module, name, 600.0)
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        async with registrar_scene() as scene:
            owner = open_hosts(scene.host, f"127.0.0.1:{hanging.getsockname()[1]}")
            for _ in range(3):
                await owner.publish("Arith", instance("a"))
                assert len(owner._late) == 1
                assert len(owner._late["Arith", "a"]) == 1
            await owner.withdraw("Arith", "a")
            assert (await owner.list("Arith")).instances == ()
            before = {task for tasks in owner._late.values() for task in tasks}
            assert before
            await owner.aclose()
            assert all(task.done() for task in before)
            assert owner._late == {}


@pytest.mark.slow
@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_a_server_that_says_hello_and_then_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_module, "ANSWER", 0.5)
    monkeypatch.setattr(embedded_module, "PATIENCE", 0.01)

    class Registry:
        async def publish(self, *words: Any) -> None:
            await asyncio.Event().wait()

        async def watch(self, *words: Any) -> AsyncIterator[News]:
            await asyncio.Event().wait()
            yield News("", 0)

        listing = services = owned = withdraw = watch

    server = fastrpc.Server()
    server.register(Registry())
    await server.start("tcp://127.0.0.1:0")
    hanging = server.targets[0].removeprefix("tcp://")
    alone = open_hosts(hanging)
    calls: list[Any] = [alone.list("Arith"), anext(alone.watch("Arith")), alone.services()]
    for error in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(error, RegistryLost)
    async with registrar_scene() as scene:
        both, other = open_hosts(hanging, scene.host), open_hosts(hanging, scene.host)
        await both.publish("Arith", instance("a"))
        async with aclosing(Watch(other)) as watch:
            listing, changes = await asyncio.gather(both.list("Arith"), watch.until("a"))
        assert listing.instances == (instance("a"),)
        assert changes == [listing]
        await both.aclose()
        await other.aclose()
    await alone.aclose()
    await server.aclose(0.0)


@pytest.mark.asyncio
async def test_nobody_there_is_told_with_each_host() -> None:
    with dead_port() as one, dead_port() as two:
        registry = open_hosts(one, two)
        calls: list[Any] = [
            registry.publish("Arith", instance("a")),
            registry.withdraw("Arith", "a"),
            registry.list("Arith"),
            registry.services(),
            anext(registry.watch("Arith")),
        ]
        for error in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(error, RegistryLost)
            assert one in str(error)
            assert two in str(error)
        await registry.aclose()
        with pytest.raises(RegistryLost, match="closed"):
            await registry.list("Arith")


@pytest.mark.asyncio
async def test_a_server_that_is_no_registry() -> None:
    server = fastrpc.Server()
    await server.start("tcp://127.0.0.1:0")
    registry = open_hosts(server.targets[0].removeprefix("tcp://"))
    for call in (registry.publish("Arith", instance("a")), anext(registry.watch("Arith"))):
        with pytest.raises(RegistryLost, match=r"Registry\."):
            await call
    await registry.aclose()
    await server.aclose(0.0)


@pytest.mark.asyncio
async def test_what_can_never_be_done_and_what_can_not_be_done_now() -> None:
    limits = LeaseLimits(max_entries=1)
    async with registrar_scene(limits=limits, max_ttl=20.0) as scene:
        greedy = scene.owner(ttl=21.0)
        with pytest.raises(ConfigError, match="ttl must be 1 to 20 seconds"):
            await greedy.publish("Arith", instance("a"))
        await greedy.aclose()
        both = open_hosts(scene.host, scene.host.replace("127.0.0.1", "localhost"), ttl=21.0)
        with pytest.raises(ConfigError, match="ttl"):
            await both.publish("Arith", instance("a"))
        await both.aclose()
        await scene.raw.publish("Arith", instance("a"))
        with pytest.raises(RegistryLost, match="max_entries"):
            await scene.raw.publish("Arith", instance("b"))


def test_a_registry_server_knows_no_users() -> None:
    with pytest.raises(ConfigError, match="no users") as raised:
        EmbeddedRegistry(parse_cluster("registry://me:secret@a"))
    assert "secret" not in str(raised.value)


@pytest.mark.asyncio
async def test_a_watch_that_was_cut_off_goes_on_where_it_was() -> None:
    async with registrar_scene() as scene:
        relay = Relay(int(scene.host.rpartition(":")[2]))
        await relay.start()
        reader = open_hosts(f"127.0.0.1:{relay.port}")
        await scene.raw.publish("Arith", instance("a"))
        async with aclosing(Watch(reader)) as watch:
            await watch.until("a")
            waiting = asyncio.ensure_future(watch.until("a", "b"))
            await relay.cut()
            await relay.start()
            await scene.raw.publish("Arith", instance("b"))
            assert await waiting == [Put(instance("b"))]  # and no other list before it
            assert relay.accepted == 2
            await reader.aclose()
            with pytest.raises(RegistryLost, match="closed"):
                await watch.until()
        await relay.cut()


@pytest.mark.asyncio
async def test_an_owner_hears_that_a_server_has_begun_anew() -> None:
    registrar = Registrar()
    await registrar.start("tcp://127.0.0.1:0")
    (target,) = registrar.targets
    owner = open_hosts(target.removeprefix("tcp://"))
    lost = asyncio.ensure_future(owner.wait_lost())
    await owner.publish("Arith", instance("a"))
    assert not lost.done()
    await registrar.aclose(0.0)
    again = Registrar()  # which has forgotten everything
    await again.start(target)
    await lost
    await owner.publish("Arith", instance("a"))
    assert (await owner.list("Arith")).instances == (instance("a"),)
    await owner.aclose()
    await again.aclose(0.0)


@pytest.mark.slow
@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_over_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    chain, ca = tmp_path / "chain.pem", tmp_path / "ca.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(chain))
    authority.cert_pem.write_to_path(str(ca))
    registrar = Registrar(tls=fastrpc.TlsOptions(cert=str(chain)))
    await registrar.start("tls://127.0.0.1:0")
    target = parse_cluster(f"registry+tls://{registrar.targets[0].removeprefix('tls://')}")
    registry = EmbeddedRegistry(target, tls=fastrpc.TlsOptions(ca=str(ca)))
    await registry.publish("Arith", instance("a"))
    assert (await registry.list("Arith")).instances == (instance("a"),)
    stranger = EmbeddedRegistry(target)
    with pytest.raises(RegistryLost, match="certificate"):
        await stranger.list("Arith")
    await registry.aclose()
    await stranger.aclose()
    await registrar.aclose(0.0)


# What a server sends may be anything.


def entry(id: str, weight: float = 1.0) -> tuple[str, bytes | None, bool]:
    return id, encode_instance(instance(id, weight)), False


def test_a_list_comes_in_parts_and_changes_after_it() -> None:
    reading = _Reading()
    assert reading.take(News("e", 5, [entry("a"), ("bad", b"{", False)], True, True)) == []
    assert (reading.epoch, reading.revision) == ("", 0)
    assert reading.take(News("e", 5, [entry("b"), entry("a", 2)], True)) == [
        Listing((instance("a", 2), instance("b")), 1)
    ]
    assert (reading.epoch, reading.revision) == ("e", 5)
    changes = [
        entry("a", 2),  # as it was
        entry("a", 3),
        ("b", b"rubbish", False),  # nobody can call it any more, and nobody took it away
        ("bad", None, True),
        ("c", encode_instance(instance("d")), False),
        entry("e"),
        ("e", None, True),
    ]
    assert reading.take(News("e", 9, changes)) == [
        Put(instance("a", 3)),
        Gone("b"),
        Put(instance("e")),
        Gone("e", is_explicit=True),
    ]
    assert reading.revision == 9
    # A part of a list, and then the connection broke.
    reading.take(News("e", 10, [entry("z")], True, True))
    reading.begin_again()
    assert reading.take(News("e", 10, [entry("a", 3)], True)) == [Listing((instance("a", 3),))]


def test_changes_before_any_list_are_no_news() -> None:
    with pytest.raises(RegistryLost, match="without a list"):
        _Reading().take(News("e", 5, [entry("a")]))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["good", "bad"])
def test_an_endless_list_is_cut_off(kind: str) -> None:
    text = encode_instance(instance("x"))
    reading = _Reading()
    with pytest.raises(RegistryLost, match=f"more than {INSTANCES_MAX}"):
        for part in range(INSTANCES_MAX // 1000 + 1):
            ids = [f"x{part}-{number}" for number in range(1000)]
            texts = [text.replace(b'"x"', f'"{id}"'.encode()) for id in ids]
            entries = [
                (id, text if kind == "good" else b"?", False)
                for id, text in zip(ids, texts, strict=True)
            ]
            reading.take(News("e", 1, list(entries), True, True))


def test_endless_changes_are_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_module, "INSTANCES_MAX", 2)
    reading = _Reading()
    reading.take(News("e", 1, [entry("a"), entry("b")], True))
    assert reading.take(News("e", 2, [entry("b", 2)])) == [Put(instance("b", 2))]
    with pytest.raises(RegistryLost, match="over 2 instances"):
        reading.take(News("e", 3, [entry("c")]))


# A real process, that is killed.


@contextmanager
def registry_process(*words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `fastrpc registry`, and tell where it is."""
    process = subprocess.Popen(
        [sys.executable, "-m", "fastrpc", "registry", "--json", *words],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    try:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())["targets"][0]
    finally:
        process.kill()
        process.communicate()


async def always(registry: EmbeddedRegistry, changes: list[Change], more: asyncio.Event) -> None:
    """Watch as a resolver does."""
    while True:
        try:
            async for change in registry.watch("Arith"):
                changes.append(change)
                more.set()
        except RegistryLost:
            await asyncio.sleep(0.02)


@pytest.mark.slow
@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_a_registry_that_is_killed_forgets_nothing(tmp_path: Path) -> None:
    data = ("--data", str(tmp_path / "registry.db"))
    wanted = {f"x{number}" for number in range(1000)}
    with registry_process(*data, "--bind", "tcp://127.0.0.1:0") as (process, target):
        host = target.removeprefix("tcp://")
        owner, reader, dying = open_hosts(host), open_hosts(host), open_hosts(host, ttl=1.0)
        changes: list[Change] = []
        more = asyncio.Event()
        watching = asyncio.ensure_future(always(reader, changes, more))
        await asyncio.gather(*(owner.publish("Arith", instance(id)) for id in wanted))
        await dying.publish("Arith", instance("dying"))
        before = await reader.list("Arith")
        assert {each.id for each in before.instances} == {*wanted, "dying"}
        lost = asyncio.ensure_future(owner.wait_lost())
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    await dying.aclose()
    seen = len(changes)
    with registry_process(*data, "--bind", target) as (process, again):
        assert again == target
        while True:
            try:
                after = await reader.list("Arith")
                break
            except RegistryLost:
                await asyncio.sleep(0.02)
        assert set(after.instances) >= {instance(id) for id in wanted}
        await lost  # the owner goes on
        await asyncio.gather(*(owner.publish("Arith", instance(id)) for id in wanted))
        # The owner that died is let go of in its time, and the watch tells of it.
        while Gone("dying") not in changes:
            more.clear()
            await more.wait()
        assert isinstance(changes[seen], Listing)  # the watch went on
        assert len(changes[seen].instances) >= 1000
        gone = [each for each in changes[seen:] if isinstance(each, Gone)]
        assert gone == [Gone("dying")]
        assert {each.id for each in (await reader.list("Arith")).instances} == wanted
        watching.cancel()
        await asyncio.wait([watching])
        await owner.aclose()
        await reader.aclose()
        process.terminate()
        assert process.wait(10) == 0
