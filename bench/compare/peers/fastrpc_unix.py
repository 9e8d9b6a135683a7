"""fastrpc over a Unix socket."""

from collections.abc import Sequence
from typing import ClassVar

from bench.compare.load import Load
from bench.compare.peer import Place
from bench.compare.peers.fastrpc_service import serve, tcp
from bench.compare.peers.fastrpc_tcp import FastRpc


class FastRpcUnix(FastRpc):
    """Also listens on TCP, only so that the runner sees when it is up."""

    loads: ClassVar[Sequence[Load]] = (Load(1), Load(256))

    def target(self, place: Place) -> str:
        """Return where the server is."""
        return f"unix://{place.folder}/{place.port}.sock"

    async def server(self, place: Place) -> None:
        """Serve until cancelled."""
        await serve([self.target(place), tcp(place.port)])


PEER = FastRpcUnix()
