"""Call through an origin with certain options: the face of clients and peers.

Rules of the room:
  * without interceptors `call` is the lane's own method: no Python frame;
  * with them a call runs where it is awaited, or else as a task from the loop's next
    turn on: so an interceptor always runs in a task.
"""

import asyncio
import functools
import time
from collections.abc import Awaitable, Coroutine, Generator, Iterable, Mapping
from enum import Enum
from typing import Any, Final, TypeVar, cast, final

from fastrpc.call import Call, Mode, Pairs, Reply, encode_metadata
from fastrpc.call.deadline import DEADLINE, LEAST, within
from fastrpc.errors import ConfigError
from fastrpc.frame import BoundCall, Caller, Waiter
from fastrpc.session.origin import Decode, Origin
from fastrpc.session.stream import Opening, Stream
from fastrpc.session.stub import Bound, make_stub, split_source

T = TypeVar("T")

TIMEOUT_MAX: Final = 2**32 / 1000

#: Oneway calls leave together until they are this many bytes.
NOTIFY_BATCH: Final = 64 * 2**10


class Keep(Enum):
    """What a view's option is when it is not to change."""

    KEEP = "keep"


KEEP: Final = Keep.KEEP


def check_timeout(timeout: object, name: str = "timeout", *, optional: bool = True) -> float:
    """Return a timeout as the lane wants it: 0 for none.

    Raises:
        ConfigError: It is not above 0.
    """
    if timeout is None and optional:
        return 0.0
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise ConfigError(f"{name} must be seconds{' or None' * optional}, got {timeout!r}")
    if not 0 < timeout < TIMEOUT_MAX:
        raise ConfigError(f"{name} must be above 0 and below {TIMEOUT_MAX:.0f}, got {timeout!r}")
    return float(timeout)


