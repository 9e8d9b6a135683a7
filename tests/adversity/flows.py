"""One exchange of each style whose items are numbered, and a judge of how it ended.

Whatever happens on the way, `run` says what arrived: items are the first so many of those that
were sent, and the end is only called whole when all of them came.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import fastrpc

COUNT = 5  # items of each stream
WHOLE = "whole"


@dataclass
class Taken:
    """What one receiver got.

    Attributes:
        items: The items, in order.
        end: `WHOLE`, or the class of the error; "" while it is under way.
    """

    items: list[int] = field(default_factory=list)
    end: str = ""

    def check(self) -> None:
        """Check that nothing is missing in the middle, doubled, or silently missing at the end."""
        assert self.items == list(range(len(self.items))), self
        assert self.end != "", "a receiver never heard of an end"
        if self.end == WHOLE:
            assert len(self.items) == COUNT, f"lost without a word: {self}"


async def drain(items: AsyncIterator[int], taken: Taken) -> None:
    """Take all items and note how they ended."""
    try:
        async for item in items:
            taken.items.append(item)
    except BaseException as exc:
        taken.end = type(exc).__name__
        raise
    taken.end = WHOLE


class Flows:
    """The serving side; every handler that takes items notes what it took."""

    def __init__(self) -> None:
        self.taken: list[Taken] = []

    async def unary(self, n: int) -> int:
        await asyncio.sleep(0)
        return 2 * n

    async def server(self, n: int) -> AsyncIterator[int]:
        for number in range(n):
            yield number
            await asyncio.sleep(0)

    async def client(self, items: AsyncIterator[int]) -> int:
        self.taken.append(taken := Taken())
        await drain(items, taken)
        await asyncio.sleep(0)
        return len(taken.items)

    async def both(self, items: AsyncIterator[int]) -> AsyncIterator[int]:
        self.taken.append(taken := Taken())
        try:
            async for item in items:
                taken.items.append(item)
                yield item
        except BaseException as exc:
            taken.end = type(exc).__name__
            raise
        taken.end = WHOLE

    async def peer(self, n: int, peer: fastrpc.Peer = fastrpc.GIVEN) -> int:
        twice: int = await peer.call("Back.twice", n)
        self.taken.append(taken := Taken())
        await drain(peer.stream("Back.count", COUNT), taken)
        return twice


class Back:
    """What the server calls at the client."""

    async def twice(self, n: int) -> int:
        await asyncio.sleep(0)
        return 2 * n

    async def count(self, n: int) -> AsyncIterator[int]:
        for number in range(n):
            yield number
            await asyncio.sleep(0)


async def source() -> AsyncIterator[int]:
    for number in range(COUNT):
        yield number
        await asyncio.sleep(0)


async def _unary(client: fastrpc.Client, taken: Taken) -> None:
    assert await client.call("Flows.unary", 21) == 42
    taken.items += range(COUNT)


async def _server(client: fastrpc.Client, taken: Taken) -> None:
    async for item in client.stream("Flows.server", COUNT):
        taken.items.append(item)


async def _client(client: fastrpc.Client, taken: Taken) -> None:
    async with client.stream("Flows.client") as stream:
        async for item in source():
            await stream.send(item)
        await stream.end()
        assert await stream.result() == COUNT
    taken.items += range(COUNT)


async def _both(client: fastrpc.Client, taken: Taken) -> None:
    async with client.stream("Flows.both") as stream:
        for number in range(COUNT):
            await stream.send(number)
            taken.items.append(await anext(stream))
        await stream.end()
        async for item in stream:
            taken.items.append(item)


async def _fed(client: fastrpc.Client, taken: Taken) -> None:
    async for item in client.stub(Flows).both(source()):
        taken.items.append(item)


async def _peer(client: fastrpc.Client, taken: Taken) -> None:
    assert await client.call("Flows.peer", 21) == 42
    taken.items += range(COUNT)


Act = Callable[[fastrpc.Client, Taken], Awaitable[None]]
STYLES: dict[str, Act] = {
    "unary": _unary, "server stream": _server, "client stream": _client, "both ways": _both,
    "both ways, fed": _fed, "peer call": _peer,
}  # fmt: skip


async def run(style: str, client: fastrpc.Client) -> Taken:
    """Play one exchange; an error of ours is its end, any other is raised."""
    taken = Taken()
    try:
        await STYLES[style](client, taken)
    except fastrpc.FastRPCError as exc:
        taken.end = type(exc).__name__
    else:
        taken.end = WHOLE
    taken.check()
    return taken


def connect(target: str, **options: Any) -> fastrpc.Client:
    """Return a client that the server may call."""
    client = fastrpc.connect(target, **({"timeout": 10.0} | options))
    client.register(Back())
    return client
