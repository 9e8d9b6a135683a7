"""What all slow peers leave unread together: counted, bounded, and nobody else pays."""

import asyncio

import pytest

from fastrpc.errors import ConnectionLost
from fastrpc.session.flow import Unread
from tests.session.rig import Rig

pytestmark = pytest.mark.asyncio


def rigs(*, most: int, count: int = 3) -> list[Rig]:
    """Return sessions of one server, each on paper of its own."""
    made = [Rig().greet() for _ in range(count)]
    unread = Unread(most)
    for number, rig in enumerate(made):
        rig.side.unread = unread
        rig.session.peer = f"tcp://10.0.0.{number}:1"
    return made


def slow(rig: Rig, unread: int) -> None:
    """Let so much wait for a peer that has not read for a while."""
    rig.transport.unread = unread
    if not rig.session.lane.paused:
        rig.session.pause_writing()
    else:
        rig.session.hand_over()


async def cut(made: list[Rig]) -> list[int]:
    """Return whose connections were closed by now, and let them be gone."""
    await asyncio.sleep(0)  # nobody is closed in the middle of a write
    gone = [n for n, rig in enumerate(made) if "abort" in rig.transport.events]
    for number in gone:
        made[number].lose()
    return gone


async def test_at_the_limit_nobody_is_cut_off() -> None:
    made = rigs(most=600)
    for rig in made:
        slow(rig, 200)
    assert await cut(made) == []


async def test_past_it_those_go_that_most_waits_for(caplog: pytest.LogCaptureFixture) -> None:
    made = rigs(most=600)
    for rig, size in zip(made, (100, 300, 200), strict=True):
        slow(rig, size)
    slow(made[0], 101)
    assert await cut(made) == [1]
    (cause,) = made[1].lost
    assert isinstance(cause, ConnectionLost)
    assert "601 bytes wait for slow peers, over max_unsent_total of 600" in str(cause)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == f"tcp://10.0.0.1:1: closing: {str(cause).partition('cut off: ')[2]}"
    slow(made[0], 400)  # there is room again
    assert await cut(made[:1]) == []


async def test_as_many_go_as_it_takes_with_one_line(caplog: pytest.LogCaptureFixture) -> None:
    made = rigs(most=600, count=4)
    for rig, size in zip(made, (150, 290, 590, 300), strict=True):
        slow(rig, size)
    assert await cut(made) == [2, 3]
    (line,) = [record.getMessage() for record in caplog.records]
    assert "10.0.0.2:1: closing it and 1 more: 1330 bytes wait" in line
    slow(made[0], 150)
    assert await cut(made[:2]) == []


async def test_the_one_that_writes_is_not_closed_under_its_transport() -> None:
    made = rigs(most=600)
    slow(made[0], 601)
    assert "abort" not in made[0].transport.events
    assert await cut(made) == [0]


async def test_what_was_read_meanwhile_does_not_count() -> None:
    made = rigs(most=600)
    slow(made[0], 500)
    made[0].transport.unread = 20
    slow(made[1], 500)
    assert await cut(made) == []
    made[0].session.resume_writing()
    slow(made[1], 600)
    assert await cut(made) == []
    made[1].lose()
    slow(made[2], 600)
    assert await cut(made[2:]) == []


async def test_the_last_words_for_a_closed_peer_count_as_well() -> None:
    made = rigs(most=600)
    slow(made[0], 500)
    made[0].session.broken(RuntimeError("ours"))
    assert "eof" in made[0].transport.events
    slow(made[1], 101)
    assert await cut(made) == [0]


async def test_peers_that_read_cost_nothing() -> None:
    made = rigs(most=1)
    for rig in made:
        rig.transport.unread = 60_000  # below the mark at which a transport pauses us
        rig.session.hand_over()
    assert await cut(made) == []


async def test_a_client_has_no_such_limit() -> None:
    rig = Rig(client=True).greet()
    assert rig.side.unread is None
    slow(rig, 2**40)
    assert await cut([rig]) == []
