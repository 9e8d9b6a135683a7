"""Check when an instance is left alone, for how long, and what brings it back."""

import random

import pytest

from fastrpc.errors import ConfigError
from fastrpc.policy.ejection import Ejection, EjectionOptions, Standing, is_panic

GOOD, EJECTED, PROBED = Standing.GOOD, Standing.EJECTED, Standing.PROBED


class Instance:
    """Counts calls as a member does."""

    def __init__(self, seed: int = 1, **options: float) -> None:
        self.ejection = Ejection(EjectionOptions(**options), random.Random(seed))  # type: ignore[arg-type]
        self.calls = self.errors = self.streak = 0

    def good(self, count: int = 1) -> None:
        self.calls += count
        self.streak = 0

    def bad(self, count: int = 1) -> None:
        self.calls += count
        self.errors += count
        self.streak += count

    def look(self, now: float) -> Standing:
        return self.ejection.look(self.calls, self.errors, self.streak, now)

    def eject(self, now: float) -> float:
        """Have it ejected, and return for how long."""
        self.bad(5)
        assert self.look(now) is EJECTED
        return self.ejection.until - now


def test_five_failures_in_a_row_eject_and_four_do_not() -> None:
    it = Instance()
    it.good(1000)
    it.bad(4)
    assert it.look(1.0) is GOOD
    it.good()
    it.bad(4)
    assert it.look(2.0) is GOOD
    it.bad()
    assert it.look(3.0) is EJECTED


@pytest.mark.parametrize(
    ("good", "bad", "standing"), [(16, 4, GOOD), (15, 5, EJECTED), (14, 5, GOOD)]
)
def test_too_small_a_share_of_enough_calls_ejects(good: int, bad: int, standing: Standing) -> None:
    it = Instance(in_a_row=1000)
    it.good(good)
    it.bad(bad)
    assert it.look(1.0) is standing


def test_a_window_forgets_what_came_before() -> None:
    it = Instance(in_a_row=1000)
    it.look(100.0)
    it.bad(4)
    it.good(15)
    assert it.look(129.0) is GOOD
    it.look(130.0)
    it.bad(1)
    it.good(18)
    assert it.look(131.0) is GOOD  # 5 of 38 in all, 1 of 19 in this window


def test_an_ejected_one_stays_out_until_its_time_and_is_probed_then() -> None:
    it = Instance()
    it.eject(10.0)
    until = it.ejection.until
    it.good(100)  # what was still on its way, or came in a panic
    assert it.look(until - 0.001) is EJECTED
    assert it.look(until) is PROBED
    assert it.look(until + 100) is PROBED  # for as long as no call has ended


def test_one_good_call_brings_it_back_and_one_bad_one_ejects_again() -> None:
    it = Instance()
    it.eject(0.0)
    it.look(it.ejection.until)
    it.bad()
    assert it.look(10.0) is EJECTED
    it.look(it.ejection.until)
    it.good()
    assert it.look(30.0) is GOOD
    assert it.look(31.0) is GOOD  # the failures of before don't count any more


def test_each_time_is_twice_as_long_up_to_the_longest_and_spread() -> None:
    it = Instance(first=5.0, longest=300.0)
    lengths = [it.eject(0.0)]
    for _ in range(8):
        now = it.ejection.until
        it.look(now)
        it.bad()
        it.look(now)
        lengths.append(it.ejection.until - now)
    planned = [5, 10, 20, 40, 80, 160, 300, 300, 300]
    for length, plan in zip(lengths, planned, strict=True):
        assert 0.8 * plan <= length <= 1.2 * plan
    assert len(set(lengths)) == 9


def test_a_server_that_is_dead_for_weeks_is_probed_for_weeks() -> None:
    it = Instance(first=5.0, longest=300.0)
    it.eject(0.0)
    for _ in range(3000):
        now = it.ejection.until
        assert it.look(now) is PROBED
        it.bad()
        assert it.look(now) is EJECTED
        assert it.ejection.until - now <= 360.0
    assert it.ejection.ejections == 3001


def test_who_was_well_for_long_begins_anew() -> None:
    it = Instance(first=5.0, longest=40.0)
    for _ in range(3):
        it.eject(0.0)
        it.look(it.ejection.until)
        it.good()
        assert it.look(50.0) is GOOD
    assert it.eject(60.0) >= 0.8 * 40.0
    now = it.ejection.until
    it.look(now)
    it.good()
    it.look(now)
    it.look(now + 40.0)
    assert it.eject(now + 41.0) <= 1.2 * 5.0


def test_the_same_seed_gives_the_same_times() -> None:
    one, two, other = Instance(7), Instance(7), Instance(8)
    assert one.eject(1.0) == two.eject(1.0) != other.eject(1.0)


@pytest.mark.parametrize(
    ("ejected", "of", "panic"),
    [(0, 0, False), (1, 1, True), (1, 2, False), (2, 2, True), (5, 10, False), (6, 10, True)],
)
def test_more_than_half_ejected_is_nobodys_fault(ejected: int, of: int, panic: bool) -> None:
    assert is_panic(ejected, of, EjectionOptions()) is panic


@pytest.mark.parametrize(
    "wrong",
    [
        {"in_a_row": 0}, {"in_a_row": 1.5}, {"least_calls": 0}, {"success_share": 1.1}, {"panic_share": -0.1},
        {"window": 0.0}, {"window": float("inf")}, {"first": 0.0}, {"first": 500.0}, {"first": float("nan")},
    ],
)  # fmt: skip
def test_numbers_of_no_sense_are_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        EjectionOptions(**wrong)  # type: ignore[arg-type]
