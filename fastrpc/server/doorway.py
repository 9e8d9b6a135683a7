"""Wait for the first bytes of a connection, and lead it to the door they ask for.

It is a protocol of its own so that a connection which says nothing costs little, and
so that the binary protocol pays nothing: once the first bytes are here, the transport
talks to the session directly and the doorway is gone.

Rules of the room:
  * what was read goes on with the visitor, to the last byte;
  * who says nothing is gone after `hello_timeout`.
"""

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol, cast, final

from fastrpc.errors import ConnectionLost
from fastrpc.server.doors import BY_FIRST_BYTE
from fastrpc.session import Session, part
from fastrpc.transport import peer_of

if TYPE_CHECKING:
    from fastrpc.server.hall import Entrance, Hall


class Visitor(Protocol):
    """Someone who came in, whatever the tongue: what a server has to know of a connection.

    It is an `asyncio.Protocol`, too, unless it is a session; `data_received` gets what was
    read at the doorway right after `connection_made`.

    Attributes:
        peer: Where it comes from, as text.
        door: What is spoken, the name of a door; "waiting" if nothing was said yet.
    """

    peer: str

    @property
    def door(self) -> str:
        """What is spoken."""
        ...

    @property
    def since(self) -> float:
        """When it came."""
        ...

    @property
    def sessions(self) -> tuple[Session, ...]:
        """What stands behind it; an HTTP connection may have several, of mounted servers, too."""
        ...

    @property
    def traffic(self) -> tuple[int, int]:
        """Bytes that were read from it, and written to it."""
        ...

    def leave(self) -> None:
        """Finish what is under way, take nothing new, and close then."""
        ...

    def abort(self, cause: Exception) -> None:
        """Close at once."""
        ...


@final
class Doorway(asyncio.Protocol):
    """A connection that has said nothing yet.

    Args:
        hall: Where it leads.
        entrance: Where it came in.
        peer: Where it comes from; the transport knows if it is empty.
        visitor: Who had the connection until now; None for a new one.

    Attributes:
        since: When it came.
    """

    __slots__ = ("_entrance", "_hall", "_transport", "_visitor", "peer", "since")

    def __init__(
        self, hall: "Hall", entrance: "Entrance", peer: str = "", visitor: Visitor | None = None
    ) -> None:
        self._hall = hall
        self._visitor = visitor
        self._entrance = entrance
        self.since = 0.0
        self._transport: asyncio.Transport | None = None
        self.peer = peer

    def __repr__(self) -> str:
        """Tell whose it is."""
        return f"<Doorway {self.peer}>"

    @property
    def door(self) -> str:
        """What is spoken: nothing so far."""
        return "waiting"

    @property
    def sessions(self) -> tuple[Session, ...]:
        """What stands behind it: nothing so far."""
        return ()

    @property
    def traffic(self) -> tuple[int, int]:
        """Bytes that were read and written: none."""
        return 0, 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait."""
        self._transport = cast("asyncio.Transport", transport)
        self.peer = self.peer or peer_of(transport)
        self.since = self._hall.clock()
        self._hall.side.ticker.watch(self)
        visitor, self._visitor = self._visitor, None
        if visitor is None:
            self._hall.arrive(self)
        else:
            self._hall.succeed(visitor, self)

    def data_received(self, data: bytes) -> None:
        """Open the door that the first byte asks for."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        hall, entrance = self._hall, self._entrance
        tongue = BY_FIRST_BYTE.get(data[0])
        is_closed = tongue is not None and (
            not tongue.doors & entrance.doors or (tongue.is_http and entrance.is_tunnel)
        )
        if tongue is not None and is_closed:
            self._turn_away(tongue.closed(data), f"{tongue.name} is not spoken here")
            return
        hall.side.ticker.forget(self)
        self._transport = None
        if tongue is None or not tongue.module:  # what is no tongue at all is told so in ours
            hall.begin(self, transport, self.peer, data, self.since)
            return
        visitor = tongue.open(hall, entrance, self.peer)
        hall.hand_over(self, visitor, transport, data)

    def eof_received(self) -> None:
        """Close: a peer that has said nothing will say nothing."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that it is gone."""
        self._transport = None
        self._hall.side.ticker.forget(self)
        self._hall.depart(self)

    def leave(self) -> None:
        """Close: nothing is under way."""
        self.abort(ConnectionLost(f"{self.peer}: shutting down", "no"))

    def abort(self, cause: Exception) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def fast_tick(self, now: float) -> bool:
        """Expire nothing."""
        return False

    def slow_tick(self, now: float, late: bool) -> None:
        """Give up on a peer that says nothing."""
        limit = self._hall.side.limits.hello_timeout
        if now - self.since > limit and not late:
            text = f"closing: nothing was said within {limit:g} s"
            self._hall.side.complain(logging.WARNING, self.peer, text)
            self.abort(ConnectionLost(f"{self.peer}: {text}"))

    def _turn_away(self, words: bytes, why: str) -> None:
        transport = self._transport
        assert transport is not None
        self._hall.side.complain(logging.WARNING, self.peer, f"turned away: {why}")
        transport.write(words)
        # The rest of what it says is read and dropped, or the answer could be lost with it;
        # the slow tick ends that, too.
        part(transport, self.connection_lost)
