"""What is announced stays written down, whatever happens to its entry."""

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any

import pytest

import fastrpc
from fastrpc.cluster import Instance, InstanceState, Listing, MemoryRegistry, MemoryStore
from fastrpc.cluster.announcer import CALM, FAREWELL, PARALLEL, PATIENCE, Announcer
from fastrpc.cluster.reconcile import LOSS_SPREAD, RETRY_CAP, Belief
from tests.cluster.clumsy import ClumsyRegistry
from tests.cluster.virtual import in_virtual_time

TTL = 15.0
JITTER = 1.2  # of a wait after a failure
SHOP = Instance(id="a-1", addresses=("tcp://10.0.0.1:7000",))


def store() -> MemoryStore:
    return MemoryStore(asyncio.get_running_loop().time)


def now() -> float:
    return asyncio.get_running_loop().time()


async def begun(registry: Any, *entries: tuple[str, Instance], seed: int = 0) -> Announcer:
    announcer = Announcer(registry, entries or [("Shop", SHOP)], rng=random.Random(seed))
    announcer.begin()
    assert await announcer.wait_tried()
    return announcer


async def listed(where: MemoryStore, service: str = "Shop") -> tuple[Instance, ...]:
    return (await MemoryRegistry(where).list(service)).instances


async def after(seconds: float, condition: Callable[[], bool], step: float = 0.01) -> float:
    """Return when *condition* holds, which must be within *seconds*."""
    begin = now()
    while not condition():
        assert now() - begin <= seconds, f"not within {seconds} s"
        await asyncio.sleep(step)
    return now() - begin


def is_there(where: MemoryStore, service: str = "Shop") -> bool:
    return not where.is_down and bool(where.listing(service).instances)


@in_virtual_time
async def test_an_entry_is_there_for_hours_and_gone_soon_after_its_owner() -> None:
    where = store()
    announcer = await begun(MemoryRegistry(where, TTL))
    for _ in range(720):
        await asyncio.sleep(5)
        assert await listed(where) == (SHOP,)
    (entry,) = announcer.stats().entries
    assert entry.belief is Belief.HELD
    assert 3600 / (TTL / 3 * 1.1) <= entry.stated <= 3600 / (TTL / 3 * 0.9) + 1
    assert (entry.failed, entry.lost, entry.error) == (0, 0, "")
    await announcer.aclose()
    await asyncio.sleep(TTL)
    assert await listed(where) == ()


@in_virtual_time
async def test_leaving_says_so_and_withdraws() -> None:
    where = store()
    registry = ClumsyRegistry(where)
    announcer = await begun(registry)
    queue = where.subscribe("Shop")
    assert await announcer.leave() is True
    told = [queue.get_nowait() for _ in range(queue.qsize())]
    assert [getattr(each, "instance", each) for each in told] == [
        SHOP.with_state(InstanceState.DRAINING),
        told[1],
    ]
    assert told[1].is_explicit  # type: ignore[union-attr]
    assert await listed(where) == ()
    assert registry.log[-2:] == ["publish draining", "withdraw"]
    assert announcer.stats().is_leaving
    assert announcer.stats().entries[0].belief is Belief.WITHDRAWN
    assert await announcer.leave() is False
    await asyncio.sleep(60)
    assert registry.log[-1] == "withdraw"  # and nobody states it again


@in_virtual_time
async def test_a_statement_on_its_way_does_not_come_after_the_withdrawal() -> None:
    where = store()
    registry = ClumsyRegistry(where)
    announcer = await begun(registry)
    registry.delay = 0.5
    announcer.change(lambda each: each)
    await asyncio.sleep(0.1)
    assert registry.under_way == 1
    assert await announcer.leave() is True
    assert registry.log == ["publish up", "publish up", "publish draining", "withdraw"]
    assert registry.under_way == 0
    await asyncio.sleep(2)
    assert await listed(where) == ()


@pytest.mark.parametrize("trouble", ["silent", "down"])
@in_virtual_time
async def test_leaving_is_bounded_when_the_registry_is_away(trouble: str) -> None:
    where = store()
    registry = ClumsyRegistry(where)
    announcer = await begun(registry)
    where.is_down = trouble == "down"
    registry.is_silent = trouble == "silent"
    announcer.change(lambda each: each)
    await asyncio.sleep(0.01)
    begin = now()
    assert await announcer.leave() is False
    assert now() - begin <= FAREWELL


