"""What the supervisor is told to do: pinned cases, and many schedules of what can happen."""

import math
import random
from typing import TYPE_CHECKING, Any

import pytest

import fastrpc
from fastrpc.server.workers.plan import (
    FIRST_TRIES,
    LONGEST_WAIT,
    MARGIN,
    START_TIMEOUT,
    STEADY,
    Cause,
    Ending,
    Order,
    OrderKind,
    Phase,
    Plan,
    WorkerState,
)

if TYPE_CHECKING:
    from collections.abc import Callable

GRACE = 30.0


def running(workers: int = 2, **options: Any) -> Plan:
    plan = Plan(workers, GRACE, random.Random(1), **options)
    for order in plan.begin(0.0):
        plan.ready(order.seat, 0.0)
    return plan


def kinds(orders: list[Order]) -> list[tuple[str, int]]:
    return [(order.kind.value, order.seat) for order in orders]


def test_all_are_started_at_once() -> None:
    plan = Plan(3, GRACE)
    assert kinds(plan.begin(5.0)) == [("start", 0), ("start", 1), ("start", 2)]
    assert plan.next_at() == 5.0 + START_TIMEOUT
    for seat in range(3):
        assert plan.ready(seat, 6.0) == []
    assert plan.next_at() == math.inf


@pytest.mark.parametrize("workers", [0, -1, 1025, True, "2"])
def test_workers_must_be_a_number_that_makes_sense(workers: Any) -> None:
    with pytest.raises(fastrpc.ConfigError, match="workers"):
        Plan(workers, GRACE)


def test_a_crash_is_followed_by_a_restart_and_crashes_in_a_row_by_longer_waits() -> None:
    plan = running()
    now, waits = 1.0, []
    for _ in range(20):
        assert plan.ended(0, now) == (Ending.CRASHED, [])
        due = plan.next_at()
        assert plan.tick(math.nextafter(due, 0)) == []
        assert plan.tick(due) == [Order(OrderKind.START, 0, Cause.RESTART)]
        waits.append(due - now)
        plan.ready(0, due)
        now = due + 1.0
    assert waits[0] <= 0.12
    assert waits[3] > 4 * waits[0]
    assert LONGEST_WAIT * 0.8 <= waits[-1] <= LONGEST_WAIT * 1.2
    assert len({round(wait, 6) for wait in waits}) == 20  # by chance, so that they spread
    assert plan.places[0].restarts == 20
    assert plan.places[1].restarts == 0
    plan.ended(0, now + STEADY)  # it was steady: all is forgotten
    assert plan.next_at() - (now + STEADY) <= 0.12


def test_a_reload_replaces_one_after_the_other_and_none_before_the_new_one_is_ready() -> None:
    plan = running()
    assert plan.reload(1.0) == [Order(OrderKind.START, 2, Cause.RELOAD)]
    assert plan.tick(2.0) == []
    assert kinds(plan.ready(2, 3.0)) == [("drain", 0)]
    assert plan.tick(4.0) == []  # the next one only when the old one has left
    assert plan.ended(0, 5.0) == (Ending.AS_TOLD, [Order(OrderKind.START, 0, Cause.RELOAD)])
    assert kinds(plan.ready(0, 6.0)) == [("drain", 1)]
    assert plan.is_reloading
    assert plan.ended(1, 7.0) == (Ending.AS_TOLD, [])
    assert not plan.is_reloading
    assert [worker.seat for worker in plan.workers] == [0, 2]


def test_a_reload_that_fails_leaves_the_old_ones() -> None:
    plan = running()
    plan.reload(1.0)
    assert plan.ended(2, 2.0) == (Ending.RELOAD_FAILED, [])
    assert not plan.is_reloading
    assert plan.tick(100.0) == []
    assert kinds(plan.reload(101.0)) == [("start", 2)]  # and may be asked for again


def test_a_second_reload_replaces_also_those_that_the_first_one_started() -> None:
    plan = running()
    plan.reload(1.0)
    assert plan.reload(1.5) == []  # the new one is stale before it is ready
    assert kinds(plan.ready(2, 2.0)) == [("drain", 0)]
    assert kinds(plan.ended(0, 3.0)[1]) == [("start", 0)]
    assert kinds(plan.ready(0, 4.0)) == [("drain", 2)]
    assert kinds(plan.ended(2, 5.0)[1]) == [("start", 2)]
    assert kinds(plan.ready(2, 6.0)) == [("drain", 1)]
    plan.ended(1, 7.0)
    assert not plan.is_reloading