class View:
    """Something to call, with certain options. Made by `options`.

    Args:
        origin: What calls go out through.
        timeout: Seconds each call may take, 0 for no deadline.
        metadata: Packed metadata sent with each call.
    """

    def __init__(self, origin: Origin, timeout: float, metadata: bytes) -> None:
        self._origin = origin
        slow = functools.partial(origin.start_waiting, timeout, metadata)
        self._caller = Caller(origin.lanes, slow, timeout, metadata, DEADLINE)
        # The lane's own method stands in for `call` below: same signature, no frame.
        way = self._caller.call if origin.chain is None else self._call_through
        self.__dict__["call"] = way

    def call(self, method: str, /, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """Start a call and return its awaitable; several may be started at once.

        What is wrong with the call itself is raised here and now if it can be sent
        at once, else by the awaitable, which raises all the rest.

        Args:
            method: Full name, such as "Arith.add".
            *args: Positional arguments.
            **kwargs: Arguments by name.

        Raises:
            CodecError: The arguments can't be encoded.
            TooLarge: They are larger than the other side accepts.
            ConfigError: This is not the client's event loop.
            CallError: From the awaitable: any of its kinds.
            TransportError: From the awaitable: there is no connection, or it
                broke; see `ran`.
        """
        return cast("Awaitable[Any]", self._caller.call(method, *args, **kwargs))

    async def exchange(self, method: str, /, *args: Any, **kwargs: Any) -> Reply:
        """Call *method* and return the whole reply: its value and its metadata.

        Raises:
            Exception: As `call` does.
        """
        call = self._new_call(method, args, kwargs, None)
        if self._origin.chain is not None:
            return await self._origin.chain(call)
        return await self._send(None, call)

    async def gather(self, calls: Iterable[tuple[Any, ...]]) -> list[Any]:
        """Make many calls that leave together; return their results, in order.

        A call that fails does not disturb the others: its exception stands in the
        place of its result.

        Args:
            calls: For each call its method and arguments: `("Arith.add", 1, 2)`.
        """
        waiting: list[Awaitable[Any]] = []
        lanes = list(self._origin.lanes)
        for lane in lanes:
            lane.corked = True  # else the first would leave alone
        try:
            for method, *args in calls:
                try:
                    waiting.append(self.call(method, *args))
                except Exception as exc:
                    waiting.append(_failed(exc))
        finally:
            for lane in lanes:
                lane.corked = False
        return await asyncio.gather(*waiting, return_exceptions=True)

    def notify(self, method: str, /, *args: Any, **kwargs: Any) -> None:
        """Send a oneway call: no reply, not even an error. Interceptors don't see it.

        Raises:
            Unavailable: There is no connection now, or the other side reads too
                slowly; nothing was sent.
            CodecError: The arguments can't be encoded.
            TooLarge: They are larger than the other side accepts.
            ConfigError: This is not the client's event loop.
        """
        lane = self._origin.lane_at_once(method)
        lane.notify(method, args, kwargs, self._caller.metadata)
        if lane.unsent > NOTIFY_BATCH:
            lane.flush()

    def stream(self, method: str, /, *args: Any, **kwargs: Any) -> Stream[Any]:
        """Return a stream, which opens when it is first used.

        Args:
            method: Full name, such as "Arith.count".
            *args: Positional arguments, without the stream of items.
            **kwargs: Arguments by name.
        """
        return self._open(Opening(method=method, args=args, kwargs=kwargs))

    def stub(
        self, service: type[T], name: str | None = None, *, version: str = "", group: str = ""
    ) -> T:
        """Return an object with the methods of *service*, each calling the other side.

        Args:
            service: The class that the server registered, or one like it.
            name: Service name if it is not the class's own.
            version: Which version of the service to call; "" for the default.
            group: Which group of it; "" for the default.

        Raises:
            ConfigError: The class can't be a service; the message says why.
        """
        codec = self._origin.codec
        stub = make_stub(service, name, self._bound, codec, version=version, group=group)
        return cast("T", stub)

    def options(
        self, *, timeout: float | Keep | None = KEEP, metadata: Pairs | Keep | None = KEEP
    ) -> "View":
        """Return a view with other options; this one stays as it is.

        Args:
            timeout: Seconds each call may take, None for no deadline.
            metadata: Sent with each call, None for nothing.

        Raises:
            ConfigError: The timeout is not above 0.
            InvalidArgument: The metadata can't be sent.
        """
        mine, packed = self._caller, self._caller.metadata
        seconds = mine.timeout if isinstance(timeout, Keep) else check_timeout(timeout)
        if not isinstance(metadata, Keep):
            packed = encode_metadata(metadata, self._origin.limits) if metadata else b""
        return View(self._origin, seconds, packed)

    # Inside

    def _bound(self, bound: Bound) -> Any:
        """Return the callable of a stub's method."""
        if bound.info.mode is Mode.STREAM:
            return functools.partial(_call_stream, self, bound)
        if self._origin.chain is not None:
            return functools.partial(self._call_bound, bound)
        return BoundCall(self._caller, bound.key, bound.decode)

    def _open(self, opening: Opening) -> Stream[Any]:
        return Stream(self._origin, opening, self._caller.timeout, self._caller.metadata)

    def _call_through(self, method: str, /, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        return Intercepted(self._value_of(self._new_call(method, args, kwargs, None)))

    def _call_bound(self, bound: Bound, /, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        call = self._new_call(bound.key, args, kwargs, bound.decode)
        return Intercepted(self._value_of(call))

    async def _value_of(self, call: Call) -> Any:
        assert self._origin.chain is not None
        return (await self._origin.chain(call)).value

    def _new_call(
        self, method: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], decode: Decode | None
    ) -> Call:
        now = time.monotonic()
        timeout = within(self._caller.timeout, now)
        deadline = now + timeout if timeout else 0.0
        call = Call(method, args, kwargs, metadata=self._caller.metadata, deadline=deadline)
        call.sender = functools.partial(self._send, decode)
        return call

    async def _send(self, decode: Decode | None, call: Call) -> Reply:
        """Send a call and wait for the whole of its reply."""
        origin = self._origin
        timeout = max(call.left(time.monotonic()), LEAST) if call.deadline else 0.0
        session = origin.session_at_once()
        if session is None:
            session, timeout = await origin.session_for(call.method, timeout)
        lane = session.lane
        reply: asyncio.Future[Reply] = lane.share.create_future()
        metadata = call.packed(origin.limits)
        args = tuple(call.args)
        lane.start(call.method, args, call.kwargs, timeout, metadata, decode, ReplyWaiter(reply), 0)
        return await reply


async def _call_stream_for_value(stream: Stream[Any]) -> Any:
    async with stream:
        return await stream.result()


def _call_stream(view: View, bound: Bound, /, *args: Any, **kwargs: Any) -> Any:
    """Open a stub's stream: one that gives items, or a task that waits for the value."""
    info = bound.info
    source = None
    if info.takes is not None:
        args, kwargs, source = split_source(info, args, kwargs)
    opening = Opening(
        method=bound.key, args=args, kwargs=kwargs, item=info.item, value=bound.decode,
        source=source,
    )  # fmt: skip
    stream = view._open(opening)
    if info.item is not None:
        return stream
    return asyncio.ensure_future(_call_stream_for_value(stream))


@final
class ReplyWaiter:
    """What the call table has in a future's place, for who wants the whole reply."""

    __slots__ = ("future", "trailers")

    def __init__(self, future: "asyncio.Future[Reply] | Waiter") -> None:
        self.future = future
        self.trailers = b""

    def done(self) -> bool:
        """Return whether there is an outcome, or nobody waits for it."""
        return self.future.done()

    def set_result(self, value: Any) -> None:
        """End with a value."""
        self.future.set_result(Reply(value, metadata=self.trailers))

    def set_exception(self, error: BaseException) -> None:
        """End with an error."""
        self.future.set_exception(error)


@final
class Intercepted(Awaitable[Any]):
    """A call with interceptors: it runs where it is awaited, or else in a task.

    The task begins with the loop's next turn, so that a call which nobody awaits yet is
    under way all the same.
    """

    __slots__ = ("_coroutine", "_task")

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine: Coroutine[Any, Any, Any] | None = coroutine
        self._task: asyncio.Task[Any] | None = None
        try:
            asyncio.get_running_loop().call_soon(self._begin)
        except RuntimeError:
            coroutine.close()
            raise ConfigError("no event loop runs here: use connect_sync without one") from None

    def __await__(self) -> Generator[Any, Any, Any]:
        """Run the call here, or wait for its task."""
        coroutine, self._coroutine = self._coroutine, None
        if coroutine is not None:
            return coroutine.__await__()
        if self._task is None:
            raise RuntimeError("a call with interceptors can be awaited once")
        return self._task.__await__()

    def _begin(self) -> None:
        coroutine, self._coroutine = self._coroutine, None
        if coroutine is not None:
            self._task = asyncio.ensure_future(coroutine)


async def _failed(error: Exception) -> Any:
    """Be a call that could not even be sent."""
    raise error
