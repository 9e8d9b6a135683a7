"""The memory that workers share, and whose turn it is to accept."""

import os
from collections.abc import Iterator

import pytest

from fastrpc.server.workers.table import Seat, SeatState, Turns, WorkerTable


@pytest.fixture
def table() -> Iterator[WorkerTable]:
    made = WorkerTable(3, 2, 7.5)
    for seat in range(2):
        made.enter(seat, place=seat, number=10 + seat, restarts=seat)
        made.set_state(seat, SeatState.SERVING)
    yield made
    made.close()


def test_what_is_written_can_be_read(table: WorkerTable) -> None:
    table.set_pid(1, 4711)
    table.note(1, 5)
    table.set_restarts(9)
    assert (table.wanted, table.since, table.restarts) == (2, 7.5, 9)
    _, second = table.seats()
    assert second == Seat(
        seat=1, state=SeatState.SERVING, pid=4711, place=1, number=11, restarts=1, connections=5
    )
    table.set_state(1, SeatState.FREE)
    assert [seat.seat for seat in table.seats()] == [0]
    table.enter(1, place=0, number=12, restarts=0)
    assert table.seats()[1].connections == 0  # nothing of the one before is left


def test_a_forked_child_writes_into_the_same_memory(table: WorkerTable) -> None:
    pid = os.fork()
    if not pid:
        table.note(0, 42)
        os._exit(0)
    os.waitpid(pid, 0)
    assert table.seats()[0].connections == 42


def turns(table: WorkerTable, counts: list[int]) -> list[Turns]:
    return [Turns(table, seat, lambda seat=seat: counts[seat]) for seat in range(len(counts))]  # type: ignore[misc]


def test_who_has_fewest_accepts_and_whoever_is_as_few_may_too(table: WorkerTable) -> None:
    counts = [3, 1]
    first, second = turns(table, counts)
    table.note(0, 3)
    assert second.is_mine(0)
    assert second.is_mine(2)
    assert first.is_mine(0)  # as few
    assert second.is_mine(1)
    assert not first.is_mine(0)


def test_who_does_not_take_its_turn_is_waited_for_once(table: WorkerTable) -> None:
    first, second = turns(table, [3, 0])
    assert not first.is_mine(0)
    assert first.is_mine(0)
    assert first.is_mine(0)
    second.took()  # it is back
    assert not first.is_mine(0)


@pytest.mark.parametrize("state", [SeatState.STARTING, SeatState.DRAINING, SeatState.FREE])
def test_who_does_not_serve_is_not_waited_for(table: WorkerTable, state: SeatState) -> None:
    first, _ = turns(table, [3, 0])
    table.set_state(1, state)
    assert first.is_mine(0)
