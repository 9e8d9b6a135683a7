"""Ask clients to connect anew when a connection is old, or has not been used for a while.

Behind one address there may be many servers, and who connects once stays where it is: new
servers get nothing, old names are never looked up again. So a connection has an age; at its
end the client is told by GOAWAY, makes another, and leaves this one when its calls have
ended. No call is refused meanwhile. The rules are gRPC's (its proposal A9): the age with a
tenth more or less by chance, so that not all come back at once, and a grace for what runs.

Rules of the room:
  * only connections that speak the binary protocol have an age: others are not told to leave;
  * a timer belongs to a connection, and ends with it.
"""

import asyncio
import random
from typing import TYPE_CHECKING, Final, final

from fastrpc.server.hall import Hall
from fastrpc.server.options import ServerOptions

if TYPE_CHECKING:
    from fastrpc.session import Session

#: Share of the age that it may be more or less.
JITTER: Final = 0.1

_LOOKS: Final = 4  # at an idle connection, before it is asked to leave
_LEAVING: Final = 0.5  # seconds for cancelled handlers, and for their answers
_OLD: Final = "the connection is over its age, and so is the grace"


@final
class Ages:
    """The ages of the connections of one server.

    Args:
        hall: Who is connected.
        options: How old they may be.
        loop: Whose timers to use.
        rng: Source of chance.
    """

    def __init__(
        self,
        hall: Hall,
        options: ServerOptions,
        loop: asyncio.AbstractEventLoop,
        rng: random.Random | None = None,
    ) -> None:
        self._hall = hall
        self._age, self._idle = options.max_connection_age, options.max_connection_idle
        self._grace = options.connection_grace
        self._loop = loop
        self._rng = rng or random.Random()
        self._lives: dict[Session, _Life] = {}

    def opened(self, session: "Session") -> None:
        """Note that the HELLO of a connection is done: its age counts from now on."""
        self._hall.opened(session)
        if session not in self._hall.admission:  # it belongs to a translator
            return
        life = self._lives[session] = _Life(session, self._loop, self._grace)
        if self._age is not None:
            life.leave_in(self._age * self._rng.uniform(1 - JITTER, 1 + JITTER))
        if self._idle is not None:
            life.begin_looks(self._idle / _LOOKS)

    def lost(self, session: "Session", cause: Exception) -> None:
        """Note that a connection is gone."""
        life = self._lives.pop(session, None)
        if life is not None:
            life.end()
        self._hall.lost(session, cause)


@final
class _Life:
    """What is left of the time of one connection."""

    __slots__ = ("_grace", "_looks", "_loop", "_old", "_seen", "_session", "_unused")

    def __init__(self, session: "Session", loop: asyncio.AbstractEventLoop, grace: float) -> None:
        self._session = session
        self._loop = loop
        self._grace = grace
        self._old: asyncio.TimerHandle | None = None
        self._unused: asyncio.TimerHandle | None = None
        self._seen = self._looks = 0

    def end(self) -> None:
        """Stop the timers."""
        for timer in (self._old, self._unused):
            if timer is not None:
                timer.cancel()
        self._old = self._unused = None

    def leave_in(self, seconds: float) -> None:
        """Ask the client to leave after so many seconds."""
        self._old = self._loop.call_later(seconds, self._leave)

    def begin_looks(self, seconds: float) -> None:
        """Look every so many seconds whether anything was called; for the first time later."""
        self._unused = self._loop.call_later(seconds, self._look, seconds)

    def _look(self, seconds: float) -> None:
        lane = self._session.lane
        seen = lane.calls_in + lane.calls_out
        is_running = self._session.in_flight > 0
        is_used = is_running or seen != self._seen
        self._seen = -1 if is_running else seen  # its end is use, too
        self._looks = 0 if is_used else self._looks + 1
        if self._looks >= _LOOKS:
            self._leave()
        else:
            self.begin_looks(seconds)

    def _leave(self) -> None:
        """Ask the client to go; its calls are taken until it does, or the grace is over."""
        self.end()
        self._session.leave()
        self._old = self._loop.call_later(self._grace, self._stop)

    def _stop(self) -> None:
        """Take no more calls, and cancel those that still run."""
        session = self._session
        idle = session.drain()
        session.cancel_running(_OLD)
        self._old = self._loop.call_later(_LEAVING, session.close)
        idle.add_done_callback(lambda _: session.close())
