"""The platform's limit for large bodies: 1 MiB there and back with uvloop's BufferedProtocol.

Each body is received straight into its final memory, which is as few copies as
Python can do with.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar, cast

from bench.compare.load import Load
from bench.compare.peer import Place
from bench.compare.peers.on_uvloop import UvloopPeer, open_protocol, serve_protocol
from bench.values import BLOB

SIZE = len(BLOB)


class Bodies(asyncio.BufferedProtocol):
    """Receives bodies of one fixed size; sends each back."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.body = bytearray(SIZE)
        self.view = memoryview(self.body)
        self.filled = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Give the part of the body that is still missing."""
        return self.view[self.filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Count what came; hand on a whole body and begin the next."""
        self.filled += nbytes
        if self.filled == SIZE:
            body = self.body
            self.body = bytearray(SIZE)
            self.view = memoryview(self.body)
            self.filled = 0
            self.received(body)

    def received(self, body: bytearray) -> None:
        """Send *body* back."""
        self.transport.write(body)


class Caller(Bodies):
    """Gives each body to the oldest call."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: deque[asyncio.Future[bytearray]] = deque()

    def received(self, body: bytearray) -> None:
        """Wake the oldest caller."""
        self.waiting.popleft().set_result(body)

    async def call(self, payload: Any) -> Any:
        """Send 1 MiB and wait for as much."""
        waiter = asyncio.get_running_loop().create_future()
        self.waiting.append(waiter)
        self.transport.write(payload)
        return await waiter


class UvloopBig(UvloopPeer):
    """Two protocols, no header, no RPC."""

    loads: ClassVar[Sequence[Load]] = (Load(1, size=SIZE), Load(4, size=SIZE))

    async def server(self, place: Place) -> None:
        """Serve until cancelled."""
        await serve_protocol(Bodies, place)

    @asynccontextmanager
    async def connect(
        self, place: Place, load: Load
    ) -> AsyncIterator[Callable[[Any], Awaitable[Any]]]:
        """Give the call to be measured."""
        transport, caller = await open_protocol(Caller, place)
        yield caller.call
        transport.close()


PEER = UvloopBig()
