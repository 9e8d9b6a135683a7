"""How a server says that it is: `fastrpc.health`."""

import asyncio
import logging

import pytest

import fastrpc
from fastrpc.frame import Method
from fastrpc.server import health
from fastrpc.server.health import METHODS_MAX
from tests.server.serving import Waiting, serving, until

CALM = logging.getLogger("tests.calm")
pytestmark = pytest.mark.asyncio


class Work(Waiting):
    """Something to do."""

    def add(self, a: int, b: int = 1) -> int:
        if a == 99:
            raise fastrpc.RpcError(7, "not that")
        return super().add(a, b)


def nothing() -> None:
    """Be served under many names."""


async def test_what_is_told() -> None:
    work = Work()
    async with serving(work, log=CALM, max_running=3) as server:
        async with fastrpc.connect(server.targets[0]) as client:
            told = await client.call("fastrpc.health")
            assert told.keys() == server.health().keys()
            assert told.pop("lag") >= 0.0
            assert 0.0 < told.pop("uptime") < 600.0
            assert told == {
                "state": "serving", "running": 0, "limit": 3, "refused": 0,
                "overloaded": False,
            }  # fmt: skip
            calls = [asyncio.ensure_future(client.call("Work.wait")) for _ in range(4)]
            await until(lambda: server.stats().refused == 1)
            told = await client.call("fastrpc.health")
            assert (told["running"], told["refused"]) == (3, 1)
            work.go_on.set()
            ended = await asyncio.gather(*calls, return_exceptions=True)
            assert sum(isinstance(each, fastrpc.Overloaded) for each in ended) == 1


async def test_methods_are_told_if_somebody_asks() -> None:
    work = Work()
    async with serving(work, log=CALM) as server:
        async with fastrpc.connect(server.targets[0]) as client:
            waiting = asyncio.ensure_future(client.call("Work.wait"))
            for number in range(3):
                await client.call("Work.add", number)
            with pytest.raises(fastrpc.RpcError):
                await client.call("Work.add", 99)
            told = (await client.call("fastrpc.health", methods=10))["methods"]
            wait, add = told["Work.wait"], told["Work.add"]
            assert wait == {"calls": 1, "failures": {}, "running": 1, "times": []}
            assert (add["calls"], add["failures"], add["running"]) == (4, {"application": 1}, 0)
            ((_, count),) = add["times"]  # the first of sixteen
            assert count == 1
            work.go_on.set()
            await waiting
            told = (await client.call("fastrpc.health", methods=1))["methods"]
            assert list(told) == ["Work.add"]  # those that were called most
            assert "methods" not in await client.call("fastrpc.health")
            assert "methods" not in await client.call("fastrpc.health", methods=-1)


async def test_times_are_not_off_by_much() -> None:
    async with serving(Work(), log=CALM) as server:
        async with fastrpc.connect(server.targets[0]) as client:
            await client.call("Work.add", 1)
        times = server.hall.side.router[b"Work.add"].times
        times.add(0.1)
        times.add(0.1)
        times.add(4000.0)
        told = server.health(1)["methods"]["Work.add"]["times"]
        assert [count for _, count in told] == [1, 2, 1]
        assert told[1][0] == pytest.approx(0.1, rel=0.06)
        assert told[2][0] == pytest.approx(4000.0, rel=0.06)


async def test_many_who_ask_get_one_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    real = health._method

    def counted(method: Method, running: int) -> dict[str, object]:
        made.append(1)
        return real(method, running)

    monkeypatch.setattr(health, "_method", counted)
    monkeypatch.setattr(health, "FRESH", 3600.0)
    async with serving(Work(), log=CALM) as server:
        for each in list(server.hall.side.router.values())[:3]:
            each.calls = 1
        first = server.health(2)
        assert server.health(2)["uptime"] == server.health(1)["uptime"] == first["uptime"]
        assert len(made) == len(first["methods"]) == 2
        third = server.health(3)
        assert len(third["methods"]) == 3
        assert third["uptime"] > first["uptime"]
        assert server.health(METHODS_MAX)["uptime"] == third["uptime"]
        assert len(made) == 5  # the second time it was all of them
        monkeypatch.setattr(health, "FRESH", 0.0)
        server.health(1)
        assert len(made) == 6


async def test_an_answer_has_a_most() -> None:
    server = fastrpc.Server(log=CALM)
    for number in range(METHODS_MAX + 1):
        server.register(nothing, f"f{number}")
    await server.start("tcp://127.0.0.1:0")
    try:
        for method in server.hall.side.router.values():
            method.calls = 1
        assert len(server.health(10**9)["methods"]) == METHODS_MAX
    finally:
        await server.aclose(0)


async def test_the_limit_is_the_one_that_adapts() -> None:
    work = Work()
    work.go_on.set()
    async with serving(work, log=CALM, adaptive_limit=True) as server:
        async with fastrpc.connect(server.targets[0]) as client:
            assert (await client.call("fastrpc.health"))["limit"] == 4096
            await client.call("Work.wait")
            assert (await client.call("fastrpc.health"))["limit"] == 40
            assert server._overload is not None
            server._overload.budget.is_pressed = True
            assert (await client.call("fastrpc.health"))["overloaded"]


async def test_the_state() -> None:
    server = fastrpc.Server()
    assert server.health()["state"] == "idle"
    async with serving(Work(), log=CALM) as server:
        assert server.health()["state"] == "serving"
    assert server.health()["state"] == "closed"


async def test_it_is_no_service_of_the_users() -> None:
    async with serving(Work(), log=CALM) as server:
        assert [each["name"] for each in server.describe()["services"]] == ["Work"]
