"""Answer the calls that the lane does not answer itself.

Tasks, threads, arguments by name, deadlines, and every way a call can fail. One
object serves all connections of a server; what belongs to a connection is in
its session.

Rules of the room:
  * every accepted call that is not oneway gets exactly one reply, unless its
    caller cancelled it: then none;
  * a call holds its place in the limits until its handler has really ended;
  * the error path can't raise: what can't be printed or encoded is left out.
"""

import asyncio
import logging
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, final

from fastrpc.call import Mode, decode_metadata, read_arguments
from fastrpc.errors import InvalidArgument, RpcError, TooLarge
from fastrpc.frame import Frame, Method, check_msgpack, drive
from fastrpc.session.side import Side
from fastrpc.wire import BIT_SEG, BIT_ZIP, Kind, Serializer, StatusCode

if TYPE_CHECKING:
    from fastrpc.session.session import Session

_TEXT_MAX = 2000  # of an error message on the wire
_EAGER = sys.version_info >= (3, 12)


class Fate(Enum):
    """What becomes of a running call's reply."""

    OWED = "owed"
    SENT = "sent"  # the deadline passed and was told; the handler may still run
    UNWANTED = "unwanted"  # the caller cancelled, or is gone


@final
class Running:
    """A call whose handler has not ended.

    Attributes:
        frame: The request.
        method: What runs.
        deadline: When it is told off, 0 for never.
        started: When it began.
        fate: Whether the caller still waits.
        task: What runs it.
    """

    __slots__ = ("deadline", "fate", "frame", "method", "started", "task")

    def __init__(self, method: Method, frame: Frame, started: float, deadline: float) -> None:
        self.method = method
        self.frame = frame
        self.started = started
        self.deadline = deadline
        self.fate = Fate.OWED
        self.task: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """Cancel the handler, if that can be done: a thread goes on to its end."""
        if self.task is not None and self.method.mode != Mode.THREAD:
            self.task.cancel()


