"""The caller's side of a stream: how it ends, and what is left when it does."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import fastrpc
from tests.server.serving import serving

pytestmark = pytest.mark.asyncio


class Numbers:
    def __init__(self) -> None:
        self.closed = asyncio.Event()

    async def count(self, until: int) -> AsyncIterator[int]:
        try:
            for number in range(until):
                yield number
        finally:
            self.closed.set()

    async def running(self, items: AsyncIterator[int]) -> AsyncIterator[int]:
        total = 0
        async for item in items:
            total += item
            yield total

    async def page(self, before: bool, call: fastrpc.Call = fastrpc.GIVEN) -> AsyncIterator[int]:
        async def give() -> AsyncIterator[int]:
            yield 1
            call.reply_metadata = {"left": "3"}

        if before:
            call.reply_metadata = {"left": "9", "first": "1"}
        return give()


def passing(handler: fastrpc.Handler) -> fastrpc.Handler:
    async def handle(call: fastrpc.Call) -> fastrpc.Reply:
        return await handler(call)

    return handle


def wrapping(handler: fastrpc.Handler) -> fastrpc.Handler:
    async def handle(call: fastrpc.Call) -> fastrpc.Reply:
        reply = await handler(call)
        items = reply.items
        assert items is not None

        async def give() -> AsyncIterator[Any]:
            async for item in items:
                yield item
            assert call.method  # keeps the call as long as the items

        reply.items = give()
        return reply

    return handle


Open = Callable[[fastrpc.Client], Any]
BY_NAME: Open = lambda client: client.stream("Numbers.count", 10**9)  # noqa: E731
BY_STUB: Open = lambda client: client.stub(Numbers).count(10**9)  # noqa: E731


@pytest.mark.parametrize("open_it", [BY_NAME, BY_STUB], ids=["name", "stub"])
@pytest.mark.parametrize("interceptors", [(), (passing,), (wrapping,)], ids=["0", "1", "wrapped"])
@pytest.mark.parametrize("connected", [True, False])
async def test_a_loop_that_is_left_stops_the_handler_without_the_collector(
    open_it: Open, interceptors: Any, connected: bool
) -> None:
    numbers = Numbers()
    async with serving(numbers) as server:
        client = fastrpc.connect(server.targets[0], interceptors=interceptors)
        if connected:
            await client.ping()
        gc.disable()
        try:
            async for number in open_it(client):
                if number == 3:
                    break
            async with asyncio.timeout(5):
                await numbers.closed.wait()
        finally:
            gc.enable()
        await client.aclose()


async def failing() -> AsyncIterator[int]:
    yield 1
    yield 2
    raise KeyError("source")


async def test_what_the_source_raised_comes_behind_the_items_that_came() -> None:
    async with serving(Numbers()) as server:
        async with fastrpc.connect(server.targets[0]) as client:
            stream: Any = client.stub(Numbers).running(failing())
            with pytest.raises(KeyError, match="source"):
                async for _ in stream:
                    pass
            with pytest.raises(KeyError, match="source"):
                await stream.result()
            assert stream.state.value == "ended"


@pytest.mark.parametrize(
    ("before", "told"),
    [(False, {"left": b"3"}), (True, {"left": b"3"})],
    ids=["with the last item", "changed with the last item"],
)
@pytest.mark.parametrize("interceptors", [[], [passing]], ids=["bare", "intercepted"])
async def test_metadata_that_a_handler_gives_with_its_last_item_arrives(
    before: bool, told: dict[str, bytes], interceptors: list[fastrpc.Interceptor]
) -> None:
    server = fastrpc.Server(interceptors=interceptors)
    server.register(Numbers())
    await server.start("mem://trailers")
    async with fastrpc.connect("mem://trailers") as client:
        stream = client.stream("Numbers.page", before)
        assert [item async for item in stream] == [1]
        assert dict(stream.metadata) == told
    await server.aclose()


async def test_metadata_of_an_interceptor_goes_before_that_of_the_handler() -> None:
    def marking(handler: fastrpc.Handler) -> fastrpc.Handler:
        async def handle(call: fastrpc.Call) -> fastrpc.Reply:
            reply = await handler(call)
            reply.metadata = {"by": "the interceptor"}
            return reply

        return handle

    server = fastrpc.Server(interceptors=[marking])
    server.register(Numbers())
    await server.start("mem://trailers")
    async with fastrpc.connect("mem://trailers") as client:
        stream = client.stream("Numbers.page", False)
        assert [item async for item in stream] == [1]
        assert dict(stream.metadata) == {"by": b"the interceptor"}
    await server.aclose()
