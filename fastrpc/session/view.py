"""Call through an origin with certain options: the face of clients and peers.

Rules of the room:
  * without interceptors `call` is the lane's own method: no Python frame;
  * with them a call runs where it is awaited, or else as a task from the loop's next
    turn on: so an interceptor always runs in a task.
"""

import asyncio
import functools
import time
from collections.abc import Awaitable, Iterable, Mapping
from enum import Enum
from typing import Any, Final, TypeVar, cast

from fastrpc.call import Call, Mode, Pairs, Reply, checked, encode_metadata
from fastrpc.call.deadline import DEADLINE, within
from fastrpc.errors import ConfigError, InvalidArgument
from fastrpc.frame import BoundCall, Caller, ChainCaller, Sender, Sent
from fastrpc.session.origin import Decode, Origin, in_time, time_left
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
        self._caller = self._caller_for(timeout, metadata)
        self._sender = self._sender_for(None)
        self._chained: ChainCaller | None = None
        # The lane's own method stands in for `call` below: same signature, no frame.
        self.__dict__["call"] = self._caller.call
        if origin.chain is not None:
            self._chained = ChainCaller(
                origin.chain, self._sender, Call, timeout, metadata, DEADLINE, time.monotonic
            )
            self.__dict__["call"] = self._chained.call

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
        timeout, chain = within(self._caller.timeout, now := time.monotonic()), self._origin.chain
        deadline = now + timeout if timeout else 0.0
        call = Call(method, args, kwargs, self._caller.metadata, deadline)
        call.sender = self._sender
        return checked(await (self._sender(call) if chain is None else chain(call)), method)

    async def gather(self, calls: Iterable[tuple[Any, ...]]) -> list[Any]:
        """Make many calls that leave together; return their results, in order.

        A call that fails does not disturb the others: its exception stands in the
        place of its result.

        Args:
            calls: For each call its method and arguments: `("Arith.add", 1, 2)`.

        Raises:
            InvalidArgument: One of them is something else; none is made.
        """
        wanted = split_calls(calls)
        waiting: list[Awaitable[Any]] = []
        lanes = list(self._origin.lanes)
        for lane in lanes:
            lane.corked = True  # else the first would leave alone
        try:
            for method, args in wanted:
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
        lane = self._origin_for(method, args, kwargs).lane_at_once(method)
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
        self,
        *,
        timeout: float | Keep | None = KEEP,
        metadata: Pairs | Keep | None = KEEP,
        key: object = KEEP,
        idempotent: bool | Keep | None = KEEP,
    ) -> "View":
        """Return a view with other options; this one stays as it is.

        Args:
            timeout: Seconds each call may take, None for no deadline.
            metadata: Sent with each call, None for nothing.
            key: What consistent hashing goes by. Of one server it means nothing.
            idempotent: Whether calls may be sent again when nobody knows whether they ran;
                None for what the methods say. Of one server it means nothing: nothing is
                sent again there.

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

    def _caller_for(self, timeout: float, metadata: bytes) -> Any:
        """Return what puts plain calls into a lane."""
        slow = functools.partial(self._origin.start_waiting, timeout, metadata)
        return Caller(self._origin.lanes, slow, timeout, metadata, DEADLINE)

    def _bound_plainly(self, bound: Bound) -> Any:
        """Return the callable of a stub's plain method, without interceptors."""
        return BoundCall(self._caller, bound.key, bound.decode)

    def _bound(self, bound: Bound) -> Any:
        """Return the callable of a stub's method."""
        if bound.info.mode is Mode.STREAM:
            call = functools.partial(_call_stream, self, bound)
        elif self._chained is not None:
            call = functools.partial(self._chained.send, self._sender_for(bound.decode), bound.key)
        else:
            return self._bound_plainly(bound)
        vars(call)["bound"] = bound  # for who is given the method, and wants to know which it is
        return call

    def _open(self, opening: Opening) -> Stream[Any]:
        origin = self._origin_for(opening.method, opening.args, opening.kwargs)
        return Stream(origin, opening, self._caller.timeout, self._caller.metadata)

    def _origin_for(self, method: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Origin:
        """Return what a stream or a oneway call goes out through."""
        return self._origin

    def _sender_for(self, decode: Decode | None) -> Sender:
        """Return the innermost handler of calls whose results go through *decode*.

        It doesn't know this view, which shall be gone when nobody has it any more.
        """
        origin = self._origin
        limits = origin.limits
        return Sender(
            origin.lanes,
            functools.partial(_send_late, origin),
            decode,
            lambda call: call.packed(limits),
            Reply,
            time.monotonic,
        )


def split_calls(calls: Iterable[tuple[Any, ...]]) -> list[tuple[str, tuple[Any, ...]]]:
    """Return method and arguments of each of *calls*.

    Raises:
        InvalidArgument: One is no tuple with a method's name in front.
    """
    wanted = []
    for number, call in enumerate(calls, 1):
        known: object = call  # what people give in spite of the annotation
        if not isinstance(known, tuple | list) or not known:
            given = type(call).__name__
            wants = "a tuple such as ('Arith.add', 1, 2)"
            raise InvalidArgument(f"gather: call {number}: expected {wants}, got {given}")
        wanted.append((call[0], tuple(call[1:])))
    return wanted


async def _send_late(origin: Origin, call: Call, decode: Decode | None) -> Reply:
    """Send a call once there is a connection that takes it."""
    session, left, late = await origin.session_for(call.method, time_left(call))
    lane = session.lane
    sent = Sent(lane.share.create_future(), Reply)
    try:
        metadata, args = call.packed(origin.limits), tuple(call.args)
        lane.start(call.method, args, call.kwargs, left, metadata, decode, sent, 0)
    except BaseException:
        origin.unused()
        raise
    reply: Reply = await in_time(sent, call.deadline, late)
    return reply


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
        method=bound.key, args=args, kwargs=kwargs, value=bound.decode, source=source,
        item=Any if info.item is None else info.item,
    )  # fmt: skip
    stream = view._open(opening)
    if info.item is not None:
        return stream
    return asyncio.ensure_future(_call_stream_for_value(stream))


async def _failed(error: Exception) -> Any:
    """Be a call that could not even be sent."""
    raise error
