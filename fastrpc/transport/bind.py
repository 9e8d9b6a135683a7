"""Bind listening sockets: TCP on every address of a host, and Unix socket files.

Rules of the room:
  * sockets are returned listening and non-blocking, or not at all;
  * a socket file is replaced only if nobody answers behind it, and removed only
    if it is still ours.
"""

import contextlib
import errno
import os
import socket
import stat
from dataclasses import dataclass
from typing import Final, final

from fastrpc.errors import ConfigError, TransportError
from fastrpc.transport.address import Target, parse_target
from fastrpc.transport.fork import own, share
from fastrpc.transport.resolve import Address, explain, resolve_blocking, set_options

#: With port 0 and several addresses, how often to look for a port free on all.
PORT_TRIES: Final = 16

_EVERYWHERE: Final = ("", "*", "::")

_NO_IPV6: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})


def cannot_listen(target: Target, error: OSError, where: object = "") -> TransportError:
    """Return the error that tells why *target* can't be listened at."""
    place = f"{where}: " if where else ""
    return TransportError(f"can't listen on {target}: {place}{explain(error)}")


def hosts_of(target: Target) -> tuple[str, ...]:
    """Return the hosts that listening at *target* means."""
    return ("0.0.0.0", "::") if target.host in _EVERYWHERE else (target.host,)


def bind_tcp(target: Target, addresses: list[Address], backlog: int) -> list[socket.socket]:
    """Listen on every address, all with one port; on none if one fails.

    An IPv6 address that this machine lacks is left out if another can be had.
    """
    kernel_chooses = target.port == 0 and len(addresses) > 1
    for tries_left in reversed(range(PORT_TRIES if kernel_chooses else 1)):
        sockets: list[socket.socket] = []
        lacking: TransportError | None = None
        for address in addresses:
            port = sockets[0].getsockname()[1] if sockets else target.port
            try:
                sockets.append(_bind_address(address, port, backlog))
            except OSError as error:
                failure = cannot_listen(target, error, address)
                if address.family == socket.AF_INET6 and error.errno in _NO_IPV6:
                    lacking = failure
                    continue
                _close_all(sockets)
                if tries_left and sockets and error.errno == errno.EADDRINUSE:
                    break  # the port of the first address is taken on this one
                raise failure from error
        else:
            if sockets:
                return sockets
            raise lacking or TransportError(f"can't listen on {target}: it has no address")
    raise AssertionError("the last try returns or raises")


def _close_all(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def _bind_address(address: Address, port: int, backlog: int) -> socket.socket:
    sock = own(socket.socket(address.family, socket.SOCK_STREAM))
    try:
        sock.setblocking(False)
        if os.name == "posix":  # elsewhere it would allow two servers on one port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        set_options(sock)
        sock.bind((address.sockaddr[0], port, *address.sockaddr[2:]))
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


@final
class SocketFile:
    """The file behind which a Unix socket listens."""

    def __init__(self) -> None:
        self._path = ""
        self._identity = (0, 0)

    def bind(self, target: Target, backlog: int, mode: int | None) -> socket.socket:
        """Listen at *target*; abstract names have no file and no mode."""
        sock = own(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        try:
            sock.setblocking(False)
            if target.is_abstract:
                sock.bind(target.socket_path)
            else:
                self._bind_file(sock, target.path, mode)
            sock.listen(backlog)
        except OSError as error:
            self.remove()
            sock.close()
            raise cannot_listen(target, error) from error
        return sock

    def remove(self) -> None:
        """Remove the file unless somebody else's stands there now.

        To be called before the socket is closed: until then the kernel gives the
        file's number to no other.
        """
        if self._path:
            with contextlib.suppress(OSError):
                if _identity(os.lstat(self._path)) == self._identity:
                    os.unlink(self._path)
            self._path = ""

    def _bind_file(self, sock: socket.socket, path: str, mode: int | None) -> None:
        if mode is not None:
            # Before `bind`, so that the file is at no moment wider open than asked.
            with contextlib.suppress(OSError):
                os.fchmod(sock.fileno(), mode)
        try:
            sock.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            _remove_stale(path)
            sock.bind(path)
        self._path = path
        self._identity = _identity(os.lstat(path))
        if mode is not None:
            os.chmod(path, mode)


@final
@dataclass(frozen=True, slots=True)
class Bound:
    """Sockets that listen at one target, for the children of this process to accept on.

    Attributes:
        target: Where.
        sockets: All of them.
        file: The file of a Unix socket, which is removed by who has bound it.
    """

    target: Target
    sockets: tuple[socket.socket, ...]
    file: SocketFile

    def close(self) -> None:
        """Listen no more, here; a child that listens goes on. Twice is fine."""
        self.file.remove()
        _close_all(list(self.sockets))


def bind_shared(target: Target | str, *, backlog: int = 1024, mode: int | None = None) -> Bound:
    """Listen at *target* for children that are going to be forked; needs no event loop.

    Args:
        target: Where to listen, as for `listen`.
        backlog: How many connections the kernel holds until they are accepted.
        mode: Permission bits of a unix target's file; by default the umask's.

    Raises:
        TransportError: The address can't be had; the message says why.
        ConfigError: *target* is no target, or none that processes can share.
    """
    if isinstance(target, str):
        target = parse_target(target)
    file = SocketFile()
    if target.scheme == "mem":
        raise ConfigError(f"target '{target}': only one process can listen there, not several")
    if target.scheme == "unix":
        return Bound(target, (share(file.bind(target, backlog, mode)),), file)
    try:
        addresses = [
            found for host in hosts_of(target) for found in resolve_blocking(host, target.port)
        ]
    except OSError as error:
        raise cannot_listen(target, error) from error
    return Bound(target, tuple(map(share, bind_tcp(target, addresses, backlog))), file)


def _identity(seen: os.stat_result) -> tuple[int, int]:
    return seen.st_dev, seen.st_ino


def _remove_stale(path: str) -> None:
    """Remove a socket file that a dead server left behind.

    Raises:
        OSError: It is no socket, or somebody may be listening.
    """
    seen = os.lstat(path)
    if not stat.S_ISSOCK(seen.st_mode):
        raise OSError(errno.EEXIST, "not a socket")
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.setblocking(False)
        probe.connect(path)
    except ConnectionRefusedError:
        if _identity(os.lstat(path)) == _identity(seen):
            os.unlink(path)
        return
    except OSError:
        pass  # a full backlog, or not ours to connect to: somebody may be there
    finally:
        probe.close()
    raise OSError(errno.EADDRINUSE, "somebody listens there")
