"""Remember how long calls of each method take, for as long as that says something.

Rules of the room:
  * time is an argument, or the clock that was given;
  * what is older than two spans is forgotten.
"""

import time
from collections.abc import Callable
from typing import Final, final

from fastrpc.frame import Durations
from fastrpc.policy.timing import bucket_of

__all__ = ["Recent"]

#: Seconds of a span.
SPAN: Final = 30.0

#: Calls to have seen before it is known how long they take.
ENOUGH: Final = 20

#: Most methods that are told apart.
METHODS_MAX: Final = 1000


@final
class Recent:
    """Durations of the last half minute or so, by method.

    Args:
        clock: Returns seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._spans: dict[str, tuple[float, Durations, Durations]] = {}

    def add(self, name: str, seconds: float) -> None:
        """Note how long a call of *name* has taken."""
        now = self._clock()
        began, before, current = self._spans.get(name, (now, Durations(), Durations()))
        if now - began >= SPAN:
            before = current if now - began < 2 * SPAN else Durations()
            began, current = now, Durations()
        if name in self._spans or len(self._spans) < METHODS_MAX:
            self._spans[name] = (began, before, current)
        current.add(seconds)

    def percentile(self, name: str, percent: float) -> float:
        """Return what *percent* of the calls of *name* don't exceed; 0 if too few were seen."""
        _, *spans = self._spans.get(name, (0.0,))
        if sum(span.count for span in spans) < ENOUGH:
            return 0.0
        # The upper bound: most of those that take as long as usual shall be over by then.
        return bucket_of(sorted(each for span in spans for each in span.buckets()), percent)[1]
