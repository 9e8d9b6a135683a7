"""Choose one member after the other."""

import random
from collections.abc import Collection, Sequence
from typing import final

from fastrpc.cluster.balancers.contract import Balancer, Candidate


@final
class RoundRobin(Balancer):
    """Members in turn, whatever their weights; who takes none is passed over.

    Args:
        seed: Of the chance that says who is the first: many clients begin at many places.
    """

    def __init__(self, seed: int = 0) -> None:
        self._chance = random.Random(seed)
        self._members: list[Candidate] = []
        self._next = -1  # nobody has had a turn

    def update(self, members: Sequence[Candidate], now: float) -> None:
        """Choose from *members* from now on; the turn goes on where it was."""
        before, self._members = self._members, list(members)
        count = len(members)
        if not count:
            return
        if self._next < 0:
            self._next = self._chance.randrange(count)
            return
        places = {id(member): place for place, member in enumerate(members)}
        for member in before[self._next :] + before[: self._next]:  # the first that has stayed
            if id(member) in places:
                self._next = places[id(member)]
                return
        self._next %= count

    def pick(self, key: object, now: float, avoid: Collection[Candidate] = ()) -> Candidate | None:
        """Return the next member that takes a call now; *key* is not looked at."""
        members, place = self._members, self._next
        count = len(members)
        spare, spared = None, place
        for _ in range(count):
            member = members[place]
            place = place + 1 if place + 1 < count else 0
            if member.takes():
                if member not in avoid:
                    self._next = place
                    return member
                if spare is None:
                    spare, spared = member, place
        self._next = spared
        return spare
