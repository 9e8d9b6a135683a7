"""The list of a service's instances is there, whatever its registry does."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

import fastrpc
from fastrpc.cluster import (
    Change,
    Instance,
    InstanceState,
    Listing,
    MemoryRegistry,
    MemoryStore,
    Put,
    Registry,
)
from fastrpc.cluster.resolver import AT_ONCE, HINT_GAP, PATIENCE, RETRY_CAP, Resolver
from fastrpc.cluster.roll import GRACE, Freshness
from fastrpc.cluster.shelf import read_shelf, write_shelf
from tests.cluster.clumsy import ClumsyRegistry
from tests.cluster.virtual import in_virtual_time

FOREVER = float("inf")


def named(id: str, **fields: Any) -> Instance:
    return Instance(id=id, addresses=("tcp://10.0.0.1:7000",), **fields)


def ids(resolver: Resolver) -> list[str]:
    return [each.id for each in resolver.instances]


def now() -> float:
    return asyncio.get_running_loop().time()


class Scene:
    """A store, an owner of what is in it, and a resolver on a registry of its own."""

    def __init__(self, registry: Registry | None = None, **options: Any) -> None:
        self.store = MemoryStore(now)
        self.owner = MemoryRegistry(self.store, FOREVER)
        self.registry = registry or ClumsyRegistry(self.store)
        self.told = 0
        self.resolver = Resolver(self.registry, "Shop", changed=self.on_changed, **options)

    def on_changed(self) -> None:
        self.told += 1

    async def begin(self, *given: str) -> Resolver:
        for id in given:
            await self.owner.publish("Shop", named(id))
        self.resolver.begin()
        assert await self.resolver.wait_first()
        return self.resolver


async def soon() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@in_virtual_time
async def test_snapshot_and_watch() -> None:
    scene = Scene()
    resolver = await scene.begin("a", "b")
    assert ids(resolver) == ["a", "b"]
    assert resolver.freshness is Freshness.FRESH
    await scene.owner.publish("Shop", named("c"))
    await scene.owner.withdraw("Shop", "a")
    await soon()
    assert ids(resolver) == ["b", "c"]
    await scene.owner.publish("Shop", named("b", state=InstanceState.DRAINING))
    await soon()
    assert resolver.instances[0].state is InstanceState.DRAINING
    await resolver.aclose()
    await resolver.aclose()
    assert ids(resolver) == ["b", "c"]


@in_virtual_time
async def test_changes_that_come_together_are_told_once() -> None:
    scene = Scene()
    resolver = await scene.begin("a")
    assert scene.told == 1
    for n in range(50):
        await scene.owner.publish("Shop", named(f"b{n}"))
    await soon()
    assert len(resolver.instances) == 51
    assert scene.told == 2
    await scene.owner.publish("Shop", named("a"))  # a renewal
    await soon()
    assert scene.told == 2
    await resolver.aclose()


@in_virtual_time
async def test_a_watch_that_is_silent_for_a_day_is_fine() -> None:
    scene = Scene()
    resolver = await scene.begin("a")
    await asyncio.sleep(86_400)
    assert resolver.freshness is Freshness.FRESH
    assert scene.registry.log == ["watch"]  # type: ignore[attr-defined]
    await scene.owner.publish("Shop", named("b"))
    await soon()
    assert ids(resolver) == ["a", "b"]
    await resolver.aclose()


@in_virtual_time
async def test_a_registry_that_is_away_takes_nobody_with_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene = Scene()
    resolver = await scene.begin("a", "b")
    with caplog.at_level(logging.INFO, "fastrpc.cluster"):
        scene.store.is_down = True
        await soon()
        assert resolver.freshness is Freshness.STALE
        await asyncio.sleep(600)
        assert ids(resolver) == ["a", "b"]
        assert "down" in resolver.stats().failure
        assert scene.told == 2
        assert resolver.stats().losses <= 600 / (RETRY_CAP * 0.8) + 10  # no storm
        scene.store.is_down = False
        await scene.owner.publish("Shop", named("c"))
        begin = now()
        while resolver.freshness is not Freshness.FRESH:
            await asyncio.sleep(0.01)
        assert now() - begin <= RETRY_CAP * 1.2 + 0.01 <= 5.0
        assert ids(resolver) == ["a", "b", "c"]
        assert resolver.stats().failure == ""
    first, second = [each.getMessage() for each in caplog.records]
    assert "what is known stays (2)" in first
    assert "answers again" in second
    await resolver.aclose()


@in_virtual_time
async def test_a_registry_that_swallows_questions_is_asked_again() -> None:
    scene = Scene()
    assert isinstance(scene.registry, ClumsyRegistry)
    scene.registry.is_silent = True
    await scene.owner.publish("Shop", named("a"))
    scene.resolver.begin()
    assert await scene.resolver.wait_first(now() + 5) is False
    assert scene.resolver.freshness is Freshness.UNKNOWN
    await asyncio.sleep(60)
    assert "does not answer" in scene.resolver.stats().failure
    scene.registry.is_silent = False
    assert await scene.resolver.wait_first(now() + PATIENCE + RETRY_CAP * 1.2)
    await scene.resolver.aclose()


@in_virtual_time
async def test_an_emptied_registry_is_doubted_for_a_while() -> None:
    scene = Scene()
    resolver = await scene.begin("a", "b")
    # A registry restored from an empty disk: it lists nothing, and nobody has said goodbye.
    scene.store._entries.clear()
    scene.store.is_down = True
    scene.store.is_down = False
    await asyncio.sleep(1)
    assert resolver.freshness is Freshness.FRESH
    assert resolver.stats().is_suspect
    assert ids(resolver) == ["a", "b"]
    await asyncio.sleep(GRACE - 2)
    assert ids(resolver) == ["a", "b"]
    await asyncio.sleep(2)
    assert ids(resolver) == []
    await resolver.aclose()


@in_virtual_time
async def test_nobodys_grace_ends_while_the_registry_is_away() -> None:
    scene = Scene()
    resolver = await scene.begin("a", "b")
    scene.store._entries.clear()
    scene.store.is_down = True
    scene.store.is_down = False
    await asyncio.sleep(1)
    scene.store.is_down = True
    await asyncio.sleep(10 * GRACE)
    assert ids(resolver) == ["a", "b"]
    await resolver.aclose()


@in_virtual_time
async def test_who_said_goodbye_goes_at_once() -> None:
    scene = Scene()
    resolver = await scene.begin("a", "b")
    await scene.owner.withdraw("Shop", "a")
    await scene.owner.withdraw("Shop", "b")
    await soon()
    assert ids(resolver) == []
    await resolver.aclose()


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, ["plain"]),
        ({"version": "2"}, ["two"]),
        ({"version": "2", "group": "eu"}, ["two-eu"]),
        ({"version": "9"}, []),
        ({"version": None, "group": ""}, ["plain", "two"]),
        ({"version": None, "group": None}, ["plain", "two", "two-eu"]),
    ],
)
@in_virtual_time
async def test_only_those_that_serve_what_is_asked_for(
    wanted: dict[str, str | None], found: list[str]
) -> None:
    scene = Scene(**wanted)
    await scene.owner.publish("Shop", named("plain"))
    await scene.owner.publish("Shop", named("two", version="2"))
    await scene.owner.publish("Shop", named("two-eu", version="2", group="eu"))
    resolver = await scene.begin()
    assert ids(resolver) == found
    await resolver.aclose()


class Scripted(Registry):
    """Gives what it is told to give, once per watch, and then waits or fails."""

    def __init__(self, *watches: list[Any]) -> None:
        self.watches = list(watches)
        self.begun: list[float] = []

    async def publish(self, service: str, instance: Instance) -> None: ...

    async def withdraw(self, service: str, id: str) -> None: ...

    async def list(self, service: str) -> Listing:
        return Listing(())

    async def watch(self, service: str) -> AsyncIterator[Change]:
        self.begun.append(now())
        for each in self.watches.pop(0) if self.watches else [asyncio.Event]:
            if each is asyncio.Event:
                await asyncio.Event().wait()
            if isinstance(each, Exception):
                raise each
            yield each

    async def services(self) -> tuple[str, ...]:
        return ()

    async def wait_lost(self, since: int = 0) -> int:
        return await asyncio.Future()

    async def aclose(self) -> None: ...


@pytest.mark.parametrize(
    "ending",
    [fastrpc.RegistryLost("no"), KeyError("a mistake"), 7, Listing((None,)), None],  # type: ignore[arg-type]
    ids=["lost", "mistake", "no-change", "no-instances", "end"],
)
@in_virtual_time
async def test_however_a_watch_ends_it_is_begun_anew(ending: Any) -> None:
    ends = [] if ending is None else [ending]
    registry = Scripted(
        [Listing((named("a"),)), *ends],
        [Listing((named("a"), named("b"))), asyncio.Event],
    )
    scene = Scene(registry)
    scene.resolver.begin()
    await soon()
    assert ids(scene.resolver) == ["a"]
    assert scene.resolver.freshness is Freshness.STALE
    await asyncio.sleep(0.2)
    assert ids(scene.resolver) == ["a", "b"]
    assert scene.resolver.freshness is Freshness.FRESH
    await scene.resolver.aclose()


class Stubborn:
    """A watch that doesn't end well."""

    def __aiter__(self) -> "Stubborn":
        return self

    async def __anext__(self) -> Change:
        raise fastrpc.RegistryLost("no")

    async def aclose(self) -> None:
        raise OSError(5, "no")


