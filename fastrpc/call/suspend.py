"""Tell whether a coroutine function can ever wait for something.

A handler written `async def` that awaits nothing runs to its end on the first
step, so the server may drive it in place instead of paying for a task.

Rules of the room:
  * when in doubt it can suspend: a wrong "no" would break a handler, a wrong
    "yes" only costs a task.
"""

import dis
import functools
import inspect
from collections.abc import Callable
from types import CodeType
from typing import Any

# `await`, `async with`, `async for` and asynchronous comprehensions all end in
# SEND and YIELD_VALUE on 3.11 to 3.14; the rest are named so that no compiler that
# spells one of them otherwise gets past. Unknown names can't appear: dis lists
# what this interpreter has, and a test compiles each form of waiting.
_WAITING = frozenset(
    {
        "GET_AWAITABLE",
        "SEND",
        "YIELD_VALUE",
        "YIELD_FROM",
        "GET_YIELD_FROM_ITER",
        "GET_AITER",
        "GET_ANEXT",
        "END_ASYNC_FOR",
        "BEFORE_ASYNC_WITH",
        "ASYNC_GEN_WRAP",
    }
)


def can_suspend(fn: Callable[..., Any]) -> bool:
    """Return False only if *fn* is an `async def` whose code has no wait in it."""
    code = _code(fn)
    if code is None or not code.co_flags & inspect.CO_COROUTINE:
        return True
    return any(step.opname in _WAITING for step in dis.get_instructions(code))


def _code(fn: Any) -> CodeType | None:
    """Return the code that runs when *fn* is called, not that of what it wraps."""
    while True:
        if isinstance(fn, functools.partial):
            fn = fn.func
        elif inspect.ismethod(fn):
            fn = fn.__func__
        else:
            break
    code = getattr(fn, "__code__", None)
    return code if isinstance(code, CodeType) else None
