"""Find out how many calls a server can do at once, from how long they take.

The limit follows brpc's auto limiter (apache/brpc, `auto_concurrency_limiter.cpp`): by
Little's law what a server does without a queue is its highest rate times its lowest latency;
so much may be in flight, and a little more as long as latency says that the little does not
wait. From time to time the limit is lowered for a moment, to see the lowest latency anew.

Ours differs in five points, each because a simulation (tests/policy/test_limiter.py) was bad
without it:

* the limit goes half of the way to where the formula points: the whole way, latency and
  limit chase each other;
* a queue of `SLACK` seconds is always allowed: a share of a latency of 0.1 ms is less than one
  turn of an event loop brings;
* a window in which nobody was refused does not lower what we think of the highest rate: few
  calls are no sign of a slow server;
* the lowest latency is looked for at once, lower and lower as long as that helps, and again
  when it is plain that it is no longer true: who starts into an overload has never seen it;
* what was given up before a call could have ended says nothing of how long calls take: it is
  in no average and no rate. The places it had are added to what the formula gives, for else
  who cancels at once takes them from the others for good. What was given up later counts in
  the average as a call that took so long, and never lowers the lowest latency.

The other candidate was Gradient2 of Netflix (Netflix/concurrency-limits), which compares a
short average of the latency with a long one, and has no lowest latency. In the same simulation
(room for 20 calls of 50 ms, three times the load, one minute) its long average followed the
short one, and limit and latency crept up together: 178 in flight and 439 ms for the 99th
percentile, where this one came to 23 and 73 ms. Both did all the work that could be done.

Rules of the room:
  * time and chance are arguments;
  * nothing here counts what is in flight: who asks compares that with `limit`.
"""

import random
from typing import Final, final

from fastrpc.errors import ConfigError

#: Share of the lowest latency that calls may wait ...
TOLERANCE: Final = 0.3
#: ... and seconds that they may wait however short the latency is.
SLACK: Final = 0.002

#: Seconds of a window at most, and calls that are enough; it goes on until it has the least.
WINDOW: Final = 1.0
ENOUGH: Final = 500
LEAST: Final = 40

#: Seconds between two looks for the lowest latency; half of it to the whole, by chance.
LOOK: Final = 20.0
#: Of the limit meanwhile.
LOWERED: Final = 0.5
#: Of the latency before, at which a look was thorough enough.
CLOSE: Final = 0.8
#: Windows that were too slow one after the other, until the lowest latency is doubted.
DOUBT: Final = 5
#: Seconds that a call must have lasted to say anything, while the lowest latency is not known.
SOON: Final = 0.05

_SMOOTH: Final = 0.1


