"""Answer the calls that the lane does not answer itself.

Tasks, threads, arguments by name, deadlines, and every way a call can fail. One
object serves all connections of a server; what belongs to a connection is in
its session.

Rules of the room:
  * every accepted call that is not oneway gets exactly one reply, unless its
    caller cancelled it: then none;
  * a call holds its place in the limits until its handler has really ended;
  * large calls that there is no place for are not decoded, but for the first in a
    row: the lane has decoded that one before anybody looked;
  * a handler is cancelled once: what it does on its way out is its own affair;
  * the error path can't raise, see `failure`.
"""

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, final

from fastrpc.call import Mode, Reply, decode_metadata
from fastrpc.errors import FastRPCError
from fastrpc.frame import Frame, Method
from fastrpc.session import arguments, failure
from fastrpc.session.firststep import FirstSteps
from fastrpc.session.handling import Handling
from fastrpc.session.replies import Replies
from fastrpc.session.routes import is_timed
from fastrpc.session.running import Fate, Running
from fastrpc.session.shedding import RESERVED, Shedding
from fastrpc.session.side import Side
from fastrpc.wire import Kind, StatusCode

if TYPE_CHECKING:
    from fastrpc.session.session import Session

_LARGE = 4096  # bytes of arguments that cost more to decode than to hand up
_NO_STREAM = "is no stream: use client.call"
_A_STREAM = "is a stream: use client.stream"
_OTHERS = 5  # versions and groups that are listed
_EAGER = sys.version_info >= (3, 12)


