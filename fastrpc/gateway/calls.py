"""Call methods for those who ask in HTTP: JSON in the body, JSON in the answer.

The body passes unread: an array holds arguments by position, an object by name, none at all
stands for no arguments. Methods that give items answer as events or lines; those that take
items read lines of JSON.

Rules of the room:
  * what a foreign page could send without asking first is no call: see `check_type`;
  * an asker that reads slowly slows the handler down, by credit.
"""

import math
import re
from collections import deque
from typing import Any, Final, final

from fastrpc.call import MethodInfo, decode_metadata, encode_metadata
from fastrpc.errors import FastRPCError
from fastrpc.frame import Frame
from fastrpc.gateway import problems
from fastrpc.gateway.convert import converted
from fastrpc.gateway.events import EVENTS, LINE_TYPES, LINES, Events, Form, Lines
from fastrpc.gateway.exchange import Answer, Exchange
from fastrpc.gateway.link import Link
from fastrpc.gateway.request import RefusedError, Request
from fastrpc.wire import HEADER_BASE, Serializer, StatusCode

#: Headers that are metadata under their own names.
PASSED_ON: Final = ("authorization", "traceparent", "tracestate", "baggage")

#: What all other metadata has before its key, both ways.
META_PREFIX: Final = "fastrpc-meta-"

#: Seconds that a call may take.
TIMEOUT_HEADER: Final = "fastrpc-timeout"

#: Most bytes of metadata in the head of an answer; proxies have limits, too.
META_OUT_MAX: Final = 4096

#: Items of a body that are passed on in one turn of the loop.
ITEMS_AT_ONCE: Final = 256

