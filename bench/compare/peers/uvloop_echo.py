"""The platform's limit: 64 bytes there and back on uvloop, no RPC, nothing decoded."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar, cast

from bench.compare.load import Load
from bench.compare.peer import Place
from bench.compare.peers.on_uvloop import UvloopPeer, open_protocol, serve_protocol

MESSAGE = b"x" * 64


class Echo(asyncio.Protocol):
    """Sends back what it reads."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Send it back."""
        self.transport.write(data)


class Caller(Echo):
    """Sends a message and wakes the caller when something came back."""

    waiter: asyncio.Future[bytes]

    def data_received(self, data: bytes) -> None:
        """Wake the caller."""
        self.waiter.set_result(data)

    async def call(self, payload: Any) -> Any:
        """Send 64 bytes, wait for an answer, and hand back what was to be echoed."""
        self.waiter = asyncio.get_running_loop().create_future()
        self.transport.write(MESSAGE)
        await self.waiter
        return payload


class UvloopEcho(UvloopPeer):
    """Two protocols, one message in flight."""

    answering: ClassVar[type[asyncio.Protocol]] = Echo
    calling: ClassVar[type[Any]] = Caller
    loads: ClassVar[Sequence[Load]] = (Load(1),)

    async def server(self, place: Place) -> None:
        """Serve until cancelled."""
        await serve_protocol(self.answering, place)

    @asynccontextmanager
    async def connect(
        self, place: Place, load: Load
    ) -> AsyncIterator[Callable[[Any], Awaitable[Any]]]:
        """Give the call to be measured."""
        transport, caller = await open_protocol(self.calling, place)
        yield caller.call
        transport.close()


PEER = UvloopEcho()
