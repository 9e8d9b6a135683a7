"""Cancel every style of call at every step, on either side: it costs that call and nothing else."""

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest

import fastrpc
from tests.adversity.flows import STYLES, WHOLE, Flows, Taken, connect, run
from tests.client.served import turn_until
from tests.client.test_cancel import Act, cancel_at_each
from tests.interop.styles import rest_of, settle, settled
from tests.server.serving import serving, use_twin

CALM = logging.getLogger("tests.calm")
CALM.setLevel(logging.CRITICAL)
pytestmark = [pytest.mark.asyncio, pytest.mark.slow]


@pytest.fixture(autouse=True)
def _either_twin(twin: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    use_twin(monkeypatch, twin)


async def nothing_left(server: fastrpc.Server, client: fastrpc.Client, tasks: int) -> None:
    """Check both ends, and that the connection still serves."""
    (lane,) = client.lanes
    assert await client.call("Flows.unary", 4) == 8
    assert await settle(lambda: rest_of(lane.owner), 5.0) == {}
    assert await settled([server]) == {}
    await turn_until(lambda: len(asyncio.all_tasks()) <= tasks)


@pytest.mark.parametrize("style", STYLES)
async def test_the_caller_is_cancelled(style: str) -> None:
    flows = Flows()
    async with serving(flows, log=CALM) as server, connect(server.targets[0]) as client:
        (lane,) = client.lanes
        tasks = len(asyncio.all_tasks())
        seen: list[Taken] = []

        async def prepare() -> Act:
            await nothing_left(server, client, tasks)
            taken = Taken()
            seen.append(taken)

            async def act() -> None:
                await STYLES[style](client, taken)
                taken.end = WHOLE

            return act

        assert await cancel_at_each(prepare) > 2
        await nothing_left(server, client, tasks)
        assert client.lanes == [lane], "the connection was lost"
        for taken in seen:
            assert taken.items == list(range(len(taken.items)))
        assert seen[-1].end == WHOLE
        for taken in flows.taken:
            taken.check()


@pytest.mark.parametrize("style", STYLES)
async def test_the_handler_is_cancelled(style: str) -> None:
    flows = Flows()
    async with serving(flows, log=CALM) as server, connect(server.targets[0]) as client:
        assert server._answers is not None
        ends = await _cancel_handlers(style, server, client, server._answers)
        assert ends[-1] == WHOLE
        assert set(ends) == {WHOLE, "Cancelled"}
        for taken in flows.taken:
            taken.check()


async def test_the_client_s_handler_is_cancelled() -> None:
    flows = Flows()
    async with serving(flows, log=CALM) as server, connect(server.targets[0]) as client:
        ends = await _cancel_handlers("peer call", server, client, client._answers)
        assert ends[-1] == WHOLE
        # The server's handler hears `Cancelled`, and does nothing about it.
        assert set(ends) == {WHOLE, "RemoteError"}
        for taken in flows.taken:
            taken.check()


async def _cancel_handlers(
    style: str, server: fastrpc.Server, client: fastrpc.Client, answers: Any
) -> list[str]:
    """Cancel the handler after 0, 1, 2 ... steps of its own; return how the calls ended."""
    (lane,) = client.lanes
    tasks = len(asyncio.all_tasks())
    ends: list[str] = []
    for step in range(500):
        call = asyncio.ensure_future(run(style, client))
        while not _handlers(answers) and not call.done():
            await asyncio.sleep(0)
        for _ in range(step):
            await asyncio.sleep(0)
        was_late = call.done()
        for handler in _handlers(answers):
            handler.cancel()
        ends.append((await call).end)
        await nothing_left(server, client, tasks)
        if was_late:
            assert client.lanes == [lane], "the connection was lost"
            return ends
    raise AssertionError("it never ends")


def _handlers(answers: Any) -> list[asyncio.Task[None]]:
    """Return the handlers that have begun; nobody gets hold of a task before."""
    return [running.task for running in answers._all if running.begun and running.task is not None]