_MILLISECONDS_MAX: Final = 2**32 - 1
_BLANK_LINES: Final = re.compile(rb"\s*\n")
_TOKEN: Final = re.compile(r"[-!#$%&'*+.^_`|~0-9a-z]+")
_VISIBLE: Final = re.compile(rb"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_JSON_TYPE: Final = re.compile(r"application/(json|[a-z0-9.!#$&^_-]+\+json)|text/json")
#: What curl and plain forms send by themselves. A browser sends them for any page without
#: asking first, but never without an origin.
_SIMPLE_TYPES: Final = frozenset({"", "application/x-www-form-urlencoded", "text/plain"})


def check_type(request: Request) -> None:
    """Refuse a body that is no JSON by its type.

    Raises:
        RefusedError: It is none.
    """
    check_encoding(request)
    kind = request.media_type
    if kind in _SIMPLE_TYPES and "origin" not in request.headers:
        return
    if not _JSON_TYPE.fullmatch(kind):
        text = f"a body is {problems.JSON}, not {kind[:100] or 'of no type'}"
        raise RefusedError(415, text, StatusCode.UNSUPPORTED)


def check_encoding(request: Request) -> None:
    """Refuse a body that is compressed, or in no UTF-8.

    Raises:
        RefusedError: It is.
    """
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        text = f"a body with content-encoding {coding[:40]!r} is not taken"
        raise RefusedError(415, text, StatusCode.UNSUPPORTED, (("Accept-Encoding", "identity"),))
    if request.charset not in ("utf-8", "utf8", "us-ascii", "ascii"):
        raise RefusedError(415, "a body is in UTF-8", StatusCode.UNSUPPORTED)


def metadata_of(request: Request) -> bytes:
    """Return the metadata that stands in the headers."""
    pairs: list[tuple[str, str]] = []
    pairs += [(name, request.headers[name]) for name in PASSED_ON if name in request.headers]
    for name, value in request.headers.items():
        if name.startswith(META_PREFIX) and len(name) > len(META_PREFIX):
            pairs.append((name.removeprefix(META_PREFIX), value))
    if not pairs:
        return b""
    try:
        return encode_metadata([(key, value.encode("latin-1")) for key, value in pairs])
    except FastRPCError as error:
        raise RefusedError(400, str(error)) from None


def time_of(request: Request) -> int:
    """Return how many milliseconds a call may take, 0 if nothing is said."""
    text = request.headers.get(TIMEOUT_HEADER)
    if text is None:
        return 0
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.0 < seconds < math.inf:
        raise RefusedError(400, f"{TIMEOUT_HEADER} is seconds above 0, not {text[:40]!r}")
    return min(math.ceil(seconds * 1000), _MILLISECONDS_MAX)


def meta_headers(frame: Frame) -> list[tuple[str, str]]:
    """Return the metadata of a reply as headers, as far as they can say it."""
    told: list[tuple[str, str]] = []
    size = 0
    for key, value in decode_metadata(frame.metadata) if frame.metadata else ():
        size += len(key) + len(value)
        if size <= META_OUT_MAX and _TOKEN.fullmatch(key) and _VISIBLE.fullmatch(value):
            told.append((META_PREFIX + key, value.decode("ascii")))
    return told


class CallAnswer(Answer):
    """Call a method that gives one value.

    Args:
        exchange: What is answered.
        name: Of the method.
        payload: Arguments; the body if it is left out.
    """

    def __init__(self, exchange: Exchange, name: bytes, payload: bytes | None = None) -> None:
        self._exchange = exchange
        self._name = name
        self._payload = payload
        self._metadata = metadata_of(exchange.request)
        self._time = time_of(exchange.request)
        self._id = 0
        self._link = exchange.connection.link_to(exchange.hall, Link)

    def ask(self, body: bytes) -> None:
        """Make the call."""
        self._open(self._payload if self._payload is not None else body or b"[]")

    def lost(self) -> None:
        """Give it up."""
        if self._id:
            self._link.cancel(self._id)

    def settle(self, frame: Frame) -> None:
        """Answer with the reply."""
        exchange, headers = self._exchange, meta_headers(frame)
        if frame.status:
            exchange.tell(problems.error_of(frame), 0, tuple(headers))
            return
        try:
            body = converted(
                frame.payload, frame.serializer, int(Serializer.JSON), exchange.hall.side.limits
            )
        except FastRPCError as error:
            status = StatusCode.RESULT_UNSENDABLE
            exchange.tell(problems.failure(status, str(error), "yes"))
            return
        exchange.respond(200, body, headers=headers)

    def item(self, frame: Frame) -> None:
        """Take no items: it gives a value."""

    def credit(self, amount: int) -> None:
        """Have no items to send."""

    def broken(self, status: int, text: str) -> None:
        """Answer that the session has ended."""
        self._exchange.tell(problems.failure(StatusCode(status), text, "maybe"))

    def _open(self, payload: bytes, *, opens: bool = False, ends: bool = False) -> None:
        self._id = self._link.call(
            self, self._name, payload, metadata=self._metadata, time=self._time, opens=opens,
            ends=ends,
        )  # fmt: skip


@final
class StreamAnswer(CallAnswer):
    """Call a method that gives items, and send each as it comes.

    The head goes out with the first item, or after a while without: an error before it has a
    status of HTTP.

    Args:
        exchange: What is answered.
        name: Of the method.
        payload: Arguments; the body if it is left out.
    """

    def __init__(self, exchange: Exchange, name: bytes, payload: bytes | None = None) -> None:
        super().__init__(exchange, name, payload)
        is_events = exchange.request.accepts(EVENTS)
        self._form: Form = Events() if is_events else Lines()
        self._owed = 0  # bytes of items that were taken, and not granted anew
        self._spoken = exchange.hall.clock()

    def ask(self, body: bytes) -> None:
        """Make the call."""
        payload = self._payload if self._payload is not None else body or b"[]"
        self._open(payload, opens=True, ends=True)

    def item(self, frame: Frame) -> None:
        """Send an item on."""
        self._begin()
        self._exchange.send(self._form.item(self._json(frame)))
        self._spoken = self._exchange.hall.clock()
        self._owed += HEADER_BASE + len(frame.payload)
        self._grant()

    def settle(self, frame: Frame) -> None:
        """End the stream."""
        exchange = self._exchange
        if not exchange.is_begun and frame.status:
            super().settle(frame)
            return
        self._begin()
        if frame.status:
            exchange.send(self._form.error(problems.error_of(frame)))
        else:
            meta = {name.removeprefix(META_PREFIX): text for name, text in meta_headers(frame)}
            exchange.send(self._form.end({"metadata": meta} if meta else {}))
        exchange.end()

    def broken(self, status: int, text: str) -> None:
        """Tell that the session has ended."""
        if not self._exchange.is_begun:
            super().broken(status, text)
            return
        error = problems.failure(StatusCode(status), text, "maybe")
        self._exchange.send(self._form.error(error))
        self._exchange.end()

    def resume(self) -> None:
        """Let more items come: those before were read."""
        self._grant()

    def tick(self, now: float) -> None:
        """Say that we are still there, when there was nothing to say for long."""
        exchange = self._exchange
        if not self._id or exchange.is_paused or exchange.is_done:
            return
        if not exchange.is_begun:
            if now - self._spoken > 1.0:  # or who waits for the head would take us for dead
                self._begin()
        elif now - self._spoken > exchange.options.silence:
            exchange.send(self._form.life)
            self._spoken = now

    def _begin(self) -> None:
        # Whatever stands between must not wait for more: nginx listens to this header.
        headers = [("X-Accel-Buffering", "no")]
        self._exchange.begin(200, self._form.media_type, headers)

    def _json(self, frame: Frame) -> bytes:
        limits = self._exchange.hall.side.limits
        return converted(frame.payload, frame.serializer, int(Serializer.JSON), limits)

    def _grant(self) -> None:
        window = self._exchange.hall.side.limits.window
        if self._owed > window // 2 and not self._exchange.is_paused:
            owed, self._owed = self._owed, 0
            self._link.grant(self._id, owed)


@final
class FeedAnswer(CallAnswer):
    """Call a method that takes items: each line of the body is one.

    Args:
        exchange: What is answered.
        name: Of the method.
        payload: Arguments beside the items.
    """

    is_fed = True

    def __init__(self, exchange: Exchange, name: bytes, payload: bytes) -> None:
        super().__init__(exchange, name, payload)
        self._rest = bytearray()
        self._lines: deque[bytes] = deque()
        self._credit = exchange.hall.side.limits.window
        self._is_complete = self._is_ended = self._is_scheduled = False

    @property
    def has_part(self) -> bool:  # type: ignore[override]
        """Whether a line has begun and not ended."""
        return bool(self._rest)

    def ask(self, body: bytes) -> None:
        """Open the stream; the items follow."""
        assert self._payload is not None
        self._open(self._payload, opens=True)

    def piece(self, data: bytes) -> None:
        """Take lines, and parts of them."""
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            if data[start] <= 32 and (blank := _BLANK_LINES.match(data, start)):
                end = blank.end() - 1  # of a run of them, which costs no more than one
            self._line(bytes(self._rest) + data[start:end] if self._rest else data[start:end])
            self._rest.clear()
            start = end + 1
        self._rest += data[start:] if start else data
        self._check_size(len(self._rest))
        self._send()

    def complete(self) -> None:
        """Take the last line, which may have no end."""
        if self._rest:
            self._line(bytes(self._rest))
            self._rest.clear()
        self._is_complete = True
        self._send()

    def credit(self, amount: int) -> None:
        """Send what waited."""
        self._credit += amount
        self._send()

    def _line(self, line: bytes) -> None:
        self._check_size(len(line))
        if line := line.strip():
            self._lines.append(line)
            self.count += 1

    def _check_size(self, size: int) -> None:
        most = self._exchange.hall.side.limits.max_body
        if size > most:
            self.lost()
            text = f"a line of {size} bytes or more, max_body is {most}"
            raise RefusedError(413, text, StatusCode.TOO_LARGE)

    def _send(self) -> None:
        if self._exchange.is_done:
            self._lines.clear()
            return
        sent: list[bytes] = []
        while self._lines and self._credit > 0 and len(sent) < ITEMS_AT_ONCE:
            sent.append(self._link.item(self._id, self._lines.popleft()))
            self._credit -= len(sent[-1])
        if sent:
            self._link.bridge.feed(b"".join(sent))
        self._exchange.connection.read_on(not self._lines)
        if self._lines and self._credit > 0 and not self._is_scheduled:
            self._is_scheduled = True
            self._exchange.hall.side.share.call_soon(self._send_on)
        if self._is_complete and not self._lines and not self._is_ended:
            self._is_ended = True
            self._link.end_items(self._id)

    def _send_on(self) -> None:
        self._is_scheduled = False
        self._send()


def answer_for(
    exchange: Exchange, info: MethodInfo | None, name: bytes, payload: bytes | None
) -> Answer:
    """Return what calls a method, by its shape.

    Args:
        exchange: What is answered.
        info: The method; None if there is none, which the session tells best.
        name: Of the method.
        payload: Arguments from the query; None if they are in the body.

    Raises:
        RefusedError: It can't be called so.
    """
    request = exchange.request
    takes: Any = info.takes if info is not None else None
    if info is not None and takes is not None:
        if info.item is not None:
            text = (
                f"{info.name} takes and gives items at once: call it over WebSocket, or with a"
                f" client of fastrpc's"
            )
            raise RefusedError(501, text, StatusCode.UNSUPPORTED)
        if request.media_type not in LINE_TYPES:
            text = f"{info.name} takes items: send lines of JSON with content-type {LINES}"
            raise RefusedError(415, text, StatusCode.UNSUPPORTED)
        check_encoding(request)
        return FeedAnswer(exchange, name, payload or b"[]")
    if payload is None:
        check_type(request)
    if info is not None and info.item is not None:
        return StreamAnswer(exchange, name, payload)
    return CallAnswer(exchange, name, payload)
