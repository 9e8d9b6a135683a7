"""Call a server without an event loop and without a thread.

Rules of the room:
  * one connection, made at first use and again when it is gone;
  * threads may share a client, a child of a fork dials anew;
  * a call waits for the dialling of another thread no longer than its deadline.
"""

import copy
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, TypeVar, Unpack, cast, final

from fastrpc.call import Pairs
from fastrpc.client.options import ClientOptions, ConnectOptions, read_options
from fastrpc.client.pace import PingPace
from fastrpc.errors import (
    ConfigError,
    ConnectionDraining,
    ConnectionLost,
    DeadlineExceeded,
    FastRPCError,
)
from fastrpc.frame import Turns, Waiter
from fastrpc.policy import Backoff
from fastrpc.session import (
    KEEP,
    BlockingSession,
    Keep,
    Side,
    blocking_share,
    check_timeout,
    fork,
    outcome,
)
from fastrpc.session.stub import Bound, make_stub
from fastrpc.transport import dial_blocking, parse_target

T = TypeVar("T")

#: As for the asyncio client, see `link`.
RETRY_CAP: Final = 4.0


class BlockingView:
    """A blocking client as seen with certain options. Made by `BlockingClient.options`."""

    def __init__(self, client: "BlockingClient", timeout: float, metadata: bytes) -> None:
        self._client = client
        self._timeout = timeout
        self._metadata = metadata

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
        session, waiter = self._client._session, None
        if session is not None:  # here, for one Python frame less is 2 % of a call
            waiter = session.at_once(method, args, kwargs, self._timeout, self._metadata, None)
            if waiter is not None and waiter.is_plain:
                return waiter.value
        call = (method, args, kwargs, self._timeout, self._metadata, None)
        return self._client._finish(session, waiter, call)

    def notify(self, method: str, /, *args: Any, **kwargs: Any) -> None:
        """Send a oneway call: no reply, not even an error.

        Raises:
            CodecError: The arguments can't be encoded.
            TooLarge: They are larger than the server accepts.
            TransportError: There is no connection.
        """
        session = self._client._usable(method, time.monotonic(), 0.0)
        session.notify(method, args, kwargs, self._metadata)

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
        codec = self._client._codec
        stub = make_stub(service, name, self._bound, codec, version=version, group=group)
        return cast("T", stub)

    def options(
        self, *, timeout: float | Keep | None = KEEP, metadata: Pairs | Keep | None = KEEP
    ) -> "BlockingView":
        """Return a view with other options; this one stays as it is.

        Args:
            timeout: Seconds each call may take, None for no deadline.
            metadata: Sent with each call, None for nothing.

        Raises:
            ConfigError: The timeout is not above 0.
            InvalidArgument: The metadata can't be sent.
        """
        seconds = self._timeout if isinstance(timeout, Keep) else check_timeout(timeout)
        options = self._client._options
        packed = self._metadata if isinstance(metadata, Keep) else options.pack(metadata)
        return BlockingView(self._client, seconds, packed)

    def _bound(self, bound: Bound) -> Any:
        """Return the callable of a stub's method."""
        return _Bound(self, bound.key, bound.decode)


#: Name, arguments, those by name, timeout, metadata, decoder: what `at_once` takes.
_Call = tuple[str, tuple[Any, ...], Mapping[str, Any], float, bytes, Any]


@final
class _Bound:
    """A method of a stub."""

    __slots__ = ("_decode", "_method", "_view")

    def __init__(self, view: BlockingView, method: str, decode: Any) -> None:
        self._view = view
        self._method = method
        self._decode = decode

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        view = self._view
        session, waiter = view._client._session, None
        call = (self._method, args, kwargs, view._timeout, view._metadata, self._decode)
        if session is not None:
            waiter = session.at_once(*call)
            if waiter is not None and waiter.is_plain:
                return waiter.value
        return view._client._finish(session, waiter, call)


