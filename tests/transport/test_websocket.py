"""Check the byte pipe over WebSocket: it conforms, and what is its own."""

import asyncio

import pytest

from fastrpc.testing import TRANSPORT_CHECKS, check_transport
from fastrpc.transport.websocket import WebSocketPipe
from fastrpc.transport.websocket_end import PARTS_MAX
from fastrpc.transport.websocket_frames import MESSAGE_SENT
from tests.transport.test_websocket_end import Outer, pipe_on
from tests.transport.websocket_ends import dial_pipe, listen_pipe
from tests.transport.websocket_raw import BINARY, put


@pytest.mark.asyncio
@pytest.mark.parametrize("check", TRANSPORT_CHECKS)
@pytest.mark.parametrize("target", ["tcp://127.0.0.1:0", "mem://websocket-conformance"])
async def test_transport_conforms(target: str, check: str) -> None:
    await check_transport(target, only=check, dial=dial_pipe, listen=listen_pipe)


@pytest.mark.asyncio
async def test_what_is_written_together_is_one_message() -> None:
    pipe, outer, _ = pipe_on()
    pipe.writelines([b"one", bytearray(b"two"), memoryview(b"three")])
    pipe.write(b"four")
    pipe.write(b"")
    pipe.writelines([])
    pipe.writelines([b"x" * 100_000, b"y" * 100_000])
    sizes = [len(frame.payload) for frame in await outer.said()]
    assert sizes == [11, 4, 200_000]
    pipe.write(b"z" * (2 * MESSAGE_SENT + 1))
    sizes = [len(frame.payload) for frame in await outer.said()][3:]
    assert sizes == [MESSAGE_SENT, MESSAGE_SENT, 1]
    assert outer.asked.count("limits 1 4") == 2, "the mark is not looked at (CVE-2024-12254)"
    with pytest.raises(TypeError):
        pipe.write("text")  # type: ignore[arg-type]
    pipe.connection_lost(None)
    assert pipe.get_protocol() is None


@pytest.mark.asyncio
async def test_a_client_masks_and_a_server_does_not() -> None:
    for is_client in (False, True):
        pipe, outer, _ = pipe_on(is_client=is_client)
        pipe.write(b"small")
        pipe.write(b"large" * 20_000)
        pipe.close()
        assert [frame.masked for frame in await outer.said()] == [is_client] * 3
        pipe.connection_lost(None)


@pytest.mark.asyncio
async def test_a_protocol_without_room_is_an_error() -> None:
    class Roomless(asyncio.BufferedProtocol):
        def get_buffer(self, hint: int) -> bytearray:
            return bytearray()

    pipe, _, _ = pipe_on()
    pipe.set_protocol(Roomless())
    with pytest.raises(RuntimeError, match="empty buffer"):
        pipe.data_received(put(BINARY, b"x"))


@pytest.mark.asyncio
async def test_one_read_is_one_look_at_the_buffer_for_each_message() -> None:
    class Counting(asyncio.BufferedProtocol):
        def __init__(self) -> None:
            self.calls: list[int] = []
            self.buffer = bytearray(2**18)

        def get_buffer(self, hint: int) -> bytearray:
            return self.buffer

        def buffer_updated(self, nbytes: int) -> None:
            self.calls.append(nbytes)

    pipe, _, _ = pipe_on()
    inner = Counting()
    pipe.set_protocol(inner)
    pipe.data_received(put(BINARY, b"x" * 50_000) + put(BINARY, b"y" * 300))
    assert inner.calls == [50_000, 300]
    assert inner.buffer[:300] == b"y" * 300


@pytest.mark.asyncio
async def test_a_pipe_that_nobody_stands_on_ends_in_silence() -> None:
    outer = Outer()
    pipe = WebSocketPipe(outer, is_client=True)
    pipe.pause_writing()
    pipe.resume_writing()
    pipe.connection_lost(None)
    pipe.set_write_buffer_limits(high=9)
    assert outer.asked == ["limits None 9"]
    assert pipe.get_write_buffer_limits() == (1, 4)


@pytest.mark.asyncio
async def test_one_byte_frames_are_handed_on_in_turns() -> None:
    pipe, outer, inner = pipe_on()
    pipe.data_received(put(BINARY, b"x") * (3 * PARTS_MAX))
    assert 0 < len(inner.received) <= PARTS_MAX + 1
    assert set(outer.asked) == {"pause"}
    pipe.pause_reading()
    before = len(inner.received)
    await asyncio.sleep(0)
    assert len(inner.received) == before  # the pause of others counts, too
    pipe.resume_reading()
    while len(inner.received) < 3 * PARTS_MAX:
        before = len(inner.received)
        await asyncio.sleep(0)
        assert len(inner.received) - before <= PARTS_MAX + 1
    assert outer.asked[-1] == "resume"
    pipe.connection_lost(None)
