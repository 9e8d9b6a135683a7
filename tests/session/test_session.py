"""One connection, step by step, on a clock that stands still until told."""

import asyncio
import logging
from typing import Any

import msgspec
import pytest

from fastrpc.errors import (
    ConnectFailed,
    ConnectionDraining,
    ConnectionLost,
    FrameError,
    ProtocolError,
    Unsupported,
)
from fastrpc.frame import encode_frame
from fastrpc.protocol import Input, Option, State, encode_option
from fastrpc.session import opening
from fastrpc.session.session import WRITE_HIGH
from fastrpc.session.watch import NEVER_MS
from fastrpc.wire import ID_MAX, Kind, StatusCode
from tests.session.rig import MSGPACK, Rig, hello_frame, kinds

pytestmark = pytest.mark.asyncio
pack = msgspec.msgpack.encode
PING = (Kind.CALL, 0)
CLOSED_EVENTS = ["eof", "resume"]


class Work:
    """Something to do."""

    def __init__(self) -> None:
        self.go_on: asyncio.Event = asyncio.Event()
        self.ended = 0

    def add(self, a: int, b: int) -> int:
        return a + b

    async def wait(self) -> int:
        try:
            await self.go_on.wait()
            return 1
        finally:
            self.ended += 1

    async def block(self, size: int) -> bytes:
        await self.go_on.wait()
        return bytes(size)


def call(id: int, method: str = "add", args: Any = None, **more: Any) -> bytes:
    args = args or ((2, 3) if method == "add" else ())
    name = f"Work.{method}".encode()
    return encode_frame(
        Kind.CALL, id, serializer=MSGPACK, name=name, payload=pack(list(args)), **more
    )


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# ----------------------------------------------------------------------- opening


async def test_a_server_says_nothing_before_it_is_spoken_to() -> None:
    rig = Rig(Work()).connect()
    assert (rig.told, rig.session.peer) == (["accept"], "tcp://10.0.0.9:4711")
    assert rig.transport.high == WRITE_HIGH
    assert rig.frames() == []
    assert rig.session.state is State.HELLO


async def test_hello_opens_and_calls_right_behind_it_are_answered() -> None:
    rig = Rig(Work()).connect()
    rig.feed(hello_frame(encode_option(Option(max_body=999), False)) + call(1))
    assert kinds(rig.frames()) == [(Kind.HELLO, 0), (Kind.CALL, 0)]
    assert rig.told == ["accept", "open"]
    assert rig.session.lane.peer_body == 999
    assert rig.session.state is State.OPEN


async def test_a_connection_given_up_before_it_was_made_is_closed_when_it_is() -> None:
    rig = Rig(client=True)
    rig.session.abort(ConnectionLost("never mind"))
    rig.connect()
    assert rig.transport.events == ["abort"]
    assert rig.transport.written == b""
    assert rig.told == []


async def test_no_hello_in_time() -> None:
    rig = Rig(Work()).connect()
    rig.look(5.0)
    assert not rig.transport.events
    rig.look(0.1, late=True)
    assert not rig.transport.events
    rig.look(0.1)
    assert rig.transport.events == ["abort"]
    assert rig.session.state is State.CLOSED


