import asyncio
import re
import threading
import time
from typing import Any

import pytest

import fastrpc
from fastrpc.client.room import News, RoomQueue
from tests.client.scripted import Peer, scripted
from tests.client.served import serving, sessions_of, turn_until


class FakeLane:
    """A lane of which only the room counts."""

    def __init__(self, peer_calls: int) -> None:
        self.peer_calls = peer_calls
        self.table: list[str] = []
        self.ready = True
        self.crowded = False


class Line:
    """Callers in a queue, each of which holds its place until told to go."""

    def __init__(self, *lanes: FakeLane) -> None:
        self.lanes: Any = list(lanes)
        self.queue = RoomQueue(self.lanes)
        self.order: list[str] = []
        self.tasks: dict[str, asyncio.Task[str]] = {}

    async def _take(self, name: str, deadline: float) -> str:
        lane, in_time = await self.queue.take(deadline)
        self.order.append(name)
        if not in_time:
            return "late"
        if lane is None:
            return "lost"
        lane.table.append(name)  # type: ignore[attr-defined]
        return "taken"

    async def come(self, *names: str, deadline: float = 0.0) -> None:
        for name in names:
            self.tasks[name] = asyncio.create_task(self._take(name, deadline))
        await asyncio.sleep(0)

    def free(self, name: str) -> None:
        for lane in self.lanes:
            if name in lane.table:
                lane.table.remove(name)
        self.queue.on_room()

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_first_come_first_served() -> None:
    lane = FakeLane(2)
    line = Line(lane)
    await line.come("a", "b", "c", "d", "e")
    assert (line.order, lane.crowded, len(line.queue)) == (["a", "b"], True, 3)
    line.free("b")
    await line.settle()
    assert line.order == ["a", "b", "c"]
    line.free("a")
    line.free("c")
    await line.settle()
    assert line.order == ["a", "b", "c", "d", "e"]
    assert (lane.crowded, len(line.queue)) == (False, 0)


@pytest.mark.asyncio
async def test_who_comes_later_waits_even_if_there_is_room_by_then() -> None:
    lane = FakeLane(1)
    line = Line(lane)
    await line.come("a", "b")
    line.free("a")  # b is told, and has not looked yet
    await line.come("c")
    await line.settle()
    assert line.order == ["a", "b"]
    assert lane.table == ["b"]


@pytest.mark.asyncio
async def test_a_cancel_while_queued_leaves_the_line() -> None:
    lane = FakeLane(1)
    line = Line(lane)
    await line.come("a", "b", "c")
    line.tasks["b"].cancel()
    await line.settle()
    line.free("a")
    await line.settle()
    assert line.order == ["a", "c"]
    assert (len(line.queue), lane.crowded) == (0, False)


@pytest.mark.asyncio
async def test_a_cancel_in_the_moment_of_the_call_up_passes_the_place_on() -> None:
    lane = FakeLane(1)
    line = Line(lane)
    await line.come("a", "b", "c")
    line.free("a")
    line.tasks["b"].cancel()  # told, not yet run
    await line.settle()
    assert line.order == ["a", "c"]
    assert (len(line.queue), lane.crowded) == (0, False)


@pytest.mark.asyncio
async def test_a_deadline_while_queued_ends_one_wait_only() -> None:
    lane = FakeLane(1)
    line = Line(lane)
    now = asyncio.get_running_loop().time()
    await line.come("a")
    await line.come("b", deadline=now + 0.01)
    await line.come("c")
    assert await line.tasks["b"] == "late"
    line.free("a")
    assert await line.tasks["c"] == "taken"
    assert len(line.queue) == 0


@pytest.mark.asyncio
async def test_a_place_nobody_used_goes_to_the_next() -> None:
    lane = FakeLane(1)
    line = Line(lane)
    await line.come("a", "b", "c")
    line.free("a")
    await line.settle()
    lane.table.remove("b")  # its arguments could not be encoded
    line.queue.on_room()
    await line.settle()
    assert line.order == ["a", "b", "c"]


@pytest.mark.asyncio
async def test_all_are_told_when_the_connections_are_gone() -> None:
    line = Line(FakeLane(1))
    await line.come("a", "b", "c")
    line.lanes.clear()
    line.queue.on_room()
    assert [await line.tasks[name] for name in "bc"] == ["lost", "lost"]


@pytest.mark.asyncio
async def test_a_lane_that_pauses_before_the_call_keeps_the_caller_in_front() -> None:
    lane = FakeLane(1)
    line = Line(lane)
    await line.come("a", "b", "c")
    line.free("a")
    lane.ready = False
    await line.settle()
    assert line.order == ["a"]
    lane.ready = True
    line.queue.on_room()
    await line.settle()
    assert line.order == ["a", "b"]


