"""Call the methods of one server from asyncio.

Rules of the room:
  * the constructor touches no loop; the client binds to the one it is first used on;
  * `call` is the lane's own method while a connection is up: no Python frame;
  * a call that has to wait (no connection, no room) keeps its deadline, and its
    error says how long it waited for what.
"""

import asyncio
import copy
import functools
import logging
import time
from collections.abc import Awaitable, Mapping
from enum import Enum
from types import TracebackType
from typing import Any, Final, TypeVar, Unpack, cast, final

from fastrpc.call.metadata import Pairs
from fastrpc.client.link import Link
from fastrpc.client.options import (
    KEEP,
    ClientOptions,
    ConnectOptions,
    Keep,
    check_timeout,
    read_options,
)
from fastrpc.client.pace import PingPace
from fastrpc.client.room import News, RoomQueue
from fastrpc.client.stub import make_stub
from fastrpc.errors import ConfigError, ConnectionLost, DeadlineExceeded, Unavailable
from fastrpc.frame import BoundCall, Caller, Lane
from fastrpc.session import Session, Side, Ticker, fork, outcome, share_of
from fastrpc.transport import parse_target

T = TypeVar("T")

#: How long `aclose` waits for a peer to read what was written to it.
CLOSE_PATIENCE: Final = 1.0

