"""gRPC's blocking API, 16 threads on each side, msgpack in place of protobuf."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, ClassVar

import grpc
from msgpack import packb, unpackb

from bench.compare.load import Load
from bench.compare.peer import BlockingPeer, Place

HOST = "127.0.0.1"
THREADS = 16


def echo(request: Any, context: Any) -> Any:
    """Return *request*."""
    return request


class GrpcSync(BlockingPeer):
    """A channel for each thread; gRPC joins them into one connection."""

    loads: ClassVar[Sequence[Load]] = (Load(1), Load(THREADS, "grpc sync, 16 threads"))

    def serve(self, place: Place) -> None:
        """Serve until ended."""
        server = grpc.server(ThreadPoolExecutor(THREADS))
        method = grpc.unary_unary_rpc_method_handler(echo, unpackb, packb)
        handlers = grpc.method_handlers_generic_handler("Echo", {"echo": method})
        server.add_generic_rpc_handlers((handlers,))
        server.add_insecure_port(f"{HOST}:{place.port}")
        server.start()
        server.wait_for_termination()

    @contextmanager
    def connect(self, place: Place, load: Load) -> Iterator[Callable[[Any], Any]]:
        """Give the call of one channel."""
        with grpc.insecure_channel(f"{HOST}:{place.port}") as channel:
            yield channel.unary_unary("/Echo/echo", packb, unpackb)


PEER = GrpcSync()
