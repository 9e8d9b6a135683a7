"""Open a tunnel through a forward proxy: `CONNECT host:port`, any 2xx, then plain bytes.

It happens on the socket itself, before a loop has it: what the far end says first may stand
behind the proxy's answer in the same packet, and must stay in the kernel for the next reader.

Rules of the room:
  * the answer is peeked at, and only its head is taken;
  * no text has the credentials.
"""

import asyncio
import contextlib
import socket
from typing import Any

from fastrpc.transport.address import Target, join_host
from fastrpc.transport.head import HEAD_MAX, Answer, BadAnswer, HeadReader, ascii_host
from fastrpc.transport.proxy import Proxy
from fastrpc.transport.reach import wake
from fastrpc.transport.tlssocket import TlsSocket, until


def ask_tunnel(proxy: Proxy, target: Target) -> HeadReader:
    """Return the request for a tunnel to *target*.

    Raises:
        ConfigError: The host can't stand in a request.
    """
    place = join_host(ascii_host(target), target.port)
    who = [("Proxy-Authorization", proxy.authorization)] if proxy.authorization else []
    return HeadReader("CONNECT", place, place, who)


async def tunnel(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, proxy: Proxy, target: Target
) -> None:
    """Ask *proxy* at the other end of *sock* to connect it to *target*.

    Raises:
        BadAnswer: It does not.
        OSError: The connection broke.
    """
    reader = ask_tunnel(proxy, target)
    rest = memoryview(reader.request)
    while rest:
        try:
            rest = rest[sock.send(rest) :]
        except BlockingIOError:
            await _ready(loop.add_writer, loop.remove_writer, sock)
    while reader.answer is None:
        await _ready(loop.add_reader, loop.remove_reader, sock)
        with contextlib.suppress(BlockingIOError):
            take_head(sock, reader)
    check(reader.answer, proxy)


def tunnel_blocking(sock: socket.socket, proxy: Proxy, target: Target, deadline: float) -> None:
    """Do the same with a blocking socket, until *deadline* of `time.monotonic`.

    Raises:
        BadAnswer: It does not.
        OSError: The connection broke; `TimeoutError` if it was too late.
    """
    reader = ask_tunnel(proxy, target)
    ask_blocking(sock, reader, deadline)
    assert reader.answer is not None
    check(reader.answer, proxy)


def ask_blocking(sock: socket.socket | TlsSocket, reader: HeadReader, deadline: float) -> None:
    """Send a request and read the head of its answer, until *deadline*; leaves a timeout set.

    Raises:
        BadAnswer: There is no answer in what comes.
        OSError: The connection broke; `TimeoutError` if it was too late.
    """
    sock.settimeout(until(deadline))
    sock.sendall(reader.request)
    while reader.answer is None:
        sock.settimeout(until(deadline))
        take_head(sock, reader)


def take_head(sock: socket.socket | TlsSocket, reader: HeadReader) -> None:
    """Let *reader* have what has come of the head, and leave the rest in *sock*.

    Raises:
        BadAnswer: It is no head, or the peer has closed.
    """
    data = sock.recv(HEAD_MAX, socket.MSG_PEEK)
    if not data:
        raise BadAnswer("closed before it answered")
    sock.recv(reader.take(data))


def check(answer: Answer, proxy: Proxy) -> None:
    """Raise unless *answer* gives a tunnel.

    Raises:
        BadAnswer: It says no.
    """
    if 200 <= answer.status < 300:
        return
    if answer.status == 407:
        told = "does not accept the user and the password" if proxy.authorization else (
            "wants a user and a password"
        )  # fmt: skip
        raise BadAnswer(f"it {told} ({answer})", answer.status)
    if answer.is_redirect:
        raise BadAnswer(
            f"it answers with a redirect ({answer}), which is not followed", answer.status
        )
    raise BadAnswer(f"it refuses the tunnel ({answer})", answer.status)


async def _ready(add: Any, remove: Any, sock: socket.socket) -> None:
    ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    add(sock, wake, ready)
    try:
        await ready
    finally:
        remove(sock)
