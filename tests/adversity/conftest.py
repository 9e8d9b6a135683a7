import asyncio
from types import SimpleNamespace

import pytest

import fastrpc
from fastrpc.session import ticker
from tests.server.serving import until


@pytest.fixture
def quick_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let servers look after their connections every few milliseconds, not every second."""
    monkeypatch.setattr(ticker, "SLOW", 0.01)


class Clock:
    """The sessions' clock, which only the test moves: a loaded machine changes nothing."""

    def __init__(self) -> None:
        self.now = 1000.0

    async def look(self, server: fastrpc.Server) -> None:
        """Let the server look after all of its connections."""
        assert server._side is not None
        ticking = server._side.ticker
        for _ in range(2):  # the next look may have begun already
            before = ticking._slow
            await until(lambda before=before: not ticking._all or ticking._slow is not before)

    async def let_pass(self, server: fastrpc.Server, seconds: float) -> None:
        """Let the server look, then time pass, then the server look again."""
        await self.look(server)
        self.now += seconds
        await self.look(server)
        await asyncio.sleep(0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Give sessions a clock that stands still until the test moves it; jumps are not late."""
    clock = Clock()
    monkeypatch.setattr(ticker, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(ticker, "SLOW", 0.001)
    monkeypatch.setattr(ticker, "LATE", 1e9)
    return clock
