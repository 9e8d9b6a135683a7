"""The fastest complete RPC library for Python found: thriftpy2, its Cython protocol, threads."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import thriftpy2
from thriftpy2.rpc import make_client, make_server

from bench.compare.load import Load
from bench.compare.peer import BlockingPeer, Place

HOST = "127.0.0.1"
IDL = thriftpy2.load(str(Path(__file__).with_name("echo.thrift")), module_name="echo_thrift")


class Handler:
    """Answers with what it was given."""

    def echo(self, value: Any) -> Any:
        """Return *value*."""
        return value


class Thriftpy2(BlockingPeer):
    """One connection and one thread for each caller."""

    loads: ClassVar[Sequence[Load]] = (Load(1), Load(16, "thriftpy2 sync, 16 connections"))

    def serve(self, place: Place) -> None:
        """Serve with the threaded server that thriftpy2 makes."""
        make_server(IDL.Echo, Handler(), HOST, place.port, client_timeout=None).serve()

    def payload(self, load: Load) -> Any:
        """Return the struct of the IDL."""
        return IDL.Small(**load.payload)

    @contextmanager
    def connect(self, place: Place, load: Load) -> Iterator[Callable[[Any], Any]]:
        """Give the call of one connection."""
        client = make_client(IDL.Echo, HOST, place.port, timeout=None)
        yield client.echo
        client.close()


PEER = Thriftpy2()
