"""Run random schedules: no bound is ever broken, and the bounds would notice."""

from collections.abc import Callable
from typing import Any

import pytest

from fastrpc.cluster import arrange as arranging
from fastrpc.cluster.balancers import ConsistentHash, RoundRobin
from fastrpc.cluster.reconcile import Reconcile
from fastrpc.cluster.roll import Freshness, Roll
from fastrpc.policy import Ejection, RetryBudget, Standing
from tests.cluster.simulation.schedule import run_schedule
from tests.cluster.simulation.world import BoundBroken

SCHEDULES = 1000
FIRST = 1_000_000  # not those that the command begins with


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_no_schedule_breaks_a_bound() -> None:
    outcomes = [run_schedule(FIRST + seed) for seed in range(SCHEDULES)]
    # What is to be bounded has happened.
    assert sum(each.retries for each in outcomes) > SCHEDULES
    assert sum(each.ejections for each in outcomes) > SCHEDULES / 4
    assert sum(each.refused for each in outcomes) > SCHEDULES


def test_the_same_seed_is_the_same_schedule() -> None:
    assert [run_schedule(7) for _ in range(2)] == [run_schedule(7)] * 2
    assert run_schedule(7) != run_schedule(8)


def never_empty(self: RetryBudget, now: float) -> bool:
    return True


def forget_the_list(self: Roll, now: float) -> None:
    self.freshness = Freshness.STALE
    self._known.clear()


def go_on_with_time(self: Roll, now: float) -> bool:
    over = [id for id, (_, until) in self._departed.items() if until <= now]
    for id in over:
        self._forget(id)
    return bool(over)


def ask_at_once(self: Reconcile, now: float) -> None:
    self._due = now + 0.001


def promise_too_much(self: Reconcile, asked: float, now: float) -> None:
    self._was_held, self._is_failing = True, False
    self._held_until, self._due = now + 2 * self._ttl, now + 3 * self._ttl


def know_no_load(self: ConsistentHash, load: float = 1.25, seed: int = 0) -> None:
    _INIT(self, 4.0, seed)


def pick_the_first(self: RoundRobin, key: object, now: float, avoid: Any = ()) -> Any:
    return self._members[0] if self._members else None


def never_probe(self: Ejection, calls: int, errors: int, streak: int, now: float) -> Standing:
    self.standing = Standing.EJECTED if streak else Standing.GOOD
    return self.standing


def trust_in_any_case(ejected: int, of: int, options: object) -> bool:
    return False


_INIT = ConsistentHash.__init__

BROKEN: dict[str, tuple[Any, str, Callable[..., Any], str]] = {
    "a budget without a bottom": (RetryBudget, "withdraw", never_empty, "retries in"),
    "a list that errors shorten": (Roll, "on_lost", forget_the_list, "for an error"),
    "a grace that ends meanwhile": (Roll, "tick", go_on_with_time, "time ran out"),
    "retries without a pause": (Reconcile, "on_failed", ask_at_once, "asked"),
    "beliefs without a reason": (Reconcile, "on_stated", promise_too_much, "held"),
    "a load without a bound": (ConsistentHash, "__init__", know_no_load, "calls in flight"),
    "picks of whoever": (RoundRobin, "pick", pick_the_first, "picked"),
    "no panic": (arranging, "is_panic", trust_in_any_case, "ejected and not used"),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", BROKEN)
def test_a_machine_that_is_broken_is_found_out(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name, instead, told = BROKEN[what]
    monkeypatch.setattr(owner, name, instead)
    with pytest.raises(BoundBroken, match=told):
        for seed in range(600):
            run_schedule(seed)


@pytest.mark.slow
def test_a_probe_that_is_not_alone_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_caps(known: Any, now: float, ejection: Any) -> Any:
        chosen = arranging.arrange(known, now, ejection)
        for member in chosen:
            member.cap = 2 * member.cap
        return chosen

    monkeypatch.setattr("tests.cluster.simulation.clients.arrange", without_caps)
    with pytest.raises(BoundBroken, match="second probe"):
        for seed in range(1500):
            run_schedule(seed)
