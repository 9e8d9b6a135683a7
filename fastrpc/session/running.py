"""Note the calls whose handlers have not ended, and what becomes of their replies."""

from enum import Enum
from typing import TYPE_CHECKING, Any, final

from fastrpc.call import Call, Mode
from fastrpc.errors import Cancelled, StreamEnded
from fastrpc.frame import Frame, Inlet, Method, Outlet

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator


class Fate(Enum):
    """What becomes of a running call's reply."""

    OWED = "owed"
    SENT = "sent"  # also when the handler still runs: its deadline passed and was told
    UNWANTED = "unwanted"  # the caller cancelled, or is gone


@final
class Running:
    """A call whose handler has not ended.

    Attributes:
        frame: The request.
        method: What runs.
        deadline: When it is told off, 0 for never.
        started: When it began.
        can_stop: Whether the handler can be stopped at all.
        is_shielded: Whether only the server itself may stop it.
        begun: Whether the task has begun: it may still be at the interceptors.
        call: What interceptors see of it, None if there are none.
        fate: Whether the caller still waits.
        task: What runs it.
        inlet: The caller's items, of a stream that has some.
        outlet: Where the items of a stream go.
        given: The items that the handler gives.
        threads: Of a blocking handler; more than one if an interceptor tried again.
        is_timed: Whether it is one of the calls whose time is counted.
        thread_id: Of the thread that runs it now, 0 if none does.
    """

    __slots__ = (
        "begun", "call", "can_stop", "deadline", "fate", "frame", "given", "inlet", "is_shielded",
        "is_timed", "method", "outlet", "started", "task", "thread_id",
        "threads",
    )  # fmt: skip

    def __init__(self, method: Method, frame: Frame, started: float, deadline: float) -> None:
        """Note a call that is about to run."""
        mode, traits = method.info.info.mode, method.info.info.traits
        self.can_stop = mode is not Mode.THREAD
        self.is_shielded = traits.cancel == "shield"
        self.method = method
        self.frame = frame
        self.started = started
        self.deadline = deadline
        self.begun = False
        self.call: Call | None = None
        self.fate = Fate.OWED
        self.task: asyncio.Task[None] | None = None
        self.inlet: Inlet | None = None
        self.outlet: Outlet | None = None
        self.given: AsyncIterator[Any] | None = None
        self.threads: tuple[asyncio.Future[Any], ...] = ()
        self.is_timed = True
        self.thread_id = 0

    @property
    def is_called(self) -> bool:
        """Whether the handler has been called: interceptors may not have come to it."""
        return self.call is None or self.call.is_called

    @property
    def has_served(self) -> bool:
        """Whether items have passed: a stream that did work, though it may end early."""
        sent, taken = self.outlet, self.inlet
        return (sent is not None and sent.count > 0) or (taken is not None and taken.count > 0)

    def settle(
        self, fate: Fate, *, by_server: bool = False, cause: Exception | None = None
    ) -> bool:
        """Decide the fate and cancel the handler; False if it was decided before.

        A thread can't be cancelled and goes on to its end. A task that has not
        begun is not cancelled either: it would never run, not even its `finally`.
        A handler that goes on all the same finds its streams ended.

        Args:
            fate: What becomes of the reply.
            by_server: Whether it is for the server's own sake, which no shield stops.
            cause: What a handler is told that still wants items; None: its call is over.
        """
        if self.fate is not Fate.OWED:
            return False
        self.fate = fate
        stops = self.can_stop and (by_server or not self.is_shielded)
        if self.begun and self.task is not None and stops:
            self.task.cancel()
        if self.outlet is not None or self.inlet is not None:
            self._end_items(cause)
        return True

    def _end_items(self, cause: Exception | None) -> None:
        """Let no more items come or go: nobody sends any, and nobody waits for them."""
        name = self.method.info.info.name
        if self.inlet is not None:
            self.inlet.end(cause or Cancelled(f"{name}: the call is over", method=name))
        if self.outlet is not None:
            self.outlet.close(StreamEnded(f"{name}: nobody waits for items any more"))