@final
class Limiter:
    """How many calls of one kind may be in flight.

    Args:
        rng: Source of chance.
        start: The limit until something is known.
        least: The limit is never lower.
        most: The limit is never higher.

    Attributes:
        limit: How many may be in flight now.
        lowest: What a call takes that need not wait, in seconds; 0 if nothing is known.
        peak: Most calls per second that were seen.
    """

    __slots__ = (
        "_before", "_began", "_count", "_doubts", "_failed", "_held", "_late", "_least",
        "_look_at", "_looking", "_most", "_pressed", "_rng", "_skip_until", "_taken", "_total",
        "_vain", "_was_pressed", "limit", "lowest", "peak",
    )  # fmt: skip

    def __init__(
        self, rng: random.Random, *, start: int = 40, least: int = 4, most: int = 4096
    ) -> None:
        if not 1 <= least <= most:
            raise ConfigError(f"least must be 1 to most ({most}), got {least!r}")
        self._rng = rng
        self._least, self._most = least, most
        self.limit = min(max(start, least), most)
        self.lowest = self.peak = 0.0
        self._began: float | None = None  # of the window
        self._count = 0
        self._late = 0
        self._total = self._failed = self._vain = 0.0
        self._taken = 0.0  # places that those had which came to nothing, as far as they were due
        self._pressed = self._was_pressed = False
        self._doubts = 0
        self._look_at = 0.0
        self._looking = False
        self._held = self.limit  # what it was before the look
        self._skip_until = self._before = 0.0

    def refused(self) -> None:
        """Note that a call was refused because of the limit."""
        self._pressed = True

    def ended(self, seconds: float, now: float, well: bool = True) -> None:
        """Note that a call has ended.

        Args:
            seconds: How long it took.
            now: Time of the clock.
            well: Whether it came to its own end: it did not fail, nor was it given up.
        """
        if self._began is None:
            self._begin(now - seconds)
            self._look_at = now  # at once: we may have been born into an overload
        if now < self._skip_until:  # it may have begun when more were allowed
            return
        if well:
            self._count += 1
            self._total += seconds
        elif seconds < (self.lowest or SOON):
            self._vain += seconds
        else:
            self._late += 1
            self._vain += self.lowest  # what is above that, it waited
            self._failed += seconds
        if not well and self._late and self._is_hopeless(now):
            self._set(self.limit * LOWERED)
            self._begin(now)
        if not well or self._count < LEAST:
            return
        spent = now - (self._began or 0.0)
        is_new = self._looking or not self.lowest
        if spent > 0 and (spent >= WINDOW or self._count >= ENOUGH or is_new):
            self._judge(spent, now)
            self._begin(now)

    def _is_hopeless(self, now: float) -> bool:
        """Say whether a whole window went by in which nothing ended well."""
        return not self._count and self._began is not None and now - self._began >= WINDOW

    def _judge(self, spent: float, now: float) -> None:
        """Set the limit by what a window has shown."""
        average = (self._total + self._failed) / (self._count + self._late)
        if self._looking:
            self.lowest = self._total / self._count
            if self.lowest < CLOSE * self._before and self.limit > self._least:
                self._lower(self.lowest, now)  # then it may be lower still
                return
            self._looking = False
            self._look_at = self._next_look(now)
            slack = max(self.lowest * TOLERANCE, SLACK)
            aim = self.peak * (self.lowest + slack) + self._taken + 1
            self._set(min(self._held, aim) if self._was_pressed else self._held)
            return
        rate = self._count / spent
        if rate >= self.peak:
            self.peak = rate
        elif self._pressed:
            self.peak += (rate - self.peak) * _SMOOTH
        self._taken = self._vain / spent
        if not self.lowest or average < self.lowest:
            self.lowest += (average - self.lowest) * (_SMOOTH if self.lowest else 1.0)
        slack = max(self.lowest * TOLERANCE, SLACK)
        room = self.lowest + slack - average
        self._doubts = self._doubts + 1 if room < 0 else 0
        aim = self.peak * (self.lowest + max(room, 0.0)) + self._taken
        if aim > self.limit or self._pressed or room < 0:  # else few are in flight as few come
            self._set((self.limit + aim) / 2)
        if now >= self._look_at or self._doubts >= DOUBT:
            self._looking = True
            self._doubts = 0
            self._held, self._was_pressed = self.limit, self._pressed
            # Those let in last wait longest, and are not in the average yet.
            longest = max(average, self._held / self.peak) if self._pressed else average
            self._lower(longest, now)

    def _lower(self, latency: float, now: float) -> None:
        """Lower the limit for a moment; look away until what was let in before has ended."""
        self._before = latency
        self._set(self.limit * LOWERED)
        self._skip_until = now + latency

    def _next_look(self, now: float) -> float:
        return now + LOOK * self._rng.uniform(0.5, 1.0)

    def _set(self, limit: float) -> None:
        self.limit = min(max(round(limit), self._least), self._most)

    def _begin(self, now: float) -> None:
        self._began = max(now, self._skip_until)
        self._count = self._late = 0
        self._total = self._failed = self._vain = 0.0
        self._pressed = False
