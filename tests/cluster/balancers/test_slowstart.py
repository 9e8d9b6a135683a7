"""Check how the young come to their weight."""

from math import inf

import pytest

from fastrpc.cluster.balancers import slow_start


def test_it_grows_evenly_from_a_tenth_to_all() -> None:
    factors = [slow_start(100.0, 100.0 + age, 30.0) for age in range(0, 31, 3)]
    assert factors == pytest.approx([0.1 + 0.09 * step for step in range(11)])
    assert slow_start(100.0, 1e9, 30.0) == 1.0


def test_it_changes_ten_times_and_no_more() -> None:
    factors = [slow_start(0.0, age / 100, 30.0) for age in range(3200)]
    assert factors == sorted(factors)
    assert len(set(factors)) == 11


def test_who_was_there_before_has_all_of_it() -> None:
    assert slow_start(-inf, 5.0, 30.0) == 1.0
    assert slow_start(5.0, 5.0, 0.0) == 1.0


def test_a_clock_that_goes_back_does_no_harm() -> None:
    assert slow_start(100.0, 50.0, 30.0) == 0.1
