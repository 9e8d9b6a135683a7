"""Carry bytes between two protocols of one event loop, without a socket.

For tests and for services that live in one process. It behaves as a socket
does, and `check_transport` proves it, but it is deterministic: everything
happens in `call_soon` order, one read of the peer per loop step.

The names of `mem://` are kept in a table of this module. That is state in a
module, which the house otherwise forbids; but a name space has to be one for the
whole process, as the kernel's is for ports. The table holds its listeners
weakly, and a listener belongs to one event loop, so nothing outlives its owner.

Rules of the room:
  * no callback runs inside `write`, `close` or `abort`, except `pause_writing`;
  * what was written is copied unless it is `bytes`: the caller may reuse it;
  * a protocol sees nothing after `connection_lost`, which it sees once;
  * unread bytes above the high-water mark mean that `pause_writing` was called.
"""

import asyncio
import errno
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, Final, TypeVar, final

from fastrpc.errors import ConnectFailed, TransportError

P = TypeVar("P", bound=asyncio.BaseProtocol)

#: Most bytes that a protocol is given at once, as with a socket.
READ_MAX: Final = 256 * 2**10
HIGH_WATER: Final = 64 * 2**10


class _State(Enum):
    OPEN = "open"
    CLOSING = "closing"  # closed or aborted; connection_lost is on its way
    CLOSED = "closed"


class _End(Enum):
    NONE = "none"
    WRITTEN = "written"  # the peer learns it after the last byte
    TOLD = "told"


@final
class MemoryTransport(asyncio.Transport):
    """One end of a memory pipe; `memory_pair` makes two.

    The API is that of asyncio's transports. Closing hands what was written to the
    pipe, as the kernel would: it arrives even if this end is gone.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, extra: dict[str, Any]) -> None:
        super().__init__(extra)
        self._loop = loop
        self._peer: MemoryTransport = self
        self._state = _State.OPEN
        self._reading = True
        self._out: deque[bytes | memoryview] = deque()
        self._out_size = 0
        self._out_end = _End.NONE
        self._scheduled = False
        self._writer_paused = False
        self._high = HIGH_WATER
        self._low = HIGH_WATER // 4
        self._protocol: Any = None
        self._is_buffered = False

    def __repr__(self) -> str:
        """Tell name, state and bytes not yet read by the peer."""
        name = self.get_extra_info("sockname")
        return f"<MemoryTransport {name} {self._state.value} unread={self._out_size}>"

    # -- the protocol of this end

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Give later callbacks to *protocol*."""
        self._protocol = protocol
        self._is_buffered = isinstance(protocol, asyncio.BufferedProtocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol; None once the connection is lost."""
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    # -- reading

    def is_reading(self) -> bool:
        """Return whether the protocol is given what arrives."""
        return self._reading

    def pause_reading(self) -> None:
        """Give the protocol nothing more until `resume_reading`."""
        self._reading = False

    def resume_reading(self) -> None:
        """Give the protocol what arrives, from the next loop step on."""
        if self._state is _State.OPEN and not self._reading:
            self._reading = True
            self._peer._schedule()

    # -- writing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send *data*; after `close` it is dropped."""
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data must be bytes-like, not {type(data).__name__}")
        self.writelines((data,))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send several pieces in order; after `close` they are dropped."""
        if self._state is not _State.OPEN:
            return
        if self._out_end is not _End.NONE:
            raise RuntimeError("cannot write after write_eof()")
        for data in list_of_data:
            owned = bytes(data)  # no copy if it is bytes
            if owned:
                self._out.append(owned)
                self._out_size += len(owned)
        self._schedule()
        self._pause_writer()

    def can_write_eof(self) -> bool:
        """Return True: the two directions end apart."""
        return True

    def write_eof(self) -> None:
        """Tell the peer, after the last byte, that no more will come."""
        if self._state is _State.OPEN and self._out_end is _End.NONE:
            self._out_end = _End.WRITTEN
            self._schedule()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes the peer's protocol was not given yet."""
        return self._out_size

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the low-water and the high-water mark."""
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the marks at which the protocol is paused and resumed."""
        if high is None:
            high = HIGH_WATER if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high = high
        self._low = low
        self._pause_writer()

    # -- ending

    def is_closing(self) -> bool:
        """Return whether `close` or `abort` was called, or the connection lost."""
        return self._state is not _State.OPEN

    def close(self) -> None:
        """End both directions; what was written still arrives."""
        self._end(None)

    def abort(self) -> None:
        """End both directions and drop what the peer was not given yet."""
        self._drop_out()
        self._end(None)

    # -- inside

    def _begin(self) -> None:
        try:
            self._protocol.connection_made(self)
        except Exception as error:
            self._fail(error, "connection_made")

    def _end(self, error: BaseException | None) -> None:
        if self._state is not _State.OPEN:
            return
        self._state = _State.CLOSING
        self._reading = False
        if self._out_end is _End.NONE:
            self._out_end = _End.WRITTEN
        self._schedule()
        self._peer._schedule()  # lets it notice that nobody reads it now
        self._loop.call_soon(self._lose, error)

    def _lose(self, error: BaseException | None) -> None:
        self._state = _State.CLOSED
        protocol, self._protocol = self._protocol, None
        protocol.connection_lost(error)

    def _fail(self, error: Exception, where: str) -> None:
        """End after the protocol raised, as the event loops do."""
        context = {
            "message": f"Fatal error: protocol.{where}() call failed.",
            "exception": error,
            "transport": self,
            "protocol": self._protocol,
        }
        self._loop.call_exception_handler(context)
        self._drop_out()
        self._end(error)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        """Give the peer one read's worth of what was written here, or the end."""
        self._scheduled = False
        peer = self._peer
        if peer._state is not _State.OPEN:
            self._meet_closed_peer()
        elif not peer._reading:
            return  # resume_reading comes back to this
        elif self._out:
            peer._receive(self)
            self._resume_writer()
            if self._out or self._out_end is _End.WRITTEN:
                self._schedule()
        elif self._out_end is _End.WRITTEN:
            self._out_end = _End.TOLD
            peer._receive_end()

    def _meet_closed_peer(self) -> None:
        """Drop what nobody will read; fail like a socket if that is news.

        If the peer's end is still to be told here, it is told and nothing fails,
        so that an ordinary close never looks like a broken pipe.
        """
        unread = bool(self._out)
        self._drop_out()
        self._resume_writer()
        told = self._peer._out_end is _End.TOLD or not self._reading
        if unread and told and self._state is _State.OPEN:
            self._end(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)))

    def _drop_out(self) -> None:
        self._out.clear()
        self._out_size = 0

    def _receive(self, sender: "MemoryTransport") -> None:
        where = "data_received"
        try:
            if self._is_buffered:
                where = "get_buffer"
                buffer = self._protocol.get_buffer(-1)
                if not len(buffer):
                    raise RuntimeError("get_buffer() returned an empty buffer")
                where = "buffer_updated"
                self._protocol.buffer_updated(sender._take_into(buffer))
            else:
                self._protocol.data_received(sender._take())
        except Exception as error:
            self._fail(error, where)

    def _receive_end(self) -> None:
        try:
            stay_open = self._protocol.eof_received()
        except Exception as error:
            self._fail(error, "eof_received")
        else:
            if not stay_open:
                self.close()

    def _take(self) -> bytes:
        """Remove and return up to `READ_MAX` written bytes."""
        first = self._out[0]
        if type(first) is bytes and len(first) == self._out_size <= READ_MAX:
            self._drop_out()
            return first
        buffer = bytearray(min(self._out_size, READ_MAX))
        self._take_into(buffer)
        return bytes(buffer)

    def _take_into(self, buffer: bytearray | memoryview) -> int:
        """Move written bytes into *buffer* and return how many."""
        filled = 0
        with memoryview(buffer) as view, view.cast("B") as space:
            room = min(len(space), READ_MAX)
            while self._out and filled < room:
                piece = self._out.popleft()
                if len(piece) > room - filled:
                    rest = memoryview(piece)
                    piece = rest[: room - filled]
                    self._out.appendleft(rest[room - filled :])
                space[filled : filled + len(piece)] = piece
                filled += len(piece)
        self._out_size -= filled
        return filled

    def _pause_writer(self) -> None:
        if self._out_size > self._high and not self._writer_paused:
            self._writer_paused = True
            self._tell_writer("pause_writing")

    def _resume_writer(self) -> None:
        if self._writer_paused and self._out_size <= self._low and self._protocol is not None:
            self._writer_paused = False
            self._tell_writer("resume_writing")

    def _tell_writer(self, callback: str) -> None:
        try:
            getattr(self._protocol, callback)()
        except Exception as error:
            context = {
                "message": f"protocol.{callback}() failed",
                "exception": error,
                "transport": self,
                "protocol": self._protocol,
            }
            self._loop.call_exception_handler(context)


