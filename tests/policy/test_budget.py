"""Check that retries keep to their budget, whatever the schedule."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrpc.errors import ConfigError
from fastrpc.policy.budget import WINDOW, RetryBudget


def drain(budget: RetryBudget, now: float) -> int:
    """Return how many retries there are, and take them."""
    taken = 0
    while budget.withdraw(now):
        taken += 1
    return taken


def test_a_second_of_free_retries_is_there_from_the_start() -> None:
    assert drain(RetryBudget(), 100.0) == 10


def test_calls_pay_for_a_fifth_as_many_retries() -> None:
    budget = RetryBudget(rate=0.0)
    budget.deposit(100, 0.0)
    assert budget.balance(0.0) == pytest.approx(20.0)
    assert drain(budget, 0.0) == 20


def test_shares_that_are_paid_in_one_by_one_make_a_whole() -> None:
    for share in (0.1, 0.2, 0.3, 1 / 3):
        budget = RetryBudget(share, rate=0.0)
        for _ in range(30):
            budget.deposit(1, 0.0)
        assert drain(budget, 0.0) == round(30 * share)


def test_free_retries_come_back_at_their_rate_and_no_more_than_a_second_is_saved() -> None:
    budget = RetryBudget(share=0.0)
    drain(budget, 0.0)
    assert drain(budget, 0.35) == 3
    assert drain(budget, 3600.0) == 10


def test_a_rate_below_one_a_second_gives_one_now_and_then() -> None:
    budget = RetryBudget(share=0.0, rate=0.5)
    assert [drain(budget, now) for now in (0.0, 1.0, 2.0, 3.0, 4.0, 60.0)] == [1, 0, 1, 0, 1, 1]


def test_nothing_is_given_where_nothing_was_meant() -> None:
    budget = RetryBudget(share=0.0, rate=0.0)
    budget.deposit(1000, 0.0)
    assert not budget.withdraw(1.0)
    assert budget.refused == 1


def test_what_was_paid_in_is_forgotten() -> None:
    budget = RetryBudget(rate=0.0)
    budget.deposit(100, 0.0)
    assert budget.balance(WINDOW - 0.01) == pytest.approx(20.0)
    assert budget.balance(WINDOW) == 0.0


def test_the_oldest_is_taken_first() -> None:
    budget = RetryBudget(rate=0.0)
    budget.deposit(10, 0.0)
    budget.deposit(10, 5.0)
    assert budget.withdraw(5.0)
    assert budget.balance(WINDOW) == pytest.approx(2.0)


def test_time_that_stands_still_or_goes_back_gives_nothing() -> None:
    budget = RetryBudget(share=0.0)
    assert drain(budget, 50.0) == 10
    assert drain(budget, 50.0) == 0
    assert drain(budget, 10.0) == 0
    assert drain(budget, 50.1) == 1


STEPS = st.lists(
    st.tuples(st.sampled_from(["calls", "retries", "wait", "leap"]), st.integers(0, 60)),
    max_size=40,
)


@settings(max_examples=200)
@given(STEPS, st.sampled_from([0.0, 0.1, 0.2, 1.0]), st.sampled_from([0.0, 0.5, 1.0, 10.0]))
def test_no_schedule_gets_more_than_its_calls_have_paid_for(
    steps: list[tuple[str, int]], share: float, rate: float
) -> None:
    budget, now = RetryBudget(share, rate), 0.0
    calls: list[tuple[float, int]] = []
    retries: list[float] = []
    for what, count in steps:
        if what == "calls":
            budget.deposit(count, now)
            calls.append((now, count))
        elif what == "retries":
            retries += [now for _ in range(count) if budget.withdraw(now)]
        else:
            now += count / 20 if what == "wait" else count * 7.0
    saved = max(rate, 1.0) if rate else 0.0
    for begin in {0.0, *retries}:
        for end in set(retries):
            taken = sum(begin <= at <= end for at in retries)
            paid = sum(n for at, n in calls if begin - WINDOW - 1.0 <= at <= end)
            assert taken <= share * paid + rate * max(end - begin, 0.0) + saved + 1e-6


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf"), True])
@pytest.mark.parametrize("name", ["share", "rate"])
def test_numbers_of_no_sense_are_refused_by_name(name: str, wrong: float) -> None:
    with pytest.raises(ConfigError, match=name):
        RetryBudget(**{name: wrong})
