"""Say what went wrong, and whether the call may safely be sent again.

The tree, whole:

* `FastRPCError`
    * `ConfigError` (a `ValueError`): an option, target or service is wrong
    * `FrameError`: bytes that are no frame
    * `ProtocolError`: frames in an order the protocol forbids
    * `TransportError` (a `ConnectionError`)
        * `ConnectFailed`: no connection could be made
            * `ProxyError`: the forward proxy on the way did not make it
        * `ConnectionLost`: it broke while calls were open
        * `ConnectionDraining`: the peer takes no more calls
        * `RegistryLost`: a registry can't be asked now
    * `CodecError`: a value could not be encoded, or bytes not decoded
    * `CallError`: the call ended with a status other than ok
        * `DeadlineExceeded` (a `TimeoutError`)
        * `Cancelled`
        * `InvalidArgument`
        * `MethodNotFound`
        * `Unauthenticated`
        * `PermissionDenied`
        * `TooLarge`
        * `Unsupported`
        * `Overloaded`
        * `Unavailable`
        * `Internal`
        * `StreamEnded`: nothing more can be sent on this stream
        * `RemoteError`: the handler raised
            * `RpcError`: the handler raised it on purpose, with a code

Rules of the room:
  * every class carries the wire status it stands for;
  * `ran` is "no", "maybe" or "yes": did the handler start? Only "no" is safe to
    send again without knowing the method;
  * nothing is imported from the rest of the house.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

Ran = Literal["no", "maybe", "yes"]


class FastRPCError(Exception):
    """Base of every error that fastrpc raises on its own account."""

    status: int = 50
    ran: Ran = "no"


class ConfigError(FastRPCError, ValueError):
    """An option, a target or a service description can't be used as given."""

    status = 40


class FrameError(FastRPCError):
    """Bytes from the peer are not a frame.

    Args:
        message: What is wrong, in words.
        at: The part of the frame that is wrong: "magic", "header size",
            "version", "body size", "name and meta" or "segment table".
        seen: The first bytes of the offending input, for messages.
    """

    status = 70

    def __init__(self, message: str, at: str = "", seen: bytes = b"") -> None:
        super().__init__(message)
        self.at = at
        self.seen = seen


class ProtocolError(FastRPCError):
    """The peer broke a rule of the protocol; the connection is closed.

    Args:
        message: Which rule, in words.
        status: The status told to the peer in GOAWAY (70, or 71 for floods).
    """

    status = 70

    def __init__(self, message: str, status: int = 70) -> None:
        super().__init__(message)
        self.status = status


class TransportError(FastRPCError, ConnectionError):
    """The byte pipe to the peer failed."""

    status = 10

    def __init__(self, message: str, ran: Ran = "no") -> None:
        super().__init__(message)
        self.ran = ran


class ConnectFailed(TransportError):
    """No connection could be made; no call was sent."""


class ProxyError(ConnectFailed):
    """The forward proxy could not be reached, or does not let us through.

    Args:
        message: What it said, in words, and never the credentials.
        http_status: Its answer, such as 407; 0 if it gave none.
    """

    def __init__(self, message: str, http_status: int = 0) -> None:
        super().__init__(message)
        self.http_status = http_status


class ConnectionLost(TransportError):
    """The connection ended while the call was open."""


class ConnectionDraining(TransportError):
    """The peer takes no more calls on this connection; the call was not run."""

    status = 53


class RegistryLost(TransportError):
    """A registry can't be asked now: nobody knows more than before."""


class CodecError(FastRPCError):
    """A value could not be encoded, or bytes could not be decoded."""

    status = 40


