"""Check who is on the list of instances, and when a registry is not believed."""

import random
from math import inf

import pytest

from fastrpc.cluster.instance import INSTANCES_MAX, Instance, InstanceState
from fastrpc.cluster.registry import Gone, Listing, Put
from fastrpc.cluster.roll import GRACE, TOGETHER, Freshness, Roll


def at(id: str, port: int = 0, state: InstanceState = InstanceState.UP) -> Instance:
    return Instance(id=id, addresses=(f"tcp://10.0.0.1:{port or int(id[1:])}",), state=state)


def some(*numbers: int) -> tuple[Instance, ...]:
    return tuple(at(f"i{number}") for number in numbers)


def ids(roll: Roll) -> list[str]:
    return [each.id for each in roll.instances]


def full(count: int = 4) -> Roll:
    roll = Roll()
    roll.take(Listing(some(*range(1, count + 1))), 0.0)
    return roll


def test_a_listing_says_who_is_there() -> None:
    roll = Roll()
    assert (roll.instances, roll.freshness, roll.soonest) == ((), Freshness.UNKNOWN, inf)
    roll.take(Listing(some(1, 2), skipped=3), 0.0)
    assert ids(roll) == ["i1", "i2"]
    assert (roll.freshness, roll.skipped) == (Freshness.FRESH, 3)


def test_those_that_stay_keep_their_places() -> None:
    roll = full(3)
    roll.take(Listing(some(4, 3, 1, 2)), 1.0)
    assert ids(roll) == ["i1", "i2", "i3", "i4"]
    roll.take(Put(at("i2", 9)), 2.0)
    assert ids(roll) == ["i1", "i2", "i3", "i4"]
    assert roll.instances[1].addresses == ("tcp://10.0.0.1:9",)


def test_few_that_leave_without_a_word_leave_at_once() -> None:
    roll = full(4)
    roll.take(Gone("i1"), 1.0)
    roll.take(Listing(some(2, 3)), 1.0)
    assert ids(roll) == ["i2", "i3"]
    assert not roll.is_suspect


def test_if_more_leave_than_stay_all_are_kept_for_a_while() -> None:
    roll = full(4)
    roll.take(Listing(some(4)), 1.0)
    assert roll.is_suspect
    assert sorted(ids(roll)) == ["i1", "i2", "i3", "i4"]
    assert roll.soonest == 1.0 + GRACE
    assert not roll.tick(GRACE)
    assert roll.tick(1.0 + GRACE)
    assert ids(roll) == ["i4"]


def test_an_empty_list_after_a_full_one_is_suspect() -> None:
    roll = full(2)
    roll.take(Listing(()), 1.0)
    assert sorted(ids(roll)) == ["i1", "i2"]
    roll.take(Listing(some(1, 2)), 2.0)
    assert not roll.is_suspect
    assert roll.soonest == inf


def test_who_says_goodbye_goes_at_once() -> None:
    roll = full(2)
    for id in ("i1", "i2"):
        roll.take(Gone(id, is_explicit=True), 1.0)
    assert ids(roll) == []


def test_who_was_draining_or_down_goes_at_once() -> None:
    roll = full(2)
    roll.take(Put(at("i1", state=InstanceState.DRAINING)), 1.0)
    roll.take(Put(at("i2", state=InstanceState.DOWN)), 1.0)
    roll.take(Listing(()), 1.0)
    assert ids(roll) == []


def test_a_goodbye_that_comes_late_is_heard() -> None:
    roll = full(2)
    roll.take(Listing(()), 1.0)
    roll.take(Gone("i1", is_explicit=True), 2.0)
    assert ids(roll) == ["i2"]


def test_who_starts_anew_replaces_who_it_was() -> None:
    roll = full(2)
    roll.take(Gone("i1"), 1.0)
    roll.take(Gone("i2"), 1.0)
    assert sorted(ids(roll)) == ["i1", "i2"]
    roll.take(Put(at("new", 1)), 2.0)
    assert ids(roll) == ["new"]  # one of two is there: nothing is suspect any more
    roll.take(Put(at("newer", 2)), 2.0)
    assert ids(roll) == ["new", "newer"]
    assert roll.soonest == inf


def test_it_does_so_in_whatever_order_it_is_seen() -> None:
    roll = full(2)
    roll.take(Put(at("new", 1)), 1.0)
    roll.take(Gone("i1"), 1.0)  # expires when its successor is there already
    assert ids(roll) == ["i2", "new"]
    assert roll.soonest == inf
    roll.take(Listing((at("newest", 1), at("newer", 2))), 2.0)
    assert ids(roll) == ["newest", "newer"]
    assert roll.soonest == inf


