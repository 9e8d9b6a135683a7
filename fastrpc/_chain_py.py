"""Send and answer calls through interceptors: what stands around the user's own code.

An interceptor is a coroutine function of the user's; one that does nothing should cost
little more than itself. So what is made for each call is here: the call and its reply,
what is awaited in their turn, and the first step of a chain. `_chain.pyx` is the same
in Cython; this file is the plain one and the owner of the docstrings.

Rules of the room:
  * nothing here knows what an interceptor is for;
  * whoever awaits runs the chain; if nobody does, a task runs it from the loop's next
    turn on;
  * a change here without the same change in `_chain.pyx` does not merge.

Size: may grow to 540, for it mirrors `_chain.pyx` and carries the docstrings of both.
"""

import asyncio
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Awaitable, Callable, Collection, Generator, Mapping
from contextvars import Context, ContextVar, copy_context
from types import CoroutineType
from typing import Any, final

from fastrpc._caller_py import shorter
from fastrpc._lane_py import Lane, drive
from fastrpc.errors import DeadlineExceeded, Internal
from fastrpc.wire import FLAG_ONEWAY

__all__ = [
    "AtOnce",
    "CallFields",
    "ChainCaller",
    "Done",
    "Pending",
    "ReplyFields",
    "Sender",
    "Sent",
    "Through",
    "advance",
    "begin",
    "checked",
    "innermost",
]


class CallFields:
    """What `call.Call` keeps; see there for what it means."""

    __slots__ = (
        "args", "deadline", "is_called", "is_oneway", "items", "kwargs", "method", "number",
        "packed_metadata", "passed", "reply_metadata", "sender", "source",
    )  # fmt: skip

    def __init__(
        self,
        method: str,
        args: Any,
        kwargs: Any,
        metadata: Any = b"",
        deadline: float = 0.0,
        source: Any = None,
        number: int = 0,
        is_oneway: bool = False,
        items: Any = None,
    ) -> None:
        self.method = method
        self.args = args
        self.kwargs = kwargs
        self.packed_metadata = metadata
        self.deadline = deadline
        self.source = source
        self.number = number
        self.is_oneway = is_oneway
        self.items = items
        self.reply_metadata: Any = ()
        self.sender: Any = None
        self.passed: Any = None
        self.is_called = False


class ReplyFields:
    """What `call.Reply` keeps; see there for what it means."""

    __slots__ = ("items", "packed_metadata", "value")

    def __init__(self, value: Any = None, metadata: Any = b"", items: Any = None) -> None:
        self.value = value
        self.packed_metadata = metadata
        self.items = items


