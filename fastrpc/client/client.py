"""Hold what the asyncio clients share, those of a server and those of a cluster.

Rules of the room:
  * the constructor touches no loop; the client binds to the one it is first used on;
  * `call` is the lane's own method while a connection is up: no Python frame;
  * a call that has to wait (no connection, no room) keeps its deadline, and its
    error says how long it waited for what.
"""

import asyncio
import functools
import logging
import time
from abc import abstractmethod
from collections.abc import Awaitable, Coroutine, Mapping
from enum import Enum
from types import TracebackType
from typing import Any, Final, cast

from fastrpc.call import chain
from fastrpc.client.link import Link
from fastrpc.client.options import ClientOptions
from fastrpc.client.pace import PingPace
from fastrpc.client.room import News, RoomQueue
from fastrpc.client.stats import ClientStats
from fastrpc.client.view import ClientView
from fastrpc.errors import ConfigError, ConnectionLost, Unavailable
from fastrpc.frame import Lane, release_bodies
from fastrpc.session import (
    SEGMENTS,
    Answerer,
    Handling,
    Late,
    Origin,
    Routes,
    Session,
    Side,
    Threads,
    Ticker,
    check_timeout,
    fork,
    outcome,
    share_of,
)

#: Most blocking methods of a client's own that the server's calls run at once.
CALLBACK_THREADS: Final = 4

#: How long `aclose` waits for a peer to read what was written to it.
CLOSE_PATIENCE: Final = 1.0


class ClientState(Enum):
    """Where a client stands."""

    IDLE = "idle"
    OPEN = "open"
    CLOSED = "closed"