def test_the_end_of_a_stale_replacement_does_not_end_the_newer_reload() -> None:
    plan = running()
    plan.reload(1.0)
    plan.reload(1.5)
    assert plan.ended(2, 2.0) == (Ending.RELOAD_FAILED, [Order(OrderKind.START, 2, Cause.RELOAD)])


def test_one_that_crashes_while_its_replacement_starts_is_replaced_by_it() -> None:
    plan = running()
    plan.reload(1.0)
    ending, orders = plan.ended(0, 2.0)
    assert (ending, kinds(orders)) == (Ending.CRASHED, [])
    assert kinds(plan.ready(2, 3.0)) == [("start", 0)]  # for the other one
    assert kinds(plan.ready(0, 4.0)) == [("drain", 1)]


def test_who_does_not_leave_is_killed_after_grace_and_margin() -> None:
    plan = running()
    plan.reload(1.0)
    plan.ready(2, 2.0)
    assert plan.next_at() == 2.0 + GRACE + MARGIN
    assert plan.tick(2.0 + GRACE + MARGIN - 0.001) == []
    assert kinds(plan.tick(2.0 + GRACE + MARGIN)) == [("kill", 0)]
    assert plan.next_at() == math.inf
    assert plan.ended(0, 40.0)[0] is Ending.AS_TOLD


def test_who_is_never_ready_is_killed_and_tried_again() -> None:
    plan = Plan(1, GRACE)
    plan.begin(0.0)
    assert kinds(plan.tick(START_TIMEOUT)) == [("kill", 0)]
    assert plan.ready(0, START_TIMEOUT) == []  # too late
    assert plan.ended(0, START_TIMEOUT)[0] is Ending.NEVER_READY
    assert kinds(plan.tick(plan.next_at())) == [("start", 0)]


def test_stop_drains_all_and_a_second_one_hurries() -> None:
    plan = running(3)
    plan.reload(0.5)
    assert kinds(plan.stop(1.0)) == [("drain", 0), ("drain", 1), ("drain", 2), ("drain", 3)]
    assert plan.next_at() == 1.0 + GRACE + MARGIN
    assert plan.reload(1.5) == []
    assert kinds(plan.stop(2.0)) == [("hurry", 0), ("hurry", 1), ("hurry", 2), ("hurry", 3)]
    assert plan.next_at() == 2.0 + MARGIN
    for seat in range(3):
        assert plan.ended(seat, 3.0) == (Ending.AS_TOLD, [])
    assert kinds(plan.tick(2.0 + MARGIN)) == [("kill", 3)]
    assert plan.phase is Phase.STOPPING
    assert plan.ended(3, 8.0) == (Ending.AS_TOLD, [])
    assert plan.phase is Phase.ENDED
    assert not plan.has_failed


def test_stop_while_nobody_is_there_ends_it() -> None:
    plan = running(1)
    plan.ended(0, 1.0)
    assert plan.stop(1.01) == []
    assert plan.phase is Phase.ENDED


def test_it_is_given_up_if_all_fail_again_and_again_and_none_was_ever_ready() -> None:
    plan = Plan(2, GRACE, random.Random(1))
    plan.begin(0.0)
    now = 0.0
    endings = []
    while plan.phase is not Phase.ENDED:
        for worker in plan.workers:
            endings.append(plan.ended(worker.seat, now)[0])
        now = plan.next_at()
        plan.tick(now)
    assert endings == [Ending.NEVER_READY] * (2 * FIRST_TRIES - 1) + [Ending.GAVE_UP]
    assert plan.has_failed


def test_it_is_not_given_up_once_one_was_ready() -> None:
    plan = Plan(2, GRACE, random.Random(1))
    plan.begin(0.0)
    plan.ready(0, 0.0)
    now = 0.0
    for _ in range(50):
        assert plan.ended(1, now, is_hopeless=True)[0] is Ending.NEVER_READY
        now = plan.next_at()
        assert kinds(plan.tick(now)) == [("start", 1)]
    assert plan.phase is Phase.RUNNING


def test_what_is_hopeless_is_given_up_at_once_and_the_others_are_drained() -> None:
    plan = Plan(2, GRACE)
    plan.begin(0.0)
    ending, orders = plan.ended(1, 0.1, is_hopeless=True)
    assert (ending, kinds(orders)) == (Ending.GAVE_UP, [("drain", 0)])
    plan.ended(0, 0.2)
    assert (plan.phase, plan.has_failed) == (Phase.ENDED, True)


