"""Connections that are old, or unused: clients are asked to leave, and no call fails."""

import asyncio
import logging
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

import fastrpc
from fastrpc.errors import ConfigError
from fastrpc.server.age import JITTER, Ages
from fastrpc.wire import ID_MAX, Kind
from tests.adversity.raw_peer import RawPeer, call
from tests.server.serving import Waiting, serving, until

CALM = logging.getLogger("tests.calm")
pytestmark = pytest.mark.asyncio


class Work(Waiting):
    """Something to do."""

    async def nap(self) -> str:
        await asyncio.sleep(0.01)
        return "slept"


@pytest.mark.slow
async def test_no_call_fails_while_connections_come_of_age() -> None:
    async with (
        serving(Work(), log=CALM, max_connection_age=0.2) as server,
        fastrpc.connect(server.targets[0], timeout=10.0) as client,
    ):
        done = 0

        async def caller(name: str, *args: int) -> None:
            nonlocal done
            while server.stats().accepted < 4:  # three times the age
                await client.call(name, *args)
                done += 1

        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(caller("Work.add", 1, 2))
                group.create_task(caller("Work.nap"))
        assert done > 100
        await until(lambda: server.stats().connections <= 1)  # the old ones are gone


async def test_the_old_take_calls_until_the_client_leaves() -> None:
    async with (
        serving(Work(), log=CALM, max_connection_age=0.02) as server,
        await RawPeer.greeted(server.targets[0]) as peer,
    ):
        goaway = await peer.frame()
        assert goaway is not None
        assert (goaway.kind, goaway.id, goaway.status) == (Kind.GOAWAY, ID_MAX, 53)
        peer.send(call(1, b"Work.add"))
        assert (await peer.reply(1)).status == 0


@pytest.mark.usefixtures("quick_ticks")
async def test_the_grace_is_for_what_still_runs() -> None:
    async with (
        serving(Work(), log=CALM, max_connection_age=0.02, connection_grace=0.05) as server,
        await RawPeer.greeted(server.targets[0]) as peer,
    ):
        peer.send(call(1, b"Work.wait", b"\x90"))
        first, second = await peer.frame(), await peer.frame()
        assert first is not None
        assert second is not None
        assert [(each.kind, each.id) for each in (first, second)] == [
            (Kind.GOAWAY, ID_MAX),
            (Kind.GOAWAY, 1),
        ]
        assert (await peer.reply(1)).status == 42  # cancelled by the server
        assert await peer.frame() is None
        await until(lambda: server.stats().connections == 0)


async def test_who_calls_nothing_is_asked_to_leave() -> None:
    work = Work()
    async with (
        serving(work, log=CALM, max_connection_idle=0.04) as server,
        await RawPeer.greeted(server.targets[0]) as quiet,
        await RawPeer.greeted(server.targets[0]) as busy,
    ):
        busy.send(call(1, b"Work.wait", b"\x90"))  # one call in flight is use enough
        goaway = await quiet.frame()
        assert goaway is not None
        assert goaway.kind == Kind.GOAWAY
        work.go_on.set()
        reply = await busy.frame()  # and nothing before it
        assert reply is not None
        assert (reply.kind, reply.id, reply.status) == (Kind.CALL, 1, 0)
        after = await busy.frame()
        assert after is not None
        assert after.kind == Kind.GOAWAY


class _Timer:
    """A loop that only notes what it is to call, and when."""

    def __init__(self) -> None:
        self.now = 0.0
        self.planned: list[tuple[float, Any, Any]] = []

    def call_later(self, seconds: float, call: Any, *args: Any) -> Any:
        self.planned.append((self.now + seconds, call, args))
        return SimpleNamespace(cancel=lambda: None)

    def run(self, until: float) -> None:
        """Call what is due by *until*."""
        while self.planned and self.planned[0][0] <= until:
            self.now, call, args = self.planned.pop(0)
            call(*args)
        self.now = until


async def test_nobody_is_asked_to_leave_before_the_time() -> None:
    timer, left = _Timer(), []
    lane: Any = SimpleNamespace(calls_in=0, calls_out=0)
    session = Mock(lane=lane, in_flight=0)
    session.leave = lambda: left.append(timer.now)
    hall: Any = SimpleNamespace(opened=lambda session: None, admission=[session])
    options = fastrpc.Server(max_connection_idle=2.0).options
    Ages(hall, options, timer).opened(session)  # type: ignore[arg-type]
    timer.run(1.9)
    assert left == []
    timer.run(2.0)
    assert left == [2.0]

    timer, left = _Timer(), []
    Ages(hall, options, timer).opened(session)  # type: ignore[arg-type]
    lane.calls_in, session.in_flight = 1, 1
    timer.run(10.1)
    session.in_flight = 0  # just after a look
    timer.run(12.0)
    assert left == []
    timer.run(12.5)
    assert left == [12.5]


async def test_a_client_that_is_asked_to_leave_comes_back() -> None:
    async with (
        serving(Work(), log=CALM, max_connection_idle=0.02) as server,
        fastrpc.connect(server.targets[0]) as client,
    ):
        assert await client.call("Work.add", 1, 2) == 3
        await until(lambda: server.stats().accepted >= 2)
        assert await client.call("Work.add", 3, 4) == 7


async def test_no_timer_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Ages] = []
    begin = Ages.__init__

    def noted(self: Ages, *args: Any) -> None:
        begin(self, *args)
        seen.append(self)

    monkeypatch.setattr(Ages, "__init__", noted)
    async with serving(Work(), log=CALM, max_connection_age=60, max_connection_idle=60) as server:
        async with await RawPeer.greeted(server.targets[0]):
            (life,) = seen[0]._lives.values()
            timers = [life._old, life._unused]
        await until(lambda: not seen[0]._lives)
        assert all(timer is not None and timer.cancelled() for timer in timers)


async def test_ages_differ_by_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("fastrpc.server.age._Life.leave_in", lambda life, s: waits.append(s))
    async with serving(Work(), log=CALM, max_connection_age=100.0) as server:
        for _ in range(5):
            async with await RawPeer.greeted(server.targets[0]):
                pass
    assert len(set(waits)) == 5
    assert all(100 * (1 - JITTER) <= each <= 100 * (1 + JITTER) for each in waits)


@pytest.mark.parametrize("name", ["max_connection_age", "max_connection_idle", "connection_grace"])
async def test_options_that_make_no_sense(name: str) -> None:
    for value in (0, -1.0, True, "1", float("nan")):
        with pytest.raises(ConfigError, match=name):
            fastrpc.Server(**{name: value})  # type: ignore[arg-type]
    if name == "connection_grace":
        with pytest.raises(ConfigError, match=name):
            fastrpc.Server(connection_grace=None)  # type: ignore[arg-type]
