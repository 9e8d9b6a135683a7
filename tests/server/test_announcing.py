"""A server in registries: there as long as it takes calls, and gone before it stops."""

import asyncio
import logging
from typing import Any

import pytest

import fastrpc
from fastrpc.cluster import MemoryRegistry, MemoryStore
from fastrpc.cluster.reconcile import Belief
from fastrpc.server.server import Server
from tests.cluster.clumsy import ClumsyRegistry
from tests.server.serving import Waiting, assert_nothing_left, serving, until

CALM = logging.getLogger("tests.calm")


class Arith(Waiting):
    """Sums, and something that takes time."""


async def started(*registered: Any, **options: Any) -> Server:
    server = Server(log=CALM, **options)
    for each in registered or [Arith()]:
        server.register(each)
    await server.start("tcp://127.0.0.1:0")
    return server


@pytest.mark.asyncio
async def test_a_server_is_in_the_registry_until_it_closes() -> None:
    store = MemoryStore()
    async with serving(Arith(), log=CALM) as server:
        await server.announce(
            MemoryRegistry(store), weight=2.0, zone="eu-1", tags={"rack": "7"}, id="me"
        )
        (found,) = store.listing("Arith").instances
        assert found.id == "me"
        assert found.addresses == tuple(server.targets)
        assert (found.weight, found.zone, found.tags) == (2.0, "eu-1", (("rack", "7"),))
        async with fastrpc.connect(found.addresses[0]) as client:
            assert await client.call("Arith.add", 1, 2) == 3
        assert store.services() == ["Arith"]
    assert store.services() == []


@pytest.mark.asyncio
async def test_versions_and_groups_are_told() -> None:
    store = MemoryStore()
    server = Server(log=CALM)
    server.register(Arith(), version="1", default=True)
    server.register(Arith(), version="2", group="eu")
    server.register(Arith(), "Other")
    await server.start("tcp://127.0.0.1:0")
    await server.announce(MemoryRegistry(store))
    found = store.listing("Arith").instances
    assert sorted((each.version, each.group) for each in found) == [
        ("", ""),
        ("1", ""),
        ("2", "eu"),
    ]
    assert len({each.id for each in found}) == 3
    assert store.services() == ["Arith", "Other"]  # and nothing that every server has
    await server.aclose(0)


@pytest.mark.asyncio
async def test_only_the_services_that_are_wanted() -> None:
    store = MemoryStore()
    server = Server(log=CALM)
    for name in ("A", "B", "C"):
        server.register(Arith(), name)
    await server.start("tcp://127.0.0.1:0")
    await server.announce(MemoryRegistry(store), services=["A", "C"])
    assert store.services() == ["A", "C"]
    await server.aclose(0)
    assert store.services() == []


@pytest.mark.asyncio
async def test_leaving_comes_before_draining_and_calls_go_on_meanwhile() -> None:
    store = MemoryStore()
    service = Arith()
    server = await started(service)
    registry = ClumsyRegistry(store)
    await server.announce(registry, leave_wait=0.2)
    target = server.targets[0]
    async with fastrpc.connect(target) as client:
        waiting = asyncio.ensure_future(client.call("Arith.wait"))
        assert await client.call("Arith.add", 1, 1) == 2
        closing = asyncio.ensure_future(server.aclose())
        await until(lambda: not store.services())
        assert registry.log[-2:] == ["publish draining", "withdraw"]
        # Those who have an old list still come, by new connections, too.
        assert await client.call("Arith.add", 1, 2) == 3
        async with fastrpc.connect(target) as late:
            assert await late.call("Arith.add", 2, 2) == 4
        assert server.stats().state.value == "draining"
        assert not server.hall.is_closing
        await until(lambda: server.hall.is_closing)
        service.go_on.set()
        assert await waiting == "done"
        await closing
    assert_nothing_left(server)
    assert registry.log[-1] == "withdraw"