class Client(ClientView, Origin):
    """A server or a cluster of them, as seen from here. Made by `connect`.

    Use it as `async with`, or call `aclose` when done. It may be made anywhere
    and belongs to the event loop where it is first used.
    """

    def __init__(self, options: ClientOptions) -> None:
        self._options = options
        self._codecs = options.registry()
        self._compressors = options.compressor_registry()
        self.codec = self._codecs.get(options.codec)
        self.limits = options.limits
        self.chain = chain(options.interceptors)
        self.lanes: list[Lane] = []
        self._routes = Routes(self._codecs, options.limits)
        self._answers: Answerer | None = None
        self._errors = options.error_registry(self._codecs)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ticker: Ticker | None = None
        self._side: Side | None = None
        self._news = News()
        self._room = RoomQueue(self.lanes)
        self._pace = PingPace()
        self._state = ClientState.IDLE
        super().__init__(self, check_timeout(options.timeout), options.packed_metadata())
        fork.register(self)

    def __repr__(self) -> str:
        """Tell target and state."""
        return f"<Client {self.target} {self._state.value}, {len(self.lanes)} connected>"

    @property
    @abstractmethod
    def target(self) -> str:
        """Where the server is, or where servers are looked up."""

    def register(self, obj: Any, name: str | None = None) -> None:
        """Serve the public methods of *obj* to the server, which may call them at any time.

        Register before the first connection is made; see `Server.register`.

        Raises:
            ConfigError: It can't be served, or the client is connected already.
        """
        if self._state is not ClientState.IDLE:
            raise ConfigError("register before the client connects: the server may call at once")
        self._routes.add(obj, name)

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
        self.lanes.clear()
        links = self.links()
        endings = [ending for link in links for ending in link.close()]
        self._changed()
        try:
            stuck = await _all_done(endings)
        finally:  # a peer that reads nothing can't keep us, nor can a cancel
            for link in links:
                link.abort()
            if self._ticker is not None:
                self._ticker.close()
            if self._answers is not None:
                self._answers.close()
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

    def stats(self) -> ClientStats:
        """Return what the client knows and does now."""
        links = self.links()
        return ClientStats(
            target=self.target,
            connected=len(self.lanes),
            dials=sum(link.attempts for link in links),
        )

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

    def _check_open(self) -> None:
        if self._state is ClientState.CLOSED:
            raise ConnectionLost(f"this client of {self.target} is closed", "no")

    def _bind(self) -> None:
        """Begin to connect, on the loop that runs here."""
        loop = self._running_loop()
        self._check_open()
        if self._state is ClientState.IDLE:
            self._loop = loop
            share = share_of(loop)
            self._ticker = Ticker(loop, share)
            side = Side(
                share=share,
                ticker=self._ticker,
                limits=self._options.limits,
                option=self._options.option(self._codecs, SEGMENTS),
                compressors=self._compressors,
                compress_from=self._options.compress_from,
                codecs=self._codecs,
                errors=self._errors,
                log=logging.getLogger("fastrpc.client"),
                on_room=self._on_room,
            )
            if self._routes.table:
                self._serve(side)
            self._side = side
            self._state = ClientState.OPEN
        assert self._side is not None
        self._begin(self._side, loop)

    @abstractmethod
    def links(self) -> list[Link]:
        """Return all connections that come back."""

    @abstractmethod
    def _begin(self, side: Side, loop: asyncio.AbstractEventLoop) -> None:
        """Connect, unless that is under way: whoever wants to call says so first.

        Args:
            side: What all connections share.
            loop: The client's.
        """

    def _serve(self, side: Side) -> None:
        """Let the server call what was registered."""
        threads = Threads(side.share.loop, CALLBACK_THREADS)
        side.router = self._routes.table
        side.answers = self._answers = Answerer(
            side,
            max_running=self._options.limits.max_calls * self._options.connections,
            handler_timeout=0.0,
            handling=Handling(threads),
            tracebacks=False,
        )

    def after_fork(self) -> None:
        """Let go of the parent's connections: a child dials its own, on its own loop."""
        self.lanes.clear()
        self._forget()
        self._loop = self._ticker = self._side = None
        release_bodies(everything=True)
        self._news = News()
        self._room = RoomQueue(self.lanes)
        if self._state is ClientState.OPEN:
            self._state = ClientState.IDLE

    @abstractmethod
    def _forget(self) -> None:
        """Let go of everything that belongs to the loop, without a word to anybody."""

    # What links and sessions report

    def _changed(self) -> None:
        self._room.on_room()
        self._news.tell()

    def _on_room(self, session: Session) -> None:
        self._room.on_room()

    # Calls that can't be sent at once

    def lane_at_once(self, name: str) -> Lane:
        """Return a lane that takes a call now."""
        self._bind()
        for lane in self.lanes:
            if lane.ready:
                return lane
        why = "the server reads too slowly" if self.lanes else "no connection is ready"
        raise Unavailable(f"{name}: not sent to {self.target}: {why}", method=name)

    @abstractmethod
    async def _connected(self) -> Session:
        """Wait for a connection and return one."""

    @abstractmethod
    async def _attempt(self, deadline: float) -> bool:
        """Wait for a connection; False if the deadline came first.

        Raises:
            FastRPCError: There is none, and will be none soon.
        """

    def start_waiting(
        self,
        timeout: float,
        metadata: bytes,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any] | None,
        decode: Any,
    ) -> Awaitable[Any]:
        """Start a call that has to wait for something."""
        return self.start(self.wait_and_call(timeout, metadata, name, args, kwargs, decode))

    def start(self, call: Coroutine[Any, Any, Any]) -> Awaitable[Any]:
        """Run *call* in a task of the client's loop.

        Raises:
            ConfigError: Another loop runs here, or none.
        """
        try:
            return self._running_loop().create_task(call)
        except ConfigError:
            call.close()
            raise

    async def session_for(self, name: str, seconds: float) -> tuple[Session, float, Late]:
        """Wait for a connection that takes a call, see `Origin`."""
        lane, left, late = await self._place(name, seconds)
        return lane.owner, left, late

    def unused(self) -> None:
        """Let the next in line have the place that `session_for` gave."""
        self._room.on_room()

    async def _place(self, name: str, seconds: float) -> tuple[Lane, float, Late]:
        """Wait for a connection and room on it.

        Returns the lane, what is left of *seconds* (0 for no deadline), and what makes
        the error of a call that is late all the same. Send before the next await.
        """
        started = time.monotonic()
        deadline = started + seconds if seconds else 0.0
        connecting = queued = left = 0.0
        attempts = sum(link.attempts for link in self.links())
        lane: Lane | None = None
        in_time = True
        while in_time and lane is None:
            since = time.monotonic()
            if self.lanes:
                lane, in_time = await self._room.take(deadline)
                queued += time.monotonic() - since
            else:
                in_time = await self._attempt(deadline)
                connecting += time.monotonic() - since
        attempts = max(sum(link.attempts for link in self.links()) - attempts, 1)
        late = functools.partial(
            outcome.late, name, started, deadline, address=self.target,
            connecting=connecting, queued=queued, attempts=attempts,
        )  # fmt: skip
        if deadline:
            left = deadline - time.monotonic()
            in_time = in_time and left > 0.0
        if lane is None or not in_time:
            self._room.on_room()  # the place, if there was one, is for the next
            raise late(time.monotonic(), sent=False)
        return lane, left, late


async def _all_done(endings: list[asyncio.Future[Any]]) -> list[asyncio.Future[Any]]:
    """Wait for *endings*, but not for ever; return those that are still to come."""
    if not endings:
        return []
    _, stuck = await asyncio.wait(endings, timeout=CLOSE_PATIENCE)
    return list(stuck)
