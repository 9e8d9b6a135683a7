"""List every peer, in the order of the tables.

The modules themselves are imported only in the processes that measure.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True)
class Entry:
    """One peer: its title, its module, and what its processes find in their environment."""

    title: str
    module: str
    environment: Mapping[str, str] = field(default_factory=dict)


def _entry(title: str, module: str, **environment: str) -> Entry:
    return Entry(title, f"{__name__}.{module}", environment)


MODULES: Final[Mapping[str, Entry]] = {
    "c": _entry("C epoll echo, no RPC", "c_echo"),
    "uvloop": _entry("raw uvloop echo, no RPC", "uvloop_echo"),
    "uvloop-codec": _entry("uvloop echo + msgspec, no RPC", "uvloop_codec"),
    "fastrpc": _entry("fastrpc", "fastrpc_tcp"),
    "fastrpc-blocking": _entry("fastrpc, blocking client", "fastrpc_blocking"),
    "fastrpc-unix": _entry("fastrpc, unix socket", "fastrpc_unix"),
    "fastrpc-pure": _entry("fastrpc, pure twin", "fastrpc_pure", FASTRPC_PURE="1"),
    "hand-written": _entry("hand-written Protocol + msgpack", "hand_written"),
    "picows": _entry("picows echo + msgpack", "picows_echo"),
    "thriftpy2": _entry("thriftpy2 sync", "thriftpy2_sync"),
    "rpyc": _entry("rpyc", "rpyc_threaded"),
    "nats": _entry("nats.py request/reply", "nats_request"),
    "pycapnp": _entry("pycapnp", "pycapnp_echo"),
    "aiorpcx": _entry("aiorpcX", "aiorpcx_echo"),
    "grpc.aio": _entry("grpc.aio", "grpc_aio"),
    "grpc": _entry("grpc sync", "grpc_sync"),
    "fastapi": _entry("FastAPI + uvicorn", "fastapi_http"),
    "grpclib": _entry("grpclib", "grpclib_echo"),
    "zerorpc": _entry("zerorpc", "zerorpc_gevent"),
    "uvloop-big": _entry("raw uvloop BufferedProtocol", "uvloop_big"),
    "fastrpc-big": _entry("fastrpc, bytes", "fastrpc_big"),
    "grpc.aio-big": _entry("grpc.aio, bytes", "grpc_aio_big"),
}