def memory_pair(
    left: asyncio.BaseProtocol,
    right: asyncio.BaseProtocol,
    *,
    name: str = "mem://pair",
    loop: asyncio.AbstractEventLoop | None = None,
) -> tuple[MemoryTransport, MemoryTransport]:
    """Join two protocols of the running loop and return their transports.

    The left one is connected when this returns, the right one in the next loop
    step, as a dialling and an accepting side would be.
    """
    loop = loop or asyncio.get_running_loop()
    extra = {"sockname": name, "peername": name}
    ends = MemoryTransport(loop, extra), MemoryTransport(loop, extra)
    for end, peer, protocol in ((ends[0], ends[1], left), (ends[1], ends[0], right)):
        end._peer = peer
        end.set_protocol(protocol)
    loop.call_soon(ends[1]._begin)
    ends[0]._begin()
    return ends


@final
class MemoryAcceptor:
    """What listens behind a `mem://` name; made by `listen`.

    Raises:
        TransportError: Somebody listens there already.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        name: str,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
    ) -> None:
        self.loop = loop
        self.name = name
        self.protocol_factory = protocol_factory
        with _names_lock:
            other = _names.get(name)
            if other is not None and not other.loop.is_closed():
                raise TransportError(f"can't listen on mem://{name}: somebody listens there")
            _names[name] = self

    def close(self) -> None:
        """Give the name back; connections stay."""
        with _names_lock:
            if _names.get(self.name) is self:
                del _names[self.name]

    async def wait_closed(self) -> None:
        """Return at once: nothing is ever half accepted here."""


_names: weakref.WeakValueDictionary[str, MemoryAcceptor] = weakref.WeakValueDictionary()
_names_lock = threading.Lock()


def dial_memory(
    loop: asyncio.AbstractEventLoop, name: str, protocol_factory: Callable[[], P]
) -> tuple[MemoryTransport, P]:
    """Connect to the listener called *name* in this process and loop.

    Raises:
        ConnectFailed: Nobody listens there, or another event loop does.
    """
    with _names_lock:
        acceptor = _names.get(name)
    if acceptor is None or acceptor.loop.is_closed():
        raise ConnectFailed(f"can't connect to mem://{name} (nobody listens there) after 0.000 s")
    if acceptor.loop is not loop:
        raise ConnectFailed(
            f"can't connect to mem://{name} (it belongs to another event loop) after 0.000 s"
        )
    client = protocol_factory()
    server = acceptor.protocol_factory()
    return memory_pair(client, server, name=f"mem://{name}", loop=loop)[0], client
