"""Through: a call goes through the interceptors as far as it goes without waiting."""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from types import SimpleNamespace
from typing import Any

import pytest

from fastrpc import wire
from fastrpc.errors import Internal
from tests.frame.chains import VAR, Stage
from tests.frame.rig import Waiter


def passing(twin: SimpleNamespace) -> Callable[[Any], Any]:
    async def chain(call: Any) -> Any:
        return await twin.innermost(call)

    return chain


@pytest.mark.asyncio
async def test_a_call_that_does_not_wait_is_over(twin: SimpleNamespace) -> None:
    stage = Stage(twin, passing(twin))
    over, reply = stage.go(1, 2)
    assert over is True
    assert type(reply) is twin.ReplyFields
    assert (reply.value, stage.steps.kept) == (["handled", 1, 2], [])
    await stage.close()


@pytest.mark.asyncio
async def test_interceptors_see_the_whole_call(twin: SimpleNamespace) -> None:
    async def chain(call: Any) -> Any:
        seen.append(call)
        return await twin.innermost(call)

    seen: list[Any] = []
    stage = Stage(twin, chain)
    stage.go(1, id=9, time=5000, metadata=b"md")
    stage.go(flags=wire.FLAG_ONEWAY)
    call, oneway = seen
    assert type(call) is twin.CallFields
    assert (call.method, call.args, call.kwargs, call.number) == ("A.b", (1,), {}, 9)
    assert (call.packed_metadata, call.source, call.deadline) == (b"md", stage.owner, 105.0)
    assert (call.items, call.passed, call.reply_metadata) == (None, None, ())
    assert (call.is_oneway, call.is_called) == (False, True)
    assert (oneway.is_oneway, oneway.deadline) == (True, 0.0)
    await stage.close()


@pytest.mark.asyncio
async def test_a_call_that_waits_is_handed_over(twin: SimpleNamespace) -> None:
    async def chain(call: Any) -> Any:
        seen.append(call)
        VAR.set("mine")
        await waiter
        return await twin.innermost(call)

    seen: list[Any] = []
    waiter = Waiter()
    stage = Stage(twin, chain)
    over, rest = stage.go(1)
    assert over is False
    assert rest == ("rest", *stage.steps.kept[0])
    ((coroutine, waited, context, call),) = stage.steps.kept
    assert waited is waiter
    assert [call] == seen
    assert not call.is_called
    assert context[VAR] == "mine"
    waiter.set_result(1)
    over, reply = twin.advance(coroutine)
    assert (over, reply.value) == (True, ["handled", 1])
    await stage.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("error", [KeyError("x"), SystemExit(1), asyncio.CancelledError()])
async def test_errors_before_the_handler_are_handed_back_and_later_ones_raised(
    twin: SimpleNamespace, error: BaseException
) -> None:
    async def before(call: Any) -> Any:
        raise error

    async def after(call: Any) -> Any:
        await twin.innermost(call)
        raise error

    def inside() -> Any:
        raise error

    stages = [Stage(twin, before), Stage(twin, after), Stage(twin, passing(twin), inside)]
    over, found = stages[0].go()
    assert over is False
    assert found is error
    assert stages[1].go() is error
    assert stages[2].go() is error
    for stage in stages:
        assert stage.go() is not None  # and it goes on
        await stage.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("is_called", [False, True])
async def test_what_is_no_reply_is_an_error(twin: SimpleNamespace, is_called: bool) -> None:
    async def chain(call: Any) -> Any:
        if is_called:
            await twin.innermost(call)
        return 5

    stage = Stage(twin, chain)
    told = stage.go()
    error = told if is_called else told[1]
    assert is_called or told[0] is False
    assert type(error) is Internal
    assert str(error) == "an interceptor of A.b gave int for a Reply"
    await stage.close()


@pytest.mark.asyncio
async def test_a_stop_iteration_of_a_handler_is_an_error_like_another(
    twin: SimpleNamespace,
) -> None:
    def stops() -> Any:
        raise StopIteration(5)

    stage = Stage(twin, passing(twin), stops)
    assert repr(stage.go()) == "RuntimeError('coroutine raised StopIteration')"
    bare = Stage(twin, twin.innermost, stops)  # no coroutine around it
    assert repr(bare.go()) == "StopIteration(5)"
    for one in (stage, bare):
        await one.close()


