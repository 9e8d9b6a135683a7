"""Waiter and Turns: threads that wait in line."""

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from fastrpc._caller_py import NAP


def test_an_outcome_is_set_once(twin: SimpleNamespace) -> None:
    first, second = twin.Waiter(), twin.Waiter()
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


def is_woken(waiter: Any) -> bool:
    return bool(waiter.sleep(0.0))


def test_one_leads_and_the_next_is_woken_when_it_leaves(twin: SimpleNamespace) -> None:
    turns, first, second, third = twin.Turns(), twin.Waiter(), twin.Waiter(), twin.Waiter()
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
    assert len(turns.line) == 0


def test_who_left_without_a_word_is_not_waited_for(twin: SimpleNamespace) -> None:
    turns, first, second, third = twin.Turns(), twin.Waiter(), twin.Waiter(), twin.Waiter()
    assert turns.lead(first)
    turns.follow(second)
    turns.follow(third)
    first.has_left = second.has_left = True
    assert turns.leader is None
    assert turns.lead(third, in_order=True)
    assert len(turns.line) == 0


def test_in_order(twin: SimpleNamespace) -> None:
    turns, first, second = twin.Turns(), twin.Waiter(), twin.Waiter()
    turns.follow(first)
    assert not turns.lead(second, in_order=True)
    turns.follow(second)
    turns.follow(first)  # again: its place is kept
    assert turns.lead(first, in_order=True)
    turns.leave(first)
    assert turns.lead(second, in_order=True)


def test_all_are_woken(twin: SimpleNamespace) -> None:
    turns, waiters = twin.Turns(), [twin.Waiter() for _ in range(3)]
    for waiter in waiters:
        turns.follow(waiter)
    turns.wake_all()
    turns.wake_all()  # twice is fine
    assert all(map(is_woken, waiters))


def test_there_is_no_outcome_before_there_is_one(twin: SimpleNamespace) -> None:
    with pytest.raises(RuntimeError, match="no outcome yet"):
        twin.Waiter().result()


def test_what_ends_the_wait_after_arming_is_not_missed(twin: SimpleNamespace) -> None:
    def slept() -> float:
        waiter = twin.Waiter()
        waiter.arm()
        waiter.set_result(1)
        started = time.monotonic()
        waiter.sleep(5.0)
        twin.Turns().follow(waiter)  # done already: nothing to wait for
        return time.monotonic() - started

    # A loaded machine may be slow at times; to miss it takes a nap each time.
    assert any(slept() < NAP / 2 for _ in range(10))


def test_a_sleeper_wakes_by_its_deadline_and_looks_up_now_and_then(twin: SimpleNamespace) -> None:
    waiter = twin.Waiter()
    waiter.arm()
    for seconds, least in ((0.05, 0.05), (-1.0, 0.0), (None, NAP)):
        started = time.monotonic()
        waiter.sleep(seconds)
        assert time.monotonic() - started >= least


def test_a_thread_is_woken_by_another(twin: SimpleNamespace) -> None:
    waiter = twin.Waiter()
    waiter.arm()
    threading.Timer(0.02, lambda: waiter.set_result("x")).start()
    while not waiter.done():
        waiter.sleep(5.0)
    assert waiter.result() == "x"
