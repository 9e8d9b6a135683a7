"""A world in which time is a number: what happens next is on a heap."""

import random
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count


class World:
    """Events in the order of their times; chance with a seed."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now = 1000.0
        self.steps = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def after(self, seconds: float, work: Callable[[], None]) -> None:
        """Have *work* done so many seconds from now."""
        heappush(self._events, (self.now + seconds, next(self._order), work))

    def leap(self, seconds: float) -> None:
        """Let time pass in which nobody could do anything: what was due is late."""
        self.now += seconds

    def run(self, until: float) -> None:
        """Let everything happen up to a time."""
        events = self._events
        while events and events[0][0] <= until:
            at, _, work = heappop(events)
            if at > self.now:
                self.now = at
            self.steps += 1
            work()
        self.now = max(self.now, until)


class BoundBroken(AssertionError):
    """Something happened that must never happen."""


def ensure(holds: bool, what: str) -> None:
    """Raise unless *holds*."""
    if not holds:
        raise BoundBroken(what)
