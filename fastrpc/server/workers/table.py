"""Let the processes of one server see how each of them stands, without asking.

The supervisor makes the table before it forks, so that all of them have the same memory.
It also says who accepts next: whoever has the fewest connections. All workers wake up when
somebody connects, and the kernel does not care which of them is faster; without this the
first one awake takes all of a burst and keeps it, for connections live long.

Rules of the room:
  * a cell is one machine word with one writer; nobody locks, nobody waits;
  * who does not take its turn is passed over, until it accepts again.
"""

import mmap
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, final


class SeatState(IntEnum):
    """Where the worker of a seat stands, as its siblings see it."""

    FREE = 0
    STARTING = 1
    SERVING = 2
    DRAINING = 3


class _Cell(IntEnum):
    """What is kept of a seat. The first five are the supervisor's, the rest the worker's."""

    STATE = 0
    PID = 1
    PLACE = 2
    NUMBER = 3
    RESTARTS = 4
    CONNECTIONS = 5
    ACCEPTED = 6


_WORD: Final = 8
_WIDTH: Final = 8  # words of a seat, and of what is before the first: a cache line


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """One worker, as the table has it.

    Attributes:
        seat: Where it sits.
        state: Where it stands.
        pid: Its process.
        place: Whose work it does.
        number: Its own; no other worker of this supervisor ever has it.
        restarts: How often a worker of this place had to be started again.
        connections: Open, when it last looked.
    """

    seat: int
    state: SeatState
    pid: int
    place: int
    number: int
    restarts: int
    connections: int


@final
class WorkerTable:
    """What is known of each worker; made before the first fork.

    Args:
        seats: How many workers there can be at once.
        wanted: How many there are to be.
        since: When the whole was started, of the monotonic clock.

    Attributes:
        wanted: How many workers there are to be.
        since: When the whole was started.
    """

    def __init__(self, seats: int, wanted: int = 0, since: float = 0.0) -> None:
        self.wanted = wanted
        self.since = since
        self._count = seats
        self._memory = mmap.mmap(-1, (seats + 1) * _WIDTH * _WORD)
        self._words = memoryview(self._memory).cast("q")

    def close(self) -> None:
        """Let go of the memory, here."""
        self._words.release()
        self._memory.close()

    @property
    def restarts(self) -> int:
        """How often a worker had to be started again, all together."""
        return self._words[0]

    @property
    def is_ending(self) -> bool:
        """Whether all of them are leaving, and nobody comes after them."""
        return bool(self._words[1])

    def seats(self) -> list[Seat]:
        """Return the workers that there are."""
        return [self._seat(seat) for seat in range(self._count) if self._get(seat, _Cell.STATE)]

    # What the supervisor writes

    def set_restarts(self, restarts: int) -> None:
        """Note how often a worker had to be started again."""
        self._words[0] = restarts

    def set_ending(self) -> None:
        """Note that all are leaving."""
        self._words[1] = 1

    def enter(self, seat: int, *, place: int, number: int, restarts: int) -> None:
        """Note that a worker is being started."""
        for cell in _Cell:
            self._set(seat, cell, 0)
        self._set(seat, _Cell.PLACE, place)
        self._set(seat, _Cell.NUMBER, number)
        self._set(seat, _Cell.RESTARTS, restarts)
        self._set(seat, _Cell.STATE, SeatState.STARTING)

    def set_pid(self, seat: int, pid: int) -> None:
        """Note which process it is."""
        self._set(seat, _Cell.PID, pid)

    def set_state(self, seat: int, state: SeatState) -> None:
        """Note where a worker stands."""
        self._set(seat, _Cell.STATE, state)

    # What a worker writes, and asks

    def note(self, seat: int, connections: int) -> None:
        """Note how many connections a worker has."""
        self._set(seat, _Cell.CONNECTIONS, connections)

    def accepted(self, seat: int) -> None:
        """Note that a worker has accepted somebody."""
        self._set(seat, _Cell.ACCEPTED, self._get(seat, _Cell.ACCEPTED) + 1)

    def is_turn_of(self, seat: int, passed_over: dict[int, int]) -> bool:
        """Say whether no serving worker has fewer connections than *seat*.

        Args:
            seat: Who asks.
            passed_over: Whom it has waited for already: seats, and how many they had
                accepted by then. Who has not accepted anybody since counts no more. The
                one to wait for now is put in.
        """
        best, least = seat, self._get(seat, _Cell.CONNECTIONS)
        for other in range(self._count):
            if self._get(other, _Cell.STATE) != SeatState.SERVING:
                continue
            connections = self._get(other, _Cell.CONNECTIONS)
            if connections < least and passed_over.get(other) != self._get(other, _Cell.ACCEPTED):
                best, least = other, connections
        if best == seat:
            return True
        passed_over[best] = self._get(best, _Cell.ACCEPTED)
        return False

    def _seat(self, seat: int) -> Seat:
        return Seat(
            seat=seat,
            state=SeatState(self._get(seat, _Cell.STATE)),
            pid=self._get(seat, _Cell.PID),
            place=self._get(seat, _Cell.PLACE),
            number=self._get(seat, _Cell.NUMBER),
            restarts=self._get(seat, _Cell.RESTARTS),
            connections=self._get(seat, _Cell.CONNECTIONS),
        )

    def _get(self, seat: int, cell: _Cell) -> int:
        return self._words[(seat + 1) * _WIDTH + cell]

    def _set(self, seat: int, cell: _Cell, value: int) -> None:
        self._words[(seat + 1) * _WIDTH + cell] = value


@final
class Turns:
    """Says of one worker whether it is its turn to accept; see `transport.accept.Turns`.

    Args:
        table: Where all workers are.
        seat: Whose turns these are.
        connections: Returns how many it has.
    """

    def __init__(self, table: WorkerTable, seat: int, connections: Callable[[], int]) -> None:
        self._table = table
        self._seat = seat
        self._connections = connections
        self._passed_over: dict[int, int] = {}

    def is_mine(self, on_the_way: int) -> bool:
        """Say whether nobody has fewer connections, of those who take their turns.

        Args:
            on_the_way: Who was accepted here and is not counted as a connection yet.
        """
        self._table.note(self._seat, self._connections() + on_the_way)
        return self._table.is_turn_of(self._seat, self._passed_over)

    def took(self) -> None:
        """Note that somebody was accepted."""
        self._table.accepted(self._seat)