@in_virtual_time
async def test_a_watch_that_does_not_end_well_is_begun_anew() -> None:
    scene = Scene()
    await scene.owner.publish("Shop", named("a"))
    plain = scene.registry.watch
    scene.registry.watch = lambda service: Stubborn()  # type: ignore[method-assign, assignment]
    scene.resolver.begin()
    await asyncio.sleep(5)
    assert scene.resolver.freshness is Freshness.UNKNOWN
    scene.registry.watch = plain  # type: ignore[method-assign]
    assert await scene.resolver.wait_first(now() + RETRY_CAP * 1.2)
    await scene.resolver.aclose()


@in_virtual_time
async def test_a_registry_that_comes_and_goes_is_not_asked_all_the_time() -> None:
    registry = Scripted(*[[Listing((named("a"),)), fastrpc.RegistryLost("no")]] * 200)
    scene = Scene(registry)
    scene.resolver.begin()
    await asyncio.sleep(300)
    assert 300 / (RETRY_CAP * 1.2) <= len(registry.begun) <= 300 / (RETRY_CAP * 0.8) + 10
    await scene.resolver.aclose()


@in_virtual_time
async def test_after_a_long_good_time_the_first_wait_is_short_again() -> None:
    scene = Scene()
    resolver = await scene.begin("a")
    for _ in range(20):
        scene.store.is_down = True
        scene.store.is_down = False
        await asyncio.sleep(10)
    await asyncio.sleep(60)
    scene.store.is_down = True
    scene.store.is_down = False
    await asyncio.sleep(0.2)
    assert resolver.freshness is Freshness.FRESH
    await resolver.aclose()


