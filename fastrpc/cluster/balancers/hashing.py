"""Choose by key: the same key goes to the same member, unless that has more than its share.

A member takes at most a quarter more than its share of all calls in flight; beyond, a
key goes to the next on the ring that has room (Mirrokni, Thorup, Zadimoghaddam,
"Consistent Hashing with Bounded Loads", 2016). So one key that everybody asks for can't
bring its member down, and when a member leaves, its keys alone move.

Rules of the room:
  * no pick leads over the bound as long as any member below it takes calls; calls in
    flight are known as well as the census knows them;
  * calls without a key go anywhere below the bound.
"""

import random
from collections.abc import Collection, Sequence
from itertools import islice
from typing import Final, final

from fastrpc.cluster.balancers.census import Census
from fastrpc.cluster.balancers.contract import Balancer, Candidate, first_that_takes
from fastrpc.cluster.balancers.ring import Ring, place_of
from fastrpc.errors import ConfigError

#: Points of the ring that are tried before the members are looked at in turn.
_POINTS: Final = 64

#: So many points of these at most are looked at without ado.
_NEAR: Final = 8

#: What rounding may do to a bound.
_ROUNDED: Final = 1e-9


@final
class ConsistentHash(Balancer):
    """The member that the key belongs to, or the next that has room.

    Args:
        load: Most calls in flight of a member, as a multiple of its share; above 1.
        seed: Of the chance that places calls without a key.
    """

    def __init__(self, load: float = 1.25, seed: int = 0) -> None:
        if isinstance(load, bool) or not 1 < load < float("inf"):
            raise ConfigError(f"load must be above 1 and finite, got {load!r}")
        self._load = load
        self._chance = random.Random(seed)
        self._ring = Ring()
        self._members: list[Candidate] = []
        self._known: dict[str, tuple[int, Candidate, float]] = {}  # place, who, share of all
        self._census = Census((), 0.0)

    def update(self, members: Sequence[Candidate], now: float) -> None:
        """Choose from *members* from now on."""
        listed = list(members)
        total = sum(member.weight for member in listed)
        known = {
            member.instance.id: (place, member, member.weight / total)
            for place, member in enumerate(listed)
        }
        census = Census(listed, now)
        self._ring.update({member.instance.id: member.weight for member in listed})
        # What may fail is done: all is changed, or nothing.
        self._members, self._known, self._census = listed, known, census

    def pick(self, key: object, now: float, avoid: Collection[Candidate] = ()) -> Candidate | None:
        """Return the member for *key*.

        Raises:
            ConfigError: The key is nothing that is the same in every process.
        """
        if not self._members:
            return None
        self._census.look(now)
        calls = self._census.calls
        where = place_of(key) if key is not None else self._chance.getrandbits(64)
        ids, at = self._ring.find(where)
        bound = (calls.total + 1) * self._load
        for id in ids[at : at + _NEAR]:  # mostly it is the first
            place, member, share = self._known[id]
            count = calls.room(place)
            if (not count or 0 < count < bound * share - _ROUNDED) and member not in avoid:
                calls.note(place, count + 1)
                return member
        return self._walk(where, avoid)

    def _walk(self, where: int, avoid: Collection[Candidate]) -> Candidate | None:
        """Return the next member on the ring that has room, or any that takes a call."""
        for id in islice(self._ring.walk(where), _POINTS):
            if self._has_room(id, avoid):
                return self._taken(id)
        start = where % len(self._members)
        for member in (*self._members[start:], *self._members[:start]):
            if self._has_room(member.instance.id, avoid):
                return self._taken(member.instance.id)
        # All below the bound take no call: better over the bound than not at all.
        other = first_that_takes(self._members, start, avoid)
        return self._taken(other.instance.id) if other is not None else None

    def _has_room(self, id: str, avoid: Collection[Candidate]) -> bool:
        calls = self._census.calls
        place, member, share = self._known[id]
        count = calls.room(place)
        bound = (calls.total + 1) * self._load * share
        return (not count or 0 < count < bound - _ROUNDED) and member not in avoid

    def _taken(self, id: str) -> Candidate:
        place, member, _ = self._known[id]
        self._census.calls.note(place, member.in_flight + 1)
        return member
