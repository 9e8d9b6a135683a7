"""What the connections of one owner have in common."""

import logging

import pytest

from fastrpc.codec import default_codecs
from fastrpc.frame import Lane, LoopShare
from fastrpc.protocol import Option
from fastrpc.session.side import Side
from fastrpc.wire import Limits


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def side(clock: Clock) -> Side:
    share = LoopShare(object, object, clock, lambda: True, 0, None)  # type: ignore[arg-type]
    return Side(
        share=share, limits=Limits(max_body=5000, max_depth=7, max_items=70, max_methods=11),
        option=Option(), codecs=default_codecs(), log=logging.getLogger("tests.side"), router={},
    )  # fmt: skip


def test_codecs_lie_at_their_wire_numbers(side: Side) -> None:
    assert [n for n, encode in enumerate(side.encoders) if encode is not None] == [0, 1, 2]
    assert [n for n, decode in enumerate(side.decoders) if decode is not None] == [0, 1, 2]
    assert side.by_number[2].name == "json"
    assert len(side.encoders) == len(side.decoders) == 32


def test_what_was_agreed_is_put_into_the_lane(side: Side) -> None:
    lane = Lane(object(), side.share, 1000)
    peer = Option(max_body=900, max_calls=3, methods=4)
    side.agree(lane, Option(), peer)
    assert (lane.max_body, lane.max_depth, lane.max_items, lane.max_methods) == (5000, 7, 70, 11)
    assert (lane.peer_body, lane.peer_calls, lane.peer_methods) == (900, 3, 4)
    assert lane.opened
    assert lane.raw
    assert lane.router == {}


def test_raw_is_not_used_where_it_was_not_agreed(side: Side) -> None:
    lane = Lane(object(), side.share, 1000)
    side.agree(lane, Option(codecs={"msgpack": 1}), Option())
    assert not lane.raw


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    lines = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return lines


def test_one_line_a_second_for_each_host(
    side: Side, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for port in range(5):
        side.complain(logging.WARNING, f"tcp://1.2.3.4:{port}", "bad")
        side.complain(logging.WARNING, f"tcp://[2001:db8::1]:{port}", "bad")
    side.complain(logging.WARNING, "unix:///run/a", "bad")
    side.complain(logging.WARNING, "unix:///run/b", "bad")
    assert said(caplog) == [
        "tcp://1.2.3.4:0: bad", "tcp://[2001:db8::1]:0: bad",
        "unix:///run/a: bad", "unix:///run/b: bad",
    ]  # fmt: skip
    clock.now += 1.0
    side.complain(logging.WARNING, "tcp://1.2.3.4:9", "worse")
    assert said(caplog) == ["tcp://1.2.3.4:9: worse (and 4 lines more about it)"]


def test_a_line_may_have_a_traceback(side: Side, caplog: pytest.LogCaptureFixture) -> None:
    side.complain(logging.ERROR, "mem://x", "broken", ValueError("inside"))
    assert "ValueError: inside" in caplog.text


def test_many_hosts_take_bounded_memory(side: Side, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(5000):
        side.complain(logging.DEBUG, f"tcp://10.0.{number >> 8}.{number & 255}:1", "x")
    assert len(side._limiters) <= 1025


def test_lines_left_out_about_mistakes_of_ours_are_there_for_who_debugs(
    side: Side, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for number in range(3):
        side.complain(logging.ERROR, "mem://x", f"call x-{number} of A", about="A")
        side.complain(logging.WARNING, "mem://x", "too many pings")
    levels = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert levels == [
        ("ERROR", "mem://x: call x-0 of A"), ("WARNING", "mem://x: too many pings"),
        ("DEBUG", "mem://x: call x-1 of A"), ("DEBUG", "mem://x: call x-2 of A"),
    ]  # fmt: skip


class Unprintable(Exception):
    @property
    def __cause__(self) -> BaseException:  # type: ignore[override]
        raise SystemExit


def test_what_can_not_be_printed_is_still_told_of(
    side: Side, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Unprintable) as caught:
        raise Unprintable
    side.complain(logging.ERROR, "mem://x", "call x-1 of A", caught.value)
    (line,) = said(caplog)
    assert line.startswith("mem://x: call x-1 of A (it can't be printed as it is)\n")
    assert "raise Unprintable" in line


class Failing(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise RecursionError


def test_a_logger_that_fails_costs_nothing(side: Side) -> None:
    handler = Failing()
    side.log.addHandler(handler)
    try:
        side.complain(logging.ERROR, "mem://x", "A", about="A")
        side.complain(logging.ERROR, "mem://x", "A", about="A")
    finally:
        side.log.removeHandler(handler)
