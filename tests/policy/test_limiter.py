"""A limit that adapts: simulated servers with a fixed capacity, and what comes of them."""

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import pytest

from fastrpc.errors import ConfigError
from fastrpc.policy.limiter import ENOUGH, LEAST, WINDOW, Limiter


class Limit(Protocol):
    limit: int

    def refused(self) -> None: ...

    def ended(self, seconds: float, now: float, well: bool = True) -> None: ...


class Gradient2:
    """The rival, after Netflix/concurrency-limits: `limit * gradient + queue`, smoothed."""

    def __init__(self) -> None:
        self.limit, self.running = 40, 0
        self._value, self._long, self._windows = 40.0, 0.0, 0
        self._began, self._count, self._total = 0.0, 0, 0.0

    def refused(self) -> None:
        pass

    def ended(self, seconds: float, now: float, well: bool = True) -> None:
        self._count += 1
        self._total += seconds
        if now - self._began < 0.1 or self._count < 10:
            return
        short, self._began = self._total / self._count, now
        self._count, self._total = 0, 0.0
        self._windows += 1
        share = max(1 / self._windows, 2 / 601)
        self._long += (short - self._long) * share
        if self._long > 2 * short:
            self._long *= 0.95
        gradient = min(max(1.5 * self._long / short, 0.5), 1.0)
        self._value = 0.8 * self._value + 0.2 * (self._value * gradient + 4)
        self.limit = int(self._value)


@dataclass
class Seen:
    """What came of a simulation: when calls ended, and what they took."""

    ended: list[tuple[float, float]] = field(default_factory=list)
    refused: int = 0

    def goodput(self, since: float, until: float) -> float:
        return sum(since <= at < until for at, _ in self.ended) / (until - since)

    def p99(self, since: float) -> float:
        took = sorted(took for at, took in self.ended if at >= since)
        return took[int(len(took) * 0.99)]


def simulate(
    limiter: Limit,
    places: int,
    service: Callable[[float], float],
    offered: float,
    seconds: float,
    *,
    rude: int = 0,
    gives_up: float = 0.003,
) -> Seen:
    """Let calls come by chance to a server that does *places* of them at once, the rest in line.

    Beside these so many *rude* callers call all the time and give each call up; their calls
    cost the server nothing but that they are in flight.
    """
    teasing = [(0.0, -1.0)] * rude  # when, and since when if a call is in flight
    teased = 0
    rng, seen = random.Random(7), Seen()
    line: deque[float] = deque()
    busy: list[tuple[float, float]] = []  # when it ends, and when it came
    coming = rng.expovariate(offered)
    while coming < seconds:
        if teasing and teasing[0][0] <= min(coming, busy[0][0] if busy else coming):
            now, since = heapq.heappop(teasing)
            if since >= 0:
                teased -= 1
                limiter.ended(now - since, now, False)
                heapq.heappush(teasing, (now + 0.003, -1.0))
            elif len(busy) + len(line) + teased < limiter.limit:
                teased += 1
                heapq.heappush(teasing, (now + gives_up, now))
            else:
                limiter.refused()
                heapq.heappush(teasing, (now + 0.003, -1.0))
            continue
        if busy and busy[0][0] <= coming:
            now, came = heapq.heappop(busy)
            seen.ended.append((now, now - came))
            limiter.ended(now - came, now)
            if line:
                end = now + service(now) * rng.uniform(0.8, 1.2)
                heapq.heappush(busy, (end, line.popleft()))
            continue
        now, coming = coming, coming + rng.expovariate(offered)
        if len(busy) + len(line) + teased >= limiter.limit:
            seen.refused += 1
            limiter.refused()
        elif len(busy) < places:
            heapq.heappush(busy, (now + service(now) * rng.uniform(0.8, 1.2), now))
        else:
            line.append(now)
    return seen


def adaptive() -> Limiter:
    return Limiter(random.Random(1))


@pytest.mark.parametrize(
    ("places", "took", "seconds"),
    [(1, 0.0001, 5.0), (8, 0.02, 20.0), (20, 0.05, 40.0)],
    ids=["0.1ms", "20ms", "50ms"],
)
def test_three_times_the_load(places: int, took: float, seconds: float) -> None:
    most = places / took
    idle = simulate(adaptive(), places, lambda _: took, 0.05 * most, seconds)
    seen = simulate(adaptive(), places, lambda _: took, 3 * most, seconds)
    assert seen.goodput(2.0, seconds) >= 0.9 * most
    # Of a call of 0.1 ms the loop's turn alone is more: there it is the slack that counts.
    assert seen.p99(2.0) <= max(3 * idle.p99(0.0), 0.004)
    assert seen.refused > 1.8 * most * seconds


@pytest.mark.parametrize(("places", "took", "least"), [(1, 0.0001, 0.95), (20, 0.05, 0.85)])
def test_no_more_than_capacity(places: int, took: float, least: float) -> None:
    most = places / took
    seen = simulate(adaptive(), places, lambda _: took, most, 3.0 if places == 1 else 30.0)
    assert seen.goodput(1.0, 3.0) >= least * most  # with so few places chance costs some
    half = simulate(adaptive(), places, lambda _: took, 0.5 * most, 3.0)
    assert half.refused <= 0.01 * len(half.ended)


