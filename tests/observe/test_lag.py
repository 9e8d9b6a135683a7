"""The clock that ticks while somebody watches."""

from collections.abc import Callable
from typing import Any

from fastrpc.observe.lag import PATIENCE, REMEMBERED, STEP, LagSampler


class Loop:
    """A loop whose time passes when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Callable[[], None], Loop.Timer]] = []

    class Timer:
        is_cancelled = False

        def cancel(self) -> None:
            self.is_cancelled = True

    def call_later(self, delay: float, call: Callable[[], None]) -> Any:
        timer = Loop.Timer()
        self.timers.append((self.now + delay, call, timer))
        return timer

    def run(self, late: float = 0.0) -> None:
        """Let the next timer fire, so much too late."""
        due, call, timer = self.timers.pop(0)
        self.now = due + late
        if not timer.is_cancelled:
            call()


def made(**options: Any) -> tuple[Loop, LagSampler]:
    loop = Loop()
    return loop, LagSampler(loop, lambda: loop.now, **options)  # type: ignore[arg-type]


def test_nothing_ticks_until_somebody_looks() -> None:
    loop, sampler = made()
    assert (loop.timers, sampler.is_running) == ([], False)
    assert sampler.look() == (0.0,)
    assert (len(loop.timers), sampler.is_running) == (1, True)


def test_the_worst_of_each_second_is_told() -> None:
    loop, sampler = made()
    sampler.look()
    for late in (0.0, 0.3, 0.1):
        loop.run(late)
    while loop.now < 101.0:
        loop.run()
    loop.run(0.2)
    told = sampler.look()
    assert [round(value, 6) for value in told] == [0.3, 0.2]


def test_it_stops_when_nobody_has_looked_for_a_while() -> None:
    loop, sampler = made()
    sampler.look()
    ticks = 0
    while sampler.is_running:
        loop.run()
        ticks += 1
    assert abs(ticks - PATIENCE / STEP) <= 1
    assert loop.timers == []
    assert sampler.look() == (0.0,)  # what was long ago says nothing about now
    assert sampler.is_running


def test_whoever_looks_again_keeps_it_going() -> None:
    loop, sampler = made()
    for _ in range(200):
        sampler.look()
        loop.run()
        assert len(loop.timers) == 1
    assert sampler.is_running


def test_only_so_much_is_remembered() -> None:
    loop, sampler = made()
    for _ in range(3 * REMEMBERED):
        sampler.look()
        loop.run(1.0)
    assert len(sampler.look()) == REMEMBERED + 1


def test_it_ends_with_the_server() -> None:
    over: list[bool] = []
    loop, sampler = made(is_over=lambda: bool(over))
    sampler.look()
    over.append(True)
    loop.run()
    assert (loop.timers, sampler.is_running) == ([], False)
    sampler.look()
    assert not sampler.is_running


def test_it_can_be_stopped() -> None:
    loop, sampler = made()
    sampler.look()
    sampler.stop()
    sampler.stop()
    loop.run()
    assert (loop.timers, sampler.is_running) == ([], False)
