"""Check that a balancer behaves as the rest of the house relies on.

One suite for every balancer: ours, and anybody's own.

    def test_my_balancer():
        check_balancer(lambda seed: MyBalancer(seed), fair=(1.0, 2.0, 4.0))

Rules of the room:
  * a check uses what the `Balancer` contract has, nothing else;
  * what chance there is has a seed: a failure comes again.
"""

import random
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, Protocol

from fastrpc.cluster.balancers import Balancer, Candidate
from fastrpc.cluster.instance import Instance

__all__ = ["BALANCER_CHECKS", "Puppet", "StandIn", "check_balancer"]

#: How far from its share a member's part of the picks may be, and of how many.
_OFF: Final = 0.2
_PICKS: Final = 5000


class Puppet(Candidate, Protocol):
    """A member whose condition a check has in its hand."""

    weight: float

    def send(self) -> None:
        """Have one call more in flight."""

    def end(self) -> None:
        """Have one less."""

    def stop(self, stopped: bool = True) -> None:
        """Take no calls, or take them again."""


class StandIn:
    """A member without connections.

    Args:
        id: Of its instance.
        weight: Its share of the calls beside others.
        zone: Where it stands.
        room: Most calls it has in flight.
    """

    def __init__(self, id: str, weight: float = 1.0, zone: str = "", room: int = 1024) -> None:
        self.instance = Instance(id=id, addresses=("tcp://127.0.0.1:1",), weight=weight, zone=zone)
        self.weight = weight
        self.in_flight = 0
        self.room = room
        self.is_stopped = False

    def __repr__(self) -> str:
        """Tell which it is."""
        return f"<StandIn {self.instance.id}>"

    def takes(self) -> bool:
        """Return whether it takes a call now."""
        return not self.is_stopped and self.in_flight < self.room

    def cost(self, now: float) -> float:
        """Return calls in flight by weight; infinity if it takes none."""
        return self.in_flight / self.weight if self.takes() else float("inf")

    def send(self) -> None:
        """Have one call more in flight."""
        self.in_flight += 1

    def end(self) -> None:
        """Have one less."""
        self.in_flight -= 1

    def stop(self, stopped: bool = True) -> None:
        """Take no calls, or take them again."""
        self.is_stopped = stopped


#: Makes a balancer from the seed of its chance.
Make = Callable[[int], Balancer]
#: Makes a member from an id and a weight.
MakeMember = Callable[[str, float], Puppet]


def _expect(ok: bool, text: str) -> None:
    if not ok:
        raise AssertionError(text)


def _some(make_member: MakeMember, count: int) -> list[Puppet]:
    return [make_member(f"m{each}", 1.0) for each in range(count)]


def _pick(
    balancer: Balancer, members: Sequence[Any], key: object, avoid: Collection[Any] = ()
) -> Any:
    """Pick, and check what holds for every pick."""
    picked = balancer.pick(key, 1.0, avoid)
    takers = [member for member in members if member.takes()]
    if not takers:
        _expect(picked is None, f"{picked} was picked, and takes no call")
        return None
    if picked is None:
        raise AssertionError(f"nobody was picked, and {takers[0]} takes calls")
    _expect(any(picked is each for each in members), f"{picked} was picked, and is not listed")
    _expect(picked.takes(), f"{picked} was picked, and takes no call")
    wanted = [member for member in takers if member not in avoid]
    _expect(
        picked not in avoid or not wanted,
        f"{picked} was picked, is to be avoided, and {wanted[:1]} takes calls",
    )
    return picked


def _empty(make: Make, make_member: MakeMember, fair: Sequence[float]) -> None:
    """Nobody is picked of nobody, before the first update and after."""
    balancer = make(1)
    _expect(balancer.pick("key", 1.0) is None, "somebody was picked before any was listed")
    members = _some(make_member, 2)
    balancer.update(members, 1.0)
    balancer.update([], 1.0)
    _expect(balancer.pick("key", 1.0) is None, "somebody was picked of an empty list")
    balancer.update(members, 1.0)
    _pick(balancer, members, "key")


def _one(make: Make, make_member: MakeMember, fair: Sequence[float]) -> None:
    """The only member is picked whenever it takes a call."""
    balancer, members = make(2), _some(make_member, 1)
    balancer.update(members, 1.0)
    for number in range(20):
        _expect(_pick(balancer, members, number) is members[0], "the only one was not picked")
        members[0].send()
    members[0].stop()
    _pick(balancer, members, "key")
    members[0].stop(False)
    _pick(balancer, members, "key")
    _pick(balancer, members, "key", avoid=members)


def _full(make: Make, make_member: MakeMember, fair: Sequence[float]) -> None:
    """Who takes no call is not picked, however many these are; who takes one again, is."""
    for count in (2, 5, 40):
        balancer, members = make(3), _some(make_member, count)
        balancer.update(members, 1.0)
        for stopped in members[:-1]:
            stopped.stop()
            for number in range(3):
                _pick(balancer, members, number)
        members[-1].stop()
        for number in range(3):
            _pick(balancer, members, number)
        for back in reversed(members):
            back.stop(False)
            for number in range(3):
                _pick(balancer, members, number)


