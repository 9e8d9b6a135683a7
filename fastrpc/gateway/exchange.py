"""Hold one HTTP request and its answer: the body comes in, the response goes out.

The connection gives an exchange the bytes of its body and lets it write; whoever answers (an
`Answer`) sees neither. An answer comes whole, or piece by piece; pieces of one turn of the
loop leave as one chunk.

Rules of the room:
  * a body is counted as it comes, and what is too long is refused before it is here;
  * what was begun is ended, or cut so that nobody can take it for whole;
  * whoever answers too late, or twice, is not heard.
"""

import time
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, final

import h11

from fastrpc.gateway import problems
from fastrpc.gateway.origins import cross_headers
from fastrpc.gateway.request import RefusedError, Request
from fastrpc.wire import LIMIT_CEILINGS, StatusCode

if TYPE_CHECKING:
    from fastrpc.gateway.http import HttpConnection
    from fastrpc.server.hall import Hall

#: Chunks that a body may have beside one for each so many bytes of it: each costs a
#: step of the parser, whatever it carries.
FREE_CHUNKS: Final = 1000
CHUNK_MEAN: Final = 256

_CONTINUE: Final = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
_REASONS: Final = {status.value: status.phrase for status in HTTPStatus} | {
    499: "Client Closed Request"
}


class Answer:
    """What answers one request. All of it is called back, nothing is awaited.

    Attributes:
        is_fed: It takes the body piece by piece; then a body may be as long as it likes.
        has_part: It waits for the rest of what it was fed last.
        count: Whole things that it was fed.
        max_body: Most bytes of a whole body, where that is less than the server's limit.
    """

    is_fed: bool = False
    has_part: bool = True
    count: int = 0
    max_body: int = LIMIT_CEILINGS["max_body"]

    def ask(self, body: bytes) -> None:
        """Begin: with the whole body, or before any of it if it is fed."""

    def piece(self, data: bytes) -> None:
        """Take a piece of the body.

        Raises:
            RefusedError: It is wrong.
        """

    def complete(self) -> None:
        """Note that the body has ended.

        Raises:
            RefusedError: It should not have.
        """

    def lost(self) -> None:
        """Give up: the asker is gone."""

    def resume(self) -> None:
        """Go on: the asker has read."""

    def tick(self, now: float) -> None:
        """Look at the time; once a second or so."""

    def linger(self, done: Callable[[], None]) -> bool:
        """Return whether it has not ended yet although it was given up.

        Args:
            done: Called once it has, if it has not.
        """
        return False


