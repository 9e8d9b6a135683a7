"""Know how many calls each member has in flight without asking all of them at each pick.

Calls end without a word to the balancer, and asking a thousand members takes longer than
a pick may. So all are asked now and then, and what has been picked since is counted on
top, in the unit of picks. What is known then errs on the high side only, by what has ended since.

Rules of the room:
  * what is known was asked in one of the last `len / 4` picks, and in the last 20
    milliseconds;
  * of fewer than eight members it is exact at each pick.
"""

from collections.abc import Sequence
from typing import Final, final

from fastrpc.cluster.balancers.contract import Candidate
from fastrpc.frame import InFlight

#: All are asked once in so many parts of their number of picks: four members a pick.
_PART: Final = 4

#: Seconds after which all are asked, however few the picks.
OLDEST: Final = 0.02


@final
class Census:
    """What is known of calls in flight, and for how long.

    Args:
        members: Whose.
        now: Time of the clock.

    Attributes:
        calls: What is known; who picks notes there what it adds.
    """

    __slots__ = ("_left", "_old_at", "_picks", "calls")

    def __init__(self, members: Sequence[Candidate], now: float) -> None:
        self.calls = InFlight(members)
        self._left = self._picks = len(members) // _PART
        self._old_at = now + OLDEST

    def look(self, now: float) -> bool:
        """Begin a pick; return whether all have been asked for it."""
        self._left -= 1
        if self._left > 0 and now < self._old_at:
            return False
        self.calls.ask()
        self._left = self._picks
        self._old_at = now + OLDEST
        return True
