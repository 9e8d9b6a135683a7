"""Take the frames of a connection that are no plain calls, and count the abuse of them.

Pings, cancels, goodbyes, calls with bits, replies with metadata: rare, so plain
Python will do.

Rules of the room:
  * a frame that breaks a rule raises, and the session ends the connection;
  * what a peer may do only so often is counted here, in `protocol.guard`.
"""

from typing import TYPE_CHECKING, final

from fastrpc.errors import ConnectionLost, ProtocolError
from fastrpc.frame import Frame, encode_frame
from fastrpc.protocol import Input, State, step
from fastrpc.session import outcome
from fastrpc.session.conduct import Conduct
from fastrpc.session.watch import NEVER_MS, PING, Watch
from fastrpc.wire import BIT_MORE, KIND_CRITICAL, Kind, Serializer, StatusCode

if TYPE_CHECKING:
    import asyncio

    from fastrpc.session.session import Session

_ONE_WAY = frozenset({Kind.OPEN, Kind.HALF, Kind.CANCEL, Kind.GOAWAY})


@final
class Control(Conduct["Session"]):
    """What one connection's control frames left behind."""

    __slots__ = ("_pings",)

    def __init__(self) -> None:
        """Begin with nothing counted."""
        super().__init__()
        self._pings: dict[int, asyncio.Future[float]] = {}

    def take(self, session: "Session", frame: Frame) -> None:
        """Take any frame but HELLO.

        Raises:
            ProtocolError: It breaks a rule.
        """
        if frame.kind == Kind.GOAWAY and session.is_client and session.state is State.HELLO:
            # The server found our HELLO so wrong that it had no other answer.
            session.shut(self._going(session, frame), Input.GOAWAY)
            return
        session.state = step(session.state, Input.FRAME)
        if frame.bits & BIT_MORE:
            raise ProtocolError("bit MORE is reserved and must be 0")
        if frame.reply and frame.kind in _ONE_WAY:
            raise ProtocolError(f"kind {frame.kind} can't be a reply")
        if frame.kind == Kind.CALL:
            self._call(session, frame)
        elif frame.kind == Kind.OPEN:
            self._request(session, frame)
        elif frame.kind == Kind.CANCEL:
            self._cancel(session, frame)
        elif frame.kind in (Kind.HALF, Kind.CREDIT):
            session.streams.take(frame)
        elif frame.kind == Kind.GOAWAY:
            self._goaway(session, frame)
        elif frame.kind in KIND_CRITICAL:
            raise ProtocolError(f"kind {frame.kind} is not known to version 1")
        # DATA never comes here, and kinds 12 to 15 are skipped.

    def ping(self, session: "Session") -> "asyncio.Future[float]":
        """Send a ping; the future gets the seconds until its pong."""
        share = session.lane.share
        waiter: asyncio.Future[float] = share.create_future()
        token = int(share.clock() * 1e9)
        while token in self._pings:
            token += 1
        self._pings[token] = waiter
        session.lane.send(encode_frame(Kind.CALL, token, heartbeat=True))
        return waiter

    def end(self, cause: Exception) -> None:
        """Fail the pings that are under way."""
        pings, self._pings = self._pings, {}
        for waiter in pings.values():
            outcome.fail(waiter, cause)

    def look(self, session: "Session", watch: Watch, now: float, late: bool) -> str:
        """Look after an open connection; return why it has to end, "" if it may go on.

        Args:
            session: The connection.
            watch: What was seen of its peer so far.
            now: The time.
            late: Whether this look comes late.

        Raises:
            ProtocolError: There were too many replies that nobody asked for.
        """
        self.check_strikes(session)
        lane, agreed, why = session.lane, session.peer_interval, ""
        if lane.paused:
            unsent = session.unsent()
            why = watch.stalled(now, late, lane.bytes_out - unsent, unsent)
        elif session.is_lasting:
            # Who asked for none, as blocking clients do, may be gone: only a ping will tell.
            asked_for = agreed * 1000 < NEVER_MS
            if watch.due(now, agreed if asked_for else session.side.limits.idle_ping):
                self.send_ping(session)
        else:
            ping_after = max(session.side.limits.idle_ping, agreed)
            why = watch.silent(now, late, lane.bytes_in, ping_after)
            if why == PING:
                self.send_ping(session)
                why = ""
        if why:
            return why
        partial = lane.waiting and not lane.stalled
        return watch.slow(now, late, lane.bytes_in, lane.calls_in + lane.replies_in, partial)

    def send_ping(self, session: "Session") -> None:
        """Send a ping that nobody waits for."""
        token = int(session.lane.share.clock() * 1000)
        session.lane.send(encode_frame(Kind.CALL, token, heartbeat=True))

    def _pong(self, session: "Session", frame: Frame) -> None:
        waiter = self._pings.pop(frame.id, None)
        if waiter is not None and not waiter.done():
            waiter.set_result(max(session.lane.share.clock() - frame.id / 1e9, 0.0))

    def _cancel(self, session: "Session", frame: Frame) -> None:
        answered = session.lane.calls_in - len(session.running) - self._cancels
        self._cancels += 1
        running = session.running.get(frame.id)
        # To leave a stream half-way is the ordinary end of many; to start calls only to
        # cancel them is not.
        if running is None or not running.has_served:
            self._guarded(session).cancel(session.lane.share.clock(), answered)
        if session.side.answers is not None:
            session.side.answers.give_up(session, frame.id)

    def _goaway(self, session: "Session", frame: Frame) -> None:
        session.state = step(session.state, Input.GOAWAY)
        session.peer_leaves = True
        session.lane.ready = False
        if frame.status != StatusCode.UNAVAILABLE and session.cause is None:
            session.cause = ConnectionLost(str(self._going(session, frame)), "maybe")
        for _, slot in session.lane.table.drain(frame.id):
            outcome.fail(slot[0], self._going(session, frame))
        session.side.on_drain(session)
        session.check_idle()

    def _going(self, session: "Session", frame: Frame) -> Exception:
        return outcome.going(session.peer, frame, session.side.decoders[Serializer.MSGPACK])

    def _request(self, session: "Session", frame: Frame) -> None:
        """Answer a call that is not plain, or any call where none are served.

        Raises:
            ProtocolError: It can't be told what it is.
        """
        if frame.kind == Kind.OPEN:
            if frame.heartbeat:  # its id was not looked at, as those of pings are not
                raise ProtocolError("a heartbeat can't open a stream")
            frame.oneway = False  # the flag has no meaning there
        if session.side.answers is not None:
            session.side.answers.slowly(session, frame)
        elif not frame.oneway:
            session.lane.reply(frame.id, 0, b"", int(StatusCode.NOT_FOUND))
