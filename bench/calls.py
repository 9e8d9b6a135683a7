"""Measure everything a call can be beside a plain one: streams, metadata, interceptors, arrays.

    python -m bench.calls [--rounds 5] [--seconds 1] [--only streams,metadata,...]

One core for client and servers. What is a ratio is measured in turn, round by round,
in one run; medians are told, with the least and the greatest.

* streams: items per second of a server stream of integers and of `small`, and of an
  echo of integers both ways; one connection.
* metadata: plain calls against calls with five pairs, 256 in flight.
* interceptors: plain calls against calls through a no-op interceptor on each side.
* arrays: an array of 64 MiB there and back against a raw uvloop echo of as many bytes,
  and the peak memory of both sides, in arrays.
* slow: a reader that takes its time with a stream of 1 GiB: the server's peak memory.
"""

import argparse
import asyncio
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import uvloop

import fastrpc
from bench.idle import Part, free_port
from bench.values import SMALL

MIB: Final = 2**20
ARRAY: Final = 64 * MIB
ITEMS: Final = 100_000  # a stream is opened anew after so many
PAIRS: Final = {f"x-key-{number}": f"value-{number}" * 2 for number in range(5)}
ROOM: Final = {"max_body": ARRAY + 2**16, "max_unsent": 4 * ARRAY}


