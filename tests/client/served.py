"""What the tests of clients share: a service, and servers in this loop, in a thread, elsewhere."""

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastrpc
from fastrpc.session import Session

SCHEMES = ("tcp", "unix", "mem")
_numbers = itertools.count()


@dataclass
class Point:
    x: int
    y: int = 0


class Work:
    """A service that notes what it does."""

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.ended: list[str] = []
        self.gate = asyncio.Event()  # opens for `wait`

    def add(self, a: int, b: int = 2) -> int:
        """Return a + b."""
        return a + b

    def note(self, key: str) -> int:
        self.runs.append(key)
        return len(self.runs)

    def echo(self, value: Any) -> Any:
        return value

    def size(self, data: bytes) -> int:
        return len(data)

    def blob(self, size: int) -> bytes:
        return b"\x01" * size

    def move(self, point: Point, by: int) -> Point:
        return Point(point.x + by, point.y + by)

    def pair(self) -> tuple[int, str]:
        return 1, "one"

    def fail(self, text: str) -> None:
        raise LookupError(text)

    def refuse(self) -> None:
        raise fastrpc.RpcError(402, "not enough", {"balance": 3})

    async def wait(self, key: str) -> str:
        """Wait for the gate, and note how it ended."""
        self.runs.append(key)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.ended.append(f"{key} cancelled")
            raise
        self.ended.append(f"{key} done")
        return key

    async def nap(self, seconds: float) -> float:
        self.runs.append(f"nap {seconds}")
        await asyncio.sleep(seconds)
        return seconds

    @fastrpc.rpc(name="plus")
    def sum_of(self, a: int, b: int) -> int:
        return a + b

    def is_compiled(self) -> bool:
        """Return which twin serves."""
        return fastrpc.COMPILED

    @fastrpc.rpc(blocking=True)
    def pid(self) -> int:
        return os.getpid()


@contextlib.contextmanager
def address(scheme: str) -> Iterator[str]:
    """Give a target to listen at."""
    if scheme == "tcp":
        yield "tcp://127.0.0.1:0"
    elif scheme == "mem":
        yield f"mem://test{next(_numbers)}"
    else:
        with tempfile.TemporaryDirectory(prefix="rpc") as folder:
            yield f"unix://{folder}/s"


@contextlib.asynccontextmanager
async def serving(
    target: str = "tcp://127.0.0.1:0", *, work: Work | None = None, **options: Any
) -> AsyncIterator[tuple[fastrpc.Server, Work]]:
    """Serve a Work in this loop."""
    work = work or Work()
    server = fastrpc.Server(**options)
    server.register(work)
    await server.start(target)
    try:
        yield server, work
    finally:
        await server.aclose(grace=0)


def sessions_of(server: fastrpc.Server) -> list[Session]:
    """Return the server's ends of its connections."""
    return list(server._hall.sessions)


def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait in this thread until *condition* holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.001)


class Background:
    """A server on a loop of its own in a thread, for callers that block."""

    def __init__(
        self,
        target: str = "tcp://127.0.0.1:0",
        loop_factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
        **options: Any,
    ) -> None:
        self._ready = threading.Event()
        self._given = target
        self._options = options
        self._thread = threading.Thread(target=self._run, args=(loop_factory,))
        self._thread.start()
        assert self._ready.wait(10)

    def _run(self, loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self.work = Work()
        self.loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        async with serving(self._given, work=self.work, **self._options) as (self.server, _):
            self.target = self.server.targets[0]
            self._ready.set()
            await self._end.wait()

    def do(self, action: Callable[[], Any]) -> Any:
        """Run *action* on the server's loop and return its result."""
        done: threading.Event = threading.Event()
        box: list[Any] = []

        def act() -> None:
            box.append(action())
            done.set()

        self.loop.call_soon_threadsafe(act)
        assert done.wait(10)
        return box[0]

    def run(self, coroutine: Any) -> Any:
        """Run *coroutine* on the server's loop and return its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    def __enter__(self) -> "Background":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Elsewhere:
    """A server in a process of its own, to be killed and started again at the same port."""

    CODE = "import sys, tests.client.served as served\nserved.serve_until_killed(*sys.argv[1:])\n"

    def __init__(self, target: str | None = None, *, pure: bool | None = None) -> None:
        self.target = target or f"tcp://127.0.0.1:{free_port()}"
        self._env = dict(os.environ)
        if pure is not None:
            self._env["FASTRPC_PURE"] = "1" if pure else "0"
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        root = Path(__file__).parents[2]
        self._process = subprocess.Popen(
            [sys.executable, "-c", self.CODE, self.target],
            stdout=subprocess.PIPE, text=True, cwd=root, env=self._env,
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == "ready"

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def __enter__(self) -> "Elsewhere":
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()


def serve_until_killed(target: str) -> None:
    """Be the process that `Elsewhere` starts."""

    async def serve() -> None:
        server = fastrpc.Server()
        server.register(Work())
        await server.start(target)
        print("ready", flush=True)
        await server.serve_forever()

    asyncio.run(serve())


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def sockets() -> set[str]:
    """Return the sockets of this process: loops open other things of their own as they go."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one that lists the folder
            kind = os.readlink(f"/proc/self/fd/{number}")
            if kind.startswith("socket:"):
                found.add(f"{number}={kind}")
    return found


async def turn_until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Let the loop run until *condition* holds, whatever the kernel still has to do."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.001)
