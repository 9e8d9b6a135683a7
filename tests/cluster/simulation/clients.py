"""The clients of a simulated world: the state machines of a cluster, put together."""

from collections import deque
from math import ceil, inf
from typing import Any

from fastrpc.cluster.arrange import arrange
from fastrpc.cluster.balancers import Balancer, ConsistentHash, ZoneFirst, make_balancer
from fastrpc.cluster.instance import Instance, InstanceState
from fastrpc.cluster.registry import Change, Listing
from fastrpc.cluster.roll import Freshness, Roll
from fastrpc.policy import Ejection, EjectionOptions, RetryBudget, Standing, is_panic
from fastrpc.policy.budget import WINDOW
from tests.cluster.simulation.servers import FakeRegistry, Server
from tests.cluster.simulation.world import World, ensure

NAMES = ("random", "round_robin", "weighted", "least_in_flight", "consistent_hash")
LOAD = 1.25
TIMEOUT = 2.0


class SimMember:
    """An instance as a simulated client sees it."""

    def __init__(self, instance: Instance, server: Server, ejection: Ejection, room: int) -> None:
        self.instance = instance
        self.server = server
        self.start = server.starts  # a connection leads to one start of a server
        self.ejection = ejection
        self.weight = instance.weight
        self.room = room
        self.in_flight = self.calls = self.errors = self.streak = 0
        self.cap = 0
        self.rests_until = -inf
        self.is_reachable = False

    @property
    def standing(self) -> Standing:
        return self.ejection.standing

    def takes(self) -> bool:
        if self.cap and self.in_flight >= self.cap:
            return False
        return self.is_reachable and self.in_flight < self.room

    def cost(self, now: float) -> float:
        return self.in_flight / self.weight if self.takes() else inf