class Work:
    """What the clients call."""

    def echo(self, value):  # type: ignore[no-untyped-def]  # untyped on purpose
        """Return *value*."""
        return value

    async def numbers(self, count: int) -> AsyncIterator[int]:
        """Give *count* integers."""
        for number in range(count):
            yield number

    async def smalls(self, count: int) -> AsyncIterator[dict[str, Any]]:
        """Give *count* small records."""
        for _ in range(count):
            yield SMALL

    async def both(self, items: AsyncIterator[int]) -> AsyncIterator[int]:
        """Give back what comes."""
        async for item in items:
            yield item

    async def pages(self, count: int) -> AsyncIterator[bytes]:
        """Give *count* pages of 64 KiB."""
        page = b"x" * 65_536
        for _ in range(count):
            yield page

    def array(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return *array*."""
        return array

    def peak(self) -> int:
        """Return the most memory this process ever had, in bytes."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def no_op(handler: fastrpc.Handler) -> fastrpc.Handler:
    """Be an interceptor that does nothing."""

    async def pass_on(call: fastrpc.Call) -> fastrpc.Reply:
        return await handler(call)

    return pass_on


async def serve(port: str, kind: str) -> None:
    """Serve `Work`, through an interceptor if *kind* says so."""
    interceptors = [no_op] if kind == "through" else []
    server = fastrpc.Server(interceptors=interceptors, max_unsent_total=8 * ARRAY, **ROOM)
    server.register(Work())
    await server.start(f"tcp://127.0.0.1:{port}")
    print("up", flush=True)
    await server.serve_forever()


class RawEcho(asyncio.BufferedProtocol):
    """Collects `ARRAY` bytes, then sends them back, or says that they came."""

    def __init__(self, is_server: bool) -> None:
        self.view = memoryview(bytearray(ARRAY))
        self.got = 0
        self.is_server = is_server
        self.waiter: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def get_buffer(self, hint: int) -> memoryview:
        return self.view[self.got :]

    def buffer_updated(self, count: int) -> None:
        self.got += count
        if self.got < ARRAY:
            return
        self.got = 0
        if self.is_server:
            self.transport.write(self.view)
        elif self.waiter is not None:
            self.waiter.set_result(None)


async def serve_raw(port: str) -> None:
    """Echo `ARRAY` bytes at a time."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: RawEcho(True), "127.0.0.1", int(port))
    print("up", flush=True)
    await server.serve_forever()


async def client(plain: str, through: str, raw: str) -> None:
    """Answer lines `WHAT SECONDS` with a figure."""
    loop = asyncio.get_running_loop()
    async with (
        fastrpc.connect(f"tcp://127.0.0.1:{plain}", **ROOM) as first,
        fastrpc.connect(f"tcp://127.0.0.1:{through}", interceptors=[no_op]) as second,
    ):
        with_pairs = first.options(metadata=PAIRS)
        ways: dict[str, Callable[[float], Awaitable[float]]] = {
            "plain": lambda s: calls(first.call, s),
            "metadata": lambda s: calls(with_pairs.call, s),
            "through": lambda s: calls(second.call, s),
            "numbers": lambda s: items(first, "Work.numbers", s),
            "smalls": lambda s: items(first, "Work.smalls", s),
            "both": lambda s: echoed(first, s),
            "array": lambda s: arrays(first),
            "raw": lambda s: raw_echo(int(raw)),
            "slow": lambda s: slow(first),
            "peak": lambda s: peak(first),
        }
        print("ready", flush=True)
        while words := (await loop.run_in_executor(None, sys.stdin.readline)).split():
            print(await ways[words[0]](float(words[1])), flush=True)


async def calls(call: Callable[..., Any], seconds: float) -> float:
    """Return calls per second with 256 in flight."""
    now = time.perf_counter

    async def worker(end: float) -> int:
        done = 0
        while now() < end:
            await call("Work.echo", SMALL)
            done += 1
        return done

    async def together(length: float) -> float:
        start = now()
        counts = await asyncio.gather(*[worker(start + length) for _ in range(256)])
        return sum(counts) / (now() - start)

    await together(seconds / 5)
    return await together(seconds)


async def items(caller: fastrpc.Client, method: str, seconds: float) -> float:
    """Return items per second of a server stream."""
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        async for _ in caller.stream(method, ITEMS):
            count += 1
    return count / (time.perf_counter() - start)


async def echoed(caller: fastrpc.Client, seconds: float) -> float:
    """Return items per second that go there and come back."""

    async def numbers() -> AsyncIterator[int]:
        for number in range(ITEMS):
            yield number

    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        async for _ in caller.stub(Work).both(numbers()):
            count += 1
    return count / (time.perf_counter() - start)


async def arrays(caller: fastrpc.Client) -> float:
    """Return the seconds of an array there and back."""
    stub = caller.stub(Work)
    given = np.ones(ARRAY // 8)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        result = await stub.array(given)  # type: ignore[misc]
        times.append(time.perf_counter() - start)
        assert result.shape == given.shape
        del result
    return statistics.median(times)


async def raw_echo(port: int) -> float:
    """Return the seconds of as many bytes through a raw uvloop echo."""
    loop = asyncio.get_running_loop()
    _, protocol = await loop.create_connection(lambda: RawEcho(False), "127.0.0.1", port)
    given = np.ones(ARRAY // 8).view("u1").data
    times = []
    for _ in range(5):
        protocol.waiter = loop.create_future()
        start = time.perf_counter()
        protocol.transport.write(given)
        await protocol.waiter
        times.append(time.perf_counter() - start)
    protocol.transport.close()
    return statistics.median(times)


async def peak(caller: fastrpc.Client) -> float:
    """Return the greater growth of both sides' peak memory by one array, in arrays."""
    given = np.ones(ARRAY // 8)
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    theirs = await caller.call("Work.peak")
    result = await caller.stub(Work).array(given)  # type: ignore[misc]
    assert result.shape == given.shape
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - own) * 1024
    return max(grown, await caller.call("Work.peak") - theirs) / ARRAY


async def slow(caller: fastrpc.Client) -> float:
    """Read 1 GiB with pauses; return how much the server's peak memory grew, in MiB."""
    before = await caller.call("Work.peak")
    count = 0
    async for page in caller.stream("Work.pages", 1024 * MIB // 65_536):
        count += len(page)
        if count % (16 * MIB) == 0:
            await asyncio.sleep(0.01)
    assert count == 1024 * MIB
    return (await caller.call("Work.peak") - before) / MIB  # type: ignore[no-any-return]


PARTS: Final[dict[str, Callable[..., Any]]] = {
    part.__name__: part for part in (serve, serve_raw, client)
}

#: What to ask for in turn, per subject, how to make a figure of it, and its goal.
Figure = Callable[..., float]
SUBJECTS: Final[dict[str, list[tuple[str, tuple[str, ...], Figure, str, float]]]] = {
    "streams": [
        ("server stream of integers, items/s", ("numbers",), lambda rate: rate, ">=", 1e6),
        ("server stream of `small`, items/s", ("smalls",), lambda rate: rate, ">=", 4e5),
        ("echo of integers both ways, items/s", ("both",), lambda rate: rate, ">=", 3e5),
    ],
    "metadata": [
        ("plain / with five pairs, calls/s", ("plain", "metadata"), lambda a, b: a / b, "<=", 1.4)
    ],
    "interceptors": [
        ("plain / through two no-ops, calls/s", ("plain", "through"), lambda a, b: a / b, "<=", 2.0)
    ],
    "arrays": [
        ("peak memory of 64 MiB, arrays per side", ("peak",), lambda grown: grown, "<=", 1.2),
        ("raw echo / array of 64 MiB, speed", ("raw", "array"), lambda a, b: a / b, ">=", 0.8),
    ],
    "slow": [("slow reader of 1 GiB: server's growth, MiB", ("slow",), lambda mib: mib, "<=", 2.0)],
}


def measure(only: Sequence[str], rounds: int, seconds: float, core: int) -> list[dict[str, Any]]:
    """Run everything and return the figures."""
    told = []
    with ExitStack() as running:
        ports = [free_port() for _ in range(3)]
        Part(running, core, "serve", ports[0], "plain", module="bench.calls")
        Part(running, core, "serve", ports[1], "through", module="bench.calls")
        Part(running, core, "serve_raw", ports[2], module="bench.calls")
        caller = Part(running, core, "client", *ports, module="bench.calls")
        for subject in only:
            for words, asked, make, sign, goal in SUBJECTS[subject]:
                once = asked in (("peak",), ("slow",))
                found = []
                for number in range(1 if once else rounds):
                    order = asked if number % 2 == 0 else asked[::-1]
                    figures = {what: caller.ask(what, seconds) for what in order}
                    found.append(make(*[figures[what] for what in asked]))
                told.append({"what": words, "sign": sign, "goal": goal, "found": found})
                tell(told[-1])
    return told


def tell(figure: dict[str, Any]) -> bool:
    """Print one figure; return whether its goal is met."""
    found, goal = figure["found"], figure["goal"]
    middle = statistics.median(found)
    met = middle >= goal if figure["sign"] == ">=" else middle <= goal
    form = ",.0f" if goal >= 100 else ".2f"
    print(
        f"{'ok   ' if met else 'SHORT'} {figure['what']}: {middle:{form}}"
        f" ({min(found):{form}}-{max(found):{form}}; goal {figure['sign']} {goal:{form}})",
        flush=True,
    )
    return bool(met)


def main(arguments: Sequence[str]) -> int:
    """Be one of the parts, or run them all; return 1 if a goal is missed."""
    if arguments and arguments[0] in PARTS:
        uvloop.run(PARTS[arguments[0]](*arguments[1:]))
        return 0
    parser = argparse.ArgumentParser(prog="python -m bench.calls")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--only", default=",".join(SUBJECTS))
    parser.add_argument("--output", type=Path, help="also write the figures to this file")
    given = parser.parse_args(arguments)
    core = sorted(os.sched_getaffinity(0))[0]
    told = measure(given.only.split(","), given.rounds, given.seconds, core)
    if given.output:
        given.output.write_text(json.dumps({"kind": "calls", "figures": told}, indent=1) + "\n")
    met = [statistics.median(f["found"]) >= f["goal"] if f["sign"] == ">=" else
           statistics.median(f["found"]) <= f["goal"] for f in told]  # fmt: skip
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
