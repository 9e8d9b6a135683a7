"""Keep one connection to a server: dial, notice its end, dial again.

One link belongs to one client; a client with several connections has several.
It dials in a task of its own, so that no caller who gives up takes the attempt
along.

Rules of the room:
  * one attempt at a time, with growing, jittered waits between failed ones;
  * whoever waits is told of the end of every attempt;
  * the lane is in the client's list exactly while calls may be sent on it;
  * of several addresses of one server the first that answers is taken.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import Enum
from typing import Any, Final, final

from fastrpc.errors import ConnectFailed, ConnectionLost, FastRPCError
from fastrpc.frame import Lane, encode_frame
from fastrpc.policy import Backoff
from fastrpc.session import Session, Side
from fastrpc.transport import ClientTls, Target, dial
from fastrpc.wire import Kind, StatusCode

#: Longest planned wait between attempts: one target has no other to go to, so it
#: shall be found within seconds of its return, however long it was away.
RETRY_CAP: Final = 4.0

#: A connection that ends sooner than this counts as a failed attempt: else a
#: server that takes connections only to end them would be dialled without pause.
STEADY: Final = 1.0


#: Where a server is reached, and what connections there encrypt with, if they do.
Place = tuple[Target, ClientTls | None]


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
        loop: Where to run.
        places: Where to, best first.
        timeout: Seconds for an attempt, HELLO included.
        proxy: Forward proxy, see `transport.choose_proxy`.
        serializer: Number of the codec that calls are sent with.
        lanes: The client's list of usable lanes.
        changed: Told when that list has changed, and when an attempt has ended.
        retry_cap: Longest planned wait between attempts, in seconds.
        stretch: How much longer than planned to wait now, 1 or more.

    Attributes:
        attempts: How many were begun.
        ended: How many have ended.
        failure: Why there is no connection: how the last attempt failed, or the connection
            ended; None while one is up.
        session: The connection that takes calls, if there is one.
    """

    def __init__(
        self,
        side: Side,
        loop: asyncio.AbstractEventLoop,
        places: Sequence[Place],
        timeout: float,
        proxy: str | None,
        serializer: int,
        lanes: list[Lane],
        changed: Callable[[], None],
        retry_cap: float = RETRY_CAP,
        stretch: Callable[[], float] = lambda: 1.0,
    ) -> None:
        self._side = replace(
            side, on_open=self._up, on_end=self._ended, on_lost=self._lost, on_drain=self._leave
        )
        self._loop = loop
        self._places = places
        self._place = 0
        self._timeout = timeout
        self._proxy = proxy
        self._serializer = serializer
        self._lanes = lanes
        self._changed = changed
        self._backoff = Backoff(cap=retry_cap)
        self._stretch = stretch
        self._task: asyncio.Task[None] | None = None
        self._retry_at = 0.0
        self._up_at = 0.0
        self._opening: tuple[Session, asyncio.Future[None]] | None = None
        self._draining: set[Session] = set()
        self.state = LinkState.DOWN
        self.attempts = self.ended = 0
        self.failure: FastRPCError | None = None
        self.session: Session | None = None

    def begin(self, pause: float = 0.0) -> None:
        """Dial in *pause* seconds, unless a connection is there or on its way."""
        if self.state is LinkState.DOWN:
            self._retry_at = self._loop.time() + pause
            self.state = LinkState.WAITING if pause else LinkState.DIALLING
            self._task = self._loop.create_task(self._keep(pause))
            self._task.add_done_callback(self._stopped)

    def hurry(self) -> None:
        """Dial now, if the next attempt only waits for its time: the server is said to be back."""
        if self.state is LinkState.WAITING and self._task is not None:
            waiting, self._task = self._task, None
            waiting.cancel()
            self._backoff.reset()
            self.state = LinkState.DOWN
            self.begin()

    def retire(self) -> None:
        """Take no more calls, and close once those that are open have ended."""
        session = self.session
        self._stop()
        if session is not None:
            self.session = None
            self._drain(session)
            if session.lane in self._lanes:
                self._lanes.remove(session.lane)

    @property
    def is_over(self) -> bool:
        """Whether it was closed or retired, and nothing of it is left."""
        return self.state is LinkState.CLOSED and not self._sessions()

    @property
    def target(self) -> Target:
        """The address that the connection leads to, or the attempt."""
        return self._places[self._place][0]

    @property
    def is_dialling(self) -> bool:
        """Whether an attempt is under way."""
        return self.state is LinkState.DIALLING

    def next_attempt(self) -> float:
        """Return in how many seconds an attempt begins; 0 if one is under way."""
        if self.state is LinkState.WAITING:
            return max(self._retry_at - self._loop.time(), 0.0)
        return 0.0

    def close(self) -> list[asyncio.Future[Any]]:
        """Stop for good; return what is done once everything has ended."""
        endings = self._stop()
        for session in self._sessions():
            endings.append(session.gone())
            self._give_up(session)
            session.close()
        return endings

    def _stop(self) -> list[asyncio.Future[Any]]:
        """Dial no more; return the task that does, if there is one."""
        self.state = LinkState.CLOSED
        if self._task is None or self._task.done():
            return []
        self._task.cancel()
        return [self._task]

    def _give_up(self, session: Session) -> None:
        """Fail the calls that are open, and tell the server that nobody waits for them."""
        for id, slot in session.lane.table.drain():
            if not slot[0].done():
                text = f"{slot[2]}: {self.target}: closed here"
                slot[0].set_exception(ConnectionLost(text, "maybe"))
            session.lane.send(encode_frame(Kind.CANCEL, id, status=StatusCode.CANCELLED))

    def abort(self) -> None:
        """End what `close` left, at once."""
        for session in self._sessions():
            session.abort(ConnectionLost(f"{self.target}: closed here", "maybe"))

    def _sessions(self) -> list[Session]:
        up = [self.session] if self.session is not None else []
        opening = [self._opening[0]] if self._opening is not None else []
        return [*self._draining, *up, *opening]

    # What sessions report

    def _up(self, session: Session) -> None:
        """Take a connection whose HELLO is done: calls may be sent from here on."""
        if self._opening is None or session is not self._opening[0]:
            return
        opened = self._opening[1]
        if self.state is not LinkState.DIALLING or opened.done():
            return
        session.lane.serializer = self._serializer
        self.state = LinkState.UP
        self.session = session
        self.failure = None
        self._up_at = self._loop.time()
        self._lanes.append(session.lane)
        opened.set_result(None)
        self._end_attempt()

    def _leave(self, session: Session) -> None:
        """Leave a connection whose peer takes no more calls, and make another."""
        if session is not self.session:
            return
        self._drain(session)
        self._replace(session, ConnectFailed(f"{self.target}: the server is shutting down"))

    def _drain(self, session: Session) -> None:
        """Close *session* once the calls on it have ended."""
        self._draining.add(session)
        # Handlers of the server that still run for us may need us: what it calls is answered.
        session.until_idle().add_done_callback(lambda _: session.close())

    def _lost(self, session: Session, cause: Exception) -> None:
        """Note that a connection is gone."""
        self._draining.discard(session)

    def _ended(self, session: Session, cause: Exception) -> None:
        """Note that a connection is used no more."""
        if self._opening is not None and session is self._opening[0]:
            opened = self._opening[1]
            if not opened.done():
                opened.set_exception(_as_failure(cause, self.target))
        if session is self.session:
            self._draining.add(session)  # until it is gone
            self._replace(session, ConnectFailed(f"{self.target}: the connection ended: {cause}"))

    def _replace(self, session: Session, why: FastRPCError) -> None:
        self.session = None
        self.failure = why  # for whoever waits for a connection that does not stay up
        if session.lane in self._lanes:
            self._lanes.remove(session.lane)
        if self.state is LinkState.UP:
            self.state = LinkState.DOWN
            steady = self._loop.time() - self._up_at >= STEADY
            if steady:
                self._backoff.reset()
            self.begin(0.0 if steady else self._backoff.next())
        self._changed()

    # Dialling

    async def _keep(self, pause: float) -> None:
        """Dial until a connection is open: address after address, then again after a pause."""
        self._place = 0
        while True:
            if pause:
                await asyncio.sleep(pause)
            self.state = LinkState.DIALLING
            self.attempts += 1
            try:
                await self._dial()
                return
            except (FastRPCError, OSError) as exc:
                self.failure = exc if isinstance(exc, FastRPCError) else ConnectFailed(str(exc))
            self._place = (self._place + 1) % len(self._places)
            if self._place:
                pause = 0.0
                continue
            pause = self._backoff.next() * self._stretch()
            self._retry_at = self._loop.time() + pause
            self.state = LinkState.WAITING
            self._end_attempt()

    async def _dial(self) -> None:
        """Make one connection and exchange HELLO."""
        deadline = self._loop.time() + self._timeout
        opened = self._loop.create_future()
        session: Session | None = None

        def make() -> Session:
            made = Session(self._side, client=True, address=str(self.target))
            self._opening = (made, opened)
            return made

        try:
            target, tls = self._places[self._place]
            _, session = await dial(target, make, timeout=self._timeout, tls=tls, proxy=self._proxy)
            try:
                async with asyncio.timeout_at(deadline):
                    await opened
            except TimeoutError:
                if session is not self.session:  # else it opened just as the time was up
                    raise ConnectFailed(
                        f"{self.target}: connected, but no HELLO within {self._timeout:g} s;"
                        " is it a fastrpc server?"
                    ) from None
        except BaseException as exc:
            if session is not None:
                session.abort(exc if isinstance(exc, Exception) else ConnectFailed("cancelled"))
            raise
        finally:
            self._opening = None
            if opened.done() and not opened.cancelled():
                opened.exception()  # so that nobody is told that it was never looked at

    def _stopped(self, task: asyncio.Task[None]) -> None:
        """Be ready to begin again after somebody cancelled the attempt, or a fault of ours."""
        if task is not self._task or self.state not in (LinkState.DIALLING, LinkState.WAITING):
            return
        text = "the attempt to connect was cancelled"
        if not task.cancelled() and (fault := task.exception()) is not None:
            text = f"{type(fault).__name__}: {fault}"
            self._side.complain(logging.ERROR, str(self.target), "internal error", fault)
        self.state = LinkState.DOWN
        self.failure = ConnectFailed(f"{self.target}: {text}")
        self._end_attempt()

    def _end_attempt(self) -> None:
        self.ended += 1
        self._changed()


def _as_failure(cause: Exception, target: Target) -> FastRPCError:
    """Return what the end of a connection means for an attempt that waits for HELLO."""
    if isinstance(cause, FastRPCError) and not isinstance(cause, ConnectionLost):
        return cause  # refusals and strangers keep their class
    return ConnectFailed(f"{target}: closed before HELLO was answered: {cause}")
