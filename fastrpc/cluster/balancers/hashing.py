"""Choose by key: the same key goes to the same member, unless that has more than its share.

A member takes at most a quarter more than its share of all calls in flight; beyond, a
key goes to the next on the ring that has room (Mirrokni, Thorup, Zadimoghaddam,
"Consistent Hashing with Bounded Loads", 2016). So one key that everybody asks for can't
bring its member down, and when a member leaves, its keys alone move. The nearest points
of the ring are looked at in the unit of picks.

Rules of the room:
  * no pick leads over the bound as long as any member below it takes calls; calls in
    flight are known as well as the census knows them;
  * calls without a key go anywhere below the bound.
"""

import random
from collections.abc import Collection, Sequence
from itertools import chain, islice
from typing import Final, final

from fastrpc.cluster.balancers.census import Census
from fastrpc.cluster.balancers.contract import Balancer, Candidate, first_that_takes
from fastrpc.cluster.balancers.ring import Ring, place_of
from fastrpc.errors import ConfigError
from fastrpc.frame import Bounded

#: Points of the ring that are tried before the members are looked at in turn.
_POINTS: Final = 64


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
        self._places: dict[str, int] = {}
        self._census = Census((), 0.0)
        self._bounded = Bounded(self._census.calls, {}, [], load)

    def update(self, members: Sequence[Candidate], now: float) -> None:
        """Choose from *members* from now on."""
        listed = list(members)
        total = sum(member.weight for member in listed)
        shares = [member.weight / total for member in listed]
        places = {member.instance.id: place for place, member in enumerate(listed)}
        census = Census(listed, now)
        bounded = Bounded(census.calls, places, shares, self._load)
        self._ring.update({member.instance.id: member.weight for member in listed})
        # What may fail is done: all is changed, or nothing.
        self._members, self._places = listed, places
        self._census, self._bounded = census, bounded

    def pick(self, key: object, now: float, avoid: Collection[Candidate] = ()) -> Candidate | None:
        """Return the member for *key*.

        Raises:
            ConfigError: The key is nothing that is the same in every process.
        """
        members = self._members
        if not members:
            return None
        self._census.look(now)
        where = place_of(key) if key is not None else self._chance.getrandbits(64)
        place = self._bounded.take(self._ring.sectors, where, avoid)
        return members[place] if place >= 0 else self._walk(where, avoid)

    def _walk(self, where: int, avoid: Collection[Candidate]) -> Candidate | None:
        """Return the next member on the ring that has room, or any that takes a call."""
        members, calls = self._members, self._census.calls
        start = where % len(members)
        near = (self._places[id] for id in islice(self._ring.walk(where), _POINTS))
        for place in chain(near, range(start, len(members)), range(start)):
            if self._bounded.has_room(place) and members[place] not in avoid:
                calls.note(place, members[place].in_flight + 1)
                return members[place]
        # All below the bound take no call: better over the bound than not at all.
        other = first_that_takes(members, start, avoid)
        if other is not None:
            calls.note(self._places[other.instance.id], other.in_flight + 1)
        return other
