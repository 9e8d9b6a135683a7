"""Keep the members of a cluster: who is there, who may be picked, who is left alone.

Rules of the room:
  * the list says who exists, connections and calls say who is well;
  * the balancer knows exactly those who may be picked, and is told once a turn of the loop;
  * an instance that left ends what it has: nobody's call is cut for a list's sake;
  * if nobody is well, all are asked: a wrong judgement must not become an outage.
"""

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, final

from fastrpc.client.link import Link
from fastrpc.cluster.arrange import arrange
from fastrpc.cluster.balancers.contract import Balancer
from fastrpc.cluster.balancers.slowstart import slow_start
from fastrpc.cluster.balancers.subset import Subset
from fastrpc.cluster.balancers.zones import ZoneFirst
from fastrpc.cluster.instance import Instance, InstanceState
from fastrpc.cluster.member import Member
from fastrpc.cluster.options import ClusterOptions
from fastrpc.errors import Overloaded, RemoteError, TransportError
from fastrpc.frame import Lane
from fastrpc.policy import Standing, is_fault, pushback

__all__ = ["Fleet"]

_log = logging.getLogger("fastrpc.cluster")

#: Most instances that are dialled at once.
DIALS_MAX: Final = 64

#: So many instances may be away until all of them are dialled less often, and how much less.
AWAY: Final = 100
STRETCH_MAX: Final = 4.0

#: Seconds after which one that is still dialled does not count any more.
STEPS_ASIDE: Final = 0.2

#: Seconds between looks at standings and weights.
TICK: Final = 1.0

#: The same as long as a call shows whether somebody is well, or somebody is to be dialled.
SOON: Final = 0.1

#: Seconds for which an instance rests that refused a call and did not say how long.
REST: Final = 0.1


