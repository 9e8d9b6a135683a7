"""Check when an entry is stated again, and what its owner may believe of it."""

import random
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrpc.cluster.reconcile import LATEST, LOSS_SPREAD, RETRY_CAP, SOONEST, Belief, Reconcile

ABSENT, HELD, DOUBTED, WITHDRAWN = Belief.ABSENT, Belief.HELD, Belief.DOUBTED, Belief.WITHDRAWN


def entry(ttl: float = 15.0, seed: int = 1) -> Reconcile:
    return Reconcile(ttl, random.Random(seed))


def test_it_is_due_at_once_and_believed_in_only_when_confirmed() -> None:
    it = entry()
    assert it.due <= 0.0
    assert it.belief(0.0) is ABSENT
    it.on_stated(10.0, 10.2)
    assert it.belief(10.2) is HELD


def test_the_promise_runs_from_when_it_was_asked_for() -> None:
    it = entry(15.0)
    it.on_stated(10.0, 14.0)
    assert it.belief(24.999) is HELD
    assert it.belief(25.0) is DOUBTED


@pytest.mark.parametrize(("ttl", "every"), [(15.0, 5.0), (3.0, 1.0), (0.6, SOONEST), (inf, LATEST)])
def test_it_is_renewed_three_times_in_its_life_give_or_take_a_tenth(
    ttl: float, every: float
) -> None:
    dues = []
    for seed in range(50):
        it = entry(ttl, seed)
        it.on_stated(100.0, 100.0)
        dues.append(it.due - 100.0)
    assert every * 0.9 <= min(dues) < every * 0.95
    assert every * 1.05 < max(dues) <= every * 1.1


def test_failures_wait_longer_and_longer_up_to_the_cap() -> None:
    it, waits = entry(), []
    for _ in range(20):
        it.on_failed(0.0)
        waits.append(it.due)
    assert 0.08 <= waits[0] <= 0.12
    assert max(waits) <= RETRY_CAP * 1.2
    assert min(waits[10:]) >= RETRY_CAP * 0.8
    it.on_stated(1.0, 1.0)
    it.on_failed(2.0)
    assert it.due - 2.0 <= 0.12


def test_failures_alone_take_nothing_from_what_is_believed() -> None:
    it = entry(15.0)
    it.on_stated(0.0, 0.0)
    it.on_failed(5.0)
    assert it.belief(14.9) is HELD
    assert it.belief(15.0) is DOUBTED


def test_a_loss_is_believed_at_once_and_stated_soon_each_owner_in_its_own_moment() -> None:
    dues = set()
    for seed in range(100):
        it = entry(seed=seed)
        it.on_stated(0.0, 0.0)
        it.on_lost(1.0)
        assert it.belief(1.0) is DOUBTED
        assert 1.0 <= it.due <= 1.0 + LOSS_SPREAD
        dues.add(it.due)
    assert len(dues) == 100
    assert max(dues) - min(dues) > LOSS_SPREAD / 2


def test_a_loss_does_not_hurry_who_fails_already() -> None:
    it = entry()
    for _ in range(10):
        it.on_failed(0.0)
    due = it.due
    it.on_lost(0.1)
    it.on_changed(0.2)
    assert it.due == due > 1.0


def test_what_was_stated_before_a_loss_is_stated_again() -> None:
    it = entry()
    it.on_stated(0.0, 0.1)
    it.on_lost(5.0)
    due = it.due
    it.on_stated(4.9, 5.05)  # asked of the session that was lost
    assert it.belief(5.05) is DOUBTED
    assert it.due == due
    it.on_stated(due, due + 0.01)
    assert it.belief(due + 0.01) is HELD


def test_a_change_is_due_at_once() -> None:
    it = entry()
    it.on_stated(0.0, 0.0)
    it.on_changed(1.0)
    assert it.due == 1.0


def test_who_has_withdrawn_states_nothing() -> None:
    it = entry()
    it.on_stated(0.0, 0.0)
    it.on_withdrawn()
    it.on_lost(1.0)
    it.on_failed(1.0)
    it.on_changed(1.0)
    assert it.due == inf
    assert it.belief(1.0) is WITHDRAWN


def test_it_counts() -> None:
    it = entry()
    it.on_failed(0.0)
    it.on_stated(1.0, 1.0)
    it.on_stated(2.0, 2.0)
    it.on_lost(3.0)
    assert (it.stated, it.failed, it.lost) == (2, 1, 1)


EVENTS = st.lists(st.tuples(st.sampled_from("sfflwwww"), st.floats(0.0, 6.0)), max_size=60)


@settings(max_examples=60)
@given(EVENTS, st.integers(0, 1000), st.sampled_from([1.5, 15.0, inf]))
def test_held_is_never_more_than_was_promised(
    events: list[tuple[str, float]], seed: int, ttl: float
) -> None:
    it, now, promised, lost, confirmed = entry(ttl, seed), 0.0, -inf, -inf, False
    for what, seconds in events:
        asked, now = now, now + seconds
        if what == "s":
            it.on_stated(asked, now)
            promised, confirmed = asked + ttl if asked >= lost else promised, True
        elif what == "f":
            it.on_failed(now)
            assert now < it.due <= now + RETRY_CAP * 1.2
        elif what == "l":
            it.on_lost(now)
            promised = lost = now
        expected = HELD if now < promised else DOUBTED if confirmed else ABSENT
        assert it.belief(now) is expected
        assert it.due <= now + max(min(max(ttl / 3, SOONEST), LATEST) * 1.1, RETRY_CAP * 1.2)
