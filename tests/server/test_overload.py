"""More comes than a server can do: what it refuses, how, and what it never does."""

import asyncio
import logging
import threading
from typing import Any

import pytest

import fastrpc
from fastrpc.errors import ConfigError
from fastrpc.frame import encode_frame
from fastrpc.protocol import decode_option
from fastrpc.server.overload import STAY_AWAY, Overload, Priority
from fastrpc.session.shedding import RESERVED
from fastrpc.wire import Kind
from tests.adversity.raw_peer import RawPeer, call, hello_frame, message, pack, unpack
from tests.server.serving import serving, until

CALM = logging.getLogger("tests.calm")
NOTHING = b"\x90"
pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("both_twins")]


class Clock:
    """Seconds that pass when somebody says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Work:
    """Something to do."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.go_on = asyncio.Event()
        self.free = threading.Event()
        self.ran: list[str] = []

    def burn(self, millis: float = 10) -> int:
        self.ran.append("burn")
        self.clock.now += millis / 1000
        return 1

    async def inline(self) -> int:
        self.ran.append("inline")
        return 2

    async def wait(self) -> int:
        await self.go_on.wait()
        return 3

    @fastrpc.rpc(blocking=True)
    def thread(self) -> int:
        self.ran.append("thread")
        self.free.wait(10)
        return 4

    async def count(self) -> Any:
        await self.go_on.wait()
        yield 1


class Vital:
    """What must go on."""

    def beat(self) -> str:
        return "alive"

    async def hold(self, go_on: bool) -> str:
        await asyncio.sleep(0)
        return "held"


def burn(id: int, **more: Any) -> bytes:
    return call(id, b"Work.burn", NOTHING, **more)


def guard_of(server: fastrpc.Server) -> Overload:
    """Return what decides, its clock replaced by the service's."""
    guard = server._overload
    assert guard is not None
    return guard


def press(server: fastrpc.Server, clock: Clock) -> Overload:
    """Let the server believe that a queue has stood for long."""
    guard = guard_of(server)
    guard._clock = clock
    guard.budget.is_pressed, guard.budget.cost = True, 0.01
    guard.budget._refused_at, guard.budget.refused = clock(), 1.0
    guard._is_turning = True  # the turns are the test's
    guard.budget._begin(1, 1.0, clock())  # after a long one
    return guard


async def test_what_came_together_and_would_wait_is_refused_undecoded() -> None:
    clock = Clock()
    work = Work(clock)
    async with (
        serving(work, log=CALM, adaptive_limit=True) as server,
        await RawPeer.greeted(server.targets[0]) as peer,
    ):
        press(server, clock)
        broken = call(4, b"Work.burn", b"\xc1")  # nobody decodes it, so nobody complains
        peer.send(burn(1), burn(2), burn(3), broken, call(5, b"Work.inline", NOTHING))
        assert (await peer.reply(1)).status == 0
        for id in range(2, 6):
            refused = await peer.reply(id)
            assert (refused.status, "adaptive_limit" in message(refused)) == (52, True)
            stay_away = unpack(refused.payload)["retry_ms"]
            assert STAY_AWAY * 0.5 <= stay_away <= STAY_AWAY * 1.5
        assert work.ran == ["burn"]
        assert server.stats().refused == 4
        told = server.health(5)["methods"]
        failures = {name: method["failures"] for name, method in told.items()}
        assert failures == {"Work.burn": {"overloaded": 3}, "Work.inline": {"overloaded": 1}}
        assert server.stats().methods == {"Work.burn": (1, 0)}
        guard_of(server).budget.turn(clock())  # in the next one may run again
        peer.send(burn(6))
        assert (await peer.reply(6)).status == 0


async def test_a_burst_is_run_whole() -> None:
    work = Work()
    async with (
        serving(work, log=CALM, adaptive_limit=True) as server,
        await RawPeer.greeted(server.targets[0]) as peer,
    ):
        guard_of(server)._clock = work.clock
        peer.send(*(call(id, b"Work.burn", pack([5])) for id in range(1, 11)))
        assert [(await peer.reply(id)).status for id in range(1, 11)] == [0] * 10


