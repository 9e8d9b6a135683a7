"""Say what handlers and interceptors see of a request: the call, its peer, its reply.

One shape serves both sides: a `Handler` takes a `Call` and returns a `Reply`, an
`Interceptor` takes a handler and returns one that does something before, after or
instead of it.

Rules of the room:
  * a call belongs to one request and is used by nobody afterwards;
  * metadata is unpacked when somebody looks at it.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, TypeVar, final

from fastrpc.call.identity import Identity
from fastrpc.call.metadata import Metadata, Pairs, encode_metadata
from fastrpc.errors import ConfigError
from fastrpc.frame import CallFields, ReplyFields, innermost
from fastrpc.frame import checked as _checked
from fastrpc.wire import Limits

T = TypeVar("T")


class Peer(ABC):
    """The other end of a connection, as something to call.

    A handler gets one by annotating a parameter with it, and may keep it: calls fail
    with `ConnectionLost` once the connection is gone.

    Attributes:
        address: Where it is, such as "tcp://10.0.0.7:51234".
        is_open: Whether calls may be sent.
        identity: Who it is by its certificate; None if it showed none, or none that was checked.
    """

    address: str
    is_open: bool
    identity: Identity | None

    @abstractmethod
    def call_id(self, number: int) -> str:
        """Return what the logs of both sides call a call of this peer's."""

    @abstractmethod
    def call(self, method: str, /, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """Start a call and return its awaitable."""

    @abstractmethod
    async def exchange(self, method: str, /, *args: Any, **kwargs: Any) -> "Reply":
        """Call *method* and return the whole reply: its value and its metadata."""

    @abstractmethod
    async def gather(self, calls: Iterable[tuple[Any, ...]]) -> list[Any]:
        """Make many calls that leave together; return results or exceptions, in order."""

    @abstractmethod
    def options(self, *, timeout: float | None = ..., metadata: Pairs | None = ...) -> Any:
        """Return a view with other options; this one stays as it is."""

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


class _HasMetadata:
    """The metadata of a call or a reply, unpacked when somebody looks at it."""

    __slots__ = ()
    packed_metadata: bytes | Pairs

    @property
    def metadata(self) -> Metadata:
        """The pairs beside it; give it other pairs to send others."""
        pairs = self.packed_metadata
        if not isinstance(pairs, Metadata):
            pairs = self.packed_metadata = Metadata(pairs)  # type: ignore[misc]
        return pairs

    @metadata.setter
    def metadata(self, pairs: bytes | Pairs) -> None:
        self.packed_metadata = pairs  # type: ignore[misc]

    def packed(self, limits: Limits) -> bytes:
        """Return the metadata as it is sent."""
        pairs = self.packed_metadata
        if isinstance(pairs, bytes):
            return pairs
        return encode_metadata(pairs, limits) if pairs else b""


@final
class Call(CallFields, _HasMetadata):
    """One request with its context, at the side that handles it or that sends it.

    A handler gets it by annotating a parameter: `call: fastrpc.Call = fastrpc.GIVEN`.

    Attributes:
        method: Full method name.
        args: Positional arguments; an interceptor may put others here.
        kwargs: Arguments by name.
        metadata: What came, or goes, beside the arguments.
        deadline: Moment of `time.monotonic` when the caller's patience ends, 0 for never.
        number: Its message id, 0 if it has none yet.
        is_oneway: Nobody waits for a reply.
        items: The caller's items, of a stream that has some.
        reply_metadata: What a handler wants to send beside its result.
        is_called: Whether the handler has been called, at the side that handles it.
        state: Whatever interceptors and handlers want to pass on.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        """Tell method and peer; arguments and metadata may be secret."""
        return f"<Call {self.method} of {self.peer.address if self.peer else 'this side'}>"

    @property
    def peer(self) -> Peer | None:
        """Who calls; None at the side that sends."""
        return None if self.source is None else self.source.as_peer

    @property
    def id(self) -> str:
        """What the logs of both sides call it; "" at the side that sends."""
        return self.peer.call_id(self.number) if self.peer is not None else ""

    def add_metadata(self, pairs: bytes | Pairs) -> None:
        """Send *pairs* as well; packed ones cost least."""
        if isinstance(pairs, bytes) and isinstance(self.packed_metadata, bytes):
            self.packed_metadata += pairs
        else:
            self.metadata = [*self.metadata.pairs, *Metadata(pairs).pairs]

    @property
    def state(self) -> dict[str, Any]:
        """A dict of the call's own."""
        if self.passed is None:
            self.passed = {}
        return self.passed  # type: ignore[no-any-return]

    def left(self, now: float) -> float:
        """Return the seconds until the deadline at *now*, infinity if there is none."""
        return self.deadline - now if self.deadline else float("inf")


@final
class Reply(ReplyFields, _HasMetadata):
    """The outcome of a call that went well; one that did not is an exception.

    Args:
        value: The result.
        metadata: What goes, or came, beside it.
        items: The items that come back, of a stream that has some.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        """Tell what kind it is; values may be secret."""
        return f"<Reply{' of items' if self.items is not None else ''}>"


#: Does what a call asks for.
Handler = Callable[[Call], Awaitable[Reply]]

#: Returns a handler around another: what comes before, after or instead of it.
Interceptor = Callable[[Handler], Handler]

#: Default of parameters that the server fills in, so that type checkers let callers leave them out.
GIVEN: Final[Any] = None


async def close_items(items: object) -> None:
    """Let the source of *items* leave, if it can; twice is fine."""
    close = getattr(items, "aclose", None)
    if close is not None:
        await close()


def check_interceptors(interceptors: Iterable[Interceptor]) -> tuple[Interceptor, ...]:
    """Return *interceptors* as they will be used.

    Raises:
        ConfigError: They are no list, or one of them can't be called.
    """
    given: object = interceptors  # whatever people give in spite of the annotation
    if not isinstance(given, Iterable):
        raise ConfigError(f"interceptors must be a list of them, got {interceptors!r}")
    known = tuple(interceptors)
    for one in known:
        if not callable(one):
            raise ConfigError(f"an interceptor takes a handler and returns one, got {one!r}")
    return known


def chain(interceptors: Sequence[Interceptor]) -> Handler | None:
    """Return the handler that *interceptors* make, outermost first; None if there are none.

    Raises:
        ConfigError: One of them gives no handler.
    """
    handler: Handler = innermost
    for wrap in reversed(check_interceptors(interceptors)):
        handler = wrap(handler)
        if not callable(handler):
            raise ConfigError(f"interceptor {wrap!r} must return a handler, got {handler!r}")
    return handler if interceptors else None


def checked(reply: object, name: str) -> Reply:
    """Return what interceptors gave for a call of *name*, which must be a reply.

    Raises:
        Internal: It is something else.
    """
    return _checked(reply, name)  # type: ignore[no-any-return]
