"""Tell when a call has ended, and how: for interceptors that note calls.

A call that gives items is not over when its handler returns, and one whose items
nobody wants any more ends without a word. Here is the one place that knows all the
ways, on both sides.

Rules of the room:
  * each call is noted once, whatever ends it;
  * who notes can't harm the call: what it raises is dropped.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, final

from fastrpc.call import Call, Handler, Reply, checked, close_items, refusal_of
from fastrpc.errors import FastRPCError, RpcError
from fastrpc.wire import NOT_RUN, StatusCode

Clock = Callable[[], float]


class Outcome(Enum):
    """How a call ended."""

    OK = "ok"
    REFUSED = "refused"  # the caller was told no: by fastrpc, by a policy, or by the application
    FAILED = "failed"
    LATE = "late"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a call ended.

    Attributes:
        outcome: In one word.
        status: As on the wire.
        seconds: How long it took, the items of a stream included.
        received: Items that came in, None for a call without any.
        sent: Items that went out, None for a call without any.
        error: What was raised, None if all went well.
    """

    outcome: Outcome
    status: int
    seconds: float
    received: int | None
    sent: int | None
    error: BaseException | None


Note = Callable[[Call, Ending], None]

_OUTCOMES: Final = {
    int(StatusCode.OK): Outcome.OK,
    int(StatusCode.CLIENT_TIMEOUT): Outcome.LATE,
    int(StatusCode.DEADLINE): Outcome.LATE,
    int(StatusCode.CANCELLED): Outcome.CANCELLED,
    int(StatusCode.APPLICATION): Outcome.REFUSED,
    **dict.fromkeys(map(int, NOT_RUN), Outcome.REFUSED),
}


def noting(handler: Handler, note: Note, clock: Clock = time.monotonic) -> Handler:
    """Return *handler* so that *note* is told of the end of each call, once."""

    async def noted(call: Call) -> Reply:
        noting = _Noting(call, note, clock)
        if call.items is not None:
            noting.asked = _Tally()
            call.items = _Counted(call.items, noting.asked)
        try:
            reply = checked(await handler(call), call.method)
        except BaseException as exc:
            noting.end(exc)
            raise
        if reply.items is None:
            noting.end(None)
        else:
            noting.given = _Tally()
            reply.items = _Watched(reply.items, noting, noting.given)
        return reply

    return noted


def status_of(exc: BaseException | None, call: Call, now: float) -> int:
    """Return the status that *call* ends with because of *exc*, as far as one can tell here."""
    if exc is None:
        return int(StatusCode.OK)
    kind = type(exc)
    if not issubclass(kind, Exception):  # the way in which calls are stopped
        is_late = 0.0 < call.deadline <= now
        return int(StatusCode.DEADLINE if is_late else StatusCode.CANCELLED)
    refusal = refusal_of(exc, call.method, call.id) if call.peer is not None else None
    if refusal is not None:
        return refusal.status
    if issubclass(kind, RpcError):
        return int(StatusCode.APPLICATION)
    if call.peer is None and issubclass(kind, FastRPCError):
        with suppress(Exception):
            return int(exc.status)  # type: ignore[attr-defined]
    return int(StatusCode.SERVER_ERROR)


@final
class _Tally:
    """How many items passed. Apart from who counts, so that nothing holds itself."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


@final
class _Noting:
    """A call that has not ended, and who is to be told when it has."""

    __slots__ = ("_call", "_clock", "_is_over", "_note", "_started", "asked", "given")

    def __init__(self, call: Call, note: Note, clock: Clock) -> None:
        self._call = call
        self._note = note
        self._clock = clock
        self._started = clock()
        self._is_over = False
        self.asked: _Tally | None = None  # the caller's items
        self.given: _Tally | None = None  # the handler's

    @property
    def is_ours(self) -> bool:
        """Whether this side answers the call."""
        return self._call.peer is not None

    def end(self, exc: BaseException | None) -> None:
        """Say how it ended; only the first time counts."""
        if self._is_over:
            return
        self._is_over = True
        asked = self.asked.count if self.asked is not None else None
        given = self.given.count if self.given is not None else None
        with suppress(Exception):
            now = self._clock()
            status = status_of(exc, self._call, now)
            ending = Ending(
                outcome=_OUTCOMES.get(status, Outcome.FAILED),
                status=status,
                seconds=max(now - self._started, 0.0),
                received=asked if self.is_ours else given,
                sent=given if self.is_ours else asked,
                error=exc,
            )
            self._note(self._call, ending)


@final
class _Counted(AsyncIterator[Any]):
    """The caller's items, counted."""

    __slots__ = ("_items", "_tally")

    def __init__(self, items: AsyncIterable[Any], tally: _Tally) -> None:
        self._items = aiter(items)
        self._tally = tally

    async def __anext__(self) -> Any:
        item = await self._items.__anext__()
        self._tally.count += 1
        return item

    async def aclose(self) -> None:
        await close_items(self._items)


@final
class _Watched(AsyncIterator[Any]):
    """The handler's items, counted, and with an eye on their end."""

    __slots__ = ("_items", "_noting", "_tally")

    def __init__(self, items: AsyncIterable[Any], noting: _Noting, tally: _Tally) -> None:
        self._items = aiter(items)
        self._noting = noting
        self._tally = tally

    async def __anext__(self) -> Any:
        try:
            item = await self._items.__anext__()
        except StopAsyncIteration:
            self._noting.end(None)
            raise
        except BaseException as exc:
            self._noting.end(exc)
            raise
        self._tally.count += 1
        return item

    async def aclose(self) -> None:
        # At the side that answers, what is being handled is why no more items are wanted:
        # a cancelled task, or an item that could not be sent.
        why = sys.exception() if self._noting.is_ours else None
        try:
            await close_items(self._items)
        finally:
            self._noting.end(why or asyncio.CancelledError())

    def __del__(self) -> None:
        # Nobody iterated to the end, nor closed: a loop was left, and the stream dropped.
        noting = getattr(self, "_noting", None)
        if noting is not None:
            noting.end(asyncio.CancelledError())
