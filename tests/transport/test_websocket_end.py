"""Check what both kinds of ends have in common: control frames, closing, floods, cuts."""

import asyncio
from typing import Any

import pytest

from fastrpc.errors import TransportError
from fastrpc.transport import websocket_end, websocket_text
from fastrpc.transport.websocket import WebSocketPipe
from fastrpc.transport.websocket_end import EMPTY_MAX, HALF_CLOSED, WebSocketEnd
from fastrpc.transport.websocket_text import WebSocketText
from tests.transport import websocket_raw as raw
from tests.transport.websocket_ends import connected, echoing
from tests.transport.websocket_raw import BINARY, CLOSE, PING, PONG, TEXT, Frame, close, put

pytestmark = pytest.mark.asyncio


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no turn of the loop end because the machine is slow."""
    monkeypatch.setattr(websocket_text, "TIME_MAX", 1e9)


class Outer(asyncio.Transport):
    """A connection below that only notes what is asked of it."""

    def __init__(self, *, has_eof: bool = True) -> None:
        super().__init__({"peername": ("192.0.2.1", 7)})
        self.written = bytearray()
        self.unsent = 0
        self.asked: list[str] = []
        self._has_eof = has_eof

    def write(self, data: Any) -> None:
        self.written += data

    def writelines(self, pieces: Any) -> None:
        self.written += b"".join(pieces)

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return 1, 4

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.asked.append(f"limits {low} {high}")

    def is_closing(self) -> bool:
        return "close" in self.asked or "abort" in self.asked

    def can_write_eof(self) -> bool:
        return self._has_eof

    def write_eof(self) -> None:
        self.asked.append("eof")

    def close(self) -> None:
        self.asked.append("close")

    def abort(self) -> None:
        self.asked.append("abort")

    def pause_reading(self) -> None:
        self.asked.append("pause")

    def resume_reading(self) -> None:
        self.asked.append("resume")

    async def said(self) -> list[Frame]:
        """Return the frames written so far."""
        reader = asyncio.StreamReader(limit=2**25)
        reader.feed_data(bytes(self.written))
        reader.feed_eof()
        return await raw.rest(reader)


class Inner(asyncio.Protocol):
    """Stands on a pipe and notes what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.received = b""
        self.stays = False

    def data_received(self, data: bytes) -> None:
        self.received += data

    def eof_received(self) -> bool:
        self.told.append("end")
        return self.stays

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append(exc)

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")


def pipe_on(
    *, is_client: bool = False, has_eof: bool = True, **options: Any
) -> tuple[WebSocketPipe, Outer, Inner]:
    outer, inner = Outer(has_eof=has_eof), Inner()
    pipe = WebSocketPipe(outer, is_client=is_client, **options)
    pipe.set_protocol(inner)
    return pipe, outer, inner


async def turns() -> None:
    """Let what was put off happen; with a patience of 0, timers too."""
    for _ in range(3):
        await asyncio.sleep(0.001)


# Closing


@pytest.mark.parametrize("is_client", [False, True])
async def test_close_is_said_and_answered_and_the_server_hangs_up(is_client: bool) -> None:
    pipe, outer, inner = pipe_on(is_client=is_client)
    mask = None if is_client else b"mask"
    pipe.write(b"last")
    pipe.close()
    pipe.close()
    pipe.write(b"in vain")
    pipe.data_received(put(BINARY, b"late", mask=mask))
    assert [frame.opcode for frame in await outer.said()] == [BINARY, CLOSE]
    assert pipe.is_closing()
    assert outer.asked == []
    pipe.data_received(close(1000, mask=mask))
    assert outer.asked == ([] if is_client else ["close"])
    pipe.connection_lost(None)
    assert inner.told == [None]
    assert inner.received == b""


async def test_a_peer_that_never_closes_is_left() -> None:
    pipe, outer, inner = pipe_on(patience=0.0)
    pipe.close()
    await turns()
    assert outer.asked == ["abort"]
    pipe.connection_lost(None)
    assert inner.told == [None]