@final
class Answerer:
    """Run handlers beside the lane, within the server's limits.

    Args:
        side: The server's share of every session.
        max_running: Most handlers of all connections together.
        handler_timeout: Seconds a handler may take, 0 for no limit.
        handling: How handlers are run.
        tracebacks: Send remote tracebacks to callers.
        is_first: Says of which methods some calls may run over *max_running*.
        shedding: Refuses what is too much although the limits would let it in.

    Attributes:
        replies: Writes what the lane does not.
    """

    def __init__(
        self,
        side: Side,
        *,
        max_running: int,
        handler_timeout: float,
        handling: Handling,
        tracebacks: bool,
        is_first: Callable[[Method], bool] = lambda method: False,
        shedding: Shedding | None = None,
    ) -> None:
        """Run nothing yet."""
        self._is_first = is_first
        self._shedding = shedding
        self._side = side
        self._max_running = max_running
        self._handler_timeout = handler_timeout
        self._handling = handling
        self._steps = FirstSteps(side.share.loop)
        self._all: set[Running] = set()
        self._is_closed = False
        self.replies = Replies(tracebacks=tracebacks)

    @property
    def running(self) -> int:
        """Handlers in flight, all connections together."""
        return len(self._all)

    @property
    def refused(self) -> int:
        """Calls that were answered without a handler."""
        shed = self._shedding.shed if self._shedding is not None else 0
        return self.replies.refused + shed

    @property
    def in_flight(self) -> "list[Running]":
        """The calls whose handlers have not ended, those included that nobody waits for."""
        return list(self._all)

    @property
    def tasks(self) -> "set[asyncio.Task[None]]":
        """The tasks of the handlers in flight."""
        return {running.task for running in self._all if running.task is not None}

    @property
    def unwatched(self) -> "set[asyncio.Task[None]]":
        """The tasks of those that a shield keeps running although their caller gave up."""
        return {
            running.task
            for running in self._all
            if running.is_shielded and running.fate is not Fate.OWED and running.task is not None
        }

    def close(self) -> "set[asyncio.Task[None]]":
        """Let go of handlers that would not end, and of the threads; return what was cancelled."""
        self._is_closed = True  # the places of threads are given up
        for running in list(self._all):
            if running.task is not None and not running.task.cancel():
                self._all.discard(running)
        self._handling.close()
        return self.tasks | self._steps.close()

    # What the lane and the session hand over

    def slowly(self, session: "Session", frame: Frame) -> None:
        """Answer a request that is no plain call."""
        method = self._method_of(session, frame)
        lane = session.lane
        is_late = lane.refusals is not None and not frame.oversize
        if is_late and method is not None and method.is_sheddable:
            lane.shed_call(frame.id, frame.oneway, method)
            return
        name = _name_of(frame, method)
        limits = session.side.limits
        if frame.oversize:
            called = name if method is not None else f"call {frame.id}"  # its name was skipped
            text = f"{called}: arguments of {frame.oversize} bytes"
            text += f" are over max_body of {limits.max_body}"
            self.replies.refuse(session, frame, StatusCode.TOO_LARGE, text, method=method)
        elif session.is_draining:
            text = "the server is shutting down"
            self.replies.refuse(session, frame, StatusCode.UNAVAILABLE, text, method=method)
        elif len(frame.name) > limits.max_name:
            text = f"a method name of {len(frame.name)} bytes is over max_name of {limits.max_name}"
            self.replies.refuse(session, frame, StatusCode.NOT_FOUND, text)
        elif method is None:
            text = f"there is no {name}{_others(session, frame.name)}"
            self.replies.refuse(session, frame, StatusCode.NOT_FOUND, text)
        else:
            try:
                decode_metadata(frame.metadata, limits)
            except FastRPCError as exc:
                self.replies.refuse(session, frame, exc.status, f"{name}: {exc}", method=method)
            else:
                self.bind(session, method, frame, None)

    def bind(self, session: "Session", method: Method, frame: Frame, exc: Exception | None) -> None:
        """Run a call whose arguments are no plain array, or say why they don't fit."""
        if not self._may_decode(session, method, frame):
            return
        try:
            args, kwargs = arguments.read(session, method.info, frame)
        except FastRPCError as error:
            text = failure.text_of(error)
            self.replies.refuse(session, frame, error.status, text, method=method)
        else:
            self.start(session, method, frame, args, kwargs)

    def start(
        self,
        session: "Session",
        method: Method,
        frame: Frame,
        args: Sequence[Any],
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        """Run a handler that the lane may not run: at once, or as a task."""
        if self._handling.is_immediate(method):
            self._run_now(session, method, frame, args, kwargs or {})
            return
        if not self._has_place(session, method):
            self._overloaded(session, method, frame)
            return
        if method.through is None and self._handling.may_be_over(method):
            # From the next call on; this one has come by another way.
            most = self._max_running, session.side.limits.max_calls
            crowd: Collection[Running] = self._all
            if self._shedding is not None:
                crowd = self._shedding.crowd(method, self._all)
            method.through = self._handling.through(
                method,
                self._steps,
                self._side.share.clock,
                crowd,
                most,
                self._limit,
                bool(self._handler_timeout),
            )
        running = self._note(session, method, frame, method.calls)
        if frame.kind == Kind.OPEN:  # at once: items may come right behind
            self._handling.open(session, running)
        method.calls += 1
        coroutine = self._run(session, running, args, kwargs or {})
        loop = session.lane.share.loop
        if _EAGER:
            task = asyncio.Task(coroutine, loop=loop, eager_start=True)  # type: ignore[call-arg]
        else:
            task = loop.create_task(coroutine)
        if frame.id in session.running:  # else it has ended in its first step
            running.task = task
            if running.deadline:
                session.expect(running.deadline)

    def _note(self, session: "Session", method: Method, frame: Frame, before: int) -> Running:
        """Note that a call runs, and holds its place in the limits.

        Args:
            session: The connection.
            method: What is called.
            frame: The request.
            before: How many calls of the method came before this one.
        """
        now = session.lane.share.clock()
        running = Running(method, frame, now, self._limit(frame.time))
        running.is_timed = is_timed(method, before)
        session.running[frame.id] = running
        self._all.add(running)
        if self._shedding is not None:
            self._shedding.began(method)
        return running

    def _limit(self, millis: int) -> float:
        """Return when a call that has so much time has to be answered, 0 for never."""
        if not (millis or self._handler_timeout):
            return 0.0
        now = self._side.share.clock()
        least = min(filter(None, (millis / 1000.0, self._handler_timeout)))
        return now + least

    def waits(
        self, session: "Session", method: Method, frame: Frame, args: Sequence[Any], rest: Any
    ) -> None:
        """Go on with a call from where `Through` left it."""
        if rest is None:
            method.calls -= 1
            self.start(session, method, frame, args)
            return
        if isinstance(rest, BaseException):
            method.errors += 1
            self.replies.raised(session, method, frame, rest, was_called=False)
            return
        running = self._note(session, method, frame, method.calls - 1)
        running.begun = True
        self._handling.go_on(session, running, rest.call)
        running.task = rest.go_on(self._finish(session, running, rest))
        if running.deadline:
            session.expect(running.deadline)

    # What is refused without a look at the arguments

    def _may_decode(self, session: "Session", method: Method, frame: Frame) -> bool:
        """Refuse a call whatever its arguments are; True if it is not."""
        number = frame.serializer
        if (frame.kind == Kind.OPEN) is not (method.info.info.mode is Mode.STREAM):
            what = _NO_STREAM if frame.kind == Kind.OPEN else _A_STREAM
            text = f"{method.name.decode()} {what}"
            self.replies.refuse(session, frame, StatusCode.BAD_REQUEST, text, method=method)
            return False
        if number not in session.serializers or number not in session.side.by_number:
            text = f"{method.name.decode()}: serializer {number} was not agreed on"
            self.replies.refuse(session, frame, StatusCode.UNSUPPORTED, text, method=method)
            return False
        if not self._handling.is_immediate(method) and not self._has_place(session, method):
            self._overloaded(session, method, frame)
            return False
        session.detour(False)
        return True

    def _has_place(self, session: "Session", method: Method) -> bool:
        """Say whether one more handler of this connection may run."""
        if len(session.running) >= session.side.limits.max_calls:
            return False
        over = len(self._all) - self._max_running
        if over >= 0:
            return over < RESERVED and self._is_first(method)
        return self._shedding is None or self._shedding.has_room(method)

    def _overloaded(self, session: "Session", method: Method, frame: Frame) -> None:
        """Refuse a call that there is no place for."""
        limit = session.side.limits.max_calls
        retry = None
        if len(session.running) >= limit:
            text = f"more than {limit} calls of this connection (max_calls)"
        elif self._shedding is not None and len(self._all) < self._max_running:
            most, retry = self._shedding.limit_of(method), self._shedding.pushback()
            text = f"{method.name.decode()}: more than {most} calls in flight (adaptive_limit)"
        else:
            text = f"more than {self._max_running} calls in flight on this server (max_running)"
        # More of the kind may follow: until a call is taken the lane decodes none.
        session.detour(len(frame.payload) >= _LARGE)
        self.replies.refuse(session, frame, StatusCode.OVERLOADED, text, retry, method)

    # How handlers run

    def _run_now(
        self,
        session: "Session",
        method: Method,
        frame: Frame,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> None:
        clock = session.lane.share.clock
        begun = clock() if is_timed(method, method.calls) else None
        method.calls += 1
        try:
            try:
                reply = self._handling.run_now(session, method, frame, args, kwargs)
            finally:
                if begun is not None:
                    method.note(clock() - begun)
        except BaseException as exc:
            method.errors += 1
            self.replies.raised(session, method, frame, exc)
            return
        self.replies.result(session, method, frame, reply, 0)

    async def _run(
        self,
        session: "Session",
        running: Running,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> None:
        running.begun = True
        if running.fate is not Fate.OWED:  # given up before its turn came
            self._in_vain(session, running)
            self._ended(session, running)
        elif running.deadline and session.lane.share.clock() >= running.deadline:
            running.fate = Fate.SENT
            self._in_vain(session, running)
            self.replies.expired(session, running.method, running.frame)
            self._ended(session, running)
        else:
            handling = self._handling.run(session, running, args, kwargs)
            await self._finish(session, running, handling)

    async def _finish(
        self, session: "Session", running: Running, handling: Awaitable[Reply]
    ) -> None:
        """Wait for the handler, and answer."""
        spent = 0.0
        try:
            try:
                reply = await handling
            finally:
                spent = session.lane.share.clock() - running.started
                if running.is_timed:
                    running.method.note(spent)
            if self._shedding is not None:
                self._shedding.took(running.method, spent, running.fate is Fate.OWED)
            while session.is_full and running.fate is Fate.OWED:
                await session.until_read()
        except BaseException as exc:
            self._failed(session, running, exc)
        else:
            if running.fate is Fate.OWED:
                running.fate = Fate.SENT
                micros = max(int(spent * 1e6), 1)
                self.replies.result(session, running.method, running.frame, reply, micros)
        finally:
            busy = [thread for thread in running.threads if not thread.done()]
            if not busy or self._is_closed:
                self._ended(session, running)
            else:  # nobody waits for them any more, but the call keeps its place
                last = asyncio.gather(*busy, return_exceptions=True)
                last.add_done_callback(lambda _: self._ended(session, running))

    def _in_vain(self, session: "Session", running: Running) -> None:
        """Note how long a call had its place that nobody waits for any more."""
        if self._shedding is not None:
            spent = session.lane.share.clock() - running.started
            self._shedding.took(running.method, spent, well=False)

    def _ended(self, session: "Session", running: Running) -> None:
        """Note that a handler has ended."""
        self._all.discard(running)
        if self._shedding is not None:
            self._shedding.ended(running.method)
        if running.fate is Fate.UNWANTED:
            running.method.info.failed(StatusCode.CANCELLED)
        if running.frame.kind == Kind.OPEN:
            self._handling.end(session, running)
        session.finished(running.frame.id)

    def _failed(self, session: "Session", running: Running, exc: BaseException) -> None:
        method, frame = running.method, running.frame
        if running.fate is not Fate.OWED:
            self._in_vain(session, running)
        if running.fate is Fate.OWED:
            running.fate = Fate.SENT
            method.errors += 1
            spent = session.lane.share.clock() - running.started
            self.replies.raised(session, method, frame, exc, running.is_called, spent)
        elif issubclass(type(exc), Exception):
            what = f"{method.name.decode()} raised after it was given up"
            where = f"call {session.call_id(frame.id)} of {what}"
            about = f"{what}: {failure.type_of(exc)}"
            session.side.complain(logging.WARNING, session.peer, where, exc, about)
        elif issubclass(type(exc), KeyboardInterrupt):
            raise exc

    def expire(self, session: "Session", now: float) -> float:
        """Tell off the handlers whose time is up; return the next deadline, 0 if none."""
        soonest = 0.0
        for running in list(session.running.values()):
            if not running.deadline or running.fate is not Fate.OWED:
                continue
            if running.deadline <= now:
                running.settle(Fate.SENT)
                running.method.errors += 1
                spent = now - running.started
                text = f"{running.method.name.decode()}: stopped after {spent * 1e3:.0f} ms"
                body = {"type": "DeadlineExceeded", "message": text}
                micros = max(int(spent * 1e6), 1)
                self.replies.send(
                    session, running.frame, StatusCode.DEADLINE, body, time=micros,
                    method=running.method,
                )  # fmt: skip
            elif not soonest or running.deadline < soonest:
                soonest = running.deadline
        return soonest

    def stop(self, session: "Session", why: str) -> None:
        """Stop all calls of a connection on the server's own account; tell their callers."""
        for id in list(session.running):
            self.stop_call(session, id, why)

    def stop_call(self, session: "Session", id: int, why: str) -> bool:
        """Stop one call, whatever shields it, and tell its caller; False if it has ended."""
        running = session.running.get(id)
        if running is None or not running.settle(Fate.SENT, by_server=True):
            return False
        body = {"type": "Cancelled", "message": f"{running.method.name.decode()}: {why}"}
        self.replies.send(session, running.frame, StatusCode.CANCELLED, body, method=running.method)
        return True

    def give_up(self, session: "Session", id: int) -> None:
        """Stop a call that its caller cancelled; an unknown id is fine."""
        running = session.running.get(id)
        if running is not None:
            running.settle(Fate.UNWANTED)

    # Where a call goes

    def _method_of(self, session: "Session", frame: Frame) -> Method | None:
        if frame.name:
            router = session.side.router
            return router.get(frame.name) if router is not None else None
        return session.lane.bound_method(frame.arg)


def _others(session: "Session", name: bytes) -> str:
    """Return under which other versions and groups a method is there, if it is."""
    start = name.partition(b"@")[0] + b"@"
    known = [key.decode() for key in session.side.router or () if key.startswith(start)]
    return f"; there is {', '.join(sorted(known)[:_OTHERS])}" if known else ""


def _name_of(frame: Frame, method: Method | None) -> str:
    """Return what a refusal calls the method."""
    if method is not None:
        return method.name.decode()
    if frame.name:
        return f"method {failure.clipped(frame.name[:255].decode('utf-8', 'replace'))!r}"
    return f"method number {frame.arg}"
