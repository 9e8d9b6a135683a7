"""Count how long the calls of each method take, in little memory.

Durations are sorted into buckets that grow with them, sixteen to each doubling, so
that a percentile is off by 3 % at most, be it microseconds or hours. (The load
generator of the command line has finer ones, which cost more memory as a run goes on;
these are for processes that run for months.)

Rules of the room:
  * memory is bounded: so much per method, and so many methods;
  * the counting itself reads no clock.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, final

from fastrpc.call import Call, Handler
from fastrpc.errors import ConfigError
from fastrpc.frame import Durations
from fastrpc.policy.ending import Clock, Ending, Outcome, noting

#: Where the calls of methods go that there is no room for.
OTHER: Final = "(other)"


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodTiming:
    """How the calls of one method went so far, durations in seconds.

    Attributes:
        count: Calls that have ended.
        errors: Those of them that did not end well; the cancelled ones are not counted.
        p50: Half of the calls took no longer.
        p90: 90 % of them.
        p99: 99 % of them.
        max: The longest, exactly.
    """

    count: int
    errors: int
    p50: float
    p90: float
    p99: float
    max: float


def percentile(
    buckets: Sequence[tuple[float, float, int]], percent: float, longest: float = math.inf
) -> float:
    """Return the duration that *percent* of all did not exceed; 0 if none.

    Args:
        buckets: Of a `Durations`.
        percent: Such as 99.
        longest: The longest of them, to which the answer is cut.
    """
    lower, upper = bucket_of(buckets, percent)
    return min((lower + upper) / 2, longest)


def bucket_of(buckets: Sequence[tuple[float, float, int]], percent: float) -> tuple[float, float]:
    """Return the bounds between which lies what *percent* of all did not exceed; 0, 0 if none."""
    wanted = math.ceil(sum(count for _, _, count in buckets) * percent / 100)
    seen = 0
    for lower, upper, count in buckets:
        seen += count
        if seen >= wanted:
            return lower, upper
    return 0.0, 0.0


def _timing(durations: Durations, errors: int) -> MethodTiming:
    buckets, most = durations.buckets(), durations.max
    return MethodTiming(
        count=durations.count,
        errors=errors,
        p50=percentile(buckets, 50, most),
        p90=percentile(buckets, 90, most),
        p99=percentile(buckets, 99, most),
        max=most,
    )


@final
class Timings:
    """Time the calls that pass; an interceptor for servers and for clients.

    Use one for each server or client, or one for several to have their sum. The
    duration of a call includes what interceptors inside of this one take, and the
    items of a stream.

    Args:
        max_methods: Most methods that are told apart; all others are one, "(other)".
        clock: Seconds.

    Raises:
        ConfigError: *max_methods* is below 1.
    """

    def __init__(self, *, max_methods: int = 256, clock: Clock = time.monotonic) -> None:
        if max_methods < 1:
            raise ConfigError(f"max_methods must be 1 or more, got {max_methods!r}")
        self._max_methods = max_methods
        self._clock = clock
        self._methods: dict[str, tuple[Durations, list[int]]] = {}

    def __call__(self, handler: Handler) -> Handler:
        """Return *handler* with its calls timed."""
        return noting(handler, self._note, self._clock)

    def stats(self) -> Mapping[str, MethodTiming]:
        """Return a snapshot: what is known of each method, by name."""
        return MappingProxyType(
            {
                name: _timing(durations, errors[0])
                for name, (durations, errors) in self._methods.items()
            }
        )

    def clear(self) -> None:
        """Forget everything, to begin anew."""
        self._methods.clear()

    def _note(self, call: Call, ending: Ending) -> None:
        known = self._methods.get(call.method)
        if known is None:
            is_full = len(self._methods) - (OTHER in self._methods) >= self._max_methods
            known = self._methods.setdefault(OTHER if is_full else call.method, (Durations(), [0]))
        durations, errors = known
        durations.add(ending.seconds)
        errors[0] += ending.outcome not in (Outcome.OK, Outcome.CANCELLED)