@pytest.mark.asyncio
async def test_a_chain_may_be_anything_that_can_be_awaited(twin: SimpleNamespace) -> None:
    waiter = Waiter()
    sent = twin.Sent(waiter, twin.ReplyFields)
    bare, waits, wrong = (
        Stage(twin, chain) for chain in (twin.innermost, lambda call: sent, lambda call: 5)
    )
    assert bare.go(1)[1].value == ["handled", 1]
    assert waits.go()[0] is False
    ((coroutine, waited, *_),) = waits.steps.kept
    assert waited is waiter
    coroutine.close()
    over, error = wrong.go()
    assert over is False
    assert "can't be used in 'await' expression" in str(error)
    for stage in (bare, waits, wrong):
        await stage.close()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("everywhere", "here", "runs"), [(2, 1, True), (3, 0, False), (0, 2, False)]
)
async def test_limits(twin: SimpleNamespace, everywhere: int, here: int, runs: bool) -> None:
    """At most 3 of all connections and 2 of this one."""
    called: list[Any] = []
    stage = Stage(twin, passing(twin), lambda: called.append(1))
    stage.running.extend(range(everywhere))
    stage.owner.running.extend(range(here))
    assert (stage.go() == (False, None)) is not runs
    assert bool(called) is runs
    await stage.close()


@pytest.mark.asyncio
async def test_where_another_task_runs_it_does_not_begin(twin: SimpleNamespace) -> None:
    stage = Stage(twin, passing(twin))
    assert stage.through(stage.owner, 0, 1, 0, b"", ()) == (False, None)
    assert asyncio.current_task() is not stage.steps.idle
    assert stage.go()[0] is True
    await stage.close()


@pytest.mark.asyncio
async def test_a_call_inside_the_first_step_of_another_does_not_begin(
    twin: SimpleNamespace,
) -> None:
    def handler(*args: Any) -> Any:
        return stage.through(stage.owner, 0, 1, 0, b"", ()) if args else "inner"

    stage = Stage(twin, passing(twin), handler)
    over, reply = stage.go(1)
    assert (over, reply.value) == (True, (False, None))
    await stage.close()


@pytest.mark.asyncio
async def test_a_step_runs_in_the_name_of_the_idle_task(twin: SimpleNamespace) -> None:
    async def chain(call: Any) -> Any:
        async with asyncio.timeout(60), asyncio.TaskGroup():
            seen.append(asyncio.current_task())
            return await twin.innermost(call)

    seen: list[Any] = []
    stage = Stage(twin, chain, lambda: seen.append(asyncio.current_task()))
    assert stage.go()[0] is True
    assert seen == [stage.steps.idle] * 2
    await stage.close()


@pytest.mark.asyncio
async def test_each_call_has_a_context_of_its_own(twin: SimpleNamespace) -> None:
    async def chain(call: Any) -> Any:
        seen.append(VAR.get())
        VAR.set(call.args[0])
        return await twin.innermost(call)

    seen: list[Any] = []
    stage = Stage(twin, chain, lambda name: VAR.get())
    token = VAR.set("outside")
    assert [stage.go(name)[1].value for name in "abc"] == ["a", "b", "c"]
    assert seen == ["outside"] * 3
    assert VAR.get() == "outside"
    VAR.reset(token)
    await stage.close()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("time", "outside", "has_limit", "seen"),
    [(0, 0.0, False, 0.0), (5000, 0.0, False, 105.0), (5000, 7.0, False, 105.0),
     (0, 7.0, False, 0.0), (0, 7.0, True, 100.0)],
)  # fmt: skip
async def test_the_deadline_is_that_of_the_call(
    twin: SimpleNamespace, time: int, outside: float, has_limit: bool, seen: float
) -> None:
    """Never that of whoever made the connection."""

    async def chain(call: Any) -> Any:
        found.append((call.deadline, stage.inherited.get()))
        return await twin.innermost(call)

    found: list[Any] = []
    stage = Stage(twin, chain, has_limit=has_limit)
    stage.inherited.set(outside)
    stage.go(time=time)
    assert found == [(seen, seen)]
    assert stage.inherited.get() == outside
    await stage.close()


@pytest.mark.asyncio
async def test_an_interceptor_may_shorten_the_deadline(twin: SimpleNamespace) -> None:
    async def chain(call: Any) -> Any:
        call.deadline = 101.0
        return await twin.innermost(call)

    stage = Stage(twin, chain, lambda: stage.inherited.get())
    assert stage.go(time=5000)[1].value == 101.0
    await stage.close()


@pytest.mark.asyncio
async def test_a_variable_without_a_value_is_an_error_of_its_owner(twin: SimpleNamespace) -> None:
    stage = Stage(twin, passing(twin), inherited=ContextVar("none"))
    over, error = stage.go()
    assert (over, type(error)) == (False, LookupError)
    await stage.close()


def test_the_context_is_left_as_it_was(twin: SimpleNamespace) -> None:
    """A first step outside of a task may set what it likes."""

    async def main() -> None:
        async def chain(call: Any) -> Any:
            VAR.set("inside")
            if call.args:
                raise KeyError
            return await twin.innermost(call)

        stage = Stage(twin, chain)
        stage.go()
        stage.go(1)
        assert VAR.get() == "unset"
        await stage.close()

    copy_context().run(asyncio.run, main())
