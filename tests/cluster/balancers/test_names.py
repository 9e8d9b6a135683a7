"""Check that every balancer that has a name keeps the contract."""

from types import SimpleNamespace

import pytest

from fastrpc.cluster.balancers import BALANCERS, Balancer, ZoneFirst, make_balancer
from fastrpc.errors import ConfigError
from fastrpc.frame import COMPILED
from fastrpc.testing.balancer import StandIn, check_balancer
from tests.cluster.balancers.members import FAIR, picks, puppet_class, stand_ins

OURS = [name for name in BALANCERS if name != "two_choices"]


@pytest.mark.slow
@pytest.mark.parametrize("name", OURS)
def test_each_keeps_the_contract(name: str) -> None:
    check_balancer(BALANCERS[name], fair=FAIR[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["least_in_flight"])
def test_it_keeps_it_with_members_of_both_twins(name: str, twin: SimpleNamespace) -> None:
    check_balancer(BALANCERS[name], fair=FAIR[name], make_member=puppet_class(twin))


@pytest.mark.slow
def test_two_choices_keeps_it_in_both_twins(twin: SimpleNamespace) -> None:
    check_balancer(twin.TwoChoices, fair=FAIR["two_choices"], make_member=puppet_class(twin))
    if twin.COMPILED is COMPILED:
        check_balancer(BALANCERS["two_choices"], make_member=puppet_class(twin), only="any order")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["weighted", "consistent_hash"])
def test_each_keeps_it_behind_zones(name: str) -> None:
    check_balancer(lambda seed: ZoneFirst(lambda: make_balancer(name, seed), "here"))


def test_every_name_makes_another_balancer() -> None:
    made = [make_balancer(name) for name in BALANCERS]
    assert len({type(each) for each in made}) == len(BALANCERS)
    assert all(isinstance(each, Balancer) for each in made)


def test_a_name_that_there_is_not_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="two_choices, random, .*got 'best'"):
        make_balancer("best")


@pytest.mark.parametrize("weight", [0.0, float("nan"), float("inf"), 1e-310, -1.0])
@pytest.mark.parametrize("name", OURS)
def test_an_update_that_fails_leaves_a_whole_balancer(name: str, weight: float) -> None:
    """Whoever weighs nothing may be refused, but the next picks find old members or new."""
    members = stand_ins(4)
    wrong = StandIn("wrong")
    wrong.weight = weight
    for balancer in (make_balancer(name, 1), ZoneFirst(lambda: make_balancer(name, 1), "")):
        balancer.update(members, 0.0)
        picks(balancer, 10)
        try:
            balancer.update([wrong, *members[1:]], 1.0)
        except (ArithmeticError, ValueError):
            assert set(picks(balancer, 40, 2.0)) <= {each.instance.id for each in members}
        else:
            picks(balancer, 40, 2.0)
        balancer.update(members[:2], 3.0)
        assert set(picks(balancer, 40, 4.0)) == {"m0", "m1"}
