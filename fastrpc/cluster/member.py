"""Keep what a client knows of one instance: connections, how calls went, its standing."""

import math
import random
from collections.abc import Callable
from enum import Enum
from typing import Final, final

from fastrpc.client.link import Link
from fastrpc.client.stats import InstanceStats
from fastrpc.cluster.instance import Instance, InstanceState
from fastrpc.frame import Lane, MemberFields
from fastrpc.policy import Ejection, EjectionOptions, Standing

__all__ = ["Member", "MemberState"]

#: Seconds in which what was observed of latency counts for less than half: Finagle's decay.
DECAY: Final = 10.0

#: Connections that end together are one fault: so soon after one, another is not counted.
ONE_FAULT: Final = 0.05


class MemberState(Enum):
    """What an instance is to a client."""

    DIALLING = "dialling"  # no connection yet, or none any more
    READY = "ready"
    RESTING = "resting"  # asked to be left alone for a while
    EJECTED = "ejected"
    PROBED = "probed"  # was ejected; one call at a time shows whether it is well
    LEAVING = "leaving"  # said goodbye: it gets no new calls
    RETIRED = "retired"  # not in the list any more; ends what it has


@final
class Member(MemberFields):
    """One instance, as a client sees it.

    Attributes:
        instance: What the registry says of it.
        links: The connections to it.
        came: When it was first listed; minus infinity if it was there from the start.
        ejection: Its standing, if there is such a thing.
        arranged: Its lanes when it was looked at last whether it may be picked.
        rests_until: When it may be asked again, if it wanted to be left alone.
    """

    __slots__ = (
        "_lost_at", "arranged", "came", "ejection", "instance", "is_retired", "links",
        "rests_until",
    )  # fmt: skip

    def __init__(
        self,
        instance: Instance,
        came: float,
        ejection: EjectionOptions | None,
        rng: random.Random,
    ) -> None:
        lanes: list[Lane] = []
        super().__init__(lanes, DECAY, instance.weight)
        self.instance = instance
        self.links: list[Link] = []
        self.came = came
        self.ejection = Ejection(ejection, rng) if ejection is not None else None
        self.rests_until = -math.inf
        self.is_retired = False
        self.arranged: list[Lane] = []
        self._lost_at = -math.inf

    def __repr__(self) -> str:
        """Tell the instance."""
        return f"<Member {self.instance.id} {self.instance.addresses[0]}>"

    @property
    def standing(self) -> Standing:
        """How it stands."""
        return self.ejection.standing if self.ejection is not None else Standing.GOOD

    @property
    def is_reachable(self) -> bool:
        """Whether there is a connection to it."""
        return bool(self.lanes)

    def state(self, now: float) -> MemberState:
        """Return what it is to the client at *now*."""
        if self.is_retired:
            return MemberState.RETIRED
        if self.instance.state is not InstanceState.UP:
            return MemberState.LEAVING
        if not self.lanes:
            return MemberState.DIALLING
        if self.standing is not Standing.GOOD:
            return MemberState(self.standing.value)
        return MemberState.RESTING if now < self.rests_until else MemberState.READY

    def look(self, now: float) -> bool:
        """Judge it by how its calls went; return whether its standing has changed."""
        if self.ejection is None:
            return False
        before = self.ejection.standing
        return self.ejection.look(self.calls, self.errors, self.streak, now) is not before

    def fault(self, seconds: float, now: float, is_loss: bool) -> None:
        """Note a call that failed through the instance's fault.

        Args:
            seconds: How long it took.
            now: Time of the clock.
            is_loss: Whether the connection broke; all its calls fail then, and that is one
                fault.
        """
        if is_loss:
            if now - self._lost_at < ONE_FAULT:
                return
            self._lost_at = now
        self.blame(max(seconds, self.latency), now)  # quick to fail is not quick

    def stats(self, now: float) -> InstanceStats:
        """Return what is known of it."""
        instance = self.instance
        return InstanceStats(
            id=instance.id,
            address=instance.addresses[0],
            state=self.state(now).value,
            zone=instance.zone,
            weight=self.weight,
            in_flight=self.in_flight,
            latency=self.latency,
            calls=self.calls,
            errors=self.errors,
        )

    def connect(self, make: Callable[["Member"], list[Link]]) -> None:
        """Begin to connect, unless that is under way."""
        if not self.links:
            self.links = make(self)
        for link in self.links:
            link.begin()
