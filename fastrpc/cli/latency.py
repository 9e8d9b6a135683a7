"""Count durations so cheaply that the counting does not show in them.

A load generator records every call, up to half a million a second, on the core
that makes the calls. So recording is one append of four bytes, and sorting into
buckets waits for the end of the run (or for `trim`, in small portions).

The buckets come for free: the upper half of a 32-bit float is its exponent and
seven bits of its fraction, so floats that share it lie within 0.8 % of each
other, whatever their size. No range has to be chosen, and nothing overflows.

Rules of the room:
  * no clock in here: durations are given, in seconds;
  * memory is bounded, however long the run.
"""

import math
import struct
import sys
from array import array
from collections import Counter
from collections.abc import Callable, Iterator

from fastrpc.errors import ConfigError

#: A percentile is off by at most this part of itself.
RELATIVE_ERROR = 2.0**-8

# 16 MiB of durations not yet in buckets: ten seconds of the fastest run.
MAX_WAITING = 4 * 2**20
PORTION = 2048

_HIGH_HALF = 1 if sys.byteorder == "little" else 0


class Histogram:
    """How often which duration occurred, to within 0.4 %.

    The smallest, the largest and the mean are exact (to 32-bit floats).
    """

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._sum = 0.0
        self.count = 0
        self.min = math.inf
        self.max = 0.0

    def add(self, durations: "array[float]") -> None:
        """Count *durations*, an array of 32-bit floats, none negative."""
        if not durations:
            return
        with memoryview(durations) as view, view.cast("B") as octets, octets.cast("H") as halves:
            self._counts.update(halves[_HIGH_HALF::2])
        self._sum += sum(durations)
        self.count += len(durations)
        self.min = min(self.min, min(durations))
        self.max = max(self.max, max(durations))

    def merge(self, other: "Histogram") -> None:
        """Add everything *other* has counted."""
        self._counts.update(other._counts)
        self._sum += other._sum
        self.count += other.count
        self.min = min(self.min, other.min)
        self.max = max(self.max, other.max)

    @property
    def mean(self) -> float:
        """The mean, 0 if nothing was counted."""
        return self._sum / self.count if self.count else 0.0

    def buckets(self) -> Iterator[tuple[float, int]]:
        """Yield (middle, count) of the buckets in use, rising."""
        for key in sorted(self._counts):
            yield _middle(key), self._counts[key]

    def percentile(self, percent: float) -> float:
        """Return the duration that *percent* of all did not exceed; 0 if none.

        The smallest duration that does is meant, so `percentile(100)` is `max`.
        """
        if not 0 <= percent <= 100:
            raise ConfigError(f"a percentile lies between 0 and 100, got {percent}")
        wanted = math.ceil(self.count * percent / 100)
        if not self.count or wanted >= self.count:
            return self.max
        seen = 0
        for middle, count in self.buckets():
            seen += count
            if seen >= wanted:
                return min(max(middle, self.min), self.max)
        return self.max


def _middle(key: int) -> float:
    low, high = struct.unpack(">ff", struct.pack(">II", key << 16, (key << 16) | 0xFFFF))
    middle: float = (low + high) / 2
    return middle


class Recorder:
    """Where one loop or thread puts its durations.

    `record(seconds)` is the array's own append: no Python code runs.
    """

    record: Callable[[float], None]

    def __init__(self) -> None:
        self._waiting = array("f")
        self._histogram = Histogram()
        self.record = self._waiting.append

    def __len__(self) -> int:
        """Return how many durations were recorded."""
        return self._histogram.count + len(self._waiting)

    def clear(self) -> None:
        """Forget everything: the warm-up is over."""
        del self._waiting[:]
        self._histogram = Histogram()

    def trim(self) -> None:
        """Sort away what is over the memory limit, in short steps."""
        while len(self._waiting) > MAX_WAITING:
            self._sort(PORTION)

    def _sort(self, most: int) -> None:
        # From the end, where cutting moves nothing; the order says nothing here.
        portion = self._waiting[-most:]
        del self._waiting[-most:]
        self._histogram.add(portion)

    def recent(self, most: int = PORTION) -> Histogram:
        """Return a histogram of the last *most* durations, for a live view."""
        histogram = Histogram()
        histogram.add(self._waiting[-most:])
        return histogram

    def histogram(self) -> Histogram:
        """Return everything recorded so far, sorted into buckets."""
        while self._waiting:
            self._sort(PORTION)
        return self._histogram
