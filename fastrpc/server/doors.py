"""Know the doors of a port: who knocks with which first byte, and what is behind.

What speaks other tongues than ours stands above this storey, so it is found by name
and loaded when somebody knocks for the first time: a server that nobody asks for a
page has never imported an HTTP parser.

Rules of the room:
  * the first byte decides, and no two doors have one in common;
  * a closed door answers in its own tongue, in few words.
"""

import importlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fastrpc.errors import ConfigError
from fastrpc.frame import encode_frame
from fastrpc.protocol import encode_refusal
from fastrpc.transport.first import HTTP_FIRST, TLS_HELLO, bad_request
from fastrpc.wire import Kind, Serializer, StatusCode

if TYPE_CHECKING:
    from fastrpc.server.doorway import Visitor
    from fastrpc.server.hall import Entrance, Hall

#: Makes what talks to a visitor who came in by a door.
Opener = Callable[["Hall", "Entrance", str], "Visitor"]

#: What can be opened, in the order in which people are told. All but the first and
#: the raw tongues are spoken in HTTP.
DOORS: Final = (
    "fastrpc", "upgrade", "websocket", "http", "jsonrpc", "msgpackrpc", "health", "metrics",
    "debug",
)  # fmt: skip

#: Doors that show what goes on inside: open by themselves only where nobody comes from outside.
PRIVATE: Final = frozenset({"metrics", "debug"})

_IN_HTTP: Final = frozenset(DOORS) - {"fastrpc", "msgpackrpc"}

#: What is open at a listener of a scheme, where nobody says otherwise.
_BY_SCHEME: Final = {
    "ws": frozenset({"websocket", "jsonrpc"}),  # either subprotocol
    "wss": frozenset({"websocket", "jsonrpc"}),
    "http": _IN_HTTP,
    "https": _IN_HTTP,
    "jsonrpc": frozenset({"jsonrpc"}),
    "msgpackrpc": frozenset({"msgpackrpc"}),
}


@dataclass(frozen=True, slots=True)
class Tongue:
    """What a first byte says about the rest.

    Attributes:
        name: What it is called.
        first: The bytes it may begin with.
        doors: It is let in if one of these is open.
        module: Where what talks to it is found; empty for our own.
        opener: Its name there.
        is_http: It asks for something, and may lead to another tongue.
        closed: Returns what a visitor is told that is not let in.
    """

    name: str
    first: bytes
    doors: frozenset[str]
    closed: Callable[[bytes], bytes]
    module: str = ""
    opener: str = ""
    is_http: bool = False

    def open(self, hall: "Hall", entrance: "Entrance", peer: str) -> "Visitor":
        """Return what talks to *peer* from now on."""
        make: Opener = getattr(importlib.import_module(self.module), self.opener)
        return make(hall, entrance, peer)


_HTTP_CLOSED: Final = bad_request("This port serves no HTTP.")

#: A fatal alert, handshake_failure (RFC 8446, section 6).
_TLS_CLOSED: Final = bytes.fromhex("15 03 03 00 02 02 28")


def _fastrpc_closed(data: bytes) -> bytes:
    payload = encode_refusal("this port does not speak the fastrpc binary protocol")
    return encode_frame(
        Kind.HELLO, 0, reply=True, serializer=Serializer.JSON,
        status=StatusCode.UNSUPPORTED, payload=payload,
    )  # fmt: skip


def _jsonrpc_closed(data: bytes) -> bytes:
    error = {"code": -32047, "message": "this port does not speak JSON-RPC"}
    return json.dumps({"jsonrpc": "2.0", "id": None, "error": error}).encode() + b"\n"


_NO_MSGPACKRPC: Final = b"this port does not speak msgpack-rpc"
_WIDTHS: Final = {0xCC: 2, 0xCD: 3, 0xCE: 5}  # bytes of a number in msgpack, by its first


def _msgpackrpc_closed(data: bytes) -> bytes:
    number = b"\0"
    if data[:2] == b"\x94\0" and len(data) > 2:  # a request: the answer has its number
        width = _WIDTHS.get(data[2], 1)
        if (data[2] < 0x80 or width > 1) and len(data) >= 2 + width:
            number = data[2 : 2 + width]
    return b"\x94\x01%s\x92\x00\xd9%c%s\xc0" % (number, len(_NO_MSGPACKRPC), _NO_MSGPACKRPC)


TONGUES: Final = (
    Tongue("fastrpc", b"\xfa", frozenset({"fastrpc"}), _fastrpc_closed),
    Tongue(
        "HTTP",
        HTTP_FIRST,
        _IN_HTTP,
        lambda data: _HTTP_CLOSED,
        "fastrpc.gateway.http",
        "HttpConnection",
        is_http=True,
    ),
    Tongue(
        "JSON-RPC",
        b"{[ \t\r\n",
        frozenset({"jsonrpc"}),
        _jsonrpc_closed,
        "fastrpc.gateway.lines",
        "open_jsonrpc",
    ),
    Tongue(
        "msgpack-rpc",
        b"\x93\x94\xdc\xdd",
        frozenset({"msgpackrpc"}),
        _msgpackrpc_closed,
        "fastrpc.gateway.lines",
        "open_msgpackrpc",
    ),
    # Where there is a certificate the listener has seen to it; inside TLS there is no other.
    Tongue("TLS", TLS_HELLO, frozenset(), lambda data: _TLS_CLOSED),
)

#: The tongue of each first byte.
BY_FIRST_BYTE: Final = {byte: tongue for tongue in TONGUES for byte in tongue.first}


def check_doors(doors: Iterable[str] | None) -> frozenset[str] | None:
    """Return *doors* as a set, None if it is left to each listener.

    Raises:
        ConfigError: There is no such door.
    """
    if doors is None:
        return None
    if isinstance(doors, str):
        raise ConfigError(f"doors must be several names, such as ({doors!r},), got {doors!r}")
    wanted: set[Any] = set(doors)
    unknown = sorted(map(repr, wanted - set(DOORS)))
    if unknown or not wanted:
        what = ", ".join(unknown) if unknown else "none"
        raise ConfigError(f"doors must be some of {', '.join(DOORS)}; got {what}")
    return frozenset(wanted)


def usual_doors(scheme: str, *, is_private: bool) -> frozenset[str]:
    """Return what is open at a listener of *scheme* unless somebody says otherwise.

    Args:
        scheme: Of its target.
        is_private: Nobody from another machine comes there.
    """
    doors = _BY_SCHEME.get(scheme, frozenset(DOORS))
    return doors if is_private else doors - PRIVATE
