"""Partings in which the last word arrives."""

import asyncio
import socket
from typing import Any

import pytest

from fastrpc.session.farewell import part
from fastrpc.transport import dial, listen


class End(asyncio.BufferedProtocol):
    """Counts what it is told until it parts."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.reads = 0
        self.lost: list[Exception | None] = []
        self.on_read: Any = None
        self.gone = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def get_buffer(self, sizehint: int) -> bytearray:
        return bytearray(1000)

    def buffer_updated(self, nbytes: int) -> None:
        self.reads += 1
        if self.on_read is not None:
            self.on_read()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)
        self.gone.set_result(None)


async def pair(target: str) -> tuple[Any, Any, End]:
    """Return a stream to one End, and that End."""
    made: list[End] = []

    def accept() -> End:
        made.append(end := End())
        return end

    listener = await listen(target, accept)
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await dial(listener.targets[0], lambda: protocol, timeout=5)
    writer = asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())
    writer.write(b"x")
    async with asyncio.timeout(5):
        while not (made and made[0].reads):
            await asyncio.sleep(0)
    listener.close()
    await listener.wait_closed()
    return reader, writer, made[0]


@pytest.mark.asyncio
@pytest.mark.parametrize("scheme", ["tcp", "unix", "mem"])
async def test_the_last_word_arrives_though_much_is_unread(scheme: str, tmp_path: Any) -> None:
    target = {"tcp": "tcp://127.0.0.1:0", "unix": f"unix://{tmp_path}/s", "mem": "mem://part"}
    reader, writer, end = await pair(target[scheme])

    def part_now() -> None:
        end.on_read = None
        end.transport.write(b"last word")
        part(end.transport, end.connection_lost)

    end.on_read = part_now
    writer.write(bytes(2_000_000))
    assert await reader.read() == b"last word"
    reads = end.reads
    writer.write(bytes(1000))
    writer.close()
    await writer.wait_closed()
    async with asyncio.timeout(5):
        await end.gone
    assert end.lost == [None]
    assert end.reads == reads, "what came after the parting was not dropped"


@pytest.mark.asyncio
async def test_reading_goes_on_though_it_was_paused() -> None:
    _, writer, end = await pair("tcp://127.0.0.1:0")
    end.transport.pause_reading()
    part(end.transport, end.connection_lost)
    writer.close()
    async with asyncio.timeout(5):
        await end.gone


@pytest.mark.asyncio
async def test_parting_from_who_has_reset_the_connection() -> None:
    _, writer, end = await pair("tcp://127.0.0.1:0")
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.transport.abort()
    await asyncio.sleep(0)
    part(end.transport, end.connection_lost)
    async with asyncio.timeout(5):
        await end.gone
    assert len(end.lost) == 1


@pytest.mark.asyncio
async def test_parting_from_a_transport_that_closes_already() -> None:
    _, writer, end = await pair("mem://closing")
    end.transport.close()
    part(end.transport, end.connection_lost)
    async with asyncio.timeout(5):
        await end.gone
    assert end.lost == [None]
    writer.close()
