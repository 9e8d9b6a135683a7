"""Open ten thousand connections that say nothing, and see what they cost.

    python -m bench.idle [--connections 10000] [--rounds 5] [--seconds 1]

Two things are told. Memory: how much the server's resident set grew, divided by
the connections, beside a raw uvloop server that keeps as many. Time: what a call
of another client costs on the crowded server, against an empty one that runs
beside it, measured in turn, round by round. The crowd is made of real clients:
they said HELLO and they answer pings.

Servers and the calling client share the first core; the crowd has the second, so
that its own work is not counted.
"""

import argparse
import asyncio
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, cast

import uvloop

import fastrpc
from bench.values import SMALL
from fastrpc import frame

ROOT: Final = Path(__file__).resolve().parents[1]
AT_ONCE: Final = 64  # connections of the crowd that are opened together
SPARE: Final = 200  # file descriptors that are not connections
IN_FLIGHT: Final = (1, 256)
KIB_GOAL, COST_GOAL = 4.0, 1.10


class Echo:
    """Answers with what it was given."""

    def echo(self, value):  # type: ignore[no-untyped-def]  # untyped on purpose
        """Return *value*."""
        return value


class Silent(asyncio.Protocol):
    """A connection of the raw server: keeps its transport and no more."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)


# The parts that run in processes of their own


async def serve(port: str, most: str) -> None:
    """Serve `Echo` to as many connections as are to come."""
    server = fastrpc.Server(max_connections=int(most) + SPARE)
    server.register(Echo())
    await server.start(f"tcp://127.0.0.1:{port}")
    print("compiled" if frame.COMPILED else "pure", flush=True)
    await server.serve_forever()


async def serve_raw(port: str, most: str) -> None:
    """Keep as many raw uvloop connections."""
    server = await asyncio.get_running_loop().create_server(Silent, "127.0.0.1", int(port))
    print("raw", flush=True)
    await server.serve_forever()


async def crowd(port: str, count: str) -> None:
    """Open *count* clients and stay."""
    clients: list[Any] = []

    async def open_one() -> None:
        clients.append(await fastrpc.connect(f"tcp://127.0.0.1:{port}").__aenter__())

    await fill(open_one, int(count))


async def crowd_raw(port: str, count: str) -> None:
    """Open *count* plain connections and stay."""
    loop = asyncio.get_running_loop()
    kept: list[Any] = []

    async def open_one() -> None:
        kept.append(await loop.create_connection(Silent, "127.0.0.1", int(port)))

    await fill(open_one, int(count))


async def fill(open_one: Callable[[], Awaitable[None]], count: int) -> None:
    """Open *count* connections, say so, and wait to be ended."""
    for begin in range(0, count, AT_ONCE):
        await asyncio.gather(*[open_one() for _ in range(min(AT_ONCE, count - begin))])
    print("open", flush=True)
    await asyncio.Event().wait()


async def busy(crowded: str, empty: str) -> None:
    """Answer lines `SECONDS IN_FLIGHT WHICH` with calls per second."""
    loop = asyncio.get_running_loop()
    async with (
        fastrpc.connect(f"tcp://127.0.0.1:{crowded}") as first,
        fastrpc.connect(f"tcp://127.0.0.1:{empty}") as second,
    ):
        calls = {"crowded": first.call, "empty": second.call}
        print("ready", flush=True)
        while words := (await loop.run_in_executor(None, sys.stdin.readline)).split():
            rate = await load(calls[words[2]], float(words[0]), int(words[1]))
            print(rate, flush=True)


async def load(call: Callable[..., Any], seconds: float, in_flight: int) -> float:
    """Return calls per second, after a short warm-up."""
    now = time.perf_counter

    async def worker(end: float) -> int:
        done = 0
        while now() < end:
            await call("Echo.echo", SMALL)
            done += 1
        return done

    async def together(length: float) -> float:
        start = now()
        counts = await asyncio.gather(*[worker(start + length) for _ in range(in_flight)])
        return sum(counts) / (now() - start)

    await together(seconds / 5)
    return await together(seconds)


PARTS: Final[dict[str, Callable[..., Any]]] = {
    part.__name__: part for part in (serve, serve_raw, crowd, crowd_raw, busy)
}


# The part that runs them


class Part:
    """A process of one of the parts of *module*, pinned to a core, up when it has spoken."""

    def __init__(
        self, running: ExitStack, core: int, name: str, *words: object, module: str = "bench.idle"
    ) -> None:
        self.name = name
        self.process = subprocess.Popen(
            ["taskset", "-c", str(core), sys.executable, "-m", module, name, *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )  # fmt: skip
        running.callback(self.stop)
        self.first_word = self._read()

    def ask(self, *words: object) -> float:
        """Send a line and return the number that comes back."""
        assert self.process.stdin is not None
        print(*words, file=self.process.stdin, flush=True)
        return float(self._read())

    def resident(self) -> int:
        """Return the bytes of memory the process has."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * resource.getpagesize()

    def stop(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()

    def _read(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        if not line:
            raise RuntimeError(f"the process that should {self.name} has ended")
        return line


def free_port() -> int:
    """Return a TCP port that nobody uses right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def memory(
    running: ExitStack, server: Part, crowd_name: str, port: int, count: int, core: int
) -> float:
    """Open the crowd and return the KiB each of its connections costs *server*."""
    before = server.resident()
    Part(running, core, crowd_name, port, count)
    return (server.resident() - before) / count / 1024


def raw_memory(count: int, cores: Sequence[int]) -> float:
    """Return the KiB that a connection costs a raw uvloop server."""
    with ExitStack() as running:
        port = free_port()
        server = Part(running, cores[0], "serve_raw", port, count)
        return memory(running, server, "crowd_raw", port, count, cores[-1])


def measure(count: int, rounds: int, seconds: float, cores: Sequence[int]) -> dict[str, Any]:
    """Run everything and return the figures."""
    raw = raw_memory(count, cores)
    with ExitStack() as running:
        crowded, empty = free_port(), free_port()
        server = Part(running, cores[0], "serve", crowded, count)
        Part(running, cores[0], "serve", empty, count)
        client = Part(running, cores[0], "busy", crowded, empty)
        for which in ("crowded", "empty"):  # memory that every server takes for its first calls
            client.ask(seconds / 5, IN_FLIGHT[-1], which)
        kib = memory(running, server, "crowd", crowded, count, cores[-1])
        rates: dict[str, dict[str, list[float]]] = {}
        for number in range(rounds):
            order = ("crowded", "empty") if number % 2 == 0 else ("empty", "crowded")
            for in_flight in IN_FLIGHT:
                by_server = rates.setdefault(str(in_flight), {"crowded": [], "empty": []})
                for which in order:
                    by_server[which].append(client.ask(seconds, in_flight, which))
    return {
        "kind": "idle",
        "twin": server.first_word,
        "connections": count,
        "kib": kib,
        "raw_kib": raw,
        "rates": rates,
    }


def tell(figures: dict[str, Any]) -> bool:
    """Print what was found; return whether both goals are met."""
    kib, count = figures["kib"], figures["connections"]
    met = kib <= KIB_GOAL
    print(f"{count:,} idle connections, {figures['twin']} twin")
    print(
        f"{'ok   ' if kib <= KIB_GOAL else 'SHORT'} server memory per connection {kib:.2f} KiB"
        f" (goal <= {KIB_GOAL:g}; raw uvloop {figures['raw_kib']:.2f})"
    )
    for in_flight, rates in figures["rates"].items():
        costs = [e / c for c, e in zip(rates["crowded"], rates["empty"], strict=True)]
        cost = statistics.median(costs)
        met &= cost <= COST_GOAL
        print(
            f"{'ok   ' if cost <= COST_GOAL else 'SHORT'} cost of a call with them / without,"
            f" {in_flight} in flight: {cost:.3f} ({min(costs):.3f}-{max(costs):.3f};"
            f" goal <= {COST_GOAL:g})"
        )
    return met


def affordable(wanted: int) -> int:
    """Raise the limit on file descriptors and return how many connections it allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < wanted + SPARE:
        print(f"only {hard} file descriptors are allowed: {hard - SPARE} connections")
        return hard - SPARE
    return wanted


def main(arguments: Sequence[str]) -> int:
    """Be one of the parts, or run them all; return 1 if a goal is missed."""
    if arguments and arguments[0] in PARTS:
        uvloop.run(PARTS[arguments[0]](*arguments[1:]))
        return 0
    parser = argparse.ArgumentParser(prog="python -m bench.idle")
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--output", type=Path, help="also write the figures to this file")
    given = parser.parse_args(arguments)
    cores = sorted(os.sched_getaffinity(0))[:2]
    figures = measure(affordable(given.connections), given.rounds, given.seconds, cores)
    if given.output:
        given.output.write_text(json.dumps(figures, indent=1) + "\n")
    return 0 if tell(figures) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
