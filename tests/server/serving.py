"""Start servers for tests, on either twin, and prove afterwards that nothing is left."""

import asyncio
import contextlib
import itertools
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

import fastrpc
import fastrpc.frame
from fastrpc import _chain_py
from tests.frame.twins import MODULES

_numbers = itertools.count()
TWIN_NAMES = [name for name in fastrpc.frame.__all__ if name != "COMPILED"]


def use_twin(monkeypatch: pytest.MonkeyPatch, twin: SimpleNamespace) -> None:
    """Let every room of the library open *twin*, whichever was opened at first."""
    for key, module in list(sys.modules.items()):
        if not key.startswith("fastrpc.") or key in _TWINS:
            continue
        for name in TWIN_NAMES:
            # The chooser itself comes last, for it is what the others are compared with.
            is_same = getattr(module, name, None) is getattr(fastrpc.frame, name)
            if is_same and module is not fastrpc.frame:
                monkeypatch.setattr(module, name, getattr(twin, name))
    for name in TWIN_NAMES:
        monkeypatch.setattr(fastrpc.frame, name, getattr(twin, name))
    # Replies derive from the class that was there when they were defined.
    monkeypatch.setattr(_chain_py, "ReplyFields", fastrpc.Reply.__mro__[1])


_TWINS = {module for modules in MODULES.values() for module in modules}


def target_of(scheme: str, folder: Path) -> str:
    """Return a free target of *scheme*; "tcp6" is one, too."""
    number = next(_numbers)
    return {
        "tcp": "tcp://127.0.0.1:0",
        "tcp6": "tcp://[::1]:0",
        "unix": f"unix://{folder}/{number}.sock",
        "mem": f"mem://serving-{number}",
    }[scheme]


class Waiting:
    """A service to be in the middle of; tests derive theirs, with its name on the wire.

    Attributes:
        go_on: What every `wait` waits for.
    """

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    def add(self, a: int, b: int) -> int:
        return a + b

    async def wait(self) -> str:
        await self.go_on.wait()
        return "done"


class Raising:
    """Raises, in every way of being called; tests derive theirs, with its name on the wire."""

    def _make(self, what: str) -> BaseException:
        """Return what is raised."""
        raise NotImplementedError

    def add(self, a: int, b: int) -> int:
        return a + b

    def sync(self, what: str) -> NoReturn:
        raise self._make(what)

    async def inline(self, what: str) -> NoReturn:
        raise self._make(what)

    async def task(self, what: str) -> NoReturn:
        await asyncio.sleep(0)
        raise self._make(what)

    @fastrpc.rpc(blocking=True)
    def thread(self, what: str) -> NoReturn:
        raise self._make(what)


@contextlib.asynccontextmanager
async def serving(
    service: Any, *targets: str, grace: float = 0.0, **options: Any
) -> AsyncIterator[fastrpc.Server]:
    """Serve *service* at *targets*, TCP by default; at the end nothing may be left."""
    before = asyncio.all_tasks()
    server = fastrpc.Server(**options)
    server.register(service)
    await server.start(*(targets or ("tcp://127.0.0.1:0",)))
    try:
        yield server
    finally:
        await server.aclose(grace)
    assert_nothing_left(server)
    left = asyncio.all_tasks() - before
    assert not left, left


def assert_nothing_left(server: fastrpc.Server) -> None:
    """Look at what a closed server should have let go of."""
    stats = server.stats()
    assert (stats.connections, stats.running) == (0, 0), stats
    admission = server._hall.admission
    assert (len(admission), admission._pending, admission._hosts) == (0, {}, {})
    side, answers = server._side, server._answers
    assert side is not None
    assert answers is not None
    assert not side.ticker._all
    assert not side.ticker._busy
    assert not answers.tasks


async def until(condition: Any, patience: float = 10.0) -> None:
    """Wait until *condition* holds."""
    async with asyncio.timeout(patience):
        while not condition():
            await asyncio.sleep(0.002)
