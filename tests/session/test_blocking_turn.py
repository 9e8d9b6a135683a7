import threading
import time

import pytest

from fastrpc.session.turn import NAP, Turns, Waiter


def test_an_outcome_is_set_once() -> None:
    first, second = Waiter(), Waiter()
    assert not first.done()
    first.set_result(1)
    first.set_result(2)
    first.set_exception(KeyError())
    assert first.done()
    assert first.result() == 1
    second.set_exception(KeyError("mine"))
    second.set_result(1)
    with pytest.raises(KeyError, match="mine"):
        second.result()


def is_woken(waiter: Waiter) -> bool:
    assert waiter._turn is not None
    return not waiter._turn.locked()


def test_one_leads_and_the_next_is_woken_when_it_leaves() -> None:
    turns, first, second, third = Turns(), Waiter(), Waiter(), Waiter()
    assert turns.lead(first)
    assert turns.lead(first)
    assert not turns.lead(second)
    turns.follow(second)
    turns.follow(third)
    turns.leave(second)  # gave up: somebody still leads
    assert not is_woken(third)
    turns.follow(second)
    turns.leave(first)
    assert is_woken(third)
    assert not is_woken(second)
    turns.leave(third)  # woken to lead, and left instead: the next is woken
    assert is_woken(second)
    turns.leave(second)
    assert turns.is_free
    assert len(turns) == 0


def test_who_left_without_a_word_is_not_waited_for() -> None:
    turns, first, second, third = Turns(), Waiter(), Waiter(), Waiter()
    assert turns.lead(first)
    turns.follow(second)
    turns.follow(third)
    first.has_left = second.has_left = True
    assert turns.leader is None
    assert turns.lead(third, in_order=True)
    assert len(turns) == 0


def test_in_order() -> None:
    turns, first, second = Turns(), Waiter(), Waiter()
    turns.follow(first)
    assert not turns.lead(second, in_order=True)
    turns.follow(second)
    turns.follow(first)  # again: its place is kept
    assert turns.lead(first, in_order=True)
    turns.leave(first)
    assert turns.lead(second, in_order=True)


def test_all_are_woken() -> None:
    turns, waiters = Turns(), [Waiter() for _ in range(3)]
    for waiter in waiters:
        turns.follow(waiter)
    turns.wake_all()
    turns.wake_all()
    assert all(map(is_woken, waiters))


def test_what_ends_the_wait_after_arming_is_not_missed() -> None:
    waiter = Waiter()
    waiter.arm()
    waiter.set_result(1)
    started = time.monotonic()
    waiter.sleep(5.0)
    assert time.monotonic() - started < 1.0
    Turns().follow(waiter)  # done already: nothing to wait for


def test_a_sleeper_wakes_by_its_deadline_and_looks_up_now_and_then() -> None:
    waiter = Waiter()
    waiter.arm()
    for seconds, least, most in ((0.05, 0.05, 0.5), (-1.0, 0.0, 0.5), (None, NAP, NAP + 0.5)):
        started = time.monotonic()
        waiter.sleep(seconds)
        assert least <= time.monotonic() - started < most


def test_a_thread_is_woken_by_another() -> None:
    waiter = Waiter()
    waiter.arm()
    threading.Timer(0.02, lambda: waiter.set_result("x")).start()
    waiter.sleep(5.0)
    assert waiter.result() == "x"
