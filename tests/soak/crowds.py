"""Crowds of bad peers around a server, and what a good client feels of them: T2, T3, T9.

    python -m tests.soak.crowds [--clients 2000] [--seconds 30]

The server runs in a process of its own with its defaults, so do the crowds; the good client
runs here, and makes a call every 5 ms and a connection every 100 ms. Printed for each crowd, as
JSON lines: the server's memory, the good client's calls and connections beside those without a
crowd, how long the longest of the crowd lived.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil

import fastrpc
from tests.adversity.raw_peer import call, hello_frame, pack

ROOT = Path(__file__).parents[2]
MIB = 2**20
PATIENCE = 90.0
DEAF = 20.0


class Work:
    """What the server does."""

    def add(self, a: int, b: int) -> int:
        return a + b

    async def block(self, size: int) -> bytes:
        await asyncio.sleep(0)
        return bytes(size)


async def serve() -> None:
    """Be the server until standard input ends."""
    async with fastrpc.Server() as server:
        server.register(Work())
        await server.start("tcp://127.0.0.1:0")
        print(server.targets[0], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


# Crowds


async def bad(port: int, first: bytes, drip: bytes, pause: float) -> float:
    """Say *first* at once and *drip* a byte each *pause*; return how long that was allowed."""
    began = time.monotonic()
    with contextlib.suppress(OSError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(first)

        async def talk() -> None:
            for byte in drip:
                writer.write(bytes([byte]))
                await asyncio.sleep(pause)

        talking = asyncio.create_task(talk())
        try:
            while await reader.read(65_536):
                pass
        finally:
            talking.cancel()
            writer.close()
    return time.monotonic() - began


async def deaf(port: int, first: bytes) -> float:
    """Ask for much and read nothing, for a while: the end can't be seen from here."""
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(first)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(DEAF)
        writer.transport.abort()
    return DEAF


ASK = b"GET /rpc HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
POST = b"POST /rpc/Work.add HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n["
LARGE = hello_frame() + call(1, b"Work.block", pack([10 * MIB]))
LARGE_HTTP = (
    b"POST /rpc/Work.block HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n[10485760]"
)


def crowd(name: str, port: int, count: int) -> list[Any]:
    """Return the coroutines of a crowd."""
    slow = b"a" * 200
    return {
        "silent": lambda: [bad(port, b"", b"", 1.0) for _ in range(count)],
        "drip hello": lambda: [bad(port, hello_frame()[:1], hello_frame()[1:60], 0.5) for _ in range(count)],
        "drip http head": lambda: [bad(port, ASK, slow, 0.5) for _ in range(count)],
        "drip http body": lambda: [bad(port, POST, slow, 0.5) for _ in range(count)],
        "drip frame": lambda: [bad(port, hello_frame() + call(1)[:9], slow, 1.0) for _ in range(count)],
        "deaf": lambda: [deaf(port, LARGE) for _ in range(100)],
        "deaf http": lambda: [deaf(port, LARGE_HTTP) for _ in range(100)],
    }[name]()  # fmt: skip


CROWDS = (
    "silent",
    "drip hello",
    "drip http head",
    "drip http body",
    "drip frame",
    "deaf",
    "deaf http",
)


async def attack(name: str, port: int, count: int) -> None:
    """Be a crowd; print how long the longest of it was let live."""
    lived = await asyncio.gather(*crowd(name, port, count))
    print(json.dumps({"longest": round(max(lived), 1)}), flush=True)


# The good client


async def feel(target: str, until: asyncio.Event) -> dict[str, float]:
    """Call and connect until told to stop; return what that took."""
    calls: list[float] = []
    connects: list[float] = []
    async with fastrpc.connect(target, timeout=20.0) as client:
        while not until.is_set():
            started = time.perf_counter()
            await client.call("Work.add", 1, 2)
            calls.append(time.perf_counter() - started)
            if len(calls) % 20 == 0:
                started = time.perf_counter()
                async with fastrpc.connect(target, timeout=20.0) as fresh:
                    await fresh.call("Work.add", 1, 2)
                connects.append(time.perf_counter() - started)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.005):
                    await until.wait()
    quantiles = statistics.quantiles(calls, n=100)
    return {
        "calls": len(calls),
        "p50_ms": round(quantiles[49] * 1000, 2),
        "p99_ms": round(quantiles[98] * 1000, 2),
        "connect_p50_ms": round(statistics.median(connects) * 1000, 1),
        "connect_max_ms": round(max(connects) * 1000, 1),
    }


@contextlib.asynccontextmanager
async def process(*args: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a part of this script beside it."""
    command = [sys.executable, "-m", "tests.soak.crowds", *args]
    made = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        yield made
    finally:
        assert made.stdin is not None
        made.stdin.close()
        try:
            async with asyncio.timeout(10):
                await made.wait()
        except TimeoutError:
            made.kill()
            await made.wait()


async def measure(name: str, count: int, seconds: float) -> dict[str, Any]:
    """Let one crowd loose on a fresh server."""
    async with process("--serve") as server:
        assert server.stdout is not None
        target = (await server.stdout.readline()).decode().strip()
        memory = psutil.Process(server.pid).memory_info
        alone, beside = asyncio.Event(), asyncio.Event()
        asyncio.get_running_loop().call_later(5.0, alone.set)
        calm = await feel(target, alone)
        before = most = memory().rss
        feeling = asyncio.create_task(feel(target, beside))
        async with process("--crowd", name, "--port", target.rpartition(":")[2], "--clients", str(count)) as other:  # fmt: skip
            assert other.stdout is not None
            line = asyncio.create_task(other.stdout.readline())
            began = time.monotonic()
            while not line.done() and time.monotonic() - began < max(seconds, PATIENCE):
                most = max(most, memory().rss)
                await asyncio.sleep(0.05)
            longest = json.loads(line.result())["longest"] if line.done() else None
        beside.set()
        felt = await feeling
        return {
            "crowd": name, "longest_s": longest, "grown_mib": round((most - before) / MIB, 1),
            "alone": calm, "beside": felt,
        }  # fmt: skip


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--only", action="append", choices=CROWDS)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--crowd", choices=CROWDS, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        await serve()
    elif asked.crowd:
        await attack(asked.crowd, asked.port, asked.clients)
    else:
        for name in asked.only or CROWDS:
            print(json.dumps(await measure(name, asked.clients, asked.seconds)), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
