"""Check that the own zone comes first, and that it is not left alone with everything."""

import pytest

from fastrpc.cluster.balancers import Candidate, ConsistentHash, RoundRobin, ZoneFirst
from fastrpc.testing.balancer import StandIn


def zoned(here: int, there: int) -> list[StandIn]:
    return [
        *(StandIn(f"here{each}", zone="east") for each in range(here)),
        *(StandIn(f"there{each}", zone="west") for each in range(there)),
    ]


def local_share(balancer: ZoneFirst, count: int = 1000, *, keyed: bool = False) -> float:
    found: list[Candidate | None] = [
        balancer.pick(f"key {number}" if keyed else None, 0.0) for number in range(count)
    ]
    assert None not in found
    return sum(each is not None and each.instance.zone == "east" for each in found) / count


@pytest.mark.parametrize(
    ("usable", "known", "share"),
    [(10, 10, 1.0), (8, 10, 1.0), (5, 10, 0.7), (1, 10, 0.14), (0, 10, 0.0), (3, 0, 1.0)],
)
def test_so_much_stays_in_the_zone(usable: int, known: int, share: float) -> None:
    balancer = ZoneFirst(lambda: RoundRobin(1), "east")
    balancer.known_local = known
    balancer.update(zoned(usable, 5), 0.0)
    assert balancer.share == pytest.approx(share)
    assert local_share(balancer) == pytest.approx(share, abs=0.002)


def test_everything_stays_if_there_is_nobody_else() -> None:
    balancer = ZoneFirst(lambda: RoundRobin(1), "east")
    balancer.known_local = 10
    balancer.update(zoned(1, 0), 0.0)
    assert local_share(balancer) == 1.0


def test_others_take_what_the_zone_has_no_room_for() -> None:
    members = zoned(2, 2)
    balancer = ZoneFirst(lambda: RoundRobin(1), "east")
    balancer.update(members, 0.0)
    for member in members[:2]:
        member.stop()
    assert local_share(balancer) == 0.0


def test_who_is_to_be_avoided_is_so_in_both_zones() -> None:
    members = zoned(1, 1)
    balancer = ZoneFirst(lambda: RoundRobin(1), "east")
    balancer.update(members, 0.0)
    assert balancer.pick(None, 0.0, members[:1]) is members[1]
    assert balancer.pick(None, 0.0, members) is members[0]


def test_a_key_stays_on_its_side() -> None:
    balancer = ZoneFirst(ConsistentHash, "east")
    balancer.known_local = 4
    balancer.update(zoned(2, 4), 0.0)
    first = [balancer.pick(f"key {number}", 0.0) for number in range(200)]
    assert [balancer.pick(f"key {number}", 0.0) for number in range(200)] == first
    assert local_share(balancer, keyed=True) == pytest.approx(0.7, abs=0.05)