@pytest.mark.slow
@in_virtual_time
async def test_a_registry_that_was_down_for_ten_minutes_knows_all_of_us_soon() -> None:
    where = store()
    announcers = [
        await begun(MemoryRegistry(where, TTL), ("Shop", _numbered(n)), seed=n) for n in range(20)
    ]
    where.is_down = True
    await asyncio.sleep(600)
    beliefs = {each.stats().entries[0].belief for each in announcers}
    assert beliefs == {Belief.DOUBTED}
    where.expire()
    where.is_down = False
    took = await after(RETRY_CAP * JITTER, lambda: len(where.listing("Shop").instances) == 20)
    assert took > 0.05  # and not all of them in the same moment
    failed = [each.stats().entries[0].failed for each in announcers]
    # No storm either: one try per RETRY_CAP at most, but for the first few.
    assert max(failed) <= 600 / (RETRY_CAP * 0.8) + 10
    for each in announcers:
        await each.aclose()


@in_virtual_time
async def test_a_partition_that_only_swallows_is_over_in_time_too() -> None:
    where = store()
    registry = ClumsyRegistry(where, TTL)
    announcer = await begun(registry)
    registry.is_silent = True
    await asyncio.sleep(60)
    assert await listed(where) == ()
    assert announcer.stats().entries[0].error == "no answer in time"
    registry.is_silent = False
    took = await after(RETRY_CAP + TTL / 3, lambda: is_there(where))
    assert took <= PATIENCE + RETRY_CAP * JITTER <= 5.0
    await announcer.aclose()


@pytest.mark.parametrize("seed", range(5))
@in_virtual_time
async def test_a_lost_session_brings_a_new_statement_each_time(seed: int) -> None:
    where = store()
    registry = MemoryRegistry(where, TTL)
    announcer = await begun(registry, seed=seed)
    rng = random.Random(seed)
    stranger = object()
    for _ in range(100):
        await asyncio.sleep(rng.uniform(CALM, 8))
        registry.lose()
        # As it is when a session dies: its entries go with it.
        where.put(stranger, "Shop", SHOP, 1)
        where.remove(stranger, "Shop", SHOP.id)
        assert not is_there(where)
        await after(LOSS_SPREAD + 0.05, lambda: is_there(where))
    (entry,) = announcer.stats().entries
    assert entry.lost == 100
    await announcer.aclose()


@in_virtual_time
async def test_an_old_entry_of_another_owner_is_taken_over_and_stays() -> None:
    where = store()
    before = await begun(MemoryRegistry(where, TTL))
    await before.aclose()  # killed: its entry is left and would expire
    announcer = await begun(MemoryRegistry(where, TTL))
    for _ in range(45):
        await asyncio.sleep(1)
        assert await listed(where) == (SHOP,)
    await announcer.aclose()


@in_virtual_time
async def test_a_loss_while_a_statement_is_under_way_states_it_again() -> None:
    where = store()
    registry = ClumsyRegistry(where)
    announcer = await begun(registry)
    registry.delay = 0.3
    announcer.change(lambda each: each)
    await asyncio.sleep(0.1)
    registry.lose()
    await asyncio.sleep(0.3)
    assert registry.log == ["publish up"] * 3
    assert announcer.stats().entries[0].stated == 1
    await asyncio.sleep(0.3)
    assert announcer.stats().entries[0].stated == 2
    await announcer.aclose()


@in_virtual_time
async def test_losses_without_end_do_not_become_statements_without_end() -> None:
    where = store()
    registry = ClumsyRegistry(where)
    announcer = await begun(registry)

    async def lost_already(since: int = 0) -> int:
        return since + 1

    registry.wait_lost = lost_already  # type: ignore[method-assign]
    registry.lose()
    await asyncio.sleep(60)
    assert len(registry.log) <= 60 / CALM + 10
    await announcer.aclose()


@in_virtual_time
async def test_an_engine_that_can_not_even_say_what_is_lost_is_no_harm(
    caplog: pytest.LogCaptureFixture,
) -> None:
    where = store()
    registry = ClumsyRegistry(where)

    asked = 0

    async def fail(since: int = 0) -> int:
        nonlocal asked
        asked += 1
        raise OSError(5, "no")

    plain = registry.wait_lost
    registry.wait_lost = fail  # type: ignore[method-assign]
    with caplog.at_level(logging.INFO, "fastrpc.cluster"):
        announcer = await begun(registry)
        await asyncio.sleep(30)
    assert await listed(where) == (SHOP,)
    assert len(registry.log) <= 30 / (TTL / 3 * 0.9) + 1  # it renews, and no more than that
    assert asked <= 30 / (RETRY_CAP / JITTER) + 10
    (line,) = [each.getMessage() for each in caplog.records]
    assert "can't be heard of" in line
    registry.wait_lost = plain  # type: ignore[method-assign]
    await asyncio.sleep(RETRY_CAP * JITTER)
    registry.lose()
    await after(LOSS_SPREAD + 0.05, lambda: announcer.stats().entries[0].lost == 1)
    await announcer.aclose()