async def test_a_peer_that_still_reads_is_waited_for() -> None:
    pipe, outer, _ = pipe_on(patience=1.0)
    outer.unsent = 10_000
    pipe.close()
    outer.unsent = 5_000  # it has read at more than the rate that is asked for
    pipe._give_up()
    assert outer.asked == []
    outer.unsent = 4_500
    pipe._give_up()
    assert outer.asked == ["abort"]
    pipe.connection_lost(None)


async def test_a_close_of_the_peers_is_answered_at_once() -> None:
    pipe, outer, inner = pipe_on()
    inner.stays = True
    pipe.data_received(put(BINARY, b"data") + close(1001, b"bye") + put(BINARY, b"more"))
    assert inner.received == b"data"
    assert inner.told == ["end"]
    (said,) = await outer.said()
    assert (said.code, said.payload[2:]) == (1001, b"bye")
    assert outer.asked == ["close"]
    pipe.data_received(b"whatever")
    pipe.connection_lost(None)
    assert inner.told == ["end", None]


async def test_half_a_close_of_our_own_ends_one_direction() -> None:
    pipe, outer, inner = pipe_on()
    inner.stays = True
    pipe.data_received(close(1000, HALF_CLOSED.encode()))
    assert inner.told == ["end"]
    assert not pipe.is_closing()
    pipe.write(b"answer")
    pipe.data_received(put(BINARY, b"behind the end"))
    pipe.close()
    said = await outer.said()
    assert [frame.opcode for frame in said] == [BINARY, CLOSE]
    assert outer.asked == ["close"]
    pipe.connection_lost(None)
    assert inner.told == ["end", None]
    assert inner.received == b""


async def test_write_eof_is_half_a_close_and_reading_goes_on() -> None:
    pipe, outer, inner = pipe_on(is_client=True)
    pipe.write_eof()
    pipe.write_eof()
    with pytest.raises(RuntimeError, match="write_eof"):
        pipe.write(b"more")
    pipe.data_received(put(BINARY, b"answer", mask=None))
    assert inner.received == b"answer"
    (said,) = await outer.said()
    assert (said.code, said.payload[2:].decode()) == (1000, HALF_CLOSED)
    pipe.data_received(close(1000, mask=None))
    assert inner.told == ["end"]
    pipe.connection_lost(None)
    assert inner.told == ["end", None]


async def test_write_eof_after_half_a_close_closes() -> None:
    pipe, outer, inner = pipe_on()
    inner.stays = True
    pipe.data_received(close(1000, HALF_CLOSED.encode()))
    pipe.write_eof()
    assert [frame.code for frame in await outer.said()] == [1000]
    assert outer.asked == ["close"]
    pipe.connection_lost(None)


async def test_why_the_peer_closed_is_told() -> None:
    pipe, _, inner = pipe_on(is_client=True)
    pipe.data_received(close(1008, b"too many", mask=None))
    pipe.connection_lost(None)
    assert isinstance(inner.told[-1], TransportError)
    assert "1008" in str(inner.told[-1])
    assert "too many" in str(inner.told[-1])


async def test_a_reset_while_closing_is_no_error_and_before_it_is() -> None:
    pipe, _, inner = pipe_on()
    pipe.close()
    pipe.connection_lost(ConnectionResetError())
    assert inner.told == [None]
    pipe, _, inner = pipe_on()
    reset = ConnectionResetError()
    pipe.connection_lost(reset)
    pipe.connection_lost(None)
    assert inner.told == [reset]


async def test_abort_is_at_once() -> None:
    pipe, outer, inner = pipe_on()
    pipe.abort()
    pipe.abort()
    assert outer.asked == ["abort"] * 2
    assert outer.written == b""
    pipe.connection_lost(None)
    pipe.abort()
    assert inner.told == [None]


