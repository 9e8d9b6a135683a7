"""Open a stream, take or send its items, end it early or late: the caller's way in threads.

It is `stream` without an event loop. The user holds a `BlockingStream`; when it is gone
(a loop was left by `break`, say) nobody can want the stream any more, and it is given
up. The connection holds a `BlockingCore`, which knows how the stream stands.

Rules of the room:
  * items come or items go: who waits for credit can't read, so both at once would need
    a second thread, and is what the asyncio client is for;
  * a stream opens when it is first used, with what that use says;
  * items that came before the end are given out before it;
  * what a signal handler raises while a thread waits here gives the stream up, as an
    exception ends a generator.
"""

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast, final

from fastrpc.call import Metadata
from fastrpc.errors import (
    Cancelled,
    CodecError,
    ConfigError,
    ConnectionLost,
    FastRPCError,
    ProtocolError,
    StreamEnded,
    TooLarge,
    Unsupported,
)
from fastrpc.frame import Inlet, Waiter, encode_frame
from fastrpc.session import outcome
from fastrpc.session.items import Items
from fastrpc.session.stream import Opening, StreamState
from fastrpc.wire import BIT_END, CREDIT_MAX, Kind, Serializer

if TYPE_CHECKING:
    from fastrpc.session.blocking import BlockingSession

T = TypeVar("T")

#: Items whose source does not make us wait leave together until they are this many bytes.
BURST: Final = 64 * 2**10

_AT_HAND: Final = (list, tuple, range)

# Of a stream that is not open yet.
_NO_SESSION = cast("BlockingSession", None)
_NO_INLET = cast("Inlet", None)


