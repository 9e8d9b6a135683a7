"""Read and write the address text that people give: `tcp://host:port` and kin.

One grammar for servers, clients, tests and the command line, so that an address
copied from a server's log can be pasted into a client.

Rules of the room:
  * `str(parse_target(text))` is `text` again, except that a bare `host:port`
    gains its `tcp://`;
  * nothing is resolved here; a name is only a name;
  * an error repeats the text it is about.
"""

import asyncio
import ipaddress
import os
import re
from dataclasses import dataclass
from typing import Final

from fastrpc.errors import ConfigError

#: Schemes of registries: what stands behind them leads to servers, and is none.
REGISTRY_SCHEMES: Final = frozenset(
    {"etcd", "zookeeper", "redis", "registry", "static", "file", "dns"}
)

#: Schemes whose targets have a host and a port, and whether bytes are encrypted.
HOST_SCHEMES: Final = {
    "tcp": False, "tls": True, "ws": False, "wss": True, "http": False, "https": True,
    "jsonrpc": False, "msgpackrpc": False,
}  # fmt: skip

#: Those of them that also have a path, and the port that is meant where none is written.
PATH_SCHEMES: Final = {"ws": 80, "wss": 443, "http": 80, "https": 443}

#: Longest Unix socket path in bytes; the kernel keeps one more for the end mark.
UNIX_PATH_MAX: Final = 107

_HOST: Final = re.compile(r"[^\s/?#@\[\]%:\\]{1,255}")
_NAME: Final = re.compile(r"[A-Za-z0-9._~-]{1,255}")
_PATH: Final = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,;=:@%-]*){1,64}")
_UNPRINTABLE: Final = re.compile(r"[\x00-\x20\x7f]")


@dataclass(frozen=True, slots=True)
class Target:
    """One place to listen at or to connect to.

    Attributes:
        scheme: "unix", "mem", or one of `HOST_SCHEMES`.
        host: Host name or address, IPv6 without brackets; empty or "*" for every
            address of this machine.
        port: 0 lets the kernel choose when listening.
        path: Path of a unix target, "@name" for Linux's abstract names; or what stands
            behind the port of a ws or http target, "/" at least.
        name: Name of a mem target.
    """

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""
    name: str = ""

    def __str__(self) -> str:
        """Return the text that `parse_target` would read as this target."""
        if self.scheme == "unix":
            return f"unix://{self.path}"
        if self.scheme == "mem":
            return f"mem://{self.name}"
        path = self.path if self.path != "/" else ""
        return f"{self.scheme}://{join_host(self.host, self.port)}{path}"

    @property
    def has_host(self) -> bool:
        """Whether it is reached by host and port."""
        return self.scheme in HOST_SCHEMES

    @property
    def is_secure(self) -> bool:
        """Whether what goes there is encrypted."""
        return HOST_SCHEMES.get(self.scheme, False)

    @property
    def is_private(self) -> bool:
        """Whether nobody from another machine can come to it, as far as it tells."""
        return not self.has_host or self.host == "localhost" or is_loopback(self.host)

    @property
    def is_abstract(self) -> bool:
        """Whether this is a unix target without a file."""
        return self.path.startswith("@")

    @property
    def socket_path(self) -> str:
        """The path as the kernel wants it."""
        return "\0" + self.path[1:] if self.is_abstract else self.path