async def test_one_turn_lasts_no_longer_than_the_interval() -> None:
    work = Work()
    async with (
        serving(work, log=CALM, adaptive_limit=True) as server,
        await RawPeer.greeted(server.targets[0]) as peer,
    ):
        guard_of(server)._clock = work.clock
        peer.send(*(call(id, b"Work.burn", pack([30])) for id in range(1, 9)))
        statuses = [(await peer.reply(id)).status for id in range(1, 9)]
        assert statuses == [0] * 5 + [52] * 3  # the one that begins at 100 ms is the last


async def test_oneway_calls_are_dropped_in_silence() -> None:
    clock = Clock()
    work = Work(clock)
    async with (
        serving(work, log=CALM, adaptive_limit=True) as server,
        await RawPeer.greeted(server.targets[0]) as peer,
    ):
        press(server, clock)
        peer.send(burn(1), burn(2, oneway=True), burn(3))
        assert (await peer.reply(1)).status == 0
        assert (await peer.reply(3)).status == 52
        assert work.ran == ["burn"]


async def test_what_comes_first_is_never_refused_for_it() -> None:
    clock = Clock()
    async with serving(
        Work(clock), log=CALM, adaptive_limit=True, priority=["Vital", "Work.inline"]
    ) as server:
        server.register(Vital())
        async with await RawPeer.greeted(server.targets[0]) as peer:
            press(server, clock)
            vital = (b"Vital.beat", b"fastrpc.health", b"fastrpc.describe", b"Work.inline")
            frames = [call(id, name, NOTHING) for id, name in enumerate(vital, 3)]
            peer.send(burn(1), burn(2), *frames)
            assert [(await peer.reply(id)).status for id in range(1, 7)] == [0, 52, 0, 0, 0, 0]


async def test_what_comes_first_opens_no_way_for_what_comes_behind() -> None:
    clock = Clock()
    work = Work(clock)
    async with (
        serving(work, log=CALM, adaptive_limit=True) as server,
        await RawPeer.greeted(server.targets[0]) as peer,
    ):
        press(server, clock)
        work.go_on.set()
        between = (b"fastrpc.health", b"Work.wait", b"Work.nothing")
        frames = [burn(1), burn(2)]
        for id, name in enumerate(between):
            frames += [call(3 + 2 * id, name, NOTHING), burn(4 + 2 * id)]
        peer.send(*frames)
        statuses = [(await peer.reply(id)).status for id in range(1, 9)]
        assert statuses == [0, 52, 0, 52, 0, 52, 44, 52]
        assert work.ran == ["burn"]


async def test_the_read_with_hello_has_a_budget_too() -> None:
    clock = Clock()
    work = Work(clock)
    async with (
        serving(work, log=CALM, adaptive_limit=True) as server,
        await RawPeer.connect(server.targets[0]) as peer,
    ):
        press(server, clock)
        peer.send(hello_frame() + b"".join(burn(id) for id in range(1, 11)))
        statuses = [(await peer.reply(id)).status for id in range(1, 11)]
        assert statuses == [0] + [52] * 9
        assert server.stats().refused == 9


async def test_a_read_that_was_held_back_has_a_budget_too() -> None:
    clock = Clock()
    work = Work(clock)
    async with (
        serving(work, log=CALM, adaptive_limit=True) as server,
        await RawPeer.greeted(server.targets[0]) as peer,
    ):
        (session,) = server.hall.sessions
        peer.send(*(burn(id) for id in range(1, 11)))
        session.lane.paused = True  # as if the first answer had filled the way out
        await until(lambda: session.lane.stalled)
        assert work.ran == ["burn"]
        press(server, clock)
        session.resume_writing()
        statuses = [(await peer.reply(id)).status for id in range(1, 11)]
        assert statuses == [0, 0] + [52] * 8


