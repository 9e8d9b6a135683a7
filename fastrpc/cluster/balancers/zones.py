"""Choose members of one's own zone first, and others only as far as these are too few.

Calls that stay in a zone are quicker and cost nothing. But if two of its three members
are away, the third must not carry everything. Envoy's rule says how much stays: the
share of members that can be used, times 1.4; so a loss of two sevenths is borne by the
zone alone, and beyond, calls go over in proportion.

Rules of the room:
  * a key is at home or away by its hash, so that it doesn't go to and fro;
  * what one side can't take now, the other takes.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Final, final

from fastrpc.cluster.balancers.contract import Balancer, Candidate
from fastrpc.cluster.balancers.ring import place_of

#: How much more than its share each member is thought to bear.
OVERPROVISIONED: Final = 1.4


@final
class ZoneFirst(Balancer):
    """Two balancers of one kind: for members of the zone, and for all others.

    Args:
        make_inner: Makes a balancer.
        zone: Which members come first.

    Attributes:
        known_local: How many of the zone are known, whether or not they may be picked;
            set it before `update`. As many as may be picked if it is less than these.
    """

    def __init__(self, make_inner: Callable[[], Balancer], zone: str) -> None:
        self._local = make_inner()
        self._others = make_inner()
        self._zone = zone
        self._share = 0.0
        self._saved = 0.0  # what local members have had too few
        self.known_local = 0

    @property
    def share(self) -> float:
        """Which share of the calls stays in the zone, if its members take them."""
        return self._share

    def update(self, members: Sequence[Candidate], now: float) -> None:
        """Choose from *members* from now on."""
        local = [member for member in members if member.instance.zone == self._zone]
        others = [member for member in members if member.instance.zone != self._zone]
        self._local.update(local, now)
        self._others.update(others, now)
        known = max(self.known_local, len(local), 1)
        self._share = min(1.0, OVERPROVISIONED * len(local) / known) if others else 1.0

    def pick(self, key: object, now: float, avoid: Collection[Candidate] = ()) -> Candidate | None:
        """Return a member of the zone if it is the zone's turn, or one from elsewhere."""
        if self._share >= 1.0:
            is_local = True
        elif key is not None:
            is_local = place_of(key) < self._share * 2.0**64
        else:
            self._saved += self._share
            is_local = self._saved >= 1.0
            self._saved -= is_local
        first, second = self._local, self._others
        if not is_local:
            first, second = second, first
        member = first.pick(key, now, avoid)
        if member is not None and member not in avoid:
            return member
        other = second.pick(key, now, avoid)
        if other is not None and (member is None or other not in avoid):
            return other
        return member
