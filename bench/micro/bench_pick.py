"""Pick one of a thousand members, and hear from a registry that its instances have changed.

A balancer has one line for each twin whose members it picks from. Two choices are of that
twin, too; the others are in Python, over what `fastrpc.frame` has opened, so that their
lines for pure members show no pure balancer: FASTRPC_PURE=1 does.
"""

from types import SimpleNamespace
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from fastrpc.cluster.balancers import BALANCERS, Subset
from fastrpc.cluster.instance import Instance
from fastrpc.cluster.registry import Gone, Listing, Put
from fastrpc.cluster.roll import Roll

MEMBERS = 1000
KEYS = [f"user:{number}" for number in range(20_000)]
INSTANCES = tuple(
    Instance(id=f"i{number}", addresses=(f"tcp://10.0.{number // 250}.{number % 250}:80",))
    for number in range(MEMBERS)
)


class Waiter:
    """Stands in for a future."""

    def done(self) -> bool:
        """Nobody has given up."""
        return False


def members_of(twin: SimpleNamespace) -> list[Any]:
    """Return members over lanes that take calls."""

    class Member(twin.MemberFields):  # type: ignore[misc, name-defined]
        __slots__ = ("instance",)

    share = twin.LoopShare(None, None, None, None, 0, None)
    found = []
    for instance in INSTANCES:
        lane = twin.Lane(None, share, 2**20)
        lane.ready = True
        member = Member([lane], 10.0)
        member.instance = instance
        found.append(member)
    return found


def balancer_of(twin: SimpleNamespace, name: str, members: list[Any]) -> Any:
    """Return a balancer that knows them, and has been asked for a while."""
    balancer = twin.TwoChoices(7) if name == "two_choices" else BALANCERS[name](7)
    balancer.update(members, 0.0)
    for key in KEYS:
        balancer.pick(key, 0.0)
    return balancer


@pytest.mark.parametrize("in_flight", [0, 2000])
@pytest.mark.parametrize("name", BALANCERS)
def test_pick(
    benchmark: BenchmarkFixture, twin: SimpleNamespace, name: str, in_flight: int
) -> None:
    """A thousand picks in a run, of which a census now and then is a part."""
    benchmark.group = f"1,000 picks of 1,000 members by {name}, {in_flight} calls in flight"
    members, waiter = members_of(twin), Waiter()
    balancer = balancer_of(twin, name, members)
    now = 1.0
    for key in KEYS[:in_flight]:
        balancer.pick(key, now).lanes[0].table.open(waiter)
    keys = KEYS[:1000]

    def pick_all() -> Any:
        nonlocal now
        now += 0.01
        picked = None
        for key in keys:
            picked = balancer.pick(key, now)
        return picked

    assert benchmark(pick_all) in members


@pytest.mark.parametrize("name", BALANCERS)
def test_update(benchmark: BenchmarkFixture, twin: SimpleNamespace, name: str) -> None:
    benchmark.group = f"tell {name} that one of 1,000 members came or went"
    members = members_of(twin)
    balancer = balancer_of(twin, name, members)
    lists = [members, members[:-1]]

    def tell() -> None:
        balancer.update(lists[0], 1.0)
        lists.reverse()

    benchmark(tell)


def test_put(benchmark: BenchmarkFixture) -> None:
    benchmark.group = "an instance changes or leaves, of 1,000"
    roll = Roll()
    roll.take(Listing(INSTANCES), 0.0)

    def change() -> int:
        roll.take(Gone("i500"), 0.0)
        roll.take(Put(INSTANCES[500]), 0.0)
        return len(roll.instances)

    assert benchmark(change) == MEMBERS


def test_listing(benchmark: BenchmarkFixture) -> None:
    benchmark.group = "a listing of 1,000 instances"
    roll, listing = Roll(), Listing(INSTANCES)

    def take() -> int:
        roll.take(listing, 0.0)
        return len(roll.instances)

    assert benchmark(take) == MEMBERS


def test_subset(benchmark: BenchmarkFixture) -> None:
    benchmark.group = "choose 20 of 1,000 instances for a client"
    subset = Subset("client", 20)
    assert len(benchmark(subset.choose, INSTANCES)) == 20
