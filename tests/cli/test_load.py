import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fastrpc.cli import load
from fastrpc.cli.load import Load, LoadOptions, LoadResult, Progress
from fastrpc.errors import ConfigError, Overloaded

# Runs are ended by the calls themselves, so a slow machine changes nothing.
LONG: dict[str, Any] = {"duration": 60, "warmup": 0, "grace": 5}


class Server:
    """Stands in for a server: answers after some turns, and ends the run after some calls."""

    def __init__(self, last: int = 200) -> None:
        self.in_flight = 0
        self.most = 0
        self.calls = 0
        self.last = last
        self.stop: Callable[[], None] = lambda: None

    async def call(self) -> int:
        self.calls += 1
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        try:
            await self.work()
        finally:
            self.in_flight -= 1
            if self.calls >= self.last:
                self.stop()
        return 1

    async def work(self) -> None:
        for _ in range(3):
            await asyncio.sleep(0)

    async def under(self, options: LoadOptions, **more: Any) -> LoadResult:
        run = Load(self.call, options, **more)
        self.stop = run.stop
        return await run.run()


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
    result = await server.under(LoadOptions(concurrency=4, **LONG))
    assert server.most == 4
    assert server.in_flight == 0
    assert 0 < result.latency.count <= server.calls
    assert result.calls_per_second > 0
    assert (result.errors, result.unfinished, result.unsent) == ({}, 0, 0)


@pytest.mark.asyncio
@pytest.mark.parametrize("rate", [None, 1000.0])
async def test_the_window_ends_by_itself(rate: float | None) -> None:
    options = LoadOptions(concurrency=4, duration=0.05, warmup=0.01, rate=rate)
    result = await Server(last=10**9).under(options)
    assert 0.05 <= result.seconds < 10


@pytest.mark.asyncio
async def test_the_warm_up_does_not_count() -> None:
    server = Server(last=10**9)
    run = Load(server.call, LoadOptions(duration=60, warmup=0.03))
    clear = run._meter.clear
    before = 0

    def note() -> None:
        nonlocal before
        before = server.calls
        clear()
        run.stop()

    run._meter.clear = note  # type: ignore[method-assign]
    result = await run.run()
    assert before > 0
    assert result.latency.count <= server.calls - before + 256


@pytest.mark.asyncio
async def test_closed_loop_takes_futures() -> None:
    loop = asyncio.get_running_loop()
    numbers = itertools.count()

    def call() -> Awaitable[object]:
        future = loop.create_future()
        loop.call_soon(future.set_result, 1)
        if next(numbers) > 100:
            run.stop()
        return future

    run = Load(call, LoadOptions(concurrency=4, **LONG))
    assert (await run.run()).latency.count > 0


@pytest.mark.asyncio
@pytest.mark.parametrize("rate", [None, 2000.0])
async def test_failures_are_counted_by_type_and_not_timed(rate: float | None) -> None:
    class Failing(Server):
        async def work(self) -> None:
            number = self.calls
            await asyncio.sleep(0)
            if number % 2:
                raise Overloaded("too much to do")

    server = Failing()
    result = await server.under(LoadOptions(concurrency=4, rate=rate, **LONG))
    assert result.errors["Overloaded"] > 0
    assert result.first_error == "too much to do"
    assert 0 < result.latency.count <= server.calls - result.errors["Overloaded"]


@pytest.mark.asyncio
@pytest.mark.parametrize("rate", [None, 1000.0])
async def test_calls_that_fail_at_once_leave_the_loop_alive(rate: float | None) -> None:
    numbers = itertools.count()

    def call() -> Awaitable[object]:
        if next(numbers) > 150:
            run.stop()
        raise Overloaded("no")

    run = Load(call, LoadOptions(concurrency=4, rate=rate, **LONG))
    result = await run.run()
    assert result.latency.count == 0
    assert result.errors["Overloaded"] > 0