@pytest.mark.parametrize("factor", [2.0, 0.5], ids=["slower", "faster"])
def test_a_latency_that_changes(factor: float) -> None:
    """The server is twice as slow, or as fast, after 15 seconds; overloaded all the time."""

    def service(now: float) -> float:
        return 0.05 if now < 15 else 0.05 * factor

    seen = simulate(adaptive(), 20, service, 3 * 400.0, 35.0)
    assert seen.goodput(5.0, 15.0) >= 0.9 * 400
    assert seen.goodput(17.0, 35.0) >= 0.9 * 400 / factor
    assert seen.p99(25.0) <= 5 * 0.05 * factor


def test_the_load_ends_and_nothing_is_refused() -> None:
    limiter = adaptive()
    simulate(limiter, 20, lambda _: 0.05, 1200.0, 20.0)
    after = simulate(limiter, 20, lambda _: 0.05, 160.0, 5.0)
    assert after.refused == 0


@pytest.mark.parametrize(("rude", "gives_up"), [(20, 0.001), (10, 0.04)])
@pytest.mark.parametrize(("places", "offered"), [(20, 400.0), (1000, 590.0)])
def test_who_gives_up_early_takes_little_from_others(
    places: int, offered: float, rude: int, gives_up: float
) -> None:
    """While their time was in the average, a quarter to three quarters of the work was lost."""
    alone, beside = adaptive(), adaptive()
    calm = simulate(alone, places, lambda _: 0.05, offered, 12.0)
    seen = simulate(beside, places, lambda _: 0.05, offered, 12.0, rude=rude, gives_up=gives_up)
    assert seen.goodput(2.0, 12.0) >= 0.85 * calm.goodput(2.0, 12.0)
    assert seen.p99(2.0) <= 1.2 * calm.p99(2.0)  # nor is more let in than can be done
    assert 0.85 * alone.limit <= beside.limit <= alone.limit + rude


def test_who_only_gives_up_early_moves_nothing() -> None:
    limiter = adaptive()
    now = feed(limiter, 0.01, 0.0, 10_000, well=False)  # as long as nothing is known
    assert limiter.limit == 40
    now = feed(limiter, 0.05, feed(limiter, 0.05, now))
    known = limiter.limit, limiter.lowest, limiter.peak
    feed(limiter, 0.01, now + 1.0, 10_000, well=False)
    assert (limiter.limit, limiter.lowest, limiter.peak) == known


def test_what_was_given_up_late_still_lowers_the_limit() -> None:
    """An overload in which callers give up: each of them has waited for long."""
    limiter = adaptive()
    now = feed(limiter, 0.05, feed(limiter, 0.05, 0.0))
    before = limiter.limit
    for _ in range(4):
        limiter.refused()
        for _ in range(LEAST * 6):
            now = feed(limiter, 0.5, feed(limiter, 0.05, now, 1), 4, well=False)
    assert limiter.limit < before


def test_the_rival_lets_latency_creep() -> None:
    """Why it is not Gradient2: nothing tells it what a call takes that need not wait."""
    ours = simulate(adaptive(), 20, lambda _: 0.05, 1200.0, 40.0)
    theirs = simulate(Gradient2(), 20, lambda _: 0.05, 1200.0, 40.0)
    assert theirs.p99(30.0) > 2.5 * ours.p99(30.0)


def feed(
    limiter: Limiter, took: float, now: float, count: int = ENOUGH, well: bool = True
) -> float:
    for _ in range(count):
        now += 0.001
        limiter.ended(took, now, well)
    return now


def test_nothing_is_judged_by_a_few_calls() -> None:
    limiter = adaptive()
    feed(limiter, 1.0, 0.0, LEAST - 1)
    assert (limiter.limit, limiter.lowest) == (40, 0.0)


def test_what_was_given_up_never_lowers_the_lowest() -> None:
    limiter = adaptive()
    now = feed(limiter, 0.05, 0.0)
    now = feed(limiter, 0.05, now, ENOUGH)  # the first look is over
    lowest = limiter.lowest
    for _ in range(5):
        now = feed(limiter, 0.0001, now, 100, well=False)
        now = feed(limiter, 0.05, now)
    assert limiter.lowest == pytest.approx(lowest, rel=0.2)


def test_if_nothing_ends_well_the_limit_is_halved() -> None:
    limiter = adaptive()
    feed(limiter, 1.0, 0.0, int(WINDOW * 1000) + 2, well=False)
    assert limiter.limit == 20


def test_bounds() -> None:
    limiter = Limiter(random.Random(1), least=4, most=50)
    now = 0.0
    for _ in range(10):
        limiter.refused()
        now = feed(limiter, 0.5, now)
    assert limiter.limit == 50
    assert Limiter(random.Random(1), start=40, most=10).limit == 10
    with pytest.raises(ConfigError, match="least"):
        Limiter(random.Random(1), least=5, most=4)
