"""Check choice by chance."""

from collections import Counter

import pytest

from fastrpc.cluster.balancers import Random
from fastrpc.testing.balancer import StandIn
from tests.cluster.balancers.members import given, picks, stand_ins


def test_all_are_chosen_alike() -> None:
    counts = Counter(picks(given(Random(1), stand_ins(20)), 20_000))
    assert len(counts) == 20
    assert max(counts.values()) / min(counts.values()) < 1.25


def test_weights_count_and_change_with_the_next_update() -> None:
    members = [StandIn("light", 1.0), StandIn("heavy", 9.0)]
    balancer = given(Random(1), members)
    assert Counter(picks(balancer, 5000))["heavy"] == pytest.approx(4500, abs=100)
    members[0].weight = 9.0
    balancer.update(members, 0.0)
    assert Counter(picks(balancer, 5000))["heavy"] == pytest.approx(2500, abs=150)


def test_another_seed_chooses_others() -> None:
    one, other = (picks(given(Random(seed), stand_ins(50)), 30) for seed in (1, 2))
    assert one != other