@in_virtual_time
async def test_a_hint_is_passed_on_and_shortens_the_wait() -> None:
    scene = Scene()
    resolver = scene.resolver
    assert isinstance(scene.registry, ClumsyRegistry)
    resolver.hint()  # before it has begun: no harm
    await scene.begin("a")
    scene.store.is_down = True
    await asyncio.sleep(120)
    scene.store.is_down = False
    begun = len(scene.registry.log)
    end = now() + HINT_GAP + 0.1
    while now() < end and resolver.freshness is not Freshness.FRESH:
        resolver.hint()
        await asyncio.sleep(0.01)
    assert resolver.freshness is Freshness.FRESH
    assert len(scene.registry.log) <= begun + 2
    assert scene.registry.hints > 1
    await resolver.aclose()


@in_virtual_time
async def test_poisoned_entries_are_counted_and_told_of_once_per_change(
    caplog: pytest.LogCaptureFixture,
) -> None:
    good = (named("a"),)
    registry = Scripted([Listing(good, 3), Listing(good, 3), Put(named("b")), asyncio.Event])
    scene = Scene(registry)
    with caplog.at_level(logging.WARNING, "fastrpc.cluster"):
        await scene.begin()
        await soon()
    assert scene.resolver.stats().skipped == 3
    assert [each.getMessage() for each in caplog.records] == [
        "Shop: entries of the registry that can't be read, and are left out: 3"
    ]
    await scene.resolver.aclose()


