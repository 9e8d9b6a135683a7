"""Count what is left after the same thing was done many times; a process of its own.

    python -m tests.leak.scenarios [--loop uvloop] [--rounds 300] [NAME ...]

Prints one JSON object: for each scenario the allocated blocks, descriptors and tasks that its
last rounds left behind. `FASTRPC_PURE=1` chooses the pure twin, as everywhere.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import logging
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn

import uvloop

import fastrpc
from fastrpc.frame import encode_frame
from fastrpc.wire import Kind
from tests.adversity.raw_peer import RawPeer, call, header, hello, hello_frame, pack

WINDOWS = 3  # a leak shows in each of them, a table that grew once does not
KIB = 1024


class Work:
    """Every way a call can go."""

    def add(self, a: int, b: int) -> int:
        return a + b

    async def inline(self, a: int) -> int:
        return a

    async def task(self, a: int) -> int:
        await asyncio.sleep(0)
        return a

    @fastrpc.rpc(blocking=True)
    def thread(self, a: int) -> int:
        return a

    def echo(self, value: Any) -> Any:
        return value

    def fail(self) -> NoReturn:
        raise ValueError("wrong")

    async def fail_later(self) -> NoReturn:
        await asyncio.sleep(0)
        raise fastrpc.RpcError(5, "no", data={"a": [1, 2]})

    def unsendable(self) -> Any:
        return object()

    async def wait(self) -> None:
        await asyncio.Event().wait()

    async def broken(self, items: AsyncIterator[int]) -> AsyncIterator[int]:
        async for item in items:
            yield item
            raise ValueError("wrong")

    async def large(self, size: int) -> bytes:
        await asyncio.sleep(0)
        return bytes(size)

    async def count(self, items: int) -> AsyncIterator[int]:
        for n in range(items):
            yield n

    async def breaks(self) -> AsyncIterator[int]:
        yield 1
        raise ValueError("wrong")

    async def total(self, items: AsyncIterator[int]) -> int:
        return sum([item async for item in items])

    async def doubled(self, items: AsyncIterator[int]) -> AsyncIterator[int]:
        async for item in items:
            yield 2 * item


async def numbers(items: int) -> AsyncIterator[int]:
    for n in range(items):
        await asyncio.sleep(0)
        yield n


class Stage:
    """A server, a client, a raw peer, and what is done with them."""

    def __init__(self, server: fastrpc.Server, client: fastrpc.Client, peer: RawPeer) -> None:
        self.server, self.client, self.peer = server, client, peer
        self.id = 0

    def next(self) -> int:
        self.id += 1
        return self.id

    async def settle(self) -> None:
        """Wait until nothing runs and only the two lasting connections are there."""
        while (stats := self.server.stats()).running or stats.connections > 2:
            await asyncio.sleep(0)

    async def fails(self, awaitable: Awaitable[Any]) -> None:
        with contextlib.suppress(fastrpc.FastRPCError):
            await awaitable

    async def visit(self, *data: bytes, greet: bool = False) -> None:
        """Connect, say something wrong, hear it out, and go."""
        target = self.server.targets[0]
        async with await (RawPeer.greeted(target) if greet else RawPeer.connect(target)) as peer:
            peer.send(*data)
            peer.writer.write_eof()
            await peer.rest()


Scenario = Callable[[Stage], Awaitable[Any]]
SCENARIOS: dict[str, Scenario] = {}


def scenario(act: Scenario) -> Scenario:
    SCENARIOS[act.__name__] = act
    return act


@scenario
async def plain(stage: Stage) -> None:
    await stage.client.call("Work.add", 1, 2)


@scenario
async def many_at_once(stage: Stage) -> None:
    await asyncio.gather(*(stage.client.call("Work.task", n) for n in range(20)))


@scenario
async def inline(stage: Stage) -> None:
    await stage.client.call("Work.inline", 1)


@scenario
async def thread(stage: Stage) -> None:
    await stage.client.call("Work.thread", 1)


@scenario
async def by_name(stage: Stage) -> None:
    await stage.client.call("Work.add", a=1, b=2)


@scenario
async def with_metadata(stage: Stage) -> None:
    await stage.client.options(metadata={"k": "v"}).call("Work.add", 1, 2)


@scenario
async def oneway(stage: Stage) -> None:
    stage.client.notify("Work.task", 1)
    await stage.client.call("Work.add", 1, 2)


@scenario
async def large_body(stage: Stage) -> None:
    await stage.client.call("Work.echo", bytes(64 * KIB))


@scenario
async def stream_in(stage: Stage) -> None:
    assert len([n async for n in stage.client.stream("Work.count", 20)]) == 20


@scenario
async def stream_out(stage: Stage) -> None:
    async with stage.client.stream("Work.total") as stream:
        await stream.feed(numbers(5))
        assert await stream.result() == 10


@scenario
async def stream_both(stage: Stage) -> None:
    async with stage.client.stream("Work.doubled") as stream:
        for n in range(3):
            await stream.send(n)
            assert await anext(stream, None) == 2 * n
        await stream.end()
        assert [item async for item in stream] == []


@scenario
async def stream_left_early(stage: Stage) -> None:
    async for n in stage.client.stream("Work.count", 100_000):
        if n == 3:
            break


@scenario
async def stream_cancelled(stage: Stage) -> None:
    async with stage.client.stream("Work.doubled") as stream:
        reading = asyncio.ensure_future(anext(stream))
        await stage.client.call("Work.add", 1, 2)
        reading.cancel()


@scenario
async def stream_raised(stage: Stage) -> None:
    async def read() -> None:
        async for _ in stage.client.stream("Work.breaks"):
            pass

    await stage.fails(read())


@scenario
async def raised(stage: Stage) -> None:
    await stage.fails(stage.client.call("Work.fail"))


@scenario
async def raised_on_purpose(stage: Stage) -> None:
    await stage.fails(stage.client.call("Work.fail_later"))


@scenario
async def unsendable(stage: Stage) -> None:
    await stage.fails(stage.client.call("Work.unsendable"))


@scenario
async def no_such_method(stage: Stage) -> None:
    id = stage.next()
    stage.peer.send(call(id, b"Work.none"))
    await stage.peer.reply(id)


@scenario
async def bad_arguments(stage: Stage) -> None:
    await stage.fails(stage.client.call("Work.add", "1", 2))


@scenario
async def oversize(stage: Stage) -> None:
    id = stage.next()
    stage.peer.send(call(id, b"Work.echo", pack([bytes(300 * KIB)])))
    await stage.peer.reply(id)


@scenario
async def deadline(stage: Stage) -> None:
    await stage.fails(stage.client.options(timeout=0.001).call("Work.wait"))


@scenario
async def cancelled_caller(stage: Stage) -> None:
    calling = asyncio.ensure_future(stage.client.call("Work.wait"))
    await stage.client.call("Work.add", 1, 2)
    calling.cancel()


@scenario
async def cancel_at_once(stage: Stage) -> None:
    id = stage.next()
    stage.peer.send(
        call(id, b"Work.wait", pack([])) + encode_frame(Kind.CANCEL, id, status=42),
        call(stage.next(), b"Work.add"),
    )
    await stage.peer.reply(stage.id)


@scenario
async def ping(stage: Stage) -> None:
    await stage.peer.until_pong(stage.next())


@scenario
async def connection(stage: Stage) -> None:
    async with fastrpc.connect(stage.server.targets[0]) as client:
        await client.call("Work.add", 1, 2)


@scenario
async def garbage(stage: Stage) -> None:
    await stage.visit(b"garbage" * 20)


@scenario
async def http(stage: Stage) -> None:
    await stage.visit(b"GET / HTTP/1.1\r\n\r\n")


@scenario
async def bad_hello(stage: Stage) -> None:
    await stage.visit(hello_frame(hello(max_body=0)))
    await stage.visit(hello_frame(hello(versions=[9])))


@scenario
async def broken_rule(stage: Stage) -> None:
    await stage.visit(call(1, b"Work.wait", pack([])) + call(1, b"Work.wait"), greet=True)


@scenario
async def half_a_frame(stage: Stage) -> None:
    await stage.visit(call(1, b"Work.add")[:-1], greet=True)
    await stage.visit(header(200 * KIB) + bytes(100), greet=True)


@scenario
async def connection_lost(stage: Stage) -> None:
    peer = await RawPeer.greeted(stage.server.targets[0], ping_ms=1)
    peer.send(*(call(id, b"Work.wait", pack([])) for id in (1, 2, 3)))
    peer.send(call(4, b"Work.add"))
    await peer.reply(4)
    peer.writer.transport.abort()


@scenario
async def slow_reader(stage: Stage) -> None:
    peer = await RawPeer.greeted(stage.server.targets[0])
    peer.writer.transport.pause_reading()
    peer.send(*(call(id, b"Work.large", pack([200 * KIB])) for id in range(1, 9)))
    await asyncio.sleep(0.001)
    peer.writer.transport.resume_reading()
    for id in range(1, 9):
        await peer.reply(id)
    await peer.aclose()


@scenario
async def stream_that_fails(stage: Stage) -> None:
    stream = stage.client.stream("Work.broken")
    with contextlib.suppress(fastrpc.FastRPCError):
        async with stream:
            await stream.send(1)
            async for _ in stream:
                pass


@scenario
async def stream_with_a_bad_item(stage: Stage) -> None:
    id = stage.next()
    stage.peer.send(
        encode_frame(Kind.OPEN, id, name=b"Work.total", serializer=1, payload=pack([])),
        encode_frame(Kind.DATA, id, serializer=1, payload=pack("one")),
    )
    await stage.peer.reply(id)


@scenario
async def stream_of_a_peer_that_goes(stage: Stage) -> None:
    await stage.visit(
        encode_frame(Kind.OPEN, 1, name=b"Work.total", serializer=1, payload=pack([])),
        encode_frame(Kind.DATA, 1, serializer=1, payload=pack(1)),
        b"garbage",
        greet=True,
    )


@scenario
async def server(stage: Stage) -> None:
    other = fastrpc.Server(log=stage.server._log)
    other.register(Work())
    await other.start("mem://other")
    async with fastrpc.connect("mem://other") as client:
        waiting = asyncio.ensure_future(client.call("Work.wait"))
        await client.call("Work.thread", 1)
        await other.aclose(grace=0.0)
        await asyncio.wait((waiting,))
        waiting.exception()


# What the gate has to see.

_kept: list[Any] = []


async def kept_object(stage: Stage) -> None:
    _kept.append(object())


async def kept_descriptor(stage: Stage) -> None:
    _kept.append(os.dup(0))


async def kept_task(stage: Stage) -> None:
    _kept.append(asyncio.ensure_future(asyncio.Event().wait()))


LEAKS: dict[str, Scenario] = {
    act.__name__: act for act in (kept_object, kept_descriptor, kept_task)
}


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def _measure(stage: Stage, act: Scenario, rounds: int) -> dict[str, int]:
    """Return what the best of some windows of *rounds* left behind."""
    least = {"blocks": 10**9, "descriptors": 10**9, "tasks": 10**9}
    before = {"blocks": 0, "descriptors": 0, "tasks": 0}
    for window in range(WINDOWS + 1):
        for _ in range(rounds):
            await act(stage)
        await stage.settle()
        for _ in range(3):
            await asyncio.sleep(0.003)  # for what ends in the loop's next turns
            gc.collect()
        tasks, files = len(asyncio.all_tasks()), _descriptors()
        now = {"blocks": sys.getallocatedblocks(), "descriptors": files, "tasks": tasks}
        if window:  # the first one warms up
            least = {key: min(least[key], now[key] - before[key]) for key in now}
        before = now
    return least


async def _run(names: list[str], rounds: int) -> dict[str, dict[str, int]]:
    log = logging.getLogger("leak")
    log.setLevel(logging.CRITICAL)
    server = fastrpc.Server(log=log, max_body=256 * KIB, max_unsent=512 * KIB, ping_interval=1e-6)
    server.register(Work())
    await server.start("tcp://127.0.0.1:0")
    results, known = {}, SCENARIOS | LEAKS
    for name in names:
        async with (
            fastrpc.connect(server.targets[0]) as client,
            await RawPeer.greeted(server.targets[0]) as peer,
        ):
            stage = Stage(server, client, peer)
            slow = name in ("server", "slow_reader", "deadline", "connection_lost")
            few = max(rounds // 10, 5) if slow else rounds
            results[name] = {**await _measure(stage, known[name], few), "rounds": few}
    await server.aclose(grace=0.0)
    return results


def main() -> None:
    """Run the scenarios named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio")
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("names", nargs="*", metavar="NAME")
    given = parser.parse_args()
    factory = uvloop.new_event_loop if given.loop == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        results = runner.run(_run(given.names or list(SCENARIOS), given.rounds))
    json.dump({"compiled": fastrpc.COMPILED, "results": results}, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