async def test_large_calls_that_are_refused_stay_undecoded_from_read_to_read() -> None:
    work = Work()
    async with (
        serving(work, log=CALM, adaptive_limit=True) as server,
        await RawPeer.greeted(server.targets[0]) as peer,
    ):
        peer.send(call(1, b"Work.wait", NOTHING))
        await until(lambda: server.stats().running == 1)
        (kind,) = guard_of(server)._kinds.values()
        kind.limiter.limit = 1
        (session,) = server.hall.sessions
        peer.send(call(2, b"Work.wait", pack(["x" * 5000])))
        assert (await peer.reply(2)).status == 52
        assert session.lane.draining
        work.go_on.set()
        assert (await peer.reply(1)).status == 0
        peer.send(call(3, b"Work.wait", NOTHING))
        assert (await peer.reply(3)).status == 0
        assert not session.lane.draining


async def test_priority_has_places_over_max_running() -> None:
    work = Work()
    async with serving(work, log=CALM, max_running=2, priority=["Work.wait"]) as server:
        async with await RawPeer.greeted(server.targets[0]) as peer:
            waits = [call(id, b"Work.wait", NOTHING) for id in range(1, RESERVED + 4)]
            peer.send(*waits, call(200, b"Work.thread", NOTHING))
            refused = await peer.reply(200)
            assert (refused.status, "max_running" in message(refused)) == (52, True)
            assert (await peer.reply(RESERVED + 3)).status == 52  # its own places have an end
            assert server.stats().running == RESERVED + 2
            work.go_on.set()
            assert (await peer.reply(1)).status == 0


@pytest.mark.parametrize("name", ["wait", "thread"])
async def test_calls_in_flight_have_a_limit_that_adapts(name: str) -> None:
    work = Work()
    async with (
        serving(work, log=CALM, adaptive_limit=True, threads=4) as server,
        await RawPeer.greeted(server.targets[0]) as peer,
    ):
        peer.send(call(1, f"Work.{name}".encode(), NOTHING))
        await until(lambda: server.stats().running == 1)
        (kind,) = guard_of(server)._kinds.values()
        kind.limiter.limit = 3
        peer.send(*(call(id, f"Work.{name}".encode(), NOTHING) for id in range(2, 6)))
        for id in (4, 5):
            refused = await peer.reply(id)
            assert (refused.status, "adaptive_limit" in message(refused)) == (52, True)
            assert unpack(refused.payload)["retry_ms"] > 0
        assert kind.limiter._pressed
        assert kind.running == 3
        peer.send(encode_frame(Kind.CANCEL, 2, status=42))
        if name == "wait":
            await until(lambda: kind.running == 2)
        work.go_on.set()
        work.free.set()
        assert (await peer.reply(1)).status == 0
        await until(lambda: kind.running == 0)
        assert kind.limiter._count == 2  # those that came to their own end


async def test_who_gives_up_before_it_began_is_heard_of() -> None:
    work = Work()
    async with (
        serving(work, log=CALM, adaptive_limit=True) as server,
        await RawPeer.greeted(server.targets[0]) as peer,
    ):
        peer.send(call(1, b"Work.wait", NOTHING) + encode_frame(Kind.CANCEL, 1, status=42))
        await until(lambda: guard_of(server)._kinds and not server.stats().running)
        (kind,) = guard_of(server)._kinds.values()
        assert (kind.running, kind.limiter._count) == (0, 0)
        assert kind.limiter._vain > 0


async def test_behind_interceptors_it_holds_as_well() -> None:
    def waits(proceed: fastrpc.Handler) -> fastrpc.Handler:
        async def handle(call: fastrpc.Call) -> fastrpc.Reply:
            await work.go_on.wait()
            return await proceed(call)

        return handle

    work = Work()
    async with (
        serving(work, log=CALM, adaptive_limit=True, interceptors=[waits]) as server,
        await RawPeer.greeted(server.targets[0]) as peer,
    ):
        peer.send(burn(1), burn(2))
        await until(lambda: server.stats().running == 2)
        (kind,) = guard_of(server)._kinds.values()
        kind.limiter.limit = 2
        peer.send(burn(3))
        assert (await peer.reply(3)).status == 52
        work.go_on.set()
        assert [(await peer.reply(id)).status for id in (1, 2)] == [0, 0]
        peer.send(burn(4))
        assert (await peer.reply(4)).status == 0


