import asyncio
import threading
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result

import fastrpc
from fastrpc.cli import main


class Arith:
    """Small sums."""

    def add(self, a: int, b: int = 2) -> int:
        """Return a + b."""
        return a + b

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
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        assert self._ready.wait(10)

    async def _serve(self) -> None:
        server = fastrpc.Server()
        server.register(Arith())
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


@pytest.fixture(scope="session")
def target() -> Iterator[str]:
    """Serve Arith and shout, and give the target."""
    server = Background()
    yield server.target
    server.close()


def invoke(*words: str, stdin: str | bytes | None = None) -> Result:
    """Run the command with these words."""
    return CliRunner().invoke(main, words, input=stdin)