# What a peer does wrong


@pytest.mark.parametrize("has_eof", [False, True])
async def test_a_fault_is_told_to_everybody(has_eof: bool) -> None:
    pipe, outer, inner = pipe_on(has_eof=has_eof, patience=0.0)
    told: list[str] = []
    pipe.on_fault = told.append
    pipe.data_received(put(BINARY, b"good") + put(BINARY, b"bad", rsv=1) + put(PING))
    assert inner.received == b"good"
    (said,) = await outer.said()
    assert said.code == 1002
    assert b"reserved bits" in said.payload
    assert outer.asked == (["eof"] if has_eof else []), "or a reset could destroy the words"
    pipe.data_received(b"x" * 100_000)
    assert not pipe._reader.waits, "what is dropped is kept"
    assert len(told) == 1
    assert "reserved bits" in told[0]
    await turns()
    assert outer.asked[-1] == "abort"
    pipe.connection_lost(None)
    assert isinstance(inner.told[-1], TransportError)
    assert "1002: reserved bits" in str(inner.told[-1])


@pytest.mark.parametrize(
    ("payload", "code"), [(b"\x03", 1002), (b"\x03\xed", 1002), (b"\x03\xe8\xff", 1007)]
)
async def test_a_close_that_is_none(payload: bytes, code: int) -> None:
    pipe, outer, _ = pipe_on()
    pipe.data_received(put(CLOSE, payload))
    assert [frame.code for frame in await outer.said()] == [code]
    pipe.connection_lost(None)


@pytest.mark.parametrize("kind", ["text", "binary"])
@pytest.mark.parametrize(
    "empty",
    [put(PING), put(PONG, b"unasked"), put(0, b"", fin=False)],
    ids=["ping", "pong", "cont"],
)
async def test_a_flood_of_frames_that_carry_nothing(kind: str, empty: bytes) -> None:
    opcode = TEXT if kind == "text" else BINARY
    begin = put(opcode, b"x", fin=False)
    async with echoing(kind) as (place, ends), connected(place) as (reader, writer):
        writer.write(begin + empty * EMPTY_MAX + put(0, b"y", fin=False) + empty * EMPTY_MAX)
        writer.write(empty)
        said = (await raw.rest(reader))[-1]
        assert (said.opcode, said.code) == (CLOSE, 1008)
        assert b"flood" in said.payload
    assert isinstance(ends[0].lost[0], TransportError)


async def test_slow_pings_are_no_flood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket_end, "EMPTY_SPAN", 0.0)
    count = 3 * EMPTY_MAX
    async with echoing("binary") as (place, _), connected(place) as (reader, writer):
        writer.write(put(PING, b"?") * count + close(1000))
        found = await raw.rest(reader)
    assert [frame.opcode for frame in found] == [PONG] * count + [CLOSE]


async def test_a_message_of_the_other_kind() -> None:
    for kind, opcode in (("text", BINARY), ("binary", TEXT)):
        async with echoing(kind) as (place, _), connected(place) as (reader, writer):
            writer.write(put(opcode, b"x"))
            assert [frame.code for frame in await raw.rest(reader)] == [1003]


async def test_a_message_that_is_too_long_is_refused_unread() -> None:
    for kind, opcode in (("text", TEXT), ("binary", BINARY)):
        async with (
            echoing(kind, max_message=1000) as (place, _),
            connected(place) as (reader, writer),
        ):
            writer.write(put(opcode, b"x" * 1001)[:10])
            (said,) = await raw.rest(reader)
            assert said.code == 1009
            assert b"1000 bytes" in said.payload


# Pongs


