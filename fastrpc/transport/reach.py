"""Connect a socket to one of the addresses of a host: from the event loop, or blocking.

The socket is connected first and given to the loop afterwards, in the same way on asyncio
and uvloop: options are set before the first packet, errors are the kernel's own on both
loops, and what a proxy says can be read before anybody else reads.

Rules of the room:
  * whoever opens a socket closes it, on every way out, or hands it on;
  * each address gets an equal share of the time that is left, so one dead address does not
    cost the whole of it.
"""

import asyncio
import contextlib
import errno
import math
import socket
import struct
import time
from collections.abc import Iterator
from typing import Final

from fastrpc.transport.address import Target
from fastrpc.transport.fork import own
from fastrpc.transport.resolve import Address, explain, resolve, resolve_blocking, set_options

#: Wait before a Unix socket with a full backlog is tried again; the kernel
#: does not tell when there is room.
BACKLOG_RETRY: Final = 0.005


class Unreached(Exception):
    """No address answered; the text says why, address by address."""

    def __init__(self, failures: list[str]) -> None:
        super().__init__("; ".join(failures) or "the name has no address")


async def reach(loop: asyncio.AbstractEventLoop, target: Target, deadline: float) -> socket.socket:
    """Return a non-blocking socket connected to the first address of *target* that answers.

    Raises:
        Unreached: None did until *deadline*.
    """
    failures: list[str] = []
    addresses = _unix(target)
    try:
        if not addresses:
            async with asyncio.timeout_at(deadline):
                addresses = await resolve(target.host, target.port)
    except TimeoutError:
        failures.append("name lookup did not end")
    except OSError as error:
        failures.append(explain(error))
    for number, address in enumerate(addresses):
        now = loop.time()
        share = (deadline - now) / (len(addresses) - number)
        try:
            async with asyncio.timeout_at(now + share):
                return await _connect(loop, address)
        except TimeoutError:
            failures.append(_no_answer(address, loop.time() - now))
        except OSError as error:
            failures.append(f"{address}: {explain(error)}")
    raise Unreached(failures)


def reach_blocking(target: Target, deadline: float) -> socket.socket:
    """Return a blocking socket, see `reach`; *deadline* is one of `time.monotonic`.

    Raises:
        Unreached: None answered. A name lookup can't be cut short.
    """
    failures: list[str] = []
    try:
        addresses = _unix(target) or resolve_blocking(target.host, target.port)
        for number, address in enumerate(addresses):
            now = time.monotonic()
            share = (deadline - now) / (len(addresses) - number)
            try:
                if share <= 0:
                    raise TimeoutError
                return _connect_blocking(address, share)
            except TimeoutError:
                failures.append(_no_answer(address, time.monotonic() - now))
            except OSError as error:
                failures.append(f"{address}: {explain(error)}")
    except OSError as error:
        failures.append(explain(error))
    raise Unreached(failures)


def _unix(target: Target) -> list[Address]:
    return [Address(socket.AF_UNIX, target.socket_path)] if target.scheme == "unix" else []


async def _connect(loop: asyncio.AbstractEventLoop, address: Address) -> socket.socket:
    """Return a connected, non-blocking socket; none is left open on any way out."""
    sock = own(socket.socket(address.family, socket.SOCK_STREAM))
    try:
        sock.setblocking(False)
        set_options(sock)
        # Not `loop.sock_connect`: uvloop's loses an IPv6 scope, and asyncio's takes
        # the EAGAIN of a Unix socket whose backlog is full for a connection.
        while True:
            try:
                sock.connect(address.sockaddr)
                break
            except BlockingIOError:
                if address.family != socket.AF_UNIX:
                    await _writable(loop, sock)
                    break
            await asyncio.sleep(BACKLOG_RETRY)
        _refuse_self(sock)
    except BaseException:
        sock.close()
        raise
    return sock


async def _writable(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    ready = loop.create_future()
    loop.add_writer(sock, wake, ready)
    try:
        await ready
    finally:
        loop.remove_writer(sock)
    failed = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if failed:
        raise OSError(failed, "connect")


def wake(ready: asyncio.Future[None]) -> None:
    """End the wait for a descriptor; it may have ended already."""
    if not ready.done():
        ready.set_result(None)


def _refuse_self(sock: socket.socket) -> None:
    """Raise if the kernel connected the socket to itself.

    It may, when the port is in the range it gives to clients and nobody listens.
    """
    if sock.family != socket.AF_UNIX and sock.getsockname() == sock.getpeername():
        raise ConnectionRefusedError(errno.ECONNREFUSED, "connected to itself")


def _connect_blocking(address: Address, timeout: float) -> socket.socket:
    sock = own(socket.socket(address.family, socket.SOCK_STREAM))
    try:
        set_options(sock)
        if address.family == socket.AF_UNIX:
            # With a Python timeout the socket would be non-blocking, and a full
            # backlog an error at once; the kernel's own timeout waits for room.
            with _send_timeout(sock, timeout):
                sock.connect(address.sockaddr)
        else:
            sock.settimeout(timeout)
            sock.connect(address.sockaddr)
            sock.settimeout(None)
        _refuse_self(sock)
    except BlockingIOError:
        sock.close()
        raise TimeoutError from None
    except BaseException:
        sock.close()
        raise
    return sock


@contextlib.contextmanager
def _send_timeout(sock: socket.socket, timeout: float) -> Iterator[None]:
    fraction, whole = math.modf(timeout)
    value = struct.pack("@ll", int(whole), max(int(fraction * 1e6), 0 if whole else 1))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)
    yield
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", 0, 0))


def _no_answer(address: Address, elapsed: float) -> str:
    return f"{address}: no answer in {elapsed:.3f} s"
