"""Carry bytes: over TCP, Unix sockets or memory, inside TLS, begun as HTTP, in WebSocket.

Everything above speaks to `asyncio.Transport` and never sees a socket, so a
service does not know what it is served over. `fastrpc.testing.check_transport`
says what every pipe here must do.
"""

from fastrpc.transport.address import REGISTRY_SCHEMES, Target, join_host, parse_target, peer_of
from fastrpc.transport.bind import Bound, bind_shared
from fastrpc.transport.dial import check_blocking, client_tls, dial, dial_blocking
from fastrpc.transport.listen import Listener, Plain, check_plain, connection_cap, listen
from fastrpc.transport.memory import MemoryTransport, memory_pair
from fastrpc.transport.poll import watch
from fastrpc.transport.proxy import choose_proxy
from fastrpc.transport.resolve import explain_loss
from fastrpc.transport.tls import ClientTls, ServerTls, TlsOptions
from fastrpc.transport.tlssocket import TlsSocket

__all__ = [
    "REGISTRY_SCHEMES",
    "Bound",
    "ClientTls",
    "Listener",
    "MemoryTransport",
    "Plain",
    "ServerTls",
    "Target",
    "TlsOptions",
    "TlsSocket",
    "bind_shared",
    "check_blocking",
    "check_plain",
    "choose_proxy",
    "client_tls",
    "connection_cap",
    "dial",
    "dial_blocking",
    "explain_loss",
    "join_host",
    "listen",
    "memory_pair",
    "parse_target",
    "peer_of",
    "watch",
]
