"""Choose the member that has the fewest calls in flight for its weight.

Which that is, is known exactly for small groups, and for large ones as well as the
census knows it. Members wait in a line, by levels of load: so each pick takes the first,
looks whether it is as was thought, and puts it at the end of a higher level. The line is
in the unit of picks.

Rules of the room:
  * among equals those come first that were chosen longest ago;
  * loads that differ by less than half a call of the heaviest member count as equal;
  * who takes no call when it is looked at is left out until the next census.
"""

import random
from collections.abc import Collection, Sequence
from typing import Final, final

from fastrpc.cluster.balancers.census import Census
from fastrpc.cluster.balancers.contract import Balancer, Candidate
from fastrpc.frame import Line

#: So many levels at most one call takes a member up.
_STEEPEST: Final = 2.0**40


@final
class LeastInFlight(Balancer):
    """The member with the least of load: calls in flight by weight.

    Args:
        seed: Of the chance that says who comes first when all are idle.
    """

    def __init__(self, seed: int = 0) -> None:
        self._chance = random.Random(seed)
        self._members: list[Candidate] = []
        self._steps: list[float] = []  # levels that one call takes a member up, by place
        self._census = Census((), 0.0)
        self._line = Line(self._census.calls, [], 0)
        self._last = -1  # place of who was chosen last

    def update(self, members: Sequence[Candidate], now: float) -> None:
        """Choose from *members* from now on."""
        before = self._members[self._last] if self._members else None
        listed = list(members)
        heaviest = max((member.weight for member in listed), default=1.0)
        steps = [min(2.0 * heaviest / member.weight, _STEEPEST) for member in listed]
        if not all(step > 0 for step in steps):
            raise ValueError("weights must be numbers above 0")
        last = next((place for place, member in enumerate(listed) if member is before), -1)
        if last < 0 and listed:
            last = self._chance.randrange(len(listed))
        census = Census(listed, now)
        line = Line(census.calls, steps, last + 1)
        # What may fail is done: all is changed, or nothing.
        self._members, self._steps, self._last = listed, steps, last
        self._census, self._line = census, line

    def pick(self, key: object, now: float, avoid: Collection[Candidate] = ()) -> Candidate | None:
        """Return the least loaded member that takes a call; *key* is not looked at."""
        if self._census.look(now):
            self._line.order(self._last + 1)
        place = self._line.take(avoid)
        if place < 0:
            return self._search(avoid)
        self._last = place
        return self._members[place]

    def _search(self, avoid: Collection[Candidate]) -> Candidate | None:
        """Return the least loaded of all that take a call after all; the avoided ones last."""
        takers = [place for place, member in enumerate(self._members) if member.takes()]
        wanted = [place for place in takers if self._members[place] not in avoid] or takers
        if not wanted:
            return None
        loads = [(self._members[place].in_flight * self._steps[place], place) for place in wanted]
        place = min(loads)[1]
        # Those that were left out may be looked at again.
        self._line.order(self._last + 1)
        self._last = place
        return self._members[place]
