"""Each instance of a cluster gets the keys it owns, and all clients agree on whose they are."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from itertools import chain
from typing import Any

import pytest

import fastrpc
from fastrpc.client.shard import ShardFailed
from fastrpc.cluster import Instance, MemoryRegistry
from fastrpc.cluster.client import connect_registry
from tests.cluster.scene import Gated, Scene

pytestmark = pytest.mark.asyncio

KEYS = [f"key-{number}" for number in range(40)]


class Cache(Gated):
    """Keeps numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, int] = {}

    async def set_many(self, items: dict[str, int]) -> None:
        await self._begin()
        self.kept.update(items)

    @fastrpc.rpc(idempotent=True)
    async def get_many(self, keys: list[str]) -> list[int | None]:
        await self._begin()
        return [self.kept.get(key) for key in keys]

    @fastrpc.rpc(idempotent=True)
    async def find(self, keys: list[str]) -> dict[str, int]:
        await self._begin()
        return {key: self.kept[key] for key in keys if key in self.kept}

    def drop_many(self, keys: list[str]) -> int:
        return sum(self.kept.pop(key, None) is not None for key in keys)

    def has(self, key: str) -> bool:
        return key in self.kept


class Caches(Scene):
    """A cluster that caches."""

    caches: list[Cache]

    @property
    def calls(self) -> list[int]:
        return [cache.ran for cache in self.caches]

    def kept(self) -> list[list[str]]:
        return [sorted(cache.kept) for cache in self.caches]


@contextlib.asynccontextmanager
async def caches(count: int = 4, **options: Any) -> AsyncIterator[Caches]:
    scene = Caches()
    async with scene:
        await scene.grow(count)
        scene.caches = [Cache() for _ in scene.nodes]
        for node, cache in zip(scene.nodes, scene.caches, strict=True):
            node.server.register(cache)
        await scene.connect(**options)
        yield scene
        assert all(len(lane.table) == 0 for lane in scene.client.lanes)


async def fill(scene: Caches) -> dict[str, int]:
    items = {key: number for number, key in enumerate(KEYS)}
    assert await scene.client.shard("Cache.set_many", items) is None
    return items


async def test_each_key_has_one_owner() -> None:
    async with caches() as scene:
        items = await fill(scene)
        assert scene.calls == [1, 1, 1, 1]
        assert sorted(chain(*scene.kept())) == sorted(KEYS)
        assert all(scene.kept())
        wanted = [*reversed(KEYS), "nothing", KEYS[0]]
        found = await scene.client.shard("Cache.get_many", wanted)
        assert found == [items.get(key) for key in wanted]
        assert await scene.client.shard(scene.client.stub(Cache).find, wanted) == items
        assert await scene.client.shard("Cache.drop_many", KEYS) == 40
        assert scene.kept() == [[], [], [], []]


async def test_only_owners_are_called() -> None:
    async with caches() as scene:
        await fill(scene)
        owner = next(n for n, kept in enumerate(scene.kept()) if KEYS[7] in kept)
        assert await scene.client.shard("Cache.find", [KEYS[7]] * 3) == {KEYS[7]: 7}
        assert scene.calls == [1 + (number == owner) for number in range(4)]
        assert await scene.client.shard("Cache.get_many", []) == []


async def test_another_client_and_single_calls_agree() -> None:
    async with caches() as scene:
        await fill(scene)
        other = connect_registry(
            MemoryRegistry(scene.store), "Work", balance="consistent_hash", key="0"
        )
        async with other as client:
            await scene.until(lambda: len(client.lanes) == 4)
            assert [await client.call("Cache.has", key) for key in KEYS] == [True] * 40
            assert await client.options(key=KEYS[3]).call("Cache.has", KEYS[3])
            assert await client.shard("Cache.find", KEYS) == await scene.client.shard(
                "Cache.find", KEYS
            )


async def test_the_keys_of_who_is_gone_move_and_no_others() -> None:
    async with caches() as scene:
        items = await fill(scene)
        moved = scene.kept()[2]
        await scene.nodes[2].die()
        await scene.until(lambda: len(scene.client.fleet.chosen) == 3)
        found = await scene.client.shard("Cache.find", KEYS)
        assert found == {key: items[key] for key in KEYS if key not in moved}


async def test_a_client_that_begins_knows_all_before_it_splits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fastrpc.cluster.fleet.DIALS_MAX", 1)  # so they come one by one
    async with caches() as scene:
        items = await fill(scene)
        await scene.client.aclose()
        client: Any = connect_registry(MemoryRegistry(scene.store), "Work")
        scene.client = client
        assert await client.shard("Cache.find", KEYS) == items