def _avoid(make: Make, make_member: MakeMember, fair: Sequence[float]) -> None:
    """Who is to be avoided is picked only if all others take no call."""
    for count in (2, 3, 20):
        balancer, members = make(4), _some(make_member, count)
        balancer.update(members, 1.0)
        for number in range(60):
            avoid = {member for place, member in enumerate(members) if (number + place) % count}
            _pick(balancer, members, number, avoid)
            _pick(balancer, members, number, [members[number % count]])
            _pick(balancer, members, number, members)
        for stopped in members[1:]:
            stopped.stop()
        _pick(balancer, members, "key", [members[0]])


def _come_and_go(make: Make, make_member: MakeMember, fair: Sequence[float]) -> None:
    """Who is listed no more is not picked; who is new is, within reason."""
    balancer, members = make(5), _some(make_member, 10)
    balancer.update(members, 1.0)
    for number in range(30):
        _pick(balancer, members, number).send()
    listed = members[3:]
    balancer.update(listed, 1.0)
    for number in range(200):
        _pick(balancer, listed, number)
    new = make_member("new", 1.0)
    listed.append(new)
    _expect(_is_picked_in_time(balancer, listed[:-1], None), "a list that changed was believed")
    balancer.update(listed, 1.0)
    _expect(_is_picked_in_time(balancer, listed, new), "a new member was not picked in 2,000 tries")


def _is_picked_in_time(balancer: Balancer, listed: Sequence[Any], wanted: Any) -> bool:
    """Say whether *wanted* is picked soon, anybody but those not listed for None."""
    for number in range(2000):
        member = _pick(balancer, listed, f"key {number}")
        member.send()
        member.end()
        if member is wanted:
            return True
    return wanted is None


def _schedule(make: Make, make_member: MakeMember, seed: int) -> list[str]:
    """Run whatever may happen in any order; return the ids that were picked."""
    chance = random.Random(seed)
    balancer = make(seed)
    everybody = [make_member(f"m{each}", 1.0) for each in range(chance.randrange(1, 30))]
    listed = everybody[:]
    balancer.update(listed, 0.0)
    in_flight: list[Any] = []
    picked = []
    for step in range(300):
        what = chance.random()
        if what < 0.04:
            listed = [each for each in everybody if chance.random() < 0.8]
            balancer.update(listed, float(step))
        elif what < 0.06:
            chance.choice(everybody).weight = chance.choice((0.1, 1.0, 3.0, 100.0))
            balancer.update(listed, float(step))
        elif what < 0.12:
            chance.choice(everybody).stop(chance.random() < 0.6)
        elif what < 0.4 and in_flight:
            in_flight.pop(chance.randrange(len(in_flight))).end()
        else:
            avoid = chance.sample(everybody, chance.choice((0, 0, 0, 1, len(everybody))))
            key = chance.choice((None, chance.randrange(50), f"user {chance.randrange(50)}"))
            member = _pick(balancer, listed, key, avoid)
            picked.append(member.instance.id if member is not None else "")
            if member is not None and chance.random() < 0.9:  # some are picked for nothing
                member.send()
                in_flight.append(member)
    return picked


def _any_order(make: Make, make_member: MakeMember, fair: Sequence[float]) -> None:
    """Lists, weights, conditions and picks in any order never lead to a wrong pick."""
    for seed in range(20):
        _schedule(make, make_member, seed)


def _repeatable(make: Make, make_member: MakeMember, fair: Sequence[float]) -> None:
    """The same seed and the same schedule give the same picks."""
    for seed in (1, 2**63, 12345):
        first, again = (_schedule(make, make_member, seed) for _ in range(2))
        _expect(first == again, f"seed {seed} gave other picks at the second time")


def _fair(make: Make, make_member: MakeMember, fair: Sequence[float]) -> None:
    """Over many calls each member is picked by its weight."""
    if not fair:
        return
    balancer = make(6)
    members = [make_member(f"m{each}", weight) for each, weight in enumerate(fair)]
    balancer.update(members, 1.0)
    counts = dict.fromkeys((member.instance.id for member in members), 0)
    for number in range(_PICKS):
        counts[_pick(balancer, members, f"key {number}").instance.id] += 1
    for member in members:
        share, count = member.weight / sum(fair), counts[member.instance.id]
        _expect(
            abs(count - share * _PICKS) <= _OFF * share * _PICKS,
            f"{member} has {share:.3f} of the weight, and {count} of {_PICKS} picks",
        )


_CHECKS: Final[dict[str, Callable[[Make, MakeMember, Sequence[float]], None]]] = {
    "empty": _empty,
    "one": _one,
    "full": _full,
    "avoid": _avoid,
    "come and go": _come_and_go,
    "any order": _any_order,
    "repeatable": _repeatable,
    "fair": _fair,
}

#: Names of the checks, each to be run alone with `only`.
BALANCER_CHECKS: Final = tuple(_CHECKS)


def check_balancer(
    make: Make,
    *,
    fair: Sequence[float] = (),
    make_member: MakeMember = StandIn,
    only: str = "",
) -> None:
    """Run the checks on balancers that *make* makes.

    Args:
        make: Makes a balancer from the seed of its chance.
        fair: Weights of members that are to be picked in proportion to them when all are
            idle and each call has another key; none for a balancer that promises no such
            thing.
        make_member: Makes a member from an id and a weight.
        only: One name of `BALANCER_CHECKS`; all of them by default.

    Raises:
        AssertionError: A check failed; the message names it and says how.
    """
    for name in [only] if only else BALANCER_CHECKS:
        try:
            _CHECKS[name](make, make_member, fair)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error
        except Exception as error:
            raise AssertionError(f"{name}: {type(error).__name__}: {error}") from error
