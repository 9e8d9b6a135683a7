"""Budgets of turns: simulated loops that read connections one after the other."""

import random
from dataclasses import dataclass, field

import pytest

from fastrpc.policy.turnbudget import CALM, INTERVAL, NONE, TARGET, TURNS, TurnBudget

REJECT, TURN, BATCH = 0.2e-6, 40e-6, 10e-6  # what they cost, about


@dataclass
class Seen:
    """What came of a simulation."""

    took: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    by_peer: list[int] = field(default_factory=list)

    @staticmethod
    def p99(times: list[float]) -> float:
        return sorted(times)[int(len(times) * 0.99)]


def simulate(peers: int, cost: float, load: float, seconds: float, warm: float = 2.0) -> Seen:
    """Let calls come by chance to a loop; what came in *warm* seconds does not count."""
    rng, budget, now = random.Random(5), TurnBudget(random.Random(1)), 0.0
    rate = load / cost / peers
    coming = [rng.expovariate(rate) for _ in range(peers)]
    seen, turning = Seen(by_peer=[0] * peers), False
    while now < warm + seconds:
        if min(coming) > now:
            now, turning = min(coming), False
        (budget.turn if turning else budget.wake)(now)
        turning = True
        now += TURN
        for peer in [each for each in range(peers) if coming[each] <= now]:
            begun, until = now, budget.batch(now)
            now += BATCH
            stopped, ran, refused = until == NONE, 0, 0
            while coming[peer] <= begun:
                came, coming[peer] = coming[peer], coming[peer] + rng.expovariate(rate)
                if stopped:
                    refused += 1
                    now += REJECT
                else:
                    stopped = now >= until
                    ran += 1
                    now += cost * rng.uniform(0.8, 1.2)
                if came > warm:
                    (seen.refused if stopped and not ran else seen.took).append(now - came)
            seen.by_peer[peer] += ran
            budget.done(now - begun, ran, refused, 0, now)
    return seen


@pytest.mark.parametrize(
    ("peers", "cost", "least", "p99"),
    [(1, 0.0001, 0.92, 0.006), (4, 0.001, 0.92, 0.009), (50, 0.01, 0.92, 0.045)],
)
def test_three_times_the_load(peers: int, cost: float, least: float, p99: float) -> None:
    seconds = 3000 * cost + 1
    seen = simulate(peers, cost, 3.0, seconds)
    done = sum(seen.by_peer) * cost
    assert done >= least * (seconds + 2)  # of time that all costs: reads, refusals, turns
    assert seen.p99(seen.took) <= p99
    assert min(seen.by_peer) >= 0.2 * max(seen.by_peer)


def test_half_of_what_it_can_do_is_not_refused() -> None:
    assert not simulate(4, 0.0005, 0.5, 5.0).refused


def test_a_burst_is_no_queue() -> None:
    budget = TurnBudget(random.Random(1))
    budget.wake(1.0)
    assert budget.batch(1.0) == 1.0 + INTERVAL
    budget.turn(1.09)  # long, but no other was
    assert not budget.is_pressed
    assert budget.batch(1.09) == pytest.approx(1.09 + INTERVAL)
    budget.turn(1.09 + TARGET)
    assert not budget.is_pressed


def pressed() -> tuple[TurnBudget, float]:
    budget, now = TurnBudget(random.Random(1)), 1.0
    budget.wake(now)
    for _ in range(TURNS):
        budget.batch(now)
        budget.done(0.05, 50, 0, 0, now)
        now += 0.05
        budget.turn(now)
    return budget, now


def turns(budget: TurnBudget, now: float, seconds: float) -> float:
    for _ in range(int(seconds * 1000)):
        now += 0.001
        budget.turn(now)
    return now


def test_a_queue_that_stands_is_shortened() -> None:
    budget, now = pressed()
    assert budget.is_pressed
    assert budget.cost == pytest.approx(0.001)
    until = budget.batch(now)
    assert now < until <= now + TARGET - budget.cost
    assert budget.longest == pytest.approx(0.05)


def test_after_a_second_without_refusals_bursts_are_welcome() -> None:
    budget, now = pressed()
    budget.batch(now)
    budget.done(0.001, 1, 3, 0, now)
    now = turns(budget, now, CALM - 0.01)
    assert budget.is_pressed
    turns(budget, now, 0.02)
    assert not budget.is_pressed


def test_where_few_are_refused_more_may_wait() -> None:
    budget, now = pressed()
    strict = budget.batch(now) - now
    for _ in range(300):
        budget.done(0.01, 10, 0, 0, now)
        budget.turn(now := now + 0.001)
        budget.batch(now)
    assert budget.refused < 0.1
    budget.turn(now)
    assert budget.batch(now) - now > 3 * strict


def test_lots_are_drawn_where_a_call_takes_more_than_a_share() -> None:
    budget, now = pressed()
    for _ in range(100):
        budget.done(0.01, 1, 1, 0, now)
    budget.refused = 1.0
    ran = [0] * 5
    for _ in range(400):
        for peer in range(5):
            has_won = budget.batch(now) != NONE
            ran[peer] += has_won
            now += 0.01 * has_won
            budget.done(0.01 * has_won, has_won, not has_won, 0, now)
        budget.turn(now)
    assert sum(ran) == pytest.approx(400, rel=0.02)  # one in each turn
    assert min(ran) > 50


@pytest.mark.parametrize("beside", [0.0, 0.004, 0.1])
@pytest.mark.parametrize("came", [(1, 4), (4, 1), (2, 4), (4, 4)])
def test_a_turn_takes_its_budget_whoever_comes(came: tuple[int, int], beside: float) -> None:
    """Calls without end are run as long as the budget has it, whatever else the loop does."""
    budget, now = pressed()
    total = 0.0
    for connections in came * 50:
        began, used = now, 0.0
        now += beside
        for _ in range(connections):
            begun, until, ran = now, budget.batch(now), 0
            while until != NONE:
                now, ran = now + budget.cost, ran + 1
                if now >= until:
                    break
            used += now - begun
            budget.done(now - begun, ran, 1, 0, now)
        assert used <= TARGET + budget.cost
        total += used
        now = max(now, began + TARGET)  # after a shorter turn more may wait
        budget.turn(now)
    assert budget.is_pressed
    assert total >= 100 * TARGET / 2


def test_what_else_is_in_a_batch_is_not_taken_for_calls() -> None:
    budget, now = pressed()
    cost = budget.cost
    budget.batch(now)
    budget.done(1.0, 1, 1, 1, now + 1.0)
    assert budget.cost == cost
    budget.done(0.002, 1, 1, 0, now + 1.1)
    assert budget.cost > cost