@final
class BlockingCore:
    """A stream as the connection knows it; the call table has it in a waiter's place.

    Args:
        opening: What it is opened with.
        metadata: Packed metadata sent with it.
        sends: Whether the items are ours.
    """

    __slots__ = (
        "_credit", "_has_ended_items", "_inlet", "_metadata", "_opening", "_session", "_value",
        "_waiter", "deadline", "error", "id", "is_over", "method", "sends", "trailers",
    )  # fmt: skip

    def __init__(self, opening: Opening, metadata: bytes, sends: bool) -> None:
        self._opening = opening
        self._metadata = metadata
        self._session = _NO_SESSION
        self._inlet = _NO_INLET
        self._waiter: Waiter | None = None  # of who waits for an item, for credit or for the end
        self._credit = 0
        self._has_ended_items = not sends
        self._value: Any = None
        self.method = opening.method
        self.sends = sends
        self.id = 0
        self.deadline = 0.0
        self.error: BaseException | None = None
        self.is_over = False
        self.trailers = b""

    def open(self, session: "BlockingSession", left: float) -> None:
        """Open it; the errors are those of `Lane.call`. Needs the session's lock."""
        lane, opening = session.lane, self._opening
        codec = session.side.by_number[lane.serializer]
        decode_item = codec.decode if opening.item is Any else codec.decoder(opening.item)
        self._session = session
        self._credit = session.peer_window
        bits = Kind.OPEN | (0 if self.sends else BIT_END)
        self.id = session.start(
            opening.method, opening.args, opening.kwargs, left, self._metadata, opening.value,
            self, bits,
        )  # fmt: skip
        if left:
            self.deadline = lane.share.clock() + left
        items = Items(session, self.method, True, opening.item)
        self._inlet = items.inlet(self.id, lane.serializer, decode_item)
        if self.is_over:  # the connection broke while it was opened
            self._inlet.end(self.error)
        else:
            session.streams[self.id] = self

    # As the call table and the control frames see it, under the lock

    def done(self) -> bool:
        """Return whether it has ended."""
        return self.is_over

    def set_result(self, value: Any) -> None:
        """Take the end that the server sent."""
        # No value is an empty payload without a codec, which reads as no bytes.
        raw = self._session.lane.serializer == Serializer.RAW
        self._value = None if type(value) is bytes and not value and not raw else value
        self._end(None)

    def set_exception(self, error: BaseException) -> None:
        """Take an end that is an error."""
        self._end(error)

    def grant(self, credit: int) -> None:
        """Take credit that the server gave.

        Raises:
            ProtocolError: It is none, or too much.
        """
        if credit == 0 or self._credit + credit > CREDIT_MAX:
            raise ProtocolError(f"stream {self.id}: a credit of {credit} is not allowed")
        self._credit += credit
        if self._waiter is not None:
            self._waiter.set_result(None)

    def drop(self) -> None:
        """End it here and queue what tells the server; what has come is forgotten."""
        if not self.is_over:
            self._session.lane.cancel(self.id)
            self._end(Cancelled(f"{self.method}: given up here"))
        if self._inlet is not _NO_INLET:
            self._inlet.drop()

    def _end(self, error: BaseException | None) -> None:
        if self.is_over:
            return
        self.is_over = True
        self.error = error
        self._session.streams.pop(self.id, None)
        self._session.lane.crowded = True  # `room` is due after the read that brought it
        if self._inlet is not _NO_INLET:
            self._inlet.end(error)

    # As the user's side sees it

    def give_up(self) -> None:
        """End it here and tell the server."""
        session = self._session
        if session is _NO_SESSION:
            return
        with session.lock:
            self.drop()
        if not self.id:  # a signal handler raised before we knew: the sweep finds it given up
            session.sweep()
        session.tidy()

    def abandon(self) -> None:
        """Do the same without waiting for anything; for `__del__`."""
        if self._session is not _NO_SESSION and not self.is_over:
            self._session.abandon(self)

    def take(self) -> Any:
        """Return the next item, and wait for it.

        Raises:
            StopAsyncIteration: No more will come.
            Exception: Why the stream ended, once; or what is wrong with the item.
        """
        session, inlet = self._session, self._inlet
        try:
            while True:
                with session.lock:
                    if len(inlet) or inlet.is_over:
                        try:
                            return inlet.take()
                        finally:
                            if session.lane.unsent:  # credit: the server may be waiting for it
                                session.flush()
                    waiter = self._wait()
                self._sleep(waiter)
        except (FastRPCError, StopAsyncIteration):
            raise
        except BaseException:  # the error of an end, which does no harm, or a signal handler's
            self.give_up()
            raise

    def put(self, item: Any, burst: int = 0) -> bool:
        """Send *item* once there is credit; False if the stream ended before.

        Args:
            item: The item.
            burst: It may wait for others until they are so many bytes.

        Raises:
            TooLarge: It is larger than the server accepts; nothing was sent.
            Unsupported: The server sends items, too.
            CodecError: It can't be encoded.
        """
        session = self._session
        lane = session.lane
        serializer, body = self._encoded(item)
        size = lane.size_of(body)
        if size > lane.peer_body:
            raise TooLarge(
                f"an item of {size} bytes is over the peer's max_body of {lane.peer_body}"
            )
        is_whole = True
        try:
            while True:
                with session.lock:
                    self._check_one_way()
                    if self.is_over or self._has_ended_items:
                        return False
                    if self._credit > 0:
                        is_whole = False
                        self._credit -= lane.put_item(self.id, True, serializer, body)
                        is_whole = True
                        if lane.unsent >= burst:
                            session.flush()
                        break
                    session.flush()
                    waiter = self._wait()
                self._sleep(waiter)
            if session.pipe.stream.unsent:
                session.pipe.send(self.deadline)
        except FastRPCError:
            raise
        except BaseException:
            if not is_whole:  # out of a signal handler: half of a frame may be queued
                session.pipe.stream.fail("interrupted while sending")
            self.give_up()
            raise
        return True

    def half_close(self) -> None:
        """Say that there are no more items of ours; twice is fine."""
        session = self._session
        with session.lock:
            if self._has_ended_items or self.is_over:
                return
            self._has_ended_items = True
            session.lane.send(encode_frame(Kind.HALF, self.id))
            session.flush()
        session.pipe.send(self.deadline)

    def result(self) -> Any:
        """Wait for the end and return the value."""
        session, inlet = self._session, self._inlet
        try:
            while True:
                with session.lock:
                    self._check_one_way()
                    if self.is_over:
                        break
                    if len(inlet):
                        raise ConfigError(
                            f"{self.method}: the result comes after the items: take them"
                        )
                    waiter = self._wait()
                self._sleep(waiter)
        except FastRPCError:
            raise
        except BaseException:
            self.give_up()
            raise
        if self.error is not None:
            raise self.error
        return self._value

    # Inside

    def _encoded(self, item: Any) -> tuple[int, bytes]:
        lane = self._session.lane
        try:
            return lane.encode_result(lane.serializer, item)
        except FastRPCError:
            raise
        except Exception as exc:
            raise CodecError(f"{self.method}: an item can't be encoded: {exc}") from exc

    def _check_one_way(self) -> None:
        """Refuse items of a server that takes ours. Needs the lock."""
        if self.sends and len(self._inlet):
            self.drop()
            raise both_ways(self.method)

    def _wait(self) -> Waiter:
        """Return a waiter for whatever comes next. Needs the lock."""
        if self._waiter is not None and not self._waiter.is_done:
            raise ConfigError(f"{self.method}: one thread at a time can use a stream")
        waiter: Waiter = self._inlet.wait()
        self._waiter = waiter
        return waiter

    def _sleep(self, waiter: Waiter) -> None:
        """Wait until *waiter* is done, the time is up, or the connection has ended."""
        session, deadline = self._session, self.deadline
        try:
            if deadline and session.lane.share.clock() >= deadline:
                session.sweep()  # also if items come so fast that nobody ever waits
            else:
                if session.pipe.stream.unsent:
                    session.pipe.send(deadline)
                session.pipe.wait(waiter, deadline)
                if not waiter.is_done:
                    session.sweep()
                if session.is_over:  # whoever ended it may have been interrupted before our turn
                    with session.lock:
                        cause = session.cause or ConnectionLost(session.pipe.why)
                        self._end(outcome.lost(cause, self.method))
        finally:
            waiter.is_done = True  # whatever happened, it waits no more


