import random

import pytest

import fastrpc
from fastrpc import policy
from fastrpc.frame import Durations
from fastrpc.policy.timing import OTHER, percentile
from tests.policy.served import RESULTS, WAYS, Clock, connected, wrapping
from tests.server.serving import until


@pytest.mark.parametrize("spread", [1e-6, 1e-4, 1e-2, 1.0, 100.0, 10_000.0])
def test_percentiles_are_off_by_three_percent_at_most(spread: float) -> None:
    rng = random.Random(7)
    seconds = [spread * rng.uniform(1, 12) for _ in range(2000)]
    durations = Durations()
    for each in seconds:
        durations.add(each)
    seconds.sort()
    for percent in (1, 50, 90, 99, 99.9):
        exact = seconds[max(-(-len(seconds) * percent // 100) - 1, 0).__int__()]
        assert percentile(durations.buckets(), percent, durations.max) == pytest.approx(
            exact, rel=0.032
        )
    assert percentile(durations.buckets(), 100) == pytest.approx(seconds[-1], rel=0.032)
    assert (durations.count, durations.max) == (2000, seconds[-1])


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e-12, 1e9, float("inf")])
def test_durations_beyond_the_ends_are_counted(seconds: float) -> None:
    durations = Durations()
    durations.add(seconds)
    assert durations.count == 1
    assert percentile(durations.buckets(), 50, durations.max) <= max(seconds, 0.0)


def test_of_nothing_all_is_0() -> None:
    assert (percentile(Durations().buckets(), 50), Durations().max) == (0.0, 0.0)


@pytest.mark.asyncio
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("scheme", ["mem", "tcp"])
async def test_both_sides_time_every_kind_of_call(scheme: str, way: str) -> None:
    there, here = policy.Timings(), policy.Timings()
    async with connected(scheme=scheme, server=[there], client=[here]) as (client, _, _server):
        for _ in range(3):
            assert await WAYS[way](client) == RESULTS[way]
        for timings in (there, here):
            await until(lambda t=timings: t.stats() and t.stats()[f"Work.{way}"].count == 3)
            timing = timings.stats()[f"Work.{way}"]
            assert timing.errors == 0
            assert 0 < timing.p50 <= timing.p90 <= timing.p99 <= timing.max


@pytest.mark.asyncio
async def test_figures_by_a_clock_of_ours() -> None:
    clock = Clock()
    durations = iter([0.010] * 90 + [0.100] * 9 + [2.5])

    async def take(handler: fastrpc.Handler, call: fastrpc.Call) -> fastrpc.Reply:
        reply = await handler(call)
        clock.now += next(durations)
        return reply

    timings = policy.Timings(clock=clock)
    async with connected(server=[timings, wrapping(take)]) as (client, _, _server):
        for _ in range(100):
            await client.call("Work.sync", 1)
    timing = timings.stats()["Work.sync"]
    assert timing.count == 100
    assert timing.p50 == pytest.approx(0.010, rel=0.032)
    assert timing.p90 == pytest.approx(0.010, rel=0.032)
    assert timing.p99 == pytest.approx(0.100, rel=0.032)
    assert timing.max == pytest.approx(2.5)


@pytest.mark.asyncio
async def test_errors_are_counted_and_cancelled_calls_are_none() -> None:
    timings = policy.Timings()

    async def refuse(handler: fastrpc.Handler, call: fastrpc.Call) -> fastrpc.Reply:
        raise fastrpc.PermissionDenied("no")

    async with connected(server=[timings, wrapping(refuse)]) as (client, _, _server):
        for _ in range(2):
            with pytest.raises(fastrpc.PermissionDenied):
                await client.call("Work.sync", 1)
    assert timings.stats()["Work.sync"].errors == 2

    left = policy.Timings()
    async with connected(server=[left]) as (client, _, _server):
        async for _item in client.stream("Work.gives", 10**9):
            break
        await until(left.stats)
    assert (left.stats()["Work.gives"].count, left.stats()["Work.gives"].errors) == (1, 0)


@pytest.mark.asyncio
async def test_methods_past_the_limit_are_one() -> None:
    timings = policy.Timings(max_methods=2)
    async with connected(client=[timings]) as (client, _, _server):
        for name in ("sync", "inline", "task", "thread", "sync"):
            await client.call(f"Work.{name}", 1)
    counts = {name: timing.count for name, timing in timings.stats().items()}
    assert counts == {"Work.sync": 2, "Work.inline": 1, OTHER: 2}


@pytest.mark.asyncio
async def test_a_snapshot_stays_as_it_is() -> None:
    timings = policy.Timings()
    async with connected(server=[timings]) as (client, _, _server):
        await client.call("Work.sync", 1)
        before = timings.stats()
        await client.call("Work.sync", 1)
        assert before["Work.sync"].count == 1
        with pytest.raises(TypeError):
            before["Work.sync"] = before["Work.sync"]  # type: ignore[index]
        with pytest.raises(AttributeError):
            before["Work.sync"].count = 5  # type: ignore[misc]
        timings.clear()
        assert not timings.stats()


def test_options_that_make_no_sense() -> None:
    with pytest.raises(fastrpc.ConfigError, match="max_methods"):
        policy.Timings(max_methods=0)
