"""Keep the list of a service's instances, and doubt what a registry says when it says little.

A registry that was emptied, restored from an old copy, or cut off from every server
looks like one whose servers are all gone. The servers are the better witnesses: they can
be called. So instances that leave without a word are kept for a while if they are more
than those that stay (Netflix's Eureka calls it self-preservation); whoever is gone for
good is found out by the connections.

Rules of the room:
  * time is an argument;
  * an error never shortens the list;
  * who says goodbye goes at once: withdrawn, or seen in another state than UP before.
"""

from enum import Enum
from typing import Final, final

from fastrpc.cluster.instance import INSTANCES_MAX, Instance, InstanceState
from fastrpc.cluster.registry import Change, Gone, Listing, Put

#: Seconds for which instances that left without a word are kept.
GRACE: Final = 60.0


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
        self._known: dict[str, Instance] = {}
        self._departed: dict[str, tuple[Instance, float]] = {}
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
        return min((until for _, until in self._departed.values()), default=float("inf"))

    def remember(self, instances: tuple[Instance, ...]) -> None:
        """Begin with what an earlier run knew, unless somebody has said something since."""
        if self.freshness is Freshness.UNKNOWN:
            self._known = {each.id: each for each in instances[:INSTANCES_MAX]}
            self.freshness = Freshness.REMEMBERED

    def take(self, change: Change, now: float) -> None:
        """Note what a registry says."""
        self.tick(now)
        self.freshness = Freshness.FRESH
        if isinstance(change, Listing):
            self._listed(change, now)
        elif isinstance(change, Put):
            self._put(change.instance)
        else:
            self._gone(change, now)

    def on_lost(self) -> None:
        """Note that the registry can't be asked: nobody leaves for that."""
        if self.freshness is Freshness.FRESH:
            self.freshness = Freshness.STALE

    def tick(self, now: float) -> bool:
        """Let go of those whose grace is over; return whether there were any."""
        over = [id for id, (_, until) in self._departed.items() if until <= now]
        for id in over:
            del self._departed[id]
        return bool(over)

    def _listed(self, listing: Listing, now: float) -> None:
        self.skipped = listing.skipped
        before, self._known = self._known, {}
        for instance in listing.instances:
            self._put(instance)
        for id, instance in before.items():
            if id not in self._known:
                self._leave(instance, False, now)

    def _put(self, instance: Instance) -> None:
        self._departed.pop(instance.id, None)
        if instance.id in self._known or len(self._known) < INSTANCES_MAX:
            self._known[instance.id] = instance

    def _gone(self, change: Gone, now: float) -> None:
        instance = self._known.pop(change.id, None)
        if instance is not None:
            self._leave(instance, change.is_explicit, now)

    def _leave(self, instance: Instance, is_explicit: bool, now: float) -> None:
        if not is_explicit and instance.state is InstanceState.UP:
            self._departed[instance.id] = (instance, now + self._grace)
