"""Remote procedure calls for Python: plain annotated classes, a compiled hot path.

    server = fastrpc.Server()
    server.register(Arith())
    fastrpc.run(server, "tcp://127.0.0.1:7000")

    async with fastrpc.connect("tcp://127.0.0.1:7000") as client:
        await client.stub(Arith).add(1, 2)

Names only, no logic: see README.md for the way in and docs/ for the rest.
"""

from fastrpc.call import GIVEN, Call, Handler, Identity, Interceptor, Metadata, Peer, Reply, rpc
from fastrpc.client import (
    BlockingClient,
    BroadcastFailed,
    Client,
    InstanceResult,
    InstanceResults,
    ShardFailed,
    connect,
    connect_sync,
)
from fastrpc.errors import (
    CallError,
    Cancelled,
    CodecError,
    ConfigError,
    ConnectFailed,
    ConnectionDraining,
    ConnectionLost,
    DeadlineExceeded,
    FastRPCError,
    FrameError,
    Internal,
    InvalidArgument,
    MethodNotFound,
    Overloaded,
    PermissionDenied,
    ProtocolError,
    ProxyError,
    RegistryLost,
    RemoteError,
    RpcError,
    Stages,
    StreamEnded,
    TooLarge,
    TransportError,
    Unauthenticated,
    Unavailable,
    Unsupported,
)
from fastrpc.frame import COMPILED
from fastrpc.server import HttpOptions, Server, run
from fastrpc.session import BlockingStream, Stream
from fastrpc.transport import TlsOptions
from fastrpc.version import __version__

__all__ = [
    "COMPILED",
    "GIVEN",
    "BlockingClient",
    "BlockingStream",
    "BroadcastFailed",
    "Call",
    "CallError",
    "Cancelled",
    "Client",
    "CodecError",
    "ConfigError",
    "ConnectFailed",
    "ConnectionDraining",
    "ConnectionLost",
    "DeadlineExceeded",
    "FastRPCError",
    "FrameError",
    "Handler",
    "HttpOptions",
    "Identity",
    "InstanceResult",
    "InstanceResults",
    "Interceptor",
    "Internal",
    "InvalidArgument",
    "Metadata",
    "MethodNotFound",
    "Overloaded",
    "Peer",
    "PermissionDenied",
    "ProtocolError",
    "ProxyError",
    "RegistryLost",
    "RemoteError",
    "Reply",
    "RpcError",
    "Server",
    "ShardFailed",
    "Stages",
    "Stream",
    "StreamEnded",
    "TlsOptions",
    "TooLarge",
    "TransportError",
    "Unauthenticated",
    "Unavailable",
    "Unsupported",
    "__version__",
    "connect",
    "connect_sync",
    "rpc",
    "run",
]
