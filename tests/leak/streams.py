"""Stream a lot, or leave a lot of streams half-way, and count what that takes; a process of its own.

    python -m tests.leak.streams [--loop uvloop] dropped 100000
    python -m tests.leak.streams [--loop uvloop] slow 1024

Prints one JSON object. `FASTRPC_PURE=1` chooses the pure twin, as everywhere.
"""

import argparse
import asyncio
import gc
import json
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import psutil
import uvloop

import fastrpc
from tests.interop.styles import alive, rest_of, settle, settled

AT_ONCE = 20
ITEM = 64 * 1024
MIB = 2**20


class Work:
    """Streams without end, and what is known of their senders and receivers."""

    def __init__(self) -> None:
        self.sent = self.taken = self.most = 0

    def note_sent(self, size: int) -> None:
        self.sent += size
        self.most = max(self.most, self.sent - self.taken)

    async def count(self) -> AsyncIterator[int]:
        number = 0
        while True:
            yield number
            number += 1
            await asyncio.sleep(0)

    async def echo(self, items: AsyncIterator[int]) -> AsyncIterator[int]:
        async for item in items:
            yield item

    async def chunks(self, count: int) -> AsyncIterator[bytes]:
        for number in range(count):
            self.note_sent(ITEM)
            yield number.to_bytes(4, "big") * (ITEM // 4)

    async def swallow(self, items: AsyncIterator[bytes]) -> int:
        return await take_slowly(self, items)


async def take_slowly(work: Work, items: AsyncIterator[bytes]) -> int:
    """Take each item only when its sender has gone as far ahead as it may."""
    number = 0
    async for item in items:
        before = -1
        while before != work.sent:
            before = work.sent
            for _ in range(4):
                await asyncio.sleep(0)
        assert item[:4] == number.to_bytes(4, "big"), f"item {number} is another"
        assert len(item) == ITEM
        number += 1
        work.taken += ITEM
    return number


async def dropped(server: fastrpc.Server, client: fastrpc.Client, count: int) -> dict[str, Any]:
    """Leave *count* streams half-way, in every way there is."""
    process, (lane,) = psutil.Process(), client.lanes
    numbers = iter(range(count))

    async def leave() -> None:
        for number in numbers:
            if number % 4 == 0:
                async for item in client.stream("Work.count"):
                    if item == 2:
                        break
            elif number % 4 == 1:
                async with client.stream("Work.echo") as stream:
                    await stream.send(number)
                    assert await anext(stream) == number
            elif number % 4 == 2:
                stream = client.stream("Work.count")
                await anext(aiter(stream))
                stream.cancel()
            else:
                stream = client.stream("Work.echo")
                await stream.send(number)
                assert await anext(aiter(stream)) == number
                del stream

    async def leave_all() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(leave())

    whole, numbers = numbers, iter(range(max(count // 10, 200)))
    await leave_all()  # tables and free lists grow to what they need
    await settle(lambda: rest_of(lane.owner), 10.0)
    await settled([server])
    gc.collect()
    tasks, before = len(asyncio.all_tasks()), process.memory_info().rss
    numbers = whole
    await leave_all()
    left = await settle(lambda: rest_of(lane.owner), 10.0) | await settled([server])
    gc.collect()
    return {
        "streams": count,
        "left": left,
        "alive": alive(),
        "tasks": len(asyncio.all_tasks()) - tasks,
        "same connection": client.lanes == [lane],
        "rss": process.memory_info().rss - before,
    }


async def slow(work: Work, client: fastrpc.Client, mib: int, *, upload: bool) -> dict[str, Any]:
    """Stream *mib* MiB to somebody slow; tell how far ahead the sender got, and the memory."""
    process, count = psutil.Process(), mib * MIB // ITEM
    work.sent = work.taken = work.most = 0
    traced = mib <= 64  # it takes several times as long
    gc.collect()
    before = most = process.memory_info().rss
    if traced:
        tracemalloc.start()

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, process.memory_info().rss)
            await asyncio.sleep(0.01)

    watching = asyncio.ensure_future(watch())
    if upload:
        stub: Any = client.stub(Work)
        got = await stub.swallow(work.chunks(count))
    else:
        got = await take_slowly(work, aiter(client.stream("Work.chunks", count)))
    watching.cancel()
    peak = 0
    if traced:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert got == count
    return {"items": got, "ahead": work.most, "rss": most - before, "traced": peak}


async def play(what: str, count: int) -> dict[str, Any]:
    work = Work()
    server = fastrpc.Server()
    server.register(work)
    await server.start("tcp://127.0.0.1:0")
    told: dict[str, Any]
    async with fastrpc.connect(server.targets[0]) as client:
        if what == "dropped":
            told = await dropped(server, client, count)
        else:
            told = {
                "down": await slow(work, client, count, upload=False),
                "up": await slow(work, client, count, upload=True),
            }
    await server.aclose(grace=0.0)
    return {"compiled": fastrpc.COMPILED, **told}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio")
    parser.add_argument("what", choices=["dropped", "slow"])
    parser.add_argument("count", type=int)
    given = parser.parse_args()
    factory = uvloop.new_event_loop if given.loop == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        print(json.dumps(runner.run(play(given.what, given.count))))


if __name__ == "__main__":
    main()
