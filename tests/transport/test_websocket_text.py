"""Check texts over WebSocket: whole, in order, UTF-8; and what a slow peer does."""

import asyncio

import pytest

from fastrpc.transport import websocket_text
from fastrpc.transport.websocket_end import PARTS_MAX, State
from fastrpc.transport.websocket_text import WebSocketText
from tests.transport import websocket_raw as raw
from tests.transport.test_websocket_end import Outer
from tests.transport.websocket_ends import connected, echoing
from tests.transport.websocket_raw import PING, TEXT, Frame, close, pieces, put

pytestmark = pytest.mark.asyncio


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no turn of the loop end because the machine is slow."""
    monkeypatch.setattr(websocket_text, "TIME_MAX", 1e9)


def text_on(outer: Outer, got: list[bytes], told: list[object]) -> WebSocketText:
    return WebSocketText(
        outer,
        on_message=got.append,
        on_lost=told.append,
        on_pause=lambda: told.append("pause"),
        on_resume=lambda: told.append("resume"),
    )


async def test_texts_come_whole_and_in_order() -> None:
    got: list[bytes] = []
    end = text_on(Outer(), got, [])
    text = "grüße".encode()
    stream = (
        put(TEXT, b"{}") + pieces(TEXT, text, 1) + put(TEXT, b"")
        + put(TEXT, text[:3], fin=False) + put(PING) + put(0, text[3:])
    )  # fmt: skip
    for byte in raw.chop(stream, 1):
        end.data_received(byte)
    assert got == [b"{}", text, b"", text]
    end.connection_lost(None)


async def test_a_large_text_goes_in_one_message() -> None:
    outer = Outer()
    end = text_on(outer, [], [])
    end.send(b"x" * 3_000_000)
    end.send(b"small")
    assert await outer.said() == [Frame(TEXT, b"x" * 3_000_000), Frame(TEXT, b"small")]
    end.close(4000, "enough")
    end.send(b"in vain")
    assert [frame.code for frame in await outer.said()][2:] == [4000]
    end.connection_lost(None)


async def test_what_is_no_text_ends_it_at_the_first_wrong_byte() -> None:
    outer, got, told = Outer(), list[bytes](), list[object]()
    end = text_on(outer, got, told)
    end.data_received(put(TEXT, b"good"))
    end.data_received(put(TEXT, b"bad\xff" + b"x" * 1000)[:12])
    assert [frame.code for frame in await outer.said()] == [1007]
    end.data_received(b"x" * 1000)
    end.connection_lost(None)
    assert got == [b"good"]
    assert len(told) == 1


async def test_a_text_that_ends_in_the_middle_of_a_character() -> None:
    outer, got = Outer(), list[bytes]()
    end = text_on(outer, got, [])
    end.data_received(put(TEXT, "ß".encode()[:1], fin=False) + put(0))
    assert [frame.code for frame in await outer.said()] == [1007]
    assert got == []
    end.connection_lost(None)


async def test_little_is_kept_of_a_text_that_comes_in_crumbs() -> None:
    end = text_on(Outer(), [], [])
    for _ in range(1000):
        end.data_received(put(TEXT if not end._text else 0, b"ab", fin=False))
    while end._reader.waits:  # others have their turn meanwhile
        await asyncio.sleep(0)
    assert end._text == b"ab" * 1000
    end.data_received(put(0, b"ab", fin=False))
    assert end._state is not State.OPEN
    end.connection_lost(None)
    assert not end._text


async def test_backpressure_is_told_and_taken() -> None:
    outer, got, told = Outer(), list[bytes](), list[object]()
    end = text_on(outer, got, told)
    end.pause_writing()
    end.resume_writing()
    outer.unsent = 7
    assert end.get_write_buffer_size() == 7
    end.pause_reading()
    end.data_received(put(TEXT, b"held"))
    assert got == []
    end.resume_reading()
    await asyncio.sleep(0)
    assert got == [b"held"]
    end.connection_lost(None)
    assert told == ["pause", "resume", None]
    bare = WebSocketText(outer, on_message=got.append, on_lost=told.append)
    bare.pause_writing()
    bare.resume_writing()
    bare.connection_lost(None)


async def test_over_a_real_connection() -> None:
    async with echoing("text") as (place, _), connected(place) as (reader, writer):
        writer.write(put(TEXT, b"x" * 200_000) + put(TEXT, b"y") + close(1000))
        found = await raw.rest(reader)
    assert [(frame.opcode, len(frame.payload)) for frame in found[:2]] == [(1, 200_000), (1, 1)]


async def test_a_flood_of_frames_is_handed_on_in_turns() -> None:
    got: list[bytes] = []
    outer = Outer()
    end = text_on(outer, got, [])
    end.data_received(put(TEXT, b"x") * (3 * PARTS_MAX))
    assert 0 < len(got) <= PARTS_MAX + 1
    end.pause_reading()
    before = len(got)
    await asyncio.sleep(0)
    assert len(got) == before  # the pause of others counts, too
    end.resume_reading()
    while len(got) < 3 * PARTS_MAX:
        before = len(got)
        await asyncio.sleep(0)
        assert len(got) - before <= PARTS_MAX + 1
    end.connection_lost(None)


async def test_a_text_that_takes_long_is_the_last_of_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(websocket_text, "TIME_MAX", -1.0)
    got: list[bytes] = []
    end = text_on(Outer(), got, [])
    end.data_received(put(TEXT, b"x") * 3)
    for count in (1, 2, 3):
        assert len(got) == count
        await asyncio.sleep(0)
    end.connection_lost(None)
