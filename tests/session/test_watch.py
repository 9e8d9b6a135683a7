"""Judge peers by a clock that stands still until told."""

import pytest

from fastrpc.session.watch import LINGER, PING, Watch
from fastrpc.wire import Limits

LIMITS = Limits(
    hello_timeout=5.0, frame_timeout=30.0, frame_rate=1024.0, ping_timeout=20.0, write_stall=10.0
)


@pytest.fixture
def watch() -> Watch:
    return Watch(LIMITS, 100.0)


def test_hello_at_its_time_and_past_it(watch: Watch) -> None:
    assert watch.no_hello(105.0, False) == ""
    assert watch.no_hello(105.1, False) == "no HELLO within 5 s"
    assert watch.no_hello(105.1, True) == ""


def test_silence_then_a_ping_then_the_end(watch: Watch) -> None:
    assert watch.silent(115.0, False, 0, 15.0) == ""
    assert watch.silent(115.1, False, 0, 15.0) == PING
    assert watch.silent(135.1, False, 0, 15.0) == ""
    assert watch.silent(135.2, False, 0, 15.0) == "silent for 35 s, ping unanswered"


def test_any_byte_is_a_sign_of_life(watch: Watch) -> None:
    assert watch.silent(115.1, False, 0, 15.0) == PING
    assert watch.silent(130.0, False, 1, 15.0) == ""
    assert watch.silent(144.9, False, 1, 15.0) == ""
    assert watch.silent(145.1, False, 1, 15.0) == PING
    assert watch.silent(150.0, False, 2, 15.0) == ""


def test_a_late_look_proves_nothing_about_silence(watch: Watch) -> None:
    assert watch.silent(115.1, False, 0, 15.0) == PING
    assert watch.silent(300.0, True, 0, 15.0) == ""
    assert watch.silent(315.0, False, 0, 15.0) == ""
    assert watch.silent(315.1, False, 0, 15.0) == PING


def test_hello_counts_as_life(watch: Watch) -> None:
    watch.greeted(104.0)
    assert watch.silent(119.0, False, 0, 15.0) == ""


def test_who_can_not_answer_is_pinged_at_the_agreed_pace(watch: Watch) -> None:
    assert watch.due(100.0, 1.0)
    assert not watch.due(100.9, 1.0)
    assert watch.due(101.0, 1.0)


def test_a_stall_at_its_time_and_past_it(watch: Watch) -> None:
    assert watch.stalled(100.0, False, 5000, 70_000) == ""
    assert watch.stalled(110.0, False, 5000, 70_000) == ""
    assert watch.stalled(110.1, False, 5000, 70_000) == (
        "has read 0 bytes in 10 s (write_stall), 70000 wait"
    )


@pytest.mark.parametrize(("read", "fine"), [(10_239, False), (10_240, True)])
def test_who_reads_at_frame_rate_is_not_stalled(watch: Watch, read: int, fine: bool) -> None:
    watch.stalled(100.0, False, 5000, 70_000)
    assert watch.stalled(109.0, False, 5000 + read, 70_000) == ""
    assert (watch.stalled(110.1, False, 5000 + read, 70_000) == "") is fine


def test_a_late_look_proves_nothing_about_a_stall(watch: Watch) -> None:
    watch.stalled(100.0, False, 0, 1)
    assert watch.stalled(120.0, True, 0, 1) == ""
    assert watch.stalled(130.0, False, 0, 1) == ""
    assert watch.stalled(130.1, False, 0, 1) != ""


def test_a_new_stall_is_measured_anew(watch: Watch) -> None:
    watch.stalled(100.0, False, 0, 1)
    watch.unstalled()
    assert watch.stalled(120.0, False, 0, 1) == ""
    assert watch.stalled(130.1, False, 0, 1) != ""


def test_a_frame_at_its_time_and_past_it(watch: Watch) -> None:
    assert watch.slow(100.0, False, 10, 0, True) == ""
    assert watch.slow(130.0, False, 10, 0, True) == ""
    assert watch.slow(130.1, False, 10, 0, True) == "a frame takes longer than 30 s"


def test_what_is_slow_is_called_as_the_peer_calls_it() -> None:
    watch = Watch(LIMITS, 100.0, "message")
    assert watch.slow(100.0, False, 10, 0, True) == ""
    assert watch.slow(130.1, False, 10, 0, True) == "a message takes longer than 30 s"


@pytest.mark.parametrize(("came", "fine"), [(1024 * 31 - 1, False), (1024 * 31, True)])
def test_a_large_frame_at_frame_rate_is_waited_for(watch: Watch, came: int, fine: bool) -> None:
    watch.slow(100.0, False, 0, 0, True)
    assert (watch.slow(131.0, False, came, 0, True) == "") is fine
    if fine:  # and measured anew from then on
        assert watch.slow(132.0, False, came, 0, True) == ""
        assert watch.slow(163.0, False, came, 0, True) != ""


def test_frames_that_come_whole_are_never_slow(watch: Watch) -> None:
    for second in range(100, 200):
        assert watch.slow(float(second), False, second, second, True) == ""
    assert watch.slow(231.0, False, 200, 199, False) == ""
    assert watch.slow(300.0, False, 200, 199, False) == ""


def test_a_late_look_proves_nothing_about_a_frame(watch: Watch) -> None:
    watch.slow(100.0, False, 0, 0, True)
    assert watch.slow(140.0, True, 0, 0, True) == ""
    assert watch.slow(141.0, False, 0, 0, True) == ""
    assert watch.slow(171.0, False, 0, 0, True) == ""
    assert watch.slow(171.1, False, 0, 0, True) != ""


def test_a_closed_connection_is_kept_for_a_moment(watch: Watch) -> None:
    assert not watch.may_leave(100.0, False, 10, 0)
    assert not watch.may_leave(100.0 + LINGER, False, 10, 0)
    assert watch.may_leave(100.1 + LINGER, False, 10, 0)


def test_a_closed_connection_is_kept_while_its_peer_reads(watch: Watch) -> None:
    for second in range(100):
        assert not watch.may_leave(100.0 + second, False, 10_240 * second, 500_000)
    assert not watch.may_leave(209.0, False, 10_240 * 99, 500_000)
    assert watch.may_leave(209.1, False, 10_240 * 99, 500_000)


def test_a_late_look_proves_nothing_about_leaving(watch: Watch) -> None:
    watch.may_leave(100.0, False, 10, 0)
    assert not watch.may_leave(200.0, True, 10, 0)
    assert watch.may_leave(200.1 + LINGER, False, 10, 0)
