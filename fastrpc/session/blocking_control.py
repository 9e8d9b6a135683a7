"""Take the frames of a blocking connection that are no plain replies, and count their abuse.

It is `control` for a connection that nobody reads between calls: it has no timers, sends
no pings by itself, and serves nothing to the server.

Rules of the room:
  * all of it runs under the lock of the session;
  * a frame that breaks a rule raises, and the session ends the connection;
  * what a server may do only so often is counted here, in `protocol.guard`.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final, final

from fastrpc.errors import ProtocolError
from fastrpc.frame import Frame, Waiter, encode_frame
from fastrpc.protocol import (
    Input,
    Option,
    State,
    confirm,
    decode_option,
    encode_option,
    step,
)
from fastrpc.session import outcome
from fastrpc.session.conduct import Conduct
from fastrpc.session.watch import NEVER_MS
from fastrpc.wire import KIND_CRITICAL, Kind, Serializer, StatusCode

if TYPE_CHECKING:
    from fastrpc.session.blocking import BlockingSession


@final
class BlockingControl(Conduct["BlockingSession"]):
    """What the control frames of one blocking connection left behind."""

    __slots__ = ("_option", "_pings")

    def __init__(self, option: Option, nonce: str) -> None:
        """Begin with nothing counted."""
        super().__init__()
        self._option = replace(option, nonce=nonce, ping_ms=NEVER_MS)
        self._pings: dict[int, Waiter] = {}

    def greeting(self) -> bytes:
        """Return our HELLO."""
        payload = encode_option(self._option, False)
        return encode_frame(Kind.HELLO, 0, serializer=Serializer.JSON, payload=payload)

    def ping(self, now: float) -> tuple[int, Waiter, bytes]:
        """Return the number of a new ping, the waiter for its answer, and the frame."""
        number = int(now * 1e9)
        while number in self._pings:
            number += 1
        waiter = self._pings[number] = Waiter()
        return number, waiter, encode_frame(Kind.CALL, number, heartbeat=True)

    def forget_ping(self, number: int) -> None:
        """Wait for its answer no more; twice is fine."""
        self._pings.pop(number, None)

    def end(self, cause: Exception) -> None:
        """Fail the pings that are under way."""
        for waiter in self._pings.values():
            waiter.set_exception(outcome.lost(cause, "ping"))

    def take(self, session: "BlockingSession", frame: Frame) -> None:
        """Take a frame.

        Raises:
            ProtocolError: It breaks a rule.
        """
        if frame.kind not in (Kind.HELLO, Kind.GOAWAY):
            session.state = step(session.state, Input.FRAME)
        act = _ACTS.get(frame.kind)
        if act is not None:
            act(self, session, frame)
        elif frame.kind in KIND_CRITICAL:
            raise ProtocolError(f"kind {frame.kind} is not known to version 1")
        # Kinds 12 to 15 are skipped, and so is what only a caller may say.

    # By kind

    def _hello(self, session: "BlockingSession", frame: Frame) -> None:
        if session.state is not State.HELLO:
            step(session.state, Input.HELLO)  # raises: a second one
        if frame.status:
            session.end(outcome.turned_down(session.address, frame), Input.REFUSED)
            return
        if frame.serializer != Serializer.JSON or frame.bits or frame.id or not frame.reply:
            raise ProtocolError("HELLO must be plain JSON with id 0")
        answer = confirm(self._option, decode_option(frame.payload, True))
        session.state = step(session.state, Input.HELLO)
        session.agree(answer)

    def _goaway(self, session: "BlockingSession", frame: Frame) -> None:
        decode = session.side.decoders[Serializer.MSGPACK]
        for _, slot in session.lane.table.drain(frame.id):
            slot[0].set_exception(outcome.going(session.address, frame, decode))  # one for each
        if session.state is State.HELLO or not session.lane.table:
            session.end(outcome.going(session.address, frame, decode))
        else:
            session.take_no_more()

    def _pong(self, session: "BlockingSession", frame: Frame) -> None:
        waiter = self._pings.pop(frame.id, None)
        if waiter is not None:
            waiter.set_result(None)

    def _request(self, session: "BlockingSession", frame: Frame) -> None:
        if not frame.oneway:
            self._refuse(session, frame)

    def _refuse(self, session: "BlockingSession", frame: Frame) -> None:
        """Say that no call and no stream is served here."""
        # A server that calls without end and reads no answer would fill our memory.
        most = session.side.limits.max_unsent
        if session.pipe.unsent + session.lane.unsent > most:
            raise ProtocolError(
                f"over {most} bytes of answers are unread (max_unsent)", status=StatusCode.FLOOD
            )
        session.lane.reply(frame.id, 0, b"", int(StatusCode.NOT_FOUND))

    def _cancel(self, session: "BlockingSession", frame: Frame) -> None:
        answered = session.lane.calls_in - self._cancels
        self._cancels += 1
        self._guarded(session).cancel(session.lane.share.clock(), answered)

    def _credit(self, session: "BlockingSession", frame: Frame) -> None:
        stream = session.streams.get(frame.id) if frame.reply else None
        if stream is not None:
            stream.grant(frame.arg)


_Act = Callable[[BlockingControl, "BlockingSession", Frame], None]

_ACTS: Final[dict[int, _Act]] = {
    Kind.HELLO: BlockingControl._hello,
    Kind.GOAWAY: BlockingControl._goaway,
    Kind.CALL: BlockingControl._call,
    Kind.OPEN: BlockingControl._refuse,
    Kind.CANCEL: BlockingControl._cancel,
    Kind.CREDIT: BlockingControl._credit,
}
