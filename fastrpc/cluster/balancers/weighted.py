"""Choose each member as often as its weight says, and as evenly as can be.

Time is counted in turns. A member of a tenth of the weight has its first turn within the
first ten, its second within the next ten, and so on: each has a moment from which it may
come and one by which it must, and of those that may, the one that must soonest comes.
For weights that stay, the picks of each are then never one or more away from its share,
whatever the weights (Baruah, Cohen, Plaxton, Varvel, "Proportionate progress", 1996; the
smooth turns of nginx are a greedy form of it that asks all members each time). The rota
that says whose turn it is stands in the unit of picks.

Rules of the room:
  * who takes no call when its turn has come has had it;
  * new weights begin where the old ones ended: nobody waits for a first turn again.
"""

import random
from collections.abc import Collection, Sequence
from math import ceil
from typing import Final, final

from fastrpc.cluster.balancers.contract import Balancer, Candidate, first_that_takes
from fastrpc.frame import Rota

#: Turns that are given to those that take no call, before all are looked at in turn.
_TRIES: Final = 4

#: So many turns at most are skipped at the beginning: a round, or the part of it that is quick.
_AHEAD: Final = 2048

#: No share is smaller than one turn of so many.
_RAREST: Final = 2.0**40


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
        self._rota = Rota([], [])

    def update(self, members: Sequence[Candidate], now: float) -> None:
        """Choose from *members* from now on, by the weights they have now."""
        is_first = not self._members
        owed = self._owed()
        total = sum(member.weight for member in members)
        gaps = [min(total / member.weight, _RAREST) for member in members]
        if not all(gap > 0 for gap in gaps):
            raise ValueError("weights must be numbers above 0")
        debts = [owed.get(id(member), 0.0) for member in members]
        surplus = sum(debts) / max(len(debts), 1)
        debts = [debt - surplus for debt in debts]
        rota = Rota(gaps, debts)
        # What may fail is done: all is changed, or nothing.
        self._members, self._gaps, self._debts, self._rota = list(members), gaps, debts, rota
        if is_first and members and self._chance is not None:
            for _ in range(self._chance.randrange(ceil(min(max(self._gaps), _AHEAD)))):
                rota.take()

    def pick(self, key: object, now: float, avoid: Collection[Candidate] = ()) -> Candidate | None:
        """Return the member whose turn it is and that takes a call; *key* is not looked at."""
        members, take = self._members, self._rota.take
        if not members:
            return None
        place = 0
        for _ in range(_TRIES):
            place = take()
            member = members[place]
            if member.takes() and member not in avoid:
                return member
        return first_that_takes(members, place, avoid)

    def _owed(self) -> dict[int, float]:
        """Return by how many turns each member has had too few."""
        turn = self._rota.turn
        kept = zip(self._members, self._debts, self._rota.counts, self._gaps, strict=True)
        return {
            id(member): max(-1.0, min(debt + turn / gap - count, 1.0))
            for member, debt, count, gap in kept
        }
