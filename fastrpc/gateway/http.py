"""Speak HTTP/1.1 with one visitor: one request after the other, each with its answer.

What a request means stands elsewhere: `routes` finds who answers, `exchange` is one request
with its answer, `connect` lets a connection go on as something else. Here is what all of them
have in common: the connection, and its time.

Rules of the room:
  * one request is answered at a time; what comes behind it waits, and little of it;
  * each wait has a limit: for a head, a body, a reader, the next request;
  * who hangs up takes what he asked for along.
"""

import asyncio
import logging
import re
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, final

import h11

from fastrpc.errors import ConnectionLost
from fastrpc.gateway import connect, routes
from fastrpc.gateway.exchange import Answer, Exchange, RefusedAnswer
from fastrpc.gateway.link import AnyLink
from fastrpc.gateway.probe import probe
from fastrpc.gateway.request import RefusedError, Request, find_head, read_head
from fastrpc.session import Session, part
from fastrpc.session.flow import WRITE_HIGH
from fastrpc.session.watch import Watch
from fastrpc.transport import peer_of
from fastrpc.transport.turns import Turns
from fastrpc.wire import StatusCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastrpc.server.hall import Entrance, Hall

#: Bytes behind a request that are taken while it is answered.
PIPELINE_MAX: Final = 64 * 1024

#: Longest body of a refused request that is read, so that the connection can go on.
DROPPED_MAX: Final = 64 * 1024


#: Bytes of empty lines before a request that are forgiven.
BLANK_MAX: Final = 1024

_BLANK: Final = re.compile(rb"(?:\r\n)*")
_L = TypeVar("_L", bound=AnyLink)


class Stage(Enum):
    """What a connection is doing."""

    HEAD = "waits for a request"
    BODY = "reads the body of one"
    ANSWER = "answers it"
    PARTING = "has said its last word"
    GONE = "is gone, or goes on as something else"