async def test_keys_of_who_can_not_be_reached_go_to_another() -> None:
    async with caches(2) as scene:
        refusing = socket.create_server(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{refusing.getsockname()[1]}"
        refusing.close()
        await scene.registry.publish("Work", Instance(id="odd", addresses=(address,)))
        await scene.client.aclose()
        client: Any = connect_registry(MemoryRegistry(scene.store), "Work")
        scene.client = client
        await fill(scene)
        assert sorted(chain(*scene.kept())) == sorted(KEYS)


async def test_who_rests_keeps_its_keys() -> None:
    async with caches(balance="consistent_hash") as scene:
        items = await fill(scene)
        owned = scene.kept()
        member = scene.client.fleet.members["node-1"]
        scene.client.fleet._let_rest(member, 3600.0, time.monotonic())
        await scene.until(lambda: len(scene.client.fleet.chosen) == 3)
        found = await scene.client.shard("Cache.find", KEYS)  # it is left alone, too
        assert found == {key: items[key] for key in KEYS if key not in owned[1]}
        assert scene.calls[1] == 1
        assert await owner_ids(scene) == {f"node-{n}": kept for n, kept in enumerate(owned)}


async def test_who_joins_slowly_has_its_keys_at_once() -> None:
    async with caches(slow_start=3600.0) as scene:
        await fill(scene)
        owned = scene.kept()
        fleet = scene.client.fleet
        for member in fleet.members.values():
            member.weight = 0.01 if member.instance.id == "node-1" else 1.0
        assert await owner_ids(scene) == {f"node-{n}": kept for n, kept in enumerate(owned)}


async def owner_ids(scene: Caches) -> dict[str, list[str]]:
    """Return which keys each instance owns."""
    owners: dict[str, list[str]] = {}
    for key, owner in zip(KEYS, await scene.client._owners("Cache.find", KEYS, 0.0), strict=True):
        owners.setdefault(owner.id, []).append(key)
    return dict(sorted((id, sorted(keys)) for id, keys in owners.items()))


async def test_nobody_can_be_reached() -> None:
    async with caches(2) as scene:
        for node in scene.nodes:
            await node.die()
        await scene.until(lambda: not scene.client.lanes)
        with pytest.raises(fastrpc.ConnectFailed):
            await scene.client.shard("Cache.find", KEYS)
        client: Any = connect_registry(MemoryRegistry(scene.store), "Nobody", connect_timeout=0.05)
        async with contextlib.aclosing(client):
            with pytest.raises(fastrpc.Unavailable, match="no instance is listed"):
                await client.shard("Cache.find", KEYS)
            with pytest.raises(fastrpc.DeadlineExceeded):
                await client.options(timeout=0.01).shard("Cache.find", KEYS)


async def test_what_came_is_kept_when_one_fails() -> None:
    async with caches() as scene:
        items = await fill(scene)
        scene.caches[1].error = fastrpc.RpcError(5, "full")
        mine = [key for key in KEYS if key in scene.kept()[1]]
        with pytest.raises(ShardFailed, match=r"Cache.get_many: 1 of 4 failed: node-1") as failed:
            await scene.client.shard("Cache.get_many", KEYS)
        error = failed.value
        assert error.missing == mine
        assert error.partial == {key: items[key] for key in KEYS if key not in mine}
        assert isinstance(error.errors["node-1"], fastrpc.RpcError)
        notes = error.errors["node-1"].__notes__
        assert f"instance node-1 at {scene.nodes[1].server.targets[0]}" in notes


@pytest.mark.parametrize("mode", ["fail_over", "fail_fast"])
async def test_a_part_fails_over_as_any_call_does(mode: Any) -> None:
    async with caches(failure_mode=mode) as scene:
        items = await fill(scene)
        mine = scene.kept()[1]
        scene.caches[1].gate.clear()
        view = scene.client.options(idempotent=True)
        call = asyncio.ensure_future(view.shard("Cache.find", KEYS))
        await scene.until(lambda: scene.calls == [2, 2, 2, 2])
        scene.nodes[1].cut()
        if mode == "fail_fast":
            with pytest.raises(ShardFailed) as failed:
                await call
            assert sorted(failed.value.missing) == mine
        else:
            assert await call == {key: items[key] for key in KEYS if key not in mine}
            assert sum(scene.calls) == 9


async def test_what_must_not_run_twice_does_not() -> None:
    async with caches() as scene:
        scene.caches[1].gate.clear()
        call = asyncio.ensure_future(fill(scene))
        await scene.until(lambda: scene.calls == [1, 1, 1, 1])
        scene.nodes[1].cut()
        with pytest.raises(ShardFailed) as failed:
            await call
        assert isinstance(failed.value.errors["node-1"], fastrpc.ConnectionLost)
        assert scene.calls == [1, 1, 1, 1]


async def test_interceptors_see_each_part() -> None:
    seen: list[Any] = []

    def note(handler: fastrpc.Handler) -> fastrpc.Handler:
        async def noted(call: fastrpc.Call) -> fastrpc.Reply:
            seen.append(sorted(call.args[0]))
            return await handler(call)

        return noted

    async with caches(interceptors=[note]) as scene:
        await fill(scene)
        assert sorted(seen) == sorted(scene.kept())


async def test_one_deadline_over_all_parts() -> None:
    async with caches() as scene:
        await fill(scene)
        scene.caches[2].gate.clear()
        with pytest.raises(ShardFailed) as failed:
            await scene.client.options(timeout=0.05).shard("Cache.find", KEYS)
        assert isinstance(failed.value.errors["node-2"], fastrpc.DeadlineExceeded)
        assert sorted(failed.value.missing) == scene.kept()[2]
        await scene.until(lambda: scene.caches[2].cancelled == 1)


async def test_the_caller_may_be_cancelled_anywhere() -> None:
    async with caches(3) as scene:
        tasks = len(asyncio.all_tasks())
        for cache in scene.caches:
            cache.gate.clear()
        for turns in range(12):
            call = asyncio.ensure_future(scene.client.shard("Cache.find", KEYS))
            for _ in range(turns):
                await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert all(len(lane.table) == 0 for lane in scene.client.lanes)
            await scene.until(lambda: not any(n.server.stats().running for n in scene.nodes))
        assert sum(scene.calls) > 0
        assert [cache.cancelled for cache in scene.caches] == scene.calls
        await scene.until(lambda: len(asyncio.all_tasks()) <= tasks)


@pytest.mark.parametrize("key", [object(), frozenset(), ("a", object())])
async def test_what_can_not_be_a_key(key: object) -> None:
    async with caches(1) as scene:
        with pytest.raises(fastrpc.InvalidArgument, match="a key is text, bytes"):
            await scene.client.shard("Cache.find", ["a", key])
        assert scene.calls == [0]
