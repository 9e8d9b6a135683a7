"""Check that turns are by weight, and spread out."""

from collections import Counter

from hypothesis import given as given_these
from hypothesis import settings
from hypothesis import strategies as st

from fastrpc.cluster.balancers import SmoothWeighted
from fastrpc.testing.balancer import StandIn
from tests.cluster.balancers.members import given, picks, stand_ins


def weighing(*weights: float) -> list[StandIn]:
    members = stand_ins(len(weights))
    for member, weight in zip(members, weights, strict=True):
        member.weight = weight  # lighter than an instance may be, as some joining ones are
    return members


@settings(max_examples=60)
@given_these(st.lists(st.integers(1, 1000) | st.floats(0.01, 100.0), min_size=1, max_size=12))
def test_after_any_number_of_picks_nobody_is_one_away_from_its_share(weights: list[float]) -> None:
    balancer = given(SmoothWeighted(), weighing(*weights))
    counts, total = Counter[str](), sum(weights)
    for turn, id in enumerate(picks(balancer, 300), start=1):
        counts[id] += 1
        for place, weight in enumerate(weights):
            assert abs(counts[f"m{place}"] - turn * weight / total) < 1.0 + 1e-6


def test_one_that_weighs_as_much_as_all_others_has_every_second_turn() -> None:
    balancer = given(SmoothWeighted(), weighing(100.0, *[1.0] * 100))
    found = picks(balancer, 200)
    assert [id == "m0" for id in found] in ([True, False] * 100, [False, True] * 100)
    assert set(Counter(found).values()) == {1, 100}


def test_new_weights_begin_where_the_old_ones_ended() -> None:
    members = stand_ins(10)
    balancer = given(SmoothWeighted(), members)
    found = []
    for step in range(40):  # told of weights more often than a round takes
        members[0].weight = 1.0 + step / 1000
        balancer.update(members, 0.0)
        found += picks(balancer, 3)
    counts = Counter(found)
    assert len(counts) == 10
    assert max(counts.values()) - min(counts.values()) <= 2


def test_who_joins_gets_its_share_and_no_more() -> None:
    members = stand_ins(5)
    balancer = given(SmoothWeighted(), members)
    picks(balancer, 1000)
    balancer.update([*members, StandIn("new")], 0.0)
    counts = Counter(picks(balancer, 60))
    assert 9 <= counts["new"] <= 11


def test_many_clients_begin_at_many_places_by_weight() -> None:
    members = weighing(8.0, 4.0, 2.0, 1.0, 1.0)
    firsts = Counter(picks(given(SmoothWeighted(seed), members), 1)[0] for seed in range(800))
    assert len(firsts) == 5
    assert 320 <= firsts["m0"] <= 480


def test_weights_of_any_size_are_borne() -> None:
    balancer = given(SmoothWeighted(1), weighing(1e-300, 1e4, 1.0))
    assert Counter(picks(balancer, 2000))["m1"] > 1990


def test_who_takes_no_call_loses_its_turns_and_does_not_claim_them_later() -> None:
    members = stand_ins(4)
    balancer = given(SmoothWeighted(), members)
    members[0].stop()
    assert "m0" not in picks(balancer, 100)
    members[0].stop(False)
    assert Counter(picks(balancer, 40))["m0"] <= 11
