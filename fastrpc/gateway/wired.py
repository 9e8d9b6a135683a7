"""Put a tongue on a connection that carries its bytes as they are: plain TCP, or inside TLS.

`WiredVisitor` is somebody who came to a server; what a client dials with is in `foreign`.

Rules of the room:
  * who sends nonsense, or a message byte by byte for ever, is told and left;
  * who does not read is not written to, and not asked for more;
  * nothing outlives its connection.
"""

import asyncio
import logging
from abc import abstractmethod
from typing import TYPE_CHECKING, Final, cast, final

from fastrpc.errors import ConnectionLost, ProtocolError
from fastrpc.gateway.bridge import Bridge, inside
from fastrpc.gateway.probe import probe
from fastrpc.gateway.tongue import Tongue, shapes_of
from fastrpc.session import part
from fastrpc.session.watch import LINGER, Watch

if TYPE_CHECKING:
    from fastrpc.server.hall import Hall

#: Bytes for the peer that are gathered before they are written.
WORDS_MAX: Final = 64 * 1024


class Wired(asyncio.Protocol):
    """One connection with a tongue on it, and a session behind that.

    Attributes:
        transport: The connection; None before and after.
    """

    def __init__(self) -> None:
        """Wait for `connection_made`."""
        self.transport: asyncio.Transport | None = None
        self._tongue: Tongue | None = None
        self._bridge: Bridge | None = None
        self._words: list[bytes] = []  # for the peer, written together
        self._size = 0  # of them
        self._is_scheduled = False
        self._is_lasting = False  # the peer sends no more, but gets its answers
        self._end_timer: asyncio.TimerHandle | None = None

    @abstractmethod
    def begin(self, transport: asyncio.Transport) -> tuple[Tongue, Bridge]:
        """Return what stands on the connection from now on."""

    # What the connection tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Put the session behind it."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop has a class of its own
        self._tongue, self._bridge = self.begin(self.transport)
        # What the session calls the peer with passes on unread then.
        self._bridge.session.lane.serializer = int(self._tongue.serializer)
        probe(self.transport, self._bridge.session.side.limits)

    def data_received(self, data: bytes) -> None:
        """Read what the peer says."""
        if self._tongue is None or self._bridge is None or not self._bridge.is_open:
            return
        try:
            self._tongue.feed(data)
        except ProtocolError as error:
            self._bridge.session.broken(error)
        self._flush()

    def eof_received(self) -> bool:
        """Let a peer that sends no more still have its answers, if it can be seen to be there."""
        if self._tongue is None or self._bridge is None or not self._bridge.is_open:
            return False
        try:
            self._tongue.eof()
        except ProtocolError as error:
            self._bridge.session.broken(error)
        self._is_lasting = self._bridge.eof() and bool(self._tongue.probe)
        self._flush()
        self.look_for_peer()
        return self._is_lasting

    def look_for_peer(self) -> None:
        """Write to a peer that sends no more: if it is gone altogether, that will tell."""
        if self._is_lasting and self._tongue is not None and self.transport is not None:
            self.transport.write(self._tongue.probe)

    def pause_writing(self) -> None:
        """Slow the session down: the peer does not read."""
        if self._tongue is not None and self._bridge is not None:
            self._tongue.pause_writing()
            self._bridge.pause_writing()

    def resume_writing(self) -> None:
        """Go on: it has read."""
        if self._tongue is not None and self._bridge is not None:
            self._tongue.resume_writing()
            self._bridge.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the session, too."""
        self.transport = None
        if self._end_timer is not None:
            self._end_timer.cancel()
        if self._bridge is not None:
            self._bridge.lose(exc)
        self._words.clear()

    # What the session, and the tongue, want

    def _to_session(self, frames: bytes) -> None:
        if self._bridge is not None:
            self._bridge.feed(frames)

    def _to_peer(self, words: bytes) -> None:
        self._words.append(words)
        self._size += len(words)
        if self._size >= WORDS_MAX:  # so that a peer that does not read is noticed in time
            self._flush()
        elif not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._flush_later)

    def _flush_later(self) -> None:
        self._is_scheduled = False
        self._flush()

    def _flush(self) -> None:
        """Write what was said, in one piece: a write is a system call."""
        if self._words:
            words, self._words, self._size = self._words, [], 0
            if self.transport is not None and not self.transport.is_closing():
                self.transport.write(b"".join(words))

    def _closed(self, at_once: bool) -> None:
        """Close: the session has."""
        if self.transport is None:
            return
        if at_once:
            self.transport.abort()
            return
        self._flush()
        if self._is_lasting:
            self.transport.close()  # nothing more can come
        else:
            self._part(self.transport)
        self._wait_for_end(LINGER)

    def _part(self, transport: asyncio.Transport) -> None:
        """End our direction; what the peer still says is read, or our last words were lost."""
        part(transport, self.connection_lost)

    def _wait_for_end(self, spent: float) -> None:
        """Give the peer time to read what is left, and to close: but not for ever."""
        self._end_timer = asyncio.get_running_loop().call_later(LINGER, self._see_end, spent)

    def _see_end(self, spent: float) -> None:
        if self.transport is None or self._bridge is None:
            return
        limits = self._bridge.session.side.limits
        if self.transport.get_write_buffer_size() and spent < limits.write_stall:
            self._wait_for_end(spent + LINGER)
        else:
            self.transport.abort()


@final
class WiredVisitor(Wired):
    """Someone who came to a server.

    Args:
        hall: Of the server.
        peer: Where it comes from.
        kind: What it speaks.
    """

    def __init__(self, hall: "Hall", peer: str, kind: type[Tongue]) -> None:
        """Wait for `connection_made`."""
        super().__init__()
        self.peer = peer
        self._hall = hall
        self._kind = kind
        self._bytes = 0
        self._watch = Watch(hall.side.limits, hall.clock())

    @property
    def door(self) -> str:
        """What is spoken."""
        return self._kind.door

    def __repr__(self) -> str:
        """Tell whose it is."""
        return f"<WiredVisitor {self.peer}>"

    def begin(self, transport: asyncio.Transport) -> tuple[Tongue, Bridge]:
        """Put a session of the server's behind it."""
        hall = self._hall
        tongue = self._kind(
            self._to_peer,
            self._to_session,
            limits=hall.side.limits,
            shape_of=shapes_of(hall.side.router),
        )
        bridge = inside(hall, self.peer, transport, tongue.take, self._closed, agent=tongue.name)
        hall.admission.greeted(self)
        hall.side.ticker.watch(self)
        return tongue, bridge

    def data_received(self, data: bytes) -> None:
        """Read what the peer says."""
        self._bytes += len(data)
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that it is gone."""
        super().connection_lost(exc)
        self._hall.side.ticker.forget(self)
        self._hall.depart(self)

    # What the hall wants

    def leave(self) -> None:
        """Take nothing new; the session closes when nothing is under way."""
        if self._bridge is not None:
            self._bridge.session.leave()

    def abort(self, cause: Exception) -> None:
        """Close at once."""
        if self._bridge is not None:
            self._bridge.session.abort(cause)
        if self.transport is not None:
            self.transport.abort()

    # What the ticker wants

    def fast_tick(self, now: float) -> bool:
        """Expire nothing."""
        return False

    def slow_tick(self, now: float, late: bool) -> None:
        """Give up on a peer that is gone, or whose message does not come to an end."""
        if self._tongue is None or self._bridge is None or not self._bridge.is_open:
            return
        self.look_for_peer()
        is_waiting = self._tongue.is_waiting and self._bridge.is_reading()
        why = self._watch.slow(now, late, self._bytes, self._tongue.messages, is_waiting)
        if why:
            text = f"closing: {why.replace('frame', 'message')}"
            self._hall.side.complain(logging.WARNING, self.peer, text)
            self.abort(ConnectionLost(f"{self.peer}: {text}", "maybe"))
