"""Let threads wait in line for room: the server takes only so many calls at once.

It is `client.room` for threads. A stream counts as a call as long as it is open.

Rules of the room:
  * who came first goes first, and whoever goes wakes the next;
  * nobody sleeps here while replies wait that only he would read.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

from fastrpc.frame import Turns, Waiter
from fastrpc.session import outcome

if TYPE_CHECKING:
    from fastrpc.session.blocking import BlockingSession

T = TypeVar("T")

_NOBODY: Final = Waiter()


@final
class BlockingRoom:
    """The line of threads that want to make a call on one connection.

    Args:
        session: The connection.

    Attributes:
        turns: Who waits; may be looked at without the lock.
    """

    __slots__ = ("_session", "turns")

    def __init__(self, session: "BlockingSession") -> None:
        self._session = session
        self.turns = Turns()

    def enter(self, name: str, timeout: float, act: Callable[[float], T]) -> tuple[T, float]:
        """Run *act* under the lock once the server takes another call.

        Args:
            name: Method.
            timeout: Seconds until the deadline, 0 for none.
            act: Sends the call, with what is left of *timeout*.

        Returns:
            What *act* returned, and how long it waited.
        """
        session, place, clock = self._session, Waiter(), self._session.side.share.clock
        started, queued = clock(), 0.0
        try:
            while True:
                if timeout and queued >= timeout:
                    raise outcome.late(
                        name, started, started + timeout, started + queued, session.address,
                        queued=queued, sent=False,
                    )  # fmt: skip
                left = timeout - queued if timeout else 0.0
                with session.lock:
                    if self._may_enter(name, place):
                        return act(left), queued
                    self.turns.follow(place)
                if not place.sleep(left or None):
                    session.pipe.look()  # streams hold the room, and nobody may be reading them
                queued = clock() - started
        finally:
            place.has_left = True  # here, for a signal handler may raise in any call
            with session.lock:
                self.turns.leave(place)

    def enter_at_once(self, name: str, timeout: float, act: Callable[[float], Any]) -> None:
        """Do the same if there is room now and nobody waits; for who has replies to read."""
        session, place = self._session, Waiter()
        try:
            with session.lock:
                if self._may_enter(name, place):
                    act(timeout)
        finally:
            place.has_left = True  # here, for a signal handler may raise in any call
            with session.lock:
                self.turns.leave(place)

    def wake(self) -> None:
        """Let the first in line look whether there is room. Needs the lock."""
        self.turns.leave(_NOBODY)  # it never stood there

    def _may_enter(self, name: str, place: Waiter) -> bool:
        session = self._session
        session.check_open(name)
        has_room = len(session.lane.table) < session.lane.peer_calls
        return has_room and self.turns.lead(place, in_order=True)
