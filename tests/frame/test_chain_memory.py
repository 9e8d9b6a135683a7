"""No path through a chain keeps a reference, or leaves work to the garbage collector."""

import asyncio
import contextlib
import gc
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tests.frame.chains import Stage, caller
from tests.frame.halves import Job
from tests.frame.rig import Rig, Waiter

ROUNDS = 200


class Things:
    """What the paths handle, and whose references are counted."""

    def __init__(self, twin: SimpleNamespace) -> None:
        self.twin = twin
        self.value = object()
        self.error = KeyError("x")
        self.reply = twin.ReplyFields(self.value)
        self.waiter = Waiter()
        self.rig = Rig(twin)

    def counts(self) -> list[int]:
        self.error.__traceback__ = self.error.__context__ = None
        self.waiter.told.clear()
        things = [self.value, self.error, self.reply, self.waiter, None, *vars(self.twin).values()]
        return [sys.getrefcount(thing) for thing in things if thing is not None]

    def chain(self, waits: int = 0, gives: Any = None, catches: bool = False) -> Any:
        """Return a coroutine that waits so often, and gives a reply or what it is told."""

        async def chain() -> Any:
            for _ in range(waits):
                try:
                    await self.waiter
                except KeyError:
                    if not catches:
                        raise
            if isinstance(gives, BaseException):
                raise gives
            return self.reply if gives is None else gives

        return chain()

    def step(self, **chain: Any) -> Any:
        return self.twin.Pending(self.chain(**chain), "A.b").__await__()


def _ends(act: Callable[[], Any]) -> None:
    try:
        act()
    except (StopIteration, Exception, asyncio.CancelledError):
        return
    raise AssertionError


def _stepped(things: Things, last: Callable[[Any], Any], **chain: Any) -> None:
    step = things.step(waits=1, **chain)
    assert step.send(None) is things.waiter
    last(step)


PATHS: dict[str, Callable[[Things], Any]] = {
    "send": lambda it: _ends(lambda: it.step().send(None)),
    "next": lambda it: _ends(lambda: next(it.step())),
    "error": lambda it: _ends(lambda: it.step(gives=it.error).send(None)),
    "no reply": lambda it: _ends(lambda: it.step(gives=it.value).send(None)),
    "throw": lambda it: _stepped(it, lambda step: _ends(lambda: step.throw(it.error))),
    "caught": lambda it: _stepped(
        it, lambda step: _ends(lambda: step.throw(it.error)), catches=True
    ),
    "caught, no reply": lambda it: _stepped(
        it, lambda step: _ends(lambda: step.throw(it.error)), catches=True, gives=it.value
    ),
    "close": lambda it: _stepped(it, lambda step: step.close()),
    "drop": lambda it: _stepped(it, lambda step: None),
    "awaited": lambda it: Job(it.twin.Pending(it.chain(), "A.b")).step(),
    "advance": lambda it: it.twin.advance(it.chain()),
    "advance, error": lambda it: _ends(lambda: it.twin.advance(it.chain(gives=it.error))),
    "done": lambda it: Job(it.twin.Done(it.value)).step(),
    "done, throw": lambda it: _ends(lambda: it.twin.Done(it.value).__await__().throw(it.error)),
    "no awaitable": lambda it: Job(it.twin.Pending(it.value, "A.b")).step(),
}


def _sent(things: Things, end: Callable[[Any], Any] | None, waits: bool = False) -> None:
    sent = things.twin.Sent(things.waiter, things.twin.ReplyFields)
    job = Job(sent)
    if waits:
        assert job.step().waits is things.waiter
    if end is not None:
        end(sent)
        job.step()
    job.close()
    things.waiter.told.clear()


PATHS |= {
    "sent": lambda it: _sent(it, lambda sent: sent.set_result(it.value)),
    "sent, waits": lambda it: _sent(it, lambda sent: sent.set_result(it.value), waits=True),
    "sent, closed": lambda it: _sent(it, None, waits=True),
    "sent, cancelled": lambda it: _sent(it, lambda sent: it.waiter.cancel(), waits=True),
}


@pytest.mark.parametrize("path", PATHS)
def test_no_path_keeps_a_reference(twin: SimpleNamespace, path: str) -> None:
    things, walk = Things(twin), PATHS[path]
    for _ in range(10):
        walk(things)
    gc.collect()
    before, blocks = things.counts(), sys.getallocatedblocks()
    for _ in range(ROUNDS):
        walk(things)
        things.error.__traceback__ = things.error.__context__ = None
    gc.collect()
    assert things.counts() == before
    assert sys.getallocatedblocks() - blocks < ROUNDS // 4


@pytest.mark.asyncio
@pytest.mark.parametrize("how", ["over", "waits", "before", "after", "no reply", "odd"])
async def test_no_call_through_interceptors_leaves_anything(
    twin: SimpleNamespace, how: str
) -> None:
    async def chain(call: Any) -> Any:
        if how == "before":
            raise KeyError("before")
        if how == "waits":
            await waiter
        reply = await twin.innermost(call)
        if how == "after":
            raise KeyError("after")
        return value if how == "no reply" else reply

    value, waiter = object(), Waiter()
    stage = Stage(twin, twin.innermost if how == "odd" else chain, lambda given: given)

    def walk(times: int) -> None:
        for _ in range(times):
            stage.go(value)
            for coroutine, *_ in stage.steps.kept:
                coroutine.close()
            stage.steps.kept.clear()

    walk(10)
    gc.collect()
    gc.disable()
    try:
        before, blocks = sys.getrefcount(value), sys.getallocatedblocks()
        walk(ROUNDS)
        assert sys.getrefcount(value) == before
        assert sys.getallocatedblocks() - blocks < ROUNDS // 4
    finally:
        gc.enable()
    await stage.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("fails", [False, True])
async def test_no_call_of_a_chain_caller_leaves_anything(
    twin: SimpleNamespace, begun: bool, fails: bool
) -> None:
    async def chain(call: Any) -> Any:
        if fails:
            raise KeyError("x")
        return twin.ReplyFields(call.args[0])

    one, value = caller(twin, chain), object()

    async def walk(times: int) -> None:
        for _ in range(times):
            pending = one.call("m", value)
            if begun:
                await asyncio.sleep(0)
            with contextlib.suppress(KeyError):
                assert await pending is value
            del pending
            await asyncio.sleep(0)

    await walk(10)
    gc.collect()
    before, blocks = sys.getrefcount(value), sys.getallocatedblocks()
    await walk(ROUNDS)
    gc.collect()
    assert sys.getrefcount(value) == before
    assert sys.getallocatedblocks() - blocks < ROUNDS // 4


@pytest.mark.asyncio
@pytest.mark.parametrize("begun", [False, True])
async def test_a_call_that_failed_is_no_work_for_the_garbage_collector(
    twin: SimpleNamespace, begun: bool
) -> None:
    def failed() -> Any:
        sent = twin.Sent(asyncio.get_running_loop().create_future(), twin.ReplyFields)
        sent.set_exception(KeyError("x"))
        return sent

    async def chain(call: Any) -> Any:
        return await failed()

    one = caller(twin, chain)

    async def walk() -> None:
        pending = one.call("m")
        if begun:
            await asyncio.sleep(0)
        with contextlib.suppress(KeyError):
            await pending
        del pending  # else the error holds this frame, and the frame its task

    await walk()
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            await walk()
            await asyncio.sleep(0)
        assert gc.collect() < 20
    finally:
        gc.enable()