@final
class BlockingClient(BlockingView):
    """A server, as seen from a program without an event loop. Made by `connect_sync`.

    Threads may share it. A child of a fork dials its own connection. Use it in
    `with`, or call `close` when done.
    """

    def __init__(self, target: str, options: ClientOptions) -> None:
        self._target = parse_target(target)
        if options.connections != 1:
            raise ConfigError("a blocking client has one connection; make several clients")
        if options.interceptors:  # silence would leave out a token, say
            raise ConfigError("interceptors are coroutines: a blocking client can't run them")
        self._options = options
        self._codecs = options.registry()
        self._compressors = options.compressor_registry()
        self._codec = self._codecs.get(options.codec)
        self._is_closed = False
        self._start_over()
        super().__init__(self, check_timeout(options.timeout), options.packed_metadata())
        fork.register(self)

    def _start_over(self) -> None:
        """Begin without a connection, and without the locks of another process."""
        self._side = Side(
            share=blocking_share(),
            limits=self._options.limits,
            option=self._options.option(self._codecs),
            compressors=self._compressors,
            compress_from=self._options.compress_from,
            codecs=self._codecs,
            errors=self._options.error_registry(self._codecs),
            log=logging.getLogger("fastrpc.client"),
        )
        self._session: BlockingSession | None = None
        self._draining: list[BlockingSession] = []  # those that still have calls open
        self._lock = threading.Lock()
        self._dialling = Turns()
        self._closing = threading.Event()
        self._pace = PingPace()
        self._backoff = Backoff(cap=RETRY_CAP)
        self._retry_at = self._failed_at = 0.0
        self._failure: FastRPCError | None = None

    def __repr__(self) -> str:
        """Tell target and state."""
        state = "closed" if self._is_closed else "idle" if self._session is None else "open"
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
        self._usable("connect", time.monotonic(), 0.0)
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
        self._is_closed = True
        self._closing.set()
        for session in [self._session, *self._draining]:
            if session is not None:
                session.close()

    def describe(self, *, schema: bool = False) -> dict[str, Any]:
        """Return what the server serves: services, methods, signatures, limits.

        Args:
            schema: Also JSON Schemas of all arguments and results, which may be long.
        """
        asked = {"schema": True} if schema else {}  # older servers take no argument
        return cast("dict[str, Any]", self.call("fastrpc.describe", **asked))

    def ping(self) -> float:
        """Return the seconds that a ping of the connection takes to come back.

        It is answered below the handlers: a busy server answers, too. Pings that
        come faster than the server allows wait for their turn.

        Raises:
            DeadlineExceeded: No answer within the client's timeout, or, if it has
                none, within `connect_timeout`.
            TransportError: There is no connection, or it broke.
        """
        timeout = self._timeout or self._options.connect_timeout
        deadline = (started := time.monotonic()) + timeout
        session = self._usable("ping", started, deadline)
        pause = self._pace.wait(time.monotonic(), session.ping_interval)
        if pause:
            self._closing.wait(min(pause, timeout))
        return session.ping(max(deadline - time.monotonic(), 0.001))

    def after_fork(self) -> None:
        """Let go of the parent's connections; the child dials its own."""
        for session in [self._session, *self._draining]:
            if session is not None:
                session.drop()
        self._start_over()

    # Calls

    def _finish(self, session: BlockingSession | None, waiter: Waiter | None, call: _Call) -> Any:
        """Do what is left of a call that was not plain, or was not sent at all."""
        name, args, kwargs, timeout, metadata, decode = call
        if session is not None and waiter is not None:
            try:
                return session.finish(waiter, *call)
            except ConnectionDraining:
                pass  # it was surely not run: another connection may do it
        started = time.monotonic()
        if waiter is not None and timeout:
            started = waiter.deadline - timeout  # one deadline for both attempts
        deadline = started + timeout if timeout else 0.0
        tries = 0
        while True:
            tries += 1
            session = self._usable(name, started, deadline)
            connecting = time.monotonic() - started
            left = max(timeout - connecting, 1e-6) if timeout else 0.0
            try:
                return session.finish(None, name, args, kwargs, left, metadata, decode)
            except ConnectionDraining:
                if tries == 2:
                    raise
            except DeadlineExceeded as exc:
                now = time.monotonic()
                if not deadline or now < deadline:  # the server's own limit
                    raise
                raise outcome.late(
                    name, started, deadline, now, self.target, handler=exc.stages.handler,
                    connecting=connecting, queued=exc.stages.queued, sent=exc.ran != "no",
                ) from None  # fmt: skip

    def _usable(self, name: str, started: float, deadline: float) -> BlockingSession:
        """Return a connection that is open; *deadline* is 0 for none."""
        session = self._session
        if session is not None and session.is_usable:
            session.look()  # it may have ended while nobody used it
            if session.is_usable:
                return session
        me, failure = Waiter(), None
        try:
            while not deadline or time.monotonic() < deadline:
                with self._lock:
                    dials = self._dialling.lead(me)
                    if not dials:
                        self._dialling.follow(me)
                if dials:
                    session = self._connect(started, deadline)
                    if not deadline or time.monotonic() < deadline:
                        return session
                else:
                    me.sleep(deadline - time.monotonic() if deadline else None)
        except FastRPCError as exc:
            if not deadline or time.monotonic() < deadline:
                raise
            failure = exc
        finally:
            me.has_left = True
            with self._lock:
                self._dialling.leave(me)
        now = time.monotonic()
        raise outcome.late(
            name, started, deadline, now, self.target, connecting=now - started, sent=False
        ) from failure

    def _connect(self, started: float, deadline: float) -> BlockingSession:
        """Return the connection, a new one if need be. Only for who leads."""
        self._check_closed()
        if self._session is not None and self._session.is_usable:
            return self._session
        if self._failure is not None and self._failed_at > started:
            raise copy.copy(self._failure)  # another thread's attempt, while we waited
        self._wait_for_turn(deadline)
        known = (*self._draining, self._session)
        self._draining = [old for old in known if old is not None and not old.is_over]
        self._session = None
        patience = self._options.connect_timeout
        if deadline:
            patience = min(patience, max(deadline - time.monotonic(), 0.001))
        try:
            self._session = session = self._dial(patience)
        except FastRPCError as exc:
            now = time.monotonic()
            if not deadline or now < deadline:  # else it was too short to mean anything
                self._failure, self._failed_at = exc, now
                self._retry_at = now + self._backoff.next()
            raise
        self._failure = None
        self._backoff.reset()
        if self._is_closed:  # meanwhile, by another thread
            session.close()
            self._check_closed()
        return session

    def _check_closed(self) -> None:
        if self._is_closed:
            raise ConnectionLost(f"this client of {self.target} is closed", "no")

    def _wait_for_turn(self, deadline: float) -> None:
        """Wait for the next attempt; raise why the last failed if that is too far off."""
        pause = self._retry_at - time.monotonic()
        if self._failure is None or pause <= 0:
            return
        if pause > self._options.connect_timeout:
            raise copy.copy(self._failure)
        if deadline:
            pause = min(pause, max(deadline - time.monotonic(), 0.0))
        self._closing.wait(pause)
        self._check_closed()

    def _dial(self, timeout: float) -> BlockingSession:
        started = time.monotonic()
        sock = dial_blocking(self._target, timeout)
        side = replace(self._side, share=blocking_share())
        session = BlockingSession(sock, side, self.target, self._codec.serializer)
        try:
            session.greet(max(timeout - (time.monotonic() - started), 0.001))
        except BaseException:
            session.close()
            raise
        return session


def connect_sync(target: str, **options: Unpack[ConnectOptions]) -> BlockingClient:
    """Return a blocking client of *target*; nothing is connected yet.

    Args:
        target: Such as "tcp://127.0.0.1:7000" or "unix:///run/service.sock".
        **options: Fields of `ClientOptions` and of `wire.Limits`.

    Raises:
        ConfigError: The target or an option is wrong; the message names it.
    """
    return BlockingClient(target, read_options(options))