async def test_one_pong_is_enough_for_a_peer_that_does_not_read() -> None:
    pipe, outer, inner = pipe_on()
    pipe.pause_writing()
    pipe.data_received(put(PING, b"1") + put(PING, b"2") + put(PING, b"3"))
    assert outer.written == b""
    pipe.resume_writing()
    pipe.data_received(put(PING, b"4"))
    assert [frame.payload for frame in await outer.said()] == [b"3", b"4"]
    assert inner.told == ["pause", "resume"]
    pipe.pause_writing()
    pipe.data_received(put(PING, b"5"))
    pipe.close()
    pipe.resume_writing()
    assert [frame.opcode for frame in await outer.said()] == [PONG, PONG, CLOSE]
    pipe.connection_lost(None)


# Reading


async def test_what_has_come_waits_while_reading_is_paused() -> None:
    pipe, outer, inner = pipe_on()
    pipe.pause_reading()
    assert not pipe.is_reading()
    pipe.data_received(put(BINARY, b"held") + put(PING, b"?"))
    assert (inner.received, bytes(outer.written)) == (b"", b"")
    pipe.resume_reading()
    pipe.resume_reading()
    assert inner.received == b"", "called back in the middle of a call"
    await turns()
    assert inner.received == b"held"
    assert outer.asked == ["pause", "pause", "resume"]  # again, as somebody else had resumed it
    assert [frame.opcode for frame in await outer.said()] == [PONG]
    pipe.connection_lost(None)


async def test_a_close_while_paused_reads_on_for_the_answer() -> None:
    pipe, outer, inner = pipe_on()
    pipe.pause_reading()
    pipe.data_received(put(BINARY, b"held") + close(1000))
    pipe.close()
    await turns()
    assert outer.asked == ["pause", "pause", "resume", "close"]
    assert inner.received == b""
    pipe.connection_lost(None)


async def test_a_protocol_that_raises_while_it_gets_what_was_held() -> None:
    pipe, outer, inner = pipe_on()
    fault = LookupError("raised by the test")

    def fail(data: bytes) -> None:
        raise fault

    inner.data_received = fail  # type: ignore[method-assign]
    told: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
    try:
        pipe.pause_reading()
        pipe.data_received(put(BINARY, b"held"))
        pipe.resume_reading()
        await turns()
    finally:
        loop.set_exception_handler(None)
    assert told == [fault]
    assert outer.asked[-1] == "abort"
    pipe.connection_lost(None)
    assert inner.told == [fault]


# Cuts

CONVERSATION = (
    put(BINARY, b"first")
    + put(PING, b"ping")
    + put(BINARY, b"frag", fin=False)
    + put(PONG)
    + put(0, b"ments" * 30)
    + close(1000, b"done")
)


@pytest.mark.parametrize("how", ["ended", "reset", "aborted here"])
async def test_a_cut_at_every_byte(how: str) -> None:
    whole = b"first" + b"frag" + b"ments" * 30
    for cut in range(len(CONVERSATION)):
        pipe, _, inner = pipe_on()
        pipe.data_received(CONVERSATION[:cut])
        assert whole.startswith(inner.received)
        if how == "ended":
            assert not pipe.eof_received()
            pipe.connection_lost(None)
        elif how == "reset":
            pipe.connection_lost(ConnectionResetError())
        else:
            pipe.abort()
            pipe.data_received(CONVERSATION[cut:])
            assert whole.startswith(inner.received)
            pipe.connection_lost(None)
        assert len(inner.told) == 1, "told of the end exactly once"
        assert pipe._timer is None
    assert inner.received == whole


async def test_an_end_says_what_it_is() -> None:
    pipe, outer, _ = pipe_on()
    assert repr(pipe) == "<WebSocketPipe server open>"
    assert pipe.get_extra_info("peername") == ("192.0.2.1", 7)
    text = WebSocketText(outer, on_message=print, on_lost=print, is_client=True)
    assert repr(text) == "<WebSocketText client open>"
    end = WebSocketEnd(outer, is_client=True, max_message=1, patience=1.0)
    with pytest.raises(NotImplementedError):
        end.data_received(b"x")
    with pytest.raises(NotImplementedError):
        end.connection_lost(None)
