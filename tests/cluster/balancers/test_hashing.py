"""Check that keys keep to their members, as far as the bound allows."""

import random
from collections import Counter
from math import ceil

import pytest
from hypothesis import given as given_these
from hypothesis import settings
from hypothesis import strategies as st

from fastrpc.cluster.balancers import ConsistentHash
from fastrpc.cluster.balancers.ring import Ring, place_of
from fastrpc.errors import ConfigError
from fastrpc.testing.balancer import StandIn
from tests.cluster.balancers.members import given, picks, stand_ins


def test_a_key_goes_to_one_member_whoever_asks_and_in_whatever_order_they_are_listed() -> None:
    members = stand_ins(30)
    one, other = (
        given(ConsistentHash(seed=1), members),
        given(ConsistentHash(seed=2), members[::-1]),
    )
    assert picks(one, 300) == picks(other, 300)
    assert one.pick("key 5", 9.0) is one.pick("key 5", 99.0)


def test_a_key_goes_to_the_first_on_the_ring_from_its_place_on() -> None:
    members, ring = stand_ins(9), Ring()
    ring.update({member.instance.id: member.weight for member in members})
    owners = [next(ring.walk(place_of(f"key {number}"))) for number in range(600)]
    balancer = given(ConsistentHash(seed=1), members)
    for _ in range(2):  # sectors are not made yet, and are
        assert picks(balancer, 600) == owners


def test_calls_without_a_key_go_anywhere() -> None:
    balancer = given(ConsistentHash(seed=1), stand_ins(10))
    found = {balancer.pick(None, 0.0) for _ in range(300)}
    assert len(found) == 10


def test_a_key_that_all_ask_for_is_shared_out_when_its_member_has_enough() -> None:
    members = stand_ins(10)
    balancer = given(ConsistentHash(), members)
    for sent in range(1, 101):
        member = balancer.pick("hot", 0.0)
        assert isinstance(member, StandIn)
        member.send()
        assert max(each.in_flight for each in members) <= ceil(1.25 * sent / 10)


@settings(max_examples=40)
@given_these(
    st.lists(st.sampled_from([0.5, 1.0, 1.0, 3.0]), min_size=1, max_size=7),
    st.integers(0, 2**32),
    st.sampled_from([1.01, 1.25, 2.0]),
)
def test_the_bound_is_never_broken(weights: list[float], seed: int, load: float) -> None:
    chance = random.Random(seed)
    members = [StandIn(f"m{place}", weight) for place, weight in enumerate(weights)]
    balancer = given(ConsistentHash(load), members)
    sent: list[StandIn] = []
    for _ in range(120):
        if sent and chance.random() < 0.35:
            sent.pop(chance.randrange(len(sent))).end()
            continue
        member = balancer.pick(chance.choice((None, "hot", chance.randrange(9))), 0.0)
        assert isinstance(member, StandIn)
        member.send()
        sent.append(member)
        bound = ceil(load * len(sent) * member.weight / sum(weights) - 1e-9)
        assert member.in_flight <= max(bound, 1)


def test_of_many_it_holds_for_what_was_in_flight_since_the_last_census() -> None:
    chance, members = random.Random(1), stand_ins(200)
    balancer = given(ConsistentHash(), members)
    sent: list[StandIn] = []
    most: list[int] = []
    for _ in range(4000):
        while len(sent) > 600 and chance.random() < 0.8:
            sent.pop(chance.randrange(len(sent))).end()
        member = balancer.pick(chance.randrange(100), 0.0)
        assert isinstance(member, StandIn)
        member.send()
        sent.append(member)
        most.append(len(sent))
        known = max(most[-50:]) + 50  # what ended since is not known to have
        assert member.in_flight <= ceil(1.25 * known / 200)


def test_when_a_member_leaves_its_keys_alone_move() -> None:
    members = stand_ins(20)
    balancer = given(ConsistentHash(), members)
    before = picks(balancer, 3000)
    balancer.update(members[1:], 0.0)
    moved = [old for old, new in zip(before, picks(balancer, 3000), strict=True) if old != new]
    assert set(moved) == {"m0"}
    assert len(moved) <= 3000 * 1.2 / 20


def test_keys_of_one_that_takes_no_call_go_to_the_next_and_come_back() -> None:
    members = stand_ins(20)
    balancer = given(ConsistentHash(), members)
    before = picks(balancer, 500)
    members[3].stop()
    between = picks(balancer, 500)
    assert all(new == old or old == "m3" for old, new in zip(before, between, strict=True))
    assert len(Counter(new for old, new in zip(before, between, strict=True) if old == "m3")) > 3
    members[3].stop(False)
    assert picks(balancer, 500) == before


@pytest.mark.parametrize("load", [1.0, 0.5, float("inf"), float("nan"), True])
def test_a_load_of_no_sense_is_refused(load: float) -> None:
    with pytest.raises(ConfigError, match="load"):
        ConsistentHash(load)


def test_a_key_of_no_sense_is_refused() -> None:
    balancer = given(ConsistentHash(), stand_ins(2))
    with pytest.raises(ConfigError, match="a key is"):
        balancer.pick(object(), 0.0)