def test_a_patient_plan_waits_for_the_next_reload() -> None:
    plan = Plan(1, GRACE, is_patient=True)
    plan.begin(0.0)
    assert plan.ended(0, 1.0) == (Ending.NEVER_READY, [])
    assert plan.next_at() == math.inf
    assert kinds(plan.reload(9.0)) == [("start", 0)]


class World:
    """Obeys a plan, does at random what processes and people do, and watches the rules."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.count = self.rng.randint(1, 4)
        self.plan = Plan(self.count, GRACE, self.rng, is_patient=self.rng.random() < 0.2)
        self.now = 0.0
        self.alive: dict[int, set[str]] = {}
        self.fails = 0.05  # of forks
        self.depth = 0

    def obey(self, orders: list[Order]) -> None:
        self.depth += 1
        for order in orders:
            if order.kind is OrderKind.START:
                assert order.seat not in self.alive, "the seat is taken"
                self.alive[order.seat] = set()
                if self.rng.random() < self.fails or self.plan.phase is not Phase.RUNNING:
                    self.end(order.seat)
                continue
            if order.seat in self.alive:
                before = self.alive[order.seat]
                assert order.kind.value not in before - {"hurry"}, "told twice"
                before.add(order.kind.value)
        self.depth -= 1
        if not self.depth:
            self.check()

    def check(self) -> None:
        plan = self.plan
        assert {worker.seat for worker in plan.workers} == set(self.alive)
        assert len(self.alive) <= self.count + 1
        assert plan.next_at() > self.now or plan.phase is Phase.ENDED or self.due()
        if plan.phase is Phase.RUNNING:
            for place in plan.places:
                assert (place.current is not None) or place.coming is None
            assert sum(place.coming is not None for place in plan.places) <= 1

    def due(self) -> bool:
        return self.plan.next_at() <= self.now

    def end(self, seat: int) -> None:
        del self.alive[seat]
        self.obey(self.plan.ended(seat, self.now, is_hopeless=self.rng.random() < 0.02)[1])

    def step(self, stops: bool) -> None:
        self.now += self.rng.choice((0.0, 0.01, 0.3, 2.0, 20.0))
        plan, rng = self.plan, self.rng
        serving = [w for w in plan.workers if w.state is WorkerState.SERVING]
        choices: list[Callable[[], None]] = [lambda: self.obey(plan.tick(self.now))] * 3
        choices.append(lambda: self.reload(len(serving)))
        if self.alive:
            seat = rng.choice(sorted(self.alive))
            worker = plan.worker(seat)
            assert worker is not None
            if worker.state is WorkerState.STARTING:
                choices += [lambda: self.obey(plan.ready(seat, self.now))] * 4
            choices.append(lambda: self.end(seat))
        if stops:
            choices.append(lambda: self.obey(plan.stop(self.now)))
        rng.choice(choices)()

    def reload(self, serving: int) -> None:
        self.obey(self.plan.reload(self.now))
        left = [w for w in self.plan.workers if w.state is WorkerState.SERVING]
        assert len(left) == serving  # nobody is taken away for it

    def settle(self) -> None:
        """Let everything go well from now on."""
        self.fails = 0.0
        for seat in [each.seat for each in self.plan.workers if each.state is WorkerState.KILLED]:
            self.end(seat)
        self.obey(self.plan.reload(self.now))
        for _ in range(100):
            for worker in self.plan.workers:
                if worker.state is WorkerState.STARTING:
                    self.obey(self.plan.ready(worker.seat, self.now))
                elif worker.state is not WorkerState.SERVING:
                    self.end(worker.seat)
            self.now += LONGEST_WAIT
            self.obey(self.plan.tick(self.now))


@pytest.mark.parametrize("seed", range(20))
def test_many_schedules_break_no_rule_and_all_ends_well(seed: int) -> None:
    for part in range(20):
        world = World(seed * 1000 + part)
        world.obey(world.plan.begin(0.0))
        for _ in range(60):
            world.step(stops=False)
        if world.plan.phase is Phase.RUNNING:
            world.settle()
            assert [w.state for w in world.plan.workers] == [WorkerState.SERVING] * world.count
            assert not world.plan.is_reloading
        for _ in range(20):
            world.step(stops=True)
        world.obey(world.plan.stop(world.now))
        for _ in range(10):  # by what it says alone, whoever hangs is killed
            world.now = max(world.now, min(world.plan.next_at(), world.now + 1000))
            world.obey(world.plan.tick(world.now))
            for seat in [seat for seat, told in world.alive.items() if "kill" in told]:
                world.end(seat)
        assert world.plan.phase is Phase.ENDED
        assert not world.alive
