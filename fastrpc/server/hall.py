"""Let connections in: by which door, how many, until when.

One hall belongs to one server. Whoever came in is a visitor; behind each there is a
session, its own or one that a translator talks to.

Rules of the room:
  * everyone who came in is counted until the socket is gone;
  * a session that nobody came in with belongs to a visitor who speaks another tongue.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from fastrpc.errors import ConfigError, ConnectionLost
from fastrpc.server.admission import Admission
from fastrpc.server.doorway import Doorway, Visitor
from fastrpc.server.options import ServerOptions
from fastrpc.session import Session, Side
from fastrpc.transport import connection_cap

if TYPE_CHECKING:
    from fastrpc.server.server import Server

#: What paths of a server's own begin with; nothing can be mounted there.
RESERVED: Final = ("rpc", "jsonrpc", "debug", "metrics", "healthz", "readyz")

_STOPPING = "the server is shutting down"


@dataclass(frozen=True, slots=True)
class Entrance:
    """One listener, as those see it who come in there.

    Attributes:
        target: Its address.
        doors: What is open.
        is_private: Nobody from another machine comes there.
        is_named: The doors are open because somebody named them.
        is_tunnel: It was asked for in HTTP, which is over there.
    """

    target: str
    doors: frozenset[str]
    is_private: bool = False
    is_named: bool = False
    is_tunnel: bool = False


@final
class Hall:
    """Everyone who is connected to one server.

    Args:
        server: Whose hall it is.
        options: Its options.

    Attributes:
        side: What its sessions share; set before the first visitor comes.
        admission: Who is here.
        sessions: All sessions, oldest first; those that translators talk to as well.
        is_closing: Nobody is let in any more.
        is_leaving: The server has said goodbye to its registries, and closes soon.
        mounts: The halls of other servers, by the path they are found under.
        calls: Calls of sessions that are gone.
        bytes_in: What they have read.
        bytes_out: What they have written.
    """

    def __init__(self, server: "Server", options: ServerOptions) -> None:
        """Begin with nobody."""
        self.server = server
        self.options = options
        self.side: Side = None  # type: ignore[assignment]
        self.admission = Admission(
            options.max_connections or connection_cap(), options.max_per_host, options.max_pending
        )
        self._sessions: dict[Session, None] = {}
        self.mounts: dict[str, Hall] = {}
        self.calls = self.bytes_in = self.bytes_out = 0
        self.is_closing = False
        self.is_leaving = False
        self._empty: asyncio.Future[None] | None = None

    @property
    def clock(self) -> Callable[[], float]:
        """What tells the time."""
        return self.side.share.clock

    @property
    def sessions(self) -> list[Session]:
        """All sessions, oldest first."""
        return list(self._sessions)

    def mount(self, path: str, other: "Hall") -> None:
        """Let *other* have whoever asks for *path* and what is below it.

        Raises:
            ConfigError: The path can't be used, or is taken.
        """
        clean = path.rstrip("/")
        if not path.startswith("/") or not clean:
            raise ConfigError(f"a path to mount at is as '/name', got {path!r}")
        if clean.split("/")[1] in RESERVED:
            raise ConfigError(f"{clean!r} is a path of the server's own ({', '.join(RESERVED)})")
        if clean in self.mounts:
            raise ConfigError(f"there is a server at {clean!r} already")
        if other is self:
            raise ConfigError("a server can't be mounted into itself")
        self.mounts[clean] = other

    def route(self, path: str) -> tuple["Hall", str]:
        """Return whose *path* is, the longest mount first, and what of it is left, "/" at least."""
        best = max(
            (at for at in self.mounts if path == at or path.startswith(at + "/")),
            key=len,
            default="",
        )
        if not best:
            return self, path
        return self.mounts[best].route(path[len(best) :] or "/")

    # Visitors

    def entrance(self, entrance: Entrance) -> Callable[[], asyncio.BaseProtocol]:
        """Return what makes the protocol of everyone who comes in at a listener."""
        return lambda: Doorway(self, entrance)

    def arrive(self, visitor: Visitor) -> None:
        """Take a new connection in, or turn one away."""
        refused = self.admission.enter(visitor)
        if refused is None and self.is_closing:
            refused = visitor, _STOPPING
        if refused is not None:
            other, why = refused
            self.admission.turn_away(other)
            self.side.complain(logging.WARNING, other.peer, f"turned away: {why}")
            other.abort(ConnectionLost(f"{other.peer}: turned away: {why}", "no"))

    def succeed(self, visitor: Visitor, other: Visitor) -> None:
        """Count *other* in place of *visitor*; if that came in at another server, as new here."""
        if visitor in self.admission:
            self.admission.replace(visitor, other)
        else:
            self.arrive(other)

    def depart(self, visitor: Visitor) -> None:
        """Note that a connection is gone; twice is fine."""
        self.admission.leave(visitor)
        self._look_empty()

    def hand_over(
        self, visitor: Visitor, other: Any, transport: asyncio.Transport, data: bytes
    ) -> None:
        """Let *other*, a visitor and protocol, go on with a connection in place of *visitor*.

        Args:
            visitor: Who had it until now.
            other: Who has it from now on.
            transport: The connection.
            data: What came already.
        """
        self.admission.replace(visitor, other)
        transport.set_protocol(other)
        other.connection_made(transport)
        if data:
            other.data_received(data)

    def begin(
        self,
        visitor: Visitor,
        transport: asyncio.Transport,
        peer: str,
        data: bytes = b"",
        since: float = 0.0,
    ) -> Session:
        """Speak the binary protocol on *transport* from now on, in place of *visitor*.

        Args:
            visitor: Who had the connection until now; it may have come in at another server.
            transport: The connection.
            peer: Where it comes from.
            data: What came already.
            since: When the connection was made, 0 for now: HELLO has only so much time.
        """
        session = Session(self.side, client=False, address=peer, since=since)
        self.succeed(visitor, session)
        transport.set_protocol(session)
        session.connection_made(transport)
        if data:
            self.side.around(session, session.lane.feed)(data)
        return session

    async def emptied(self, patience: float) -> None:
        """Wait until nobody is here, but not longer than *patience* seconds."""
        if not len(self.admission) and not self._sessions:
            return
        self._empty = self.side.share.create_future()
        await asyncio.wait([self._empty], timeout=max(patience, 0.0))

    # What sessions report

    def accepted(self, session: Session) -> None:
        """Note a session."""
        self._sessions[session] = None

    def opened(self, session: Session) -> None:
        """Note that the HELLO of a session is done."""
        self.admission.greeted(session)

    def lost(self, session: Session, cause: Exception) -> None:
        """Note that a session has ended."""
        self.calls += session.lane.calls_in
        self.bytes_in += session.lane.bytes_in
        self.bytes_out += session.lane.bytes_out
        self._sessions.pop(session, None)
        self.depart(session)

    def _look_empty(self) -> None:
        waiter = self._empty
        if waiter and not waiter.done() and not len(self.admission) and not self._sessions:
            waiter.set_result(None)
