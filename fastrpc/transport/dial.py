"""Connect to a target: from the event loop, or blocking.

In stages: a socket to the host, or to the proxy on the way and a tunnel through it; then
TLS; then what a connection that begins as HTTP asks first. Only then is the protocol made,
and it finds every byte that the peer sent early.

Rules of the room:
  * whoever has a socket closes it, on every way out, or hands it to a transport;
  * a protocol that saw `connection_made` sees `connection_lost`, also when the
    caller was cancelled in that very step;
  * every failure is a `ConnectFailed` that says target, stage, reason and time.
"""

import asyncio
import contextlib
import importlib
import os
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, TypeVar

from fastrpc.errors import ConfigError, ConnectFailed, ProxyError
from fastrpc.transport.address import PATH_SCHEMES, Target, parse_target
from fastrpc.transport.head import BadAnswer, ask_upgrade, refused_upgrade
from fastrpc.transport.memory import dial_memory
from fastrpc.transport.proxy import Proxy, choose_proxy
from fastrpc.transport.reach import Unreached, reach, reach_blocking
from fastrpc.transport.resolve import explain
from fastrpc.transport.tls import ALPN_FASTRPC, ALPN_HTTP, SHUTDOWN_TIMEOUT, ClientTls, TlsOptions
from fastrpc.transport.tlssocket import TlsSocket
from fastrpc.transport.tunnel import ask_blocking, tunnel, tunnel_blocking
from fastrpc.transport.upgrade import UpgradeStep

P = TypeVar("P", bound=asyncio.BaseProtocol)

_HTTP: Final = "fastrpc.transport.upgrade", "HttpUpgrade"
_WEBSOCKET: Final = "fastrpc.transport.websocket_dial", "WebSocketDial"

#: What stands on a connection before the caller's protocol, by scheme: module and name. Who
#: dials no WebSocket shall not import the library of it, and other tongues stand above this
#: storey, so nothing here may import them (decision 22).
_UPGRADES: Final = {
    "http": _HTTP, "https": _HTTP, "ws": _WEBSOCKET, "wss": _WEBSOCKET,
    "jsonrpc": ("fastrpc.gateway.foreign", "JsonRpcDial"),
    "msgpackrpc": ("fastrpc.gateway.foreign", "MsgpackRpcDial"),
}  # fmt: skip

_OVERTIME: Final = 1.0  # the loop's own limit for a handshake; ours comes first


class _Stage(Enum):
    """How far an attempt is."""

    REACH = "no answer"
    TUNNEL = "no answer from the proxy"
    TLS = "the TLS handshake did not end"
    UPGRADE = "no answer to the upgrade"


@dataclass(slots=True)
class _Attempt:
    """One try to connect, and how its failures are told."""

    target: Target
    proxy: Proxy | None
    started: float
    timeout: float
    stage: _Stage = _Stage.REACH
    fault: Exception | None = None  # the caller's own, which it gets as it is

    @property
    def deadline(self) -> float:
        """When it must be done."""
        return self.started + self.timeout

    def begin(self) -> Target:
        """Return what must be reached first."""
        if self.proxy is None:
            return self.target
        self.stage = _Stage.TUNNEL
        return self.proxy.target

    def noting(self, protocol_factory: Callable[[], P]) -> Callable[[], P]:
        """Return *protocol_factory* such that its errors are known."""

        def make() -> P:
            try:
                return protocol_factory()
            except Exception as error:
                self.fault = error
                raise

        return make

    def failed(self, error: Exception, now: float) -> ConnectFailed:
        """Return what the caller is told of *error*."""
        why = str(error) or "closed by the peer"
        if isinstance(error, ssl.SSLError) or (isinstance(error, OSError) and error.errno):
            why = explain(error)
        elif isinstance(error, TimeoutError):
            why = self.stage.value
        by = f" by the proxy {self.proxy}" if self.proxy is not None else ""
        text = f"can't connect to {self.target}{by} ({why}) after {now - self.started:.3f} s"
        if self.stage is _Stage.TUNNEL:
            return ProxyError(text, getattr(error, "http_status", 0))
        return ConnectFailed(text)


