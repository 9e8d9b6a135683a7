"""Be one end of a loopback call, in a process of its own.

    python -m bench.loop.ends serve LOOP TARGET
    python -m bench.loop.ends call LOOP TARGET       (LOOP may be "blocking")

The server prints a line when it listens. The client reads lines `SIZE IN_FLIGHT
CALLS` from its input, makes so many calls with so many bytes, and answers each
line with the seconds it took. FASTRPC_PURE=1 makes an end use the pure twin.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import uvloop

import fastrpc
from fastrpc import frame


class Echo:
    """Answers with the bytes it was given."""

    def blob(self, value: bytes) -> bytes:
        """Return *value*."""
        return value


def run(loop: str, main: Coroutine[Any, Any, None]) -> None:
    """Run *main* on the event loop of that name."""
    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main)


def tell(word: object) -> None:
    """Answer the other process."""
    print(word, flush=True)


async def serve(target: str) -> None:
    """Serve until the process is ended."""
    server = fastrpc.Server()
    server.register(Echo())
    await server.start(target)
    tell("compiled" if frame.COMPILED else "pure")
    await server.serve_forever()


async def make_calls(
    call: Callable[[bytes], Awaitable[bytes]], size: int, in_flight: int, calls: int
) -> float:
    """Make *calls* calls, *in_flight* at once; return the seconds they took."""
    blob = bytes(size)

    async def worker(share: int) -> None:
        for _ in range(share):
            await call(blob)

    start = time.perf_counter()
    await asyncio.gather(*[worker(calls // in_flight) for _ in range(in_flight)])
    return time.perf_counter() - start


async def call_on_request(target: str) -> None:
    """Answer the lines of the input until it ends."""
    loop = asyncio.get_running_loop()
    async with fastrpc.connect(target) as client:
        blob = client.stub(Echo).blob
        tell("compiled" if frame.COMPILED else "pure")
        while words := (await loop.run_in_executor(None, sys.stdin.readline)).split():
            size, in_flight, calls = map(int, words)
            tell(await make_calls(blob, size, in_flight, calls))  # type: ignore[arg-type]


def block_on_request(target: str) -> None:
    """The same with the blocking client, one call at a time."""
    with fastrpc.connect_sync(target) as client:
        call = client.stub(Echo).blob
        tell("compiled" if frame.COMPILED else "pure")
        for line in sys.stdin:
            size, _, calls = map(int, line.split())
            blob = bytes(size)
            start = time.perf_counter()
            for _ in range(calls):
                call(blob)
            tell(time.perf_counter() - start)


def main(role: str, loop: str, target: str) -> None:
    """Be the end that the command line asks for."""
    if role == "serve":
        run(loop, serve(target))
    elif loop == "blocking":
        block_on_request(target)
    else:
        run(loop, call_on_request(target))


if __name__ == "__main__":
    main(*sys.argv[1:4])