@final
class HttpConnection(asyncio.Protocol):
    """One connection over which HTTP is spoken.

    Args:
        hall: Of the server that it came in at.
        entrance: Where it came in.
        peer: Where it comes from.

    Attributes:
        options: Limits of the connection, whichever server its requests go to.
        transport: The connection.
        is_paused: What was written is read slowly.
        links: Sessions that the requests go to, one for each server.
    """

    def __init__(self, hall: "Hall", entrance: "Entrance", peer: str) -> None:
        self.hall = hall
        self.entrance = entrance
        self.peer = peer
        self.options = hall.options.http
        self.is_paused = False
        self.links: dict[tuple[Hall, Any], AnyLink] = {}
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self._watch = Watch(hall.side.limits, hall.clock())
        self._stage = Stage.HEAD
        self._since = hall.clock()
        self._exchange: Exchange | None = None
        self._turns = Turns(self._read, lambda: self._is_reading)
        self._in = bytearray()  # of a head, or behind the request that is answered
        self._blank = 0  # bytes of empty lines before the next request
        self._seen = 0  # of it, without the end of a head
        self._requests = self._bytes_in = self._bytes_out = 0
        self._is_reading = True
        self._is_leaving = False

    @property
    def door(self) -> str:
        """What is spoken."""
        return "http"

    @property
    def since(self) -> float:
        """When it came."""
        return self._watch.since

    @property
    def sessions(self) -> tuple[Session, ...]:
        """What its requests go to; some may be of servers that are mounted."""
        return tuple(link.bridge.session for link in self.links.values())

    @property
    def traffic(self) -> tuple[int, int]:
        """Bytes that were read and written, heads and all."""
        return self._bytes_in, self._bytes_out

    def __repr__(self) -> str:
        """Tell whose it is, and what it does."""
        return f"<HttpConnection {self.peer} {self._stage.value}>"

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop has a class of its own
        self.peer = self.peer or peer_of(transport)
        self.transport.set_write_buffer_limits(high=WRITE_HIGH)
        probe(self.transport, self.hall.side.limits)
        self._since = self.hall.clock()
        self.hall.side.ticker.watch(self)

    def data_received(self, data: bytes) -> None:
        """Take what came, as much of it as this turn of the loop allows."""
        self._bytes_in += len(data)
        self._turns.feed(self.transport, data)

    def _read(self, data: bytes) -> None:
        exchange = self._exchange
        if self._stage is Stage.BODY and exchange is not None:
            self._feed(exchange, data)
        elif self._stage is Stage.HEAD and not self.is_paused:
            if not self._in and self._requests:
                self._since = self.hall.clock()
            self._in += data
            self._next()
        elif self._stage in (Stage.HEAD, Stage.ANSWER):
            # Reading goes on, or nobody would see that the asker hangs up.
            self._in += data
            if len(self._in) > PIPELINE_MAX:
                self.read_on(False)

    def eof_received(self) -> None:
        """Close: an asker that hangs up wants no answer any more."""
        self._turns.drain()
        if self._exchange is not None:
            self._exchange.give_up()

    def connection_lost(self, exc: Exception | None) -> None:
        """End everything that is under way."""
        self._stage = Stage.GONE
        self._turns.stop()
        self.hall.side.ticker.forget(self)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.give_up()
        self._lose(exc)
        if exchange is None or not exchange.answer.linger(self._depart):
            self._depart()

    def pause_writing(self) -> None:
        """Let everyone wait who has something to say."""
        self.is_paused = True
        self._watch.unstalled()
        for link in self.links.values():
            link.bridge.pause_writing()

    def resume_writing(self) -> None:
        """Go on: the peer has read."""
        self.is_paused = False
        self._watch.unstalled()
        for link in self.links.values():
            link.bridge.resume_writing()
        if self._exchange is not None:
            self._exchange.answer.resume()
        elif self._stage is Stage.HEAD:
            self._go_on()

    # What the server calls

    def leave(self) -> None:
        """Finish the request that is under way, and close then."""
        self._is_leaving = True
        if self._stage is Stage.HEAD:
            self._close()

    def abort(self, cause: Exception) -> None:
        """Close at once."""
        if self._stage is not Stage.GONE:
            self.transport.abort()

    def fast_tick(self, now: float) -> bool:
        """Expire nothing."""
        return False

    def slow_tick(self, now: float, late: bool) -> None:
        """Give up on a peer that is silent, slow, or reads nothing."""
        unsent = self.transport.get_write_buffer_size()
        taken = self._bytes_out - unsent
        if self._stage is Stage.PARTING:
            if self._watch.may_leave(now, late, taken, unsent):
                self.transport.abort()
            return
        if self.is_paused:
            if why := self._watch.stalled(now, late, taken, unsent):
                self._complain(f"closing: {why}")
                self.abort(ConnectionLost(f"{self.peer}: {why}"))
        elif self._stage is Stage.HEAD:
            self._check_head(now, late)
        elif self._stage is Stage.BODY:
            self._check_body(now, late)
        if self._exchange is not None:
            self._exchange.answer.tick(now)

    # What an exchange calls, and a link

    @property
    def is_last(self) -> bool:
        """Whether no request is taken after this one."""
        return self._is_leaving or self._requests >= self.options.max_requests

    @property
    def early(self) -> bytes:
        """What came behind the request that is answered."""
        return bytes(self._in) + self._turns.held

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self._bytes_out += len(data)
        self.transport.write(data)

    def read_on(self, wanted: bool) -> None:
        """Read on, or not."""
        if wanted != self._is_reading and not self.transport.is_closing():
            self._is_reading = wanted
            if not wanted:
                self.transport.pause_reading()
            elif not self._turns.is_resting:
                self.transport.resume_reading()

    def finished(self, exchange: Exchange, *, must_close: bool) -> None:
        """Go on behind an exchange that is done."""
        if exchange is not self._exchange:
            return
        self._exchange = None
        if must_close or self.is_last:
            self._part(was_read=exchange.is_read)
            return
        self._stage = Stage.HEAD
        self._since = self.hall.clock()
        self._go_on()

    def cut(self) -> None:
        """Close in the middle of an answer."""
        self.transport.abort()

    def link_to(self, hall: "Hall", kind: "Callable[[HttpConnection, Hall], _L]") -> _L:
        """Return the session of a kind that requests to a server go to."""
        found: Any = self.links.get((hall, kind))
        if found is None:
            found = self.links[hall, kind] = kind(self, hall)
        return found  # type: ignore[no-any-return]

    def link_closed(self, link: "AnyLink", *, at_once: bool) -> None:
        """Close, for a session has ended."""
        if self._stage is Stage.GONE:
            return
        self.links = {key: each for key, each in self.links.items() if each is not link}
        if at_once:
            self.transport.abort()
            return
        self._is_leaving = True
        link.fail("the server closed the session")
        self.leave()

    def release(self) -> tuple[asyncio.Transport, bytes]:
        """Let the connection go; return it, and what came behind the last request."""
        self._stage = Stage.GONE
        self.hall.side.ticker.forget(self)
        self._lose(None)
        early = self.early
        self._turns.stop()
        self.read_on(True)
        return self.transport, early

    # Inside

    def _go_on(self) -> None:
        """Take the next request in the next turn of the loop: others have requests, too."""
        self.read_on(len(self._in) <= PIPELINE_MAX)
        if self._in:
            self.hall.side.share.call_soon(self._next)

    def _next(self) -> None:
        """Take the next request, if it is here."""
        if self._stage is not Stage.HEAD or self.is_paused:
            return
        if self._requests:  # an empty line between requests is an old habit
            self._skip_blank()
        try:
            if self._blank > BLANK_MAX:
                raise RefusedError(400, f"over {BLANK_MAX} bytes of empty lines before a request")
            size = find_head(self._in, self._seen, self.options)
            if not size:
                self._seen = len(self._in)
                self.read_on(True)
                return
            self._seen = 0
            head = bytes(self._in[:size])
            del self._in[:size]
            parser = h11.Connection(h11.SERVER, max_incomplete_event_size=self.options.max_head)
            request = read_head(head, parser, self.options)
        except RefusedError as refused:
            self._refuse(refused)
            return
        self._blank = 0
        self._requests += 1
        if self._requests == 1:
            self.hall.admission.greeted(self)
        hall, path = self.hall.route(request.path)
        exchange = Exchange(self, parser, request, hall, path)
        self._begin(exchange)
        try:
            answer = self._answer_to(exchange)
            if answer is None:
                connect.switch(exchange)
                return
            exchange.start(answer)
        except RefusedError as refused:
            exchange.refuse(refused)
            return
        if not exchange.is_read and not exchange.is_done:
            self._stage = Stage.BODY
            size = min(request.length or len(self._in), len(self._in))
            body = bytes(self._in[:size])
            del self._in[:size]
            self.read_on(True)
            self._feed(exchange, body)

    def _skip_blank(self) -> None:
        if self._in.startswith(b"\r\n"):
            blank = _BLANK.match(self._in)
            size = blank.end() if blank is not None else 0
            del blank  # it holds on to the bytes
            del self._in[:size]
            self._blank += size

    def _answer_to(self, exchange: Exchange) -> Answer | None:
        """Return who answers; a refusal waits for a body that is short, and closes nothing."""
        try:
            return routes.answer_to(exchange)
        except RefusedError as refused:
            request = exchange.request
            if 0 < (request.length or 0) <= DROPPED_MAX and not request.tokens("expect"):
                return RefusedAnswer(exchange, refused)
            raise

    def _begin(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._stage = Stage.ANSWER

    def _feed(self, exchange: Exchange, data: bytes) -> None:
        try:
            rest = exchange.feed(data) if data else b""
        except RefusedError as refused:
            exchange.refuse(refused)
            return
        if exchange.is_read and self._stage is not Stage.PARTING:
            self._in[:0] = rest
            if self._exchange is exchange:
                self._stage = Stage.ANSWER
            elif self._in and self._stage is Stage.HEAD:
                self._go_on()

    def _check_head(self, now: float, late: bool) -> None:
        has_part = bool(self._in) or not self._requests
        limit = self.hall.side.limits.hello_timeout if has_part else self.options.keep_alive
        if late or now - self._since <= limit:
            return
        if not has_part:
            self._close()
            return
        text = f"no whole head within {limit:g} s (hello_timeout)"
        self._time_out(text)

    def _check_body(self, now: float, late: bool) -> None:
        assert self._exchange is not None
        answer = self._exchange.answer
        partial = self._is_reading and answer.has_part
        count = self._requests + answer.count
        if self._watch.slow(now, late, self._bytes_in, count, partial):
            self._time_out(f"the body comes too slowly ({self._exchange.size} bytes so far)")

    def _time_out(self, text: str) -> None:
        self._complain(f"closing: {text}")
        refused = RefusedError(408, text, StatusCode.CLIENT_TIMEOUT)
        if self._exchange is None:
            self._refuse(refused)
        else:
            self._exchange.answer.lost()
            self._exchange.refuse(refused)

    def _refuse(self, refused: RefusedError) -> None:
        """Refuse what is no request, or not a whole one."""
        exchange = Exchange(self, h11.Connection(h11.SERVER), Request.unread(), self.hall, "")
        self._begin(exchange)
        exchange.refuse(refused)

    def _part(self, *, was_read: bool) -> None:
        """Close so that the peer gets what was written."""
        self._stage = Stage.PARTING
        self._in.clear()
        self._lose(None)
        if was_read and self.transport.get_extra_info("sslcontext") is not None:
            self.transport.close()  # TLS has no half of a connection to end
        else:
            part(self.transport, self.connection_lost)

    def _close(self) -> None:
        """Close, with nothing under way."""
        self._stage = Stage.PARTING
        self._lose(None)
        self.transport.close()

    def _lose(self, exc: Exception | None) -> None:
        links, self.links = self.links, {}
        for link in links.values():
            link.bridge.lose(exc)

    def _depart(self) -> None:
        self.hall.depart(self)

    def _complain(self, text: str) -> None:
        self.hall.side.complain(logging.WARNING, self.peer, text)
