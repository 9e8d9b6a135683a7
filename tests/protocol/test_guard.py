"""Check the bounds that keep a flooding peer from costing us much."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrpc.errors import ConfigError, ProtocolError
from fastrpc.protocol.guard import (
    CANCEL_BURST,
    CANCEL_RATE,
    PING_STRIKES,
    UNKNOWN_BURST,
    LogLimiter,
    PeerGuard,
    TokenBucket,
)

gaps = st.lists(st.floats(0, 10), max_size=30)
rates = st.floats(0, 1000, allow_nan=False)
bursts = st.integers(1, 20)


def moments(steps: list[float]) -> list[float]:
    now, times = 1000.0, []
    for gap in steps:
        now += gap
        times.append(now)
    return times


@given(rate=rates, burst=bursts, steps=gaps)
def test_no_span_allows_more_than_burst_and_rate(
    rate: float, burst: int, steps: list[float]
) -> None:
    bucket = TokenBucket(rate, burst)
    allowed = [now for now in moments(steps) if bucket.take(now)]
    for first, start in enumerate(allowed):
        for last in range(first, len(allowed)):
            assert last - first + 1 <= burst + rate * (allowed[last] - start) + 1e-6


@given(rate=st.floats(0.01, 1000), burst=bursts, steps=gaps)
def test_who_keeps_to_the_rate_is_never_refused(
    rate: float, burst: int, steps: list[float]
) -> None:
    bucket = TokenBucket(rate, burst)
    patient = [gap + 1.0001 / rate for gap in steps]
    assert all(bucket.take(now) for now in moments(patient))


@given(rate=rates, burst=bursts, times=st.lists(st.floats(-1e6, 1e6), max_size=60))
def test_a_clock_that_steps_back_gives_nothing(rate: float, burst: int, times: list[float]) -> None:
    bucket = TokenBucket(rate, burst)
    allowed = sum(bucket.take(now) for now in times)
    span = max(times, default=0.0) - times[0] if times else 0.0
    assert allowed <= burst + rate * span + 1e-3


def test_burst_exactly_then_refill() -> None:
    bucket = TokenBucket(2.0, 3)
    assert [bucket.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(0.5) for _ in range(2)] == [True, False]
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]


def test_several_tokens_are_taken_together_or_not_at_all() -> None:
    bucket = TokenBucket(1.0, 3)
    assert [bucket.take(0.0, 4), bucket.take(0.0, 2), bucket.take(0.0, 2)] == [False, True, False]
    assert bucket.take(0.0)


def test_a_bucket_of_rate_zero_never_refills() -> None:
    bucket = TokenBucket(0, 1)
    assert [bucket.take(0.0), bucket.take(1e9)] == [True, False]


@pytest.mark.parametrize(
    ("rate", "burst", "name"),
    [
        (-1, 1, "rate"),
        (float("inf"), 1, "rate"),
        (float("nan"), 1, "rate"),
        (1, 0, "burst"),
        (1, float("inf"), "burst"),
        (1, float("nan"), "burst"),
    ],
)
def test_a_bucket_refuses_numbers_of_no_sense(rate: float, burst: float, name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        TokenBucket(rate, burst)


def flood(act: Callable[[float], None], times: int, now: float = 0.0) -> None:
    for _ in range(times):
        act(now)


def for_each(act: Callable[[float], None], times: list[float]) -> None:
    for now in times:
        act(now)


def test_two_early_pings_are_forgiven_and_the_third_is_not() -> None:
    guard = PeerGuard(1.0)
    flood(guard.ping, 1 + PING_STRIKES)
    with pytest.raises(ProtocolError, match="pings come faster") as caught:
        guard.ping(0.1)
    assert caught.value.status == 71


@given(st.lists(st.floats(-0.4, 0.4), min_size=1, max_size=200))
def test_a_peer_that_keeps_to_the_interval_is_forgiven_its_jitter(jitter: list[float]) -> None:
    guard = PeerGuard(1.0)
    for number, late in enumerate(jitter):
        guard.ping(10.0 + number + late)


def test_pings_just_above_the_agreed_rate_end_the_connection() -> None:
    guard = PeerGuard(1.0)
    with pytest.raises(ProtocolError):
        for_each(guard.ping, [number * 0.9 for number in range(100)])


def test_an_interval_of_zero_allows_any_ping() -> None:
    flood(PeerGuard(0).ping, 10_000)


@pytest.mark.parametrize("interval", [-1.0, float("inf"), float("nan")])
def test_an_interval_of_no_sense_is_refused(interval: float) -> None:
    with pytest.raises(ConfigError, match="ping_interval"):
        PeerGuard(interval)


def test_cancels_at_the_burst_and_one_past_it() -> None:
    guard = PeerGuard()
    flood(guard.cancel, CANCEL_BURST)
    with pytest.raises(ProtocolError, match="cancelled") as caught:
        guard.cancel(0.0)
    assert caught.value.status == 71


def test_cancels_refill_at_their_rate() -> None:
    guard = PeerGuard()
    flood(guard.cancel, CANCEL_BURST)
    flood(guard.cancel, int(CANCEL_RATE), now=1.0)
    with pytest.raises(ProtocolError):
        guard.cancel(1.0)


def test_unknown_replies_a_thousand_a_minute_and_one_past_it() -> None:
    guard = PeerGuard()
    flood(guard.unknown_reply, UNKNOWN_BURST)
    with pytest.raises(ProtocolError, match="unknown calls") as caught:
        guard.unknown_reply(0.0)
    assert caught.value.status == 71
    guard.unknown_reply(60.0, 999)


def test_unknown_replies_are_counted_in_bulk() -> None:
    PeerGuard().unknown_reply(0.0, UNKNOWN_BURST)
    with pytest.raises(ProtocolError):
        PeerGuard().unknown_reply(0.0, UNKNOWN_BURST + 1)


def test_the_bounds_of_cancels_can_be_set() -> None:
    guard = PeerGuard(cancel_burst=2, cancel_rate=1.0)
    flood(guard.cancel, 2)
    with pytest.raises(ProtocolError):
        guard.cancel(0.5)


def test_a_call_that_was_answered_gives_a_token_back() -> None:
    guard = PeerGuard(cancel_burst=3, cancel_rate=0)
    flood(guard.cancel, 3)
    guard.cancel(0.0, 1)  # one call was answered since
    with pytest.raises(ProtocolError, match="cancelled"):
        guard.cancel(0.0, 1)  # the same one counts once
    guard.cancel(0.0, 3)
    guard.cancel(0.0, 3)
    with pytest.raises(ProtocolError):
        guard.cancel(0.0, 3)


def test_answers_before_the_first_cancel_do_not_fill_the_bucket_over_its_burst() -> None:
    guard = PeerGuard(cancel_burst=3, cancel_rate=0)
    guard.cancel(0.0, 1_000_000)
    flood_with(guard, 2, 1_000_000)
    with pytest.raises(ProtocolError):
        guard.cancel(0.0, 1_000_000)


def test_cancels_of_calls_that_never_were_take_and_do_not_give() -> None:
    # A session counts them off the calls it has answered, so the number may fall, even below 0.
    guard = PeerGuard(cancel_burst=3, cancel_rate=0)
    for number in range(3):
        guard.cancel(0.0, -number)
    with pytest.raises(ProtocolError):
        guard.cancel(0.0, -3)


def flood_with(guard: PeerGuard, times: int, answered: int) -> None:
    for _ in range(times):
        guard.cancel(0.0, answered)


@given(st.lists(st.integers(0, 50), max_size=200), st.integers(1, 20))
def test_who_cancels_no_more_than_is_answered_is_never_taken_for_a_flood(
    answers: list[int], burst: int
) -> None:
    guard, answered = PeerGuard(cancel_burst=burst, cancel_rate=0), 0
    for some in answers:
        answered += some
        flood_with(guard, min(some, burst), answered)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=100))
def test_cancels_are_never_more_than_burst_and_answers(steps: list[tuple[int, int]]) -> None:
    guard, answered, cancelled = PeerGuard(cancel_burst=10, cancel_rate=0), 0, 0
    for some, cancels in steps:
        answered += some
        for _ in range(cancels):
            try:
                guard.cancel(0.0, answered)
            except ProtocolError:
                continue
            cancelled += 1
        assert cancelled <= 10 + answered


def test_the_three_counts_are_apart() -> None:
    guard = PeerGuard()
    flood(guard.cancel, CANCEL_BURST)
    flood(guard.unknown_reply, UNKNOWN_BURST)
    guard.ping(0.0)


def test_one_line_a_second_and_the_held_back_are_counted() -> None:
    limiter = LogLimiter()
    assert limiter.take(5.0) == 0
    assert [limiter.take(5.0), limiter.take(5.5), limiter.take(5.99)] == [None, None, None]
    assert limiter.take(6.0) == 3
    assert limiter.take(9.0) == 0


@given(st.lists(st.floats(0, 0.5, allow_nan=False), max_size=200))
def test_every_line_is_let_through_or_counted(steps: list[float]) -> None:
    limiter = LogLimiter(1.0)
    times = moments(steps)
    said = [limiter.take(now) for now in times]
    through = [now for now, held in zip(times, said, strict=True) if held is not None]
    final = limiter.take(1e9)
    assert final is not None
    assert sum(held for held in said if held is not None) + final + len(through) == len(times)
    assert all(later - former >= 1.0 - 1e-9 for former, later in pairwise(through))


def test_a_million_lines_of_a_flood_become_sixty_a_minute() -> None:
    limiter = LogLimiter()
    assert sum(limiter.take(n * 60e-5) is not None for n in range(100_000)) <= 61


def test_a_count_of_answers_that_falls_and_rises_again_is_paid_once() -> None:
    """Streams of one read are all counted before the first of their CANCELs is."""
    guard = PeerGuard(cancel_burst=100, cancel_rate=1e-9)
    taken = 0
    with pytest.raises(ProtocolError, match="cancelled"):
        while taken < 1000:
            guard.cancel(1.0, 49 - taken % 50)
            taken += 1
    assert taken == 100  # the bucket was full when it was paid