class SimClient:
    """A client: roll, members, standings, balancer, budget; and the bounds on all of them."""

    def __init__(self, world: World, registry: FakeRegistry, servers: list[Server]) -> None:
        chance = world.chance
        self.world = world
        self.servers = {f"tcp://10.0.0.{each.number + 1}:80": each for each in servers}
        self.roll = Roll(grace=chance.choice((5.0, 60.0)))
        self.members: dict[str, SimMember] = {}
        self.options = EjectionOptions(
            in_a_row=chance.choice((3, 5)), least_calls=10, window=5.0,
            first=chance.choice((0.5, 2.0)), longest=10.0,
        )  # fmt: skip
        self.share, self.rate = chance.choice((0.0, 0.2, 0.5)), chance.choice((0.0, 0.5, 2.0))
        self.budget = RetryBudget(self.share, self.rate)
        self.name = chance.choice(NAMES)
        self.is_zoned = chance.random() < 0.2
        self.balancer: Balancer = make_balancer(self.name, chance.getrandbits(32))
        if self.is_zoned:
            self.balancer = ZoneFirst(lambda: make_balancer(self.name, 1), "east")
        self.room = chance.choice((2, 8, 100))
        self.chosen: list[SimMember] = []
        self.sent: deque[float] = deque()  # when calls began, and when retries did
        self.retried: list[float] = []
        self.begun = self.ended = self.refused = 0
        registry.watches.append(self.told)
        if not registry.is_down:
            self.told(registry.listing())

    # Who is there

    def told(self, change: Change | None) -> None:
        """Take what the registry says; None if it can't be asked any more."""
        before = set(self.ids())
        if change is None:
            self.roll.on_lost(self.world.now)
            ensure(set(self.ids()) == before, "the list became another for an error")
        else:
            self.roll.take(change, self.world.now)
            if isinstance(change, Listing):
                missing = {each.id for each in change.instances} - set(self.ids())
                ensure(not missing, f"listed and not on the list: {missing}")
        self.follow()

    def ids(self) -> list[str]:
        return [each.id for each in self.roll.instances]

    def follow(self) -> None:
        """Have a member for each instance on the list."""
        listed = {each.id: each for each in self.roll.instances}
        for id in [id for id in self.members if id not in listed]:
            del self.members[id]
        for id, instance in listed.items():
            if id in self.members:
                self.members[id].instance = instance
                continue
            server = self.servers[instance.addresses[0]]
            ejection = Ejection(self.options, self.world.chance)
            self.members[id] = SimMember(instance, server, ejection, self.room)
        self.reach()

    def reach(self) -> None:
        """See who can be reached, and tell the balancer."""
        for member in self.members.values():
            server = member.server
            member.is_reachable = server.is_up and server.starts == member.start
        self.arrange()

    def arrange(self) -> None:
        now = self.world.now
        known = [e for e in self.members.values() if e.instance.state is InstanceState.UP]
        self.chosen = arrange(known, now, self.options)
        self.balancer.update(self.chosen, now)
        out = [each for each in known if each.standing is Standing.EJECTED]
        rested = [each for each in out if each.is_reachable and now >= each.rests_until]
        unused = [each for each in rested if each not in self.chosen]
        ensure(
            not is_panic(len(unused), len(known), self.options),
            f"{len(unused)} of {len(known)} are ejected and not used",
        )
        ensure(
            bool(self.chosen) or not any(each.is_reachable for each in known),
            "somebody could be asked, and nobody is",
        )

    def look(self) -> None:
        """Do what is done every second."""
        now = self.world.now
        before, was_stale = set(self.ids()), self.roll.freshness is Freshness.STALE
        self.roll.tick(now)
        ensure(not was_stale or set(self.ids()) == before, "somebody's time ran out meanwhile")
        for member in self.members.values():
            member.ejection.look(member.calls, member.errors, member.streak, now)
        self.follow()

    # Calls

    def call(self) -> None:
        self.begun += 1
        self.sent.append(self.world.now)
        self.budget.deposit(1, self.world.now)
        chance = self.world.chance
        key = chance.choice((None, chance.randrange(5), f"user {chance.randrange(40)}"))
        self.attempt(key, [])

    def attempt(self, key: object, failed: list[SimMember]) -> None:
        """Send a call, again perhaps."""
        now = self.world.now
        picked: Any = self.balancer.pick(key, now, failed)
        takers = [each for each in self.chosen if each.takes()]
        if picked is None:
            ensure(not takers, f"nobody was picked, and {len(takers)} take calls")
            self.refused += 1
            self.ended += 1
            return
        ensure(picked in self.chosen and picked.takes(), "who was picked takes no call")
        wanted = [each for each in takers if each not in failed]
        ensure(picked not in failed or not wanted, "who was to be avoided was picked")
        self.check_standing(picked)
        if isinstance(self.balancer, ConsistentHash):
            self.check_load(picked, wanted)
        picked.in_flight += 1
        self.check_probe(picked)
        self.go(picked, key, failed)

    def check_standing(self, picked: SimMember) -> None:
        """Check that one that is ejected is called only if too few are well."""
        if picked.standing is not Standing.EJECTED:
            return
        known = [e for e in self.members.values() if e.instance.state is InstanceState.UP]
        unwell = sum(each.standing is not Standing.GOOD for each in known)
        others = [e for e in known if e.is_reachable and e.standing is not Standing.EJECTED]
        ensure(
            is_panic(unwell, len(known), self.options) or not others,
            f"an ejected one was called, and {len(others)} others are well",
        )

    def check_probe(self, picked: SimMember) -> None:
        """Check that one that is probed has no other call, if others can take it."""
        if picked.standing is not Standing.PROBED or picked.in_flight == 1:
            return
        known = [e for e in self.members.values() if e.instance.state is InstanceState.UP]
        unwell = sum(each.standing is not Standing.GOOD for each in known)
        others = [each for each in self.chosen if each.standing is Standing.GOOD]
        ensure(is_panic(unwell, len(known), self.options) or not others, "a second probe")

    def check_load(self, picked: SimMember, wanted: list[SimMember]) -> None:
        """Check the bound of calls in flight: so few members are all known exactly."""
        total = sum(each.in_flight for each in self.chosen) + 1
        weight = sum(each.weight for each in self.chosen)

        def has_room(each: SimMember) -> bool:
            bound = ceil(LOAD * total * each.weight / weight - 1e-9)
            return each.in_flight + 1 <= max(bound, 1)

        ensure(
            has_room(picked) or not any(has_room(each) for each in wanted),
            f"{picked.in_flight + 1} of {total} calls in flight at one of {len(self.chosen)}",
        )

    def go(self, member: SimMember, key: object, failed: list[SimMember]) -> None:
        """Let the call come to the server, or not."""
        server, chance = member.server, self.world.chance
        seconds = server.latency * chance.uniform(0.5, 2.0)
        if server.is_hanging:
            seconds = TIMEOUT
        is_bad = server.is_hanging or chance.random() < server.error_share

        def over() -> None:
            is_dead = not server.is_up or server.starts != member.start
            self.end(member, key, failed, is_bad or is_dead)

        self.world.after(min(seconds, TIMEOUT), over)

    def end(self, member: SimMember, key: object, failed: list[SimMember], is_bad: bool) -> None:
        member.in_flight -= 1
        ensure(member.in_flight >= 0, "a call ended twice")
        member.calls += 1
        member.errors += is_bad
        member.streak = member.streak + 1 if is_bad else 0
        before = member.standing
        now = self.world.now
        if is_bad or before is Standing.PROBED:
            counts = (member.calls, member.errors, member.streak)
            if member.ejection.look(*counts, now) is not before:
                self.arrange()
        if is_bad and self.world.chance.random() < 0.02:
            member.rests_until = now + 0.3
            self.arrange()
        if is_bad and len(failed) < 2 and self.budget.withdraw(now):
            self.retried.append(now)
            self.check_budget()
            self.attempt(key, [*failed, member])
        else:
            self.ended += 1

    def check_budget(self) -> None:
        """Check retries over windows of many lengths that end now."""
        now, retried, back = self.world.now, self.retried, 1
        saved = max(self.rate, 1.0) if self.rate else 0.0
        while back <= len(retried):
            begin = retried[-back]
            paid = sum(at >= begin - WINDOW - 1.0 for at in self.sent) * self.share
            ensure(
                back <= paid + self.rate * (now - begin) + saved + 1e-6,
                f"{back} retries in {now - begin:.3f} s; calls pay for {paid:.1f}",
            )
            back *= 2
