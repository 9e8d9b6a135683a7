"""Say what handlers and interceptors see of a request: the call, its peer, its reply.

One shape serves both sides: a `Handler` takes a `Call` and returns a `Reply`, an
`Interceptor` takes a handler and returns one that does something before, after or
instead of it.

Rules of the room:
  * a call belongs to one request and is used by nobody afterwards;
  * metadata is unpacked when somebody looks at it.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar, final

from fastrpc.call.metadata import Metadata, Pairs, encode_metadata
from fastrpc.errors import ConfigError, Internal
from fastrpc.wire import Limits

T = TypeVar("T")


class Peer(ABC):
    """The other end of a connection, as something to call.

    A handler gets one by annotating a parameter with it, and may keep it: calls fail
    with `ConnectionLost` once the connection is gone.

    Attributes:
        address: Where it is, such as "tcp://10.0.0.7:51234".
        is_open: Whether calls may be sent.
    """

    address: str
    is_open: bool

    @abstractmethod
    def call(self, method: str, /, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """Start a call and return its awaitable."""

    @abstractmethod
    def notify(self, method: str, /, *args: Any, **kwargs: Any) -> None:
        """Send a oneway call: no reply, not even an error."""

    @abstractmethod
    def stream(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Return a stream, not yet opened."""

    @abstractmethod
    def stub(
        self, service: type[T], name: str | None = None, *, version: str = "", group: str = ""
    ) -> T:
        """Return an object with the methods of *service*, each calling the peer."""

    @abstractmethod
    def dismiss(self, why: str) -> None:
        """Close the connection as soon as what this turn of the loop sends is written.

        The peer is told that it is not wanted (status 45), and *why*.
        """


@final
class Call:
    """One request with its context, at the side that handles it or that sends it.

    A handler gets it by annotating a parameter: `call: fastrpc.Call = fastrpc.GIVEN`.

    Args:
        method: Full method name.
        args: Positional arguments; an interceptor may put others here.
        kwargs: Arguments by name.
        metadata: What came, or goes, beside the arguments.
        deadline: Moment of `time.monotonic` when the caller's patience ends, 0 for never.
        peer: Who calls; None at the side that sends.
        id: What the logs of both sides call it, "" if it has none yet.
        is_oneway: Nobody waits for a reply.
        items: The caller's items, of a stream that has some.

    Attributes:
        reply_metadata: What a handler wants to send beside its result.
        state: Whatever interceptors and handlers want to pass on.
        sender: Does what the call asks for; the innermost handler. Not for users.
    """

    __slots__ = (
        "_metadata", "_packed", "args", "deadline", "id", "is_oneway", "items", "kwargs", "method",
        "peer", "reply_metadata", "sender", "state",
    )  # fmt: skip

    def __init__(
        self,
        method: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        metadata: bytes | Pairs = b"",
        deadline: float = 0.0,
        peer: Peer | None = None,
        id: str = "",
        is_oneway: bool = False,
        items: AsyncIterable[Any] | None = None,
    ) -> None:
        self.method = method
        self.args = args
        self.kwargs = kwargs
        self._packed = metadata
        self._metadata: Metadata | None = None
        self.deadline = deadline
        self.peer = peer
        self.id = id
        self.is_oneway = is_oneway
        self.items = items
        self.reply_metadata: Pairs = ()
        self.state: dict[str, Any] = {}
        self.sender: Handler | None = None

    def __repr__(self) -> str:
        """Tell method and peer; arguments and metadata may be secret."""
        return f"<Call {self.method} of {self.peer.address if self.peer else 'this side'}>"

    @property
    def metadata(self) -> Metadata:
        """The pairs beside the arguments; give it other pairs to send others."""
        if self._metadata is None:
            self._metadata = Metadata(self._packed)
        return self._metadata

    @metadata.setter
    def metadata(self, pairs: bytes | Pairs) -> None:
        self._packed = pairs
        self._metadata = None

    def add_metadata(self, pairs: bytes | Pairs) -> None:
        """Send *pairs* as well; packed ones cost least."""
        if isinstance(pairs, bytes) and isinstance(self._packed, bytes):
            self.metadata = self._packed + pairs
        else:
            self.metadata = [*self.metadata.pairs, *Metadata(pairs).pairs]

    def packed(self, limits: Limits) -> bytes:
        """Return the metadata as it is sent."""
        if isinstance(self._packed, bytes):
            return self._packed
        return encode_metadata(self._packed, limits)

    def left(self, now: float) -> float:
        """Return the seconds until the deadline at *now*, infinity if there is none."""
        return self.deadline - now if self.deadline else float("inf")


@final
class Reply:
    """The outcome of a call that went well; one that did not is an exception.

    Args:
        value: The result.
        metadata: What goes, or came, beside it.
        items: The items that come back, of a stream that has some.
    """

    __slots__ = ("_metadata", "_packed", "items", "value")

    def __init__(
        self,
        value: Any = None,
        *,
        metadata: bytes | Pairs = b"",
        items: AsyncIterator[Any] | None = None,
    ) -> None:
        self.value = value
        self._packed = metadata
        self._metadata: Metadata | None = None
        self.items = items

    def __repr__(self) -> str:
        """Tell what kind it is; values may be secret."""
        return f"<Reply{' of items' if self.items is not None else ''}>"

    @property
    def metadata(self) -> Metadata:
        """The pairs beside the result; give it other pairs to send others."""
        if self._metadata is None:
            self._metadata = Metadata(self._packed)
        return self._metadata

    @metadata.setter
    def metadata(self, pairs: bytes | Pairs) -> None:
        self._packed = pairs
        self._metadata = None

    def packed(self, limits: Limits) -> bytes:
        """Return the metadata as it is sent."""
        if isinstance(self._packed, bytes):
            return self._packed
        return encode_metadata(self._packed, limits) if self._packed else b""


#: Does what a call asks for.
Handler = Callable[[Call], Awaitable[Reply]]

#: Returns a handler around another: what comes before, after or instead of it.
Interceptor = Callable[[Handler], Handler]

#: Default of parameters that the server fills in, so that type checkers let callers leave them out.
GIVEN: Final[Any] = None


def chain(interceptors: Sequence[Interceptor]) -> Handler | None:
    """Return the handler that *interceptors* make, outermost first; None if there are none.

    Raises:
        ConfigError: One of them gives no handler.
    """
    handler: Handler = _innermost
    for wrap in reversed(interceptors):
        handler = wrap(handler)
        if not callable(handler):
            raise ConfigError(f"interceptor {wrap!r} must return a handler, got {handler!r}")
    return handler if interceptors else None


def checked(reply: object, name: str) -> Reply:
    """Return what interceptors gave for a call of *name*, which must be a reply.

    Raises:
        Internal: It is something else.
    """
    if isinstance(reply, Reply):
        return reply
    raise Internal(f"an interceptor of {name} gave {type(reply).__name__} for a Reply", method=name)


def _innermost(call: Call) -> Awaitable[Reply]:
    # No coroutine of its own: each costs both sides of every call.
    if call.sender is None:
        raise Internal("an interceptor made a call of its own; change the one it is given")
    return call.sender(call)
