"""A server for tests of commands, and a way to run a command against it."""

import asyncio
import threading
from collections.abc import AsyncIterator

from click.testing import CliRunner, Result

import fastrpc
from fastrpc.cli import main


class Arith:
    """Small sums."""

    def __init__(self) -> None:
        self._ticks = 0
        self.busy = threading.Event()

    def tick(self) -> int:
        """Say by `busy` that calls are coming in."""
        self._ticks += 1
        if self._ticks >= 20:
            self.busy.set()
        return self._ticks

    def calm(self) -> None:
        self._ticks = 0
        self.busy.clear()

    def add(self, a: int, b: int = 2) -> int:
        """Return a + b."""
        return a + b

    async def count(self, n: int) -> AsyncIterator[int]:
        for number in range(n):
            yield number

    async def never(self) -> None:
        await asyncio.Event().wait()

    @fastrpc.rpc(blocking=True, idempotent=True)
    def slow(self) -> int:
        """Run in a thread."""
        return 1

    def refuse(self) -> None:
        raise fastrpc.RpcError(402, "not enough", data={"balance": 3})

    def bug(self) -> None:
        raise ZeroDivisionError("by zero")

    def echo(self, value: object) -> object:
        return value

    def octets(self) -> bytes:
        return b"\x00\xff"


def shout(text: str) -> str:
    """Return the text in capitals."""
    return text.upper()


class Background:
    """A server on a loop and thread of its own, so that commands can block here."""

    def __init__(self) -> None:
        self.arith = Arith()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        assert self._ready.wait(10)

    async def _serve(self) -> None:
        server = fastrpc.Server()
        server.register(self.arith)
        server.register(shout)
        await server.start("tcp://127.0.0.1:0")
        self.target = server.targets[0]
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        self._ready.set()
        await self._end.wait()
        await server.aclose(grace=0)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)


def invoke(*words: str, stdin: str | bytes | None = None) -> Result:
    """Run the command with these words."""
    return CliRunner().invoke(main, words, input=stdin)
