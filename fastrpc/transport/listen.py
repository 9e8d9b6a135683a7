"""Listen at a target and make a protocol for everyone who connects.

Rules of the room:
  * what was bound is closed again if anything after it fails;
  * closing a listener never waits for its connections.
"""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Literal, Protocol, final

from fastrpc.errors import ConfigError
from fastrpc.transport.accept import Acceptor, Turns
from fastrpc.transport.address import Target, parse_target
from fastrpc.transport.bind import Bound, SocketFile, bind_tcp, cannot_listen, hosts_of
from fastrpc.transport.fork import own
from fastrpc.transport.memory import MemoryAcceptor
from fastrpc.transport.resolve import resolve
from fastrpc.transport.threshold import Threshold
from fastrpc.transport.tls import ServerTls

try:
    import resource
except ModuleNotFoundError:  # Windows has no such limit
    resource = None  # type: ignore[assignment]

#: Most connections that `connection_cap` ever proposes.
CONNECTIONS_MAX: Final = 10_000

#: Share of the file descriptors that connections may take; the rest is for files,
#: logs, name lookups and the program itself.
DESCRIPTOR_SHARE: Final = 0.8

#: What a target is called where all must encrypt.
_SECURE: Final = {"tcp": "tls", "ws": "wss", "http": "https"}


#: Whether connections may come unencrypted where there is a certificate.
Plain = Literal["refuse", "allow"]


def check_plain(plain: object, tls: object) -> None:
    """Refuse what says neither that unencrypted connections may come, nor that they may not.

    Args:
        plain: Which of the two.
        tls: What else is encrypted with, None for nothing.

    Raises:
        ConfigError: It says neither, or allows what nothing forbids.
    """
    if plain not in ("refuse", "allow"):
        raise ConfigError(f"plain must be 'refuse' or 'allow', got {plain!r}")
    if plain == "allow" and tls is None:
        raise ConfigError("plain='allow' is for listeners with a certificate, and there is no tls")


class _Accepting(Protocol):
    def close(self) -> None: ...

    async def wait_closed(self) -> None: ...


@final
class Listener:
    """Where a server can be reached; made by `listen`.

    Attributes:
        targets: The real addresses, as text that a client can dial.
    """

    def __init__(self, targets: list[str], accepting: list[_Accepting], file: SocketFile) -> None:
        self.targets = targets
        self._accepting = accepting
        self._file = file

    def __repr__(self) -> str:
        """Tell the addresses."""
        return f"<Listener {' '.join(self.targets)}>"

    @property
    def arriving(self) -> int:
        """How many were accepted and are not open yet."""
        return sum(each.arriving for each in self._accepting if isinstance(each, Acceptor))

    def stop_accepting(self) -> None:
        """Accept nobody any more; who is on the way in comes in. Others may accept there."""
        for accepting in self._accepting:
            if isinstance(accepting, Acceptor):
                accepting.close()

    def close(self) -> None:
        """Stop accepting at once; connections stay. Twice is fine."""
        self._file.remove()
        for accepting in self._accepting:
            accepting.close()

    async def wait_closed(self) -> None:
        """Wait until the last accepted protocol is connected; never for connections."""
        for accepting in self._accepting:
            await accepting.wait_closed()


async def listen(
    target: Target | str,
    protocol_factory: Callable[[], asyncio.BaseProtocol],
    *,
    backlog: int = 1024,
    mode: int | None = None,
    tls: ServerTls | None = None,
    plain: Plain = "refuse",
    bound: Bound | None = None,
    turns: Turns | None = None,
) -> Listener:
    """Listen at *target* and return the listener, which accepts from now on.

    Host "", "*" or "::" means every address of this machine, IPv4 and IPv6;
    "0.0.0.0" only IPv4. Port 0 lets the kernel choose one, the same for all.

    Which protocol is spoken is up to the one that is made: `tls`, `wss` and `https` only
    say that all must encrypt, here.

    Args:
        target: Where to listen.
        protocol_factory: Called for each connection when it is accepted.
        backlog: How many connections the kernel holds until they are accepted.
        mode: Permission bits of a unix target's file; by default the umask's.
        tls: What to encrypt with. Nobody encrypts over unix and mem targets.
        plain: With *tls*, at a target that is not of the kind that must: whether
            connections may come unencrypted, too.
        bound: Sockets that listen there already, and that other processes have, too.
        turns: With *bound*: who of those processes accepts next.

    Raises:
        TransportError: The address can't be had; the message says why.
        ConfigError: *target* is no target, or needs *tls*.
    """
    if isinstance(target, str):
        target = parse_target(target)
    loop = asyncio.get_running_loop()
    file = SocketFile()
    if target.scheme == "mem":
        acceptor = MemoryAcceptor(loop, target.name, protocol_factory)
        return Listener([str(target)], [acceptor], file)
    if target.scheme == "unix":
        (sock,) = _taken_on(bound, backlog) if bound else (file.bind(target, backlog, mode),)
        accepted = Acceptor(loop, sock, protocol_factory, turns=turns)
        return Listener([str(target)], [accepted], file)
    if target.is_secure and tls is None:
        raise ConfigError(f"target '{target}': to listen there, give a certificate (tls=)")
    allow_plain = plain == "allow" and not target.is_secure
    sockets = _taken_on(bound, backlog) if bound else await _listen_tcp(target, backlog)
    if tls is not None and not allow_plain:
        target = replace(target, scheme=_SECURE.get(target.scheme, target.scheme))
    targets = [_target_of(sock, target) for sock in sockets]
    # Nothing is awaited from here on, so no cancel can lose the sockets.
    threshold = Threshold(loop, tls, protocol_factory) if tls is not None else None
    accepting: list[_Accepting] = [
        Acceptor(loop, sock, protocol_factory, threshold, allow_plain=allow_plain, turns=turns)
        for sock in sockets
    ]
    return Listener(targets, accepting if threshold is None else [*accepting, threshold], file)


def connection_cap() -> int:
    """Return how many connections this process should hold at most.

    80 % of the file descriptors it may open, and never more than 10,000.
    """
    if resource is None:
        return CONNECTIONS_MAX
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return CONNECTIONS_MAX
    return max(1, min(CONNECTIONS_MAX, int(limit * DESCRIPTOR_SHARE)))


def _taken_on(bound: Bound, backlog: int) -> list[socket.socket]:
    """Return sockets that were bound by the parent, ours from now on."""
    for sock in bound.sockets:
        own(sock).listen(backlog)
    return list(bound.sockets)


async def _listen_tcp(target: Target, backlog: int) -> list[socket.socket]:
    try:
        addresses = [
            found for host in hosts_of(target) for found in await resolve(host, target.port)
        ]
    except OSError as error:
        raise cannot_listen(target, error) from error
    return bind_tcp(target, addresses, backlog)


def _target_of(sock: socket.socket, target: Target) -> str:
    host, port, *_ = sock.getsockname()
    return str(replace(target, host=host, port=port))
