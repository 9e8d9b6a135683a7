"""Fates are decided once, and a task that has not begun is left to find out by itself."""

import asyncio
from typing import Any

import pytest

from fastrpc.call import Mode
from fastrpc.frame import Frame, Method
from fastrpc.session.running import Fate, Running

pytestmark = pytest.mark.asyncio


async def running(*, stops: bool = True, begun: bool = True) -> Running:
    method = Method(b"x", int(Mode.TASK), print, [None] * 32)
    one = Running(method, Frame(0, 1), 1000.0, 0.0, stops)
    one.begun = begun
    one.task = asyncio.ensure_future(asyncio.Event().wait())  # type: ignore[assignment]
    await asyncio.sleep(0)
    return one


async def end(one: Running) -> Any:
    assert one.task is not None
    was_cancelled = one.task.cancelling() > 0
    one.task.cancel()
    await asyncio.wait((one.task,))
    return was_cancelled


@pytest.mark.parametrize("fate", [Fate.SENT, Fate.UNWANTED])
async def test_a_fate_is_decided_once(fate: Fate) -> None:
    one = await running()
    assert one.fate is Fate.OWED
    assert one.settle(fate)
    assert not one.settle(Fate.UNWANTED)
    assert one.fate is fate
    assert one.task is not None
    assert one.task.cancelling() == 1
    await end(one)


async def test_a_thread_is_not_cancelled() -> None:
    one = await running(stops=False)
    assert one.settle(Fate.SENT)
    assert not await end(one)


async def test_what_has_not_begun_is_not_cancelled() -> None:
    one = await running(begun=False)
    assert one.settle(Fate.UNWANTED)
    assert not await end(one)
