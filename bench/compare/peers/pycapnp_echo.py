"""pycapnp: Cap'n Proto RPC on asyncio; the reply is read into a dict."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import capnp

from bench.compare.load import Load
from bench.compare.peer import AsyncPeer, Place

HOST = "127.0.0.1"
SCHEMA = capnp.load(str(Path(__file__).with_name("echo.capnp")))


class Handler(SCHEMA.Echo.Server):  # type: ignore[misc,name-defined,unused-ignore]
    """Answers with what it was given."""

    async def echo(self, value: Any, _context: Any, **_: Any) -> Any:
        """Return *value*."""
        return value


async def accept(stream: Any) -> None:
    """Serve one connection to its end."""
    await capnp.TwoPartyServer(stream, bootstrap=Handler()).on_disconnect()


class Pycapnp(AsyncPeer):
    """One two-party connection; pycapnp brings its own event loop glue."""

    loads: ClassVar[Sequence[Load]] = (Load(1), Load(256))

    def run(self, main: Coroutine[Any, Any, Any]) -> Any:
        """Run *main* within Cap'n Proto's loop."""
        return asyncio.run(capnp.run(main))

    async def server(self, place: Place) -> None:
        """Serve until cancelled."""
        server = await capnp.AsyncIoStream.create_server(accept, HOST, place.port)
        async with server:
            await server.serve_forever()

    @asynccontextmanager
    async def connect(
        self, place: Place, load: Load
    ) -> AsyncIterator[Callable[[Any], Awaitable[Any]]]:
        """Give the call to be measured."""
        stream = await capnp.AsyncIoStream.create_connection(HOST, place.port)
        echo = capnp.TwoPartyClient(stream).bootstrap().cast_as(SCHEMA.Echo)

        async def call(payload: Any) -> Any:
            return (await echo.echo(payload)).result.to_dict()

        yield call
        stream.close()


PEER = Pycapnp()
