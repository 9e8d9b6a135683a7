"""Workers of one server are one instance in a registry, whoever of them says so."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import fastrpc
from fastrpc.cluster import (
    Change,
    Gone,
    InstanceState,
    Listing,
    MemoryRegistry,
    MemoryStore,
    Put,
    open_registry,
)
from fastrpc.cluster.engines import ENGINES, Engine
from fastrpc.cluster.target import ClusterTarget
from fastrpc.server.workers.herald import Announcement, Herald, make_announcement
from tests.cluster.engines.redis_server import RedisServer
from tests.server.serving import until
from tests.server.workers.running import Served, call

SHARED = MemoryStore()
OPENED: list["Closing"] = []


class Work:
    def add(self, a: int, b: int) -> int:
        return a + b


class Closing:
    """A registry whose entries go with its session, as ZooKeeper's do."""

    def __new__(cls, where: ClusterTarget, *, ttl: float) -> Any:
        registry = MemoryRegistry(SHARED, ttl)
        plain = registry.aclose

        async def aclose() -> None:
            for name in SHARED.services():
                for instance in SHARED.listing(name).instances:
                    await registry.withdraw(name, instance.id)  # only what is its own
            await plain()

        registry.aclose = aclose  # type: ignore[method-assign]
        return registry


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """What all registries behind registry://shared keep their entries in."""
    SHARED.__init__()  # type: ignore[misc]
    monkeypatch.setitem(ENGINES, "registry", Engine(__name__, "Closing"))
    return SHARED


class Worker:
    """A server with its herald, as a worker process has them."""

    def __init__(self, announcement: Announcement, folder: Path, number: int, table: Any) -> None:
        self.server = fastrpc.Server()
        self.server.register(Work())
        self.herald = Herald(self.server, announcement, folder, number, table)

    async def open(self) -> "Worker":
        await self.server.start("tcp://127.0.0.1:0")
        await self.herald.open()
        return self

    async def end(self) -> None:
        await self.herald.leave()
        await self.server.aclose(1.0)
        await self.herald.close()


@asynccontextmanager
async def workers(folder: Path, count: int, **options: Any) -> AsyncIterator[Any]:
    table: Any = SimpleNamespace(is_ending=False)
    announcement = make_announcement("registry://shared", {"leave_wait": 0.05, **options})  # type: ignore[typeddict-item]
    announcement = Announcement(
        announcement.registry, announcement.options, announcement.id, os.getppid(),
        announcement.leave_wait,
    )  # fmt: skip
    made = [Worker(announcement, folder, number, table) for number in range(count)]
    try:
        yield table, made
    finally:
        for each in made:
            await each.server.aclose(0)
            await each.herald.close()


@pytest.mark.asyncio
async def test_one_of_them_announces(store: MemoryStore, tmp_path: Path) -> None:
    async with workers(tmp_path, 3, id="me") as (table, made):
        for each in made:
            await each.open()
        (found,) = store.listing("Work").instances
        assert found.id == "me"
        assert [each.herald.is_herald for each in made] == [True, False, False]
        table.is_ending = True
        await asyncio.gather(*(each.end() for each in made))
        assert store.services() == []


@pytest.mark.asyncio
async def test_who_is_replaced_hands_over_and_the_entry_never_goes(
    store: MemoryStore, tmp_path: Path
) -> None:
    async with workers(tmp_path, 3) as (_, made):
        first, second, third = made
        await first.open()
        queue = store.subscribe("Work")
        for new, old in ((second, first), (third, second)):
            await new.open()
            assert not new.herald.is_herald
            await old.end()
            assert new.herald.is_herald
        told = [type(queue.get_nowait()).__name__ for _ in range(queue.qsize())]
        assert told == ["Put", "Put"]  # the addresses of these servers differ
        (found,) = store.listing("Work").instances
        assert found.addresses == tuple(third.server.targets)


@pytest.mark.asyncio
async def test_who_dies_is_followed(store: MemoryStore, tmp_path: Path) -> None:
    async with workers(tmp_path, 2) as (_, made):
        first, second = [await each.open() for each in made]
        await first.herald.close()  # as its process's end does
        await until(lambda: second.herald.is_herald)
        await until(
            lambda: store.listing("Work").instances[0].addresses == tuple(second.server.targets)
        )