@final
class Done:
    """Awaited, it gives *value* at once."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __await__(self) -> Generator[Any, Any, Any]:
        """Return the value."""
        return self.value
        yield


def advance(coroutine: Any) -> tuple[bool, Any]:
    """Let *coroutine* take a step; return whether it has ended, and what came of it.

    That is its result, or what it waits for.
    """
    try:
        return False, coroutine.send(None)
    except StopIteration as stop:
        return True, stop.value


def innermost(call: CallFields) -> Any:
    """Be the innermost handler of every chain: what the call itself brings along.

    Raises:
        Internal: It brings nothing.
        TypeError: It is no call.
    """
    if not hasattr(call, "sender"):
        raise TypeError(f"Expected a Call, got {type(call).__name__}")
    if call.sender is None:
        raise Internal("an interceptor made a call of its own; change the one it is given")
    return call.sender(call)


def checked(reply: Any, name: str) -> Any:
    """Return what interceptors gave for a call of *name*, which must be a reply.

    Raises:
        Internal: It is something else.
    """
    if isinstance(reply, ReplyFields):
        return reply
    raise Internal(f"an interceptor of {name} gave {type(reply).__name__} for a Reply", method=name)


def begin(call: CallFields, inherited: ContextVar[float], clock: Callable[[], float]) -> None:
    """Note that the handler of *call* is called now, with the deadline that it has by now.

    Args:
        call: An interceptor may have changed its deadline.
        inherited: Context variable that the deadline goes to, for the handler's own calls.
        clock: Returns seconds, monotonic.

    Raises:
        DeadlineExceeded: It has passed.
    """
    if call.deadline and call.deadline <= clock():
        text = f"{call.method}: the deadline passed before the handler was called"
        error = DeadlineExceeded(text, ran="no", method=call.method)
        error.call_id = getattr(call, "id", "")  # this call's, and so no fault
        raise error
    if call.deadline != inherited.get():
        inherited.set(call.deadline)
    call.is_called = True


@final
class AtOnce:
    """The innermost handler of a method that does not wait.

    Args:
        handler: The user's callable.
        is_coroutine: Whether it gives a coroutine, one that never waits.
        make: Class of replies.
        inherited: Context variable that the call's deadline goes to: an interceptor may
            have changed it.
        clock: Returns seconds, monotonic.
    """

    __slots__ = ("_clock", "_handler", "_inherited", "_is_coroutine", "_make")

    def __init__(
        self,
        handler: Callable[..., Any],
        is_coroutine: bool,
        make: type,
        inherited: ContextVar[float],
        clock: Callable[[], float],
    ) -> None:
        self._handler = handler
        self._is_coroutine = is_coroutine
        self._make = make
        self._inherited = inherited
        self._clock = clock

    def __call__(self, call: CallFields) -> Done:
        """Run the handler and return what gives its reply."""
        begin(call, self._inherited, self._clock)
        value = self._handler(*call.args, **call.kwargs)
        if self._is_coroutine:
            value = drive(value)
        return Done(self._make(value, call.reply_metadata))


@final
class Through:
    """Run calls of one method through the interceptors as far as they go without waiting.

    A step runs in a context of its own, in the name of a task that has nothing to do.

    Args:
        name: Full method name.
        chain: The outermost handler.
        sender: The innermost, see `AtOnce`.
        make: Class of calls.
        steps: Has the idle task, `task()`, and takes over what waits, `keep(...)`; see
            `FirstSteps`.
        running: Handlers of all connections that have not ended.
        most: Most of them.
        most_here: Most of one connection.
        limit: `limit(time)` returns the deadline of a call with that much time, in ms.
        has_limit: Whether there is a deadline even for calls that say none.
        inherited: Context variable that the deadline goes to.
    """

    __slots__ = (
        "_chain", "_has_limit", "_inherited", "_limit", "_make", "_most", "_most_here", "_name",
        "_running", "_sender", "_steps",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        chain: Callable[[Any], Any],
        sender: Callable[[Any], Any],
        make: type,
        steps: Any,
        running: Collection[Any],
        most: int,
        most_here: int,
        limit: Callable[[int], float],
        has_limit: bool,
        inherited: ContextVar[float],
    ) -> None:
        self._name = name
        self._chain = chain
        self._sender = sender
        self._make = make
        self._steps = steps
        self._running = running
        self._most = most
        self._most_here = most_here
        self._limit = limit
        self._has_limit = has_limit
        self._inherited = inherited

    def __call__(
        self, owner: Any, flags: int, id: int, time: int, metadata: bytes, args: Any
    ) -> tuple[bool, Any]:
        """Run a call; return True and its reply, or False and what is left of it.

        Nothing is left where it has not begun: False and None, it may not run now.
        An exception is left where it was raised before the handler was called.

        Args:
            owner: The lane's.
            flags: Of the call's header.
            id: Its message id.
            time: Milliseconds left, 0 for no deadline.
            metadata: What came beside the arguments, packed.
            args: Positional arguments.
        """
        if len(self._running) >= self._most or len(owner.running) >= self._most_here:
            return False, None
        steps = self._steps
        task = steps.task()
        deadline = self._limit(time) if time or self._has_limit else 0.0
        oneway = bool(flags & FLAG_ONEWAY)
        call = self._make(self._name, args, {}, metadata, deadline, owner, id, oneway)
        call.sender = self._sender
        try:
            _enter_task(steps.loop, task)
        except RuntimeError:  # another one runs here
            return False, None
        try:
            context = copy_context()
            if deadline or self._inherited.get():  # one of whoever made the connection
                context.run(self._inherited.set, deadline)
            coroutine, (is_over, value) = context.run(_begin, self._chain, call)
            if is_over:
                return True, checked(value, self._name)
        except BaseException as exc:
            if call.is_called:
                raise
            return False, exc
        finally:
            _leave_task(steps.loop, task)
        return False, steps.keep(coroutine, value, context, call)


def _begin(chain: Callable[[Any], Any], call: CallFields) -> tuple[Any, tuple[bool, Any]]:
    coroutine = _coroutine_of(chain(call))
    return coroutine, advance(coroutine)


def _coroutine_of(awaitable: Any) -> Any:
    # An interceptor may leave its handler as it is, or call it from a plain function.
    return awaitable if isinstance(awaitable, CoroutineType) else _awaited(awaitable)


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


@final
class Sent:
    """A call that has left: the call table has it in a future's place, and it can be awaited.

    Args:
        future: Wakes who awaits.
        make: Class of replies.

    Attributes:
        trailers: Packed metadata that came with the reply.
    """

    __slots__ = ("_error", "_future", "_make", "_value", "trailers")

    def __init__(self, future: Any, make: type) -> None:
        self._future = future
        self._make = make
        self._value: Any = None
        self._error: BaseException | None = None
        self.trailers = b""

    def done(self) -> bool:
        """Return whether there is an outcome, or nobody waits for it any more."""
        return bool(self._future.done())

    def set_result(self, value: Any) -> None:
        """End with a value."""
        self._future.set_result(None)
        self._value = value

    def set_exception(self, error: BaseException) -> None:
        """End with an error."""
        self._future.set_result(None)
        self._error = error

    def __await__(self) -> Generator[Any, Any, Any]:
        """Wait for the outcome; give the reply, or raise the error."""
        yield from self._future.__await__()
        if self._error is None:
            return self._make(self._value, self.trailers)
        try:
            raise self._error
        finally:
            del self  # the error holds this frame


@final
class Sender:
    """The innermost handler of a calling side: puts a call into a lane.

    Args:
        lanes: The lanes that may take it; the list is kept by the client.
        slow: `slow(call, decode)` does it for calls that have to wait.
        decode: Decoder of the result, None for the connection's own.
        pack: `pack(call)` returns the metadata of a call as it is sent.
        make: Class of replies.
        clock: Returns seconds, monotonic.
    """

    __slots__ = ("_clock", "_decode", "_lanes", "_make", "_pack", "_slow", "_turn")

    def __init__(
        self,
        lanes: list[Lane],
        slow: Callable[[Any, Any], Awaitable[Any]],
        decode: Callable[[bytes], Any] | None,
        pack: Callable[[Any], bytes],
        make: type,
        clock: Callable[[], float],
    ) -> None:
        self._lanes = lanes
        self._slow = slow
        self._decode = decode
        self._pack = pack
        self._make = make
        self._clock = clock
        self._turn = 0

    def __call__(self, call: CallFields) -> Awaitable[Any]:
        """Send *call* and return what gives its reply."""
        count = len(self._lanes)
        if count:
            self._turn = (self._turn + 1) % count
            lane = self._lanes[self._turn]
            if lane.ready and not lane.crowded and len(lane.table) < lane.peer_calls:
                timeout = call.deadline - self._clock() if call.deadline else 0.0
                if call.deadline and timeout <= 0.0:
                    return self._slow(call, self._decode)
                metadata = call.packed_metadata
                if not isinstance(metadata, bytes):
                    metadata = self._pack(call)
                sent = Sent(lane.share.create_future(), self._make)
                args = call.args if isinstance(call.args, tuple) else tuple(call.args)
                lane.start(call.method, args, call.kwargs, timeout, metadata, self._decode, sent, 0)
                return sent
        return self._slow(call, self._decode)


@final
class Pending:
    """A call through interceptors: it runs where it is awaited, or else in a task.

    A task has the context that the call was made in, whoever begins it.

    Args:
        coroutine: The chain, not yet begun; it gives a reply.
        name: Full method name.
    """

    __slots__ = ("_begun", "_context", "_coroutine", "_name", "_task")

    def __init__(self, coroutine: Any, name: str) -> None:
        self._coroutine = coroutine
        self._name = name
        self._context: Context | None = copy_context()
        self._begun: Any = None
        self._task: Any = None

    def __await__(self) -> Generator[Any, Any, Any]:
        """Run the chain here, or wait for its task; give the reply's value."""
        coroutine, self._coroutine, self._context = self._coroutine, None, None
        if coroutine is not None:
            return _value_of(coroutine, self._name).__await__()
        if self._task is None:
            raise RuntimeError("a call with interceptors can be awaited once")
        return self._task.__await__()  # type: ignore[no-any-return]

    def begin(self) -> None:
        """Run in a task, unless somebody has begun to await."""
        if self._coroutine is not None:
            self._begun, context = _coroutine_of(self._coroutine), self._context
            self._coroutine = self._context = None
            waiting = _value_of(self._begun, self._name)
            self._task = asyncio.get_running_loop().create_task(waiting, context=context)
            self._task.add_done_callback(self._close)

    def _close(self, task: Any) -> None:
        # A task that was cancelled before its first step has not touched it.
        self._begun.close()
        self._begun = None


