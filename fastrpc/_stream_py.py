"""Carry the items of a stream: take them in, hand them out, keep to the credit.

A stream has up to two halves at either end: an `Inlet` for the items that come, an
`Outlet` for those that go. Both know one lane and one message id, and nothing of
what opened the stream or how it ends. `_stream.pyx` is the same in Cython; this
file is the plain one and the owner of the docstrings.

Credit is counted as the wire document has it (section 5): bytes of whole frames. A
sender may send while it has any, and so goes below zero by one frame at most: what
a slow reader holds is bounded by the window and one frame.

Rules of the room:
  * no task and no queue per item: items wait encoded, and are decoded when taken;
  * items of one read wake the reader once; items of one turn leave in one write;
  * whoever waits is woken when the stream ends, whatever the reason;
  * a change here without the same change in `_stream.pyx` does not merge.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable, Generator
from types import coroutine
from typing import Any, Final, final

from fastrpc._frame_py import Frame, FrameDecoder, encode_frame
from fastrpc._lane_py import FRAMED, OUT_HIGH, Lane
from fastrpc.errors import CodecError, ConfigError, FastRPCError, ProtocolError, TooLarge
from fastrpc.wire import CREDIT_MAX, Kind, Serializer

__all__ = ["Inlet", "ItemReader", "Outlet"]

_MSGPACK: Final = int(Serializer.MSGPACK)
_NO_ERROR: BaseException = RuntimeError("the stream has not ended")


@final
class Inlet:
    """The receiving half of a stream: items wait here until they are taken.

    Args:
        lane: The connection's lane.
        id: Message id of the stream.
        own: Whether the stream is one of ours.
        window: Credit that the peer has at the start, in bytes.
        serializer: How items are usually encoded.
        decode: Decoder of those.
        unpack: `unpack(serializer, item)` reads all others: payloads, and frames
            whose payload is not plain.
        explain: `explain(number, exc)` returns what to raise for the item of that
            number, counted from 1, that can't be read.

    Attributes:
        count: Items taken so far.
        is_over: Whether no more will come.
    """

    __slots__ = (
        "_credit", "_decode", "_error", "_explain", "_freed", "_id", "_items", "_lane", "_own",
        "_serializer", "_unpack", "_waiter", "_window", "count", "is_over",
    )  # fmt: skip

    def __init__(
        self,
        lane: Lane,
        id: int,
        own: bool,
        window: int,
        serializer: int,
        decode: Callable[[bytes], Any],
        unpack: Callable[[int, bytes | Frame], Any],
        explain: Callable[[int, Exception], Exception],
    ) -> None:
        self._lane = lane
        self._id = id
        self._own = own
        self._window = self._credit = window
        self._serializer = serializer
        self._decode = decode
        self._unpack = unpack
        self._explain = explain
        self._items: deque[tuple[int, bytes | Frame, int]] = deque()
        self._freed = 0  # bytes taken and not yet granted again
        self._error: BaseException | None = None
        self._waiter: Any = None
        self.count = 0
        self.is_over = False
        lane.add_sink(id, own, self)

    def __len__(self) -> int:
        """Return how many items wait."""
        return len(self._items)

    def push(self, serializer: int, item: bytes | Frame, cost: int, last: bool) -> None:
        """Take an item that came; for the lane.

        Args:
            serializer: How the item is encoded; with FRAMED beside it, *item* is a frame's bytes.
            item: Its payload, or the frame if that is not plain.
            cost: Bytes of the whole frame.
            last: Whether no more will come.

        Raises:
            ProtocolError: The peer had no credit.
        """
        if self.is_over:
            return
        if self._credit <= 0:
            raise ProtocolError(f"stream {self._id}: an item came without credit")
        self._credit -= cost
        self._items.append((serializer, item, cost))
        if last:
            self.end(None)
        elif self._waiter is not None:
            self._wake()

    def end(self, error: BaseException | None) -> None:
        """Let no more come; what waits can still be taken, then *error* is raised."""
        if self.is_over:
            return
        self.is_over = True
        self._error = error
        self._lane.drop_sink(self._id, self._own)
        self._wake()

    def drop(self) -> None:
        """Let no more come, and forget what waits."""
        self.end(None)
        self._error = None
        self._items.clear()

    def wait(self) -> Any:
        """Return a waiter that is done when there is an item, or no more will come.

        Raises:
            ConfigError: Somebody waits already.
        """
        if self._waiter is not None and not self._waiter.done():
            raise ConfigError("a stream can be read by one task at a time")
        self._waiter = waiter = self._lane.share.create_future()
        if self._items or self.is_over:
            self._wake()
        return waiter

    def take(self) -> Any:
        """Return the next item.

        Raises:
            StopAsyncIteration: No more will come.
            LookupError: None has come yet.
            Exception: Why the stream ended, once; or what is wrong with the item.
        """
        if not self._items:
            if not self.is_over:
                raise LookupError("no item has come yet")
            error, self._error = self._error, None
            if error is not None:
                raise error
            raise StopAsyncIteration
        serializer, item, cost = self._items.popleft()
        self.count += 1
        self._freed += cost
        if self._freed * 2 >= self._window and not self.is_over:
            self._grant()
        try:
            return self._read(serializer, item)
        except Exception as exc:
            raise self._explain(self.count, exc) from None

    def _read(self, serializer: int, item: bytes | Frame) -> Any:
        if serializer & FRAMED:
            serializer, item = serializer & ~FRAMED, FrameDecoder().feed(item)[0]  # type: ignore[arg-type]
        if serializer != self._serializer or not isinstance(item, bytes):
            return self._unpack(serializer, item)
        if serializer == _MSGPACK:
            self._lane.measure(item)
        return self._decode(item)

    def _grant(self) -> None:
        freed, self._freed = self._freed, 0
        self._credit += freed
        self._lane.send(encode_frame(Kind.CREDIT, self._id, reply=not self._own, arg=freed))

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


@final
class ItemReader:
    """Iterate over the items of an inlet.

    Args:
        inlet: Where they come from.
        keep: What has to live as long as somebody iterates.
    """

    __slots__ = ("_inlet", "_keep")

    def __init__(self, inlet: Inlet, keep: Any = None) -> None:
        self._inlet = inlet
        self._keep = keep

    def __aiter__(self) -> "ItemReader":
        """Return itself."""
        return self

    async def __anext__(self) -> Any:
        """Return the next item; raises as `Inlet.take` does."""
        inlet = self._inlet
        while not inlet._items and not inlet.is_over:
            await inlet.wait()
        return inlet.take()


@final
class Outlet:
    """The sending half of a stream: items leave here while there is credit.

    Args:
        lane: The connection's lane.
        id: Message id of the stream.
        own: Whether the stream is one of ours.
        credit: What the peer lets us send at the start, in bytes.
        serializer: How items are encoded.

    Attributes:
        count: Items sent so far.
        is_over: Whether no more can be sent.
    """

    __slots__ = (
        "_burst", "_credit", "_error", "_id", "_lane", "_line", "_own", "_serializer", "count",
        "is_over",
    )  # fmt: skip

    def __init__(self, lane: Lane, id: int, own: bool, credit: int, serializer: int) -> None:
        self._lane = lane
        self._id = id
        self._own = own
        self._credit = credit
        self._serializer = serializer
        self._line: deque[Any] = deque()  # waiters of those who want to send, in order
        self._error = _NO_ERROR
        self._burst = 0  # bytes since the loop had its last turn
        self.count = 0
        self.is_over = False

    def grant(self, credit: int) -> None:
        """Take credit that the peer gave.

        Raises:
            ProtocolError: It is none, or too much.
        """
        if credit == 0 or self._credit + credit > CREDIT_MAX:
            raise ProtocolError(f"stream {self._id}: a credit of {credit} is not allowed")
        self._credit += credit
        self.wake()

    def wake(self) -> None:
        """Let who is first in line look again: there is credit, or room in the transport."""
        if self._line and not self._line[0].done():
            self._line[0].set_result(None)

    def close(self, error: BaseException) -> None:
        """Let no more be sent; *error* is raised to whoever tries."""
        if self.is_over:
            return
        self.is_over = True
        self._error = error
        for waiter in self._line:
            if not waiter.done():
                waiter.set_result(None)

    def put(self, item: Any) -> None:
        """Queue *item*, whatever the credit; for who has looked at `may_put`.

        Raises:
            TooLarge: It is larger than the peer accepts; nothing was sent.
            CodecError: It can't be encoded.
        """
        lane = self._lane
        try:
            serializer, body = lane.encode_result(self._serializer, item)
        except FastRPCError:
            raise
        except Exception as exc:
            raise CodecError(f"an item can't be encoded: {exc}") from exc
        size = lane.size_of(body)
        if size > lane.peer_body:
            raise TooLarge(
                f"an item of {size} bytes is over the peer's max_body of {lane.peer_body}"
            )
        cost = lane.put_item(self._id, self._own, serializer, body)
        self._credit -= cost
        self._burst += cost
        self.count += 1

    @property
    def may_put(self) -> bool:
        """Whether an item may be sent right now."""
        return self._credit > 0 and not self._line and not self._lane.paused

    def send(self, item: Any) -> Any:
        """Send *item* as soon as there is credit; await what is returned.

        Raises:
            Exception: Of `put`, and why the stream has ended.
        """
        if self.may_put and not self.is_over:
            self.put(item)
            return _done()
        return self._send_later(item)

    async def pump(self, items: AsyncIterator[Any]) -> bool:
        """Send all *items* and return True; False if the stream ended before they did."""
        async for item in items:
            if not self.may_put:
                await self._room()
            if self.is_over:
                return False
            self.put(item)
            if self._burst >= OUT_HIGH:  # others want their turn, and the peer to be noticed
                self._burst = 0
                await _turn()
        return True

    async def _send_later(self, item: Any) -> None:
        await self._room()
        if self.is_over:
            raise self._error.with_traceback(None)
        self.put(item)

    async def _room(self) -> None:
        """Wait until an item may be sent, behind all who came before."""
        lane = self._lane
        waiter: Any = None
        try:
            while not self.is_over:
                first = not self._line or self._line[0] is waiter
                if first and self._credit > 0 and not lane.paused:
                    return
                fresh = lane.share.create_future()
                if waiter is None:
                    self._line.append(fresh)
                else:
                    self._line[self._line.index(waiter)] = fresh
                waiter = fresh
                if lane.paused:
                    lane.owner.hold(self)
                await waiter
        finally:
            if waiter is not None and waiter in self._line:
                self._line.remove(waiter)
                self.wake()


@coroutine
def _turn() -> Generator[None, None, None]:
    """Let the loop do other things."""
    yield


async def _done() -> None:
    """Return at once."""
