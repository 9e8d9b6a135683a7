"""A service of streams, and servers of it for callers that block."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import fastrpc
from tests.client.served import Background, Elsewhere, Point, Work


class Flow:
    """Streams that note how they ended."""

    def __init__(self) -> None:
        self.sent = 0
        self.taken = 0
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.gate = asyncio.Event()  # opens for `paused` and `swallow`

    async def count(self, n: int) -> AsyncIterator[int]:
        try:
            for number in range(n):
                self.sent += 1
                yield number
        finally:
            self.ended.append("count")

    async def points(self, n: int) -> AsyncIterator[Point]:
        for number in range(n):
            yield Point(number, -number)

    async def mixed(self) -> AsyncIterator[Any]:
        yield 1
        yield "two"
        yield 3

    async def blobs(self, n: int, size: int) -> AsyncIterator[bytes]:
        for _ in range(n):
            yield b"\x01" * size

    async def fail(self, after: int) -> AsyncIterator[int]:
        for number in range(after):
            yield number
        raise LookupError("no more of that")

    async def refuse(self) -> AsyncIterator[int]:
        yield 1
        raise fastrpc.RpcError(402, "not enough", {"balance": 3})

    async def paused(self, n: int) -> AsyncIterator[int]:
        """Give *n* items, and the rest once the gate opens."""
        self.begun.append("paused")
        try:
            for number in range(n):
                yield number
            await self.gate.wait()
            yield -1
        finally:
            self.ended.append("paused")

    async def told(self, n: int, call: fastrpc.Call = fastrpc.GIVEN) -> AsyncIterator[int]:
        for number in range(n):
            yield number
        call.reply_metadata = {"sum": str(sum(range(n))), "heard": call.metadata.get("say", b"")}

    async def total(self, items: AsyncIterator[int]) -> int:
        result = 0
        async for item in items:
            self.taken += 1
            result += item
        return result

    async def size(self, items: AsyncIterator[bytes], factor: int = 1) -> int:
        return factor * sum([len(item) async for item in items])

    async def first(self, items: AsyncIterator[int]) -> int:
        async for item in items:
            return item
        return -1

    async def refuse_second(self, items: AsyncIterator[int]) -> int:
        async for item in items:
            if item:
                raise fastrpc.RpcError(9, "that is the second")
        return 0

    async def swallow(self, items: AsyncIterator[int]) -> int:
        """Take nothing before the gate opens."""
        self.begun.append("swallow")
        try:
            await self.gate.wait()
            return sum([item async for item in items])
        finally:
            self.ended.append("swallow")

    async def running(self, items: AsyncIterator[int]) -> AsyncIterator[int]:
        result = 0
        async for item in items:
            result += item
            yield result


class FlowServer(Background):
    """A server with Work and Flow on a loop of its own in a thread."""

    def __init__(self, target: str = "tcp://127.0.0.1:0", **options: Any) -> None:
        super().__init__(target, **options)
        self.flow = Flow()
        self.do(lambda: self.server.register(self.flow))

    def running(self) -> int:
        """Return how many calls are open here."""
        return int(self.do(lambda: self.server.stats().running))


class FlowElsewhere(Elsewhere):
    """The same in a process of its own."""

    CODE = "import sys, tests.client.flowing as flowing\nflowing.serve_until_killed(sys.argv[1])\n"


def serve_until_killed(target: str) -> None:
    """Be the process that `FlowElsewhere` starts."""

    async def serve() -> None:
        server = fastrpc.Server()
        server.register(Work())
        server.register(Flow())
        await server.start(target)
        print("ready", flush=True)
        await server.serve_forever()

    asyncio.run(serve())
