"""Call the methods of one server from asyncio.

Rules of the room:
  * the constructor touches no loop; the client binds to the one it is first used on;
  * `call` is the lane's own method while a connection is up: no Python frame;
  * a call that has to wait (no connection, no room) keeps its deadline, and its
    error says how long it waited for what.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Mapping
from enum import Enum
from types import TracebackType
from typing import Any, Final, TypeVar, cast, final

from fastrpc.call import encode_metadata
from fastrpc.call.metadata import Pairs
from fastrpc.client.link import Link
from fastrpc.client.room import RoomQueue, wait_until
from fastrpc.client.options import ClientOptions, check_timeout, read_options
from fastrpc.client.stub import make_stub
from fastrpc.errors import ConfigError, ConnectionLost, DeadlineExceeded, FastRPCError, Unavailable
from fastrpc.frame import BoundCall, Caller, Lane, LoopShare
from fastrpc.session import Session, Side, Ticker, fork, outcome
from fastrpc.transport import parse_target

T = TypeVar("T")
_KEEP: Final = "keep"  # an option that a view does not change


class ClientState(Enum):
    """Where a client stands."""

    IDLE = "idle"
    OPEN = "open"
    CLOSED = "closed"


class ClientView:
    """A client as seen with certain options: the same connections, other deadlines.

    Made by `Client.options`; a `Client` is one itself.
    """

    def __init__(self, client: "Client", timeout: float, metadata: bytes) -> None:
        self._client = client
        self._caller = Caller(client._lanes, self._slow, timeout, metadata)
        # The lane's own method stands in for `call` below: same signature, no frame.
        self.__dict__["call"] = self._caller.call

    def call(self, method: str, /, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """Start a call and return its awaitable; several may be started at once.

        Args:
            method: Full name, such as "Arith.add".
            *args: Positional arguments.
            **kwargs: Arguments by name.

        Raises:
            CodecError: The arguments can't be encoded.
            TooLarge: They are larger than the server accepts.
            CallError: Any of its kinds, from the awaitable.
            TransportError: There is no connection, or it broke; see `ran`.
        """
        return cast("Awaitable[Any]", self._caller.call(method, *args, **kwargs))

    def notify(self, method: str, /, *args: Any, **kwargs: Any) -> None:
        """Send a oneway call: no reply, not even an error.

        Raises:
            Unavailable: There is no connection now, or the server reads too
                slowly; nothing was sent.
        """
        lane = self._client._usable_lane()
        if lane is None:
            raise Unavailable(
                f"{method}: not sent: no connection to {self._client.target} is ready", ran="no"
            )
        lane.notify(method, args, kwargs, self._caller.metadata)

    def stub(self, service: type[T], name: str | None = None) -> T:
        """Return an object with the methods of *service*, each calling the server.

        Args:
            service: The class that the server registered, or one like it.
            name: Service name if it is not the class's own.
        """
        def bind(method: str, decode: Any) -> Any:
            return BoundCall(self._caller, method, decode)

        return cast("T", make_stub(service, name, bind, self._client._codec))

    def options(
        self,
        *,
        timeout: float | str | None = _KEEP,
        metadata: Pairs | str | None = _KEEP,
    ) -> "ClientView":
        """Return a view with other options; this one stays as it is.

        Args:
            timeout: Seconds each call may take, None for no deadline.
            metadata: Sent with each call, None for nothing.
        """
        seconds = self._caller.timeout
        if timeout != _KEEP:
            seconds = check_timeout(cast("float | None", timeout))
        packed = self._caller.metadata
        if not isinstance(metadata, str):
            packed = encode_metadata(metadata, self._client._options.limits) if metadata else b""
        return ClientView(self._client, seconds, packed)

    def _slow(
        self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None, decode: Any
    ) -> Awaitable[Any]:
        """Start a call that has to wait for something."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise ConfigError(
                f"{name}: no event loop runs here; use connect_sync without one, and after a fork"
                " asyncio.run in the child"
            ) from None
        waiting = self._client._wait_and_call(self._caller, name, args, kwargs, decode)
        return loop.create_task(waiting)


