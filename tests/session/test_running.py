"""Fates are decided once, and a task that has not begun is left to find out by itself."""

import asyncio
from typing import Any

import pytest

from fastrpc.call import MethodInfo, Mode, Traits
from fastrpc.call.method import Cancel
from fastrpc.frame import Frame, Method
from fastrpc.session.routes import Route
from fastrpc.session.running import Fate, Running

pytestmark = pytest.mark.asyncio


async def running(
    mode: Mode = Mode.TASK, *, cancel: Cancel = "propagate", begun: bool = True
) -> Running:
    info = MethodInfo("x", print, "", (), Any, mode, Traits(cancel=cancel))
    one = Running(Method(b"x", int(mode), print, [None] * 32, Route(info)), Frame(0, 1), 1.0, 0.0)
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
    one = await running(Mode.THREAD)
    assert one.settle(Fate.SENT)
    assert not await end(one)


async def test_what_has_not_begun_is_not_cancelled() -> None:
    one = await running(begun=False)
    assert one.settle(Fate.UNWANTED)
    assert not await end(one)


async def test_a_shield_stops_callers_and_not_the_server() -> None:
    one = await running(cancel="shield")
    assert one.settle(Fate.UNWANTED)
    assert not await end(one)
    other = await running(cancel="shield")
    assert other.settle(Fate.SENT, by_server=True)
    assert await end(other)
