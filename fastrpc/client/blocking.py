"""Call a server without an event loop and without a thread.

Rules of the room:
  * one connection, made at first use and again when it is gone;
  * threads may share a client, a child of a fork dials anew;
  * no thread and no loop is ever started here.
"""

import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, TypeVar, cast, final

from fastrpc.call import encode_metadata
from fastrpc.call.metadata import Pairs
from fastrpc.client.options import ClientOptions, blocking_side, check_timeout, read_options
from fastrpc.client.stub import make_stub
from fastrpc.errors import ConfigError, ConnectionLost, FastRPCError
from fastrpc.policy import Backoff
from fastrpc.session import BlockingSession, fork, outcome
from fastrpc.transport import dial_blocking, parse_target

T = TypeVar("T")
_KEEP = "keep"


class BlockingView:
    """A blocking client as seen with certain options. Made by `BlockingClient.options`."""

    def __init__(self, client: "BlockingClient", timeout: float, metadata: bytes) -> None:
        self._client = client
        self._timeout = timeout
        self._metadata = metadata

    def call(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call *method* and return its result.

        Raises:
            CodecError: The arguments can't be encoded.
            CallError: Any of its kinds.
            TransportError: There is no connection, or it broke; see `ran`.
        """
        return self._client._call(method, args, kwargs, None, self._timeout, self._metadata)

    def notify(self, method: str, /, *args: Any, **kwargs: Any) -> None:
        """Send a oneway call: no reply, not even an error."""
        self._client._notify(method, args, kwargs, self._metadata)

    def stub(self, service: type[T], name: str | None = None) -> T:
        """Return an object with the methods of *service*, each calling the server.

        Args:
            service: The class that the server registered, or one like it.
            name: Service name if it is not the class's own.
        """

        def bind(method: str, decode: Any) -> Any:
            def call(*args: Any, **kwargs: Any) -> Any:
                client = self._client
                return client._call(method, args, kwargs, decode, self._timeout, self._metadata)

            return call

        return cast("T", make_stub(service, name, bind, self._client._codec))

    def options(
        self, *, timeout: float | str | None = _KEEP, metadata: Pairs | str | None = _KEEP
    ) -> "BlockingView":
        """Return a view with other options; this one stays as it is.

        Args:
            timeout: Seconds each call may take, None for no deadline.
            metadata: Sent with each call, None for nothing.
        """
        seconds = self._timeout
        if timeout != _KEEP:
            seconds = check_timeout(cast("float | None", timeout))
        packed = self._metadata
        if not isinstance(metadata, str):
            packed = encode_metadata(metadata, self._client._options.limits) if metadata else b""
        return BlockingView(self._client, seconds, packed)


@final
class BlockingClient(BlockingView):
    """A server, as seen from a program without an event loop. Made by `connect_sync`.

    Threads may share it. A child of a fork dials its own connection. Use it in
    `with`, or call `close` when done.
    """

    def __init__(self, target: str, options: ClientOptions) -> None:
        self._target = parse_target(target)
        if options.connections != 1:
            raise ConfigError("a blocking client has one connection")
        self._options = options
        self._codecs = options.registry()
        self._codec = self._codecs.get(options.codec)
        self._side = blocking_side(options, self._codecs)
        self._session: BlockingSession | None = None
        self._dialling = threading.Lock()
        self._backoff = Backoff()
        self._retry_at = 0.0
        self._failure: FastRPCError | None = None
        self._closed = False
        super().__init__(self, check_timeout(options.timeout), options.packed_metadata())
        fork.register(self)

    def __repr__(self) -> str:
        """Tell target and state."""
        state = "closed" if self._closed else "up" if self._session is not None else "down"
        return f"<BlockingClient {self._target} {state}>"

    @property
    def target(self) -> str:
        """Where the server is."""
        return str(self._target)

    def __enter__(self) -> "BlockingClient":
        """Connect.

        Raises:
            ConnectFailed: Nobody could be reached, or nobody who speaks fastrpc.
        """
        self._usable(0.0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Close the connection; calls of other threads fail. Twice is fine."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def describe(self) -> dict[str, Any]:
        """Return what the server serves: services, methods, signatures, limits."""
        return cast("dict[str, Any]", self.call("fastrpc.describe"))

    def ping(self) -> float:
        """Return the seconds that a ping of the connection takes to come back."""
        timeout = self._timeout or self._options.connect_timeout
        return self._usable(timeout).ping(timeout)

    def after_fork(self) -> None:
        """Let go of the parent's connection; the child dials its own."""
        if self._session is not None:
            self._session.sever()
        self._session = None
        self._dialling = threading.Lock()  # another thread of the parent may have held it
        self._side = blocking_side(self._options, self._codecs)

    # Calls

    def _call(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any] | None,
        decode: Any,
        timeout: float,
        metadata: bytes,
    ) -> Any:
        session = self._session
        if session is not None and session.is_usable and time.monotonic() < session.fresh_until:
            return session.call(name, args, kwargs, timeout, metadata, decode)
        started = time.monotonic()
        session = self._usable(timeout, name)
        spent = time.monotonic() - started
        left = timeout - spent if timeout else 0.0
        if timeout and left <= 0:
            raise outcome.late(
                name, started, started + timeout, time.monotonic(), self.target,
                connecting=spent, sent=False,
            )  # fmt: skip
        return session.call(name, args, kwargs, left, metadata, decode)

    def _notify(
        self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None, metadata: bytes
    ) -> None:
        self._usable(0.0, name).notify(name, args, kwargs, metadata)

    def _usable(self, timeout: float, name: str = "connect") -> BlockingSession:
        """Return a connection that is open, a new one if need be."""
        session = self._session
        if session is not None and session.is_usable:
            session.look()  # it may have ended while nobody used it
            if session.is_usable:
                return session
        with self._dialling:
            if self._closed:
                raise ConnectionLost(f"this client of {self.target} is closed", "no")
            if self._session is not None and self._session.is_usable:
                return self._session
            if self._failure is not None and time.monotonic() < self._retry_at:
                raise type(self._failure)(str(self._failure))
            patience = self._options.connect_timeout
            started = time.monotonic()
            try:
                self._session = self._dial(min(patience, timeout) if timeout else patience)
            except FastRPCError as exc:
                now = time.monotonic()
                if timeout and now - started >= timeout:
                    raise outcome.late(
                        name, started, started + timeout, now, self.target,
                        connecting=now - started, sent=False,
                    ) from exc  # fmt: skip
                self._failure = exc
                self._retry_at = now + self._backoff.next()
                raise
            self._failure = None
            self._backoff.reset()
            return self._session

    def _dial(self, timeout: float) -> BlockingSession:
        started = time.monotonic()
        sock = dial_blocking(self._target, timeout)
        session = BlockingSession(sock, self._side, self.target, self._codec.serializer)
        try:
            session.greet(max(timeout - (time.monotonic() - started), 0.001))
        except BaseException:
            session.close()
            raise
        return session


def connect_sync(target: str, **options: Any) -> BlockingClient:
    """Return a blocking client of *target*; nothing is connected yet.

    Args:
        target: Such as "tcp://127.0.0.1:7000" or "unix:///run/service.sock".
        **options: Fields of `ClientOptions` and of `wire.Limits`.

    Raises:
        ConfigError: The target or an option is wrong; the message names it.
    """
    return BlockingClient(target, read_options(options))