@pytest.mark.asyncio
@pytest.mark.parametrize("rate", [None, 1000.0])
async def test_calls_that_never_end_are_told_and_cancelled(rate: float | None) -> None:
    class Silent(Server):
        async def work(self) -> None:
            if self.calls == 3:
                self.stop()
            await asyncio.Event().wait()

    server = Silent()
    options = LoadOptions(concurrency=3, duration=60, warmup=0, grace=0.02, rate=rate)
    result = await server.under(options)
    await asyncio.sleep(0)
    assert result.unfinished == 3
    assert result.latency.count == 0
    assert server.in_flight == 0


@pytest.mark.asyncio
async def test_open_loop_sends_what_is_due_and_no_more() -> None:
    server = Server(last=50)
    result = await server.under(LoadOptions(concurrency=100, rate=500, **LONG))
    assert result.latency.count <= 500 * result.seconds + 5
    assert server.calls >= 50


@pytest.mark.asyncio
async def test_open_loop_counts_from_the_moment_a_call_was_due() -> None:
    """One stall must be in the latency of all calls that were due meanwhile."""

    class Stalling(Server):
        async def work(self) -> None:
            if self.calls == 1:
                await asyncio.sleep(0.15)

    result = await Stalling(last=60).under(LoadOptions(concurrency=1, rate=500, **LONG))
    # The 60 calls were due within 120 ms, while the first one stalled for 150. Counted
    # from the sending, one of them would be slow; in truth all are, the last by 30 ms.
    assert result.latency.percentile(50) > 0.08
    assert result.latency.min > 0.02
    assert result.latency.max > 0.14


@pytest.mark.asyncio
async def test_open_loop_says_what_it_could_not_send() -> None:
    class Slow(Server):
        async def work(self) -> None:
            await asyncio.sleep(0.02)

    result = await Slow(last=5).under(LoadOptions(concurrency=1, rate=1000, **LONG))
    assert result.latency.count <= 6
    assert result.unsent > 80


@pytest.mark.asyncio
async def test_open_loop_never_has_more_in_flight_than_allowed() -> None:
    server = Server()
    await server.under(LoadOptions(concurrency=2, rate=1_000_000, **LONG))
    assert server.most == 2


@pytest.mark.asyncio
@pytest.mark.parametrize("cores", [1, 2])
async def test_open_loop_works_with_and_without_a_core_to_spare(
    cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "_cores", lambda: cores)
    result = await Server(last=8).under(LoadOptions(concurrency=2, rate=200, **LONG))
    assert result.latency.count > 0
    assert result.latency.min >= 0


@pytest.mark.asyncio
async def test_stopping_in_the_warm_up_leaves_nothing() -> None:
    run = Load(Server().call, LoadOptions(duration=60, warmup=60))
    run.stop()
    result = await run.run()
    assert result.latency.count <= 256  # those that were in flight
    assert result.seconds < 30


@pytest.mark.asyncio
async def test_progress_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "_SHOW", 0.02)
    seen: list[Progress] = []

    def watch(progress: Progress) -> None:
        seen.append(progress)
        if progress.calls and len(seen) > 1:
            server.stop()

    server = Server(last=10**9)
    await server.under(LoadOptions(concurrency=2, **LONG), watch=watch)
    assert 0 < seen[-1].p50 <= seen[-1].p99
    assert seen[-1].errors == 0
    assert [progress.elapsed for progress in seen] == sorted(p.elapsed for p in seen)


@pytest.mark.asyncio
@pytest.mark.parametrize("rate", [None, 1000.0])
async def test_cancelling_leaves_no_task_behind(rate: float | None) -> None:
    under_way = asyncio.Event()

    class Watched(Server):
        async def work(self) -> None:
            under_way.set()
            await super().work()

    server = Watched(last=10**9)
    task = asyncio.create_task(server.under(LoadOptions(concurrency=4, rate=rate, **LONG)))
    await under_way.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for _ in range(5):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert server.in_flight == 0
