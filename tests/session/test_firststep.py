"""FirstSteps and Rest: a coroutine has its first step at once, and a task only if it waits."""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import Any

import pytest

from fastrpc.call import Call, Reply
from fastrpc.errors import Internal
from fastrpc.frame import advance
from fastrpc.session.firststep import FirstSteps, Rest

pytestmark = pytest.mark.asyncio
VAR = ContextVar("VAR", default="unset")


class Stage:
    """First steps on the running loop, and what comes of what they leave."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.steps = FirstSteps(self.loop)
        self.told: list[Any] = []

    def begin(self, body: Callable[[], Any]) -> Rest | None:
        """Take the first step of *body* as `Through` does; return its rest if there is one."""
        task, current = self.steps.task(), asyncio.current_task()
        assert current is not None
        context, coroutine = copy_context(), body()
        asyncio.tasks._leave_task(self.loop, current)
        asyncio.tasks._enter_task(self.loop, task)
        try:
            is_over, value = context.run(advance, coroutine)
        finally:
            asyncio.tasks._leave_task(self.loop, task)
            asyncio.tasks._enter_task(self.loop, current)
        if is_over:
            self.told.append(value)
            return None
        return self.steps.keep(coroutine, value, context, Call("A.b", (), {}))

    def go_on(self, rest: Rest | None) -> "asyncio.Task[None]":
        """Let the task finish it."""
        assert rest is not None
        return rest.go_on(self._whole(rest))

    async def run(self, body: Callable[[], Any]) -> Any:
        """Do both, and return what came of it."""
        await self.go_on(self.begin(body))
        return self.told.pop()

    async def _whole(self, rest: Rest) -> None:
        try:
            self.told.append(await rest)
        except BaseException as exc:
            self.told.append(repr(exc))

    async def close(self) -> None:
        """End what is idle; nothing else is left."""
        left = self.steps.close()
        if left:
            await asyncio.wait(left)
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_coroutine_that_waits_goes_on_in_a_task() -> None:
    stage, reply = Stage(), Reply(5)

    async def body() -> Reply:
        for _ in range(3):
            await asyncio.sleep(0)
        await future
        return reply

    future = stage.loop.create_future()
    stage.loop.call_soon(stage.loop.call_soon, future.set_result, None)
    assert await stage.run(body) is reply
    await stage.close()


@pytest.mark.parametrize("error", [KeyError("x"), asyncio.CancelledError("x"), SystemExit(1)])
async def test_its_errors_come_out(error: BaseException) -> None:
    stage = Stage()

    async def body() -> Reply:
        await asyncio.sleep(0)
        raise error

    assert await stage.run(body) == repr(error)
    await stage.close()


async def test_what_it_waits_for_may_fail() -> None:
    stage = Stage()
    future = stage.loop.create_future()

    async def body() -> Reply:
        try:
            await future
        except KeyError as exc:
            await asyncio.sleep(0)
            return Reply(repr(exc))
        raise AssertionError

    future.set_exception(KeyError("x"))
    assert (await stage.run(body)).value == "KeyError('x')"
    await stage.close()


async def test_what_is_no_reply_is_an_error() -> None:
    stage = Stage()

    async def body() -> Any:
        await asyncio.sleep(0)
        return 5

    told = await stage.run(body)
    assert told == repr(Internal("an interceptor of A.b gave int for a Reply", method="A.b"))
    await stage.close()


async def test_what_no_task_can_wait_for_is_an_error() -> None:
    stage = Stage()

    class Odd:
        def __await__(self) -> Any:
            yield "odd"

    async def body() -> Any:
        await Odd()

    assert "bad yield" in await stage.run(body)
    await stage.close()


async def test_all_steps_have_one_task_and_one_context() -> None:
    stage = Stage()
    seen: list[Any] = []

    async def body() -> Reply:
        VAR.set("mine")
        seen.append(asyncio.current_task())
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0))
            await asyncio.sleep(0)
            seen.append(asyncio.current_task())
        seen.append(asyncio.current_task())
        return Reply(VAR.get())

    rest = stage.begin(body)
    task = stage.go_on(rest)
    await task
    assert seen == [task] * 3
    assert stage.told[0].value == "mine"
    assert VAR.get() == "unset"
    await stage.close()


async def test_a_timeout_of_its_first_step_ends_it_later() -> None:
    stage = Stage()

    async def body() -> Reply:
        try:
            async with asyncio.timeout(0):
                await stage.loop.create_future()
        except TimeoutError:
            await asyncio.sleep(0)  # it is not cancelled any more
            return Reply("timeout")
        raise AssertionError

    assert (await stage.run(body)).value == "timeout"
    await stage.close()


async def test_a_task_group_of_its_first_step_ends_it() -> None:
    stage = Stage()

    async def fails() -> None:
        raise KeyError("x")

    async def body() -> Reply:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fails())
                await stage.loop.create_future()
        except* KeyError:
            pass
        await asyncio.sleep(0)
        return Reply("group")

    assert (await stage.run(body)).value == "group"
    await stage.close()


# Cancellation


def waits_for(what: str, stage: Stage) -> Callable[[], Any]:
    """Return a coroutine function that waits, first of all for *what*."""

    async def body() -> Reply:
        try:
            if what == "turn":
                await asyncio.sleep(0)
            elif what == "done":
                future = stage.loop.create_future()
                waiting = future.__await__()
                stage.loop.call_soon(future.set_result, None)
                await _Given(waiting)
            else:
                await stage.loop.create_future()
            for _ in range(9):
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            stage.told.append("cancelled")
            raise
        return Reply("not cancelled")

    return body


class _Given:
    def __init__(self, waiting: Any) -> None:
        self._waiting = waiting

    def __await__(self) -> Any:
        return self._waiting


@pytest.mark.parametrize("what", ["turn", "done", "future"])
@pytest.mark.parametrize("idle", [0, 1, 2], ids="idle for {}".format)
@pytest.mark.parametrize("after", range(4), ids="cancelled after {}".format)
async def test_no_cancellation_is_lost(what: str, idle: int, after: int) -> None:
    """Whether the task was begun or not, and whatever its coroutine waits for."""
    stage = Stage()
    stage.steps.task()
    await turns(idle)
    task = stage.go_on(stage.begin(waits_for(what, stage)))
    await turns(after)
    assert task.cancel()
    await asyncio.wait([task])
    assert stage.told == ["cancelled", "CancelledError()"]
    await turns(1)  # what was put off to the next turn has been
    await stage.close()


@pytest.mark.parametrize("idle", [0, 2])
async def test_what_is_done_already_is_not_waited_for_by_who_is_cancelled(idle: int) -> None:
    stage = Stage()
    stage.steps.task()
    await turns(idle)
    future = stage.loop.create_future()

    async def body() -> Reply:
        await future
        await asyncio.sleep(0)
        return Reply("not cancelled")

    rest = stage.begin(body)
    future.set_result(None)
    task = stage.go_on(rest)
    task.cancel()
    await task
    assert stage.told == ["CancelledError()"]
    await stage.close()


@pytest.mark.parametrize("idle", [0, 2])
async def test_who_was_cancelled_may_clean_up(idle: int) -> None:
    stage = Stage()
    stage.steps.task()
    await turns(idle)

    async def body() -> Reply:
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        return Reply("swallowed")

    task = stage.go_on(stage.begin(body))
    task.cancel()
    await task
    assert stage.told[0].value == "swallowed"
    await stage.close()


@pytest.mark.parametrize("idle", [0, 2])
async def test_a_first_step_that_cancels_its_own_task_is_cancelled_where_it_waits(
    idle: int,
) -> None:
    stage = Stage()
    stage.steps.task()
    await turns(idle)

    async def body() -> Reply:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await stage.loop.create_future()
        raise AssertionError

    assert await stage.run(body) == "CancelledError()"
    await stage.close()


@pytest.mark.parametrize("idle", [0, 2])
async def test_a_task_that_was_cancelled_in_a_first_step_is_not_used_again(idle: int) -> None:
    stage = Stage()
    first = stage.steps.task()
    await turns(idle)

    async def cancels() -> Reply:
        first.cancel()
        return Reply("over")

    async def waits() -> Reply:
        await asyncio.sleep(0)
        return Reply("waited")

    assert stage.begin(cancels) is None
    assert stage.steps.task() is not first
    assert (await stage.run(waits)).value == "waited"
    await asyncio.wait([first])
    assert first.cancelled()
    await stage.close()


# The end


async def test_a_rest_that_is_closed_closes_its_coroutine() -> None:
    stage = Stage()

    async def body() -> Reply:
        VAR.set("mine")
        try:
            await stage.loop.create_future()
        finally:
            stage.told.append(VAR.get())
        raise AssertionError

    rest = stage.begin(body)
    assert rest is not None
    waiting = rest.__await__()
    waiting.send(None)
    waiting.close()
    assert stage.told == ["mine"]
    with pytest.raises(StopIteration):
        next(waiting)
    left = rest.go_on(_nothing())
    await left
    await stage.close()


async def _nothing() -> None:
    pass


async def test_a_coroutine_that_does_not_let_itself_be_closed_says_so() -> None:
    stage = Stage()

    async def stubborn() -> Reply:
        try:
            await asyncio.sleep(0)
        except GeneratorExit:
            await asyncio.sleep(0)
        raise AssertionError

    rest = stage.begin(stubborn)
    assert rest is not None
    waiting = rest.__await__()
    waiting.send(None)
    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        waiting.close()
    await rest.go_on(_nothing())
    await stage.close()


async def test_a_task_serves_all_that_end_in_their_first_step() -> None:
    stage = Stage()

    async def body() -> Reply:
        stage.told.append(asyncio.current_task())
        return Reply(None)

    tasks = {stage.steps.task()}
    for _ in range(5):
        assert stage.begin(body) is None
        tasks |= {stage.told[-2], stage.steps.task()}
        await turns(1)
    assert len(tasks) == 1
    await stage.close()


async def test_a_task_that_was_handed_a_coroutine_is_never_used_again() -> None:
    stage = Stage()

    async def body() -> Reply:
        await asyncio.sleep(0)
        return Reply(None)

    seen = []
    for _ in range(5):
        rest = stage.begin(body)
        seen.append(stage.go_on(rest))
        assert stage.steps.task() not in seen
    assert len(set(seen)) == 5
    await asyncio.wait(seen)
    await stage.close()


async def test_many_are_in_flight() -> None:
    stage = Stage()

    def waits(number: int) -> Callable[[], Any]:
        async def body() -> Reply:
            VAR.set(str(number))
            await turns(number % 5 + 1)
            return Reply((number, VAR.get(), asyncio.current_task()))

        return body

    tasks = [stage.go_on(stage.begin(waits(number))) for number in range(200)]
    await asyncio.wait(tasks)
    told = sorted(reply.value[:2] for reply in stage.told)
    assert told == [(number, str(number)) for number in range(200)]
    assert {reply.value[2] for reply in stage.told} == set(tasks)
    await stage.close()


@pytest.mark.parametrize("idle", [None, 0, 1, 2])
async def test_closing_leaves_no_task(idle: int | None) -> None:
    stage = Stage()
    before = asyncio.all_tasks()
    if idle is not None:
        stage.steps.task()
        await turns(idle)
    left = stage.steps.close()
    assert left == asyncio.all_tasks() - before
    assert len(left) == (idle is not None)
    if left:
        await asyncio.wait(left)
        assert all(task.cancelled() for task in left)
    assert stage.steps.close() == set()


async def test_closing_lets_go_on_what_has_been_handed_over() -> None:
    stage = Stage()

    async def body() -> Reply:
        await turns(3)
        return Reply("end")

    task = stage.go_on(stage.begin(body))
    assert stage.steps.close() == set()
    await task
    assert stage.told[0].value == "end"
    await stage.close()


async def test_a_task_that_was_cancelled_and_spared_is_not_used_again() -> None:
    stage = Stage()

    async def spares() -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        task.uncancel()
        return "spared"

    stage.begin(spares)
    spoilt = stage.steps._spare
    assert spoilt is not None
    await asyncio.sleep(0)
    assert stage.steps.task() is not spoilt.task
    for task in stage.steps.close():
        await asyncio.wait([task])
