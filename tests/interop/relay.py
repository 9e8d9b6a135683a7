"""Carry WebSocket messages to a server's TCP port and back, byte for byte."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from websockets.asyncio.server import ServerConnection, serve

SUBPROTOCOL = "fastrpc.1"


@contextlib.asynccontextmanager
async def websocket_relay(target: str) -> AsyncIterator[str]:
    """Serve a WebSocket whose bytes go to *target* ("tcp://..."), and give its address."""
    host, _, port = target.removeprefix("tcp://").rpartition(":")

    async def carry(socket: ServerConnection) -> None:
        reader, writer = await asyncio.open_connection(host, int(port))

        async def up() -> None:
            async for message in socket:
                assert isinstance(message, bytes)
                writer.write(message)
                await writer.drain()
            writer.close()

        async def down() -> None:
            while data := await reader.read(65_536):
                await socket.send(data)
            await socket.close()

        ways = [asyncio.ensure_future(up()), asyncio.ensure_future(down())]
        try:
            await asyncio.gather(*ways, return_exceptions=True)
        finally:
            for way in ways:
                way.cancel()
            writer.close()

    protocols = [SUBPROTOCOL]  # type: ignore[list-item]
    async with serve(carry, "127.0.0.1", 0, subprotocols=protocols, max_size=None) as server:
        port = server.sockets[0].getsockname()[1]
        yield f"ws://127.0.0.1:{port}/"
