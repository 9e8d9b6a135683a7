"""Take the control frames that both kinds of connection have, and count their abuse.

`control` has it for connections of a loop, `blocking_control` for those of threads.

Rules of the room:
  * a frame that breaks a rule raises, and the session ends the connection;
  * what a peer may do only so often is counted in `protocol.guard`.
"""

from abc import ABC, abstractmethod
from typing import Generic, Protocol, TypeVar

from fastrpc.errors import ProtocolError
from fastrpc.frame import Frame, Lane, encode_frame
from fastrpc.protocol import PeerGuard
from fastrpc.protocol.guard import CANCEL_BURST
from fastrpc.session import outcome
from fastrpc.session.side import Side
from fastrpc.wire import PING_BODY_MAX, Kind


class Connection(Protocol):
    """A session, as far as its conduct needs it."""

    lane: Lane
    side: Side

    def answered(self, slot: outcome.Slot, frame: Frame) -> None:
        """End a call with a reply that is no plain value."""
        ...


S = TypeVar("S", bound=Connection)


class Conduct(ABC, Generic[S]):
    """What the peer of one connection did that may be done only so often."""

    __slots__ = ("_cancels", "_guard", "_strikes")

    def __init__(self) -> None:
        """Begin with nothing counted."""
        self._guard: PeerGuard | None = None  # most peers never need one
        self._strikes = self._cancels = 0

    def check_strikes(self, session: S) -> None:
        """Count replies nobody asked for; late ones to calls given up are ordinary.

        Raises:
            ProtocolError: They are too many.
        """
        lane = session.lane
        strikes = lane.unknown + max(0, lane.late - lane.given_up)
        fresh, self._strikes = strikes - self._strikes, strikes
        if fresh > 0:
            self._guarded(session).unknown_reply(lane.share.clock(), fresh)

    def _call(self, session: S, frame: Frame) -> None:
        """Take pings, pongs, and calls and replies that are not plain."""
        if frame.heartbeat and not frame.reply:
            self._guarded(session).ping(session.lane.share.clock())
            if frame.oversize or len(frame.payload) > PING_BODY_MAX:
                raise ProtocolError(f"a ping's body is over {PING_BODY_MAX} bytes")
            pong = encode_frame(
                Kind.CALL, frame.id, heartbeat=True, reply=True, payload=frame.payload
            )
            session.lane.send(pong)
        elif frame.heartbeat:
            self._pong(session, frame)
        elif frame.reply:
            slot = session.lane.table.take(frame.id)
            if slot is None:
                session.lane.late += 1
            else:
                session.answered(slot, frame)
        else:
            self._request(session, frame)

    @abstractmethod
    def _pong(self, session: S, frame: Frame) -> None:
        """Take the answer to a ping."""

    @abstractmethod
    def _request(self, session: S, frame: Frame) -> None:
        """Answer a call or an opened stream."""

    def _guarded(self, session: S) -> PeerGuard:
        if self._guard is None:
            limits = session.side.limits
            self._guard = PeerGuard(
                limits.ping_interval, cancel_burst=CANCEL_BURST + limits.max_calls
            )
        return self._guard
