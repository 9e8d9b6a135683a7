"""Let the kernel find out whether a silent peer is still there.

The binary protocol asks by itself, with pings; WebSocket, too. A client that waits for the
answer of a long call over HTTP can't be asked anything.

Rules of the room:
  * what a socket does not know is not set.
"""

import asyncio
import contextlib
import socket
from typing import Final

#: Seconds of silence, seconds between probes, and probes until the peer counts as gone.
PROBES: Final = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))


def probe(transport: asyncio.Transport) -> None:
    """Turn the kernel's probes on for a connection over TCP."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, seconds in PROBES:
            if option := getattr(socket, name, None):  # Linux has all, others some
                sock.setsockopt(socket.IPPROTO_TCP, option, seconds)
