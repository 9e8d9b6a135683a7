"""Run tests in time that passes only while everybody waits: see `fastrpc.testing.FakeClock`."""

import functools
from collections.abc import Callable, Coroutine
from typing import Any

from fastrpc.testing import FakeClock
from fastrpc.testing.clock import VirtualLoop

__all__ = ["VirtualLoop", "in_virtual_time", "run"]


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Run *main*; afterwards no task may be left."""
    return FakeClock(1000.0).run(main)


def in_virtual_time(test: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., None]:
    """Let a test that is a coroutine function run in virtual time."""

    @functools.wraps(test)
    def plain(*args: Any, **kwargs: Any) -> None:
        run(test(*args, **kwargs))

    return plain