@pytest.mark.asyncio
async def test_the_lane_with_the_fewest_calls_is_taken() -> None:
    full, busy, idle = FakeLane(3), FakeLane(3), FakeLane(3)
    full.table += ["x"] * 3
    busy.table += ["x"] * 2
    line = Line(full, busy, idle)
    await line.come("a", "b")
    assert idle.table == ["a", "b"]


@pytest.mark.asyncio
async def test_news_reaches_all_and_a_deadline_one() -> None:
    news = News()
    now = asyncio.get_running_loop().time()
    first = asyncio.create_task(news.wait(0.0))
    second = asyncio.create_task(news.wait(now + 0.01))
    third = asyncio.create_task(news.wait(0.0))
    await asyncio.sleep(0)
    third.cancel()
    assert await second is False
    news.tell()
    assert await first is True
    assert not news._waiters


# With a real server


@pytest.mark.asyncio
@pytest.mark.slow
async def test_three_thousand_callers_share_64_places_and_nobody_starves() -> None:
    async with serving(max_calls=64) as (server, work):
        async with fastrpc.connect(server.targets[0]) as client:
            client = client.options(timeout=20)  # type: ignore[assignment]
            most = 0

            async def watch() -> None:
                nonlocal most
                while True:
                    running = sum(len(session.running) for session in sessions_of(server))
                    most = max(most, running)
                    await asyncio.sleep(0)

            watching = asyncio.create_task(watch())
            finished: list[int] = []

            async def call(number: int) -> None:
                await client.call("Work.nap", 0.0 if number % 3 else 0.001)
                finished.append(number)

            await asyncio.gather(*(call(n) for n in range(3000)))
            watching.cancel()
            assert sorted(finished) == list(range(3000))
            assert most <= 64
            # Each came up about when it was its turn: no call was overtaken by a thousand.
            assert max(abs(place - number) for place, number in enumerate(finished)) < 300
    assert len(work.runs) == 3000


@pytest.mark.asyncio
async def test_quick_calls_behind_a_full_table_wait_their_turn() -> None:
    async with serving(max_calls=2) as (server, work):
        async with fastrpc.connect(server.targets[0]) as client:
            held = [client.call("Work.wait", str(n)) for n in range(2)]
            await turn_until(lambda: len(work.runs) == 2)
            queued = [client.call("Work.note", f"q{n}") for n in range(5)]
            await turn_until(lambda: len(client._room) == 5)
            started = time.monotonic()
            with pytest.raises(fastrpc.DeadlineExceeded) as late:
                await client.options(timeout=0.1).call("Work.note", "late")
            assert time.monotonic() - started >= 0.1
            assert late.value.ran == "no"
            assert late.value.stages.queued > 0.09
            assert re.search(r", queued \d\d+\.\d ms", str(late.value))
            cancelled = asyncio.ensure_future(client.call("Work.note", "cancelled"))
            await asyncio.sleep(0)
            cancelled.cancel()
            work.gate.set()
            assert await asyncio.gather(*queued) == [3, 4, 5, 6, 7]
            assert await asyncio.gather(*held) == ["0", "1"]
            assert work.runs == ["0", "1", "q0", "q1", "q2", "q3", "q4"]
            assert len(client._room) == 0
            assert not client.lanes[0].crowded


@pytest.mark.asyncio
@pytest.mark.parametrize("wrong", ["arguments", "deadline"])
async def test_a_queued_call_that_is_never_sent_leaves_its_place_to_the_next(wrong: str) -> None:
    async with serving(max_calls=1) as (server, work):
        async with fastrpc.connect(server.targets[0]) as client:
            held = client.call("Work.wait", "x")
            await turn_until(lambda: work.runs)
            if wrong == "arguments":
                bad = asyncio.ensure_future(client.call("Work.echo", object()))
            else:
                bad = asyncio.ensure_future(client.options(timeout=0.001).call("Work.echo", 1))
            good = client.options(timeout=20).call("Work.add", 1, 2)
            await turn_until(
                lambda: bad.done() or (wrong == "arguments" and len(client._room) == 2)
            )
            work.gate.set()
            with pytest.raises((fastrpc.CodecError, fastrpc.DeadlineExceeded)):
                await bad
            assert await good == 3
            assert await held == "x"


@pytest.mark.asyncio
async def test_cancelled_calls_give_their_places_back_within_a_tick() -> None:
    async with serving(max_calls=4) as (server, work):
        async with fastrpc.connect(server.targets[0]) as client:
            held = [asyncio.ensure_future(client.call("Work.wait", str(n))) for n in range(4)]
            await turn_until(lambda: len(work.runs) == 4)
            queued = client.call("Work.add", 1, 2)
            for call in held:
                call.cancel()
            assert await queued == 3
            await turn_until(lambda: len(work.ended) == 4)


