"""Say whether a call that failed may be sent again, and what that costs.

A call that was not run may always be sent again; one that may have run only if it is
idempotent. What a second try can't mend, wrong arguments, a missing right, is never sent
again. It is the rule of gRPC's design A6 (grpc/proposal), and not that of libraries that
send again whenever a connection breaks.

Rules of the room:
  * nothing is guessed: who does not know that a method is idempotent says it is not.
"""

from enum import Enum
from typing import Final

from fastrpc.errors import (
    CallError,
    ConnectFailed,
    ConnectionDraining,
    DeadlineExceeded,
    FastRPCError,
    Internal,
    Overloaded,
    RegistryLost,
    RemoteError,
    RpcError,
    TransportError,
    Unavailable,
)

#: Errors that another try may not meet.
PASSING: Final = (TransportError, Unavailable, Overloaded)

#: Errors that count against the server they come from. An application's own answer does not.
FAULTS: Final = (TransportError, Unavailable, Internal, DeadlineExceeded, RemoteError)


class Resend(Enum):
    """What to do about a call that failed."""

    NEVER = "never"
    IF_IDEMPOTENT = "if idempotent"  # it may have run
    PAID = "paid"  # it was not run; the retry budget pays for the next try
    FREE = "free"  # it never reached a handler, nor could it have: that loads nobody


def judge(error: BaseException) -> Resend:
    """Say what to do about a call that ended with *error*."""
    if not isinstance(error, PASSING) or isinstance(error, RegistryLost):
        return Resend.NEVER
    if error.ran != "no":
        return Resend.IF_IDEMPOTENT
    return Resend.FREE if isinstance(error, ConnectionDraining | ConnectFailed) else Resend.PAID


def is_fault(error: BaseException) -> bool:
    """Say whether *error* counts against the server it comes from."""
    return isinstance(error, FAULTS) and not isinstance(error, RpcError | ConnectionDraining)


def pushback(error: BaseException) -> float:
    """Return the seconds for which the server wants to be left alone; 0 if it did not say."""
    asked = error.retry_after if isinstance(error, CallError) else None
    return min(max(asked or 0.0, 0.0), PUSHBACK_MAX)


def has_run(error: BaseException) -> bool:
    """Say whether the call may have been run."""
    return not isinstance(error, FastRPCError) or error.ran != "no"


#: Longest time for which a server can ask to be left alone.
PUSHBACK_MAX: Final = 60.0
