"""Say when an instance has to be written down again, whatever has happened to its entry.

There is one way in and one way on: what is wanted is stated, again and again. A start,
a renewal, a lost session, a refusal and a registry that was away differ only in how
soon the next statement is due.

Rules of the room:
  * time and chance are arguments;
  * nobody asks more often than told: a thousand servers find their registry again at a
    thousand different moments, and none hurries because it has lost something twice;
  * what is believed is less than what is hoped: an entry counts as there for as long as
    its registry has promised, from the moment when the promise was asked for.
"""

import random
from enum import Enum
from math import inf
from typing import Final, final

from fastrpc.policy import Backoff

#: Renewals in the time that an entry outlives its owner.
RENEWALS: Final = 3

#: Longest planned wait after a failure: so soon a registry that is back knows us again.
RETRY_CAP: Final = 2.0

#: Longest that a loss waits for its statement, in seconds.
LOSS_SPREAD: Final = 0.1

#: Least and most seconds between renewals, whatever the registry says of itself.
SOONEST: Final = 0.5
LATEST: Final = 60.0

_SPREAD: Final = 0.1


class Belief(Enum):
    """What an owner may believe of its entry."""

    ABSENT = "absent"  # was never stated with success, or is gone
    HELD = "held"
    DOUBTED = "doubted"  # it was there; whether it still is, nobody could say lately
    WITHDRAWN = "withdrawn"


@final
class Reconcile:
    """One entry in one registry.

    Args:
        ttl: Seconds for which the entry outlives a statement, infinity if for ever.
        rng: Source of chance.
    """

    def __init__(self, ttl: float, rng: random.Random | None = None) -> None:
        self._rng = rng if rng is not None else random.Random()
        self._backoff = Backoff(first=0.1, cap=RETRY_CAP, rng=self._rng)
        self._every = min(max(ttl / RENEWALS, SOONEST), LATEST)
        self._ttl = ttl
        self._held_until = -inf
        self._was_held = False
        self._is_failing = False
        self._lost_at = -inf
        self._is_wanted = True
        self._due = -inf
        self.stated = self.failed = self.lost = 0

    @property
    def due(self) -> float:
        """When to state it next; infinity if never."""
        return self._due if self._is_wanted else inf

    def belief(self, now: float) -> Belief:
        """Return what may be believed at *now*."""
        if not self._is_wanted:
            return Belief.WITHDRAWN
        if now < self._held_until:
            return Belief.HELD
        return Belief.DOUBTED if self._was_held else Belief.ABSENT

    def on_stated(self, asked: float, now: float) -> None:
        """Note that it was stated.

        Args:
            asked: When that began: the time of the entry runs from there at the earliest.
            now: When it was confirmed.
        """
        self.stated += 1
        self._was_held = True
        if asked < self._lost_at:
            return  # it may have gone with what was lost: once more, when told
        self._is_failing = False
        self._held_until = asked + self._ttl
        self._backoff.reset()
        self._due = now + self._every * (1 + self._rng.uniform(-_SPREAD, _SPREAD))

    def on_failed(self, now: float) -> None:
        """Note that it could not be stated."""
        self.failed += 1
        self._is_failing = True
        self._due = now + self._backoff.next()

    def on_lost(self, now: float) -> None:
        """Note that the entry may be gone before its time.

        All servers of a registry lose their entries in one moment, so none states it at once.
        """
        self.lost += 1
        self._lost_at = self._held_until = now
        if not self._is_failing:
            self._due = now + self._rng.uniform(0.0, LOSS_SPREAD)

    def on_changed(self, now: float) -> None:
        """Note that something else is to be said; while that fails, it doesn't hurry anything."""
        if not self._is_failing:
            self._due = min(self._due, now)

    def on_withdrawn(self) -> None:
        """Note that it is wanted no more."""
        self._is_wanted = False