@final
class Exchange:
    """One request and its answer.

    Args:
        connection: Where it came in.
        parser: Which has read the head.
        request: The head.
        hall: Of the server that is asked.
        path: What is asked of it, where it is mounted somewhere.

    Attributes:
        options: Who may ask, and how: those of the server that is asked.
        doors: What is open: where it came in, and at the server that is asked.
        is_read: The whole body is here.
        is_begun: The head of the answer is written.
        is_done: Nothing more can be said.
        size: Bytes of the body so far.
        answer: Who answers.
    """

    def __init__(
        self,
        connection: "HttpConnection",
        parser: h11.Connection,
        request: Request,
        hall: "Hall",
        path: str,
    ) -> None:
        self.connection = connection
        self.request = request
        self.hall = hall
        self.path = path
        self.options = hall.options.http
        self.doors = connection.entrance.doors
        if hall is not connection.hall and hall.options.doors is not None:
            self.doors &= frozenset(hall.options.doors)  # a mount opens nothing
        self.answer = Answer()
        self.is_read = not request.has_body
        self.is_begun = self.is_done = self.is_foreign = False
        self.size = 0
        self._parser = parser
        self._chunks = 0
        self._body: list[bytes] = []
        self._out: list[bytes] = []
        self._wire: list[bytes] = []
        self._is_scheduled = False

    @property
    def is_paused(self) -> bool:
        """Whether the asker reads slowly."""
        return self.connection.is_paused

    # The body

    def start(self, answer: Answer) -> None:
        """Let *answer* take it from here; its body follows.

        Raises:
            RefusedError: The body is too long.
        """
        self.answer = answer
        request = self.request
        if not answer.is_fed:
            self._check_size(request.length or 0)
        expected = request.tokens("expect")
        if expected and expected != ["100-continue"]:
            raise RefusedError(417, "only 100-continue can be expected here")
        if not self.is_read and self._parser.they_are_waiting_for_100_continue:
            self._write(_CONTINUE)
            self._push()
        if answer.is_fed:
            answer.ask(b"")
        if self.is_read:
            self._end_body()

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the body; return what is not of it any more.

        Raises:
            RefusedError: They are wrong, or too many.
        """
        parser, answer = self._parser, self.answer
        try:
            parser.receive_data(data)
            while True:
                event = parser.next_event()
                if isinstance(event, h11.Data):
                    self._take(bytes(event.data), event.chunk_start)
                    if self.is_done:
                        return b""
                elif isinstance(event, h11.EndOfMessage):
                    break
                else:
                    return b""
        except h11.RemoteProtocolError as error:
            raise RefusedError(error.error_status_hint, f"the body: {error}") from None
        self.is_read = True
        rest = parser.trailing_data[0]
        if answer.is_fed:
            answer.complete()
        else:
            self._end_body()
        return rest

    def _take(self, data: bytes, is_start: bool) -> None:
        self.size += len(data)
        if is_start:
            self._chunks += 1
            if self._chunks > FREE_CHUNKS + self.size // CHUNK_MEAN:
                raise RefusedError(400, f"{self._chunks} chunks for {self.size} bytes")
        if self.answer.is_fed:
            self.answer.piece(data)
            return
        self._check_size(self.size)
        self._body.append(data)

    def _end_body(self) -> None:
        if self.answer.is_fed:
            self.answer.complete()
            return
        body, self._body = b"".join(self._body), []
        self.answer.ask(body)

    def _check_size(self, size: int) -> None:
        most, which = self.hall.side.limits.max_body, "max_body"
        if self.answer.max_body < most:
            most, which = self.answer.max_body, f"max_body of {self.path[:100]}"
        if size > most:
            text = f"a body of {size} bytes or more, {which} is {most}"
            raise RefusedError(413, text, StatusCode.TOO_LARGE)

    # The answer

    def respond(
        self,
        http: int,
        body: bytes = b"",
        media_type: str = problems.JSON,
        headers: "list[tuple[str, str]] | tuple[tuple[str, str], ...]" = (),
    ) -> None:
        """Answer, all at once.

        Args:
            http: Status.
            body: Of the answer.
            media_type: Its type, "" for none.
            headers: More of them.
        """
        if self.is_begun or self.is_done:
            return
        size = [] if http in (204, 304) else [("Content-Length", str(len(body)))]
        self._head(http, media_type, [*size, *headers])
        self._data(body)
        self.end()

    def refuse(self, refused: RefusedError) -> None:
        """Answer that it won't be done; if an answer was begun already, cut it."""
        if self.is_begun:
            self.cut()
            return
        self.tell(problems.refusal(refused), refused.http, refused.headers)

    def say(self, answer: bytes) -> None:
        """Send an answer that is written already, and close."""
        self.is_begun = self.is_done = True
        self.connection.write(answer)
        self.connection.finished(self, must_close=True)

    def tell(
        self,
        error: dict[str, Any],
        http: int = 0,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """Answer with an error."""
        status = http or problems.http_of(error)
        more = [*headers, *problems.retry_header(error)]
        if status == 401:
            more.append(("WWW-Authenticate", "Bearer"))
        self.respond(status, problems.encoded(error), headers=more)

    def begin(self, http: int, media_type: str, headers: list[tuple[str, str]]) -> None:
        """Begin an answer that comes in pieces."""
        if not self.is_begun and not self.is_done:
            self._head(http, media_type, headers)
            self._push()

    def send(self, data: bytes) -> None:
        """Send a piece of the answer, with all others of this turn of the loop."""
        if self.is_done:
            return
        self._out.append(data)
        if not self._is_scheduled:
            self._is_scheduled = True
            self.hall.side.share.call_soon(self.flush)

    def flush(self) -> None:
        """Send now what waits."""
        self._is_scheduled = False
        out, self._out = self._out, []
        if out and not self.is_done:
            self._data(b"".join(out))
            self._push()

    def end(self) -> None:
        """End the answer."""
        if self.is_done:
            return
        self.flush()
        self._write(h11.EndOfMessage())
        self._push()
        self.is_done = True
        must_close = self._parser.our_state is not h11.DONE or not self.is_read
        self.connection.finished(self, must_close=must_close)

    def cut(self) -> None:
        """End the connection in the middle of the answer."""
        self.is_done = True
        self.connection.cut()

    def give_up(self) -> None:
        """Note that the asker is gone."""
        if not self.is_done:
            self.is_done = True
            self.answer.lost()

    def _head(self, http: int, media_type: str, headers: list[tuple[str, str]]) -> None:
        told = [("Date", formatdate(time.time(), usegmt=True)), *headers]
        if media_type:
            told.append(("Content-Type", media_type))
        names = {name.lower() for name, _ in told}
        if "cache-control" not in names:
            told.append(("Cache-Control", "no-store"))
        told.append(("X-Content-Type-Options", "nosniff"))
        if self.is_foreign:
            told += cross_headers(self.request)
        if not self.is_read or self.connection.is_last:
            told.append(("Connection", "close"))
        reason = _REASONS.get(http, "")
        try:
            head = h11.Response(status_code=http, headers=told, reason=reason.encode())
        except UnicodeError as error:  # h11 has no word of its own for this
            raise h11.LocalProtocolError(str(error)) from None
        self._write(head)
        self.is_begun = True

    def _data(self, data: bytes) -> None:
        if data and self.request.method != "HEAD":
            self._write(h11.Data(data=data))

    def _write(self, event: h11.Event) -> None:
        try:
            self._wire.append(self._parser.send(event) or b"")
        except h11.LocalProtocolError:  # a page's header that can't stand in a head, say
            self.cut()
            raise

    def _push(self) -> None:
        """Write what was put into words, all of it at once."""
        wire, self._wire = self._wire, []
        self.connection.write(b"".join(wire))


@final
class RefusedAnswer(Answer):
    """Refuse a request once its body is here, and forgotten.

    Args:
        exchange: What is refused.
        refused: Why.
    """

    def __init__(self, exchange: Exchange, refused: RefusedError) -> None:
        self._exchange = exchange
        self._refused = refused

    def ask(self, body: bytes) -> None:
        """Refuse."""
        self._exchange.refuse(self._refused)
