"""Keep one connection to a target: dial, notice its end, dial again.

One link belongs to one client; a client with several connections has several.

Rules of the room:
  * one attempt at a time, with growing, jittered waits between failed ones;
  * an outcome of every attempt reaches all who wait for it;
  * the lane is in the client's list exactly while calls may be sent on it.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from typing import final

from fastrpc.errors import ConnectFailed, FastRPCError
from fastrpc.frame import Lane
from fastrpc.policy import Backoff
from fastrpc.session import Session, Side
from fastrpc.transport import Target, dial

class LinkState(Enum):
    """Where a link stands."""

    DOWN = "down"
    DIALLING = "dialling"
    UP = "up"
    WAITING = "waiting"  # for the next attempt
    CLOSED = "closed"


@final
class Link:
    """One connection that comes back.

    Args:
        side: The client's share of every session.
        target: Where to.
        timeout: Seconds for an attempt, HELLO included.
        serializer: Number of the codec that calls are sent with.
        lanes: The client's list of usable lanes.
        changed: Told when that list has changed.
    """

    def __init__(
        self,
        side: Side,
        target: Target,
        timeout: float,
        serializer: int,
        lanes: list[Lane],
        changed: Callable[[], None],
    ) -> None:
        self._side = replace(side, on_open=self.opened, on_lost=self.lost, on_drain=self.draining)
        self._target = target
        self._timeout = timeout
        self._serializer = serializer
        self._lanes = lanes
        self._changed = changed
        self._backoff = Backoff()
        self._loop = side.ticker.loop
        self._task: asyncio.Task[None] | None = None
        self._opened: asyncio.Future[None] | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._retry_at = 0.0
        self.state = LinkState.DOWN
        self.attempts = 0
        self.failure: FastRPCError | None = None
        self.session: Session | None = None
        self._draining: set[Session] = set()

    def begin(self) -> None:
        """Start to dial, unless a connection is there or on its way."""
        if self.state is LinkState.DOWN:
            self.state = LinkState.DIALLING
            self._task = self._loop.create_task(self._keep())

    def next_attempt(self) -> float:
        """Return in how many seconds an attempt begins; 0 if one is under way."""
        if self.state is LinkState.WAITING:
            return max(self._retry_at - self._loop.time(), 0.0)
        return 0.0

    def outcome(self) -> "asyncio.Future[None]":
        """Return a future that is done when the next attempt has ended."""
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        return waiter

    def sessions(self) -> list[Session]:
        """Return the connections that are not closed."""
        return [*self._draining, *([self.session] if self.session is not None else [])]

    async def close(self) -> None:
        """Stop for good and close the connection."""
        self.state = LinkState.CLOSED
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
        for session in self.sessions():
            session.close()
        self._tell()

    # What sessions report

    def opened(self, session: Session) -> None:
        """Note that HELLO is done."""
        session.lane.serializer = self._serializer
        if self._opened is not None and not self._opened.done():
            self._opened.set_result(None)

    def draining(self, session: Session) -> None:
        """Leave a connection whose peer takes no more calls, and make another."""
        if session is not self.session:
            return
        self._remove(session)
        self._draining.add(session)
        self.session = None
        idle = session.drain()
        idle.add_done_callback(lambda _: session.close())
        self._again()

    def lost(self, session: Session, cause: Exception) -> None:
        """Note that a connection has ended."""
        self._draining.discard(session)
        if self._opened is not None and not self._opened.done():
            self._opened.set_exception(_as_failure(cause, self._target))
        if session is self.session:
            self._remove(session)
            self.session = None
            self._again()

    def _again(self) -> None:
        if self.state is LinkState.UP:
            self.state = LinkState.DOWN
            self.begin()

    def _remove(self, session: Session) -> None:
        if session.lane in self._lanes:
            self._lanes.remove(session.lane)
            self._changed()

    # Dialling

    async def _keep(self) -> None:
        """Dial until a connection is open."""
        while True:
            self.state = LinkState.DIALLING
            self.attempts += 1
            try:
                await self._dial()
            except (FastRPCError, OSError) as exc:
                self.failure = exc if isinstance(exc, FastRPCError) else ConnectFailed(str(exc))
            else:
                self.failure = None
                self._backoff.reset()
                self.state = LinkState.UP
                self._tell()
                return
            self.state = LinkState.WAITING
            pause = self._backoff.next()
            self._retry_at = self._loop.time() + pause
            self._tell()
            await asyncio.sleep(pause)

    async def _dial(self) -> None:
        """Make one connection and exchange HELLO."""
        started = self._loop.time()
        session: Session | None = None
        self._opened = self._loop.create_future()
        try:
            _, session = await dial(
                self._target,
                lambda: Session(self._side, client=True, address=str(self._target)),
                timeout=self._timeout,
            )
            try:
                async with asyncio.timeout_at(started + self._timeout):
                    await self._opened
            except TimeoutError:
                raise ConnectFailed(
                    f"{self._target}: connected, but no HELLO within {self._timeout:g} s;"
                    " is it a fastrpc server?"
                ) from None
        except BaseException as exc:
            if session is not None:
                session.abort(exc if isinstance(exc, Exception) else ConnectFailed("cancelled"))
            raise
        finally:
            if self._opened.done() and not self._opened.cancelled():
                self._opened.exception()
            self._opened = None
        self.session = session
        self._lanes.append(session.lane)
        self._changed()

    def _tell(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


def _as_failure(cause: Exception, target: Target) -> FastRPCError:
    if isinstance(cause, FastRPCError) and not isinstance(cause, ConnectFailed):
        # Refusals and strangers keep their class; a pipe that just ended does not.
        if cause.status == 10:
            return ConnectFailed(f"{target}: closed before HELLO was answered: {cause}")
        return cause
    return cause if isinstance(cause, ConnectFailed) else ConnectFailed(f"{target}: {cause}")