def parse_target(text: str) -> Target:
    """Return the target that *text* names.

    Forms: `tcp://host:port`, `tcp://[::1]:7000`, `unix:///path`, `unix://@name`,
    `mem://name`, and a bare `host:port`, which means tcp. `tls://` is written as `tcp://`;
    `ws://`, `wss://`, `http://` and `https://` may have a path, and no port if it is the
    usual one. `jsonrpc://` and `msgpackrpc://` are servers that speak these over TCP.

    Raises:
        ConfigError: *text* is no target; the message says which part is wrong.
    """
    if not isinstance(text, str):
        raise ConfigError(f"a target must be text, got {type(text).__name__}")
    if found := _UNPRINTABLE.search(text):
        raise _wrong(text, f"character {found.group()!r} is not allowed")
    head, mark, rest = text.partition("://")
    scheme = head.partition(":")[0].lower()
    # `static:` and `file:` stand before addresses; `redis:7000` is a host called redis.
    if scheme in REGISTRY_SCHEMES and (mark or not _is_port(text[len(scheme) + 1 :])):
        raise _wrong(text, f"scheme {scheme!r} is of a registry, not of a server")
    if not mark:
        if text.startswith(("/", "./", "../", "@")):
            raise _wrong(text, "a socket's path is written unix:///path")
        return _parse_host(text, "tcp", text)
    if scheme in HOST_SCHEMES and scheme == head.lower():
        return _parse_host(text, scheme, rest)
    parse = _PARSERS.get(head.lower())
    if parse is None:
        known = ", ".join(sorted([*HOST_SCHEMES, *_PARSERS]))
        raise _wrong(text, f"unknown scheme {head!r} ({known} are known)")
    return parse(text, rest)


def is_loopback(host: str) -> bool:
    """Say whether *host* is an address of loopback, written in digits."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def join_host(host: str, port: int) -> str:
    """Return `host:port`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def peer_of(transport: asyncio.BaseTransport) -> str:
    """Return the peer of *transport* in words, for messages and logs.

    A client of a Unix socket has no name of its own; it is named by the socket
    it came through.
    """
    peer = transport.get_extra_info("peername")
    if isinstance(peer, tuple):
        return f"tcp://{join_host(peer[0], peer[1])}"
    peer = peer or transport.get_extra_info("sockname")
    if not peer or isinstance(peer, tuple):  # a TCP peer that has reset already has no name
        return "unknown peer"
    name = os.fsdecode(peer)
    if name.startswith("mem://"):
        return name
    return f"unix://@{name[1:]}" if name.startswith("\0") else f"unix://{name}"


def _wrong(text: str, what: str) -> ConfigError:
    return ConfigError(f"target {text!r}: {what}")


def _is_port(text: str) -> bool:
    return 0 < len(text) <= 5 and text.isascii() and text.isdigit() and int(text) <= 65535


def _parse_host(text: str, scheme: str, rest: str) -> Target:
    path, usual = "", PATH_SCHEMES.get(scheme)
    if usual is not None:
        rest, slash, behind = rest.partition("/")
        path = slash + behind or "/"
        if not _PATH.fullmatch(path):
            raise _wrong(text, f"{path!r} is not a path")
    host, colon, port = rest.rpartition(":")
    if not colon or port.endswith("]"):
        if usual is None:
            raise _wrong(text, f"no port ({scheme}://host:port)")
        host, port = rest, str(usual)
    if not _is_port(port):
        raise _wrong(text, f"port must be 0 to 65535, got {port!r}")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise _wrong(text, f"{host!r} is not an IPv6 address") from None
    elif ":" in host:
        raise _wrong(text, f"an IPv6 address needs brackets ({scheme}://[::1]:7000)")
    elif host and not _HOST.fullmatch(host):
        raise _wrong(text, f"{host!r} is not a host")
    return Target(scheme, host=host, port=int(port), path=path)


def _parse_unix(text: str, rest: str) -> Target:
    if not rest.startswith(("/", "@")) or len(rest) == 1:
        raise _wrong(text, "an absolute path or @name must follow unix:// (unix:///path)")
    size = len(os.fsencode(rest))
    if size > UNIX_PATH_MAX:
        raise _wrong(text, f"a socket's path has at most {UNIX_PATH_MAX} bytes, this has {size}")
    return Target("unix", path=rest)


def _parse_mem(text: str, rest: str) -> Target:
    if not _NAME.fullmatch(rest):
        raise _wrong(text, "a name of letters, digits and . _ ~ - must follow mem://")
    return Target("mem", name=rest)


_PARSERS: Final = {"unix": _parse_unix, "mem": _parse_mem}
