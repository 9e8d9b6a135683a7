"""Check that every balancer that has a name keeps the contract."""

from types import SimpleNamespace

import pytest

from fastrpc.cluster.balancers import BALANCERS, Balancer, ZoneFirst, make_balancer
from fastrpc.errors import ConfigError
from fastrpc.frame import COMPILED
from fastrpc.testing.balancer import check_balancer
from tests.cluster.balancers.members import FAIR, puppet_class

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
