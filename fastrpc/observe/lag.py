"""Measure how late the event loop comes to what is due, while somebody watches.

A clock ticks in short steps, and each step tells by how much it came late: for so long the
loop was busy with something else. It stops by itself when nobody has looked for a while.

Rules of the room:
  * the loop and its clock are given;
  * nothing ticks when nobody looks.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, final

#: Seconds between two looks at the clock.
STEP: Final = 0.05
#: Seconds that the clock ticks on after somebody has looked.
PATIENCE: Final = 5.0
#: Seconds that are remembered, one figure each.
REMEMBERED: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class LagFacts:
    """How late the loop came, in seconds.

    Attributes:
        worst: The worst of each second that was watched, oldest first.
        last_tick: How late the server's own slow tick came last; it counts whoever looks.
        worst_tick: How late it came at most since the start.
        late_ticks: How often it came more than a second late.
    """

    worst: tuple[float, ...]
    last_tick: float
    worst_tick: float
    late_ticks: int


@final
class LagSampler:
    """Watches one loop.

    Args:
        loop: Which.
        clock: Returns seconds, monotonic.
        is_over: Says that there is nothing to watch any more.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._is_over = is_over
        self._timer: asyncio.TimerHandle | None = None
        self._due = self._until = self._second = 0.0
        self._worst = 0.0
        self._series: deque[float] = deque(maxlen=REMEMBERED)

    @property
    def is_running(self) -> bool:
        """Whether the clock ticks."""
        return self._timer is not None

    def look(self) -> tuple[float, ...]:
        """Return the worst of each second so far, and go on for a while."""
        now = self._clock()
        self._until = now + PATIENCE
        if self._timer is None and not self._is_over():
            self._worst, self._second = 0.0, now
            self._series.clear()
            self._wait(now)
        return (*self._series, self._worst)

    def stop(self) -> None:
        """Stop the clock."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self, now: float) -> None:
        self._due = now + STEP
        self._timer = self._loop.call_later(STEP, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self._clock()
        self._worst = max(self._worst, now - self._due)
        if now - self._second >= 1.0:
            self._series.append(self._worst)
            self._worst, self._second = 0.0, now
        if now < self._until and not self._is_over():
            self._wait(now)
