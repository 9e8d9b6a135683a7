"""aiorpcX: JSON-RPC 2.0 on asyncio, with its own flow control switched off."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import aiorpcx

from bench.compare.load import Load
from bench.compare.peer import Place
from bench.compare.peers.on_uvloop import HOST, UvloopPeer


class Session(aiorpcx.RPCSession):  # type: ignore[misc,unused-ignore]
    """Answers with what it was given, and never slows a caller down."""

    cost_soft_limit = 0
    cost_hard_limit = 0
    initial_concurrent = 1000

    async def handle_request(self, request: Any) -> Any:
        """Return the only argument."""
        return request.args[0]


class Aiorpcx(UvloopPeer):
    """One session over one connection."""

    loads: ClassVar[Sequence[Load]] = (Load(1), Load(64))

    async def server(self, place: Place) -> None:
        """Serve until cancelled."""
        await aiorpcx.serve_rs(Session, HOST, place.port)
        await asyncio.Event().wait()

    @asynccontextmanager
    async def connect(
        self, place: Place, load: Load
    ) -> AsyncIterator[Callable[[Any], Awaitable[Any]]]:
        """Give the call to be measured."""
        async with aiorpcx.connect_rs(HOST, place.port, session_factory=Session) as session:

            async def call(payload: Any) -> Any:
                return await session.send_request("echo", [payload])

            yield call


PEER = Aiorpcx()
