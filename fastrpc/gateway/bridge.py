"""Stand under a session in place of a socket, and let a translator talk to it in frames.

Rules of the room:
  * what the session sends is handed on frame by frame, what is for the session goes in
    whole; neither happens inside the other, so nobody is called back in the middle of
    his own work;
  * who reads slowly at the far end slows the session down, as a socket would;
  * the connection outside decides about life and death: the session's keepalive is
    answered here.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, final

from fastrpc.errors import ConnectionLost
from fastrpc.frame import Frame, FrameDecoder, encode_frame
from fastrpc.protocol import Option, encode_option
from fastrpc.session import Session
from fastrpc.transport.upgrade import feed
from fastrpc.wire import Kind, Limits, Serializer

if TYPE_CHECKING:
    from fastrpc.server.hall import Hall

#: Codecs that need no agreement, by name and number.
PLAIN_CODECS: Final = {"raw": 0, "msgpack": 1, "json": 2}


def hello(limits: Limits, agent: str) -> bytes:
    """Return the HELLO with which a translator greets a session, as a client would.

    Args:
        limits: What the far end takes.
        agent: What it calls itself.
    """
    option = Option(
        codecs=PLAIN_CODECS,
        max_body=limits.max_body,
        max_calls=limits.max_calls,
        methods=limits.max_methods,
        window=limits.window,
        agent=agent,
    )
    payload = encode_option(option, False)
    return encode_frame(Kind.HELLO, 0, serializer=Serializer.JSON, payload=payload)


class _State(Enum):
    """How far a bridge is on its way."""

    OPEN = "open"
    CLOSED = "closed"  # by the session; what was handed on still goes out
    ABORTED = "aborted"  # by it, too
    LOST = "lost"  # and the session knows


@final
class Bridge(asyncio.Transport):
    """The transport of a session whose peer speaks another tongue.

    Args:
        session: Any session, of a server or a client; `open` begins it.
        outer: The connection of the far end.
        take: Gets each frame that the session sends, but for pings and pongs.
        closed: Told that the session has closed, True if at once. Told a second time only if
            a session that has closed wants it to end at once after all. Not told of `lose`.
        max_body: Longest body of a frame of the session's.
        pause: Called when nothing more should be read from the far end, or again.

    Attributes:
        session: The session above.
    """

    def __init__(
        self,
        session: Session,
        outer: asyncio.Transport,
        take: Callable[[Frame], None],
        closed: Callable[[bool], None],
        *,
        max_body: int,
        pause: Callable[[bool], None] | None = None,
    ) -> None:
        super().__init__()
        self.session = session
        self._outer = outer
        self._take = take
        self._closed = closed
        self._pause = pause or self._pause_outer
        self._loop = session.side.ticker.loop
        self._decoder = FrameDecoder(max_body=max_body)
        self._protocol: Any = session
        self._in: deque[bytes] = deque()
        self._is_busy = False  # somebody above or below is at work
        self._is_scheduled = False
        self._is_reading = True
        self._state = _State.OPEN

    def __repr__(self) -> str:
        """Tell whose it is."""
        return f"<Bridge of {self.session!r}>"

    def open(self) -> None:
        """Begin the session."""
        self._work(self.session.connection_made, self)

    # For the translator

    @property
    def is_open(self) -> bool:
        """Whether the session still takes frames."""
        return self._state is _State.OPEN

    def feed(self, frames: bytes) -> None:
        """Give the session whole frames."""
        if self._state is not _State.OPEN:
            return
        if self._is_busy or self._in or not self._is_reading:
            self._in.append(frames)
            self._schedule()
            return
        self._work(self._feed_now, frames)

    def pause_writing(self) -> None:
        """Tell the session that the far end does not read."""
        if self._state is _State.OPEN:
            self._work(self.session.pause_writing)

    def resume_writing(self) -> None:
        """Tell it that the far end has read."""
        if self._state is _State.OPEN:
            self._work(self.session.resume_writing)

    def eof(self) -> bool:
        """Tell the session that no more will come; False if it has nothing to say either."""
        if self._state is not _State.OPEN:
            return False
        return bool(self.session.eof_received())

    def lose(self, exc: Exception | None = None) -> None:
        """Tell the session that the far end is gone."""
        if self._state is not _State.LOST:
            self._state = _State.LOST
            self._in.clear()
            self._protocol.connection_lost(exc)
            # They lead back here, and nothing should be left for the garbage collector.
            self._take = self._closed = self._pause = _nobody

    # For the session: the face of a transport

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what the connection outside knows."""
        return self._outer.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Give later callbacks to *protocol*."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return who is called back."""
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def is_reading(self) -> bool:
        """Return whether the session takes frames now."""
        return self._is_reading

    def pause_reading(self) -> None:
        """Give the session nothing more until `resume_reading`."""
        if self._is_reading:
            self._is_reading = False
            self._pause(True)

    def resume_reading(self) -> None:
        """Give it what came, from the next loop step on."""
        if not self._is_reading and self._state is _State.OPEN:
            self._is_reading = True
            self._pause(False)
            self._schedule()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Hand on the frames in *data*."""
        if self._state is not _State.OPEN:
            return
        was_busy, self._is_busy = self._is_busy, True
        try:
            for frame in self._decoder.feed(bytes(data)):
                if not frame.heartbeat:
                    self._take(frame)
                elif not frame.reply:
                    self._in.append(
                        encode_frame(Kind.CALL, frame.id, reply=True, heartbeat=True,
                                     payload=frame.payload)
                    )  # fmt: skip
        finally:
            self._is_busy = was_busy
        if self._in:
            self._schedule()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Hand on the frames in several pieces."""
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """Return True: the session may say that it has nothing more to say."""
        return True

    def write_eof(self) -> None:
        """Close: a translator has nobody to wait for."""
        self.close()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes the far end has not taken."""
        return 0 if self._state is _State.LOST else self._outer.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the marks of the connection outside."""
        self._outer.set_write_buffer_limits(high, low)

    def is_closing(self) -> bool:
        """Return whether the session has closed it, or the far end is gone."""
        return self._state is not _State.OPEN

    def close(self) -> None:
        """End it; what was handed on still goes out."""
        self._end(at_once=False)

    def abort(self) -> None:
        """End it at once."""
        self._end(at_once=True)

    # Inside

    def _end(self, *, at_once: bool) -> None:
        was = self._state
        if was is not _State.OPEN and not (at_once and was is _State.CLOSED):
            return
        self._state = _State.ABORTED if at_once else _State.CLOSED
        self._in.clear()
        self._closed(at_once)
        if was is _State.OPEN:
            self._loop.call_soon(self.lose)

    def _pause_outer(self, wanted: bool) -> None:
        if not self._outer.is_closing():
            (self._outer.pause_reading if wanted else self._outer.resume_reading)()

    def _work(self, step: Callable[..., object], *args: object) -> None:
        was_busy, self._is_busy = self._is_busy, True
        try:
            step(*args)
        finally:
            self._is_busy = was_busy
        if self._in:
            self._schedule()

    def _feed_now(self, frames: bytes) -> None:
        if self.session.is_client:  # it looks after each read whether it should go on
            feed(self.session, frames)
        else:
            self.session.lane.feed(frames)

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        self._is_scheduled = False
        while self._in and self._is_reading and self._state is _State.OPEN:
            self._work(self._feed_now, self._in.popleft())


