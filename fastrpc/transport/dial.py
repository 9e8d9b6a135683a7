"""Connect to a target: from the event loop, or blocking.

The socket is connected first and given to the loop afterwards, in the same way
on asyncio and uvloop. So the protocol is made only once somebody answered,
options are set before the first packet, errors are the kernel's own on both
loops, and there is one place where a cancelled caller can leave a socket behind.

Rules of the room:
  * whoever opens a socket closes it, on every way out, or hands it to a transport;
  * a protocol that saw `connection_made` sees `connection_lost`, also when the
    caller was cancelled in that very step;
  * every failure is a `ConnectFailed` that says target, address, reason and time.
"""

import asyncio
import contextlib
import errno
import math
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from fastrpc.errors import ConfigError, ConnectFailed
from fastrpc.transport.address import Target, parse_target
from fastrpc.transport.fork import own
from fastrpc.transport.memory import dial_memory
from fastrpc.transport.resolve import Address, explain, resolve, resolve_blocking, set_options

P = TypeVar("P", bound=asyncio.BaseProtocol)

#: Wait before a Unix socket with a full backlog is tried again; the kernel
#: does not tell when there is room.
BACKLOG_RETRY: Final = 0.005


async def dial(
    target: Target | str,
    protocol_factory: Callable[[], P],
    *,
    timeout: float,  # noqa: ASYNC109 - each address gets a share of it, which no caller can do
) -> tuple[asyncio.Transport, P]:
    """Connect to *target* and return the transport with its protocol.

    Every address of the host is tried in turn; each gets an equal share of the
    time that is left, so one dead address does not cost the whole of it.
    The factory is called once, after somebody answered. Cancelling leaves no
    socket open.

    Args:
        target: Where to connect to.
        protocol_factory: Makes the protocol of the connection.
        timeout: Seconds for everything, name lookup included.

    Raises:
        ConnectFailed: Nobody could be reached; no byte was sent.
        ConfigError: *target* can't be connected to.
    """
    target = _dialable(target)
    loop = asyncio.get_running_loop()
    if target.scheme == "mem":
        return dial_memory(loop, target.name, protocol_factory)
    started = loop.time()
    sock = await _reach(loop, target, started + timeout)
    try:
        protocol = protocol_factory()
    except BaseException:
        sock.close()
        raise
    try:
        return await _adopt(loop, sock, protocol), protocol
    except OSError as error:
        raise _failed(target, [explain(error)], loop.time() - started) from error


def dial_blocking(target: Target | str, timeout: float) -> socket.socket:
    """Connect to *target* without an event loop and return the blocking socket.

    Same options, order, errors and shares of time as `dial`, except that a name
    lookup can't be cut short.

    Raises:
        ConnectFailed: Nobody could be reached; no byte was sent.
        ConfigError: *target* can't be connected to, or needs an event loop.
    """
    target = _dialable(target)
    if target.scheme == "mem":
        raise ConfigError(f"target '{target}': mem:// needs an event loop; use tcp:// or unix://")
    started = time.monotonic()
    deadline = started + timeout
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
    raise _failed(target, failures, time.monotonic() - started)


def _dialable(target: Target | str) -> Target:
    if isinstance(target, str):
        target = parse_target(target)
    if target.has_host:
        if target.host in ("", "*"):
            raise ConfigError(f"target '{target}': no host to connect to")
        if not target.port:
            raise ConfigError(f"target '{target}': port 0 is only for listening")
    return target


def _unix(target: Target) -> list[Address]:
    return [Address(socket.AF_UNIX, target.socket_path)] if target.scheme == "unix" else []


async def _reach(loop: asyncio.AbstractEventLoop, target: Target, deadline: float) -> socket.socket:
    """Return a socket connected to the first address of *target* that answers."""
    started = loop.time()
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
    raise _failed(target, failures, loop.time() - started)


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
    loop.add_writer(sock, _wake, ready)
    try:
        await ready
    finally:
        loop.remove_writer(sock)
    failed = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if failed:
        raise OSError(failed, "connect")


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _refuse_self(sock: socket.socket) -> None:
    """Raise if the kernel connected the socket to itself.

    It may, when the port is in the range it gives to clients and nobody listens.
    """
    if sock.family != socket.AF_UNIX and sock.getsockname() == sock.getpeername():
        raise ConnectionRefusedError(errno.ECONNREFUSED, "connected to itself")


async def _adopt(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, protocol: asyncio.BaseProtocol
) -> asyncio.Transport:
    """Give *sock* to the loop and return its transport.

    A task of its own does it, which the caller's cancel does not reach: both loops
    drop a half-made transport differently, uvloop without `connection_lost`, and
    older ones closed the socket twice. Here it is finished and then aborted.
    """
    # Not `create_connection(sock=)`: this call knows Unix sockets on uvloop, too,
    # and owns the socket before its first await.
    task = loop.create_task(loop.connect_accepted_socket(lambda: protocol, sock))
    try:
        transport, _ = await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(lambda done: _discard(done, sock))
        raise
    except BaseException:
        sock.close()
        raise
    return transport


def _discard(
    task: asyncio.Task[tuple[asyncio.Transport, asyncio.BaseProtocol]], sock: socket.socket
) -> None:
    if task.cancelled() or task.exception() is not None:
        sock.close()
    else:
        task.result()[0].abort()


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


def _failed(target: Target, failures: list[str], elapsed: float) -> ConnectFailed:
    what = "; ".join(failures) or "the name has no address"
    return ConnectFailed(f"can't connect to {target} ({what}) after {elapsed:.3f} s")
