"""Turn names into socket addresses, and failures of the kernel into words.

Both doors, `dial` and `listen`, need this; neither owns it.

Rules of the room:
  * an address written in digits never waits for a resolver or a thread;
  * the socket options of every stream are set in one place, here.
"""

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Sequence
from typing import Final, NamedTuple

from fastrpc.transport.address import join_host
from fastrpc.transport.tls import explain_tls

#: Milliseconds that sent bytes may stay unacknowledged before the kernel gives
#: the connection up. Keepalive does not look while a request is in flight, and
#: less than 20 s kills peers that are alive and only read slowly.
TCP_USER_TIMEOUT_MS: Final = 20_000


class Address(NamedTuple):
    """One thing a socket can bind or connect to."""

    family: int
    sockaddr: tuple[str, int] | tuple[str, int, int, int] | str

    def __str__(self) -> str:
        """Return `host:port`, or the path of a Unix socket."""
        if isinstance(self.sockaddr, str):
            return "@" + self.sockaddr[1:] if self.sockaddr[0] == "\0" else self.sockaddr
        return join_host(self.sockaddr[0], self.sockaddr[1])


def literal(host: str, port: int) -> list[Address]:
    """Return the address of a host written in digits; none for a name."""
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    try:
        return _addresses(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags))
    except socket.gaierror:
        return []


async def resolve(host: str, port: int) -> list[Address]:
    """Return every address of *host*, in the order the system prefers.

    Raises:
        OSError: The name is not known, or the resolver failed.
    """
    found = literal(host, port)
    if not found:
        loop = asyncio.get_running_loop()
        found = _addresses(await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    return found


def resolve_blocking(host: str, port: int) -> list[Address]:
    """Do as `resolve`, for callers without an event loop."""
    return literal(host, port) or _addresses(
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    )


def set_options(sock: socket.socket) -> None:
    """Set what every stream of ours has; a listening socket hands it on."""
    if sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 0)
    option = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux only
    if option is not None:
        sock.setsockopt(socket.IPPROTO_TCP, option, TCP_USER_TIMEOUT_MS)


def explain(error: OSError) -> str:
    """Return *error* in words, the same on every event loop.

    The loops decorate errors each in its own way; the number is what they agree on.
    """
    if isinstance(error, ssl.SSLError):
        return explain_tls(error)
    if isinstance(error, socket.gaierror):
        return f"name lookup failed: {error.strerror or error}"
    if error.errno is None:
        return str(error) or type(error).__name__
    code = errno.errorcode.get(error.errno, str(error.errno))
    return f"{os.strerror(error.errno)} ({code})"


def explain_loss(error: Exception) -> str:
    """Return why a connection was lost; what the loops say is fine but for TLS."""
    return explain_tls(error) if isinstance(error, ssl.SSLError) else str(error)


def _addresses(found: Sequence[tuple[object, ...]]) -> list[Address]:
    unique: dict[Address, None] = {}
    for family, _, _, _, sockaddr in found:
        if family in (socket.AF_INET, socket.AF_INET6):
            unique[Address(int(family), sockaddr)] = None  # type: ignore[call-overload,arg-type]
    return list(unique)
