"""Let a connection that speaks HTTP go on as something else.

`CONNECT /path`, as Go's net/rpc does it: then the doorway again, where only what is no HTTP
is open. `GET` with `Upgrade: fastrpc`: then the binary protocol. `Upgrade: websocket`: then
messages.

Rules of the room:
  * not one byte is lost: what came behind the request goes to whoever is next;
  * this is no proxy: nothing is connected to anything else.
"""

from typing import TYPE_CHECKING, Final

from fastrpc.gateway.exchange import Exchange
from fastrpc.gateway.request import RefusedError
from fastrpc.gateway.websocket import open_websocket
from fastrpc.server.doorway import Doorway
from fastrpc.server.hall import Entrance
from fastrpc.transport.websocket_handshake import BINARY_SUBPROTOCOL, SUBPROTOCOLS
from fastrpc.wire import StatusCode

if TYPE_CHECKING:
    import asyncio

#: What Go's net/rpc waits for, to the letter.
CONNECTED: Final = b"HTTP/1.0 200 Connected to Go RPC\r\n\r\n"

SWITCHED: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: fastrpc\r\n\r\n"
)

#: What may be spoken behind CONNECT, as far as the listener has it; the binary protocol always.
_RAW: Final = frozenset({"jsonrpc", "msgpackrpc"})


def switch(exchange: Exchange) -> None:
    """Let the connection of an exchange go on as its request asks.

    Raises:
        RefusedError: It may not.
    """
    request = exchange.request
    if request.has_body:
        raise RefusedError(400, "a request to go on as something else has no body")
    if exchange.hall.is_closing:
        raise RefusedError(503, "the server is shutting down", StatusCode.UNAVAILABLE)
    if request.method == "CONNECT":
        _connect(exchange)
        return
    if request.method != "GET" or request.version == "1.0":
        raise RefusedError(400, "an upgrade is asked for with GET, in HTTP/1.1")
    wanted = request.tokens("upgrade")
    if "fastrpc" in wanted:
        _upgrade(exchange)
    else:
        _websocket(exchange)


def _connect(exchange: Exchange) -> None:
    connection, hall = exchange.connection, exchange.hall
    entrance = connection.entrance
    _check_door(exchange, "upgrade")
    transport, early = connection.release()
    transport.write(CONNECTED)
    doors = (exchange.doors & _RAW) | {"fastrpc"}
    inner = Entrance(entrance.target, doors, entrance.is_private, is_tunnel=True)
    doorway = Doorway(hall, inner, connection.peer, connection)
    transport.set_protocol(doorway)
    doorway.connection_made(transport)
    _count_out(exchange)
    if early:
        doorway.data_received(early)


def _upgrade(exchange: Exchange) -> None:
    connection, hall = exchange.connection, exchange.hall
    _check_door(exchange, "upgrade")
    transport, early = connection.release()
    transport.write(SWITCHED)
    hall.begin(connection, transport, connection.peer, early)
    _count_out(exchange)


def _websocket(exchange: Exchange) -> None:
    connection, hall, request = exchange.connection, exchange.hall, exchange.request
    _check_door(exchange, "websocket")
    transport: asyncio.Transport = connection.transport
    # What texts carry has a door of its own.
    spoken = SUBPROTOCOLS if "jsonrpc" in exchange.doors else (BINARY_SUBPROTOCOL,)
    decision = open_websocket(
        hall, connection, transport, request.method, exchange.path, request.raw_headers,
        connection.early, origins=exchange.options.origins, subprotocols=spoken,
    )  # fmt: skip
    if not decision.subprotocol:
        exchange.say(decision.response)
        return
    connection.release()
    _count_out(exchange)


def _count_out(exchange: Exchange) -> None:
    """Count the connection out where it came in, if it is another server's now."""
    connection, hall = exchange.connection, exchange.hall
    if hall is not connection.hall:
        connection.hall.depart(connection)


def _check_door(exchange: Exchange, door: str) -> None:
    if door not in exchange.doors:
        text = f"the door {door!r} is closed here"
        raise RefusedError(403, text, StatusCode.FORBIDDEN)