@pytest.mark.asyncio
async def test_a_server_that_leaves_says_that_it_is_not_ready() -> None:
    server = await started()
    await server.announce(MemoryRegistry(MemoryStore()), leave_wait=0.2)

    async def ready() -> bytes:
        host, port = server.targets[0].removeprefix("tcp://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        return answer.split(b"\r\n")[0]

    assert b"200" in await ready()
    closing = asyncio.ensure_future(server.aclose())
    await until(lambda: server.hall.is_leaving)
    assert b"503" in await ready()
    await closing


@pytest.mark.parametrize("trouble", ["down", "silent"])
@pytest.mark.asyncio
async def test_a_registry_that_is_away_does_not_keep_a_server_from_ending(
    trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    registry = ClumsyRegistry(store)
    server = await started()
    await server.announce(registry, leave_wait=600.0)
    store.is_down, registry.is_silent = trouble == "down", trouble == "silent"
    monkeypatch.setattr("fastrpc.server.announcing.FAREWELL", 0.2)
    async with asyncio.timeout(5):
        await server.aclose()  # nobody has heard of it, so nobody is waited for
    assert_nothing_left(server)


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["down", "silent"])
@pytest.mark.asyncio
async def test_a_registry_that_is_away_does_not_keep_a_server_from_serving(trouble: str) -> None:
    store = MemoryStore()
    registry = ClumsyRegistry(store, ttl=1.0)
    store.is_down, registry.is_silent = trouble == "down", trouble == "silent"
    server = await started()
    await server.announce(registry)
    async with fastrpc.connect(server.targets[0]) as client:
        assert await client.call("Arith.add", 1, 2) == 3
    store.is_down = registry.is_silent = False
    await until(lambda: bool(store.services()))
    await server.aclose(0)


@pytest.mark.asyncio
async def test_a_server_that_lost_its_lease_serves_on_and_comes_back() -> None:
    store = MemoryStore()
    registry = ClumsyRegistry(store)
    server = await started()
    await server.announce(registry)
    async with fastrpc.connect(server.targets[0]) as client:
        store._entries.clear()
        assert await client.call("Arith.add", 1, 2) == 3
        registry.lose()
        await until(lambda: bool(store.services()))
        (announcer,) = server._announcing.announcers
        assert announcer.stats().entries[0].belief is Belief.HELD
        assert await client.call("Arith.add", 1, 2) == 3
    await server.aclose(0)


@pytest.mark.asyncio
async def test_several_registries_are_left_together() -> None:
    stores = [MemoryStore() for _ in range(3)]
    server = await started()
    for store in stores:
        await server.announce(MemoryRegistry(store), leave_wait=0.01)
    assert [store.services() for store in stores] == [["Arith"]] * 3
    stores[1].is_down = True
    await server.aclose()
    stores[1].is_down = False
    assert [store.services() for store in stores] == [[], ["Arith"], []]


@pytest.mark.parametrize("after", [0.0, 0.02, 0.1])
@pytest.mark.asyncio
async def test_closing_that_is_cancelled_while_leaving_ends_at_once(after: float) -> None:
    before = asyncio.all_tasks()
    inner, server = Server(log=CALM), Server(log=CALM)
    for each in (inner, server):
        each.register(Arith())
    server.mount("/inner", inner)
    await server.start("tcp://127.0.0.1:0")
    registry = ClumsyRegistry(MemoryStore())
    await server.announce(registry, leave_wait=60.0)
    registry.delay = 0.03
    closing = asyncio.ensure_future(server.aclose())
    await asyncio.sleep(0)
    await asyncio.sleep(after)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert [each.stats().state.value for each in (server, inner)] == ["closed", "closed"]
    assert_nothing_left(server)
    await until(lambda: asyncio.all_tasks() == before)


@pytest.mark.asyncio
async def test_announcing_that_is_cancelled_leaves_nothing() -> None:
    server = await started()
    before = asyncio.all_tasks()
    registry = ClumsyRegistry(MemoryStore())
    registry.is_silent = True
    announcing = asyncio.ensure_future(server.announce(registry))
    await until(lambda: registry.under_way == 1)
    announcing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await announcing
    assert asyncio.all_tasks() == before
    assert server._announcing.announcers == []
    await server.aclose(0)


@pytest.mark.asyncio
async def test_a_server_that_closes_while_it_is_announced() -> None:
    server = await started()
    registry = ClumsyRegistry(MemoryStore())
    announcing = asyncio.ensure_future(server.announce(registry))
    await asyncio.sleep(0)
    await server.aclose(0)
    outcome = (await asyncio.gather(announcing, return_exceptions=True))[0]
    assert outcome is None or isinstance(outcome, fastrpc.ConfigError)
    assert registry.inner._store.services() == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"leave_wait": -1}, "leave_wait"),
        ({"leave_wait": "2"}, "leave_wait"),
        ({"services": "Arith"}, "several"),
        ({"services": ["Nothing"]}, "Nothing"),
        ({"services": []}, "no service"),
        ({"tags": ["a"]}, "tags"),
        ({"weigth": 2.0}, "weigth"),
    ],
)
@pytest.mark.asyncio
async def test_options_of_no_sense(options: Any, words: str) -> None:
    server = await started()
    with pytest.raises(fastrpc.ConfigError, match=words):
        await server.announce(MemoryRegistry(MemoryStore()), **options)
    await server.aclose(0)


@pytest.mark.asyncio
async def test_a_server_has_to_serve_to_be_announced() -> None:
    server = Server(log=CALM)
    with pytest.raises(fastrpc.ConfigError, match="start the server first"):
        await server.announce(MemoryRegistry(MemoryStore()))
    server.register(Arith())
    await server.start("mem://announced")
    await server.aclose(0)
    with pytest.raises(fastrpc.ConfigError, match="closed"):
        await server.announce(MemoryRegistry(MemoryStore()))
