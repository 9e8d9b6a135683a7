"""Choose the member that has the fewest calls in flight for its weight.

Which that is, is known exactly for small groups, and for large ones as well as the
census knows it. Members of one level of load wait in a line: so each pick takes the
first of the lowest line, looks whether it is as was thought, and puts it at the end of a
higher one.

Rules of the room:
  * among equals those come first that were chosen longest ago;
  * loads that differ by less than half a call of the heaviest member count as equal;
  * who takes no call when it is looked at is left out until the next census.
"""

import random
from collections import deque
from collections.abc import Collection, Sequence
from heapq import heapify, heappop, heappush
from typing import final

from fastrpc.cluster.balancers.census import Census
from fastrpc.cluster.balancers.contract import Balancer, Candidate


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
        self._lines: dict[int, deque[int]] = {}  # places by level
        self._levels: list[int] = []  # heap of those that have a line
        self._last = -1  # place of who was chosen last

    def update(self, members: Sequence[Candidate], now: float) -> None:
        """Choose from *members* from now on."""
        before = self._members[self._last] if self._members else None
        listed = list(members)
        heaviest = max((member.weight for member in listed), default=1.0)
        steps = [2.0 * heaviest / member.weight for member in listed]
        last = next((place for place, member in enumerate(listed) if member is before), -1)
        if last < 0 and listed:
            last = self._chance.randrange(len(listed))
        census = Census(listed, now)
        lines = _lines(census.counts, steps, last + 1)
        # What may fail is done: all is changed, or nothing.
        self._members, self._steps, self._census, self._last = listed, steps, census, last
        self._line_up(lines)

    def pick(self, key: object, now: float, avoid: Collection[Candidate] = ()) -> Candidate | None:
        """Return the least loaded member that takes a call; *key* is not looked at."""
        if self._census.look(now):
            self._line_up(_lines(self._census.counts, self._steps, self._last + 1))
        levels, lines, members = self._levels, self._lines, self._members
        avoided = None
        chosen = None
        while chosen is None:
            if not levels:
                return self._search(avoid)
            level = levels[0]
            line = lines[level]
            if not line:
                del lines[heappop(levels)]
                continue
            place = line.popleft()
            member = members[place]
            if not member.takes():
                continue
            count = member.in_flight
            if int(count * self._steps[place]) > level:  # calls that we have not sent
                self._enter(place, count)
            elif member in avoid:
                avoided = avoided or []
                avoided.append(place)
            else:
                self._enter(place, count + 1)
                self._last = place
                chosen = member
        for place in avoided or ():
            self._enter(place, self._census.counts[place])
        return chosen

    def _enter(self, place: int, count: int) -> None:
        """Put a member at the end of the line of its level."""
        self._census.note(place, count)
        level = int(count * self._steps[place])
        line = self._lines.get(level)
        if line is not None:
            line.append(place)
        else:
            self._lines[level] = deque((place,))
            heappush(self._levels, level)

    def _line_up(self, lines: dict[int, deque[int]]) -> None:
        """Have these lines from now on."""
        self._lines = lines
        self._levels = list(lines)
        heapify(self._levels)

    def _search(self, avoid: Collection[Candidate]) -> Candidate | None:
        """Return the least loaded of all that take a call after all; the avoided ones last."""
        takers = [place for place, member in enumerate(self._members) if member.takes()]
        wanted = [place for place in takers if self._members[place] not in avoid] or takers
        if not wanted:
            return None
        loads = [(self._members[place].in_flight * self._steps[place], place) for place in wanted]
        place = min(loads)[1]
        # Those that were left out may be looked at again.
        self._line_up(_lines(self._census.counts, self._steps, self._last + 1))
        self._last = place
        return self._members[place]


def _lines(counts: Sequence[int], steps: Sequence[float], start: int) -> dict[int, deque[int]]:
    """Return all places in lines by level, those from *start* on first."""
    lines: dict[int, deque[int]] = {}
    for places in (range(start, len(counts)), range(start)):
        for place in places:
            level = int(counts[place] * steps[place])
            if level in lines:
                lines[level].append(place)
            else:
                lines[level] = deque((place,))
    return lines
