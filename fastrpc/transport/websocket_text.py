"""Carry texts in the text messages of a WebSocket.

For tongues of text, such as JSON-RPC: one message each way is one text, whole, and known to
be UTF-8.

Rules of the room:
  * a text is handed on when all of it is there, and never more than `max_message` of it is kept;
  * what is wrong with a text ends the connection at the first wrong byte.
"""

import asyncio
import codecs
from collections.abc import Callable
from time import perf_counter
from typing import Final, final

from fastrpc.transport.turns import TIME_MAX
from fastrpc.transport.websocket_end import CLOSE_PATIENCE, PARTS_MAX, State, WebSocketEnd
from fastrpc.transport.websocket_frames import (
    BINARY,
    COPY_MAX,
    PING,
    TEXT,
    Bytes,
    CloseCode,
    frame,
    frames,
    size_of,
)
from fastrpc.wire import DEFAULT_BODY

#: Fragments of a text that may be tiny...
CRUMBS_MAX: Final = 1000
#: ...so many bytes of the text for each, on average, if there are more.
CRUMB_MEAN: Final = 16

_utf8: Final = codecs.getincrementaldecoder("utf-8")


@final
class WebSocketText(WebSocketEnd):
    """A WebSocket of texts.

    Args:
        outer: The connection below, whose protocol this is going to be.
        on_message: Gets each text that comes, as UTF-8.
        on_lost: Told when the connection is gone, once.
        on_pause: Told when the peer reads too slowly: what is sent piles up.
        on_resume: Told when it has read.
        is_client: Whether we made it.
        max_message: Most bytes of one text; a larger one ends the connection.
        patience: Seconds for the peer's part of a close.

    Attributes:
        bytes_in: Bytes that have come, whatever they were.
        messages: Texts that were handed on.
    """

    def __init__(
        self,
        outer: asyncio.Transport,
        *,
        on_message: Callable[[bytes], None],
        on_lost: Callable[[Exception | None], None],
        on_pause: Callable[[], None] | None = None,
        on_resume: Callable[[], None] | None = None,
        is_client: bool = False,
        max_message: int = DEFAULT_BODY,
        patience: float = CLOSE_PATIENCE,
    ) -> None:
        super().__init__(outer, is_client=is_client, max_message=max_message, patience=patience)
        self._on_message = on_message
        self._on_lost = on_lost
        self._on_pause = on_pause
        self._on_resume = on_resume
        self._text = bytearray()  # what has come of a text that is not whole
        self._crumbs = 0  # fragments that it came in
        self._spent = 0.0  # seconds of this turn of the loop, about
        self._decoder = _utf8()
        self.bytes_in = self.messages = 0

    @property
    def is_waiting(self) -> bool:
        """Whether part of a text has come and the rest has not."""
        return bool(self._text)

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        self.bytes_in += len(data)
        super().data_received(data)

    def ping(self) -> None:
        """Ask for a sign of life: whoever gets it has to answer."""
        if self._state is State.OPEN:
            self._outer.write(frame(PING, b"", self._is_client))

    def send(self, text: Bytes) -> None:
        """Send one text, given as UTF-8; after a close it is dropped."""
        if self._state is not State.OPEN:
            return
        size = size_of(text)
        if size <= COPY_MAX:
            self._outer.write(frame(TEXT, text, self._is_client))
        else:
            self._outer.write(b"".join(frames(TEXT, (text,), self._is_client, most=size)))

    def close(self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """Close after what was sent has been written; the peer is told why."""
        self.finish(code, reason)

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait for the peer."""
        return self._outer.get_write_buffer_size()

    def _pump(self) -> None:
        began, spent = perf_counter(), self._spent
        reader = self._reader
        while self._is_taking:
            part = reader.next()
            if part is None:
                if reader.fault is not None:
                    self.fail(*reader.fault)
                return
            if reader.opcode != TEXT:
                self._take_other(part)
                continue
            if part:
                self._empty = 0
            elif not reader.is_last:
                self._carried_nothing()
                continue
            self._take(bytes(part), reader.is_last)
            self._parts += 1
            self._spent = spent + perf_counter() - began
            if self._parts > PARTS_MAX or self._spent > TIME_MAX:
                self._rest()

    def _rested(self) -> None:
        self._spent = 0.0
        super()._rested()

    def _take_other(self, part: Bytes) -> None:
        if self._reader.opcode == BINARY:
            self.fail(CloseCode.UNSUPPORTED_DATA, "this subprotocol is text")
        else:
            self._control(self._reader.opcode, bytes(part))

    def _take(self, part: bytes, is_last: bool) -> None:
        try:
            self._decoder.decode(part, is_last)
        except UnicodeDecodeError as error:
            self.fail(CloseCode.INVALID_DATA, f"a text that is not UTF-8: {error.reason}")
            return
        if is_last:
            text = bytes(self._text + part) if self._text else part
            self._text = bytearray()
            self._crumbs = 0
            self.messages += 1
            self._on_message(text)
        else:
            self._text += part
            self._crumbs += self._reader.is_between
            if self._crumbs > max(CRUMBS_MAX, len(self._text) // CRUMB_MEAN):
                self.fail(CloseCode.POLICY_VIOLATION, "a text in too many tiny fragments")

    def _paused(self) -> None:
        if self._on_pause is not None:
            self._on_pause()

    def _resumed(self) -> None:
        if self._on_resume is not None:
            self._on_resume()

    def _lost(self, exc: Exception | None) -> None:
        self._text.clear()
        lost, self._on_lost, self._on_message = self._on_lost, _nobody, _nobody
        self._on_pause = self._on_resume = None  # whoever they belong to has us, too
        lost(exc)


def _nobody(what: object) -> None:
    """Be told instead of who is gone."""
