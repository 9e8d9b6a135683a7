"""What the tests of interceptors share: a service with handlers of every kind, and a way to call each."""

import asyncio
import contextlib
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import fastrpc
from tests.server.serving import serving

CALM = logging.getLogger("tests.calm")
CALM.setLevel(logging.CRITICAL)

_numbers = itertools.count()


class Work:
    """Handlers of every kind; each notes that it was run, and what `look` tells."""

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.seen: list[Any] = []
        self.closed: list[str] = []
        self.look: Callable[[], Any] = lambda: None
        self.entered = asyncio.Event()

    def _run(self, name: str) -> None:
        self.runs.append(name)
        self.seen.append(self.look())

    def sync(self, n: int) -> int:
        self._run("sync")
        return n * 2

    async def inline(self, n: int) -> int:
        self._run("inline")
        return n * 2

    async def task(self, n: int) -> int:
        await asyncio.sleep(0)
        self._run("task")
        return n * 2

    @fastrpc.rpc(blocking=True)
    def thread(self, n: int) -> int:
        self._run("thread")
        return n * 2

    def filled(self, n: int, call: fastrpc.Call = fastrpc.GIVEN) -> int:
        self._run("filled")
        call.reply_metadata = {"from": "handler"}
        return n * 2

    def steps(self, n: int) -> Iterator[int]:
        self._run("steps")
        yield from range(n)

    async def gives(self, n: int) -> AsyncIterator[int]:
        self._run("gives")
        try:
            for number in range(n):
                yield number
        finally:
            self.closed.append("gives")

    async def takes(self, items: AsyncIterator[int]) -> int:
        self._run("takes")
        return sum([item async for item in items])

    async def both(self, items: AsyncIterator[int]) -> AsyncIterator[int]:
        self._run("both")
        async for item in items:
            yield item * 2

    async def stuck(self) -> None:
        self._run("stuck")
        self.entered.set()
        await asyncio.Event().wait()

    async def stuck_stream(self) -> AsyncIterator[int]:
        self._run("stuck_stream")
        try:
            yield 1
            self.entered.set()
            await asyncio.Event().wait()
        finally:
            self.closed.append("stuck_stream")

    async def stuck_taking(self, items: AsyncIterator[int]) -> int:
        self._run("stuck_taking")
        async for _ in items:
            self.entered.set()
        return 0


async def numbers(n: int) -> AsyncIterator[int]:
    for number in range(n):
        yield number


async def _items(stream: Any) -> list[Any]:
    return [item async for item in stream]


async def _both(client: fastrpc.Client) -> list[Any]:
    async with client.stream("Work.both") as stream:
        await stream.feed(numbers(3))
        return [item async for item in stream]


Way = Callable[[fastrpc.Client], Awaitable[Any]]

#: A call of every kind of handler, by the handler's name.
WAYS: dict[str, Way] = {
    "sync": lambda client: client.call("Work.sync", 3),
    "inline": lambda client: client.call("Work.inline", 3),
    "task": lambda client: client.call("Work.task", 3),
    "thread": lambda client: client.call("Work.thread", 3),
    "filled": lambda client: client.call("Work.filled", 3),
    "steps": lambda client: _items(client.stream("Work.steps", 3)),
    "gives": lambda client: _items(client.stub(Work).gives(3)),
    "takes": lambda client: client.stub(Work).takes(numbers(3)),
    "both": _both,
}

RESULTS: dict[str, Any] = {
    **dict.fromkeys(("sync", "inline", "task", "thread", "filled"), 6),
    "steps": [0, 1, 2],
    "gives": [0, 1, 2],
    "takes": 3,
    "both": [0, 2, 4],
}


class Clock:
    """A clock that goes when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def target_at(scheme: str) -> str:
    """Return a free target."""
    return "tcp://127.0.0.1:0" if scheme == "tcp" else f"mem://interceptors-{next(_numbers)}"


@contextlib.asynccontextmanager
async def connected(
    *,
    scheme: str = "mem",
    work: Work | None = None,
    server: Any = (),
    client: Any = (),
    **options: Any,
) -> AsyncIterator[tuple[fastrpc.Client, Work, fastrpc.Server]]:
    """Serve a Work behind interceptors, and connect through others."""
    work = work or Work()
    serves = serving(work, target_at(scheme), log=CALM, interceptors=server)
    async with serves as served:
        connection = fastrpc.connect(served.targets[0], interceptors=client, **options)
        async with connection:
            yield connection, work, served


async def _plus(items: Any, more: int) -> AsyncIterator[int]:
    async for item in items:
        yield item + more


async def other_items(handler: fastrpc.Handler, call: fastrpc.Call) -> fastrpc.Reply:
    """Send items that are 1 more, and give items that are 100 more; for `wrapping`."""
    if call.items is not None:
        call.items = _plus(call.items, 1)
    reply = await handler(call)
    if reply.items is not None:
        reply.items = _plus(reply.items, 100)
    return reply


def tracing(name: str, trace: list[str]) -> fastrpc.Interceptor:
    """Return an interceptor that notes when calls and replies pass."""

    def wrap(handler: fastrpc.Handler) -> fastrpc.Handler:
        async def traced(call: fastrpc.Call) -> fastrpc.Reply:
            trace.append(f"{name} call")
            reply = await handler(call)
            trace.append(f"{name} reply")
            return reply

        return traced

    return wrap


def wrapping(
    handle: Callable[[fastrpc.Handler, fastrpc.Call], Awaitable[Any]],
) -> fastrpc.Interceptor:
    """Make an interceptor of one function of the handler and the call."""

    def wrap(handler: fastrpc.Handler) -> fastrpc.Handler:
        async def wrapped(call: fastrpc.Call) -> fastrpc.Reply:
            reply: fastrpc.Reply = await handle(handler, call)
            return reply

        return wrapped

    return wrap
