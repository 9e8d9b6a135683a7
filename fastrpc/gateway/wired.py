"""Put a tongue on a connection that carries its bytes as they are: plain TCP, or inside TLS.

`WiredVisitor` is somebody who came to a server; what a client dials with is in `foreign`.

Rules of the room:
  * who sends nonsense, or a message byte by byte for ever, is told and left;
  * who does not read is not written to, and not asked for more;
  * who says much has its turn like everybody else;
  * nothing outlives its connection.
"""

import asyncio
import logging
from abc import abstractmethod
from typing import TYPE_CHECKING, Final, cast, final

from fastrpc.errors import ConnectionLost, ProtocolError
from fastrpc.gateway.bridge import greet
from fastrpc.gateway.probe import probe
from fastrpc.gateway.tongue import Tongue
from fastrpc.gateway.translation import Translation
from fastrpc.gateway.visitor import TranslatedVisitor
from fastrpc.session import Session, part
from fastrpc.transport.turns import Turns

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
        self._translation: Translation | None = None
        self._turns = Turns(self._read, self._is_wanted)
        self._words: list[bytes] = []  # for the peer, written together
        self._size = 0  # of them
        self._bytes_out = 0
        self._is_scheduled = False
        self._is_lasting = False  # the peer sends no more, but gets its answers

    @abstractmethod
    def begin(self, transport: asyncio.Transport) -> Translation:
        """Return what stands on the connection from now on."""

    # What the connection tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Put the session behind it."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop has a class of its own
        self._translation = self.begin(self.transport)
        probe(self.transport, self._translation.session.side.limits)

    def data_received(self, data: bytes) -> None:
        """Read what the peer says, as much of it as this turn of the loop allows."""
        if self.transport is not None:
            self._turns.feed(self.transport, data)

    def _read(self, data: bytes) -> None:
        translation = self._translation
        if translation is None:
            return
        try:
            translation.feed(data)
        except ProtocolError as error:
            translation.session.broken(error)
        self._flush()

    def _is_wanted(self) -> bool:
        return self._translation is None or self._translation.bridge.is_reading()

    def eof_received(self) -> bool:
        """Let a peer that sends no more still have its answers, if it can be seen to be there."""
        self._turns.drain()
        translation = self._translation
        if translation is None or not translation.is_open:
            return False
        try:
            translation.tongue.eof()
        except ProtocolError as error:
            translation.session.broken(error)
        self._is_lasting = translation.bridge.eof() and bool(translation.tongue.probe)
        self._flush()
        self.look_for_peer()
        return self._is_lasting

    def look_for_peer(self) -> None:
        """Write to a peer that sends no more: if it is gone altogether, that will tell."""
        if self._is_lasting and self._translation is not None and self.transport is not None:
            self.transport.write(self._translation.tongue.probe)

    def pause_writing(self) -> None:
        """Slow the session down: the peer does not read."""
        if self._translation is not None:
            self._translation.pause_writing()

    def resume_writing(self) -> None:
        """Go on: it has read."""
        if self._translation is not None:
            self._translation.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the session, too."""
        self.transport = None
        self._turns.stop()
        if self._translation is not None:
            self._translation.lose(exc)
            self._translation = None
        self._words.clear()

    # What the session, and the tongue, want

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
                data = b"".join(words)
                self._bytes_out += len(data)
                self.transport.write(data)

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
            self.part(self.transport)

    @abstractmethod
    def part(self, transport: asyncio.Transport) -> None:
        """Close when the peer has read what is left, but do not wait for it for ever."""


@final
class WiredVisitor(TranslatedVisitor, Wired):
    """Someone who came to a server.

    Args:
        hall: Of the server.
        peer: Where it comes from.
        kind: What it speaks.
    """

    def __init__(self, hall: "Hall", peer: str, kind: type[Tongue]) -> None:
        """Wait for `connection_made`."""
        TranslatedVisitor.__init__(self, hall, peer)
        Wired.__init__(self)
        self._kind = kind
        self._bytes_in = 0
        self._is_greeted = False  # it has sent a whole message

    @property
    def door(self) -> str:
        """What is spoken."""
        return self._kind.door

    def begin(self, transport: asyncio.Transport) -> Translation:
        """Put a session of the server's behind it."""
        hall = self._hall
        session = Session(hall.side, client=False, address=self.peer)
        made = Translation(session, transport, self._kind, self._to_peer, self._closed)
        greet(hall, made.bridge, self._kind.name, hall.side.limits)
        hall.side.ticker.watch(self)
        return made

    def part(self, transport: asyncio.Transport) -> None:
        """End our direction; what the peer still says is read, or our last words were lost."""
        part(transport, self.connection_lost)

    def data_received(self, data: bytes) -> None:
        """Read what the peer says."""
        self._bytes_in += len(data)
        super().data_received(data)
        if not self._is_greeted:
            self._greet()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that it is gone."""
        super().connection_lost(exc)
        self.depart()

    def abort(self, cause: Exception) -> None:
        """Close at once."""
        super().abort(cause)
        if self.transport is not None:
            self.transport.abort()

    def slow_tick(self, now: float, late: bool) -> None:
        """Give up on a peer that is gone, that ends no message, or does not read our last words."""
        translation, transport = self._translation, self.transport
        if translation is None or transport is None:
            return
        if not translation.is_open:
            unsent = transport.get_write_buffer_size()
            if self._watch.may_leave(now, late, self._bytes_out - unsent, unsent):
                transport.abort()
            return
        self.look_for_peer()
        tongue = translation.tongue
        is_waiting = tongue.is_waiting and translation.bridge.is_reading()
        why = self._watch.slow(now, late, self._bytes_in, tongue.messages, is_waiting)
        # A first message may be long: while a part of it is there, only its own time counts.
        if not (why or tongue.is_waiting or late or self._is_greeted or self._greet()):
            limit = self._hall.side.limits.hello_timeout
            why = f"no message within {limit:g} s" if now - self.since > limit else ""
        if why:
            text = f"closing: {why}"
            self._hall.side.complain(logging.WARNING, self.peer, text)
            self.abort(ConnectionLost(f"{self.peer}: {text}", "maybe"))

    def _greet(self) -> bool:
        """Let it stay if it has sent a whole message: a single byte must not be enough."""
        if self._translation is not None and self._translation.tongue.messages:
            self._is_greeted = True
            self._hall.admission.greeted(self)
        return self._is_greeted