@in_virtual_time
async def test_all_who_announce_in_one_registry_hear_of_every_loss() -> None:
    where = store()
    registry = MemoryRegistry(where, TTL)
    both = [await begun(registry, (name, SHOP)) for name in ("Shop", "Store")]
    for _ in range(3):
        registry.lose(is_over=True)
        await asyncio.sleep(LOSS_SPREAD + 0.05)  # both have stated theirs, and are calm
        registry.lose(is_over=True)
        await asyncio.sleep(CALM + LOSS_SPREAD)
        assert where.services() == ["Shop", "Store"]
        await asyncio.sleep(CALM)
    for announcer in both:
        await announcer.aclose()


@in_virtual_time
async def test_what_changed_is_stated_at_once_even_in_the_middle_of_a_statement() -> None:
    where = store()
    registry = ClumsyRegistry(where)
    announcer = await begun(registry)
    registry.delay = 0.2
    announcer.change(lambda each: Instance(id=each.id, addresses=each.addresses, weight=2.0))
    await asyncio.sleep(0.1)
    announcer.change(lambda each: Instance(id=each.id, addresses=each.addresses, weight=3.0))
    await asyncio.sleep(0.15)
    assert [each.weight for each in await listed(where)] == [2.0]
    await asyncio.sleep(0.2)
    assert [each.weight for each in await listed(where)] == [3.0]
    await announcer.aclose()


def _numbered(n: int) -> Instance:
    return Instance(id=f"a-{n}", addresses=(f"tcp://10.0.0.1:{7000 + n}",))


@in_virtual_time
async def test_many_services_are_stated_side_by_side_with_a_bound() -> None:
    where = store()
    registry = ClumsyRegistry(where)
    registry.delay = 0.1
    entries = [(f"Shop{n}", _numbered(n)) for n in range(100)]
    begin = now()
    announcer = await begun(registry, *entries)
    assert registry.most == PARALLEL
    assert now() - begin < 0.1 * (100 / PARALLEL + 2)
    assert await MemoryRegistry(where).services() == tuple(sorted(name for name, _ in entries))
    for _ in range(20):
        await asyncio.sleep(1)
        assert len(where.services()) == 100
    assert await announcer.leave() is True
    assert where.services() == []


@in_virtual_time
async def test_services_that_hang_do_not_take_the_others_with_them() -> None:
    where = store()
    registry = ClumsyRegistry(where)
    plain = registry.inner.publish

    async def publish(service: str, instance: Instance) -> None:
        if service.startswith("Bad"):
            await asyncio.Event().wait()
        await plain(service, instance)

    registry.publish = publish  # type: ignore[method-assign]
    bad = [(f"Bad{n}", SHOP) for n in range(PARALLEL - 1)]
    announcer = Announcer(registry, [*bad, ("Good", SHOP)])
    announcer.begin()
    await asyncio.sleep(0.01)
    for _ in range(120):
        assert is_there(where, "Good")
        await asyncio.sleep(1)
    await announcer.aclose()


@pytest.mark.parametrize("ttl", [1.0, 3.0, 15.0, 86_400.0, float("inf")])
@in_virtual_time
async def test_a_statement_that_hangs_ends_before_the_next_one_is_due(ttl: float) -> None:
    announcer = await begun(ClumsyRegistry(store(), ttl))
    assert announcer.patience < ttl / 3
    await announcer.aclose()


@pytest.mark.parametrize("error", [ValueError("a mistake"), OSError(5, "no"), KeyError("x")])
@in_virtual_time
async def test_whatever_an_engine_raises_it_is_tried_again(error: Exception) -> None:
    where = store()
    registry = ClumsyRegistry(where)
    registry.error = error
    announcer = await begun(registry)
    await asyncio.sleep(30)
    assert announcer.stats().entries[0].belief is Belief.ABSENT
    registry.error = None
    await after(RETRY_CAP * JITTER, lambda: is_there(where))
    await announcer.aclose()


