"""Members for tests of balancers: stand-ins, and those of both twins."""

from types import SimpleNamespace
from typing import Any

from fastrpc.cluster.balancers import Balancer
from fastrpc.cluster.instance import Instance
from fastrpc.testing.balancer import StandIn

#: Weights that a balancer keeps to when all are idle.
FAIR = {
    "random": (1.0, 2.0, 4.0),
    "weighted": (1.0, 2.0, 4.0, 0.5),
    "consistent_hash": (1.0, 2.0, 4.0),
    "round_robin": (1.0, 1.0, 1.0),
    "least_in_flight": (1.0, 1.0, 1.0, 1.0),
    "two_choices": (1.0, 1.0, 1.0, 1.0),
}


def stand_ins(count: int, *, weight: float = 1.0) -> list[StandIn]:
    return [StandIn(f"m{each}", weight) for each in range(count)]


def given(balancer: Balancer, members: list[Any], now: float = 0.0) -> Balancer:
    balancer.update(members, now)
    return balancer


def picks(balancer: Balancer, count: int, now: float = 0.0) -> list[str]:
    """Return the ids of so many picks, each with another key, of calls that end at once."""
    found = []
    for number in range(count):
        member = balancer.pick(f"key {number}", now)
        assert member is not None
        found.append(member.instance.id)
    return found


class Waiter:
    """Stands in for a future."""

    def done(self) -> bool:
        return False


WAITER = Waiter()


def puppet_class(twin: SimpleNamespace) -> Any:
    """Return a class of members like `cluster.Member`, over one lane of a twin."""

    class Puppet(twin.MemberFields):  # type: ignore[misc, name-defined]
        __slots__ = ("instance", "open")

        def __init__(self, id: str, weight: float = 1.0) -> None:
            share = twin.LoopShare(None, None, None, None, 0, None)
            lane = twin.Lane(None, share, 2**20)
            lane.ready = True
            super().__init__([lane], 10.0, weight)
            self.instance = Instance(id=id, addresses=("tcp://127.0.0.1:1",))
            self.open: list[int] = []

        def send(self) -> None:
            self.open.append(self.lanes[0].table.open(WAITER))

        def end(self) -> None:
            self.lanes[0].table.take(self.open.pop())

        def stop(self, stopped: bool = True) -> None:
            self.lanes[0].ready = not stopped

    return Puppet