async def _value_of(coroutine: Any, name: str) -> Any:
    return checked(await coroutine, name).value


@final
class ChainCaller:
    """Start calls through interceptors.

    Args:
        chain: The outermost handler.
        sender: The innermost, for calls by name.
        make: Class of calls.
        timeout: Seconds each call may take, 0 for no deadline.
        metadata: Packed metadata sent with each call.
        inherited: Context variable with the deadline of the call in hand, 0 for none.
        clock: Returns seconds, monotonic.
    """

    __slots__ = (
        "_chain", "_clock", "_fresh", "_inherited", "_make", "_metadata", "_sender", "_timeout",
    )  # fmt: skip

    def __init__(
        self,
        chain: Callable[[Any], Any],
        sender: Sender,
        make: type,
        timeout: float,
        metadata: bytes,
        inherited: ContextVar[float],
        clock: Callable[[], float],
    ) -> None:
        self._chain = chain
        self._sender = sender
        self._make = make
        self._timeout = timeout
        self._metadata = metadata
        self._inherited = inherited
        self._clock = clock
        self._fresh: list[Pending] = []  # made in this turn of the loop

    def call(self, method: str, /, *args: Any, **kwargs: Any) -> Pending:
        """Start a call and return its awaitable."""
        return self._start(self._sender, method, args, kwargs)

    def send(self, sender: Sender, method: str, /, *args: Any, **kwargs: Any) -> Pending:
        """Start a call with an innermost handler of its own, such as one of a stub's method."""
        return self._start(sender, method, args, kwargs)

    def make(
        self, method: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], sender: Any
    ) -> CallFields:
        """Return a call with this caller's deadline and metadata."""
        timeout = shorter(self._timeout, self._inherited, self._clock)
        deadline = self._clock() + timeout if timeout else 0.0
        call: CallFields = self._make(method, args, kwargs, self._metadata, deadline)
        call.sender = sender
        return call

    def _start(
        self, sender: Sender, method: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Pending:
        if not isinstance(method, str):
            raise TypeError(f"Expected str, got {type(method).__name__}")
        if not self._fresh:
            asyncio.get_running_loop().call_soon(self._begin)
        pending = Pending(self._chain(self.make(method, args, kwargs, sender)), method)
        self._fresh.append(pending)
        return pending

    def _begin(self) -> None:
        fresh, self._fresh = self._fresh, []
        for pending in fresh:
            pending.begin()
