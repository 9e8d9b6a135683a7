"""How a server says that it is: `fastrpc.health`."""

import asyncio
import logging

import pytest

import fastrpc
from tests.server.serving import serving, until

CALM = logging.getLogger("tests.calm")
pytestmark = pytest.mark.asyncio


class Work:
    """Something to do."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def wait(self) -> str:
        await self.go_on.wait()
        return "done"


async def test_what_is_told() -> None:
    work = Work()
    async with serving(work, log=CALM, max_running=3) as server:
        async with fastrpc.connect(server.targets[0]) as client:
            told = await client.call("fastrpc.health")
            assert told.keys() == server.health().keys()
            assert told.pop("lag") >= 0.0
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