def test_an_error_never_shortens_the_list_and_no_time_runs_out_meanwhile() -> None:
    roll = full(3)
    roll.take(Listing(some(1)), 1.0)
    before = ids(roll)
    roll.on_lost(1.0)
    assert (roll.freshness, roll.soonest) == (Freshness.STALE, inf)
    assert not roll.tick(10 * GRACE)
    assert ids(roll) == before
    roll.take(Listing(some(1, 2)), 11 * GRACE)  # one was away for a while, one is gone
    assert ids(roll) == ["i1", "i2"]


def test_the_grace_goes_on_after_an_outage_where_it_was() -> None:
    roll = full(10)
    roll.take(Listing(some(1, 2, 3, 4)), 1.0)
    roll.on_lost(11.0)
    roll.on_lost(50.0)  # it is away since the first time
    roll.take(Listing(some(1, 2, 3, 4)), 10 * GRACE)
    assert len(ids(roll)) == 10
    assert roll.soonest == 10 * GRACE + GRACE - 10.0
    assert roll.tick(roll.soonest)
    assert ids(roll) == ["i1", "i2", "i3", "i4"]


def test_who_was_let_go_of_does_not_come_back_because_of_another() -> None:
    roll = full(10)
    roll.take(Listing(some(1, 2, 3, 4, 5)), 1.0)
    assert ids(roll) == ["i1", "i2", "i3", "i4", "i5"]
    assert roll.soonest == 1.0 + TOGETHER
    roll.take(Gone("i5"), 51.0)
    assert ids(roll) == ["i1", "i2", "i3", "i4"]


def test_those_that_leave_one_by_one_left_together_if_it_is_soon() -> None:
    roll = full(10)
    for number in range(1, 10):
        roll.take(Gone(f"i{number}"), 1.0 + number)
    assert len(ids(roll)) == 10
    assert roll.soonest == 2.0 + GRACE


@pytest.mark.parametrize("grace", [0.5, TOGETHER, GRACE])
def test_whatever_the_grace_everybody_is_let_go_of_in_the_end(grace: float) -> None:
    roll = Roll(grace)
    roll.take(Listing(some(1, 2, 3, 4)), 0.0)
    roll.take(Listing(some(1, 2, 3)), 1.0)
    assert roll.soonest == 1.0 + min(grace, TOGETHER)
    assert roll.tick(roll.soonest)
    assert roll.soonest == inf


def test_what_an_earlier_run_knew_counts_until_somebody_says_something() -> None:
    roll = Roll()
    roll.remember(some(1, 2))
    assert (ids(roll), roll.freshness) == (["i1", "i2"], Freshness.REMEMBERED)
    roll.on_lost(1.0)
    assert roll.freshness is Freshness.REMEMBERED
    roll.take(Listing(some(3, 4, 5)), 1.0)
    assert ids(roll) == ["i3", "i4", "i5"]
    roll.remember(some(9))
    assert ids(roll) == ["i3", "i4", "i5"]


@pytest.mark.slow
def test_no_list_is_longer_than_is_allowed() -> None:
    many = some(*range(1, INSTANCES_MAX + 1))
    roll = Roll()
    roll.take(Listing(many), 0.0)
    roll.take(Put(at("i0", 1)), 1.0)
    assert len(roll.instances) == INSTANCES_MAX
    for _ in range(2):
        roll.take(Listing(()), 2.0)
        roll.take(Listing(many), 2.0)
    roll.take(Listing(()), 2.0)
    assert len(roll.instances) == INSTANCES_MAX


@pytest.mark.slow
def test_no_schedule_of_errors_makes_the_list_shorter() -> None:
    for seed in range(100):
        chance, roll, now = random.Random(seed), Roll(), 0.0
        for _ in range(60):
            now += chance.expovariate(0.1)
            before = set(ids(roll))
            what = chance.randrange(5)
            if what == 0:
                listed = chance.sample(some(*range(1, 7)), chance.randrange(7))
                roll.take(Listing(tuple(listed)), now)
                assert {each.id for each in listed} <= set(ids(roll))
            elif what == 1:
                roll.take(Put(at(f"i{chance.randrange(1, 7)}")), now)
            elif what == 2:
                roll.take(Gone(f"i{chance.randrange(1, 7)}", chance.random() < 0.5), now)
            elif what == 3:
                roll.on_lost(now)
                assert set(ids(roll)) == before
            else:
                was_stale = roll.freshness is Freshness.STALE
                assert not (roll.tick(now) and was_stale)
                assert set(ids(roll)) == before or not was_stale
            assert len(roll.instances) == len({each.id for each in roll.instances})
