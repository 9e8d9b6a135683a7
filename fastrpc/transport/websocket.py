"""Carry bytes in the binary messages of a WebSocket.

What is written together goes as one message; what comes is a stream of bytes again, and
where a message ends says nothing. So whatever runs over TCP runs over this: it is an
`asyncio.Transport`, and `check_transport` proves it.

Rules of the room:
  * one Python call for what the connection below has read, and no copy beside it;
  * closing is a closing of WebSocket's: both sides say so, then the server hangs up.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, Final, final

from fastrpc.transport.websocket_end import (
    CLOSE_PATIENCE,
    HALF_CLOSED,
    PARTS_MAX,
    State,
    WebSocketEnd,
)
from fastrpc.transport.websocket_frames import (
    BINARY,
    COPY_MAX,
    TEXT,
    Bytes,
    CloseCode,
    close_frame,
    frame,
    frames,
    size_of,
)
from fastrpc.wire import DEFAULT_BODY

#: Largest message that is taken by default: a body, and what stands before it.
MESSAGE_MAX: Final = DEFAULT_BODY + 64 * 2**10


@final
class WebSocketPipe(WebSocketEnd, asyncio.Transport):
    """A WebSocket as a byte pipe: a protocol to the connection below, a transport to ours.

    Args:
        outer: The connection below, whose protocol this is going to be.
        is_client: Whether we made it.
        max_message: Most bytes of one message; larger ones end the connection.
        patience: Seconds for the peer's part of a close.
    """

    def __init__(
        self,
        outer: asyncio.Transport,
        *,
        is_client: bool,
        max_message: int = MESSAGE_MAX,
        patience: float = CLOSE_PATIENCE,
    ) -> None:
        super().__init__(outer, is_client=is_client, max_message=max_message, patience=patience)
        self._protocol: Any = None
        self._is_buffered = False

    # Towards the protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Give later callbacks to *protocol*."""
        self._protocol = protocol
        self._is_buffered = isinstance(protocol, asyncio.BufferedProtocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol; None once the connection is lost."""
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what the connection below knows, or by which door its peer came."""
        if name == "door":
            return "websocket"
        return self._outer.get_extra_info(name, default)

    def _pump(self) -> None:
        reader = self._reader
        while self._is_taking:
            room = None
            if self._is_buffered:
                room = self._protocol.get_buffer(-1)
                if not len(room):
                    raise RuntimeError("get_buffer() returned an empty buffer")
                part = reader.next(len(room))
            else:
                part = reader.next()
            if part is None:
                if reader.fault is not None:
                    self.fail(*reader.fault)
                return
            if reader.opcode != BINARY:
                self._take_other(part)
                continue
            self._parts += 1
            if self._parts > PARTS_MAX:
                self._rest()  # behind this part
            size = len(part)
            if not size:
                self._carried_nothing()
                continue
            self._empty = 0
            if room is not None:
                room[:size] = part
                self._protocol.buffer_updated(size)
            else:
                self._protocol.data_received(bytes(part))

    def _take_other(self, part: Bytes) -> None:
        if self._reader.opcode == TEXT:
            self.fail(CloseCode.UNSUPPORTED_DATA, "this subprotocol is binary")
        else:
            self._control(self._reader.opcode, bytes(part))

    def _peer_ended(self) -> bool:
        return bool(self._protocol.eof_received())

    def _paused(self) -> None:
        if self._protocol is not None:
            self._protocol.pause_writing()

    def _resumed(self) -> None:
        if self._protocol is not None:
            self._protocol.resume_writing()

    def _lost(self, exc: Exception | None) -> None:
        protocol, self._protocol = self._protocol, None
        self._is_buffered = False
        if protocol is not None:
            protocol.connection_lost(exc)

    # Writing

    def write(self, data: Bytes) -> None:
        """Send *data* as one message, or several if it is large; after `close` it is dropped."""
        size = size_of(data)
        if size > COPY_MAX:
            self.writelines((data,))
        elif self._may_write():
            # An empty message would be one in vain; but its type is looked at.
            message = frame(BINARY, data, self._is_client)
            if size:
                self._outer.write(message)

    def writelines(self, list_of_data: Iterable[Bytes]) -> None:
        """Send several pieces in one message, or several if it is large."""
        pieces = list(list_of_data)
        size = sum(map(size_of, pieces))
        if not self._may_write() or not size:
            return
        if size <= COPY_MAX:
            self._outer.write(frame(BINARY, b"".join(pieces), self._is_client))
            return
        self._outer.writelines(frames(BINARY, pieces, self._is_client))
        # Some releases of asyncio look at their high-water mark only here (CVE-2024-12254).
        low, high = self._outer.get_write_buffer_limits()
        self._outer.set_write_buffer_limits(high=high, low=low)

    def _may_write(self) -> bool:
        if self._state is State.SAID:
            raise RuntimeError("cannot write after write_eof()")
        return self._state in (State.OPEN, State.HEARD)

    def can_write_eof(self) -> bool:
        """Return True: a close of WebSocket's ends one direction."""
        return True

    def write_eof(self) -> None:
        """Tell the peer that no more will come; what it still sends is taken."""
        if self._state is State.OPEN:
            self._state = State.SAID
            self._outer.write(close_frame(1000, HALF_CLOSED, self._is_client))
        elif self._state is State.HEARD:
            self.close()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait in the connection below."""
        return self._outer.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the low-water and the high-water mark."""
        return self._outer.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the marks at which the protocol is paused and resumed."""
        self._outer.set_write_buffer_limits(high=high, low=low)

    def close(self) -> None:
        """End both directions; what was written still arrives."""
        self.finish(CloseCode.NORMAL_CLOSURE, "")
