"""Know the streams of one connection that are open, and wake those that wait for it.

Most connections have none, so a session makes this when the first one opens.
"""

from typing import Protocol, final

from fastrpc.frame import Frame, Inlet, Outlet
from fastrpc.wire import Kind


class Halves(Protocol):
    """An open stream: what receives, what sends."""

    @property
    def inlet(self) -> Inlet | None:
        """Where its items come in, if they do."""
        ...

    @property
    def outlet(self) -> Outlet | None:
        """Where items go out, if they do."""
        ...


@final
class Streams:
    """The open streams of one connection.

    Attributes:
        own: Those that this side has opened, by id.
        peers: Those that the peer has opened, by id.
    """

    __slots__ = ("_held", "own", "peers")

    def __init__(self) -> None:
        """Begin with none."""
        self.own: dict[int, Halves] = {}
        self.peers: dict[int, Halves] = {}
        self._held: set[Outlet] = set()

    def take(self, frame: Frame) -> None:
        """Take a HALF or CREDIT; what is for a stream that has ended is dropped.

        Raises:
            ProtocolError: The credit is none, or too much.
        """
        stream = (self.own if frame.reply else self.peers).get(frame.id)
        if stream is None:
            return
        if frame.kind == Kind.HALF and stream.inlet is not None:
            stream.inlet.end(None)
        elif frame.kind == Kind.CREDIT and stream.outlet is not None:
            stream.outlet.grant(frame.arg)

    def hold(self, outlet: Outlet) -> None:
        """Wake *outlet* when the peer has read."""
        self._held.add(outlet)

    def release(self) -> None:
        """Wake those that wait for the peer to read."""
        held, self._held = self._held, set()
        for outlet in held:
            outlet.wake()

    def end(self, cause: Exception) -> None:
        """Let no more come or go: the connection has ended."""
        for stream in [*self.own.values(), *self.peers.values()]:
            if stream.inlet is not None:
                stream.inlet.end(cause)
            if stream.outlet is not None:
                stream.outlet.close(cause)
        self.own.clear()
        self.peers.clear()
        self._held.clear()
