"""Keep one end of a WebSocket: what carries bytes and what carries texts have in common.

Rules of the room:
  * whoever stands on an end hears of its end exactly once;
  * what a peer sends that carries nothing is counted;
  * nothing is sent behind our close, and nothing that comes behind the peer's is read;
  * a flood of frames waits for the others' turn, see `turns`;
  * a peer that never closes is left after `patience`.
"""

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import Final

from websockets.exceptions import ProtocolError as BadClose

from fastrpc.errors import TransportError
from fastrpc.transport.websocket_frames import (
    CLOSE,
    PING,
    PONG,
    Close,
    CloseCode,
    FrameReader,
    close_frame,
    frame,
)

#: Frames that carry nothing (pings, pongs, empty ones) which a peer may send in a row...
EMPTY_MAX: Final = 100
#: ...within so many seconds.
EMPTY_SPAN: Final = 10.0

#: Parts of messages that are handed on before it is others' turn of the loop.
PARTS_MAX: Final = 1000

#: Seconds that a peer has for its part of a close.
CLOSE_PATIENCE: Final = 5.0

#: Bytes per second that a peer has to take while the close waits behind what it has not read.
CLOSE_RATE: Final = 1024

#: Reason of a close whose sender still reads. WebSocket has no half-closed connections, but
#: its close is no end of the other direction either, if both sides take it so: an end of ours
#: answers this one when it has said all it had to say. Others answer it at once.
HALF_CLOSED: Final = "no more to send"


class State(Enum):
    """Where an end stands."""

    OPEN = "open"
    SAID = "said"  # our close is sent; the peer's is not there, and what comes is taken
    HEARD = "heard"  # the peer's close is there, ours is to come; nothing else is read
    CLOSING = "closing"  # nothing more is sent, and what comes is dropped
    CLOSED = "closed"