async def dial(
    target: Target | str,
    protocol_factory: Callable[[], P],
    *,
    timeout: float,  # noqa: ASYNC109 - each address gets a share of it, which no caller can do
    tls: ClientTls | TlsOptions | None = None,
    proxy: str | None = None,
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
        tls: Whom to trust, and who we are; with it a `tcp` target is encrypted, too.
        proxy: Which forward proxy to use, see `choose_proxy`.

    Raises:
        ConnectFailed: Nobody could be reached; no byte of the protocol was sent.
        ConfigError: *target* can't be connected to, or an option is wrong.
    """
    target = _dialable(target)
    loop = asyncio.get_running_loop()
    encrypt = client_tls(target, tls)
    attempt = _Attempt(target, choose_proxy(target, proxy), loop.time(), timeout)
    if target.scheme == "mem":
        return dial_memory(loop, target.name, protocol_factory)
    try:
        sock = await reach(loop, attempt.begin(), attempt.deadline)
        async with asyncio.timeout_at(attempt.deadline):
            make = attempt.noting(protocol_factory)
            return await _connected(loop, sock, attempt, encrypt, make)
    except ConnectFailed:
        raise
    except (OSError, Unreached, BadAnswer) as error:
        if error is attempt.fault:
            raise
        raise attempt.failed(error, loop.time()) from error


def dial_blocking(
    target: Target | str,
    timeout: float,
    *,
    tls: ClientTls | TlsOptions | None = None,
    proxy: str | None = None,
) -> socket.socket | TlsSocket:
    """Connect to *target* without an event loop and return the blocking socket.

    Same options, order, errors and shares of time as `dial`, except that a name
    lookup can't be cut short.

    Raises:
        ConnectFailed: Nobody could be reached; no byte was sent.
        ConfigError: *target* can't be connected to, or needs an event loop.
    """
    target = _dialable(target)
    check_blocking(target)
    encrypt = client_tls(target, tls)
    attempt = _Attempt(target, choose_proxy(target, proxy), time.monotonic(), timeout)
    try:
        sock = reach_blocking(attempt.begin(), attempt.deadline)
        return _connected_blocking(sock, attempt, encrypt)
    except (OSError, Unreached, BadAnswer) as error:
        raise attempt.failed(error, time.monotonic()) from error


def client_tls(target: Target, tls: ClientTls | TlsOptions | None) -> ClientTls | None:
    """Return what connections to *target* encrypt with; None if they don't.

    Raises:
        ConfigError: The files can't be used, or nobody encrypts there.
    """
    if tls is not None and not target.has_host:
        raise ConfigError(f"tls: nothing is encrypted at '{target}', which is on this machine")
    if isinstance(tls, ClientTls) or (tls is None and not target.is_secure):
        return tls
    alpn = ALPN_HTTP if target.scheme in PATH_SCHEMES else ALPN_FASTRPC
    return ClientTls(tls, (alpn,))


def check_blocking(target: Target) -> None:
    """Raise unless *target* can be reached without an event loop.

    Raises:
        ConfigError: It can't.
    """
    if target.scheme in ("mem", "ws", "wss", "jsonrpc", "msgpackrpc"):
        raise ConfigError(
            f"target '{target}': {target.scheme}:// needs an event loop; use tcp:// or unix://"
        )


def _dialable(target: Target | str) -> Target:
    if isinstance(target, str):
        target = parse_target(target)
    if target.has_host:
        if target.host in ("", "*"):
            raise ConfigError(f"target '{target}': no host to connect to")
        if not target.port:
            raise ConfigError(f"target '{target}': port 0 is only for listening")
    return target


def _upgrade(scheme: str) -> type[UpgradeStep]:
    module, name = _UPGRADES[scheme]
    found: type[UpgradeStep] = getattr(importlib.import_module(module), name)
    return found


# From the event loop


async def _connected(
    loop: asyncio.AbstractEventLoop,
    sock: socket.socket,
    attempt: _Attempt,
    tls: ClientTls | None,
    protocol_factory: Callable[[], P],
) -> tuple[asyncio.Transport, P]:
    """Make a connection of *sock*, stage by stage; it is closed if that fails."""
    target, step = attempt.target, None
    try:
        if attempt.proxy is not None:
            await tunnel(loop, sock, attempt.proxy, target)
        attempt.stage = _Stage.TLS if tls is not None else _Stage.UPGRADE
        if target.scheme in _UPGRADES:
            step = _upgrade(target.scheme)(target, protocol_factory)
        protocol: Any = step or protocol_factory()
        starting: Any
        if tls is None:
            # Not `create_connection(sock=)`: this call knows Unix sockets on uvloop, too,
            # and owns the socket before its first await.
            starting = loop.connect_accepted_socket(lambda: protocol, sock)
        else:
            starting = loop.create_connection(
                lambda: protocol,
                sock=sock,
                ssl=tls.context(loop.time()),
                server_hostname=tls.name_for(target.host),
                ssl_handshake_timeout=attempt.timeout + _OVERTIME,
                ssl_shutdown_timeout=SHUTDOWN_TIMEOUT,
            )
    except BaseException:
        sock.close()
        raise
    transport = await _adopt(loop, sock, starting)
    if step is None:
        return transport, protocol
    attempt.stage = _Stage.UPGRADE
    try:
        return await step.done  # type: ignore[return-value]
    except BaseException:
        step.abort()
        raise


async def _adopt(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, starting: Any
) -> asyncio.Transport:
    """Give *sock* to the loop by *starting* a connection on it, and return its transport.

    A task of its own does it, which the caller's cancel does not reach: both loops
    drop a half-made transport differently, uvloop without `connection_lost`, and
    older ones closed the socket twice. Here it is finished and then aborted.
    """
    kernels = _kernels_name(sock)
    task = loop.create_task(starting)
    try:
        transport, _ = await asyncio.shield(task)
    except asyncio.CancelledError:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)  # so that a handshake ends at once
        task.add_done_callback(lambda done: _discard(done, sock, kernels))
        raise
    except BaseException:
        _let_go(sock, kernels)
        raise
    return transport  # type: ignore[no-any-return]


def _discard(
    task: "asyncio.Task[tuple[asyncio.Transport, asyncio.BaseProtocol]]",
    sock: socket.socket,
    kernels: int,
) -> None:
    if task.cancelled() or task.exception() is not None:
        _let_go(sock, kernels)
    else:
        task.result()[0].abort()


def _let_go(sock: socket.socket, kernels: int) -> None:
    """Close *sock*, unless the loop has done so and its number may be somebody else's.

    When a connection that is to be encrypted breaks in its very first step, uvloop closes
    the number and takes hold of the socket object afterwards, which then believes that it
    is open. Closing it would hit whoever has the number now.
    """
    if sock.fileno() >= 0 and _kernels_name(sock) != kernels:
        sock.detach()
    sock.close()


def _kernels_name(sock: socket.socket) -> int:
    """Return what the kernel calls the socket: no other has that number at the same time."""
    try:
        return os.fstat(sock.fileno()).st_ino
    except OSError:  # closed, or no POSIX system
        return 0


# Without one


def _connected_blocking(
    sock: socket.socket, attempt: _Attempt, tls: ClientTls | None
) -> socket.socket | TlsSocket:
    """Do the stages on *sock* and return what to use; it is closed if one fails."""
    target, deadline = attempt.target, attempt.deadline
    usable: socket.socket | TlsSocket = sock
    try:
        if attempt.proxy is not None:
            tunnel_blocking(sock, attempt.proxy, target, deadline)
        if tls is not None:
            attempt.stage = _Stage.TLS
            context = tls.context(time.monotonic())
            usable = encrypted = TlsSocket(sock, context, tls.name_for(target.host))
            encrypted.shake_hands(deadline)
        if target.scheme in _UPGRADES:
            attempt.stage = _Stage.UPGRADE
            reader = ask_upgrade(target)
            ask_blocking(usable, reader, deadline)
            assert reader.answer is not None
            if why := refused_upgrade(reader.answer):
                raise BadAnswer(why)
        usable.settimeout(None)
    except BaseException:
        sock.close()
        raise
    return usable
