"""gRPC's own asyncio API, msgpack in place of protobuf so that all send the same bytes."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import grpc
from grpc import aio
from msgpack import packb, unpackb

from bench.compare.load import Load
from bench.compare.peer import AsyncPeer, Place

HOST = "127.0.0.1"
OPTIONS = (("grpc.max_receive_message_length", 64 * 2**20),)


async def echo(request: Any, context: Any) -> Any:
    """Return *request*."""
    return request


class GrpcAio(AsyncPeer):
    """One channel; asyncio's own loop, which grpc.aio is made for."""

    loads: ClassVar[Sequence[Load]] = (Load(1), Load(256))

    async def server(self, place: Place) -> None:
        """Serve until cancelled."""
        server = aio.server(options=OPTIONS)
        method = grpc.unary_unary_rpc_method_handler(echo, unpackb, packb)
        handlers = grpc.method_handlers_generic_handler("Echo", {"echo": method})
        server.add_generic_rpc_handlers((handlers,))
        server.add_insecure_port(f"{HOST}:{place.port}")
        await server.start()
        await server.wait_for_termination()

    @asynccontextmanager
    async def connect(
        self, place: Place, load: Load
    ) -> AsyncIterator[Callable[[Any], Awaitable[Any]]]:
        """Give the call to be measured."""
        async with aio.insecure_channel(f"{HOST}:{place.port}", options=OPTIONS) as channel:
            yield channel.unary_unary("/Echo/echo", packb, unpackb)


PEER = GrpcAio()
