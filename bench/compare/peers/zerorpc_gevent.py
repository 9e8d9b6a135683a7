"""zerorpc: msgpack over ZeroMQ with gevent, its heartbeats off."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import gevent
import zerorpc

from bench.compare.load import Figures, Load
from bench.compare.peer import BlockingPeer, Place

HOST = "127.0.0.1"


class Handler:
    """Answers with what it was given."""

    def echo(self, value: Any) -> Any:
        """Return *value*."""
        return value


class Zerorpc(BlockingPeer):
    """One client; many in flight means as many greenlets."""

    loads: ClassVar[Sequence[Load]] = (Load(1), Load(64))

    def __init__(self) -> None:
        self._client: Any = None

    def serve(self, place: Place) -> None:
        """Serve until ended."""
        server = zerorpc.Server(Handler(), heartbeat=None)
        server.bind(f"tcp://{HOST}:{place.port}")
        server.run()

    def together(self, jobs: Sequence[Callable[[], None]]) -> None:
        """Run *jobs* in greenlets and wait for all of them."""
        gevent.joinall([gevent.spawn(job) for job in jobs], raise_error=True)

    def measure(self, place: Place, load: Load, seconds: float) -> Figures:
        """Call through one client that all greenlets share."""
        self._client = zerorpc.Client(heartbeat=None)
        self._client.connect(f"tcp://{HOST}:{place.port}")
        try:
            return super().measure(place, load, seconds)
        finally:
            self._client.close()

    @contextmanager
    def connect(self, place: Place, load: Load) -> Iterator[Callable[[Any], Any]]:
        """Give one greenlet's call."""
        yield self._client.echo


PEER = Zerorpc()
