"""Who says much has its turn, and then the others have theirs."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any

import pytest

from fastrpc.transport import turns
from fastrpc.transport.turns import BYTES_MAX, PIECE, TIME_MAX, Turns

pytestmark = pytest.mark.asyncio


class Clock:
    """A clock that a test turns by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(turns, "perf_counter", made)
    return made


class Outer(asyncio.Transport):
    """A transport that notes whether it is read from."""

    def __init__(self) -> None:
        super().__init__()
        self.is_read = True
        self.is_gone = False

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        self.is_read = True

    def is_closing(self) -> bool:
        return self.is_gone


def ready(take: Callable[[bytes], object], is_wanted: bool = True) -> tuple[Outer, Turns]:
    return Outer(), Turns(take, lambda: is_wanted)


async def test_little_goes_on_at_once_as_it_is(clock: Clock) -> None:
    got: list[bytes] = []
    outer, ours = ready(got.append)
    data = b"x" * PIECE
    ours.feed(outer, data)
    ours.feed(outer, b"y")
    assert got == [data, b"y"]
    assert got[0] is data
    assert outer.is_read
    assert not ours.is_resting


async def test_much_goes_on_in_pieces_and_later(clock: Clock) -> None:
    got: list[bytes] = []
    outer, ours = ready(got.append)
    data = bytes(range(256)) * (3 * BYTES_MAX // 256)
    ours.feed(outer, data)
    assert not outer.is_read
    assert len(b"".join(got)) == BYTES_MAX
    assert {len(piece) for piece in got} == {PIECE}
    counts = []
    while not outer.is_read:
        ours.feed(outer, b"z") if not counts else None  # somebody has resumed it
        counts.append(len(got))
        await asyncio.sleep(0)
    assert len(counts) >= 3
    assert b"".join(got) == data + b"z"


async def test_what_takes_long_is_soon_over(clock: Clock) -> None:
    got: list[bytes] = []

    def take(piece: bytes) -> None:
        got.append(piece)
        clock.now += TIME_MAX * 0.7

    outer, ours = ready(take)
    ours.feed(outer, b"x" * PIECE * 5)
    assert len(got) == 2
    assert len(ours.held) == 3 * PIECE
    await asyncio.sleep(0)
    assert len(got) == 4
    assert not outer.is_read
    await asyncio.sleep(0)
    assert len(got) == 5
    assert outer.is_read


async def test_a_pause_of_others_stays(clock: Clock) -> None:
    outer, ours = ready(lambda _: None, is_wanted=False)
    ours.feed(outer, b"x" * BYTES_MAX)
    await asyncio.sleep(0)
    assert not ours.is_resting
    assert not outer.is_read


async def test_who_stops_has_what_is_held_and_reads(clock: Clock) -> None:
    got: list[bytes] = []
    outer, ours = ready(got.append)
    ours.feed(outer, b"x" * BYTES_MAX + b"rest")
    assert ours.stop() == b"rest"
    assert outer.is_read
    await asyncio.sleep(0)
    assert len(b"".join(got)) == BYTES_MAX


async def test_who_stops_in_the_middle_has_the_rest(clock: Clock) -> None:
    rest: list[bytes] = []
    outer = Outer()
    ours = Turns(lambda _: rest.append(ours.stop()), lambda: True)
    ours.feed(outer, b"x" * PIECE + b"rest")
    assert rest == [b"rest"]
    assert not ours.held


async def test_the_end_of_a_stream_waits_for_no_turn(clock: Clock) -> None:
    got: list[bytes] = []
    outer, ours = ready(got.append)
    ours.feed(outer, b"x" * (BYTES_MAX + PIECE + 7))
    ours.drain()
    assert len(b"".join(got)) == BYTES_MAX + PIECE + 7
    outer.is_gone = True
    await asyncio.sleep(0)
    assert not outer.is_read


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_uvloop_reads_no_more_in_a_turn_that_was_paused() -> None:
    """What all of this stands on."""
    reads: list[int] = []  # one count of reads for each turn
    near, far = socket.socketpair()
    with near, far:
        far.setblocking(False)
        for sock in (near, far):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                sent += far.send(b"x" * 2**16)

        class Pausing(asyncio.Protocol):
            paused = True
            got = 0

            def connection_made(self, transport: Any) -> None:
                self.transport = transport

            def data_received(self, data: bytes) -> None:
                self.got += len(data)
                reads[-1] += 1
                if self.paused:
                    self.transport.pause_reading()
                    asyncio.get_running_loop().call_soon(self.transport.resume_reading)

        reads.append(0)
        near.setblocking(False)
        transport, protocol = await asyncio.get_running_loop().create_connection(Pausing, sock=near)
        while protocol.got < sent:
            reads.append(0)
            await asyncio.sleep(0)
        assert max(reads) == 1
        transport.abort()
        await asyncio.sleep(0)
