"""Only a coroutine function without any wait in its code is driven in place."""

import functools
import types
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fastrpc.call.suspend import can_suspend


async def other() -> int:
    return 1


async def items() -> AsyncIterator[int]:
    yield 1


@asynccontextmanager
async def context() -> AsyncIterator[int]:
    yield 1


async def returns() -> int:
    return 1


async def raises() -> None:
    raise ValueError("x")


async def loops(n: int) -> int:
    total = 0
    for i in range(n):
        try:
            total += i
        finally:
            total += 1
    with memoryview(b"x") as view:
        total += len(view)
    return total + sum(x for x in range(n))


async def only_defines() -> Callable[[], Any]:
    async def inner() -> int:
        return await other()

    return inner


async def makes_but_does_not_await() -> None:
    other().close()


async def awaits() -> int:
    return await other()


async def awaits_in_a_branch(n: int) -> int:
    if n:
        return await other()
    return 0


async def awaits_in_finally() -> None:
    try:
        pass
    finally:
        await other()


async def awaits_in_an_argument() -> None:
    print(await other(), end="")


async def enters() -> None:
    async with context():
        pass


async def iterates() -> None:
    async for _ in items():
        pass


async def lists() -> list[int]:
    return [x async for x in items()]


async def maps() -> dict[int, int]:
    return {x: x async for x in items()}


async def lists_awaits() -> list[int]:
    return [await other() for _ in range(2)]


async def generates() -> Any:
    return (x async for x in items())


async def yields() -> AsyncIterator[int]:
    yield 1


@types.coroutine
def old_style() -> Generator[None, None, None]:
    yield


class Holder:
    async def quiet(self) -> int:
        return 1

    async def waits(self) -> int:
        return await other()

    @classmethod
    async def quiet_class(cls) -> int:
        return 1


@pytest.mark.parametrize(
    "fn",
    [
        *(returns, raises, loops, only_defines, makes_but_does_not_await),
        *(Holder().quiet, Holder.quiet_class, functools.partial(loops, 3)),
    ],
)
def test_runs_to_its_end_at_once(fn: Callable[..., Any]) -> None:
    assert not can_suspend(fn)
    coroutine = fn(*([2] if fn is loops else []))
    with pytest.raises((StopIteration, ValueError)):
        coroutine.send(None)


@pytest.mark.parametrize(
    "fn",
    [
        *(awaits, awaits_in_a_branch, awaits_in_finally, awaits_in_an_argument, enters, iterates),
        *(lists, maps, lists_awaits, Holder().waits, functools.partial(awaits), yields, old_style),
    ],
)
def test_may_wait(fn: Callable[..., Any]) -> None:
    assert can_suspend(fn)


def test_an_asynchronous_generator_expression_is_not_run_here() -> None:
    # Whoever iterates it waits, not the function that makes it; either answer is right.
    can_suspend(generates)


class Looks:
    def __call__(self) -> None: ...


@pytest.mark.parametrize("fn", [len, print, lambda: None, Looks(), functools.partial(len), int])
def test_in_doubt_it_may_wait(fn: Any) -> None:
    assert can_suspend(fn)


def test_what_a_wrapper_wraps_does_not_count() -> None:
    @functools.wraps(returns)
    async def wrapper() -> int:
        return await other()

    @functools.wraps(awaits)
    async def quiet() -> int:
        return 1

    assert can_suspend(wrapper)
    assert not can_suspend(quiet)
