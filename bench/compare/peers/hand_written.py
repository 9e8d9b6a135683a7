"""What a careful user writes by hand: a Protocol on uvloop, msgpack, first in first out.

Messages are a 4-byte length and a msgpack body. No methods, no ids, no errors,
no limits; replies of one read leave together.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar, cast

from msgpack import packb, unpackb

from bench.compare.load import Load
from bench.compare.peer import Place
from bench.compare.peers.on_uvloop import UvloopPeer, open_protocol, serve_protocol


def pack(value: Any) -> bytes:
    """Return *value* as a message."""
    body = packb(value)
    return len(body).to_bytes(4, "little") + body


class Messages(asyncio.Protocol):
    """Splits what is read into messages."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def split(self, data: bytes) -> list[Any]:
        """Return the values of all whole messages; keep what is left over."""
        if self.rest:
            data = self.rest + data
        start, end, values = 0, len(data), []
        while end - start >= 4:
            stop = start + 4 + int.from_bytes(data[start : start + 4], "little")
            if stop > end:
                break
            values.append(unpackb(data[start + 4 : stop]))
            start = stop
        self.rest = data[start:]
        return values


class Server(Messages):
    """Answers each message with an equal one."""

    def data_received(self, data: bytes) -> None:
        """Answer all messages of one read in one write."""
        if replies := [pack(value) for value in self.split(data)]:
            self.transport.write(b"".join(replies))


class Client(Messages):
    """Gives each reply to the oldest call."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: deque[asyncio.Future[Any]] = deque()

    def data_received(self, data: bytes) -> None:
        """Wake the callers in the order they called."""
        for value in self.split(data):
            self.waiting.popleft().set_result(value)

    async def call(self, payload: Any) -> Any:
        """Send *payload* and wait for its echo."""
        waiter = asyncio.get_running_loop().create_future()
        self.waiting.append(waiter)
        self.transport.write(pack(payload))
        return await waiter


class HandWritten(UvloopPeer):
    """Two protocols of forty lines."""

    loads: ClassVar[Sequence[Load]] = (Load(1), Load(256))

    async def server(self, place: Place) -> None:
        """Serve until cancelled."""
        await serve_protocol(Server, place)

    @asynccontextmanager
    async def connect(
        self, place: Place, load: Load
    ) -> AsyncIterator[Callable[[Any], Awaitable[Any]]]:
        """Give the call to be measured."""
        transport, client = await open_protocol(Client, place)
        yield client.call
        transport.close()


PEER = HandWritten()