#: Oneway calls leave together until they are this many bytes.
NOTIFY_BATCH: Final = 64 * 2**10


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
        slow = functools.partial(client._start_waiting, timeout, metadata)
        self._caller = Caller(client._lanes, slow, timeout, metadata)
        # The lane's own method stands in for `call` below: same signature, no frame.
        self.__dict__["call"] = self._caller.call

    def call(self, method: str, /, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """Start a call and return its awaitable; several may be started at once.

        What is wrong with the call itself is raised here and now if it can be sent
        at once, else by the awaitable, which raises all the rest.

        Args:
            method: Full name, such as "Arith.add".
            *args: Positional arguments.
            **kwargs: Arguments by name.

        Raises:
            CodecError: The arguments can't be encoded.
            TooLarge: They are larger than the server accepts.
            ConfigError: This is not the client's event loop.
            CallError: From the awaitable: any of its kinds.
            TransportError: From the awaitable: there is no connection, or it
                broke; see `ran`.
        """
        return cast("Awaitable[Any]", self._caller.call(method, *args, **kwargs))

    def notify(self, method: str, /, *args: Any, **kwargs: Any) -> None:
        """Send a oneway call: no reply, not even an error.

        Raises:
            Unavailable: There is no connection now, or the server reads too
                slowly; nothing was sent.
            CodecError: The arguments can't be encoded.
            TooLarge: They are larger than the server accepts.
            ConfigError: This is not the client's event loop.
        """
        lane = self._client._lane_at_once(method)
        lane.notify(method, args, kwargs, self._caller.metadata)
        if lane.unsent > NOTIFY_BATCH:
            lane.flush()

    def stub(self, service: type[T], name: str | None = None) -> T:
        """Return an object with the methods of *service*, each calling the server.

        Args:
            service: The class that the server registered, or one like it.
            name: Service name if it is not the class's own.

        Raises:
            ConfigError: The class can't be a service; the message says why.
        """
        bind = functools.partial(BoundCall, self._caller)
        return cast("T", make_stub(service, name, bind, self._client._codec))

    def options(
        self, *, timeout: float | Keep | None = KEEP, metadata: Pairs | Keep | None = KEEP
    ) -> "ClientView":
        """Return a view with other options; this one stays as it is.

        Args:
            timeout: Seconds each call may take, None for no deadline.
            metadata: Sent with each call, None for nothing.

        Raises:
            ConfigError: The timeout is not above 0.
            InvalidArgument: The metadata can't be sent.
        """
        mine = self._caller
        seconds = mine.timeout if isinstance(timeout, Keep) else check_timeout(timeout)
        options = self._client._options
        packed = mine.metadata if isinstance(metadata, Keep) else options.pack(metadata)
        return ClientView(self._client, seconds, packed)


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
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ticker: Ticker | None = None
        self._news = News()
        self._room = RoomQueue(self._lanes)
        self._pace = PingPace()
        self._state = ClientState.IDLE
        super().__init__(self, check_timeout(options.timeout), options.packed_metadata())
        fork.register(self)

    def __repr__(self) -> str:
        """Tell target and state."""
        return f"<Client {self._target} {self._state.value}, {len(self._lanes)} connected>"

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
            await self._connected()
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
        """Close all connections; calls that are open fail. Twice is fine.

        Raises:
            ConfigError: This is not the client's event loop.
        """
        if self._state is ClientState.OPEN:
            self._running_loop()
        self._state = ClientState.CLOSED
        self._lanes.clear()
        endings = [ending for link in self._links for ending in link.close()]
        self._changed()
        try:
            stuck = await _all_done(endings)
        finally:  # a peer that reads nothing can't keep us, nor can a cancel
            for link in self._links:
                link.abort()
            if self._ticker is not None:
                self._ticker.close()
        await _all_done(stuck)

    async def describe(self, *, schema: bool = False) -> dict[str, Any]:
        """Return what the server serves: services, methods, signatures, limits.

        Args:
            schema: Also JSON Schemas of all arguments and results, which may be long.
        """
        asked = {"schema": True} if schema else {}  # older servers take no argument
        return cast("dict[str, Any]", await self.call("fastrpc.describe", **asked))

    async def ping(self) -> float:
        """Return the seconds that a ping of the connection takes to come back.

        It is answered below the handlers: a busy server answers, too. Pings that
        come faster than the server allows wait for their turn.

        Raises:
            DeadlineExceeded: No answer within the client's timeout, or, if it has
                none, within `connect_timeout`.
            TransportError: There is no connection, or it broke.
        """
        timeout = self._caller.timeout or self._options.connect_timeout
        started = time.monotonic()
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                session = await self._connected()
                await asyncio.sleep(self._pace.wait(time.monotonic(), session.peer_interval))
                return await session.ping()
        except TimeoutError:
            if not limit.expired():
                raise
            now = time.monotonic()
            raise outcome.late("ping", started, started + timeout, now, self.target) from None

    # Binding to a loop

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop that runs here, which must be the client's if it has one."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise ConfigError(
                f"no event loop runs here for the client of {self.target}: use connect_sync"
                " without one, and asyncio.run in the child of a fork"
            ) from None
        if self._loop not in (None, loop) and self._state is ClientState.OPEN:
            raise ConfigError(
                f"this client of {self.target} belongs to another event loop; make one per loop"
            )
        return loop

    def _bind(self) -> None:
        """Begin to connect, on the loop that runs here."""
        loop = self._running_loop()
        if self._state is ClientState.CLOSED:
            raise ConnectionLost(f"this client of {self.target} is closed", "no")
        if self._state is ClientState.IDLE:
            self._loop = loop
            share = share_of(loop)
            self._ticker = Ticker(loop, share)
            side = Side(
                share=share,
                ticker=self._ticker,
                limits=self._options.limits,
                option=self._options.option(self._codecs),
                codecs=self._codecs,
                log=logging.getLogger("fastrpc.client"),
                on_room=self._on_room,
            )
            patience, serializer = self._options.connect_timeout, self._codec.serializer
            self._links = [
                Link(side, loop, self._target, patience, serializer, self._lanes, self._changed)
                for _ in range(self._options.connections)
            ]
            self._state = ClientState.OPEN
        for link in self._links:
            link.begin()

    def after_fork(self) -> None:
        """Let go of the parent's connections: a child dials its own, on its own loop."""
        self._lanes.clear()
        self._links = []
        self._loop = self._ticker = None
        self._news = News()
        self._room = RoomQueue(self._lanes)
        if self._state is ClientState.OPEN:
            self._state = ClientState.IDLE

    # What links and sessions report

    def _changed(self) -> None:
        self._room.on_room()
        self._news.tell()

    def _on_room(self, session: Session) -> None:
        self._room.on_room()

    # Calls that can't be sent at once

    def _lane_at_once(self, name: str) -> Lane:
        """Return a lane that takes a call now."""
        self._bind()
        for lane in self._lanes:
            if lane.ready:
                return lane
        why = "the server reads too slowly" if self._lanes else "no connection is ready"
        raise Unavailable(f"{name}: not sent to {self.target}: {why}", method=name)

    async def _connected(self) -> Session:
        """Wait for a connection and return one."""
        while True:
            self._bind()
            for link in self._links:
                if link.session is not None:
                    return link.session
            await self._attempt(0.0)

    async def _attempt(self, deadline: float) -> bool:
        """Wait for a connection; False if the deadline came first.

        Raises:
            FastRPCError: An attempt failed, or none begins within `connect_timeout`.
        """
        self._bind()
        ended = sum(link.ended for link in self._links)
        soonest = min(self._links, key=Link.next_attempt)
        if soonest.next_attempt() > self._options.connect_timeout and soonest.failure is not None:
            raise copy.copy(soonest.failure)
        while await self._news.wait(deadline):
            if self._state is ClientState.CLOSED:
                raise ConnectionLost(f"this client of {self.target} is closed", "no")
            if self._lanes:
                return True
            if any(link.is_dialling for link in self._links):
                continue
            failed = [link.failure for link in self._links if link.failure is not None]
            if failed and sum(link.ended for link in self._links) > ended:
                raise copy.copy(failed[0])  # its own for each: tracebacks are not shared
        return False

    def _start_waiting(
        self,
        timeout: float,
        metadata: bytes,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any] | None,
        decode: Any,
    ) -> Awaitable[Any]:
        """Start a call that has to wait for something."""
        call = self._wait_and_call(timeout, metadata, name, args, kwargs, decode)
        try:
            return self._running_loop().create_task(call)
        except ConfigError:
            call.close()
            raise

    async def _wait_and_call(
        self,
        seconds: float,
        metadata: bytes,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any] | None,
        decode: Any,
    ) -> Any:
        started = time.monotonic()
        deadline = started + seconds if seconds else 0.0
        connecting = queued = left = 0.0
        attempts = sum(link.attempts for link in self._links)
        lane: Lane | None = None
        in_time = True
        while in_time and lane is None:
            since = time.monotonic()
            if self._lanes:
                lane, in_time = await self._room.take(deadline)
                queued += time.monotonic() - since
            else:
                in_time = await self._attempt(deadline)
                connecting += time.monotonic() - since
        attempts = max(sum(link.attempts for link in self._links) - attempts, 1)
        late = functools.partial(
            outcome.late, name, started, deadline, address=self.target,
            connecting=connecting, queued=queued, attempts=attempts,
        )  # fmt: skip
        try:
            if deadline:
                left = deadline - time.monotonic()
                in_time = in_time and left > 0.0
            if lane is None or not in_time:
                raise late(time.monotonic(), sent=False)
            reply = lane.call(name, args, kwargs, left, metadata, decode)
        except BaseException:
            self._room.on_room()  # the place, if there was one, is for the next
            raise
        try:
            return await reply
        except DeadlineExceeded as exc:
            now = time.monotonic()
            if not deadline or now < deadline:  # the server's own limit
                raise
            raise late(now, handler=exc.stages.handler) from None


async def _all_done(endings: list[asyncio.Future[Any]]) -> list[asyncio.Future[Any]]:
    """Wait for *endings*, but not for ever; return those that are still to come."""
    if not endings:
        return []
    _, stuck = await asyncio.wait(endings, timeout=CLOSE_PATIENCE)
    return list(stuck)


def connect(target: str, **options: Unpack[ConnectOptions]) -> Client:
    """Return a client of *target*; nothing is connected yet.

    Args:
        target: Such as "tcp://127.0.0.1:7000" or "unix:///run/service.sock".
        **options: Fields of `ClientOptions` and of `wire.Limits`.

    Raises:
        ConfigError: The target or an option is wrong; the message names it.
    """
    return Client(target, read_options(options))
