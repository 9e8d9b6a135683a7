"""The kernel's own question whether somebody is there."""

import asyncio
import socket
from typing import Any

import pytest

from fastrpc.gateway.probe import probe
from fastrpc.wire import Limits

LIMITS = Limits(idle_ping=7.0, ping_timeout=8.0)
TIMES = {"TCP_KEEPIDLE": 7, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 4}


class Carrier(asyncio.Transport):
    """A transport, as far as a probe looks at it."""

    def __init__(self, sock: Any) -> None:
        super().__init__()
        self._sock = sock

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._sock if name == "socket" else default


def test_a_connection_over_tcp_is_probed() -> None:
    with socket.socket() as sock:
        probe(Carrier(sock), LIMITS)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        for name, seconds in TIMES.items():
            assert sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) == seconds


@pytest.mark.parametrize("family", ["unix", "none", "closed"])
def test_others_are_left_alone(family: str) -> None:
    if family == "none":
        probe(Carrier(None), LIMITS)
        return
    with socket.socket(socket.AF_UNIX if family == "unix" else socket.AF_INET) as sock:
        if family == "closed":
            sock.close()
        probe(Carrier(sock), LIMITS)
        if family == "unix":
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