@pytest.mark.asyncio
async def test_a_connection_lost_while_queued_sends_the_call_on_the_next() -> None:
    def play(peer: Peer) -> None:
        peer.hello(max_calls=1)
        call = peer.read_call()
        if peer.number == 0:
            peer.reset()
            return
        peer.reply(call)
        while True:
            peer.reply(peer.read_call())

    with scripted(play) as server:
        client = fastrpc.connect(server.target)
        await client._connected()
        first = client.call("x")
        queued = [client.call("x") for _ in range(3)]
        with pytest.raises(fastrpc.ConnectionLost):
            await first
        assert await asyncio.gather(*queued) == [None] * 3
        assert server.connections == 2
        await client.aclose()


@pytest.mark.asyncio
async def test_a_peer_that_reads_slowly_holds_calls_back_and_keeps_their_deadlines() -> None:
    async with serving() as (server, work):
        async with fastrpc.connect(server.targets[0]) as client:
            (session,) = sessions_of(server)
            transport: Any = session._transport
            transport.pause_reading()
            big = [client.call("Work.size", b"\0" * 2_000_000) for _ in range(8)]
            await turn_until(lambda: client.lanes[0].paused)
            started = time.monotonic()
            with pytest.raises(fastrpc.DeadlineExceeded) as late:
                await client.options(timeout=0.1).call("Work.note", "late")
            assert time.monotonic() - started >= 0.1
            assert late.value.ran == "no"
            patient = client.call("Work.note", "patient")
            transport.resume_reading()
            assert await asyncio.gather(*big) == [2_000_000] * 8
            assert await patient == 1
            assert work.runs == ["patient"]


@pytest.mark.asyncio
@pytest.mark.slow
async def test_a_peer_that_reads_nothing_is_left_and_calls_go_to_another() -> None:
    def play(peer: Peer) -> None:
        peer.hello()
        if peer.number == 0:
            release.wait(10)
        else:
            while True:
                peer.reply(peer.read_call())

    release = threading.Event()
    with scripted(play) as server:
        client = fastrpc.connect(server.target, write_stall=0.2)
        await client._connected()
        big = []
        while not client.lanes[0].paused:  # how much that is, is the kernel's affair
            big.append(client.call("x", b"\0" * 4_000_000))
            await asyncio.sleep(0)
        queued = client.call("x")
        for call in big:
            with pytest.raises(fastrpc.ConnectionLost, match="write_stall"):
                await call
        assert await queued is None
        release.set()
        await client.aclose()


# Calls that can go nowhere else


@pytest.mark.asyncio
async def test_who_wants_certain_lanes_does_not_stand_in_line() -> None:
    one, other = FakeLane(1), FakeLane(1)
    line = Line(one, other)
    apart = FakeLane(1)  # not the queue's own
    await line.come("a", "b", "c")
    lanes: Any = [apart]
    apart.table.append("x")
    waits = asyncio.create_task(line.queue.wait_for(lanes, 0.0))
    mine: Any = [one]
    waits_too = asyncio.create_task(line.queue.wait_for(mine, 0.0))
    await line.settle()
    assert (apart.crowded, one.crowded, other.crowded, len(line.queue)) == (True, True, True, 1)
    line.free("b")  # on the other: it is for who stands in line
    await line.settle()
    assert (line.order, waits.done(), waits_too.done()) == (["a", "b", "c"], False, False)
    assert (one.crowded, other.crowded) == (True, False)
    line.free("a")
    assert await waits_too
    assert one.crowded is False
    apart.table.clear()
    apart.ready = False
    line.queue.on_room()
    await line.settle()
    assert not waits.done()
    apart.ready = True
    line.queue.on_room()
    assert await waits
    assert apart.crowded is False


@pytest.mark.asyncio
async def test_who_wants_certain_lanes_may_give_up_or_be_late_or_lose_them() -> None:
    lane = FakeLane(0)
    line = Line(lane)
    lanes: Any = [FakeLane(0)]
    given_up = asyncio.create_task(line.queue.wait_for(lanes, 0.0))
    lost = asyncio.create_task(line.queue.wait_for(lanes, 0.0))
    await line.settle()
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    assert lanes[0].crowded  # for the other
    assert not await line.queue.wait_for(lanes, time.monotonic() + 0.01)
    assert lanes[0].crowded
    lanes.clear()
    line.queue.on_room()
    assert await lost
    assert not lane.crowded
