"""Tell the refusals of server code from errors that merely pass through it.

Who writes `raise fastrpc.PermissionDenied("...")` in a handler or an interceptor means
the caller, who then gets that class. The same class may come out of a handler because
a call it made elsewhere was refused; that is no answer of this server's, and passing
it on would blame the wrong one. Nobody marks the difference, so it is looked for.

Rules of the room:
  * a refusal is what the application raised itself: an error that names a method or a
    call is about another call, and one that was raised inside fastrpc is the library's.
    What names this very call is one: its caller sent an item that can't be read;
  * what can't be told is no refusal: it is a fault, and logged as one;
  * nothing here raises, whatever the exception's class does.
"""

from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Final

from fastrpc.errors import (
    CallError,
    Cancelled,
    DeadlineExceeded,
    InvalidArgument,
    MethodNotFound,
    Overloaded,
    PermissionDenied,
    Ran,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unsupported,
)
from fastrpc.wire import NOT_RUN

#: Classes with which server code can refuse a call. Faults are not among them.
REFUSALS: Final[tuple[type[CallError], ...]] = (
    InvalidArgument, Cancelled, Unauthenticated, MethodNotFound, PermissionDenied, TooLarge,
    Unsupported, DeadlineExceeded, Overloaded, Unavailable,
)  # fmt: skip

#: What such a class is called where its status would be a lie: the handler has run.
_PREFIX: Final = "fastrpc."
_BY_NAME: Final = {_PREFIX + kind.__name__: kind for kind in REFUSALS}

#: Ours, but written in the place of an application: their refusals count as its own.
_OURS: Final = "fastrpc"
_LENT: Final = "fastrpc.policy"

_RETRY_MAX: Final = 86_400_000  # milliseconds that a caller can be told to stay away

_mro_of: Final = type.__dict__["__mro__"].__get__
_traceback_of: Final = BaseException.__dict__["__traceback__"].__get__


@dataclass(frozen=True, slots=True)
class Refusal:
    """What server code says to a caller whose call it refuses.

    Attributes:
        kind: The class that the caller gets.
        text: Its message.
        ran: Whether the handler ran, as far as who raised it knows.
        retry_ms: Milliseconds to stay away, None if nothing is said about that.
    """

    kind: type[CallError]
    text: str
    ran: Ran
    retry_ms: int | None

    @property
    def status(self) -> int:
        """What stands for the class on the wire."""
        return self.kind.status

    @property
    def name(self) -> str:
        """What the class is called where its status can't be used."""
        return _PREFIX + self.kind.__name__

    def may_be_told(self, started: bool) -> bool:
        """Say whether its status is true of a call whose handler has *started*, or has not."""
        return self.status not in NOT_RUN or (not started and self.ran == "no")


def refusal_of(exc: BaseException, method: str = "", call: str = "") -> Refusal | None:
    """Return what *exc* refuses a call with; None if it is no refusal of this side's.

    Args:
        exc: What was raised.
        method: Full name of the method that was called, if it is known.
        call: What logs call the call.
    """
    try:
        if not issubclass(type(exc), CallError):
            return None
        kind = next((base for base in _mro_of(type(exc)) if base in REFUSALS), None)
        if kind is None or (not _is_of_call(exc, method, call) and _is_of_another_call(exc)):
            return None
        ran: Ran = "no" if getattr(exc, "ran", "yes") == "no" else "yes"
        return Refusal(kind, str(exc), ran, _milliseconds(getattr(exc, "retry_after", None)))
    except BaseException:  # of a class of the application's, which may do anything
        return None


def class_named(name: str) -> type[CallError] | None:
    """Return the class that a peer's refusal by name means, None for any other name."""
    return _BY_NAME.get(name)


def _is_of_call(exc: BaseException, method: str, call: str) -> bool:
    """Tell whether it speaks of this very call: an item of its caller's can't be read, say."""
    told = getattr(exc, "method", ""), getattr(exc, "call_id", "")
    return bool(call) and told == (method, call)


def _is_of_another_call(exc: BaseException) -> bool:
    if getattr(exc, "method", "") or getattr(exc, "call_id", ""):
        return True
    frame = _raised_in(_traceback_of(exc))
    module = frame.f_globals.get("__name__", "") if frame is not None else ""
    inside = module == _OURS or module.startswith(f"{_OURS}.")
    return inside and not (module == _LENT or module.startswith(f"{_LENT}."))


def _raised_in(trace: TracebackType | None) -> FrameType | None:
    """Return the frame where it was raised: the innermost, which compiled units have, too."""
    if trace is None:
        return None
    while trace.tb_next is not None:
        trace = trace.tb_next
    return trace.tb_frame


def _milliseconds(seconds: object) -> int | None:
    if not isinstance(seconds, int | float) or not seconds >= 0:
        return None
    return int(min(seconds * 1000, _RETRY_MAX))
