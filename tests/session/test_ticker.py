"""Timers on a loop and a clock that only the test moves."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fastrpc.frame import LoopShare
from fastrpc.session.ticker import FAST, LATE, SLICE, SLOW, Ticker, share_of


class Timer:
    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when, self.callback = when, callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """As much of an event loop as a ticker needs."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[Timer] = []
        self.failures: list[dict[str, Any]] = []

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.failures.append(context)

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        self.timers.append(timer := Timer(self.now + delay, callback))
        return timer

    def run(self, seconds: float, late: float = 0.0) -> None:
        """Let time pass, firing what falls due; with *late*, everything that much later."""
        end = self.now + seconds
        while due := [t for t in self.timers if not t.cancelled and t.when <= end]:
            timer = min(due, key=lambda each: each.when)
            self.timers.remove(timer)
            self.now = max(self.now, timer.when + late)
            timer.callback()
        self.now = max(self.now, end)


class Visited:
    def __init__(self, fast: int = 0) -> None:
        self.fast, self.fasts, self.slows = fast, 0, 0
        self.lates: list[bool] = []

    def fast_tick(self, now: float) -> bool:
        self.fasts += 1
        return self.fasts < self.fast

    def slow_tick(self, now: float, late: bool) -> None:
        self.slows += 1
        self.lates.append(late)


class Breaking(Visited):
    def fast_tick(self, now: float) -> bool:
        super().fast_tick(now)
        raise ZeroDivisionError

    def slow_tick(self, now: float, late: bool) -> None:
        super().slow_tick(now, late)
        raise ZeroDivisionError


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def ticker(loop: Loop) -> Ticker:
    share = LoopShare(object, object, lambda: loop.now, lambda: True, 0, loop)  # type: ignore[arg-type]
    return Ticker(loop, share)  # type: ignore[arg-type]


def test_no_timer_runs_when_nobody_needs_one(loop: Loop, ticker: Ticker) -> None:
    assert not loop.timers
    ticker.watch(session := Visited())
    ticker.hurry(session)
    loop.run(3 * SLOW)
    ticker.forget(session)
    loop.run(2 * SLOW)
    assert not loop.timers


def test_the_busy_are_visited_until_they_are_done(loop: Loop, ticker: Ticker) -> None:
    short, long = Visited(3), Visited(6)
    ticker.hurry(short)
    ticker.hurry(long)
    ticker.hurry(long)
    loop.run(20 * FAST)
    assert (short.fasts, long.fasts) == (3, 6)
    ticker.hurry(short)
    loop.run(20 * FAST)
    assert short.fasts == 4


def test_the_watched_are_visited_once_a_second(loop: Loop, ticker: Ticker) -> None:
    ticker.watch(session := Visited())
    loop.run(10.5 * SLOW)
    assert session.slows == 10


def test_many_are_visited_in_slices_and_all_of_them(loop: Loop, ticker: Ticker) -> None:
    sessions = [Visited() for _ in range(10 * SLICE + 5)]
    for session in sessions:
        ticker.watch(session)
    most = 0
    for _ in range(500):
        before = sum(session.slows for session in sessions)
        loop.run(SLOW / 100)
        most = max(most, sum(session.slows for session in sessions) - before)
    assert most <= SLICE
    assert {session.slows for session in sessions} <= {4, 5}


def test_who_is_forgotten_in_mid_round_is_not_visited(loop: Loop, ticker: Ticker) -> None:
    class Forgetting(Visited):
        def slow_tick(self, now: float, late: bool) -> None:
            super().slow_tick(now, late)
            ticker.forget(other)

    ticker.watch(Forgetting())
    ticker.watch(other := Visited())
    loop.run(1.5 * SLOW)
    assert other.slows == 0


def test_a_tick_that_comes_late_says_so(loop: Loop, ticker: Ticker) -> None:
    ticker.watch(session := Visited())
    loop.run(SLOW)
    loop.run(SLOW, late=LATE + 0.1)
    loop.run(SLOW, late=LATE - 0.1)
    assert session.lates == [False, True, False]


def test_how_late_ticks_come_is_kept(loop: Loop, ticker: Ticker) -> None:
    assert (ticker.since, ticker.lag, ticker.worst_lag, ticker.late_ticks) == (1000.0, 0, 0, 0)
    ticker.watch(Visited())
    loop.run(SLOW)
    assert (ticker.lag, ticker.late_ticks) == (0.0, 0)
    loop.run(SLOW, late=LATE + 0.5)
    assert (ticker.lag, ticker.worst_lag, ticker.late_ticks) == (LATE + 0.5, LATE + 0.5, 1)
    loop.run(SLOW, late=0.25)
    assert (ticker.lag, ticker.worst_lag, ticker.late_ticks) == (0.25, LATE + 0.5, 1)


@pytest.mark.parametrize("kind", ["fast", "slow"])
def test_one_that_breaks_does_not_stop_the_clock_of_the_others(
    kind: str, loop: Loop, ticker: Ticker
) -> None:
    breaking, fine = Breaking(), Visited(1000)
    for session in (breaking, fine):
        ticker.watch(session)
        if kind == "fast":
            ticker.hurry(session)
    loop.run(4 * SLOW)
    assert fine.slows >= 3
    if kind == "fast":
        assert fine.fasts >= 100
        assert breaking.fasts == 1
    assert isinstance(loop.failures[0]["exception"], ZeroDivisionError)


def test_close_stops_everything(loop: Loop, ticker: Ticker) -> None:
    ticker.watch(session := Visited())
    ticker.hurry(session)
    ticker.close()
    ticker.close()
    ticker.forget(session)
    loop.run(10.0)
    assert (session.fasts, session.slows) == (0, 0)
    assert all(timer.cancelled for timer in loop.timers)


@pytest.mark.asyncio
async def test_what_lanes_of_a_loop_share() -> None:
    loop = asyncio.get_running_loop()
    share: Any = share_of(loop)
    assert share.loop is loop
    assert share.is_running()
    assert abs(share.clock() - loop.time()) < 1.0
    assert share.create_future().get_loop() is loop


def test_memory_of_large_bodies_is_let_go_of_with_each_slow_tick_and_all_of_it_at_the_end(
    loop: Loop, ticker: Ticker, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr("fastrpc.session.ticker.release_bodies", asked.append)
    ticker.watch(session := Visited())
    loop.run(2.5 * SLOW)
    assert asked == [False, False]
    ticker.forget(session)
    loop.run(2 * SLOW)
    assert asked == [False, False, True]
    ticker.close()
    assert asked[3:] == [True]