def _nobody(what: object) -> None:
    """Be told instead of those who are gone."""


def inside(
    hall: "Hall",
    peer: str,
    outer: asyncio.Transport,
    take: Callable[[Frame], None],
    closed: Callable[[bool], None],
    *,
    agent: str,
    limits: Limits | None = None,
    pause: Callable[[bool], None] | None = None,
) -> Bridge:
    """Return a bridge to a new session of a server's, open and greeted.

    Args:
        hall: Of the server.
        peer: Who is at the far end.
        outer: Its connection.
        take: Gets each frame of the session's from its HELLO on.
        closed: Told that the session has closed, see `Bridge`.
        agent: What the far end calls itself.
        limits: What it takes; the server's own if it is left out.
        pause: Called when nothing more should be read from the far end, or again.
    """
    limits = limits or hall.side.limits
    session = Session(hall.side, client=False, address=peer)
    bridge = Bridge(session, outer, take, closed, max_body=limits.max_body, pause=pause)
    greet(hall, bridge, agent, limits)
    return bridge


def greet(hall: "Hall", bridge: Bridge, agent: str, limits: Limits) -> None:
    """Open a bridge to a new session of a server's, and say HELLO to it.

    Args:
        hall: Of the server.
        bridge: Not open yet.
        agent: What the far end calls itself.
        limits: What it takes.
    """
    bridge.open()
    if hall.is_closing:
        peer = bridge.session.peer
        bridge.session.abort(ConnectionLost(f"{peer}: the server is shutting down", "no"))
    bridge.feed(hello(limits, agent))
