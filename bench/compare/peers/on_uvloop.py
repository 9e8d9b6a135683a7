"""Start from here for a peer that runs on uvloop."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import uvloop

from bench.compare.peer import AsyncPeer, Place

HOST = "127.0.0.1"
P = TypeVar("P", bound=asyncio.BaseProtocol)


class UvloopPeer(AsyncPeer):
    """A peer whose two ends run on uvloop."""

    def run(self, main: Coroutine[Any, Any, Any]) -> Any:
        """Run *main* on uvloop."""
        return uvloop.run(main)


async def serve_protocol(factory: Callable[[], asyncio.BaseProtocol], place: Place) -> None:
    """Serve one protocol object to each connection until cancelled."""
    server = await asyncio.get_running_loop().create_server(factory, HOST, place.port)
    await server.serve_forever()


async def open_protocol(factory: Callable[[], P], place: Place) -> tuple[asyncio.BaseTransport, P]:
    """Connect one protocol object to the server at *place*."""
    return await asyncio.get_running_loop().create_connection(factory, HOST, place.port)