class CallError(FastRPCError):
    """The call ended with a status other than ok.

    Args:
        message: What happened, in words a caller can act on.
        ran: Whether the handler was started; by default what the class says.
        method: The method called, if known.
        retry_after: Seconds the server asks the caller to stay away, or None.

    Attributes:
        call_id: What the server's log calls this call; empty if it did not answer.
    """

    call_id: str = ""

    def __init__(
        self,
        message: str = "",
        *,
        ran: Ran | None = None,
        method: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        if ran is not None:
            self.ran = ran
        self.message = message
        self.method = method
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """Where the time of a call went, in seconds; None means nobody knows.

    `wire` is everything between handing the request over and giving up, less
    the handler's own time if the server told it.
    """

    total: float = 0.0
    connecting: float = 0.0
    queued: float = 0.0
    wire: float | None = None
    handler: float | None = None

    def __str__(self) -> str:
        """Tell the stages in milliseconds, known ones only."""
        parts = [("connecting", self.connecting), ("queued", self.queued)]
        if self.handler is None and self.wire is not None:
            parts.append(("on the wire and in the handler", self.wire))
        else:
            parts += [("on the wire", self.wire or 0.0), ("in the handler", self.handler or 0.0)]
        return ", ".join(f"{name} {seconds * 1e3:.1f} ms" for name, seconds in parts)


class DeadlineExceeded(CallError, TimeoutError):
    """The call's deadline passed; the message says which stage ate the time.

    Args:
        message: The whole story in one line.
        stages: The same as numbers.
        attempts: How often a connection or the call was tried.
        address: The target tried last.
    """

    status = 51
    ran: Ran = "maybe"

    def __init__(
        self,
        message: str = "",
        *,
        ran: Ran | None = None,
        method: str = "",
        retry_after: float | None = None,
        stages: Stages | None = None,
        attempts: int = 1,
        address: str = "",
    ) -> None:
        super().__init__(message, ran=ran, method=method, retry_after=retry_after)
        self.stages = stages if stages is not None else Stages()
        self.attempts = attempts
        self.address = address


class Cancelled(CallError):
    """The server ended the call because somebody cancelled it there."""

    status = 42
    ran: Ran = "maybe"


class InvalidArgument(CallError):
    """The arguments don't fit the method; the handler was not run."""

    status = 40


class MethodNotFound(CallError):
    """The server knows no such method."""

    status = 44


class Unauthenticated(CallError):
    """The server wants to know who is calling."""

    status = 43


class PermissionDenied(CallError):
    """The caller may not call this method."""

    status = 45


class TooLarge(CallError):
    """A request is larger than the receiver accepts, or than a limit allows."""

    status = 46


class Unsupported(CallError):
    """The receiver lacks the codec, compression or feature the call needs."""

    status = 47


class Overloaded(CallError):
    """The server refused the call because it has too much to do."""

    status = 52


class Unavailable(CallError):
    """The server is draining or otherwise not taking calls."""

    status = 53


class Internal(CallError):
    """The server failed outside the handler, or the result could not be sent."""

    status = 50
    ran: Ran = "yes"


class StreamEnded(CallError):
    """Nothing more can be sent on this stream: it has ended, or its end was sent."""

    status = 42
    ran: Ran = "maybe"


class RemoteError(CallError):
    """The handler raised an exception.

    If the server tells what that was raised from, `__cause__` is one of these, too.

    Args:
        message: Text of the remote exception.
        type: Name of the remote exception's class.
        code: Application code, 0 if there is none.
        data: Whatever the handler attached, already decoded.
        trace: Remote traceback as text, only if the server sends them.
    """

    status = 50
    ran: Ran = "yes"

    def __init__(
        self,
        message: str = "",
        *,
        type: str = "",
        code: int = 0,
        data: Any = None,
        trace: str | None = None,
        method: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, method=method, retry_after=retry_after)
        self.type = type
        self.code = code
        self.data = data
        self.trace = trace

    def __str__(self) -> str:
        """Tell the remote class and its text."""
        return f"{self.type}: {self.message}" if self.type else self.message


class RpcError(RemoteError):
    """Raise it in a handler to answer with an application code of your own.

    The caller gets the same class with the same code, message and data. A class
    derived from it arrives as itself if both sides registered it.

    Args:
        code: Your number, 0 to 2**32 - 1.
        message: Text for people.
        data: Any value the codec can encode.
    """

    status = 60

    def __init__(self, code: int, message: str = "", data: Any = None) -> None:
        if not 0 <= code <= 0xFFFFFFFF:
            raise ConfigError(f"RpcError code must be 0 to 2**32 - 1, got {code}")
        super().__init__(message, type="RpcError", code=int(code), data=data)  # an IntEnum, too

    def __str__(self) -> str:
        """Tell the code and the text."""
        return f"[{self.code}] {self.message}"


class _Classes:
    """Which class a caller gets for a status that came over the wire."""

    BY_STATUS: ClassVar[dict[int, type[CallError]]] = {
        40: InvalidArgument,
        41: DeadlineExceeded,
        42: Cancelled,
        43: Unauthenticated,
        44: MethodNotFound,
        45: PermissionDenied,
        46: TooLarge,
        47: Unsupported,
        50: RemoteError,
        51: DeadlineExceeded,
        52: Overloaded,
        53: Unavailable,
        54: Internal,
        60: RpcError,
    }


def class_of(status: int) -> type[CallError]:
    """Return the class that stands for *status*; `Internal` for unknown ones."""
    return _Classes.BY_STATUS.get(status, Internal)
