"""Know how many calls each member has in flight without asking all of them at each pick.

Calls end without a word to the balancer, and asking a thousand members takes fifty times
as long as a pick may. So all are asked now and then, and what has been picked since is
counted on top. What is known then errs on the high side only, by what has ended since.

Rules of the room:
  * what is known was asked in one of the last `len / 4` picks, and in the last 20
    milliseconds;
  * of fewer than eight members it is exact at each pick.
"""

from collections.abc import Sequence
from typing import Final, final

from fastrpc.cluster.balancers.contract import Candidate

#: All are asked once in so many parts of their number of picks: four members a pick.
_PART: Final = 4

#: Seconds after which all are asked, however few the picks.
OLDEST: Final = 0.02


@final
class Census:
    """Counts of calls in flight.

    Args:
        members: Whose.
        now: Time of the clock.

    Attributes:
        counts: Calls in flight of each, as far as is known, by place.
        total: Their sum.
    """

    __slots__ = ("_left", "_members", "_old_at", "counts", "total")

    def __init__(self, members: Sequence[Candidate], now: float) -> None:
        self._members = members
        self._left = 0
        self._old_at = now
        self.counts: list[int] = []
        self.total = 0
        self._ask(now)

    def look(self, now: float) -> bool:
        """Begin a pick; return whether all have been asked for it."""
        self._left -= 1
        if self._left > 0 and now < self._old_at:
            return False
        self._ask(now)
        return True

    def note(self, place: int, count: int) -> None:
        """Note that the member at *place* has *count* calls in flight."""
        self.total += count - self.counts[place]
        self.counts[place] = count

    def _ask(self, now: float) -> None:
        self.counts = [member.in_flight for member in self._members]
        self.total = sum(self.counts)
        self._left = len(self.counts) // _PART
        self._old_at = now + OLDEST