async def test_an_internal_error_ends_the_connection_and_tells_nobody_why(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(Work()).greet()

    def fail(*args: Any) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(type(rig.side.answers), "slowly", fail)
    rig.feed(call(1, "none"))
    (last,) = rig.frames()
    assert (last.kind, last.status) == (Kind.GOAWAY, StatusCode.SERVER_ERROR)
    assert b"secret" not in last.payload
    assert "ZeroDivisionError: secret" in caplog.text
    assert rig.transport.events == CLOSED_EVENTS


# ----------------------------------------------------------------- pings and silence


async def test_a_silent_peer_is_asked_and_then_let_go() -> None:
    rig = Rig(Work(), idle_ping=15.0, ping_timeout=20.0).greet()
    rig.look()  # sees that something has come
    rig.look(15.0)
    assert rig.frames() == []
    rig.look(0.1)
    assert kinds(rig.frames()) == [PING]
    rig.look(20.0)
    rig.look(0.1)
    assert rig.transport.events == ["abort"]
    rig.lose()
    assert "silent for 35 s" in str(rig.lost[0])


async def test_the_peer_may_ask_for_fewer_pings() -> None:
    rig = Rig(Work(), idle_ping=15.0).greet(ping_ms=60_000)
    rig.look()
    rig.look(60.0)
    assert rig.frames() == []
    rig.look(0.1)
    assert kinds(rig.frames()) == [PING]


async def test_our_ping_measures_the_way_there_and_back() -> None:
    rig = Rig(client=True).greet()
    first, second = rig.session.ping(), rig.session.ping()
    tokens = [frame.id for frame in rig.frames()]
    assert len(set(tokens)) == 2
    rig.now += 0.5
    for token in (12345, *tokens, *tokens):  # also one that nobody waits for, and two twice
        rig.feed(encode_frame(Kind.CALL, token, heartbeat=True, reply=True))
    assert [round(await waiter, 3) for waiter in (first, second)] == [0.5, 0.5]


async def test_pings_end_with_the_connection() -> None:
    rig = Rig(client=True).greet()
    waiting = rig.session.ping()
    rig.lose()
    for ping in (waiting, rig.session.ping()):
        with pytest.raises(ConnectionLost):
            await ping


# ---------------------------------------------------------------------- slow peers


async def test_a_paused_peer_is_not_read_from_until_it_reads() -> None:
    rig = Rig(Work()).greet()
    rig.session.pause_writing()
    assert rig.transport.events == ["pause"]
    rig.feed(call(1))  # it was on its way
    assert rig.session.lane.stalled
    assert kinds(rig.frames()) == [(Kind.CALL, 0)]
    rig.feed(call(2))
    assert rig.frames() == []
    rig.session.resume_writing()
    assert kinds(rig.frames()) == [(Kind.CALL, 0)]
    assert rig.transport.events == ["pause", "resume"]


async def test_a_stalled_peer_is_let_go_and_a_slow_one_is_not() -> None:
    rig = Rig(Work(), write_stall=10.0, frame_rate=100.0).greet()
    rig.session.lane.send(bytes(100_000))
    rig.session.lane.flush()
    rig.transport.unread = 100_000
    rig.session.pause_writing()
    for _ in range(30):
        rig.look(1.0)
        rig.transport.unread -= 100
    assert rig.transport.events == ["pause"]
    for _ in range(10):
        rig.look(1.0)
        rig.transport.unread -= 90
    rig.look(1.1)
    assert rig.transport.events == ["pause", "abort"]
    rig.lose()
    assert "write_stall" in str(rig.lost[0])


async def test_results_wait_at_max_unsent_exactly() -> None:
    service = Work()
    rig = Rig(service, max_unsent=1000).greet()
    rig.feed(call(1, "block", [10]))
    await turns()
    rig.session.pause_writing()
    rig.transport.unread = 1000
    assert rig.session.is_full
    service.go_on.set()
    await turns()
    assert rig.frames() == []
    assert rig.session.in_flight == 1
    rig.transport.unread = 999
    assert not rig.session.is_full
    rig.session.resume_writing()
    await turns()
    assert kinds(rig.frames()) == [(Kind.CALL, 0)]
    assert rig.session.in_flight == 0


async def test_what_piles_up_in_one_turn_is_handed_over() -> None:
    rig = Rig(Work()).greet()
    rig.session.lane.send(bytes(WRITE_HIGH - 1))
    rig.session.hand_over()
    assert rig.session.lane.unsent == WRITE_HIGH - 1
    rig.session.lane.send(b"x")
    rig.session.hand_over()
    assert rig.session.lane.unsent == 0


async def test_half_a_frame_for_too_long() -> None:
    rig = Rig(Work(), frame_timeout=30.0).greet()
    rig.feed(call(1)[:-1])
    rig.look(1.0)
    for _ in range(4):
        rig.look(10.0, late=True)
    rig.look(1.0)
    rig.look(30.0)
    assert not rig.transport.events
    rig.look(1.0)
    assert rig.transport.events == ["abort"]


# ------------------------------------------------------------------------- ending


async def test_the_end_of_the_pipe_ends_everything_at_once() -> None:
    service = Work()
    rig = Rig(service).greet()
    rig.feed(call(1, "wait"))
    await turns()
    drained, gone = rig.session.drain(), rig.session.gone()
    rig.lose(OSError("cable"))
    assert drained.done()
    assert gone.done()
    assert rig.session.gone().done()
    assert (rig.told[-1], str(rig.lost[0])) == (
        "lost", "tcp://10.0.0.9:4711: the connection was closed: cable",
    )  # fmt: skip
    await turns()
    assert service.ended == 1
    assert rig.side.answers is not None
    assert rig.side.answers.running == 0


async def test_last_words_go_out_before_the_end() -> None:
    rig = Rig(Work()).greet()
    rig.session.lane.send(call(7))
    rig.session.shut(ConnectionLost("over"), Input.CLOSE, call(8))
    assert [frame.id for frame in rig.frames()] == [7, 8]
    assert rig.transport.events == CLOSED_EVENTS
    rig.session.lane.send(call(9))  # nothing is written any more, and nothing is wrong with it
    rig.session.lane.flush()
    rig.session.close()
    assert rig.transport.events == CLOSED_EVENTS


async def test_who_does_not_hang_up_is_hung_up_on() -> None:
    rig = Rig(Work()).greet()
    rig.session.close()
    rig.look(1.0)
    rig.look(1.0)
    assert "abort" not in rig.transport.events
    rig.look(0.1)
    assert "abort" in rig.transport.events


async def test_a_peer_that_sends_no_more_gets_its_answers() -> None:
    service = Work()
    rig = Rig(service).greet(ping_ms=1000)
    rig.feed(call(1, "wait"))
    await turns()
    assert rig.session.eof_received()
    assert kinds(rig.frames()) == [PING]
    for _ in range(100):  # silent as it is, and has to be
        rig.look(1.0)
    assert len(rig.frames()) == 100
    service.go_on.set()
    await turns()
    assert [frame.id for frame in rig.frames()] == [1]
    assert rig.transport.events == ["close"]


async def test_over_tls_there_is_no_half_and_the_end_is_the_end() -> None:
    service = Work()
    rig = Rig(service).greet()
    rig.transport.has_half = False
    rig.feed(call(1, "wait"))
    await turns()
    assert not rig.session.eof_received(), "a loop would warn, and close all the same"
    assert rig.session.state is State.CLOSED
    rig.lose()
    await turns()
    assert rig.session.running == {}


async def test_a_blocking_client_that_vanished_is_pinged_although_it_asked_for_none() -> None:
    rig = Rig(Work(), idle_ping=15.0).greet(ping_ms=NEVER_MS)
    rig.feed(call(1, "wait"))
    await turns()
    assert rig.session.eof_received()
    assert kinds(rig.frames()) == [PING]
    for _ in range(6):
        rig.look(10.0)
    assert 3 <= len(rig.frames()) <= 4
    rig.lose(ConnectionResetError())
    await turns()
    assert rig.session.running == {}


async def test_a_peer_that_sends_no_more_and_waits_for_nothing_is_let_go() -> None:
    rig = Rig(Work()).greet()
    assert not rig.session.eof_received()
    assert rig.session.state is State.CLOSED
    rig.lose()
    assert str(rig.lost[0]).endswith("the connection was closed by the peer")


# -------------------------------------------------------------------------- drain


async def test_drain_in_two_steps() -> None:
    service = Work()
    rig = Rig(service).greet()
    rig.feed(call(1, "wait"))
    await turns()
    rig.session.leave()
    rig.session.leave()
    (soon,) = rig.frames()
    assert (soon.kind, soon.status, soon.id) == (Kind.GOAWAY, 53, ID_MAX)
    rig.feed(call(2))
    done = rig.session.drain()
    assert rig.session.drain() is done
    reply, then = rig.frames()
    assert (reply.id, then.kind, then.id) == (2, Kind.GOAWAY, 2)
    rig.feed(call(3))
    assert kinds(rig.frames()) == [(Kind.CALL, 53)]
    assert not done.done()
    service.go_on.set()
    await turns()
    assert done.done()


async def test_drain_before_hello_closes_at_once() -> None:
    rig = Rig(Work()).connect()
    rig.session.leave()
    assert rig.transport.events == ["abort"]
    assert rig.session.drain().done()


async def test_handlers_stopped_by_the_server_are_answered_once() -> None:
    service = Work()
    rig = Rig(service).greet()
    rig.feed(call(1, "wait"), call(2, "wait"))
    await turns()
    rig.session.cancel_running("enough")
    rig.session.cancel_running("enough")
    await turns()
    assert kinds(rig.frames()) == [(Kind.CALL, 42), (Kind.CALL, 42)]
    assert service.ended == 2
    rig.session.cancel_running("nothing left")


# ---------------------------------------------------------------- the client's side


def lane_call(rig: Rig, timeout: float = 0.0) -> "asyncio.Future[Any]":
    waiter: asyncio.Future[Any] = rig.session.lane.call("A.b", (1,), None, timeout, b"", None)
    return waiter


async def test_a_client_speaks_first_and_keeps_to_what_it_hears() -> None:
    rig = Rig(client=True).greet(max_calls=10, max_body=500, ping_ms=5)
    lane = rig.session.lane
    assert rig.told == ["accept", "open"]
    assert (lane.ready, lane.peer_calls, lane.peer_body) == (True, 10, 500)
    assert rig.session.peer_interval == 0.005


async def test_refused() -> None:
    rig = Rig(client=True).connect()
    rig.frames()
    rig.feed(opening.refuse(47, "too old"))
    assert rig.transport.events == ["close"]
    rig.lose()
    assert type(rig.lost[0]) is Unsupported
    assert "too old" in str(rig.lost[0])


async def test_goaway_instead_of_hello() -> None:
    rig = Rig(client=True).connect()
    rig.frames()
    text = pack({"message": "HELLO: magic must be 64087"})
    rig.feed(encode_frame(Kind.GOAWAY, 0, status=70, serializer=MSGPACK, payload=text))
    assert rig.transport.events == ["close"]
    rig.lose()
    assert "HELLO: magic must be 64087" in str(rig.lost[0])


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "is no fastrpc server; it says 'HTTP/1.1 400 Bad"),
        (hello_frame(b"{}"), "wrong way"),
        (hello_frame(b"{}", reply=True), "magic must be"),
        (call(1), "must be HELLO"),
    ],
)
async def test_no_hello_at_all(said: bytes, words: str) -> None:
    rig = Rig(client=True).connect()
    rig.feed(said)
    rig.lose()
    assert type(rig.lost[0]) is ProtocolError
    assert words in str(rig.lost[0])


