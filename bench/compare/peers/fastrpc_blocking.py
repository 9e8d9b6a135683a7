"""fastrpc's blocking client, which has no event loop, against the usual server."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar

import uvloop

import fastrpc
from bench.compare.load import Load
from bench.compare.peer import BlockingPeer, Place
from bench.compare.peers.fastrpc_service import require_twin, serve, tcp


class FastRpcBlocking(BlockingPeer):
    """One caller, one connection."""

    loads: ClassVar[Sequence[Load]] = (Load(1),)

    def serve(self, place: Place) -> None:
        """Serve until ended."""
        require_twin(compiled=True)
        uvloop.run(serve([tcp(place.port)]))

    @contextmanager
    def connect(self, place: Place, load: Load) -> Iterator[Callable[[Any], Any]]:
        """Give the call of one connection."""
        require_twin(compiled=True)
        with fastrpc.connect_sync(tcp(place.port)) as client:
            yield partial(client.call, "Echo.echo")


PEER = FastRpcBlocking()
