"""fastrpc through its public API over TCP: the plain call and what people add to it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, ClassVar

import fastrpc
from bench.compare.load import Load
from bench.compare.peer import Place
from bench.compare.peers.fastrpc_service import (
    METADATA,
    Echo,
    require_twin,
    serve,
    tcp,
)
from bench.compare.peers.on_uvloop import UvloopPeer
from bench.values import Small

DEADLINE = 30.0


class FastRpc(UvloopPeer):
    """One connection; each kind of call on a connection of its own."""

    loads: ClassVar[Sequence[Load]] = (
        Load(1),
        Load(256),
        Load(1, "fastrpc, async handler", "later"),
        Load(256, "fastrpc, async handler", "later"),
        Load(1, "fastrpc, deadline on each call", "deadline"),
        Load(256, "fastrpc, deadline on each call", "deadline"),
        Load(256, "fastrpc, 5 pairs of metadata", "metadata"),
        Load(1, "fastrpc, typed dataclass", "typed"),
        Load(256, "fastrpc, typed dataclass", "typed"),
    )
    compiled: ClassVar[bool] = True

    def target(self, place: Place) -> str:
        """Return where the server is."""
        return tcp(place.port)

    def payload(self, load: Load) -> Any:
        """Return the payload, as a dataclass for the typed call."""
        return Small(**load.payload) if load.call == "typed" else load.payload

    def run(self, main: Coroutine[Any, Any, Any]) -> Any:
        """Run *main* on uvloop, with the twin that this peer is about."""
        try:
            require_twin(self.compiled)
        except BaseException:
            main.close()
            raise
        return super().run(main)

    async def server(self, place: Place) -> None:
        """Serve until cancelled."""
        await serve([self.target(place)])

    @asynccontextmanager
    async def connect(
        self, place: Place, load: Load
    ) -> AsyncIterator[Callable[[Any], Awaitable[Any]]]:
        """Give the call to be measured."""
        async with fastrpc.connect(self.target(place)) as client:
            if load.call == "deadline":
                yield partial(client.options(timeout=DEADLINE).call, "Echo.echo")
            elif load.call == "metadata":
                yield partial(client.options(metadata=METADATA).call, "Echo.echo")
            elif load.call == "typed":
                yield client.stub(Echo).typed  # type: ignore[misc]
            else:
                yield partial(client.call, f"Echo.{load.call}")


PEER = FastRpc()
