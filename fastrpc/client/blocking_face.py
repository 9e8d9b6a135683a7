"""Say what blocking clients can do, of a server and of a cluster alike, and their views.

It is apart from both, for one calls through a socket of its own, and the other through a loop
in a thread.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, TypeVar, cast

from fastrpc.call import Pairs, Reply
from fastrpc.client.broadcast import BroadcastMode, InstanceResult
from fastrpc.client.stats import ClientStats
from fastrpc.session import KEEP, BlockingStream, Keep

__all__ = ["BlockingCalls", "BlockingClient"]

T = TypeVar("T")
_Self = TypeVar("_Self", bound="BlockingClient")


class BlockingCalls(ABC):
    """Something to call from a thread, with certain options."""

    @abstractmethod
    def call(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call *method* and return its result.

        Args:
            method: Full name, such as "Arith.add".
            *args: Positional arguments.
            **kwargs: Arguments by name.

        Raises:
            CodecError: The arguments can't be encoded.
            CallError: Any of its kinds.
            TransportError: There is no connection, or it broke; see `ran`.
        """

    @abstractmethod
    def exchange(self, method: str, /, *args: Any, **kwargs: Any) -> Reply:
        """Call *method* and return the whole reply: its value and its metadata.

        Raises:
            Exception: As `call` does.
        """

    @abstractmethod
    def gather(self, calls: Iterable[tuple[Any, ...]]) -> list[Any]:
        """Make many calls that leave together; return their results, in order.

        A call that fails does not disturb the others: its exception stands in the
        place of its result.

        Args:
            calls: For each call its method and arguments: `("Arith.add", 1, 2)`.

        Raises:
            InvalidArgument: One of them is something else; none is made.
        """

    @abstractmethod
    def broadcast(self, method: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call every instance at once; return one of the results, or what the mode says.

        Of one server it is the one call.

        Args:
            method: Full name, such as "Arith.add", or a method of a stub of this client.
            *args: Positional arguments.
            **kwargs: Arguments by name.

        Raises:
            Unavailable: No instance is listed, or fewer than the mode needs; nothing was
                sent.
            BroadcastFailed: Fewer are well than the mode needs.
            Exception: In mode "one", the error that came first; a note says from whom.
        """

    @abstractmethod
    def broadcast_each(self, method: Any, /, *args: Any, **kwargs: Any) -> Iterator[InstanceResult]:
        """Call every instance at once, and iterate over the results as they come.

        The calls leave with the first `next`; leaving early cancels those that are open.

        Args:
            method: As for `broadcast`.
            *args: Positional arguments.
            **kwargs: Arguments by name.
        """

    @abstractmethod
    def shard(self, method: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Split the first argument by key, and call each instance with the keys it owns.

        Of one server it is the one call. See `ClientView.shard` for the rest.

        Args:
            method: As for `broadcast`.
            *args: Positional arguments, the first of which is split.
            **kwargs: Arguments by name.

        Raises:
            ShardFailed: Some parts failed; it has what came, and the keys that are missing.
            InvalidArgument: The first argument is no list and no dict, or has keys that
                can't be ones.
            Unavailable: No instance is listed.
        """

    @abstractmethod
    def stream(self, method: str, /, *args: Any, **kwargs: Any) -> BlockingStream[Any]:
        """Return a stream, which opens when it is first used.

        Args:
            method: Full name, such as "Arith.count".
            *args: Positional arguments, without the items that are sent.
            **kwargs: Arguments by name.
        """

    @abstractmethod
    def notify(self, method: str, /, *args: Any, **kwargs: Any) -> None:
        """Send a oneway call: no reply, not even an error.

        Raises:
            CodecError: The arguments can't be encoded.
            TooLarge: They are larger than the server accepts.
            TransportError: There is no connection.
        """

    @abstractmethod
    def stub(
        self, service: type[T], name: str | None = None, *, version: str = "", group: str = ""
    ) -> T:
        """Return an object with the methods of *service*, each calling the server.

        Args:
            service: The class that the server registered, or one like it.
            name: Service name if it is not the class's own.
            version: Which version of the service to call; "" for the default.
            group: Which group of it; "" for the default.

        Raises:
            ConfigError: The class can't be a service; the message says why.
        """

    @abstractmethod
    def options(
        self,
        *,
        timeout: float | Keep | None = KEEP,
        metadata: Pairs | Keep | None = KEEP,
        key: object = KEEP,
        idempotent: bool | Keep | None = KEEP,
        broadcast: BroadcastMode | Keep = KEEP,
    ) -> "BlockingCalls":
        """Return a view with other options; this one stays as it is.

        Args:
            timeout: Seconds each call may take, None for no deadline.
            metadata: Sent with each call, None for nothing.
            key: What consistent hashing goes by. Of one server it means nothing.
            idempotent: Whether calls may be sent again when nobody knows whether they ran;
                None for what the methods say. Of one server it means nothing.
            broadcast: What `broadcast` returns, see `ClientView.options`.

        Raises:
            ConfigError: The timeout is not above 0, or there is no such mode.
            InvalidArgument: The metadata can't be sent.
        """


class BlockingClient(BlockingCalls):
    """A server or a cluster, as seen from a program without an event loop.

    Made by `connect_sync`. Threads may share it; a child of a fork has connections of its
    own. Use it in `with`, or call `close` when done.
    """

    @property
    @abstractmethod
    def target(self) -> str:
        """Where the server is, or where servers are looked up."""

    @abstractmethod
    def _connect_now(self) -> None:
        """Make a connection, unless there is one."""

    def __enter__(self: _Self) -> _Self:
        """Connect.

        Raises:
            ConnectFailed: Nobody could be reached, or nobody who speaks fastrpc; the client
                is closed then.
        """
        try:
            self._connect_now()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Close all connections; calls of other threads fail. Twice is fine."""

    @abstractmethod
    def ping(self) -> float:
        """Return the seconds that a ping of the connection takes to come back.

        It is answered below the handlers: a busy server answers, too. Pings that
        come faster than the server allows wait for their turn.

        Raises:
            DeadlineExceeded: No answer within the client's timeout, or, if it has
                none, within `connect_timeout`.
            TransportError: There is no connection, or it broke.
        """

    @abstractmethod
    def stats(self) -> ClientStats:
        """Return what the client knows and does now."""

    def describe(self, *, schema: bool = False) -> dict[str, Any]:
        """Return what the server serves: services, methods, signatures, limits.

        Args:
            schema: Also JSON Schemas of all arguments and results, which may be long.
        """
        asked = {"schema": True} if schema else {}  # older servers take no argument
        return cast("dict[str, Any]", self.call("fastrpc.describe", **asked))