@final
class Fleet:
    """The members of one cluster, as one client sees them.

    Args:
        options: How to judge them.
        balancer: Told of those who may be picked.
        lanes: The client's list of lanes that take calls.
        loop: Where to run.
        make: Makes the links of a member; each tells `link_changed`.
        news: Told when something has changed.
        seed: Of chance.

    Attributes:
        members: By id of the instance.
        chosen: Those who may be picked.
        attempts_ended: How many attempts to connect have ended, as long as no lane is there.
        is_dialling: Whether one is under way, likewise.
        is_short: Whether some are listed that no connection leads to.
    """

    def __init__(
        self,
        options: ClusterOptions,
        balancer: Balancer,
        lanes: list[Lane],
        loop: asyncio.AbstractEventLoop,
        make: Callable[[Member], list[Link]],
        news: Callable[[], None],
        seed: int | None = None,
    ) -> None:
        self._options = options
        self._balancer = balancer
        self._lanes = lanes
        self._loop = loop
        self._make = make
        self._news = news
        self._rng = random.Random(seed)
        name = f"{self._rng.getrandbits(64):x}"
        self._subset = Subset(name, options.subset) if options.subset else None
        self.members: dict[str, Member] = {}
        self.chosen: list[Member] = []
        self._retired: list[Member] = []
        self._to_dial: deque[Member] = deque()
        self._dialling: dict[Member, float] = {}  # since when
        self._young: set[Member] = set()  # those that have less than their share
        self._by_lane: dict[Lane, Member] = {}
        self._soon: asyncio.Handle | None = None
        self._rest: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ended_before = 0  # calls of those that are gone
        self._is_closed = False
        self._up = 0
        self._is_stale = False  # somebody may be picked who could not, or the reverse
        self.attempts_ended = 0
        self.is_short = False
        self.is_dialling = False

    @property
    def links(self) -> list[Link]:
        """All connections, those of retired members too."""
        everyone = [*self.members.values(), *self._retired]
        return [link for member in everyone for link in member.links]

    @property
    def ended(self) -> int:
        """How many calls have ended so far, well or not."""
        members = [*self.members.values(), *self._retired]
        return self._ended_before + sum(member.calls for member in members)

    def member_of(self, lane: Lane) -> Member | None:
        """Return whose *lane* it is, if it may be picked."""
        return self._by_lane.get(lane)

    def close(self) -> None:
        """Change nothing any more."""
        self._is_closed = True
        for handle in (self._soon, self._rest, self._timer):
            if handle is not None:
                handle.cancel()

    # Who exists

    def take(self, instances: Sequence[Instance], now: float) -> None:
        """Have members for *instances*, and for no others."""
        if self._subset is not None:
            instances = self._subset.choose(instances)
        listed = {each.id: each for each in instances}
        came = now if self.members else float("-inf")
        for id, member in list(self.members.items()):
            if (found := listed.get(id)) is not member.instance:
                self._compare(member, found, now)
        for id, instance in self._mixed(listed):
            if id not in self.members:
                member = Member(instance, came, self._options.ejection, self._rng)
                self.members[id] = member
                self._to_dial.append(member)
                if self._weigh(member, now):
                    self._young.add(member)
        self.changed()
        if self._timer is None and not self._is_closed:
            self._timer = self._loop.call_later(TICK, self._tick)

    def _mixed(self, listed: dict[str, Instance]) -> list[tuple[str, Instance]]:
        """Return who is listed, in another order at each client: nobody is always first."""
        mixed = list(listed.items())
        if len(mixed) > DIALS_MAX:
            self._rng.shuffle(mixed)
        return mixed

    def _compare(self, member: Member, found: Instance | None, now: float) -> None:
        """Let *member* be as it is listed now, or go if it is somewhere else or not at all."""
        before = member.instance
        if found is None or found.addresses != before.addresses:
            self._retire(member)
        elif found != before:
            member.instance = found
            self._weigh(member, now)
            for link in member.links:
                link.hurry()

    def _retire(self, member: Member) -> None:
        del self.members[member.instance.id]
        self._young.discard(member)
        member.is_retired = True
        for link in member.links:
            link.retire()
        self._retired.append(member)

    # Who may be picked

    def changed(self) -> None:
        """Look at everybody once the loop comes round."""
        self._is_stale = True
        self._look_soon()

    def link_changed(self, member: Member) -> None:
        """Note that a link of *member* has dialled, connected or ended."""
        self._is_stale = self._is_stale or member.lanes != member.arranged
        self._look_soon()

    def stretch(self) -> float:
        """Return how much longer than planned links wait, for the sake of many that are away."""
        away = len(self.members) - self._up
        return min(max(away / AWAY, 1.0), STRETCH_MAX)

    def _look_soon(self) -> None:
        if self._soon is None and not self._is_closed:
            self._soon = self._loop.call_soon(self._arrange_soon)

    def _arrange_soon(self) -> None:
        self._soon = None
        now = time.monotonic()
        self._dial(now)
        if self._is_stale:
            self.arrange(now)
        if not self._lanes:  # somebody may wait, and wants to know whether there is hope
            links = [link for each in self.members.values() for link in each.links]
            self.attempts_ended = sum(link.ended for link in links)
            self.is_dialling = bool(self._to_dial) or any(link.is_dialling for link in links)
        self._news()

    def arrange(self, now: float) -> None:
        """Let the balancer know who may be picked at *now*."""
        options = self._options
        self._is_stale = False
        known = [each for each in self.members.values() if each.instance.state is InstanceState.UP]
        up = [each for each in known if each.is_reachable]
        self._up = len(up)
        self.is_short = len(up) < len(known)
        chosen = arrange(known, now, options.ejection)
        self.chosen = chosen
        for member in known:
            member.arranged = list(member.lanes)
        self._by_lane = {lane: member for member in chosen for lane in member.lanes}
        self._lanes[:] = self._by_lane
        if isinstance(self._balancer, ZoneFirst):
            zone = options.zone
            self._balancer.known_local = sum(each.instance.zone == zone for each in known)
        try:
            self._balancer.update(chosen, now)
        except Exception:  # it may be the user's
            _log.exception("the balancer failed, and goes by what it knew before")
        self._wake_at(min((each.rests_until for each in up if each.rests_until > now), default=0.0))

    def _wake_at(self, when: float) -> None:
        """Look again when the first of those that rest has rested."""
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        if when:
            self._rest = self._loop.call_later(max(when - time.monotonic(), 0.0), self.changed)

    def _dial(self, now: float) -> None:
        """Begin to connect to as many as may be dialled at once.

        Who does not answer at once gives his place to the next: many that hang must not keep
        a client from those that are well.
        """
        self._dialling = {
            member: began
            for member, began in self._dialling.items()
            if now - began < STEPS_ASIDE and any(link.is_dialling for link in member.links)
        }
        while self._to_dial and len(self._dialling) < DIALS_MAX:
            member = self._to_dial.popleft()
            if not member.is_retired:
                member.connect(self._make)
                self._dialling[member] = now

    def _tick(self) -> None:
        """Look at standings and weights; let go of those that have ended everything."""
        now = time.monotonic()
        moved = [member for member in self.members.values() if self._judge(member, now)]
        if self._grow(now) or moved or self._to_dial:
            self.changed()
        for member in [each for each in self._retired if all(link.is_over for link in each.links)]:
            self._retired.remove(member)
            self._ended_before += member.calls
        is_busy = bool(self._to_dial) or any(
            each.standing is Standing.PROBED for each in self.members.values()
        )
        self._timer = self._loop.call_later(SOON if is_busy else TICK, self._tick)

    def _judge(self, member: Member, now: float) -> bool:
        has_changed = member.look(now)
        if has_changed and member.standing is Standing.PROBED:
            member.seen = member.latency = 0.0  # what it was like when it was ill says nothing
        return has_changed

    def _grow(self, now: float) -> bool:
        """Let those that joined lately come to their share; return whether any weight changed."""
        young, self._young = self._young, set()
        moved = False
        for member in young:
            before = member.weight
            if self._weigh(member, now):
                self._young.add(member)
            moved = moved or member.weight != before
        return moved

    def _weigh(self, member: Member, now: float) -> bool:
        """Give a member its weight; return whether that is less than it will have."""
        factor = slow_start(member.came, now, self._options.slow_start)
        member.weight = member.instance.weight * factor
        return factor < 1.0

    # How calls ended

    def failed(self, member: Member, error: BaseException, started: float, now: float) -> None:
        """Note that a call to *member* ended with *error*."""
        if isinstance(error, Overloaded):
            self._let_rest(member, pushback(error) or REST, now)
        elif is_fault(error) and self._counts(error):
            member.fault(now - started, now, isinstance(error, TransportError))
            if asked := pushback(error):
                self._let_rest(member, asked, now)
            if self._judge(member, now):
                self.changed()
        else:
            member.note(now - started, now)
        if member.standing is Standing.PROBED and self._judge(member, now):
            self.changed()

    def _counts(self, error: BaseException) -> bool:
        ejection = self._options.ejection
        return ejection is None or ejection.handler_errors or not isinstance(error, RemoteError)

    def _let_rest(self, member: Member, seconds: float, now: float) -> None:
        is_new = member.rests_until <= now
        member.rests_until = max(member.rests_until, now + seconds)
        if is_new:
            self.changed()
