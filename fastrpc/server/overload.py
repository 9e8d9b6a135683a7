"""Refuse what is more than a server can do, early and at little cost.

Two things are watched. Handlers that wait, in tasks or in threads, are in flight: each method
has a `Limiter` that finds out how many do good. Handlers that need not wait run as they are
read: the turns of the event loop tell how long calls stay unread, and a `TurnBudget` says how
long the handlers of one turn may take.

The lane runs calls of the second kind by itself and has no clock for this; so it gets handlers
that look at the clock first, and when the time of a connection is used up they tell the lane
to refuse what comes behind before it decodes that: a refusal costs less than any call.

Rules of the room:
  * a server without `adaptive_limit` has none of this, and no call pays for it;
  * calls that come first, see `Priority`, are never refused here.
"""

import random
from collections.abc import Callable, Collection, Iterator
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, final

from fastrpc.call import MethodInfo, Mode
from fastrpc.frame import LoopShare, Method
from fastrpc.policy.limiter import Limiter
from fastrpc.policy.turnbudget import TurnBudget
from fastrpc.session.failure import refusal
from fastrpc.wire import StatusCode

if TYPE_CHECKING:
    from fastrpc.session import Session

#: What the names of a server's own services begin with.
BUILT_IN: Final = "fastrpc."

#: Milliseconds that who was refused should stay away, by chance between half and the whole
#: more; it is what a turn budget needs to notice that things are better.
STAY_AWAY: Final = 100
_JITTER: Final = 0.5
_BODIES: Final = 32  # refusals that are encoded beforehand

_AT_ONCE: Final = (Mode.SYNC, Mode.INLINE)
_TOO_MUCH: Final = "more calls come than this server can do (adaptive_limit)"


