"""Choose by chance, each member as often as its weight says."""

import random
from bisect import bisect
from collections.abc import Collection, Sequence
from itertools import accumulate
from typing import Final, final

from fastrpc.cluster.balancers.contract import Balancer, Candidate, first_that_takes

#: Times that chance is asked before all are looked at in turn.
_TRIES: Final = 4


@final
class Random(Balancer):
    """Any member, by weight.

    Args:
        seed: Of its chance.
    """

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed).random
        self._members: list[Candidate] = []
        self._sums: list[float] = []  # of the weights so far; empty if all are the same

    def update(self, members: Sequence[Candidate], now: float) -> None:
        """Choose from *members* from now on."""
        weights = [member.weight for member in members]
        sums = list(accumulate(weights)) if len(set(weights)) > 1 else []
        self._members, self._sums = list(members), sums

    def pick(self, key: object, now: float, avoid: Collection[Candidate] = ()) -> Candidate | None:
        """Return a member that takes a call now; *key* is not looked at."""
        members, sums, chance = self._members, self._sums, self._random
        if not members:
            return None
        place = 0
        for _ in range(_TRIES):
            if sums:
                place = bisect(sums, chance() * sums[-1], 0, len(sums) - 1)
            else:
                place = int(chance() * len(members))
            member = members[place]
            if member.takes() and member not in avoid:
                return member
        return first_that_takes(members, int(chance() * len(members)), avoid)
