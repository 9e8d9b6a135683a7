"""nats.py request/reply through a nats-server: client, server and broker.

The broker runs where the server runs, so it shares the server's core.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, ClassVar

import nats
from msgspec.msgpack import decode, encode
from nats.aio.msg import Msg
from nats.errors import NoRespondersError

from bench.compare.load import Figures, Load
from bench.compare.peer import NotHere, Place
from bench.compare.peers.on_uvloop import HOST, UvloopPeer


async def answer(message: Msg) -> None:
    """Decode a request and send it back encoded anew."""
    await message.respond(encode(decode(message.data)))


async def attach(place: Place) -> Any:
    """Connect to the broker, which may still be starting."""
    return await nats.connect(
        f"nats://{HOST}:{place.port}", reconnect_time_wait=0.05, max_reconnect_attempts=100
    )


class Nats(UvloopPeer):
    """Request/reply over the library's shared inbox."""

    loads: ClassVar[Sequence[Load]] = (Load(1), Load(256))

    async def server(self, place: Place) -> None:
        """Start a broker and answer its requests until cancelled."""
        program = shutil.which("nats-server")
        if program is None:
            raise NotHere("no nats-server on the PATH (Debian: package nats-server)")
        broker = await asyncio.create_subprocess_exec(
            program, "-a", HOST, "-p", str(place.port), stderr=asyncio.subprocess.DEVNULL
        )
        try:
            connection = await attach(place)
            await connection.subscribe("echo", cb=answer)
            await broker.wait()
        finally:
            if broker.returncode is None:
                broker.kill()

    @asynccontextmanager
    async def connect(
        self, place: Place, load: Load
    ) -> AsyncIterator[Callable[[Any], Awaitable[Any]]]:
        """Give the call to be measured."""
        connection = await attach(place)

        async def call(payload: Any) -> Any:
            return decode((await connection.request("echo", encode(payload))).data)

        for _ in range(200):  # the broker is there before its subscriber
            try:
                await call(load.payload)
                break
            except NoRespondersError:
                await asyncio.sleep(0.02)
        yield call
        await connection.close()

    def measure(self, place: Place, load: Load, seconds: float) -> Figures:
        """Measure as usual, but tell no processor time: the broker's is not in it."""
        return replace(super().measure(place, load, seconds), cpu=None)


PEER = Nats()
