import asyncio
import itertools
from collections.abc import Awaitable

import pytest

from fastrpc.cli import load
from fastrpc.cli.load import Load, LoadOptions, Progress
from fastrpc.errors import ConfigError, Overloaded

QUICK = LoadOptions(concurrency=4, duration=0.08, warmup=0.02, grace=0.05)


class Server:
    """Stands in for a server: answers after some turns of the loop."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.most = 0
        self.calls = 0

    async def call(self) -> int:
        self.calls += 1
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        try:
            for _ in range(3):
                await asyncio.sleep(0)
        finally:
            self.in_flight -= 1
        return 1


@pytest.mark.parametrize(
    "wrong",
    [{"concurrency": 0}, {"duration": 0}, {"warmup": -1}, {"grace": -1}, {"rate": 0}],
    ids=str,
)
def test_a_load_that_is_none_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        LoadOptions(**wrong)


@pytest.mark.asyncio
async def test_closed_loop_keeps_as_many_in_flight_as_asked() -> None:
    server = Server()
    result = await Load(server.call, QUICK).run()
    assert server.most == 4
    assert server.in_flight == 0
    assert 0 < result.latency.count < server.calls  # the warm-up doesn't count
    assert result.calls_per_second > 0
    assert result.seconds >= QUICK.duration
    assert (result.errors, result.unfinished, result.unsent) == ({}, 0, 0)


@pytest.mark.asyncio
async def test_closed_loop_takes_futures() -> None:
    loop = asyncio.get_running_loop()

    def call() -> Awaitable[object]:
        future = loop.create_future()
        loop.call_soon(future.set_result, 1)
        return future

    result = await Load(call, QUICK).run()
    assert result.latency.count > 0


@pytest.mark.asyncio
@pytest.mark.parametrize("rate", [None, 2000.0])
async def test_failures_are_counted_by_type_and_not_timed(rate: float | None) -> None:
    numbers = itertools.count()

    async def call() -> None:
        await asyncio.sleep(0)
        if next(numbers) % 2:
            raise Overloaded("too much to do")

    options = LoadOptions(concurrency=4, duration=0.1, warmup=0, rate=rate)
    result = await Load(call, options).run()
    assert result.errors["Overloaded"] > 0
    assert result.first_error == "too much to do"
    assert result.latency.count > 0


@pytest.mark.asyncio
@pytest.mark.parametrize("rate", [None, 1000.0])
async def test_calls_that_fail_at_once_leave_the_loop_alive(rate: float | None) -> None:
    def call() -> Awaitable[object]:
        raise Overloaded("no")

    options = LoadOptions(concurrency=4, duration=0.05, warmup=0, rate=rate)
    result = await Load(call, options).run()
    assert result.latency.count == 0
    assert 0 < result.errors["Overloaded"] < 200


@pytest.mark.asyncio
@pytest.mark.parametrize("rate", [None, 1000.0])
async def test_calls_that_never_end_are_told_and_cancelled(rate: float | None) -> None:
    cancelled = 0

    async def call() -> None:
        nonlocal cancelled
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled += 1
            raise

    options = LoadOptions(concurrency=3, duration=0.05, warmup=0, grace=0.02, rate=rate)
    result = await Load(call, options).run()
    await asyncio.sleep(0)
    assert result.unfinished == 3
    assert cancelled == 3
    assert result.latency.count == 0


@pytest.mark.asyncio
async def test_open_loop_holds_the_rate() -> None:
    server = Server()
    options = LoadOptions(concurrency=100, duration=0.2, warmup=0, rate=500)
    result = await Load(server.call, options).run()
    # 100 are due; a busy machine may be late with some, but never sends more.
    assert 50 <= result.latency.count <= 102
    assert result.latency.count + result.unsent >= 95


@pytest.mark.asyncio
async def test_open_loop_counts_from_the_moment_a_call_was_due() -> None:
    """One stall must be in the latency of all calls that were due meanwhile."""
    loop = asyncio.get_running_loop()
    free = loop.time() + 0.15

    async def call() -> None:
        await asyncio.sleep(max(0.0, free - loop.time()))

    options = LoadOptions(concurrency=1, duration=0.2, warmup=0, rate=500)
    result = await Load(call, options).run()
    # Some 75 calls were due in the stall and only one was sent in it. Counted from
    # the sending, one call in a hundred would be slow; in truth three in four.
    assert result.latency.percentile(50) > 0.03
    assert result.latency.max > 0.14


@pytest.mark.asyncio
async def test_open_loop_says_what_it_could_not_send() -> None:
    async def call() -> None:
        await asyncio.sleep(0.02)

    options = LoadOptions(concurrency=1, duration=0.1, warmup=0, rate=1000)
    result = await Load(call, options).run()
    assert result.unsent > 80
    assert result.latency.count <= 7


@pytest.mark.asyncio
async def test_open_loop_never_has_more_in_flight_than_allowed() -> None:
    server = Server()
    options = LoadOptions(concurrency=2, duration=0.05, warmup=0, rate=1_000_000)
    await Load(server.call, options).run()
    assert server.most == 2


@pytest.mark.asyncio
@pytest.mark.parametrize("cores", [1, 2])
async def test_open_loop_polls_only_where_there_is_a_core_to_spare(
    cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "_cores", lambda: cores)
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.001)

    counter = asyncio.create_task(count_turns())
    options = LoadOptions(concurrency=2, duration=0.1, warmup=0, rate=100)
    result = await Load(Server().call, options).run()
    counter.cancel()
    assert 5 <= result.latency.count <= 11


@pytest.mark.asyncio
@pytest.mark.parametrize("rate", [None, 1000.0])
async def test_stopping_ends_the_run_and_keeps_what_was_measured(rate: float | None) -> None:
    options = LoadOptions(concurrency=2, duration=60, warmup=0, rate=rate)
    run = Load(Server().call, options)
    asyncio.get_running_loop().call_later(0.05, run.stop)
    result = await run.run()
    assert 0.03 < result.seconds < 10
    assert result.latency.count > 0


@pytest.mark.asyncio
async def test_stopping_in_the_warm_up_leaves_nothing() -> None:
    run = Load(Server().call, LoadOptions(duration=60, warmup=60))
    run.stop()
    result = await run.run()
    assert result.latency.count == 0
    assert result.seconds < 1


@pytest.mark.asyncio
async def test_progress_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "_SHOW", 0.02)
    seen: list[Progress] = []
    options = LoadOptions(concurrency=2, duration=0.15, warmup=0.02)
    await Load(Server().call, options, seen.append).run()
    assert seen
    assert seen[-1].calls > 0
    assert seen[-1].calls_per_second > 0
    assert 0 < seen[-1].p50 <= seen[-1].p99
    assert [progress.elapsed for progress in seen] == sorted(p.elapsed for p in seen)


@pytest.mark.asyncio
@pytest.mark.parametrize("rate", [None, 1000.0])
async def test_cancelling_leaves_no_task_behind(rate: float | None) -> None:
    server = Server()
    options = LoadOptions(concurrency=4, duration=60, warmup=0, rate=rate)
    task = asyncio.create_task(Load(server.call, options).run())
    await asyncio.sleep(0.03)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for _ in range(5):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert server.in_flight == 0