@final
class BlockingStream(Generic[T]):
    """A call whose items come one by one, or go so. Made by `client.stream` and by stubs.

    Iterate over it for what comes. Or send what goes with `feed`, and ask for the `result`.
    It is given up when a `with` around it ends or when nobody holds it any more, unless it
    has ended. One thread at a time can use it.
    """

    __slots__ = ("__weakref__", "_core", "_metadata", "_open", "_opening")

    def __init__(
        self, opening: Opening, metadata: bytes, open: Callable[[BlockingCore], None]
    ) -> None:
        self._opening = opening
        self._metadata = metadata
        self._open = open  # on a connection
        self._core: BlockingCore | None = None

    def __repr__(self) -> str:
        """Tell method and state."""
        return f"<BlockingStream {self._opening.method} {self.state.value}>"

    def __del__(self) -> None:
        """Give it up: nobody can want it any more."""
        core = getattr(self, "_core", None)
        if core is not None and not core.is_over:
            core.abandon()

    @property
    def state(self) -> StreamState:
        """Where it stands."""
        if self._core is None:
            return StreamState.NEW
        return StreamState.ENDED if self._core.is_over else StreamState.OPEN

    @property
    def metadata(self) -> Metadata:
        """What the server sent beside the end; empty before."""
        return Metadata(self._core.trailers if self._core is not None else b"")

    def __enter__(self) -> "BlockingStream[T]":
        """Open nothing yet: the first use says which way the items go."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give it up unless it has ended."""
        self.close()

    def __iter__(self) -> Iterator[T]:
        """Return itself."""
        return self

    def __next__(self) -> T:
        """Return the next item, and wait for it.

        Raises:
            CallError: Why the stream has failed.
            CodecError: The item can't be read; the next one may be.
            TransportError: There is no connection, or it broke.
            Unsupported: Items were sent on this stream.
        """
        core = self._core or self._opened(sends=False)
        if core.sends:
            raise both_ways(core.method)
        try:
            item: T = core.take()
        except StopAsyncIteration:
            raise StopIteration from None
        return item

    def send(self, item: Any) -> None:
        """Send an item as soon as the server has room for it.

        Raises:
            StreamEnded: The server has ended the stream, or `end` was called.
            TooLarge: The item is larger than the server accepts; the stream goes on.
            CallError: Why the stream has failed.
            TransportError: There is no connection, or it broke.
            Unsupported: Items were taken from this stream, or the server sends some.
        """
        core = self._sending()
        if not core.put(item):
            raise core.error or StreamEnded(f"{core.method}: nothing more can be sent")

    def feed(self, items: Iterable[Any]) -> None:
        """Send all *items*, then say that there are no more.

        Each leaves at once, but those of a list, tuple or range leave many together. Returns
        early if the server ends the stream; `result` tells why. The errors are those of `send`.
        """
        core = self._sending()
        burst = BURST if isinstance(items, _AT_HAND) else 0
        iterator = iter(items)
        try:
            for item in iterator:
                if not core.put(item, burst):
                    return
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()
        core.half_close()

    def end(self) -> None:
        """Say that no more items will be sent."""
        self._sending().half_close()

    def result(self) -> Any:
        """Wait for the end and return the value; None for a stream that has none.

        Raises:
            ConfigError: Items of the server wait to be taken first.
            CallError: Any of its kinds.
            TransportError: There is no connection, or it broke.
        """
        core = self._core or self._opened(sends=False)
        return core.result()

    def cancel(self) -> None:
        """Give the stream up; the server stops its handler."""
        if self._core is not None:
            self._core.give_up()

    def close(self) -> None:
        """Give the stream up unless it has ended."""
        self.cancel()

    def _sending(self) -> BlockingCore:
        core = self._core or self._opened(sends=True)
        if not core.sends:
            raise both_ways(core.method)
        return core

    def _opened(self, *, sends: bool) -> BlockingCore:
        core = self._core = BlockingCore(self._opening, self._metadata, sends)
        is_whole = False
        try:
            self._open(core)
            is_whole = True
        finally:
            if not is_whole and not core.is_over:
                self._core = None
        return core


def both_ways(method: str) -> Unsupported:
    """Return the error for a stream with items in both directions."""
    return Unsupported(
        f"{method}: a blocking client can't send and take items on one stream;"
        " the asyncio client, fastrpc.connect, can",
        ran="maybe",
        method=method,
    )
