"""Open a stream, send and receive its items, end it early or late: the caller's side.

There are two objects. The user holds a `Stream`; when it is gone (a loop was left by
`break`, say) nobody can want the stream any more, and it is given up. The connection
holds a `StreamCore`, which knows how the stream stands and nothing of the user.

Rules of the room:
  * a stream opens when it is first used, with what that use says: who iterates at
    once sends no items;
  * items that came before the end are given out before it;
  * a stream that is given up is told to the server once, and then forgotten.
"""

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from threading import get_ident
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, final

from fastrpc.call import Call, Metadata, Reply, checked, close_items
from fastrpc.call.deadline import within
from fastrpc.errors import Cancelled, Internal, StreamEnded
from fastrpc.frame import Inlet, ItemReader, Outlet, encode_frame
from fastrpc.session.items import Items
from fastrpc.session.origin import Origin, time_left
from fastrpc.wire import BIT_END, Kind, Serializer

if TYPE_CHECKING:
    from fastrpc.session.session import Session

T = TypeVar("T")


class StreamState(Enum):
    """Where a stream stands."""

    NEW = "new"
    OPENING = "opening"
    OPEN = "open"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What a stream is opened with.

    Attributes:
        method: Full method name.
        args: Positional arguments.
        kwargs: Arguments by name.
        item: Type of the items that come back.
        value: Decoder of the value, None for the codec's own.
        source: What gives the items that go out, if it is known.
    """

    method: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    item: Any = Any
    value: Callable[[bytes], Any] | None = None
    source: AsyncIterable[Any] | None = None


@final
class StreamCore:
    """A stream as the connection knows it; the call table has it in a future's place."""

    __slots__ = (
        "_ended", "_feeder", "_value", "error", "id", "inlet", "is_over", "method", "outlet",
        "session", "trailers",
    )  # fmt: skip

    def __init__(
        self, session: "Session", opening: Opening, left: float, metadata: bytes, ended: bool
    ) -> None:
        """Open it; the errors are those of `Lane.call`."""
        lane = session.lane
        self.method = opening.method
        self.session = session
        self.is_over = False
        self.error: BaseException | None = None
        self.trailers = b""
        self._value: Any = None
        self._ended: asyncio.Future[None] | None = None
        self._feeder: asyncio.Task[None] | None = None
        codec = session.side.by_number[lane.serializer]
        decode_item = codec.decode if opening.item is Any else codec.decoder(opening.item)
        self.id = lane.start(
            opening.method, opening.args, opening.kwargs, left, metadata,
            opening.value, self,
            Kind.OPEN | (BIT_END if ended else 0),
        )  # fmt: skip
        items = Items(session, opening.method, True, opening.item)
        self.inlet: Inlet = items.inlet(self.id, lane.serializer, decode_item)
        self.outlet = Outlet(lane, self.id, True, session.peer_window, lane.serializer)
        if ended:
            self.outlet.close(StreamEnded(f"{self.method}: opened without items of ours"))
        session.streams.own[self.id] = self
        if opening.source is not None:
            feeding = self.feed(opening.source)
            self._feeder = lane.share.loop.create_task(feeding)
            self._feeder.add_done_callback(self._fed)

    # As the call table sees it

    def done(self) -> bool:
        """Return whether it has ended."""
        return self.is_over

    def set_result(self, value: Any) -> None:
        """Take the end that the server sent."""
        # No value is an empty payload without a codec, which reads as no bytes.
        none = type(value) is bytes and not value and self.session.lane.serializer != Serializer.RAW
        self._value = None if none else value
        self._end(None)

    def set_exception(self, error: BaseException) -> None:
        """Take an end that is an error."""
        self._end(error)

    # As the user's side sees it

    def give_up(self, why: BaseException | None = None) -> None:
        """End it here and tell the server; who reads on gets what has come, then *why*."""
        if not self.is_over:
            self.session.lane.cancel(self.id)
            self._end(why or Cancelled(f"{self.method}: given up here", method=self.method))

    def forsake(self) -> None:
        """Give it up from any thread: the garbage collector runs in all of them."""
        share = self.session.lane.share
        with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            if share.thread in (0, get_ident()):
                self.give_up()
            else:
                share.loop.call_soon_threadsafe(self.give_up)

    async def result(self) -> Any:
        """Wait for the end and return the value."""
        if not self.is_over:
            if self._ended is None or self._ended.cancelled():
                self._ended = self.session.lane.share.create_future()
            await asyncio.shield(self._ended)
        if self.error is not None:
            raise self.error
        return self._value

    async def feed(self, source: AsyncIterable[Any] | Iterable[Any]) -> None:
        """Send the items of *source*, then say that there are no more."""
        iterator = aiter(source) if isinstance(source, AsyncIterable) else _at_hand(source)
        try:
            if await self.outlet.pump(iterator):
                self.half_close()
        finally:
            close = getattr(iterator, "aclose", None)
            if close is not None:
                await close()

    def half_close(self) -> None:
        """Say that there are no more items; twice is fine."""
        if not self.outlet.is_over:
            self.session.lane.send(encode_frame(Kind.HALF, self.id))
            self.outlet.close(StreamEnded(f"{self.method}: its end was sent already"))

    def _end(self, error: BaseException | None) -> None:
        if self.is_over:
            return
        self.is_over = True
        self.error = error
        self.session.streams.own.pop(self.id, None)
        self.inlet.end(error)
        self.outlet.close(error or StreamEnded(f"{self.method}: the other side has ended it"))
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)
        if self._feeder is not None:
            self._feeder.cancel()

    def _fed(self, feeder: "asyncio.Task[None]") -> None:
        """Give the stream up if its source has failed."""
        if not feeder.cancelled() and (error := feeder.exception()) is not None:
            self.give_up(error)


