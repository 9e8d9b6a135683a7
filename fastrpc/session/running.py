"""Note the calls whose handlers have not ended, and what becomes of their replies."""

from enum import Enum
from typing import TYPE_CHECKING, final

from fastrpc.frame import Frame, Inlet, Method, Outlet

if TYPE_CHECKING:
    import asyncio


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
        stops: Whether giving it up stops the handler.
        begun: Whether the task has come to the handler.
        fate: Whether the caller still waits.
        task: What runs it.
        inlet: The caller's items, of a stream that has some.
        outlet: Where the items of a stream go.
    """

    __slots__ = (
        "begun", "deadline", "fate", "frame", "inlet", "method", "outlet", "started", "stops",
        "task",
    )  # fmt: skip

    def __init__(
        self, method: Method, frame: Frame, started: float, deadline: float, stops: bool
    ) -> None:
        """Note a call that is about to run."""
        self.stops = stops
        self.method = method
        self.frame = frame
        self.started = started
        self.deadline = deadline
        self.begun = False
        self.fate = Fate.OWED
        self.task: asyncio.Task[None] | None = None
        self.inlet: Inlet | None = None
        self.outlet: Outlet | None = None

    def settle(self, fate: Fate) -> bool:
        """Decide the fate and cancel the handler; False if it was decided before.

        A thread can't be cancelled and goes on to its end. A task that has not
        begun is not cancelled either: it would never run, not even its `finally`.
        """
        if self.fate is not Fate.OWED:
            return False
        self.fate = fate
        if self.begun and self.task is not None and self.stops:
            self.task.cancel()
        return True
