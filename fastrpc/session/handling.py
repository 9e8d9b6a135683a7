"""Run one handler: with what it asks for, behind the interceptors, item by item.

`answer` decides whether and when a call runs, and what becomes of its reply; here
is only how. Interceptors see a `Call` and give a `Reply`; where there are none,
and nothing asks for its call, neither is made.

Rules of the room:
  * a handler runs in a context of its own, which knows the call's deadline;
  * a generator is closed before its call is answered, whatever ended it and whatever
    interceptors made of its items;
  * an interceptor may shorten the deadline of a call, and nobody may put it off; what the
    handler's own calls keep to is what interceptors leave there.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextvars import copy_context
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final, final

from fastrpc.call import (
    Call,
    Interceptor,
    MethodInfo,
    Mode,
    Peer,
    Reply,
    chain,
    checked,
    close_items,
    fill,
)
from fastrpc.call.deadline import DEADLINE
from fastrpc.errors import Internal, StreamEnded
from fastrpc.frame import AtOnce, Done, Frame, ItemReader, Method, Outlet, Through, begin, drive
from fastrpc.session.firststep import FirstSteps
from fastrpc.session.items import Items
from fastrpc.session.running import Fate, Running
from fastrpc.session.threads import Outcome, Threads
from fastrpc.wire import BIT_END

if TYPE_CHECKING:
    from fastrpc.session.session import Session


@final
class Handling:
    """How the handlers of one side are run.

    Args:
        threads: For handlers that block.
        interceptors: What stands before the handlers, outermost first.
    """

    def __init__(self, threads: Threads, interceptors: Sequence[Interceptor] = ()) -> None:
        self._threads = threads
        self._chain = chain(interceptors)

    def close(self) -> None:
        """Let go of the threads."""
        self._threads.close()

    def is_immediate(self, method: Method) -> bool:
        """Say whether a call of *method* is over when `run_now` returns."""
        return self._chain is None and method.info.info.mode in AT_ONCE

    def may_be_over(self, method: Method) -> bool:
        """Say whether a call of *method* may be over after the first step of `through`."""
        return self._chain is not None and method.info.info.mode in AT_ONCE

    def through(
        self,
        method: Method,
        steps: FirstSteps,
        clock: Callable[[], float],
        running: Collection[Running],
        most: tuple[int, int],
        limit: Callable[[int], float],
        has_limit: bool,
    ) -> Through:
        """Return what runs such a method as far as it goes; see `Through` for the arguments."""
        assert self._chain is not None
        info: MethodInfo = method.info.info
        sender: Callable[[Call], Any] = AtOnce(
            method.handler, info.mode is Mode.INLINE, Reply, DEADLINE, clock
        )
        if info.filled:
            sender = partial(_run_at_once, method, clock)
        return Through(
            info.name, self._chain, sender, Call, steps, running, *most, limit, has_limit, DEADLINE
        )

    def run_now(
        self,
        session: "Session",
        method: Method,
        frame: Frame,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Reply:
        """Run a handler that does not wait."""
        info: MethodInfo = method.info.info
        call = None
        if info.filled:
            deadline = session.lane.share.clock() + frame.time / 1000.0 if frame.time else 0.0
            call = call_of(session, method, frame, args, kwargs, deadline)
            args, kwargs = fill(info, args, kwargs, _values(info, call))
        value = _value_at_once(method, args, kwargs)
        return Reply(value, metadata=b"" if call is None else call.reply_metadata)

    async def run(
        self, session: "Session", running: Running, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Reply:
        """Run any handler, in a task of its own; the items of a stream are sent here."""
        method, frame = running.method, running.frame
        info: MethodInfo = method.info.info
        if running.deadline or DEADLINE.get():  # one of whoever made the connection is not ours
            DEADLINE.set(running.deadline)
        if not (self._chain or info.filled or info.mode is Mode.STREAM):
            if info.mode is Mode.TASK:  # the most frequent: no coroutine more than it needs
                return Reply(await method.handler(*args, **kwargs))
            return Reply(await self._value(running, method.handler, info.mode, args, kwargs))
        items = ItemReader(running.inlet) if running.inlet is not None else None
        call = call_of(session, method, frame, args, kwargs, running.deadline, items)
        try:
            if self._chain is None:
                reply = await self._handle(session, running, call)
            else:
                running.call = call
                call.sender = partial(self._handle, session, running)
                reply = checked(await self._chain(call), info.name)
            if reply.items is not None:
                await self._send_items(session, running, reply.items)
                if call.reply_metadata and not reply.metadata:  # set by a generator, so not before
                    reply.metadata = call.reply_metadata
        finally:
            if running.given is not None:  # an interceptor may have wrapped it, or lost it
                await close_items(running.given)
        return reply

    def go_on(self, session: "Session", running: Running, call: Call) -> None:
        """Let a call that waits after its first step be as one that has a task from the start."""
        running.call = call
        call.sender = partial(self._handle, session, running)
        if call.is_called:
            _bring_nearer(session, running, call.deadline)

    def open(self, session: "Session", running: Running) -> None:
        """Make the halves of a stream that a handler will serve."""
        frame, info = running.frame, running.method.info.info
        if info.takes is not None:
            items = Items(session, info.name, False, info.takes.annotation)
            codec = session.side.by_number[frame.serializer]
            decode = running.method.info.item_decoder(codec)
            running.inlet = items.inlet(frame.id, frame.serializer, decode)
            if frame.bits & BIT_END:
                running.inlet.end(None)
        if info.item is not None:
            running.outlet = Outlet(
                session.lane, frame.id, False, session.peer_window, frame.serializer
            )
        session.streams.peers[frame.id] = running

    def end(self, session: "Session", running: Running) -> None:
        """Let go of the halves of a stream."""
        session.streams.peers.pop(running.frame.id, None)
        if running.inlet is not None:
            running.inlet.drop()
        if running.outlet is not None:
            running.outlet.close(StreamEnded("the handler has ended"))

    async def _handle(self, session: "Session", running: Running, call: Call) -> Reply:
        """Call the handler itself; more than once if an interceptor tries again."""
        method = running.method
        info: MethodInfo = method.info.info
        begin(call, DEADLINE, session.lane.share.clock)
        if call.deadline != running.deadline:
            _bring_nearer(session, running, call.deadline)
        if running.given is not None:
            await close_items(running.given)
        args, kwargs = call.args, call.kwargs
        if info.filled:
            args, kwargs = fill(info, args, kwargs, _values(info, call))
        value = await self._value(running, method.handler, info.mode, args, kwargs)
        if info.item is None:
            return Reply(value, metadata=call.reply_metadata)
        running.given = aiter(value)
        return Reply(items=running.given)  # its metadata is known when they have been sent

    async def _value(
        self,
        running: Running,
        handler: Callable[..., Any],
        mode: Mode,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Any:
        if mode is Mode.THREAD:
            work = partial(copy_context().run, _in_thread, running, handler, args, kwargs)
            thread = self._threads.run(work)
            running.threads += (thread,)
            # Who stops waiting, an interceptor with a timeout say, stops no thread.
            result, error = await asyncio.shield(thread)
            if error is not None:
                raise error
            return result
        result = handler(*args, **kwargs)
        if mode in (Mode.TASK, Mode.INLINE):
            return await result
        # A stream's handler may be a generator, or a coroutine that returns an iterator or a value.
        return await result if mode is Mode.STREAM and hasattr(result, "__await__") else result

    async def _send_items(
        self, session: "Session", running: Running, items: AsyncIterator[Any]
    ) -> None:
        try:
            if running.outlet is None:
                raise Internal(
                    f"{running.method.info.info.name}: items for a call without a stream"
                )
            await running.outlet.pump(items)
        finally:
            await close_items(items)


#: Modes of handlers that never wait.
AT_ONCE: Final = (Mode.SYNC, Mode.INLINE)


def _run_at_once(method: Method, clock: Callable[[], float], call: Call) -> Done:
    """Be the innermost handler of a method that does not wait, and asks for its call."""
    info: MethodInfo = method.info.info
    begin(call, DEADLINE, clock)
    args, kwargs = fill(info, call.args, call.kwargs, _values(info, call))
    return Done(Reply(_value_at_once(method, args, kwargs), call.reply_metadata))


def _value_at_once(method: Method, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    value = method.handler(*args, **kwargs)
    return drive(value) if method.info.info.mode is Mode.INLINE else value


def call_of(
    session: "Session",
    method: Method,
    frame: Frame,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    deadline: float,
    items: AsyncIterator[Any] | None = None,
) -> Call:
    """Return what a handler and its interceptors see of a call."""
    return Call(
        method.info.info.name,
        args,
        kwargs,
        frame.metadata,
        deadline,
        session,
        frame.id,
        frame.oneway,
        items,
    )


def _bring_nearer(session: "Session", running: Running, deadline: float) -> None:
    if deadline and not 0.0 < running.deadline <= deadline:
        running.deadline = deadline
        session.expect(deadline)


def _values(info: MethodInfo, call: Call) -> list[Any]:
    """Return what to fill in, in the order of `info.filled`."""
    given = {Call: call, Peer: call.peer}
    return [
        call.items if item.kind == "items" else given[item.annotation] for _, item in info.filled
    ]


def _in_thread(
    running: Running, handler: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Outcome:
    """Run a blocking handler; its exceptions travel as values.

    A StopIteration can't be raised into a future, and a SystemExit must end the
    call, not the thread.
    """
    if running.fate is not Fate.OWED:  # given up while it waited for a thread
        return None, None
    running.thread_id = get_ident()
    try:
        return handler(*args, **kwargs), None
    except BaseException as exc:
        return None, exc
    finally:
        running.thread_id = 0  # the thread has other work soon