@final
class Stream(Generic[T]):
    """A call whose items come, go, or both. Made by `client.stream` and by stubs.

    Iterate over it for what comes; `send` or `feed` what goes, then `end`; `result`
    waits for the value. In `async with` it is given up on the way out unless it has
    ended; without, when nobody holds it any more.
    """

    __slots__ = (
        "__weakref__", "_core", "_is_entered", "_is_read", "_items", "_metadata", "_opening",
        "_origin", "_timeout", "_waiting",
    )  # fmt: skip

    def __init__(self, origin: Origin, opening: Opening, timeout: float, metadata: bytes) -> None:
        self._origin = origin
        self._opening = opening
        self._timeout = timeout  # of the stream as a whole
        self._metadata = metadata
        self._core: StreamCore | None = None
        self._items: AsyncIterator[T] | None = None  # as an interceptor gives them
        self._is_entered = False
        self._is_read = False  # somebody has iterated, or does
        self._waiting: asyncio.Future[None] | None = None  # while somebody opens it

    def __repr__(self) -> str:
        """Tell method and state."""
        return f"<Stream {self._opening.method} {self.state.value}>"

    def __del__(self) -> None:
        """Give it up: nobody can want it any more."""
        core = getattr(self, "_core", None)
        if core is not None and not core.is_over:
            core.forsake()

    @property
    def state(self) -> StreamState:
        """Where it stands."""
        if self._core is None:
            return StreamState.NEW if self._waiting is None else StreamState.OPENING
        return StreamState.ENDED if self._core.is_over else StreamState.OPEN

    @property
    def metadata(self) -> Metadata:
        """What the server sent beside the end; empty before."""
        return Metadata(self._core.trailers if self._core is not None else b"")

    async def __aenter__(self) -> "Stream[T]":
        """Open it, for items in both directions."""
        self._is_entered = True
        await self._opened(ended=False)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give it up unless it has ended."""
        await self.aclose()

    def __aiter__(self) -> AsyncIterator[T]:
        """Return an iterator over what comes; there can be one at a time."""
        self._is_read = True
        core = self._core or self._open_at_once(ended=not self._is_entered)
        return _LateReader(self) if core is None else self._reader(core)

    def __anext__(self) -> Awaitable[T]:
        """Return the next item."""
        return aiter(self).__anext__()

    def send(self, item: Any) -> Awaitable[None]:
        """Send an item as soon as the server has room for it; await what is returned.

        Raises:
            StreamEnded: The server has ended the stream, or `end` was called.
            TooLarge: The item is larger than the server accepts; the stream goes on.
            CallError: Why the stream has failed.
            TransportError: There is no connection, or it broke.
        """
        core = self._core  # no coroutine of ours around that of the outlet
        return self._send_first(item) if core is None else core.outlet.send(item)

    async def _send_first(self, item: Any) -> None:
        core = await self._opened(ended=False)
        await core.outlet.send(item)

    async def feed(self, items: AsyncIterable[Any] | Iterable[Any]) -> None:
        """Send all *items*, then say that there are no more; faster than one by one.

        Plain iterables are read on the loop: fine for what is at hand, wrong for what blocks.
        Returns early if the server ends the stream; the errors are those of `send`.
        """
        core = self._core or await self._opened(ended=False)
        await core.feed(items)

    async def end(self) -> None:
        """Say that no more items will be sent; those of the server still come."""
        core = self._core or await self._opened(ended=True)
        core.half_close()

    async def result(self) -> Any:
        """Wait for the end and return the value; None for a stream that has none.

        Raises:
            CallError: Any of its kinds.
            TransportError: There is no connection, or it broke.
        """
        core = self._core or await self._opened(ended=not self._is_entered)
        try:
            return await core.result()
        finally:
            if self._items is not None and not self._is_read and core.is_over:
                await self._read_out(core, self._items)

    def cancel(self) -> None:
        """Give the stream up; the server stops its handler."""
        if self._core is not None:
            self._core.give_up()

    async def aclose(self) -> None:
        """Give the stream up unless it has ended; a source of items is closed."""
        core = self._core
        if core is None:
            if self._opening.source is not None and self._waiting is None:
                await close_items(self._opening.source)
            return
        core.give_up()
        close = getattr(self._items, "aclose", None)
        if close is not None:
            with suppress(RuntimeError):  # a generator that somebody waits for ends by itself
                await close()
        if core._feeder is not None and core._feeder is not asyncio.current_task():
            await asyncio.wait([core._feeder])

    def _open_at_once(self, *, ended: bool) -> StreamCore | None:
        if self._origin.chain is None and self._waiting is None:
            session = self._origin.session_at_once()
            if session is not None:
                timeout = within(self._timeout, time.monotonic())
                self._open_on(session, self._opening, timeout, self._metadata, ended)
        return self._core

    def _open_on(
        self, session: "Session", opening: Opening, left: float, metadata: bytes, ended: bool
    ) -> StreamCore:
        if self._core is not None:
            raise Internal(f"{opening.method}: an interceptor opened the stream twice")
        self._core = StreamCore(session, opening, left, metadata, ended and opening.source is None)
        return self._core

    async def _opened(self, *, ended: bool) -> StreamCore:
        """Open the stream if nobody has, and return its core."""
        while self._core is None and self._open_at_once(ended=ended) is None:
            if self._waiting is not None:
                await asyncio.shield(self._waiting)
                continue
            self._waiting = asyncio.get_running_loop().create_future()
            try:
                await self._open_late(ended)
            finally:
                self._waiting.set_result(None)
                self._waiting = None
        assert self._core is not None
        return self._core

    async def _open_late(self, ended: bool) -> None:
        """Open it through the interceptors, and when there is a connection."""
        now = time.monotonic()
        timeout = within(self._timeout, now)
        opening = self._opening
        call = Call(
            opening.method, opening.args, opening.kwargs, self._metadata,
            now + timeout if timeout else 0.0, items=opening.source,
        )  # fmt: skip
        call.sender = partial(self._send, ended)
        chain = self._origin.chain
        if chain is None:
            await self._send(ended, call)
            return
        try:
            reply = checked(await chain(call), opening.method)
            if self._core is None or reply.items is None:
                text = f"{opening.method}: an interceptor did not open the stream"
                raise Internal(text, ran="no" if self._core is None else "maybe")
            self._items = aiter(reply.items)
        except BaseException:
            if self._core is not None:  # opened, and then refused by an interceptor after all
                self._core.give_up()
                self._core = None
            raise
        finally:
            call.sender = None  # who keeps the call must not keep the stream

    async def _send(self, ended: bool, call: Call) -> Reply:
        """Be the innermost handler: open the stream with what the call says by now."""
        origin = self._origin
        left = time_left(call)
        session = origin.session_at_once()
        has_waited = session is None
        if session is None:
            session, left, _ = await origin.session_for(call.method, left)
        opening = replace(
            self._opening, method=call.method, args=tuple(call.args), kwargs=call.kwargs,
            source=call.items,
        )  # fmt: skip
        try:
            core = self._open_on(session, opening, left, call.packed(origin.limits), ended)
        except BaseException:
            if has_waited:
                origin.unused()
            raise
        # What interceptors make of it is ours to keep, so it must not keep us.
        return Reply(items=ItemReader(core.inlet))

    def _reader(self, core: StreamCore) -> AsyncIterator[T]:
        if self._items is None:
            return ItemReader(core.inlet, self)
        return _KeptReader(self._items, self)

    async def _read_out(self, core: StreamCore, items: AsyncIterator[T]) -> None:
        """Let interceptors see the end of a stream whose items nobody reads."""
        with suppress(Exception):  # it is the result that tells
            if not len(core.inlet):
                await anext(items)
            await self.aclose()


@final
class _KeptReader(AsyncIterator[T]):
    """Iterate over the items that interceptors give, and keep the stream meanwhile."""

    __slots__ = ("_items", "_keep")

    def __init__(self, items: AsyncIterator[T], keep: Stream[T]) -> None:
        self._items = items
        self._keep = keep

    def __anext__(self) -> Any:
        """Return the next item."""
        return self._items.__anext__()


@final
class _LateReader(AsyncIterator[T]):
    """Iterate over a stream that waits for a connection first."""

    __slots__ = ("_reader", "_stream")

    def __init__(self, stream: Stream[T]) -> None:
        self._stream = stream
        self._reader: AsyncIterator[T] | None = None

    def __anext__(self) -> Any:
        """Return the next item."""
        return self._first() if self._reader is None else self._reader.__anext__()

    async def _first(self) -> Any:
        stream = self._stream
        core = await stream._opened(ended=not stream._is_entered)
        self._reader = stream._reader(core)
        return await self._reader.__anext__()


async def _at_hand(items: Iterable[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item