async def test_open_calls_end_with_errors_of_their_own() -> None:
    rig = Rig(client=True).greet()
    calls = [lane_call(rig) for _ in range(3)]
    done = lane_call(rig)
    done.cancel()
    rig.session.abort(ConnectFailed("gone"))
    errors = [call.exception() for call in calls]
    assert len({id(error) for error in errors}) == 3
    assert {type(error) for error in errors} == {ConnectionLost}
    assert "A.b: ConnectFailed: gone" in str(errors[0])
    rig.lose()
    assert type(rig.lost[0]) is ConnectFailed


async def test_goaway_tells_which_calls_were_not_taken() -> None:
    rig = Rig(client=True).greet()
    calls = [lane_call(rig) for _ in range(3)]
    rig.feed(encode_frame(Kind.GOAWAY, 1, status=53))
    assert [call.done() for call in calls] == [False, True, True]
    errors = [call.exception() for call in calls[1:]]
    assert errors[0] is not errors[1]
    assert {type(error) for error in errors} == {ConnectionDraining}
    assert (rig.told[-1], rig.session.lane.ready) == ("drain", False)
    rig.feed(encode_frame(Kind.CALL, 1, reply=True, serializer=MSGPACK, payload=b"\x05"))
    assert calls[0].result() == 5


async def test_goaway_70_is_why_the_connection_ends() -> None:
    rig = Rig(client=True).greet()
    calls = [lane_call(rig) for _ in range(2)]
    text = pack({"message": "ids must rise"})
    rig.feed(encode_frame(Kind.GOAWAY, 1, status=70, serializer=MSGPACK, payload=text))
    rig.lose()
    assert [type(call.exception()) for call in calls] == [ConnectionLost, ConnectionLost]
    assert [call.exception().ran for call in calls] == ["maybe", "no"]  # type: ignore[union-attr]
    assert all("ids must rise" in str(call.exception()) for call in calls)


