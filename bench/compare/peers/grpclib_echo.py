"""grpclib: gRPC in pure Python over h2, on uvloop, msgpack in place of protobuf."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.const import Cardinality, Handler
from grpclib.encoding.base import CodecBase
from grpclib.server import Server
from msgpack import packb, unpackb

from bench.compare.load import Load
from bench.compare.peer import Place
from bench.compare.peers.on_uvloop import HOST, UvloopPeer


class Msgpack(CodecBase):  # type: ignore[misc,unused-ignore]
    """Encodes messages as msgpack."""

    __content_subtype__ = "msgpack"

    def encode(self, message: Any, message_type: Any) -> bytes:
        """Return *message* as bytes."""
        body: bytes = packb(message)
        return body

    def decode(self, data: bytes, message_type: Any) -> Any:
        """Return the value in *data*."""
        return unpackb(data)


class Service:
    """Answers with what it was given."""

    async def echo(self, stream: Any) -> None:
        """Answer one call."""
        await stream.send_message(await stream.recv_message())

    def __mapping__(self) -> dict[str, Handler]:
        """Say which path leads to which handler."""
        return {"/Echo/echo": Handler(self.echo, Cardinality.UNARY_UNARY, None, None)}


class Grpclib(UvloopPeer):
    """One channel, one connection."""

    loads: ClassVar[Sequence[Load]] = (Load(1), Load(64))

    async def server(self, place: Place) -> None:
        """Serve until cancelled."""
        server = Server([Service()], codec=Msgpack())
        await server.start(HOST, place.port)
        await server.wait_closed()

    @asynccontextmanager
    async def connect(
        self, place: Place, load: Load
    ) -> AsyncIterator[Callable[[Any], Awaitable[Any]]]:
        """Give the call to be measured."""
        async with Channel(HOST, place.port, codec=Msgpack()) as channel:
            yield UnaryUnaryMethod(channel, "/Echo/echo", None, None)


PEER = Grpclib()