@pytest.mark.parametrize("error", [fastrpc.ConfigError("no"), OSError(5, "no")])
@pytest.mark.asyncio
async def test_who_can_not_announce_leaves_it_to_a_sibling_and_tries_again(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr("fastrpc.server.workers.herald.TRY_AGAIN", 0.01)
    monkeypatch.setattr("fastrpc.server.workers.herald.LOOK_EVERY", 0.01)
    async with workers(tmp_path, 3) as (_, made):
        first, second, third = made
        await first.open()
        await second.open()
        plain, tries = second.server.announce, 0

        async def fail(*args: Any, **options: Any) -> None:
            nonlocal tries
            tries += 1
            raise error

        second.server.announce = fail  # as where a module is missing
        await first.herald.close()
        await until(lambda: tries > 2)
        assert not second.herald.is_herald
        await third.open()
        await until(lambda: third.herald.is_herald)
        second.server.announce = plain
        await third.herald.close()
        await until(lambda: second.herald.is_herald)


@pytest.mark.asyncio
async def test_the_first_that_can_not_announce_keeps_no_lock(
    store: MemoryStore, tmp_path: Path
) -> None:
    async with workers(tmp_path, 2) as (_, made):
        first, second = made

        async def fail(*args: Any, **options: Any) -> None:
            raise fastrpc.ConfigError("no")

        first.server.announce = fail
        with pytest.raises(fastrpc.ConfigError):
            await first.open()
        await second.open()
        assert (first.herald.is_herald, second.herald.is_herald) == (False, True)


@pytest.mark.asyncio
async def test_all_go_just_after_the_one_that_announces_has_died(
    store: MemoryStore, tmp_path: Path
) -> None:
    async with workers(tmp_path, 2) as (table, made):
        first, second = [await each.open() for each in made]
        table.is_ending = True
        await first.herald.close()
        await second.end()
        assert store.services() == []


@pytest.mark.asyncio
async def test_all_go_while_the_next_one_begins_to_announce(
    store: MemoryStore, tmp_path: Path
) -> None:
    async with workers(tmp_path, 2) as (table, made):
        first, second = [await each.open() for each in made]
        await first.server._announcing.rest()
        await first.herald.close()
        await until(lambda: second.herald.is_herald)
        table.is_ending = True
        await second.end()
        assert store.services() == []


@pytest.mark.asyncio
async def test_nobody_follows_and_the_end_comes_all_the_same(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastrpc.server.workers.herald.HANDOVER", 0.2)
    async with workers(tmp_path, 1) as (_, made):
        await made[0].open()
        await made[0].end()
        assert store.services() == []


@pytest.mark.asyncio
async def test_a_registry_that_can_not_be_fails_the_first_worker(
    store: MemoryStore, tmp_path: Path
) -> None:
    async with workers(tmp_path, 1, weight=0) as (_, made):
        with pytest.raises(fastrpc.ConfigError, match="weight"):
            await made[0].open()


@pytest.mark.parametrize(
    ("registry", "options", "words"),
    [
        (MemoryRegistry(MemoryStore()), {}, "must be a target"),
        ("registry://x", {"leave_wait": -1}, "leave_wait"),
    ],
)
def test_what_workers_can_not_announce(registry: Any, options: Any, words: str) -> None:
    with pytest.raises(fastrpc.ConfigError, match=words):
        make_announcement(registry, options)


def test_without_a_registry_nothing_is_done(tmp_path: Path) -> None:
    async def main() -> None:
        herald = Herald(fastrpc.Server(), None, tmp_path, 0, SimpleNamespace())  # type: ignore[arg-type]
        await herald.open()
        await herald.leave()
        await herald.close()
        assert list(tmp_path.iterdir()) == []

    asyncio.run(main())


async def run_through(served: Served, target: str, count: int) -> list[Change]:
    """Reload, lose a worker and stop; return what those saw who watched."""
    registry = open_registry(target, ttl=3.0)
    seen: list[Change] = []

    async def watch() -> None:
        async for change in registry.watch("Work"):
            seen.append(change)

    watching = asyncio.ensure_future(watch())
    try:
        await until(lambda: bool(seen))
        if count > 1:
            served.send(signal.SIGHUP)
            await asyncio.to_thread(served.until_said, "reload: done")
            os.kill(await asyncio.to_thread(call, served.targets[0]), signal.SIGKILL)
            await asyncio.to_thread(served.until_said, "restarted in")
            await asyncio.to_thread(served.until_said, "serving")
        code, out, _ = await asyncio.to_thread(served.end)
        assert (code, out) == (0, "returned\n")
        await until(lambda: any(isinstance(each, Gone) for each in seen))
        return seen
    finally:
        watching.cancel()
        await asyncio.wait((watching,))
        await registry.aclose()


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2])
def test_processes_are_one_instance_from_the_start_to_the_end(count: int) -> None:
    with RedisServer() as redis:
        served = Served(
            "tcp://127.0.0.1:0", workers=count, registry=redis.target,
            announce={"leave_wait": 0.3, "tags": {"a": "b"}},
        )  # fmt: skip
        try:
            first, *changes, last = asyncio.run(run_through(served, redis.target, count))
        finally:
            served.popen.kill()
            served.popen.communicate()
    assert isinstance(first, Listing)
    (instance,) = first.instances
    assert (instance.addresses, instance.tags) == (tuple(served.targets), (("a", "b"),))
    # It said goodbye; nothing else has ever happened to it.
    assert all(each == Put(instance.with_state(InstanceState.DRAINING)) for each in changes)
    assert last == Gone(instance.id, is_explicit=True)
