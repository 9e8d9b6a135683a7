"""rpyc: transparent objects over its own protocol, threaded server.

rpyc sends plain values only as tuples, everything else as a reference that calls
back; so the payload's values travel as a tuple, which is the fast way there.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import rpyc
from rpyc.utils.server import ThreadedServer

from bench.compare.load import Load
from bench.compare.peer import BlockingPeer, Place

HOST = "127.0.0.1"


class Service(rpyc.Service):  # type: ignore[misc,unused-ignore]
    """Answers with what it was given."""

    def exposed_echo(self, value: Any) -> Any:
        """Return *value*."""
        return value


class Rpyc(BlockingPeer):
    """One caller, one connection."""

    loads: ClassVar[Sequence[Load]] = (Load(1),)

    def serve(self, place: Place) -> None:
        """Serve until ended."""
        ThreadedServer(Service, hostname=HOST, port=place.port).start()

    def payload(self, load: Load) -> Any:
        """Return the values as tuples."""
        small = load.payload
        return (small["id"], small["name"], tuple(small["tags"]), small["score"])

    @contextmanager
    def connect(self, place: Place, load: Load) -> Iterator[Callable[[Any], Any]]:
        """Give the call of one connection."""
        connection = rpyc.connect(HOST, place.port)
        yield connection.root.echo
        connection.close()


PEER = Rpyc()
