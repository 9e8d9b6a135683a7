"""The fastest WebSocket library: picows on uvloop, msgpack in binary messages."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from msgpack import packb, unpackb
from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    ws_connect,
    ws_create_server,
)

from bench.compare.load import Load
from bench.compare.peer import Place
from bench.compare.peers.on_uvloop import HOST, UvloopPeer


class Echo(WSListener):  # type: ignore[misc,unused-ignore]
    """Decodes each message and sends it back encoded anew."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Answer one message."""
        transport.send(frame.msg_type, packb(unpackb(frame.get_payload_as_memoryview())))


class Caller(WSListener):  # type: ignore[misc,unused-ignore]
    """Gives each reply to the oldest call."""

    transport: WSTransport

    def __init__(self) -> None:
        super().__init__()
        self.waiting: deque[asyncio.Future[Any]] = deque()

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Keep the transport."""
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Wake the oldest caller."""
        self.waiting.popleft().set_result(unpackb(frame.get_payload_as_memoryview()))

    async def call(self, payload: Any) -> Any:
        """Send *payload* and wait for its echo."""
        waiter = asyncio.get_running_loop().create_future()
        self.waiting.append(waiter)
        self.transport.send(WSMsgType.BINARY, packb(payload))
        return await waiter


def listener(request: WSUpgradeRequest) -> WSListener:
    """Give every connection an echo."""
    return Echo()


class Picows(UvloopPeer):
    """Two listeners over one WebSocket."""

    loads: ClassVar[Sequence[Load]] = (Load(1), Load(256))

    async def server(self, place: Place) -> None:
        """Serve until cancelled."""
        server = await ws_create_server(listener, HOST, place.port)
        await server.serve_forever()

    @asynccontextmanager
    async def connect(
        self, place: Place, load: Load
    ) -> AsyncIterator[Callable[[Any], Awaitable[Any]]]:
        """Give the call to be measured."""
        transport, caller = await ws_connect(Caller, f"ws://{HOST}:{place.port}/")
        yield caller.call
        transport.disconnect()


PEER = Picows()
