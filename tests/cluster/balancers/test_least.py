"""Check that the least loaded is chosen."""

import random
from collections import Counter, deque

from hypothesis import given as given_these
from hypothesis import settings
from hypothesis import strategies as st

from fastrpc.cluster.balancers import LeastInFlight
from fastrpc.testing.balancer import StandIn
from tests.cluster.balancers.members import given, picks, stand_ins


def send(balancer: LeastInFlight, now: float = 0.0) -> StandIn:
    member = balancer.pick(None, now)
    assert isinstance(member, StandIn)
    member.send()
    return member


@settings(max_examples=40)
@given_these(st.integers(1, 7), st.integers(0, 2**32))
def test_of_few_it_is_always_one_of_the_least(count: int, seed: int) -> None:
    chance, members = random.Random(seed), stand_ins(count)
    balancer, sent = LeastInFlight(seed), []
    balancer.update(members, 0.0)
    for _ in range(100):
        if sent and chance.random() < 0.4:
            sent.pop(chance.randrange(len(sent))).end()
            continue
        least = min(member.in_flight for member in members)
        sent.append(send(balancer))
        assert sent[-1].in_flight == least + 1


def test_of_many_none_was_better_all_through_the_last_census() -> None:
    chance, members = random.Random(1), stand_ins(80)
    balancer = LeastInFlight(1)
    balancer.update(members, 0.0)
    history: deque[list[int]] = deque(maxlen=2 * 80 // 4)  # before and after each pick
    sent = []
    for _ in range(1000):
        while len(sent) > 160 and chance.random() < 0.7:
            sent.pop(chance.randrange(len(sent))).end()
        history.append([member.in_flight for member in members])
        worst = min(max(each) for each in zip(*history, strict=True))
        sent.append(send(balancer))
        assert sent[-1].in_flight - 1 <= worst
        history.append([member.in_flight for member in members])


def test_idle_members_have_turns() -> None:
    balancer = given(LeastInFlight(1), stand_ins(20))
    for now in range(5):  # a census begins each round
        assert len(set(picks(balancer, 20, float(now)))) == 20


def test_one_that_is_slow_gets_no_more_than_others_have_open() -> None:
    members = stand_ins(10)
    balancer = LeastInFlight(1)
    balancer.update(members, 0.0)
    counts = Counter[str]()
    for number in range(500):
        member = send(balancer, number / 100)
        counts[member.instance.id] += 1
        if member is not members[0]:
            member.end()
    assert counts["m0"] <= 2


def test_weights_count() -> None:
    members = [StandIn("light", 1.0), StandIn("heavy", 3.0)]
    balancer = LeastInFlight(1)
    balancer.update(members, 0.0)
    for _ in range(400):
        send(balancer)
    assert members[1].in_flight in range(296, 305)


def test_calls_that_others_send_are_seen() -> None:
    members = stand_ins(50)
    balancer = LeastInFlight(1)
    balancer.update(members, 0.0)
    for member in members[:49]:
        member.in_flight = 5
    assert [send(balancer) is members[49] for _ in range(4)] == [True] * 4
