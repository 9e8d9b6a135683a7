"""Give the sessions of one owner their time: one fast timer, one slow one.

Timers per call or per connection would cost more than the calls. Instead the
fast tick visits only sessions that have something to expire, and the slow tick
goes round all of them, a slice at a time when they are many. The slow one also lets
go of memory that the frames keep for bodies to come.

Rules of the room:
  * no timer runs when nobody needs one;
  * a tick that comes late says so: the loop was blocked, and what looks like a
    silent peer may only be an unread one;
  * a session that breaks takes nobody's time but its own.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any, Final, Protocol, final

from fastrpc.frame import LoopShare, release_bodies

FAST: Final = 0.01  # how late a deadline or a cancel may be noticed
SLOW: Final = 1.0  # how late a silent or stalled peer may be noticed
SLICE: Final = 100  # sessions visited at once by the slow tick
LATE: Final = 1.0  # a tick later than this means that the loop was blocked


class Ticked(Protocol):
    """What a ticker visits."""

    def fast_tick(self, now: float) -> bool:
        """Expire what is late; return whether there may be more."""
        ...

    def slow_tick(self, now: float, late: bool) -> None:
        """Look after the connection."""
        ...


@final
class Ticker:
    """Visit sessions: the busy ones often, all of them now and then.

    Args:
        loop: Whose timers to use.
        share: What the lanes of this owner share.

    Attributes:
        since: When it was made, which is when its owner was started.
        lag: How late the last slow tick came: the loop was busy for so long.
        worst_lag: How late one came at most.
        late_ticks: How many came so late that nothing was made of peers' silence.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, share: LoopShare) -> None:
        self.loop = loop
        self.share = share
        self._busy: set[Ticked] = set()
        self._all: dict[Ticked, None] = {}
        self._round: list[Ticked] = []
        self._fast: asyncio.TimerHandle | None = None
        self._slow: asyncio.TimerHandle | None = None
        self._due = 0.0
        self.since = share.clock()
        self.lag = self.worst_lag = 0.0
        self.late_ticks = 0

    def hurry(self, session: Ticked) -> None:
        """Visit *session* with every fast tick until it says that it is done."""
        self._busy.add(session)
        if self._fast is None:
            self._fast = self.loop.call_later(FAST, self._fast_tick)

    def watch(self, session: Ticked) -> None:
        """Visit *session* with the slow tick from now on."""
        self._all[session] = None
        if self._slow is None:
            self._wait()

    def forget(self, session: Ticked) -> None:
        """Visit *session* no more."""
        self._all.pop(session, None)
        self._busy.discard(session)

    def close(self) -> None:
        """Stop both timers."""
        for timer in (self._fast, self._slow):
            if timer is not None:
                timer.cancel()
        self._fast = self._slow = None
        self._busy.clear()
        self._all.clear()
        self._round.clear()
        release_bodies(True)

    def _fast_tick(self) -> None:
        self._fast = None
        now = self.share.clock()
        for session in list(self._busy):
            if not self._visit(session.fast_tick, now):
                self._busy.discard(session)
        if self._busy and self._fast is None:
            self._fast = self.loop.call_later(FAST, self._fast_tick)

    def _wait(self) -> None:
        pause = SLOW / (1 + len(self._all) // SLICE)
        self._due = self.share.clock() + pause
        self._slow = self.loop.call_later(pause, self._slow_tick)

    def _slow_tick(self) -> None:
        self._slow = None
        now = self.share.clock()
        self.lag = max(now - self._due, 0.0)
        self.worst_lag = max(self.worst_lag, self.lag)
        late = self.lag > LATE
        self.late_ticks += late
        if not self._round:
            self._round = list(self._all)
        visited, self._round = self._round[:SLICE], self._round[SLICE:]
        for session in visited:
            if session in self._all:
                self._visit(session.slow_tick, now, late)
        release_bodies(not self._all)
        if self._all and self._slow is None:
            self._wait()

    def _visit(self, tick: Callable[..., bool | None], *args: Any) -> bool | None:
        try:
            return tick(*args)
        except Exception as exc:  # a mistake of ours: the others still need their time
            self.loop.call_exception_handler({"message": "a tick failed", "exception": exc})
            return False


def share_of(loop: asyncio.AbstractEventLoop) -> LoopShare:
    """Return what lanes on *loop*, which must be running here, share."""
    return LoopShare(
        loop.create_future,
        loop.call_soon,
        time.monotonic,
        loop.is_running,
        threading.get_ident(),
        loop,
    )
