"""Run tests in time that passes only while everybody waits: hours take no time at all.

The loop is asyncio's own but for its clock, which leaps to the next timer whenever nothing
is ready. What waits for the world outside (a thread, a socket) must not be tested here: the
leap doesn't know of it.
"""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["VirtualLoop", "in_virtual_time", "run"]

#: More leaps than that, and a test waits for something that never comes.
LEAPS_MAX = 200_000


class _Selector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """Leaps in place of waiting."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("everybody waits, and nothing is planned")
        if not ready and timeout:
            self.loop.leap(timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose time is in its own hand."""

    def __init__(self) -> None:
        selector = _Selector()
        selector.loop = self
        self._now = 1000.0
        self._leaps = 0
        super().__init__(selector)

    def time(self) -> float:
        """Return the moment that it is here."""
        return self._now

    def leap(self, seconds: float) -> None:
        """Let time pass."""
        self._leaps += 1
        if self._leaps > LEAPS_MAX:
            raise RuntimeError("time passes and passes, and nothing ends")
        self._now += seconds


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Run *main*; afterwards no task may be left."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:

        async def watched() -> Any:
            result = await main
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left, left
            return result

        return runner.run(watched())


def in_virtual_time(test: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., None]:
    """Let a test that is a coroutine function run in virtual time."""

    @functools.wraps(test)
    def plain(*args: Any, **kwargs: Any) -> None:
        run(test(*args, **kwargs))

    return plain
