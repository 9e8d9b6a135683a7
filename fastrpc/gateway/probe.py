"""Let the kernel find out whether a silent peer is still there.

The binary protocol asks by itself, with pings; WebSocket, too. A client that waits for the
answer of a long call over HTTP, or speaks a tongue without pings, can't be asked anything.

Rules of the room:
  * what a socket does not know is not set.
"""

import asyncio
import contextlib
import os
import socket
from typing import Final

from fastrpc.wire import Limits

#: Probes without an answer until a peer counts as gone.
PROBES: Final = 4


def probe(transport: asyncio.Transport, limits: Limits) -> None:
    """Turn the kernel's probes on for a connection over TCP.

    Args:
        transport: The connection.
        limits: Silence after which to ask, and how long to wait for an answer.
    """
    outer = transport.get_extra_info("socket")
    if outer is None or outer.family not in (socket.AF_INET, socket.AF_INET6):
        return
    pause = max(int(limits.ping_timeout) // PROBES, 1)
    times = {"TCP_KEEPIDLE": max(int(limits.idle_ping), 1), "TCP_KEEPINTVL": pause}
    # A descriptor of our own: what uvloop gives for a socket can't set anything.
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(outer.fileno())) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (times | {"TCP_KEEPCNT": PROBES}).items():
            if option := getattr(socket, name, None):  # Linux has all, others some
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
