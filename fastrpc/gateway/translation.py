"""Hold a tongue and the session that it speaks for together.

The bytes of the peer go into the tongue, its frames over a bridge into the session, and what
the session says comes back the same way.

Rules of the room:
  * it is whole from the first moment: nobody asks whether one half of it is there.
"""

import asyncio
from collections.abc import Callable
from typing import final

from fastrpc.errors import ProtocolError
from fastrpc.gateway.bridge import Bridge
from fastrpc.gateway.tongue import Sink, Tongue, shapes_of
from fastrpc.protocol.guard import UNKNOWN_BURST, UNKNOWN_RATE, TokenBucket
from fastrpc.session import Session
from fastrpc.wire import StatusCode


@final
class Translation:
    """A tongue, a bridge and a session; opening the bridge begins it.

    Args:
        session: Any session, of a server or a client.
        outer: The connection of the peer.
        kind: What the peer speaks.
        to_peer: Takes foreign bytes, one message each time.
        closed: Told that the session has closed, see `Bridge`.
        dialled: Whether the session is a client's, and the peer a foreign server.
        pause: Called when nothing more should be read from the peer, or again.

    Attributes:
        session: The session.
        tongue: What speaks to the peer.
        bridge: What the session has for a transport.
    """

    __slots__ = ("_vain", "bridge", "session", "tongue")

    def __init__(
        self,
        session: Session,
        outer: asyncio.Transport,
        kind: type[Tongue],
        to_peer: Sink,
        closed: Callable[[bool], None],
        *,
        dialled: bool = False,
        pause: Callable[[bool], None] | None = None,
    ) -> None:
        side = session.side
        self.session = session
        self._vain = TokenBucket(UNKNOWN_RATE, UNKNOWN_BURST)
        self.tongue = kind(
            to_peer,
            self._to_session,
            limits=side.limits,
            dialled=dialled,
            shape_of=shapes_of(side.router),
        )
        self.bridge = Bridge(
            session, outer, self.tongue.take, closed, max_body=side.limits.max_body, pause=pause
        )
        # What the session calls the peer with passes on unread then.
        session.lane.serializer = int(self.tongue.serializer)

    @property
    def is_open(self) -> bool:
        """Whether the session still takes frames."""
        return self.bridge.is_open

    def feed(self, data: bytes) -> None:
        """Take what the peer says; nothing when the session has closed.

        Raises:
            ProtocolError: It is not of this protocol, or too much of it achieves nothing.
        """
        if not self.bridge.is_open:
            return
        tongue = self.tongue
        tongue.feed(data)
        if tongue.vain:
            count, tongue.vain = tongue.vain, 0
            if not self._vain.take(self.session.side.share.clock(), count):
                text = "too many notifications and answers that achieve nothing"
                raise ProtocolError(text, status=StatusCode.FLOOD)

    def pause_writing(self) -> None:
        """Slow the session down: the peer does not read."""
        self.tongue.pause_writing()
        self.bridge.pause_writing()

    def resume_writing(self) -> None:
        """Go on: it has read."""
        self.tongue.resume_writing()
        self.bridge.resume_writing()

    def leave(self) -> None:
        """Have the peer make no more calls; those under way are still taken."""
        self.session.leave()

    def abort(self, cause: Exception) -> None:
        """End the session at once."""
        self.session.abort(cause)

    def lose(self, exc: Exception | None) -> None:
        """End the session: the peer is gone."""
        self.bridge.lose(exc)
        self.tongue.lose()

    def _to_session(self, frames: bytes) -> None:
        self.bridge.feed(frames)