@in_virtual_time
async def test_a_flood_of_poison_does_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    flood = [Listing((named("a"),), n % 7) for n in range(1000)]
    scene = Scene(Scripted([*flood, asyncio.Event]))
    with caplog.at_level(logging.WARNING, "fastrpc.cluster"):
        await scene.begin()
        await asyncio.sleep(1)
    assert scene.resolver.stats().changes == 1000
    assert len(caplog.records) <= 1
    await scene.resolver.aclose()


@in_virtual_time
async def test_a_burst_lets_others_get_their_turn() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    burst: list[Any] = [Put(named(f"i{n}")) for n in range(1000)]
    scene = Scene(Scripted([Listing(()), *burst, asyncio.Event]))
    task = asyncio.ensure_future(other())
    scene.resolver.begin()
    while len(scene.resolver.instances) < 1000:
        await asyncio.sleep(0)
    assert turns >= 10
    task.cancel()
    await asyncio.wait((task,))
    await scene.resolver.aclose()


@in_virtual_time
async def test_who_follows_may_fail(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise RuntimeError("no")

    store = MemoryStore(now)
    resolver = Resolver(MemoryRegistry(store), "Shop", changed=fail)
    resolver.begin()
    assert await resolver.wait_first()
    await MemoryRegistry(store).publish("Shop", named("a"))
    await soon()
    assert ids(resolver) == ["a"]
    assert "RuntimeError" in caplog.text
    await resolver.aclose()


@pytest.mark.parametrize("steps", range(8))
@in_virtual_time
async def test_closed_at_each_step_it_leaves_nothing(steps: int) -> None:
    scene = Scene()
    assert isinstance(scene.registry, ClumsyRegistry)
    scene.registry.delay = 0.02
    await scene.owner.publish("Shop", named("a"))
    scene.resolver.begin()
    for _ in range(steps):
        await asyncio.sleep(0.005)
        if steps == 6:
            scene.store.is_down = True
    await scene.resolver.aclose()
    assert not scene.store._watches.get("Shop")
    told = scene.told
    await asyncio.sleep(1)
    assert scene.told == told


def test_a_name_that_can_not_be_one() -> None:
    with pytest.raises(fastrpc.ConfigError, match="name"):
        Resolver(MemoryRegistry(MemoryStore()), "a b", changed=print)


# With a file, and so in real time: a thread reads it.


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


@pytest.mark.asyncio
async def test_a_start_without_a_registry_uses_the_list_of_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "shop"
    write_shelf(path, "Shop", (named("old"),))
    scene = Scene(cache=path)
    scene.store.is_down = True
    begin = now()
    scene.resolver.begin()
    assert await scene.resolver.wait_first(now() + 5)
    assert now() - begin < AT_ONCE  # it said no at once
    assert ids(scene.resolver) == ["old"]
    assert scene.resolver.freshness is Freshness.REMEMBERED
    scene.store.is_down = False
    await scene.owner.publish("Shop", named("new"))
    await until(lambda: scene.resolver.freshness is Freshness.FRESH)
    assert "new" in ids(scene.resolver)
    await scene.resolver.aclose()
    assert [each.id for each in read_shelf(path, "Shop")] == ids(scene.resolver)


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_registry_that_does_not_answer_at_once_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "shop"
    write_shelf(path, "Shop", (named("old"),))
    scene = Scene(cache=path)
    assert isinstance(scene.registry, ClumsyRegistry)
    scene.registry.is_silent = True
    scene.resolver.begin()
    assert await scene.resolver.wait_first(now() + 5)
    assert scene.resolver.freshness is Freshness.REMEMBERED
    await scene.resolver.aclose()


@pytest.mark.asyncio
async def test_a_registry_that_answers_makes_the_disk_needless(tmp_path: Path) -> None:
    path = tmp_path / "shop"
    write_shelf(path, "Shop", (named("old"),))
    scene = Scene(cache=path)
    await scene.begin("new")
    await soon()
    assert ids(scene.resolver) == ["new"]
    await scene.resolver.aclose()
    assert [each.id for each in read_shelf(path, "Shop")] == ["new"]


@pytest.mark.asyncio
async def test_a_damaged_file_is_as_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "shop"
    path.write_bytes(b"\0" * 100)
    scene = Scene(cache=path)
    scene.store.is_down = True
    scene.resolver.begin()
    assert await scene.resolver.wait_first(now() + 0.05) is False
    assert sum("not used" in each.getMessage() for each in caplog.records) == 1
    await scene.resolver.aclose()
