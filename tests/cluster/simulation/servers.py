"""The registry and the servers of a simulated world."""

from collections.abc import Callable
from math import inf

from fastrpc.cluster.instance import Instance, InstanceState
from fastrpc.cluster.reconcile import RETRY_CAP, SOONEST, Belief, Reconcile
from fastrpc.cluster.registry import Change, Gone, Listing, Put
from tests.cluster.simulation.world import World, ensure

TTL = 6.0

Watch = Callable[[Change | None], None]


class FakeRegistry:
    """Entries with owners and a time to live; it may be down, and then answers nobody."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.entries: dict[str, tuple[object, Instance, float]] = {}
        self.is_down = False
        self.watches: list[Watch] = []

    def listing(self) -> Listing:
        return Listing(tuple(entry[1] for entry in self.entries.values()))

    def put(self, owner: object, instance: Instance) -> None:
        before = self.entries.get(instance.id)
        self.entries[instance.id] = (owner, instance, self.world.now + TTL)
        if before is None or before[1] != instance:
            self.tell(Put(instance))

    def drop(self, id: str, is_explicit: bool) -> None:
        if self.entries.pop(id, None) is not None:
            self.tell(Gone(id, is_explicit))

    def expire(self) -> None:
        now = self.world.now
        for id in [id for id, entry in self.entries.items() if entry[2] <= now]:
            self.drop(id, False)

    def tell(self, change: Change) -> None:
        if not self.is_down:
            for watch in self.watches:
                watch(change)

    def go_down(self) -> None:
        if not self.is_down:
            self.is_down = True
            for watch in self.watches:
                watch(None)

    def come_back(self) -> None:
        if self.is_down:
            self.is_down = False
            self.expire()
            self.tell(self.listing())


class Server:
    """One server: it keeps its entry there by `Reconcile`, and answers calls as it can."""

    def __init__(self, world: World, registry: FakeRegistry, number: int) -> None:
        self.world = world
        self.registry = registry
        self.number = number
        self.starts = 0
        self.is_up = False
        self.latency = 0.01
        self.error_share = 0.0
        self.is_hanging = False
        self.asked_at = -inf
        self.failed_at = -inf
        self.hurried_at = -inf  # when something happened that may hurry a statement
        self.start()

    def start(self) -> None:
        """Begin as a new instance at the same address."""
        self.starts += 1
        self.is_up = True
        self.latency, self.error_share, self.is_hanging = 0.01, 0.0, False
        self.owner = object()
        chance = self.world.chance
        self.instance = Instance(
            id=f"s{self.number}-{self.starts}",
            addresses=(f"tcp://10.0.0.{self.number + 1}:80",),
            weight=chance.choice((1.0, 1.0, 1.0, 2.0, 0.5)),
            zone=chance.choice(("east", "west")),
        )
        self.reconcile = Reconcile(TTL, chance)
        self.asked_at = self.failed_at = -inf
        self.is_asking = False
        self.hurried_at = self.world.now
        self.state_when_due()

    def crash(self) -> None:
        """Be gone without a word."""
        self.is_up = False
        self.owner = object()  # whatever is still under way is nobody's

    def lose_session(self) -> None:
        """Have the registry let go of everything of ours, and be told."""
        if self.is_up and not self.registry.is_down:
            self.registry.drop(self.instance.id, False)
            self.reconcile.on_lost(self.world.now)
            self.hurried_at = self.world.now
            self.state_when_due()

    def leave(self) -> None:
        """Say goodbye: draining first, then gone."""
        if not self.is_up:
            return
        self.instance = self.instance.with_state(InstanceState.DRAINING)
        owner, instance = self.owner, self.instance
        if not self.registry.is_down:
            self.registry.put(owner, instance)
            self.registry.drop(instance.id, True)
        self.reconcile.on_withdrawn()
        ensure(self.reconcile.due == inf, "somebody who has withdrawn is due")
        self.world.after(0.5, lambda: self.crash() if self.owner is owner else None)

    def state_when_due(self) -> None:
        due = self.reconcile.due
        if due == inf:
            return
        owner = self.owner
        self.world.after(max(due - self.world.now, 0.0), lambda: self.state(owner, due))

    def state(self, owner: object, due: float) -> None:
        """State the entry, if that is still what is due."""
        if self.owner is not owner or self.reconcile.due != due or self.is_asking:
            return
        now = self.world.now
        if self.hurried_at <= self.asked_at:
            # Nothing has happened since the last statement but its outcome.
            least = 0.08 if self.failed_at >= self.asked_at else max(TTL / 3, SOONEST) * 0.9
            ensure(now - self.asked_at >= least - 1e-9, f"asked {now - self.asked_at} s after")
        self.asked_at, self.is_asking = now, True
        delay = self.world.chance.uniform(0.0, 0.2)
        self.world.after(delay, lambda: self.stated(owner, now, self.registry.is_down))

    def stated(self, owner: object, asked: float, was_down: bool) -> None:
        if self.owner is not owner or self.reconcile.due == inf:
            return
        self.is_asking = False
        now = self.world.now
        if was_down or self.registry.is_down:
            self.reconcile.on_failed(now)
            self.failed_at = now
            ensure(now < self.reconcile.due <= now + RETRY_CAP * 1.2, "a retry that is late")
        else:
            self.registry.put(owner, self.instance)
            self.reconcile.on_stated(asked, now)
        self.state_when_due()

    def check(self) -> None:
        """Check that what is believed is so."""
        now = self.world.now
        if self.is_up and self.reconcile.belief(now) is Belief.HELD:
            entry = self.registry.entries.get(self.instance.id)
            ensure(entry is not None and entry[0] is self.owner, "held, and not there")
            ensure(entry is not None and entry[2] >= now, "held, and expired")
