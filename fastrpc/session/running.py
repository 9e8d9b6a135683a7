"""Note the calls whose handlers have not ended, and what becomes of their replies."""

from enum import Enum
from typing import TYPE_CHECKING, final

from fastrpc.call import Mode
from fastrpc.frame import Frame, Method

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
        begun: Whether the task has come to the handler.
        fate: Whether the caller still waits.
        task: What runs it.
    """

    __slots__ = ("begun", "deadline", "fate", "frame", "method", "started", "task")

    def __init__(self, method: Method, frame: Frame, started: float, deadline: float) -> None:
        """Note a call that is about to run."""
        self.method = method
        self.frame = frame
        self.started = started
        self.deadline = deadline
        self.begun = False
        self.fate = Fate.OWED
        self.task: asyncio.Task[None] | None = None

    def settle(self, fate: Fate) -> bool:
        """Decide the fate and cancel the handler; False if it was decided before.

        A thread can't be cancelled and goes on to its end. A task that has not
        begun is not cancelled either: it would never run, not even its `finally`.
        """
        if self.fate is not Fate.OWED:
            return False
        self.fate = fate
        if self.begun and self.task is not None and self.method.mode != Mode.THREAD:
            self.task.cancel()
        return True
