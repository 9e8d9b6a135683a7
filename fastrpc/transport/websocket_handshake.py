"""Decide about a request to speak WebSocket: the words of a yes, or of a no and why.

What a handshake must look like is the library's knowledge (`websockets`); whom we let in is
ours. A browser sends WebSocket requests for any page to any server, with the user's cookies
and from inside the user's network, and only the `Origin` tells which page it was. So a
request that has one is refused unless the page is ours, or known.

Rules of the room:
  * bytes in, bytes out: nothing here knows a connection;
  * a refusal is a whole HTTP answer, and says what would have been right.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from websockets.datastructures import Headers
from websockets.exceptions import NegotiationError
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from fastrpc.transport.origin import is_allowed

#: Subprotocol of the binary protocol, and that of JSON-RPC.
BINARY_SUBPROTOCOL: Final = "fastrpc.1"
TEXT_SUBPROTOCOL: Final = "jsonrpc"

#: All that there are, best first.
SUBPROTOCOLS: Final = (BINARY_SUBPROTOCOL, TEXT_SUBPROTOCOL)

HeaderList = Iterable[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Decision:
    """What comes of a request.

    Attributes:
        response: The HTTP answer, whole.
        subprotocol: What is spoken from now on; empty if the request was refused.
    """

    response: bytes
    subprotocol: str = ""


def decide(
    method: str,
    target: str,
    headers: HeaderList,
    *,
    origins: Collection[str] = (),
    subprotocols: Collection[str] = SUBPROTOCOLS,
) -> Decision:
    """Decide about a request.

    Args:
        method: Of the request.
        target: Its path.
        headers: Its headers, as they came.
        origins: Pages that may connect beside those that came from here, such as
            "https://example.com"; `ANY_ORIGIN` among them means all.
        subprotocols: What can be spoken here, best first.
    """
    try:
        found = Headers(
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in headers
        )
        versions = found.get_all("Sec-WebSocket-Version")
        known = [Subprotocol(each) for each in subprotocols]
        protocol = ServerProtocol(subprotocols=known)
        response = protocol.accept(Request(target, found, method))
    except Exception as error:  # what the library does not expect is no request of WebSocket's
        return _refused(400, f"no WebSocket request: {error}")
    if versions and versions != ["13"]:
        return _refused(426, "this server speaks WebSocket version 13", "Sec-WebSocket-Version: 13")
    fault = protocol.handshake_exc
    if fault is not None and not isinstance(fault, NegotiationError):
        return Decision(response.serialize())
    origin = found.get("Origin")
    if origin is not None and not is_allowed(origin, found.get("Host", ""), origins):
        return _refused(403, f"pages of {origin[:200]!r} may not connect here (origins)")
    if fault is not None:
        wanted = " or ".join(subprotocols)
        return _refused(400, f"Sec-WebSocket-Protocol must name {wanted} ({fault})")
    return Decision(response.serialize(), str(protocol.subprotocol))


def _refused(status: int, why: str, *more: str) -> Decision:
    reason = {400: "Bad Request", 403: "Forbidden", 426: "Upgrade Required"}[status]
    body = f"{why}\n".encode()
    head = [
        f"HTTP/1.1 {status} {reason}",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *more,
    ]
    return Decision("\r\n".join(head).encode() + b"\r\n\r\n" + body)
