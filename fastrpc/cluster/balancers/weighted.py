"""Choose each member as often as its weight says, and as evenly as can be.

Time is counted in turns. A member of a tenth of the weight has its first turn within the
first ten, its second within the next ten, and so on: each has a moment from which it may
come and one by which it must, and of those that may, the one that must soonest comes.
For weights that stay, the picks of each are then never one or more away from its share,
whatever the weights (Baruah, Cohen, Plaxton, Varvel, "Proportionate progress", 1996; the
smooth turns of nginx are a greedy form of it that asks all members each time).

Rules of the room:
  * who takes no call when its turn has come has had it;
  * new weights begin where the old ones ended: nobody waits for a first turn again.
"""

import random
from collections.abc import Collection, Sequence
from heapq import heapify, heappop, heappush
from math import ceil
from typing import Final, final

from fastrpc.cluster.balancers.contract import Balancer, Candidate, first_that_takes

#: Turns that are given to those that take no call, before all are looked at in turn.
_TRIES: Final = 4

#: So many turns at most are skipped at the beginning: a round, or the part of it that is quick.
_AHEAD: Final = 2048

#: Places and moments are kept in one number, which is quick to compare.
_SHIFT: Final = 20
_PLACE: Final = (1 << _SHIFT) - 1

#: No share is smaller than one turn of so many.
_RAREST: Final = 2.0**40

#: What rounding may do to a moment.
_ROUNDED: Final = 1e-9


@final
class SmoothWeighted(Balancer):
    """Members by weight, their turns spread out.

    Args:
        seed: Of the chance that says where to begin, so that many clients don't all
            begin with the heaviest; None to begin at the beginning.
    """

    def __init__(self, seed: int | None = None) -> None:
        self._chance = random.Random(seed) if seed is not None else None
        self._members: list[Candidate] = []
        self._gaps: list[float] = []  # turns from one of its own to the next, by place
        self._debts: list[float] = []  # turns it had too few, when these weights began
        self._counts: list[int] = []  # turns since then
        self._turn = 0
        self._ready: list[int] = []  # heap of those that may come, by when they must
        self._later: dict[int, list[int]] = {}  # those that may not yet, by when they may

    def update(self, members: Sequence[Candidate], now: float) -> None:
        """Choose from *members* from now on, by the weights they have now."""
        is_first = not self._members
        owed = self._owed()
        total = sum(member.weight for member in members)
        gaps = [min(total / member.weight, _RAREST) for member in members]
        if not all(gap > 0 for gap in gaps):
            raise ValueError("weights must be numbers above 0")
        # What may fail is done: all is changed, or nothing.
        self._members = list(members)
        self._gaps = gaps
        debts = [owed.get(id(member), 0.0) for member in members]
        surplus = sum(debts) / max(len(debts), 1)
        self._debts = [debt - surplus for debt in debts]
        self._counts = [0] * len(members)
        self._turn = 0
        self._ready, self._later = [], {}
        for place in range(len(members)):
            self._plan(place)
        if is_first and members and self._chance is not None:
            for _ in range(self._chance.randrange(ceil(min(max(self._gaps), _AHEAD)))):
                self._take_turn()

    def pick(self, key: object, now: float, avoid: Collection[Candidate] = ()) -> Candidate | None:
        """Return the member whose turn it is and that takes a call; *key* is not looked at."""
        members = self._members
        if not members:
            return None
        place = 0
        for _ in range(_TRIES):
            place = self._take_turn()
            member = members[place]
            if member.takes() and member not in avoid:
                return member
        return first_that_takes(members, place, avoid)

    def _take_turn(self) -> int:
        """Give the turn to whoever must come soonest, and return its place."""
        ready, later = self._ready, self._later
        due = later.pop(self._turn, None)
        if due is None and not ready:  # what rounding has left empty
            self._turn = min(later)
            due = later.pop(self._turn)
        if due is not None:
            if len(due) < 8:
                for each in due:
                    heappush(ready, each)
            else:
                ready += due
                heapify(ready)
        place = heappop(ready) & _PLACE
        self._turn += 1
        self._counts[place] += 1
        self._plan(place)
        return place

    def _plan(self, place: int) -> None:
        """Note when a member may have its next turn, and when it must."""
        gap = self._gaps[place]
        may = (self._counts[place] - self._debts[place]) * gap
        must = ceil(may + gap - _ROUNDED)
        entry = must << _SHIFT | place
        since = int(may + _ROUNDED)
        if since <= self._turn:
            heappush(self._ready, entry)
        elif since in self._later:
            self._later[since].append(entry)
        else:
            self._later[since] = [entry]

    def _owed(self) -> dict[int, float]:
        """Return by how many turns each member has had too few."""
        turn = self._turn
        kept = zip(self._members, self._debts, self._counts, self._gaps, strict=True)
        return {
            id(member): max(-1.0, min(debt + turn / gap - count, 1.0))
            for member, debt, count, gap in kept
        }