class WebSocketEnd(asyncio.Protocol):
    """What stands on a connection that speaks WebSocket from now on.

    It does not put itself there: whoever makes one calls `set_protocol` of the connection.

    Args:
        outer: The connection below.
        is_client: Whether we made it.
        max_message: Most bytes of a message that comes, all its fragments together.
        patience: Seconds for the peer's part of a close.

    Attributes:
        on_fault: Told in words why we ended it because of what the peer did.
    """

    on_fault: Callable[[str], None] | None = None

    def __init__(
        self, outer: asyncio.Transport, *, is_client: bool, max_message: int, patience: float
    ) -> None:
        self._outer = outer
        self._is_client = is_client
        self._patience = patience
        self._reader = FrameReader(masked=not is_client, max_message=max_message)
        self._state = State.OPEN
        self._cause: Exception | None = None  # what connection_lost will tell
        self._is_reading = True
        self._is_taking = True  # what comes goes to whoever stands on us
        self._is_resting = False  # it is others' turn of the loop
        self._parts = 0  # that were handed on in this turn, about
        self._is_paused = False  # the peer reads too slowly
        self._pong: bytes | None = None  # waits until the peer reads
        self._empty = 0  # frames in a row that carried nothing
        self._empty_since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._unsent = 0  # when the timer was set

    def __repr__(self) -> str:
        """Tell role and state."""
        role = "client" if self._is_client else "server"
        return f"<{type(self).__name__} {role} {self._state.value}>"

    # To be filled in

    def _pump(self) -> None:
        """Hand on what the reader has, as long as `_is_taking`."""
        raise NotImplementedError

    def _peer_ended(self) -> bool:
        """Hear that the peer sends no more; return whether there is more to say to it."""
        return False

    def _paused(self) -> None:
        """Hear that the peer reads too slowly."""

    def _resumed(self) -> None:
        """Hear that it has read."""

    def _lost(self, exc: Exception | None) -> None:
        """Hear that the connection is gone; the last thing to be heard."""
        raise NotImplementedError

    # What the connection below calls

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        self._reader.feed(data)
        self._pump()
        if self._is_taking:
            return
        if self._is_resting and self._state in (State.OPEN, State.SAID):
            self._outer.pause_reading()
        elif self._is_reading:
            self._drop()
        elif self._reader.waits:
            self._outer.pause_reading()  # in case that somebody else has resumed it

    def eof_received(self) -> None:
        """Close: without a close of WebSocket's there is nothing to wait for."""

    def pause_writing(self) -> None:
        """Pass it on."""
        self._is_paused = True
        self._paused()

    def resume_writing(self) -> None:
        """Pass it on, and send the pong that had to wait."""
        self._is_paused = False
        pong, self._pong = self._pong, None
        if pong is not None:
            self._send_pong(pong)
        self._resumed()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever stands on us."""
        if self._state is State.CLOSED:
            return
        if self._state is State.CLOSING and isinstance(exc, OSError):
            exc = None  # it went while we were leaving
        self._state = State.CLOSED
        self._is_taking = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._lost(self._cause or exc)

    # Reading

    def is_reading(self) -> bool:
        """Return whether what comes is handed on."""
        return self._is_reading

    def pause_reading(self) -> None:
        """Hand on nothing more until `resume_reading`."""
        self._is_reading = self._is_taking = False
        if self._state in (State.OPEN, State.SAID):
            self._outer.pause_reading()

    def resume_reading(self) -> None:
        """Hand on what comes, and what has come meanwhile."""
        if self._is_reading or self._state not in (State.OPEN, State.SAID):
            return
        self._is_reading = True
        if self._is_resting:
            return
        self._is_taking = True
        self._outer.resume_reading()
        if self._reader.waits:
            asyncio.get_running_loop().call_soon(self._go_on)

    def _rest(self) -> None:
        """Let others have their turn of the loop: what is here waits, and no more is read."""
        if self._is_taking:
            self._is_taking = False
            self._is_resting = True
            self._outer.pause_reading()
            asyncio.get_running_loop().call_soon(self._rested)

    def _rested(self) -> None:
        self._is_resting = False
        self._parts = 0
        if self._is_reading and self._state in (State.OPEN, State.SAID):
            self._is_taking = True
            self._go_on()
            if self._is_taking and not self._outer.is_closing():
                self._outer.resume_reading()

    def _go_on(self) -> None:
        try:
            self.data_received(b"")
        except Exception as error:
            text = f"Fatal error: {type(self).__name__} could not hand on what it had read."
            context = {"message": text, "exception": error, "protocol": self}
            asyncio.get_running_loop().call_exception_handler(context)
            self._cause = error
            self.abort()

    def _drop(self) -> None:
        """Look for the peer's close, and for nothing else."""
        reader = self._reader
        while self._state is State.CLOSING and reader.next() is not None:
            if reader.opcode == CLOSE:
                self._answered()

    # Control frames

    def _control(self, opcode: int, payload: bytes) -> None:
        """Take a control frame."""
        if opcode == CLOSE:
            self._take_close(payload)
            return
        self._carried_nothing()
        if opcode == PING and self._state is State.OPEN:
            self._send_pong(payload)

    def _send_pong(self, payload: bytes) -> None:
        if self._is_paused:
            self._pong = payload  # the latest is enough (RFC 6455, section 5.5.3)
        elif self._state is State.OPEN:
            self._outer.write(frame(PONG, payload, self._is_client))

    def _carried_nothing(self) -> None:
        """Count a frame that cost us time and brought nothing; a flood of them ends it."""
        self._empty += 1
        if self._empty == 1:
            self._empty_since = asyncio.get_running_loop().time()
        elif self._empty > EMPTY_MAX:
            if asyncio.get_running_loop().time() - self._empty_since < EMPTY_SPAN:
                self.fail(CloseCode.POLICY_VIOLATION, "a flood of frames that carry nothing")
            self._empty = 0

    def _take_close(self, payload: bytes) -> None:
        try:
            close = Close.parse(payload)
        except BadClose as error:
            self.fail(CloseCode.PROTOCOL_ERROR, str(error))
            return
        except UnicodeDecodeError:
            self.fail(CloseCode.INVALID_DATA, "the reason of a close is not UTF-8")
            return
        if close.code not in (1000, 1001, 1005):
            self._cause = TransportError(f"the peer closed the WebSocket: {close}")
        was, self._is_taking = self._state, False
        self._state = State.HEARD
        self._reader.stop()
        may_wait = was is State.OPEN and close.code == 1000 and close.reason == HALF_CLOSED
        goes_on = self._peer_ended()
        # It may have closed or aborted meanwhile, and then this is done.
        if self._state is not State.HEARD or (goes_on and may_wait):
            return
        if was is State.OPEN:
            self._outer.write(close_frame(close.code, close.reason, self._is_client))
        self._leave()
        self._answered()

    # Ending

    def is_closing(self) -> bool:
        """Return whether the end is near, or was."""
        return self._state in (State.CLOSING, State.CLOSED) or self._outer.is_closing()

    def fail(self, code: int, words: str) -> None:
        """End it because of what the peer did; it is told why if it still reads."""
        if self._state in (State.CLOSING, State.CLOSED):
            return
        text = f"the WebSocket was closed with {int(code)}: {words}"
        self._cause = TransportError(text)
        if self.on_fault is not None:
            self.on_fault(text)
        if self._state is not State.SAID:
            self._outer.write(close_frame(code, words, self._is_client))
        self._leave()
        # What still comes is read and dropped: unread, it would make the kernel reset the
        # connection, and a reset can destroy the words just sent. So our direction ends first.
        self._reader.stop()
        if self._outer.can_write_eof() and not self._outer.is_closing():
            self._outer.write_eof()

    def finish(self, code: int, words: str) -> None:
        """Close after what was sent has been written; twice is fine."""
        if self._state in (State.CLOSING, State.CLOSED):
            return
        was = self._state
        if was is not State.SAID:
            self._outer.write(close_frame(code, words, self._is_client))
        self._leave()
        if was is State.HEARD:
            self._answered()

    def abort(self) -> None:
        """End it at once; what was not written is dropped."""
        if self._state is not State.CLOSED:
            self._state = State.CLOSING
            self._is_taking = False
            self._outer.abort()

    def _leave(self) -> None:
        """Take nothing more, and wait for the peer's close, but not for ever."""
        self._state = State.CLOSING
        self._is_taking = False
        if (self._is_resting or not self._is_reading) and not self._outer.is_closing():
            self._outer.resume_reading()
        self._is_reading = True
        self._is_resting = False
        self._wait()
        if self._reader.waits:
            asyncio.get_running_loop().call_soon(self._drop)

    def _answered(self) -> None:
        """Close the connection below, as both sides have said their close: the server first."""
        if not self._is_client:
            self._outer.close()

    def _wait(self) -> None:
        self._unsent = self._outer.get_write_buffer_size()
        self._timer = asyncio.get_running_loop().call_later(self._patience, self._give_up)

    def _give_up(self) -> None:
        self._timer = None
        taken = self._unsent - self._outer.get_write_buffer_size()
        if self._unsent and taken >= CLOSE_RATE * self._patience:
            self._wait()  # it still reads what was sent before
        else:
            self._outer.abort()
