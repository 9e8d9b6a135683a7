"""Bound how many calls are sent again, so that retries never multiply an outage.

Each call pays a share of a retry into the budget, each retry takes one out; and a few a
second are free, for clients that call rarely. What was paid in is forgotten after a
while. It is Finagle's RetryBudget (twitter/finagle, `RetryBudget.scala`) with a window of
ten parts.

Rules of the room:
  * time is an argument;
  * whatever the schedule, in any time the retries are at most `share` of the calls of that
    time and of the ten seconds before, and `rate` a second, and one second's worth that was
    saved up: one retry at least.
"""

from collections import deque
from typing import Final, final

from fastrpc.errors import ConfigError

#: Seconds after which what was paid in is forgotten.
WINDOW: Final = 10.0

_PARTS: Final = 10

#: What rounding may take from a retry that was paid in by shares.
_ROUNDED: Final = 1e-9


@final
class RetryBudget:
    """What may be sent again.

    Args:
        share: Retries for each call.
        rate: Retries a second beside these.
    """

    def __init__(self, share: float = 0.2, rate: float = 10.0) -> None:
        for name, value in (("share", share), ("rate", rate)):
            if isinstance(value, bool) or not 0 <= value < float("inf"):
                raise ConfigError(f"{name} must be 0 or more, got {value!r}")
        self._share = share
        self._rate = rate
        self._parts: deque[list[float]] = deque()  # each when it began, and its balance
        self._most = max(rate, 1.0) if rate else 0.0
        self._free = self._most  # more is not saved up
        self._looked: float | None = None
        self.refused = 0

    def deposit(self, calls: int, now: float) -> None:
        """Note so many calls."""
        self._turn(now)
        self._parts[-1][1] += calls * self._share

    def withdraw(self, now: float) -> bool:
        """Take one retry out; False if there is none left."""
        if self.balance(now) < 1.0 - _ROUNDED:
            self.refused += 1
            return False
        amount = 1.0
        for part in self._parts:  # the oldest first: it is forgotten soonest
            taken = min(part[1], amount)
            part[1] -= taken
            amount -= taken
        self._free = max(self._free - amount, 0.0)
        return True

    def balance(self, now: float) -> float:
        """Return how many retries there are."""
        self._turn(now)
        return self._free + sum(part[1] for part in self._parts)

    def _turn(self, now: float) -> None:
        """Let time pass."""
        if self._looked is None:
            self._looked = now
        self._free = min(self._free + max(now - self._looked, 0.0) * self._rate, self._most)
        self._looked = max(now, self._looked)
        if not self._parts or self._parts[-1][0] + WINDOW / _PARTS <= now:
            self._parts.append([now, 0.0])
        while self._parts[0][0] + WINDOW <= now and len(self._parts) > 1:
            self._parts.popleft()