async def test_streams_have_no_latency_and_no_adaptive_limit() -> None:
    work = Work()
    async with serving(work, log=CALM, adaptive_limit=True) as server:
        async with fastrpc.connect(server.targets[0]) as client:
            async with client.stream("Work.count") as stream:
                await until(lambda: server.stats().running == 1)
                assert not guard_of(server)._kinds
                work.go_on.set()
                assert [item async for item in stream] == [1]


async def test_without_the_option_nothing_is_there() -> None:
    async with serving(Work(), log=CALM) as server:
        method = server._routes.table[b"Work.burn"]
        assert getattr(method.handler, "__func__", None) is Work.burn
        async with fastrpc.connect(server.targets[0]) as client:
            assert await client.call("Work.inline") == 2
            (session,) = server.hall.sessions
            assert session.buffer_updated == session.lane.buffer_updated


async def test_a_real_loop_recovers() -> None:
    """Nothing is fake here, and nothing is measured: after an overload all is as before."""

    class Busy:
        def spin(self) -> int:
            return sum(range(20_000))

    async with (
        serving(Busy(), log=CALM, adaptive_limit=True) as server,
        fastrpc.connect(server.targets[0]) as client,
    ):
        refused = 0
        async with asyncio.timeout(20):
            while not refused:
                calls = (client.call("Busy.spin") for _ in range(1000))
                replies = await asyncio.gather(*calls, return_exceptions=True)
                refused = sum(isinstance(each, fastrpc.Overloaded) for each in replies)
                others = [each for each in replies if isinstance(each, BaseException)]
                assert len(others) == refused
        assert server.health()["refused"] == refused
        for _ in range(20):
            assert await client.call("Busy.spin") > 0


# What peers are told, and what waits too long


@pytest.mark.parametrize("kind", [Kind.CALL, Kind.OPEN])
async def test_max_calls_is_told_and_holds_for_streams(kind: Kind) -> None:
    work = Work()
    async with (
        serving(work, log=CALM, max_calls=3) as server,
        await RawPeer.connect(server.targets[0]) as peer,
    ):
        peer.send(hello_frame())
        answer = await peer.frame()
        assert answer is not None
        assert decode_option(answer.payload, True).max_calls == 3
        name = b"Work.wait" if kind is Kind.CALL else b"Work.count"
        peer.send(
            *(
                encode_frame(kind, id, name=name, serializer=1, payload=NOTHING)
                for id in range(1, 5)
            )
        )
        refused = await peer.reply(4)
        assert (refused.status, "max_calls" in message(refused)) == (52, True)


async def test_a_deadline_that_passes_in_line_for_a_thread() -> None:
    work = Work()
    async with (
        serving(work, log=CALM, threads=1) as server,
        await RawPeer.greeted(server.targets[0]) as peer,
    ):
        peer.send(call(1, b"Work.thread", NOTHING))
        await until(lambda: work.ran == ["thread"])
        peer.send(call(2, b"Work.thread", NOTHING, time=5))
        assert (await peer.reply(2)).status == 51
        work.free.set()
        assert (await peer.reply(1)).status == 0
        await until(lambda: server.stats().running == 0)
        assert work.ran == ["thread"]  # the second has never begun


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"adaptive_limit": 1}, "adaptive_limit"),
        ({"priority": "Vital"}, "priority"),
        ({"priority": [1]}, "priority"),
    ],
)
async def test_options_that_make_no_sense(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        fastrpc.Server(**options)


async def test_priority_is_by_service_or_by_method() -> None:
    priority = Priority(["Vital", "Work.add"])
    names = ["Vital.beat", "Work.add", "Work.sub", "fastrpc.health", "Vitals.beat"]
    assert [priority.has(name) for name in names] == [True, True, False, True, False]
