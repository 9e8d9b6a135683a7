"""Say what views and streams stand on: something that has connections to call through.

A client is such an origin, with a connection that comes back; the peer of a
connection is one, with that connection and no other.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from fastrpc.call import Handler
from fastrpc.codec import Codec
from fastrpc.errors import DeadlineExceeded
from fastrpc.frame import Lane
from fastrpc.wire import Limits

if TYPE_CHECKING:
    from fastrpc.session.session import Session

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

    def session_at_once(self) -> "Session | None":
        """Return a connection that takes a call right now."""
        for lane in self.lanes:
            if lane.ready and not lane.crowded and len(lane.table) < lane.peer_calls:
                return lane.owner  # type: ignore[no-any-return]
        return None
