"""Know the deadline of the call that is being handled, for the calls it makes.

A handler's own calls must not outlive the patience of whoever called it. So the
deadline is in the handler's context, and a client that is used there shortens its
timeouts to what is left.
"""

from contextvars import ContextVar
from typing import Final

#: Moment of `time.monotonic` when the call in hand has to be answered; 0 for never.
DEADLINE: Final[ContextVar[float]] = ContextVar("fastrpc.deadline", default=0.0)

LEAST: Final = 1e-6  # what is left of a deadline that has passed: 0 would be none


def within(timeout: float, now: float) -> float:
    """Return *timeout* (0 for none), or what is left of the call in hand if that is less."""
    deadline = DEADLINE.get()
    if not deadline:
        return timeout
    left = max(deadline - now, LEAST)
    return min(timeout, left) if timeout else left