@final
class Client(ClientView):
    """A server, as seen from here. Made by `connect`.

    Use it as `async with`, or call `aclose` when done. It may be made anywhere
    and belongs to the event loop where it is first used.
    """

    def __init__(self, target: str, options: ClientOptions) -> None:
        self._target = parse_target(target)
        self._options = options
        self._codecs = options.registry()
        self._codec = self._codecs.get(options.codec)
        self._lanes: list[Lane] = []
        self._links: list[Link] = []
        self._side: Side | None = None
        self._room_queue = RoomQueue(self._lanes)
        self._state = ClientState.IDLE
        super().__init__(self, check_timeout(options.timeout), options.packed_metadata())
        fork.register(self)

    def __repr__(self) -> str:
        """Tell target and state."""
        return f"<Client {self._target} {self._state.value} {len(self._lanes)} up>"

    @property
    def target(self) -> str:
        """Where the server is."""
        return str(self._target)

    async def __aenter__(self) -> "Client":
        """Connect.

        Raises:
            ConnectFailed: Nobody could be reached, or nobody who speaks fastrpc.
        """
        try:
            await self._ensure_connected()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections; calls that are open fail. Twice is fine."""
        if self._state is ClientState.CLOSED:
            return
        self._state = ClientState.CLOSED
        self._lanes.clear()
        sessions = [session for link in self._links for session in link.sessions()]
        gone = [session.gone() for session in sessions]
        for link in self._links:
            await link.close()
        self._room_queue.on_room()
        if gone:
            _, stuck = await asyncio.wait(gone, timeout=1.0)
            if stuck:  # a peer that reads nothing can't keep us
                for session in sessions:
                    session.abort(ConnectionLost(f"{self.target}: closed here", "maybe"))
        if self._side is not None:
            self._side.ticker.close()

    async def describe(self) -> dict[str, Any]:
        """Return what the server serves: services, methods, signatures, limits."""
        return cast("dict[str, Any]", await self.call("fastrpc.describe"))

    async def ping(self) -> float:
        """Return the seconds that a ping of the connection takes to come back."""
        await self._ensure_connected()
        session = next(s for link in self._links for s in link.sessions() if s.lane in self._lanes)
        return await session.ping()

    # Binding to a loop

    def _bind(self) -> Side:
        loop = asyncio.get_running_loop()
        if self._state is ClientState.CLOSED:
            raise ConnectionLost(f"this client of {self.target} is closed", "no")
        if self._side is not None:
            if self._side.ticker.loop is not loop:
                raise ConfigError(
                    f"this client of {self.target} belongs to another event loop; make one per loop"
                )
            return self._side
        share = LoopShare(
            loop.create_future, loop.call_soon, time.monotonic, asyncio.get_running_loop, loop
        )
        self._side = side = Side(
            share=share,
            ticker=Ticker(loop, share),
            limits=self._options.limits,
            option=self._options.option(self._codecs),
            codecs=self._codecs,
            log=logging.getLogger("fastrpc.client"),
            on_room=self._room,
        )
        self._links = [
            Link(
                side,
                self._target,
                self._options.connect_timeout,
                self._codec.serializer,
                self._lanes,
                self._room_queue.on_room,
            )
            for _ in range(self._options.connections)
        ]
        self._state = ClientState.OPEN
        return side

    def after_fork(self) -> None:
        """Let go of the parent's connections: a child dials its own, on its own loop."""
        for link in self._links:
            for session in link.sessions():
                session.sever()
        self._lanes.clear()
        self._links = []
        self._side = None
        self._room_queue = RoomQueue(self._lanes)
        if self._state is ClientState.OPEN:
            self._state = ClientState.IDLE

    # Calls that wait

    def _usable_lane(self) -> Lane | None:
        return next((lane for lane in self._lanes if lane.ready), None)

    def _room(self, session: Session) -> None:
        self._room_queue.on_room()

    async def _ensure_connected(self) -> None:
        self._bind()
        while not self._lanes:
            await self._connection(0.0)

    async def _connection(self, deadline: float) -> bool:
        """Wait for the end of an attempt to connect; False if the deadline came first.

        Raises:
            FastRPCError: It failed, or none begins within `connect_timeout`.
        """
        side = self._bind()
        for link in self._links:
            link.begin()
        link = min(self._links, key=Link.next_attempt)
        if link.failure is not None and link.next_attempt() > self._options.connect_timeout:
            raise _again(link.failure)
        in_time = await wait_until(side.ticker.loop, link.outcome(), deadline)
        if self._state is ClientState.CLOSED:
            raise ConnectionLost(f"this client of {self.target} is closed", "no")
        if in_time and not self._lanes and link.failure is not None:
            raise _again(link.failure)
        return in_time

    async def _wait_and_call(
        self,
        caller: Caller,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any] | None,
        decode: Any,
    ) -> Any:
        """Make a call that can't be sent at once."""
        started = time.monotonic()
        deadline = started + caller.timeout if caller.timeout else 0.0
        connecting = queued = 0.0
        attempts = -self._attempts()
        in_time = True
        lane: Lane | None = None
        while in_time and lane is None:
            since = time.monotonic()
            if self._lanes:
                lane, in_time = await self._room_queue.take(deadline)
                queued += time.monotonic() - since
            else:
                in_time = await self._connection(deadline)
                connecting += time.monotonic() - since
        attempts = max(attempts + self._attempts(), 1)
        left = deadline - time.monotonic() if deadline else 0.0
        if not in_time or lane is None or left < 0.0:
            raise outcome.late(
                name, started, deadline, time.monotonic(), self.target,
                connecting=connecting, queued=queued, attempts=attempts, sent=False,
            )  # fmt: skip
        try:
            return await lane.call(name, args, kwargs, left, caller.metadata, decode)
        except DeadlineExceeded as exc:
            raise outcome.late(
                name, started, deadline or started, time.monotonic(), self.target,
                handler=exc.stages.handler, connecting=connecting, queued=queued, attempts=attempts,
            ) from None  # fmt: skip

    def _attempts(self) -> int:
        return sum(link.attempts for link in self._links)


def connect(target: str, **options: Any) -> Client:
    """Return a client of *target*; nothing is connected yet.

    Args:
        target: Such as "tcp://127.0.0.1:7000" or "unix:///run/service.sock".
        **options: Fields of `ClientOptions` and of `wire.Limits`.

    Raises:
        ConfigError: The target or an option is wrong; the message names it.
    """
    return Client(target, read_options(options))


def _again(failure: FastRPCError) -> FastRPCError:
    """Return an exception like *failure* of its own: tracebacks are not shared."""
    return type(failure)(str(failure))