@final
class Answerer:
    """Run handlers beside the lane, within the server's limits.

    Args:
        side: The server's share of every session.
        max_running: Most handlers of all connections together.
        handler_timeout: Seconds a handler may take, 0 for no limit.
        threads: Most blocking handlers at once.
        tracebacks: Send remote tracebacks to callers.
    """

    def __init__(
        self,
        side: Side,
        *,
        max_running: int,
        handler_timeout: float,
        threads: int,
        tracebacks: bool,
    ) -> None:
        self._side = side
        self._max_running = max_running
        self._handler_timeout = handler_timeout
        self._threads = threads
        self._tracebacks = tracebacks
        self._pool: ThreadPoolExecutor | None = None
        self.running = 0
        self.refused = 0

    def close(self) -> None:
        """Let the threads end with what they do."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    # What the lane and the session hand over

    def slowly(self, session: "Session", frame: Frame) -> None:
        """Answer a request that is no plain call."""
        method = self._method_of(session, frame)
        name = method.name.decode() if method is not None else _shown(frame.name)
        if frame.oversize:
            limit = session.side.limits.max_body
            text = f"{name}: arguments of {frame.oversize} bytes are over max_body of {limit}"
            self.refuse(session, frame, StatusCode.TOO_LARGE, text)
        elif session.is_draining:
            self.refuse(session, frame, StatusCode.UNAVAILABLE, "the server is shutting down")
        elif len(frame.name) > session.side.limits.max_name:
            text = f"method name of {len(frame.name)} bytes is over max_name"
            self.refuse(session, frame, StatusCode.NOT_FOUND, text)
        elif method is None:
            text = f"no such method: {name!r}" if frame.name else f"no method number {frame.arg}"
            self.refuse(session, frame, StatusCode.NOT_FOUND, text)
        elif frame.kind == Kind.OPEN or method.mode == Mode.STREAM:
            text = f"{name}: streams are not served by this version"
            self.refuse(session, frame, StatusCode.UNSUPPORTED, text)
        elif frame.bits & (BIT_ZIP | BIT_SEG):
            what = "compression" if frame.bits & BIT_ZIP else "segments"
            self.refuse(session, frame, StatusCode.UNSUPPORTED, f"{name}: {what} was not agreed on")
        else:
            try:
                decode_metadata(frame.metadata, session.side.limits)
            except InvalidArgument as exc:
                self.refuse(session, frame, StatusCode.BAD_REQUEST, f"{name}: {exc}")
            except TooLarge as exc:
                self.refuse(session, frame, StatusCode.TOO_LARGE, f"{name}: {exc}")
            else:
                self.bind(session, method, frame, None)

    def bind(
        self, session: "Session", method: Method, frame: Frame, exc: Exception | None
    ) -> None:
        """Run a call whose arguments are no plain array, or say why they don't fit."""
        side, info, name = session.side, method.info, method.name.decode()
        codec = side.by_number.get(frame.serializer)
        if codec is None or frame.serializer not in session.serializers:
            text = f"{name}: serializer {frame.serializer} was not agreed on"
            self.refuse(session, frame, StatusCode.UNSUPPORTED, text)
            return
        if method.mode == Mode.STREAM:
            text = f"{name}: streams are not served by this version"
            self.refuse(session, frame, StatusCode.UNSUPPORTED, text)
            return
        if frame.serializer == Serializer.MSGPACK:
            limits = side.limits
            broken = check_msgpack(frame.payload, limits.max_depth, limits.max_items)
            if broken:
                text = f"{name}: the arguments have {broken} (max_depth, max_items)"
                self.refuse(session, frame, StatusCode.TOO_LARGE, text)
                return
        try:
            payload = codec.decode(frame.payload)
        except TooLarge as error:
            self.refuse(session, frame, StatusCode.TOO_LARGE, f"{name}: {error}")
            return
        except Exception as error:
            text = f"{name}: arguments can't be decoded as {codec.name}: {_text_of(error)}"
            self.refuse(session, frame, StatusCode.BAD_REQUEST, text)
            return
        try:
            args, kwargs = read_arguments(info, payload, codec.convert)
        except InvalidArgument as error:
            self.refuse(session, frame, StatusCode.BAD_REQUEST, _text_of(error))
            return
        if method.mode in (Mode.TASK, Mode.THREAD):
            self.start(session, method, frame, args, kwargs)
        else:
            self._run_now(session, method, frame, args, kwargs)

    def expired(self, session: "Session", method: Method, frame: Frame) -> None:
        """Answer a call whose deadline passed before its turn came."""
        text = f"{method.name.decode()}: the deadline passed before the handler was started"
        self.refuse(session, frame, StatusCode.DEADLINE, text)

    def raised(
        self, session: "Session", method: Method, frame: Frame, exc: BaseException
    ) -> None:
        """Tell the caller that the handler raised; nothing else is disturbed."""
        name = method.name.decode()
        body: dict[str, Any] = {"type": type(exc).__name__, "message": _text_of(exc)}
        status, code = int(StatusCode.SERVER_ERROR), 0
        if isinstance(exc, RpcError):
            status, code = int(StatusCode.APPLICATION), exc.code
            body["message"] = exc.message
            if exc.data is not None:
                body["data"] = exc.data
        else:
            where = f"call {frame.id} of {name} raised {type(exc).__name__}"
            session.side.complain(logging.ERROR, session.peer, where, exc)
            if self._tracebacks:
                body["trace"] = _trace_of(exc)
        self._send(session, frame, status, body, code)
        if isinstance(exc, KeyboardInterrupt):
            raise exc  # the person at the keyboard means the server, not the call

    def unsendable(
        self, session: "Session", method: Method, frame: Frame, exc: Exception | None
    ) -> None:
        """Tell the caller that there is a result which can't be sent."""
        name = method.name.decode()
        if exc is None:
            text = f"{name}: the result is over the client's max_body of {session.lane.peer_body}"
        else:
            text = f"{name}: the result can't be encoded: {_text_of(exc)}"
        session.side.complain(logging.ERROR, session.peer, text)
        body = {"type": "UnsendableResult", "message": text}
        self._send(session, frame, int(StatusCode.RESULT_UNSENDABLE), body)

    def refuse(
        self, session: "Session", frame: Frame, status: int, text: str, retry_ms: int = 0
    ) -> None:
        """Answer a call that is not run."""
        self.refused += 1
        body: dict[str, Any] = {"type": StatusCode(status).name.lower(), "message": text}
        if retry_ms:
            body["retry_ms"] = retry_ms
        if frame.oneway:
            session.side.complain(logging.WARNING, session.peer, f"oneway call refused: {text}")
        self._send(session, frame, status, body)

    def start(
        self,
        session: "Session",
        method: Method,
        frame: Frame,
        args: Sequence[Any],
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        """Run a handler that takes its time."""
        if method.mode == Mode.STREAM:
            text = f"{method.name.decode()}: streams are not served by this version"
            self.refuse(session, frame, StatusCode.UNSUPPORTED, text)
            return
        if len(session.running) >= session.side.limits.max_calls:
            text = f"more than {session.side.limits.max_calls} calls of this connection (max_calls)"
            self.refuse(session, frame, StatusCode.OVERLOADED, text)
            return
        if self.running >= self._max_running:
            text = f"more than {self._max_running} calls in flight on this server (max_running)"
            self.refuse(session, frame, StatusCode.OVERLOADED, text)
            return
        now = session.lane.share.clock()
        deadline = now + frame.time / 1000.0 if frame.time else 0.0
        if self._handler_timeout:
            limit = now + self._handler_timeout
            deadline = min(deadline, limit) if deadline else limit
        running = Running(method, frame, now, deadline)
        session.running[frame.id] = running
        self.running += 1
        method.calls += 1
        coroutine = self._run(session, running, args, kwargs or {})
        loop = session.lane.share.loop
        if _EAGER:
            task = asyncio.Task(coroutine, loop=loop, eager_start=True)  # type: ignore[call-arg]
        else:
            task = loop.create_task(coroutine)
        if frame.id in session.running:
            running.task = task
            if deadline:
                session.expect(deadline)

    # How handlers run

    def _run_now(
        self,
        session: "Session",
        method: Method,
        frame: Frame,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> None:
        method.calls += 1
        try:
            result = method.handler(*args, **kwargs)
            if method.mode == Mode.INLINE:
                result = drive(result)
        except BaseException as exc:
            method.errors += 1
            self.raised(session, method, frame, exc)
            return
        self._reply(session, method, frame, result, 0)

    async def _run(
        self,
        session: "Session",
        running: Running,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> None:
        method, frame = running.method, running.frame
        try:
            if method.mode == Mode.THREAD:
                work = partial(_shielded, method.handler, args, kwargs)
                result, error = await session.lane.share.loop.run_in_executor(self._executor(), work)
                if error is not None:
                    raise error
            else:
                result = await method.handler(*args, **kwargs)
        except asyncio.CancelledError as exc:
            # Cancelled from outside, or the handler raised it on its own: the
            # caller is owed an answer unless he had one or wants none.
            if running.fate is Fate.OWED:
                running.fate = Fate.SENT
                text = _text_of(exc) or "the handler was cancelled on the server"
                body = {"type": "Cancelled", "message": f"{method.name.decode()}: {text}"}
                self._send(session, frame, int(StatusCode.CANCELLED), body)
        except BaseException as exc:
            method.errors += 1
            if running.fate is Fate.OWED:
                running.fate = Fate.SENT
                self.raised(session, method, frame, exc)
            elif isinstance(exc, Exception):
                name = method.name.decode()
                where = f"call {frame.id} of {name} raised after it was given up"
                session.side.complain(logging.WARNING, session.peer, where, exc)
        else:
            if running.fate is Fate.OWED:
                running.fate = Fate.SENT
                spent = int((session.lane.share.clock() - running.started) * 1e6)
                self._reply(session, method, frame, result, max(spent, 1))
        finally:
            self.running -= 1
            session.finished(frame.id)

    def _executor(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, "fastrpc-handler")
        return self._pool

    def expire(self, session: "Session", now: float) -> float:
        """Tell off the handlers whose time is up; return the next deadline, 0 if none."""
        soonest = 0.0
        for running in list(session.running.values()):
            if not running.deadline or running.fate is not Fate.OWED:
                continue
            if running.deadline <= now:
                running.fate = Fate.SENT
                running.method.errors += 1
                spent = int((now - running.started) * 1e6)
                text = f"{running.method.name.decode()}: stopped after {spent / 1e3:.0f} ms"
                body = {"type": "DeadlineExceeded", "message": text}
                self._send(
                    session, running.frame, int(StatusCode.DEADLINE), body, time=max(spent, 1)
                )
                running.stop()
            elif not soonest or running.deadline < soonest:
                soonest = running.deadline
        return soonest

    def stop(self, session: "Session", running: Running, why: str) -> None:
        """Stop a call on the server's own account and tell its caller."""
        if running.fate is Fate.OWED:
            running.fate = Fate.SENT
            body = {"type": "Cancelled", "message": f"{running.method.name.decode()}: {why}"}
            self._send(session, running.frame, int(StatusCode.CANCELLED), body)
        running.stop()

    def give_up(self, session: "Session", id: int) -> None:
        """Stop a call that its caller cancelled; an unknown id is fine."""
        running = session.running.get(id)
        if running is not None and running.fate is Fate.OWED:
            running.fate = Fate.UNWANTED
            running.stop()

    # Replies

    def _method_of(self, session: "Session", frame: Frame) -> Method | None:
        if frame.name:
            router = session.side.router
            return router.get(frame.name) if router is not None else None
        return session.lane.bound_method(frame.arg)

    def _reply(
        self, session: "Session", method: Method, frame: Frame, result: Any, spent: int
    ) -> None:
        if frame.oneway:
            return
        try:
            serializer, body = session.lane.encode_result(frame.serializer, result)
        except Exception as exc:
            method.errors += 1
            self.unsendable(session, method, frame, exc)
            return
        if len(body) > session.lane.peer_body:
            method.errors += 1
            self.unsendable(session, method, frame, None)
            return
        session.lane.reply(frame.id, serializer, body, 0, 0, spent)
        session.check_unsent()

    def _send(
        self,
        session: "Session",
        frame: Frame,
        status: int,
        body: dict[str, Any],
        code: int = 0,
        time: int = 0,
    ) -> None:
        if frame.oneway:
            return
        encode: Callable[[Any], bytes] | None = session.side.encoders[Serializer.MSGPACK]
        assert encode is not None  # every registry has msgpack
        body["message"] = _clipped(body["message"])
        try:
            data = encode(body)
        except Exception:  # the application's own data; the rest is plain text
            body.pop("data", None)
            data = encode(body)
        if len(data) > session.lane.peer_body:
            data = b""
        session.lane.reply(frame.id, int(Serializer.MSGPACK), data, status, code, time)
        session.check_unsent()


def _shielded(
    handler: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Any, BaseException | None]:
    """Run a blocking handler; its exceptions travel as values.

    A StopIteration can't be raised into a future, and a SystemExit must end the
    call, not the thread.
    """
    try:
        return handler(*args, **kwargs), None
    except BaseException as exc:
        return None, exc


def _text_of(exc: BaseException) -> str:
    try:
        return str(exc)
    except Exception:  # an exception that can't be printed is still an answer
        return f"<{type(exc).__name__} that can't be printed>"


def _clipped(text: object) -> str:
    kept = str(text)[:_TEXT_MAX]
    return kept.encode("utf-8", "replace").decode()


def _trace_of(exc: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(exc))[-8 * _TEXT_MAX :]
    except Exception:  # see _text_of
        return ""


def _shown(name: bytes) -> str:
    return name[:255].decode("utf-8", "replace")