@in_virtual_time
async def test_a_registry_that_refuses_for_good_says_so_at_once() -> None:
    registry = ClumsyRegistry(store())
    registry.error = fastrpc.ConfigError("read only")
    announcer = Announcer(registry, [("Shop", SHOP)])
    announcer.begin()
    with pytest.raises(fastrpc.ConfigError, match="read only"):
        await announcer.wait_tried()
    await announcer.aclose()


@in_virtual_time
async def test_a_first_round_is_not_waited_for_without_end() -> None:
    where = store()
    registry = ClumsyRegistry(where)
    registry.is_silent = True
    announcer = Announcer(registry, [("Shop", SHOP)])
    announcer.begin()
    begin = now()
    assert await announcer.wait_tried(0.5) is False
    assert now() - begin == pytest.approx(0.5)
    registry.is_silent = False
    await after(PATIENCE + RETRY_CAP * JITTER, lambda: is_there(where))
    await announcer.aclose()


@in_virtual_time
async def test_an_outage_is_told_of_once_and_its_end_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    where = store()
    entries = [("Shop", SHOP), ("Store", SHOP)]
    announcer = await begun(MemoryRegistry(where), *entries)
    with caplog.at_level(logging.INFO, "fastrpc.cluster"):
        where.is_down = True
        await asyncio.sleep(300)
        where.is_down = False
        await asyncio.sleep(30)
    first, second = [each.getMessage() for each in caplog.records]
    assert "can't be renewed" in first
    assert "is down" in first
    assert "there again" in second
    await announcer.aclose()


@pytest.mark.parametrize("is_leaving", [False, True])
@in_virtual_time
async def test_cancelled_at_each_step_it_leaves_no_task(is_leaving: bool) -> None:
    before = asyncio.all_tasks()
    for steps in range(1, 20):
        registry = ClumsyRegistry(store())
        registry.delay = 0.05
        announcer = Announcer(registry, [("Shop", SHOP), ("Store", SHOP)], owns=True)
        announcer.begin()
        if is_leaving:
            await announcer.wait_tried()
            registry.delay = 0.02 * (steps % 3)
            announcer.change(lambda each: each)
        task = asyncio.ensure_future(announcer.leave() if is_leaving else announcer.wait_tried())
        for _ in range(steps):
            await asyncio.sleep(0.007)
        task.cancel()
        await asyncio.wait((task,))
        if not is_leaving:
            await announcer.aclose()
        assert (registry.closed, registry.under_way) == (1, 0), steps
        assert asyncio.all_tasks() == before, steps


@in_virtual_time
async def test_a_registry_is_closed_by_who_owns_it_and_may_fail_in_that() -> None:
    where = store()
    shared, own = ClumsyRegistry(where), ClumsyRegistry(where)
    for registry in (shared, own):
        announcer = Announcer(registry, [("Shop", SHOP)], owns=registry is own)
        announcer.begin()
        await announcer.aclose()
        await announcer.aclose()
    assert (shared.closed, own.closed) == (0, 1)

    class Failing(ClumsyRegistry):
        async def aclose(self) -> None:
            raise RuntimeError("no")

    await Announcer(Failing(where), [], owns=True).aclose()


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([("Shop", SHOP), ("Shop", SHOP)], "twice"),
        ([("a b", SHOP)], "letters"),
    ],
)
def test_what_can_not_be_announced(entries: Any, words: str) -> None:
    with pytest.raises(fastrpc.ConfigError, match=words):
        Announcer(MemoryRegistry(MemoryStore()), entries)


def test_where_nothing_can_be_published() -> None:
    class ReadOnly(ClumsyRegistry):
        can_publish = False

    with pytest.raises(fastrpc.ConfigError, match="ReadOnly"):
        Announcer(ReadOnly(MemoryStore()), [("Shop", SHOP)])


@pytest.mark.slow
@pytest.mark.asyncio
async def test_it_works_in_real_time_on_both_loops() -> None:
    where = MemoryStore()
    registry = MemoryRegistry(where, 1.0)
    announcer = await begun(registry)
    registry.lose()
    async with asyncio.timeout(5):
        while announcer.stats().entries[0].stated < 3:  # the start, the loss, a renewal
            await asyncio.sleep(0.01)
    assert await registry.list("Shop") == Listing((SHOP,))
    assert await announcer.leave()
    assert await registry.list("Shop") == Listing(())
