"""Run a coroutine on uvloop where it is installed, else on asyncio."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

try:
    import uvloop
except ModuleNotFoundError as error:
    if error.name != "uvloop":
        raise
    LOOP = "asyncio"
else:
    LOOP = "uvloop"

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run *main* to its end and return its result."""
    return uvloop.run(main) if LOOP == "uvloop" else asyncio.run(main)
