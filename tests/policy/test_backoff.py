"""Check the waits between tries: growth, bounds, chance, reset."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrpc.errors import ConfigError
from fastrpc.policy.backoff import Backoff


def waits(backoff: Backoff, count: int) -> list[float]:
    return [backoff.next() for _ in range(count)]


def test_waits_grow_by_the_factor_up_to_the_cap() -> None:
    backoff = Backoff(first=1.0, factor=2.0, jitter=0.0, cap=10.0)
    assert waits(backoff, 6) == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_the_defaults_reach_two_minutes_and_stay_there() -> None:
    planned = waits(Backoff(jitter=0.0), 40)
    assert planned[:3] == pytest.approx([0.1, 0.16, 0.256])
    assert planned[-1] == 120.0
    assert planned == sorted(planned)


def test_reset_starts_over() -> None:
    backoff = Backoff(jitter=0.0)
    waits(backoff, 10)
    backoff.reset()
    assert backoff.next() == pytest.approx(0.1)


def test_the_same_chance_gives_the_same_waits() -> None:
    one, two = (Backoff(rng=random.Random(7)) for _ in range(2))
    assert waits(one, 20) == waits(two, 20)


def test_two_backoffs_of_their_own_chance_differ() -> None:
    assert waits(Backoff(), 20) != waits(Backoff(), 20)


def test_waits_at_the_cap_are_spread_over_the_jitter() -> None:
    backoff = Backoff(first=10.0, cap=10.0, jitter=0.2, rng=random.Random(1))
    spread = waits(backoff, 1000)
    assert max(spread) - min(spread) > 0.8 * 4.0


@given(
    first=st.floats(0.001, 10),
    factor=st.floats(1, 100),
    jitter=st.floats(0, 0.99),
    cap=st.floats(10, 1e6),
    seed=st.integers(0, 2**32),
)
def test_each_wait_is_the_planned_one_give_or_take_the_jitter(
    first: float, factor: float, jitter: float, cap: float, seed: int
) -> None:
    backoff = Backoff(first, factor, jitter, cap, random.Random(seed))
    planned = first
    for wait in waits(backoff, 50):
        assert planned * (1 - jitter) * 0.999999 <= wait <= planned * (1 + jitter) * 1.000001
        assert 0 < wait <= cap * (1 + jitter) * 1.000001
        planned = min(cap, planned * factor)


@pytest.mark.parametrize(
    "wrong",
    [
        {"first": 0.0},
        {"first": -1.0},
        {"first": float("nan")},
        {"factor": 0.9},
        {"factor": float("inf")},
        {"jitter": -0.1},
        {"jitter": 1.0},
        {"cap": 0.05},
        {"cap": float("inf")},
    ],
)
def test_numbers_of_no_sense_are_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Backoff(**wrong)  # type: ignore[arg-type]
