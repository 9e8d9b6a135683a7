"""Where a handler waits, told from outside."""

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

import fastrpc
from fastrpc.observe import snapshot
from fastrpc.observe.stack import MOST_FRAMES, shortened
from tests.server.serving import serving, until


class Waiting:
    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.release = threading.Event()

    async def plain(self) -> None:
        await self._deeper()

    async def _deeper(self) -> None:
        await self.gate.wait()

    async def items(self) -> AsyncIterator[int]:
        yield 1
        await self._deeper()

    @fastrpc.rpc(blocking=True)
    def thread(self) -> None:
        self.release.wait(20)

    def at_once(self) -> int:
        return 5

    async def deep(self, n: int) -> None:
        await (self.deep(n - 1) if n else self.gate.wait())


def functions(stack: tuple[str, ...]) -> list[str]:
    return [frame.rpartition(" ")[2] for frame in stack]


async def stacks(method: str, *args: int, **options: object) -> list[tuple[str, tuple[str, ...]]]:
    """Return state and stack of each call in flight, while one of *method* is."""
    service = Waiting()
    async with serving(service, **options) as server:
        async with fastrpc.connect(server.targets[0]) as client:
            call = asyncio.ensure_future(client.call(f"Waiting.{method}", *args))
            await until(lambda: any(call.stack for call in snapshot(server).calls))
            found = [(call.state, call.stack) for call in snapshot(server).calls]
            service.gate.set()
            service.release.set()
            await call
            await until(lambda: not snapshot(server).calls)
    return found


@pytest.mark.asyncio
async def test_of_a_coroutine_all_that_is_awaited_is_told() -> None:
    ((state, stack),) = await stacks("plain")
    assert state == "runs"
    assert functions(stack) == ["Waiting.plain", "Waiting._deeper", "Event.wait"]
    assert stack[0].startswith("tests/observe/test_stack.py:")


@pytest.mark.asyncio
async def test_of_a_stream_the_generator_is_told() -> None:
    service = Waiting()
    async with serving(service) as server:
        async with fastrpc.connect(server.targets[0]) as client:
            async with client.stream("Waiting.items") as stream:
                assert await anext(stream) == 1
                await until(lambda: len(snapshot(server).calls[0].stack) == 3)
                found = snapshot(server).calls[0].stack
    assert functions(found) == ["Waiting.items", "Waiting._deeper", "Event.wait"]


@pytest.mark.asyncio
async def test_of_a_thread_its_own_frames_are_told() -> None:
    ((state, stack),) = await stacks("thread")
    assert state == "in a thread"
    assert functions(stack)[:2] == ["Waiting.thread", "Event.wait"]


@pytest.mark.asyncio
async def test_behind_interceptors_theirs_are_told_as_well() -> None:
    def passing(handler: fastrpc.Handler) -> fastrpc.Handler:
        async def passed(call: fastrpc.Call) -> fastrpc.Reply:
            return await handler(call)

        return passed

    ((_, stack),) = await stacks("plain", interceptors=[passing])
    names = [name.rpartition(".")[2] for name in functions(stack)]
    assert names == ["passed", "plain", "_deeper", "wait"]


@pytest.mark.asyncio
async def test_an_interceptor_that_waits_before_a_handler_that_does_not_is_told() -> None:
    gate = asyncio.Event()

    def holding(handler: fastrpc.Handler) -> fastrpc.Handler:
        async def held(call: fastrpc.Call) -> fastrpc.Reply:
            if call.args == ():
                await gate.wait()
            return await handler(call)

        return held

    async with serving(Waiting(), interceptors=[holding]) as server:
        async with fastrpc.connect(server.targets[0]) as client:
            for _ in range(2):  # the first comes by another way than those after it
                gate.clear()
                call = asyncio.ensure_future(client.call("Waiting.at_once"))
                await until(lambda: any(call.stack for call in snapshot(server).calls))
                names = functions(snapshot(server).calls[0].stack)
                assert [name.rpartition(".")[2] for name in names] == ["held", "wait"]
                gate.set()
                assert await call == 5


@pytest.mark.asyncio
async def test_a_deep_one_is_cut() -> None:
    ((_, stack),) = await stacks("deep", 100)
    assert len(stack) == MOST_FRAMES


def test_paths_are_told_from_where_they_differ() -> None:
    assert shortened("/a/lib/python3.11/site-packages/pkg/mod.py") == "pkg/mod.py"
    assert shortened("/home/me/project/src/shop/orders.py") == "src/shop/orders.py"
    assert shortened("<stdin>") == "<stdin>"