async def test_calls_past_their_deadline_end_and_are_cancelled_over_there() -> None:
    rig = Rig(client=True).greet()
    late, fine = lane_call(rig, 0.5), lane_call(rig, 5.0)
    rig.frames()
    rig.now += 0.6
    assert rig.session.fast_tick(rig.now)
    assert "deadline of 500 ms passed after 600 ms" in str(late.exception())
    assert [(f.kind, f.id, f.status) for f in rig.frames()] == [(Kind.CANCEL, 1, 41)]
    assert not fine.done()
    fine.cancel()
    assert not rig.session.fast_tick(rig.now)
    assert [(f.kind, f.id, f.status) for f in rig.frames()] == [(Kind.CANCEL, 2, 42)]
    rig.session.abort(ConnectionLost("over"))
    assert not rig.session.fast_tick(rig.now)


async def test_replies_with_trailers_give_their_value() -> None:
    rig = Rig(client=True, max_items=70).greet()
    trailers = b"\x01k\x00\x01v"
    bodies = [b"\x05", b"\xc1", pack([list(range(80))]), b"x"]
    calls = [lane_call(rig) for _ in bodies]
    for id, body in enumerate(bodies, 1):
        serializer = MSGPACK if id < 4 else 9
        rig.feed(encode_frame(
            Kind.CALL, id, reply=True, serializer=serializer, metadata=trailers, payload=body,
        ))  # fmt: skip
    assert calls[0].result() == 5
    names = [type(call.exception()).__name__ for call in calls[1:]]
    assert names == ["CodecError", "TooLarge", "Unsupported"]


