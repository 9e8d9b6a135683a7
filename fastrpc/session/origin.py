"""Say what views and streams stand on: something that has connections to call through.

A client is such an origin, with a connection that comes back; the peer of a
connection is one, with that connection and no other.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from fastrpc.call import Call, Handler
from fastrpc.call.deadline import within
from fastrpc.codec import Codec
from fastrpc.errors import DeadlineExceeded
from fastrpc.frame import Lane
from fastrpc.session import outcome
from fastrpc.wire import Limits

if TYPE_CHECKING:
    from fastrpc.session.session import Session

T = TypeVar("T")

Decode = Callable[[bytes], Any]

#: Makes the error of a call that had to wait and is late, see `outcome.late`.
Late = Callable[..., DeadlineExceeded]


class Origin(ABC):
    """What calls go out through.

    Attributes:
        lanes: Those that may take calls; the list is kept, its contents change.
        codec: What calls are sent with.
        limits: What this side keeps to.
        chain: What stands before every call, if anything does.
    """

    lanes: list[Lane]
    codec: Codec
    limits: Limits
    chain: Handler | None = None

    @abstractmethod
    def start_waiting(
        self,
        timeout: float,
        metadata: bytes,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any] | None,
        decode: Decode | None,
    ) -> Awaitable[Any]:
        """Start a call that can't be sent at once."""

    @abstractmethod
    def lane_at_once(self, name: str) -> Lane:
        """Return a lane that takes a oneway call of *name* now.

        Raises:
            Unavailable: There is none.
        """

    @abstractmethod
    async def session_for(self, name: str, seconds: float) -> "tuple[Session, float, Late]":
        """Wait for a connection that takes a call.

        Returns it, what is left of *seconds*, and what makes the error if the call is late
        all the same. The call must be sent before the next await; else call `unused`.

        Raises:
            DeadlineExceeded: The time was up first.
            TransportError: There is none, and there will be none.
        """

    @abstractmethod
    def unused(self) -> None:
        """Let the next in line have the place that `session_for` gave."""

    async def wait_and_call(
        self,
        seconds: float,
        metadata: bytes,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any] | None,
        decode: Decode | None,
    ) -> Any:
        """Make a call that has to wait for a connection, or for room on it."""
        started = time.monotonic()
        seconds = within(seconds, started)
        session, left, late = await self.session_for(name, seconds)
        try:
            reply = session.lane.call(name, args, kwargs, left, metadata, decode)
        except BaseException:
            self.unused()
            raise
        return await in_time(reply, started + seconds if seconds else 0.0, late)

    def session_at_once(self) -> "Session | None":
        """Return a connection that takes a call right now."""
        for lane in self.lanes:
            if lane.ready and not lane.crowded and len(lane.table) < lane.peer_calls:
                return lane.owner  # type: ignore[no-any-return]
        return None


def time_left(call: Call) -> float:
    """Return the seconds that *call* has until its deadline, 0 if it has none.

    Raises:
        DeadlineExceeded: It passed while interceptors held the call.
    """
    if not call.deadline:
        return 0.0
    left = call.left(time.monotonic())
    if left <= 0.0:
        raise outcome.never_sent(call.method)
    return left


async def in_time(reply: Awaitable[T], deadline: float, late: Late) -> T:
    """Wait for the reply of a call that had to wait before it was sent.

    Args:
        reply: Of the lane, which knows only what came after.
        deadline: Of the call, 0 for none.
        late: Makes the error if that has passed.
    """
    try:
        return await reply
    except DeadlineExceeded as exc:
        now = time.monotonic()
        if not 0.0 < deadline <= now:  # the other side's own limit
            raise
        raise late(now, handler=exc.stages.handler) from None
