"""Keep the list of a service's instances, and doubt a registry that says little.

A registry that was emptied, restored from an old copy, or cut off from every server
looks like one whose servers are all gone. The servers are the better witnesses: they can
be called. So instances that leave without a word are kept for a while if they are more
than those that stay (Netflix's Eureka calls it self-preservation); whoever is gone for
good is found out by the connections.

Rules of the room:
  * time is an argument;
  * an error never shortens the list, and while the registry can't be asked, nobody's time
    runs out;
  * those that left long ago tell nothing of those that leave now: who was let go of does
    not come back unless a registry says so;
  * who says goodbye goes at once: withdrawn, or seen in another state than UP before;
  * so does who is replaced: another one is at its addresses.
"""

from enum import Enum
from typing import Final, final

from fastrpc.cluster.instance import INSTANCES_MAX, Instance, InstanceState
from fastrpc.cluster.registry import Change, Gone, Listing, Put

#: Seconds for which instances that left without a word are kept.
GRACE: Final = 60.0

#: Seconds within which departures count as one: as long as entries usually outlive their
#: owners, for a registry that lets nobody renew loses them over that time.
TOGETHER: Final = 15.0


class Freshness(Enum):
    """How far the list is to be trusted."""

    UNKNOWN = "unknown"  # nobody has said anything yet
    REMEMBERED = "remembered"  # from an earlier run
    FRESH = "fresh"
    STALE = "stale"  # the registry can't be asked


@final
class Roll:
    """The instances of one service.

    Args:
        grace: Seconds for which those are kept that left without a word.

    Attributes:
        freshness: How far it is to be trusted.
        skipped: Entries of the last listing that could not be read.
    """

    def __init__(self, grace: float = GRACE) -> None:
        self._grace = grace
        self._spare = max(grace - TOGETHER, 0.0)  # grace of those that are not needed
        self._lost_at = 0.0
        self._known: dict[str, Instance] = {}
        self._departed: dict[str, tuple[Instance, float]] = {}
        self._left: dict[tuple[str, ...], set[str]] = {}  # ids of these, by where they were
        self.freshness = Freshness.UNKNOWN
        self.skipped = 0

    @property
    def is_suspect(self) -> bool:
        """Whether more have left without a word than have stayed."""
        return len(self._departed) > len(self._known)

    @property
    def instances(self) -> tuple[Instance, ...]:
        """Those that may be called, in the order they came."""
        if not self.is_suspect:
            return tuple(self._known.values())
        return (*self._known.values(), *(each for each, _ in self._departed.values()))

    @property
    def soonest(self) -> float:
        """When `tick` has something to do, infinity if never."""
        if self.freshness is Freshness.STALE:
            return float("inf")
        soonest = min((until for _, until in self._departed.values()), default=float("inf"))
        return soonest if self.is_suspect else soonest - self._spare

    def remember(self, instances: tuple[Instance, ...]) -> None:
        """Begin with what an earlier run knew, unless somebody has said something since."""
        if self.freshness is Freshness.UNKNOWN:
            self._known = {each.id: each for each in instances[:INSTANCES_MAX]}
            self.freshness = Freshness.REMEMBERED

    def take(self, change: Change, now: float) -> None:
        """Note what a registry says."""
        if self.freshness is Freshness.STALE:
            away = max(now - self._lost_at, 0.0)
            for id, (instance, until) in self._departed.items():
                self._departed[id] = (instance, until + away)
        self.freshness = Freshness.FRESH
        self.tick(now)  # who is let go of by now has nothing to do with what comes
        if isinstance(change, Listing):
            self._listed(change, now)
        elif isinstance(change, Put):
            self._put(change.instance)
        else:
            self._gone(change, now)
        self.tick(now)

    def on_lost(self, now: float) -> None:
        """Note that the registry can't be asked: nobody leaves for that."""
        if self.freshness is Freshness.FRESH:
            self.freshness = Freshness.STALE
            self._lost_at = now

    def tick(self, now: float) -> bool:
        """Let go of those whose grace is over; return whether there were any."""
        if self.freshness is Freshness.STALE:
            return False
        before = len(self._departed)
        while self.soonest <= now:  # those that go may be why the others were kept
            spare = 0.0 if self.is_suspect else self._spare
            for id in [id for id, (_, until) in self._departed.items() if until - spare <= now]:
                self._forget(id)
        return len(self._departed) < before

    def _listed(self, listing: Listing, now: float) -> None:
        self.skipped = listing.skipped
        listed = {each.id: each for each in listing.instances}
        before, self._known = self._known, {}
        for id in before:  # those that stay keep their places
            if id in listed:
                self._put(listed[id])
        for id, instance in listed.items():
            if id not in before:
                self._put(instance)
        if len(self._known) < len(before) or before.keys() - self._known.keys():
            taken = {each.addresses for each in self._known.values()}
            for id, instance in before.items():
                if id not in self._known:
                    self._leave(instance, instance.addresses in taken, now)

    def _put(self, instance: Instance) -> None:
        self._forget(instance.id)
        if instance.id in self._known or len(self._known) < INSTANCES_MAX:
            self._known[instance.id] = instance
            for id in list(self._left.get(instance.addresses, ())):
                self._forget(id)

    def _gone(self, change: Gone, now: float) -> None:
        instance = self._known.pop(change.id, None)
        if instance is not None:
            others = (each.addresses for each in self._known.values())
            self._leave(instance, change.is_explicit or instance.addresses in others, now)
        elif change.is_explicit:
            self._forget(change.id)

    def _leave(self, instance: Instance, is_over: bool, now: float) -> None:
        if is_over or instance.state is not InstanceState.UP:
            return
        if len(self._departed) >= INSTANCES_MAX:
            self._forget(next(iter(self._departed)))
        self._departed[instance.id] = (instance, now + self._grace)
        self._left.setdefault(instance.addresses, set()).add(instance.id)

    def _forget(self, id: str) -> None:
        """Let go of one that left without a word."""
        departed = self._departed.pop(id, None)
        if departed is not None:
            there = self._left[departed[0].addresses]
            there.discard(id)
            if not there:
                del self._left[departed[0].addresses]
