"""Write the replies of calls that the lane does not answer itself.

Rules of the room:
  * nothing here knows whether a handler still runs: who answers twice is at fault;
  * the error path can't raise, see `failure`.
"""

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, final

from fastrpc.call import Mode, Refusal, Reply, refusal_of
from fastrpc.errors import CodecError
from fastrpc.frame import Frame, Method
from fastrpc.session import failure
from fastrpc.wire import NOT_RUN, Serializer, StatusCode

if TYPE_CHECKING:
    from fastrpc.session.session import Session


@final
class Replies:
    """Write replies: results, errors of handlers, refusals.

    Args:
        tracebacks: Send remote tracebacks to callers.

    Attributes:
        refused: Calls that were not run, but for those that a lane has shed.
    """

    def __init__(self, *, tracebacks: bool) -> None:
        """Refuse nothing yet."""
        self._tracebacks = tracebacks
        self.refused = 0

    def result(
        self, session: "Session", method: Method, frame: Frame, reply: Reply, spent: int
    ) -> None:
        """Send what a handler gave, metadata and all.

        Args:
            session: The connection.
            method: What was called.
            frame: The request.
            reply: The outcome.
            spent: Microseconds that it took, 0 if nothing was waited for.
        """
        if frame.oneway:
            return
        lane, info = session.lane, method.info.info
        try:
            trailers = reply.packed(session.side.limits)
            if reply.items is not None and info.item is None:
                raise CodecError("an interceptor gave items for a call without a stream")
            if info.item is not None:  # the items were the result
                serializer, body = int(Serializer.RAW), b""
            else:
                serializer, body = lane.encode_result(frame.serializer, reply.value)
                if serializer not in session.serializers:
                    raise CodecError(f"serializer {serializer} was not agreed on")
        except Exception as exc:
            method.errors += 1
            self.unsendable(session, method, frame, exc)
            return
        if lane.size_of(body) + len(trailers) > lane.peer_body:
            method.errors += 1
            self.unsendable(session, method, frame, None)
            return
        lane.reply(frame.id, serializer, body, 0, 0, spent, trailers)
        session.hand_over()

    def raised(
        self,
        session: "Session",
        method: Method,
        frame: Frame,
        exc: BaseException,
        was_called: bool = True,
        spent: float = 0.0,
    ) -> None:
        """Tell the caller that the handler raised; nothing else is disturbed.

        Args:
            session: The connection.
            method: What was called.
            frame: The request.
            exc: What was raised.
            was_called: Whether the handler was called; interceptors may raise before.
            spent: Seconds since it began.
        """
        name = method.name.decode()
        errors, traced = session.side.errors, self._tracebacks
        meant = failure.application(exc, errors, traced)
        if meant is not None:
            code, body = meant
            self.send(session, frame, StatusCode.APPLICATION, body, code, method=method)
            return
        refusal = refusal_of(exc, method.info.info.name, session.call_id(frame.id))
        if refusal is not None:
            self._pass_on(session, method, frame, refusal, was_called, spent)
            return
        kind = type(exc)  # what `isinstance` asks, `__class__`, may raise
        if issubclass(kind, asyncio.CancelledError):  # raised by itself: nobody cancelled it
            why = failure.text_of(exc) or "the handler was cancelled on the server"
            body = {"type": "Cancelled", "message": f"{name}: {why}"}
            self.send(session, frame, StatusCode.CANCELLED, body, method=method)
            return
        what = f"{name} raised {failure.type_of(exc)}"
        where = f"call {session.call_id(frame.id)} of {what}"
        session.side.complain(logging.ERROR, session.peer, where, exc, about=what)
        body = failure.unexpected(exc, errors, traced)
        self.send(session, frame, StatusCode.SERVER_ERROR, body, method=method)
        if issubclass(kind, KeyboardInterrupt) and method.info.info.mode is not Mode.THREAD:
            raise exc  # the person at the keyboard means the server, not the call

    def unsendable(
        self, session: "Session", method: Method, frame: Frame, exc: Exception | None
    ) -> None:
        """Tell the caller that there is a result which can't be sent."""
        name = method.name.decode()
        if exc is None:
            text = f"{name}: the result is over the client's max_body of {session.lane.peer_body}"
        else:
            text = f"{name}: the result can't be encoded: {failure.text_of(exc)}"
        where = f"call {session.call_id(frame.id)}: {text}"
        session.side.complain(logging.ERROR, session.peer, where, about=f"{name} unsendable")
        body = {"type": "UnsendableResult", "message": failure.clipped(text)}
        self.send(session, frame, StatusCode.RESULT_UNSENDABLE, body, method=method)

    def refuse(
        self,
        session: "Session",
        frame: Frame,
        status: int,
        text: str,
        retry_ms: int | None = None,
        method: Method | None = None,
    ) -> None:
        """Answer a call that is not run."""
        self.refused += 1
        if frame.oneway:
            session.side.complain(logging.WARNING, session.peer, f"oneway call refused: {text}")
        body = failure.refusal(status, text, retry_ms=retry_ms)
        self.send(session, frame, status, body, method=method)

    def expired(self, session: "Session", method: Method, frame: Frame) -> None:
        """Answer a call whose deadline passed before its turn came."""
        text = f"{method.name.decode()}: the deadline passed before the handler was started"
        self.refuse(session, frame, StatusCode.DEADLINE, text, method=method)

    def _pass_on(
        self,
        session: "Session",
        method: Method,
        frame: Frame,
        refusal: Refusal,
        was_called: bool,
        spent: float,
    ) -> None:
        """Tell the caller what server code refuses the call with."""
        status, text, retry = refusal.status, refusal.text, refusal.retry_ms
        if not refusal.may_be_told(was_called):  # the status says that nothing was run
            body = failure.refusal(status, text, refusal.name, retry)
            self.send(session, frame, StatusCode.APPLICATION, body, status, method=method)
        elif status in NOT_RUN:
            self.refuse(session, frame, status, text, retry, method)
        else:
            body = failure.refusal(status, text, retry_ms=retry)
            micros = max(int(spent * 1e6), 1)
            self.send(session, frame, status, body, time=micros, method=method)

    def send(
        self,
        session: "Session",
        frame: Frame,
        status: int,
        body: failure.Body,
        code: int = 0,
        time: int = 0,
        method: Method | None = None,
    ) -> None:
        """Send a reply that is no result, and count it if *method* is known."""
        if method is not None:
            method.info.failed(int(status))
        if frame.oneway:
            return
        encode = partial(session.inline, int(Serializer.MSGPACK))
        # Where there is no room the status has to do.
        data = b"" if session.is_full else failure.encoded(encode, body, session.lane.peer_body)
        session.lane.reply(frame.id, int(Serializer.MSGPACK), data, int(status), code, time)
        session.hand_over()
