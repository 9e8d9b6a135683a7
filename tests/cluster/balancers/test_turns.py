"""Check turns."""

from fastrpc.cluster.balancers import RoundRobin
from tests.cluster.balancers.members import given, picks, stand_ins


def test_everybody_has_one_turn_in_each_round() -> None:
    balancer = given(RoundRobin(3), stand_ins(7))
    rounds = [picks(balancer, 7) for _ in range(5)]
    assert all(each == rounds[0] for each in rounds)
    assert len(set(rounds[0])) == 7


def test_many_clients_begin_at_many_places() -> None:
    members = stand_ins(10)
    firsts = {picks(given(RoundRobin(seed), members), 1)[0] for seed in range(100)}
    assert len(firsts) == 10


def test_the_turn_goes_on_where_it_was_when_the_list_changes() -> None:
    members = stand_ins(6)
    balancer = given(RoundRobin(0), members)
    (last,) = picks(balancer, 1)
    order = [f"m{(int(last[1:]) + each) % 6}" for each in range(1, 6)]
    stay = [each for each in members if each.instance.id != order[0]]
    balancer.update(stay, 0.0)
    assert picks(balancer, 4) == order[1:]


def test_who_takes_no_call_is_passed_over_and_nobody_else() -> None:
    members = stand_ins(4)
    balancer = given(RoundRobin(0), members)
    members[2].stop()
    assert sorted(picks(balancer, 6)) == ["m0", "m0", "m1", "m1", "m3", "m3"]