async def test_a_call_to_who_answers_none_is_told_so() -> None:
    rig = Rig(client=True).greet()
    rig.feed(call(1), call(2, oneway=True), encode_frame(Kind.OPEN, 3, name=b"x"))
    assert [(f.id, f.status) for f in rig.frames()] == [(1, 44), (3, 44)]


async def test_strange_replies_end_the_connection_in_time() -> None:
    rig = Rig(client=True).greet()
    strange = encode_frame(Kind.CALL, 99, reply=True, payload=b"\x01", serializer=MSGPACK)
    rig.feed(strange * 1000)
    rig.look(1.0)
    assert not rig.transport.events
    rig.feed(strange * 20)
    rig.look(1.0)
    (last,) = [frame for frame in rig.frames() if frame.kind == Kind.GOAWAY]
    assert last.status == 71


async def test_late_replies_to_calls_given_up_are_no_strikes() -> None:
    rig = Rig(client=True).greet()
    for id in range(1, 1200):
        lane_call(rig).cancel()
        rig.session.fast_tick(rig.now)
        rig.feed(encode_frame(Kind.CALL, id, reply=True, payload=b"\x01", serializer=MSGPACK))
    rig.look(1.0)
    assert not rig.transport.events


async def test_a_client_that_breaks_down_says_so_quietly(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    rig = Rig(client=True).greet()
    rig.session.broken(FrameError("version 2 is not 1", "version", b"\xfa\x57"))
    assert caplog.text == ""
    assert kinds(rig.frames()) == [(Kind.GOAWAY, 70)]
    rig.session.broken(FrameError("again", "version"))
    assert rig.frames() == []


async def test_bytes_that_are_no_frame_are_neither_sent_back_nor_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for rig in (Rig().connect(), Rig().greet()):
        rig.feed(b"hunter2-is-my-password" * 4)
        (goaway,) = rig.frames()
        assert (goaway.kind, goaway.status) == (Kind.GOAWAY, 70)
        assert b"not a frame" in goaway.payload
        assert b"hunter2" not in rig.transport.written
    assert "closing: not a frame" in caplog.text
    assert "hunter2" not in caplog.text


async def test_both_ends_call_a_call_the_same() -> None:
    ours, theirs = Rig(client=True).greet(), Rig().greet(nonce="0123456789")
    assert theirs.session.call_id(5) == "01234567-5"
    assert ours.session.call_id(5) == f"{ours.session._nonce[:8]}-5"
    assert Rig().greet().session.call_id(5) == "5"
