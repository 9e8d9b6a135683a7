"""Hours take no time, and what can't be told in virtual time is refused."""

import asyncio
import socket
import threading
import time

import pytest

import fastrpc
from fastrpc.cluster import MemoryStore
from fastrpc.errors import ConfigError
from fastrpc.testing import FakeClock
from fastrpc.testing.clock import VirtualLoop

REAL = time.monotonic


@pytest.fixture(autouse=True)
def nothing_stays() -> object:
    yield
    assert time.monotonic is REAL


class Slow:
    def __init__(self) -> None:
        self.threads: set[int] = set()

    async def wait(self, seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    @fastrpc.rpc(blocking=True)
    def block(self) -> int:
        self.threads.add(threading.get_ident())
        threading.Event().wait(0.01)
        return 7


def test_a_clock_in_the_hand() -> None:
    clock = FakeClock(100.0)
    assert (clock(), repr(clock)) == (100.0, "<FakeClock 100.000>")
    clock.advance(5)
    clock.advance(0)
    assert clock.now == 105.0
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="advanced by"):
            clock.advance(wrong)
    late = FakeClock(2.0**40)
    late.advance(1e-9)
    assert late.now > 2.0**40
    assert 0.0 <= FakeClock().now - REAL() <= 1000.0


def test_it_is_the_clock_of_the_process_for_a_block() -> None:
    clock = FakeClock(5.0)
    with clock, clock:
        assert time.monotonic() == 5.0
        with pytest.raises(ConfigError, match="another FakeClock"), FakeClock():
            pass
    assert time.monotonic is REAL


def test_a_store_of_instances_runs_by_it() -> None:
    clock = FakeClock()
    assert MemoryStore(clock).soonest() is None


def test_calls_wait_for_minutes() -> None:
    clock = FakeClock()
    begun = clock.now

    async def scenario() -> None:
        async with fastrpc.Server() as server:
            server.register(Slow())
            await server.start("mem://hours")
            async with fastrpc.connect("mem://hours") as client:
                assert await client.call("Slow.wait", 60.0) == 60.0
                assert clock.now - begun == pytest.approx(60.0, abs=0.5)
                with pytest.raises(fastrpc.DeadlineExceeded):
                    await client.options(timeout=6.0).call("Slow.wait", 7.0)
                assert clock.now - begun == pytest.approx(66.0, abs=0.5)

    clock.run(scenario())


def test_a_blocking_handler_takes_no_time_and_is_waited_for() -> None:
    clock = FakeClock()

    async def scenario() -> None:
        async with fastrpc.Server() as server:
            slow = Slow()
            server.register(slow)
            await server.start("mem://blocks")
            async with fastrpc.connect("mem://blocks", timeout=1.0) as client:
                begun = clock.now
                assert await client.call("Slow.block") == 7
                assert clock.now == begun
                assert await asyncio.to_thread(threading.get_ident) != threading.get_ident()
                assert clock.now == begun
            assert slow.threads
            assert threading.get_ident() not in slow.threads

    clock.run(scenario())


def test_advance_is_a_pause_of_the_process() -> None:
    clock = FakeClock()
    order: list[str] = []

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(1.0, order.append, "late")
        clock.advance(5.0)
        assert loop.time() == time.monotonic() == clock.now
        await asyncio.sleep(0)
        order.append("looked")
        await asyncio.sleep(0)

    clock.run(scenario())
    assert order == ["looked", "late"]


def test_sockets_are_refused() -> None:
    async def scenario() -> None:
        left, right = socket.socketpair()
        with left, right:
            asyncio.get_running_loop().add_reader(left, print)

    with pytest.raises(RuntimeError, match="no sockets"):
        FakeClock().run(scenario())


def test_who_waits_for_nothing_is_told() -> None:
    async def scenario() -> None:
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="everybody waits"):
        FakeClock().run(scenario())


def test_who_waits_in_circles_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastrpc.testing.clock.LEAPS_MAX", 50)

    async def scenario() -> None:
        while True:
            await asyncio.sleep(1.0)

    with pytest.raises(RuntimeError, match="50 leaps"):
        FakeClock().run(scenario())


def test_a_task_left_behind_is_told() -> None:
    async def scenario() -> None:
        scenario.task = asyncio.create_task(asyncio.sleep(9.0))  # type: ignore[attr-defined]

    with pytest.raises(AssertionError, match="left behind"):
        FakeClock().run(scenario())


def test_it_makes_loops_for_a_runner() -> None:
    clock = FakeClock()
    with asyncio.Runner(loop_factory=clock.new_loop) as runner:
        assert isinstance(runner.get_loop(), VirtualLoop)
        assert time.monotonic is REAL
        runner.run(asyncio.sleep(60.0))
        assert time.monotonic is REAL
