"""Let threads wait in line: for a reply, for the right to read, for a place.

Whoever comes first leads, and hands on when it leaves; the others sleep until
what they wait for has come or it is their turn.

A signal handler may raise between any two calls, also while a lock is awaited.
So nothing here is needed to keep going: a thread marks that it has left before
it does anything else, a mark is seen by the others at the latest when they look
up, and what sleeps is a plain lock, for the threading module's conditions can
be left locked.

Rules of the room:
  * at most one leads, and as long as somebody waits, somebody will;
  * an outcome is set once, under the lock of the owner.
"""

import threading
from typing import Any, Final, final

#: How long a thread sleeps at most before it looks up: see above.
NAP: Final = 1.0


@final
class Waiter:
    """What a thread waits on; the lane sees it as a future.

    Attributes:
        has_left: Set by its thread when it waits no more, first of all.
    """

    __slots__ = ("_done", "_error", "_turn", "_value", "has_left")

    def __init__(self) -> None:
        self._done = False
        self._value: Any = None
        self._error: BaseException | None = None
        self._turn: threading.Lock | None = None  # free: look again
        self.has_left = False

    def done(self) -> bool:
        """Return whether there is an outcome."""
        return self._done

    def set_result(self, value: Any) -> None:
        """End with a value, unless it has ended."""
        if not self._done:
            self._value = value
            self._done = True
            self.wake()

    def set_exception(self, error: BaseException) -> None:
        """End with an error, unless it has ended."""
        if not self._done:
            self._error = error
            self._done = True
            self.wake()

    def result(self) -> Any:
        """Return the value or raise the error; RuntimeError if there is none yet."""
        if self._error is not None:
            raise self._error
        if not self._done:
            raise RuntimeError("there is no outcome yet")
        return self._value

    def wake(self) -> None:
        """Let the thread look again. Needs the owner's lock."""
        if self._turn is not None and self._turn.locked():
            self._turn.release()

    def arm(self) -> None:
        """Make ready to sleep; a `wake` from here on is not missed. Needs the owner's lock."""
        if self._turn is None:
            self._turn = threading.Lock()
        self._turn.acquire(blocking=False)

    def sleep(self, seconds: float | None) -> None:
        """Sleep until woken, or until the time is up, or for a nap."""
        if self._turn is not None and not self._done:
            self._turn.acquire(timeout=NAP if seconds is None else min(max(seconds, 0.0), NAP))


@final
class Turns:
    """A line of threads, one of which leads. Every use needs the owner's lock."""

    __slots__ = ("_leader", "_line")

    def __init__(self) -> None:
        self._leader: Waiter | None = None
        self._line: dict[Waiter, None] = {}

    def __len__(self) -> int:
        """Return how many wait, some of whom may have left. Needs no lock."""
        return len(self._line)

    @property
    def is_free(self) -> bool:
        """Whether nobody waits."""
        return self._first() is None

    @property
    def leader(self) -> Waiter | None:
        """Who leads, if anybody does."""
        if self._leader is not None and self._leader.has_left:
            self._leader = None
        return self._leader

    def lead(self, waiter: Waiter, *, in_order: bool = False) -> bool:
        """Make *waiter* the leader, if there is none.

        Args:
            waiter: Who wants to.
            in_order: Only if nobody came before it.
        """
        if self.leader is None and not (in_order and self._first() not in (None, waiter)):
            self._leader = waiter
            self._line.pop(waiter, None)
        return self._leader is waiter

    def follow(self, waiter: Waiter) -> None:
        """Let *waiter* sleep until it has an outcome or may lead."""
        if not waiter.done():
            waiter.arm()
            self._line.setdefault(waiter)

    def leave(self, waiter: Waiter) -> None:
        """Take *waiter* out, and wake the next if nobody leads."""
        if self._leader is waiter:
            self._leader = None
        self._line.pop(waiter, None)
        if self.leader is None and (following := self._first()) is not None:
            following.wake()

    def wake_all(self) -> None:
        """Let all look again."""
        for waiter in self._line:
            waiter.wake()

    def _first(self) -> Waiter | None:
        """Return who is next; those that left without a word are forgotten."""
        while self._line:
            waiter = next(iter(self._line))
            if not waiter.has_left:
                return waiter
            del self._line[waiter]
        return None