@final
class Priority:
    """Knows the methods that come first: the server's own, and those that a user names.

    Args:
        names: Of services, or full names of methods.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._names = frozenset(names)
        self._known: dict[Method, bool] = {}

    def __call__(self, method: Method) -> bool:
        """Say whether *method* comes first."""
        known = self._known.get(method)
        if known is None:
            known = self._known[method] = self.has(method.info.info.name)
        return known

    def has(self, name: str) -> bool:
        """Say whether the method of that full name comes first."""
        return (
            name.startswith(BUILT_IN)
            or name in self._names
            or name.rpartition(".")[0] in self._names
        )


@final
class _Kind:
    """The calls of one method."""

    __slots__ = ("limiter", "running")

    def __init__(self, limiter: Limiter) -> None:
        self.limiter = limiter
        self.running = 0


@final
class Overload:
    """Decides what one server refuses.

    Args:
        priority: What comes first.
        most: Most calls of all methods in flight.
        rng: Source of chance.

    Attributes:
        budget: The turns of the loop.
        shed: How many calls were refused because a turn's time was used up.
    """

    def __init__(self, priority: Priority, most: int, rng: random.Random | None = None) -> None:
        self._priority = priority
        self._most = most
        self._rng = rng or random.Random()
        self.budget = TurnBudget(self._rng)
        self._kinds: dict[Method, _Kind] = {}
        self._share: LoopShare = None  # type: ignore[assignment]
        self._clock: Callable[[], float] = float  # until there is a loop
        self._until = 0.0  # of the batch that is read now; 0: none is, or it has no end
        self._session: Session | None = None
        self._is_turning = self._has_read = False
        self.shed = self._ran = 0
        self._refusals: tuple[bytes, ...] = ()

    def bind(self, share: LoopShare, encode: Callable[[Any], bytes]) -> None:
        """Work on the loop of *share* from now on; *encode* makes msgpack of a body."""
        self._share = share
        self._clock = share.clock
        bodies = (
            refusal(StatusCode.OVERLOADED, _TOO_MUCH, retry_ms=self.pushback())
            for _ in range(_BODIES)
        )
        self._refusals = tuple(map(encode, bodies))

    @property
    def limit(self) -> int:
        """How many calls may be in flight in all, by what is known now."""
        known = sum(kind.limiter.limit for kind in self._kinds.values())
        return min(known, self._most) if known else self._most

    # What runs as it is read

    def around(self, info: MethodInfo) -> Callable[..., Any] | None:
        """Return a method's handler with a look at the clock before it, None if none is due."""
        handler = info.handler
        if info.mode not in _AT_ONCE or self._priority.has(info.name):
            return None

        @wraps(handler)
        def watched(*args: Any, **kwargs: Any) -> Any:
            self._ran += 1
            if self._until and self._clock() >= self._until:
                self._stop()
            return handler(*args, **kwargs)

        return watched

    def within(self, session: "Session", step: Callable[..., None]) -> Callable[..., None]:
        """Return *step*, in which the lane of *session* takes what was read, with an end."""
        lane = session.lane

        def batch(*args: Any) -> None:
            if self._session is not None:  # a handler runs the loop
                step(*args)
                return
            now = self._clock()
            self._look(now)
            came, shed, ran = lane.calls_in, lane.shed, self._ran
            self._session, self._until = session, self.budget.batch(now)
            if self._until < 0:
                self._stop()
            try:
                step(*args)
            finally:
                self._session, self._until, lane.refusals = None, 0.0, None
                came, shed, ran = lane.calls_in - came, lane.shed - shed, self._ran - ran
                self.shed += shed
                end = self._clock()
                self.budget.done(end - now, ran, shed, came - ran - shed, end)

        return batch

    # What is in flight

    def has_room(self, method: Method) -> bool:
        """Say whether one more call of *method* may be in flight; a no is counted."""
        kind = self._kinds.get(method)
        if kind is None or kind.running < kind.limiter.limit or self._priority(method):
            return True
        kind.limiter.refused()
        return False

    def limit_of(self, method: Method) -> int:
        """Return how many calls of *method* may be in flight."""
        kind = self._kinds.get(method)
        return kind.limiter.limit if kind is not None else self._most

    def crowd(self, method: Method, running: Collection[Any]) -> Collection[Any]:
        """Return what is as long as *running*, and too long while *method* has no room."""
        return _Crowd(self, method, running)

    def began(self, method: Method) -> None:
        """Note that a call is in flight."""
        kind = self._kinds.get(method)
        if kind is None:
            if method.info.info.mode is Mode.STREAM:  # it lasts as long as it likes
                return
            kind = self._kinds[method] = _Kind(Limiter(self._rng, most=self._most))
        kind.running += 1

    def took(self, method: Method, seconds: float, well: bool) -> None:
        """Note how long the handler of a call took, or how long until it was given up."""
        kind = self._kinds.get(method)
        if kind is not None:
            kind.limiter.ended(seconds, self._clock(), well)

    def ended(self, method: Method) -> None:
        """Note that a call is in flight no more."""
        kind = self._kinds.get(method)
        if kind is not None:
            kind.running -= 1

    def pushback(self) -> int:
        """Return the milliseconds that a refused caller should stay away."""
        return round(STAY_AWAY * self._rng.uniform(1 - _JITTER, 1 + _JITTER))

    # The loop

    def _stop(self) -> None:
        """Let the lane refuse what comes behind the call that begins now."""
        session = self._session
        if session is not None and not session.is_draining:  # else that is what it is told
            session.lane.refusals = self._refusals

    def _look(self, now: float) -> None:
        """Follow the turns of the loop from a read on."""
        self._has_read = True
        if not self._is_turning:
            self._is_turning = True
            self.budget.wake(now)
            self._share.call_soon(self._turn)

    def _turn(self) -> None:
        """Begin a turn of the loop, if there was something to read in the last."""
        self._is_turning, self._has_read = self._has_read, False
        if self._is_turning:
            self.budget.turn(self._clock())
            self._share.call_soon(self._turn)


@final
class _Crowd:
    """As long as what runs, or as what may run where there is no room."""

    __slots__ = ("_method", "_overload", "_running")

    def __init__(self, overload: Overload, method: Method, running: Collection[Any]) -> None:
        self._overload, self._method, self._running = overload, method, running

    def __len__(self) -> int:
        if self._overload.has_room(self._method):
            return len(self._running)
        return self._overload._most

    def __iter__(self) -> Iterator[Any]:
        return iter(self._running)

    def __contains__(self, value: object) -> bool:
        return value in self._running
