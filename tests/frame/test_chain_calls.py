"""Pending and ChainCaller: calls through interceptors run where they are awaited, or in a task."""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

import pytest

from fastrpc._caller_py import LEAST
from fastrpc.errors import Internal
from tests.frame.halves import Job
from tests.frame.rig import Rig, Waiter

VAR = ContextVar("VAR", default="unset")
INHERITED = ContextVar("INHERITED", default=0.0)


@pytest.fixture
def rig(twin: SimpleNamespace) -> Rig:
    return Rig(twin)


class Chain:
    """A chain as a test wants it: awaits what it is told to, and notes where it ran."""

    def __init__(self, twin: SimpleNamespace, *waits: Awaitable[Any], gives: Any = None) -> None:
        self.twin = twin
        self.waits = waits
        self.gives = twin.ReplyFields("value") if gives is None else gives
        self.log: list[Any] = []

    async def __call__(self, call: Any) -> Any:
        self.log.append(("begins", VAR.get()))
        try:
            for thing in self.waits:
                self.log.append(await thing)
            if isinstance(self.gives, BaseException):
                raise self.gives
            return self.gives
        except BaseException as exc:
            self.log.append(type(exc).__name__)
            raise
        finally:
            self.log.append("ends")

    def pending(self) -> Any:
        return self.twin.Pending(self(None), "A.b")


def caller(twin: SimpleNamespace, chain: Any, **options: Any) -> Any:
    given = {"timeout": 0.0, "metadata": b"", "inherited": INHERITED, "clock": lambda: 100.0}
    sender = twin.Sender([], _slow, None, print, twin.ReplyFields, print)
    return twin.ChainCaller(chain, sender, twin.CallFields, **{**given, **options})


def _slow(call: Any, decode: Any) -> Any:
    raise AssertionError("nothing is sent here")


# By hand


def test_it_runs_where_it_is_awaited(twin: SimpleNamespace) -> None:
    first, second = Waiter(), Waiter()
    chain = Chain(twin, first, second)
    pending = chain.pending()
    assert chain.log == []
    job = Job(pending).step()
    assert job.waits is first
    first.set_result(1)
    job.step()
    assert job.waits is second
    second.set_result(2)
    assert job.step().told == ("returned", "value")
    assert chain.log[1:] == [1, 2, "ends"]


@pytest.mark.parametrize("value", [None, (), (1, 2), StopIteration(1), KeyError("x")])
@pytest.mark.parametrize("how", ["send", "next", "throw"])
def test_any_value_comes_out_as_it_went_in(twin: SimpleNamespace, value: Any, how: str) -> None:
    async def chain() -> Any:
        try:
            if how == "throw":
                await Waiter()
        except KeyError:
            pass
        return twin.ReplyFields(value)

    step = twin.Pending(chain(), "A.b").__await__()
    if how == "throw":
        step.send(None)
    with pytest.raises(StopIteration) as told:
        {"send": lambda: step.send(None), "next": lambda: next(iter(step)),
         "throw": lambda: step.throw(KeyError("y"))}[how]()  # fmt: skip
    assert told.value.value is value


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("error", [KeyError("x"), SystemExit(1), asyncio.CancelledError()])
def test_errors_of_the_chain_come_out(
    twin: SimpleNamespace, waits: bool, error: BaseException
) -> None:
    waiter = Waiter()
    job = Job(Chain(twin, *[waiter] * waits, gives=error).pending())
    if waits:
        job.step()
        waiter.set_result(1)
    assert job.step().told == ("raised", type(error).__name__, str(error))


@pytest.mark.parametrize("how", ["at once", "later", "after a throw"])
def test_what_is_no_reply_is_an_error(twin: SimpleNamespace, how: str) -> None:
    async def chain() -> Any:
        try:
            if how != "at once":
                await waiter
        except asyncio.CancelledError:
            assert how == "after a throw"
        return 5

    waiter = Waiter()
    job = Job(twin.Pending(chain(), "A.b"))
    if how != "at once":
        job.step()
        job.cancel() if how == "after a throw" else waiter.set_result(1)
    told = job.step().told
    assert told == ("raised", "Internal", "an interceptor of A.b gave int for a Reply")


def test_a_stop_iteration_of_a_chain_is_an_error_like_another(twin: SimpleNamespace) -> None:
    job = Job(Chain(twin, gives=StopIteration(5)).pending()).step()
    assert job.told == ("raised", "RuntimeError", "coroutine raised StopIteration")


def test_a_chain_may_go_on_after_a_throw(twin: SimpleNamespace) -> None:
    async def chain() -> Any:
        try:
            await first
        except KeyError as exc:
            return twin.ReplyFields([str(exc), await second])

    first, second = Waiter(), Waiter()
    step = twin.Pending(chain(), "A.b").__await__()
    assert step.send(None) is first
    assert step.throw(KeyError("thrown")) is second
    second.set_result(2)
    with pytest.raises(StopIteration) as told:
        step.send(None)
    assert told.value.value == ["'thrown'", 2]


@pytest.mark.filterwarnings("ignore:the .* signature of throw:DeprecationWarning")
def test_a_throw_in_three_parts_reaches_the_chain(twin: SimpleNamespace) -> None:
    for way in ((KeyError,), (KeyError, KeyError("x")), (KeyError, KeyError("x"), None)):
        chain = Chain(twin, Waiter())
        step = chain.pending().__await__()
        step.send(None)
        with pytest.raises(KeyError):
            step.throw(*way)
        assert chain.log[1:] == ["KeyError", "ends"]


@pytest.mark.parametrize("how", ["close", "drop"])
def test_who_gives_up_closes_the_chain(twin: SimpleNamespace, how: str) -> None:
    chain = Chain(twin, Waiter())
    step = chain.pending().__await__()
    step.send(None)
    if how == "close":
        step.close()
    del step
    assert chain.log[1:] == ["GeneratorExit", "ends"]


def test_a_chain_that_does_not_let_itself_be_closed_says_so(twin: SimpleNamespace) -> None:
    async def stubborn() -> None:
        try:
            await Waiter()
        except GeneratorExit:
            await Waiter()

    step = twin.Pending(stubborn(), "A.b").__await__()
    step.send(None)
    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        step.close()


def test_it_is_awaited_once(twin: SimpleNamespace) -> None:
    pending = Chain(twin).pending()
    assert Job(pending).step().told == ("returned", "value")
    with pytest.raises(RuntimeError, match="a call with interceptors can be awaited once"):
        pending.__await__()


def test_a_chain_may_be_anything_that_can_be_awaited(twin: SimpleNamespace) -> None:
    sent = twin.Sent(Waiter(), twin.ReplyFields)
    job = Job(twin.Pending(sent, "A.b")).step()
    sent.set_result(5)
    assert job.step().told == ("returned", 5)
    assert Job(twin.Pending(twin.Done(twin.ReplyFields(6)), "A.b")).step().told == ("returned", 6)


def test_what_awaiting_gives_is_its_own_iterator(twin: SimpleNamespace) -> None:
    async def awaiting() -> Any:
        return await _Given(Chain(twin).pending().__await__())

    assert Job(awaiting()).step().told == ("returned", "value")


class _Given:
    def __init__(self, step: Any) -> None:
        self._step = step

    def __await__(self) -> Any:
        return iter(self._step)


@pytest.mark.parametrize("thing", [5, object])
def test_a_chain_that_can_not_be_awaited_is_an_error(twin: SimpleNamespace, thing: Any) -> None:
    (what, kind, text) = Job(twin.Pending(thing, "A.b")).step().told
    assert (what, kind) == ("raised", "TypeError")
    assert "can't be used in 'await' expression" in text


def test_a_call_has_the_deadline_and_the_metadata_of_its_caller(twin: SimpleNamespace) -> None:
    one = caller(twin, print, timeout=5.0, metadata=b"md")
    call = one.make("A.b", (1,), {"k": 2}, "sender")
    assert type(call) is twin.CallFields
    assert (call.method, call.args, call.kwargs, call.sender) == ("A.b", (1,), {"k": 2}, "sender")
    assert (call.deadline, call.packed_metadata, call.number) == (105.0, b"md", 0)
    assert (call.source, call.items, call.passed, call.reply_metadata) == (None, None, None, ())
    assert (call.is_called, call.is_oneway) == (False, False)


@pytest.mark.parametrize(
    ("timeout", "deadline", "made"),
    [(0.0, 0.0, 0.0), (5.0, 0.0, 105.0), (0.0, 103.0, 103.0), (5.0, 103.0, 103.0),
     (2.0, 103.0, 102.0), (5.0, 50.0, 100.0 + LEAST)],
)  # fmt: skip
def test_a_call_inside_a_call_has_what_is_left_of_it(
    twin: SimpleNamespace, timeout: float, deadline: float, made: float
) -> None:
    token = INHERITED.set(deadline)
    call = caller(twin, print, timeout=timeout).make("m", (), {}, None)
    INHERITED.reset(token)
    assert call.deadline == pytest.approx(made, abs=1e-9)


@pytest.mark.parametrize("name", [None, 5, b"m"])
def test_methods_are_named_by_text(twin: SimpleNamespace, name: Any) -> None:
    one = caller(twin, _slow)
    with pytest.raises(TypeError):
        one.call(name)
    with pytest.raises(TypeError):
        one.send(None, name)
    with pytest.raises(TypeError):
        one.call()


def test_a_call_needs_a_loop(twin: SimpleNamespace) -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        caller(twin, _slow).call("m")


# On a loop


async def until(chain: Chain) -> None:
    """Let the loop turn until *chain* has ended."""
    while chain.log[-1:] != ["ends"]:
        await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_awaited_at_once_it_has_no_task_of_its_own(twin: SimpleNamespace) -> None:
    tasks = []

    async def chain(call: Any) -> Any:
        tasks.append(asyncio.current_task())
        return twin.ReplyFields([call.method, call.args, call.kwargs])

    one = caller(twin, chain)
    assert await one.call("m", 1, k=2) == ["m", (1,), {"k": 2}]
    assert await one.call("m", self=1, method=2) == ["m", (), {"self": 1, "method": 2}]
    assert await one.send("sender", "n", 3, sender=4) == ["n", (3,), {"sender": 4}]
    assert set(tasks) == {asyncio.current_task()}


@pytest.mark.asyncio
async def test_the_innermost_handler_is_the_one_that_was_asked_for(twin: SimpleNamespace) -> None:
    async def chain(call: Any) -> Any:
        return twin.ReplyFields(call.sender)

    one = caller(twin, chain)
    assert type(await one.call("m")) is twin.Sender
    assert await one.send("mine", "m") == "mine"


@pytest.mark.asyncio
async def test_what_nobody_awaits_runs_in_a_task_from_the_next_turn_on(
    twin: SimpleNamespace,
) -> None:
    chain = Chain(twin, asyncio.sleep(0))
    caller(twin, chain).call("m")
    assert chain.log == []
    await until(chain)
    assert chain.log == [("begins", "unset"), None, "ends"]


@pytest.mark.asyncio
async def test_what_was_begun_may_be_awaited_by_many(twin: SimpleNamespace) -> None:
    chain = Chain(twin, asyncio.sleep(0))
    pending = caller(twin, chain).call("m")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert chain.log
    assert [await pending, await pending] == ["value"] * 2
    pending.begin()  # again: nothing
    assert await asyncio.gather(pending, pending) == ["value"] * 2
    assert chain.log.count("ends") == 1


@pytest.mark.asyncio
async def test_begin_after_awaiting_does_nothing(twin: SimpleNamespace) -> None:
    event = asyncio.Event()
    chain = Chain(twin, event.wait())
    pending = chain.pending()

    async def awaiting() -> Any:
        return await pending

    task = asyncio.create_task(awaiting())
    await asyncio.sleep(0)
    before = asyncio.all_tasks()
    pending.begin()
    assert asyncio.all_tasks() == before
    event.set()
    assert await task == "value"


@pytest.mark.asyncio
async def test_many_calls_of_one_turn_all_run(twin: SimpleNamespace) -> None:
    async def chain(call: Any) -> Any:
        await asyncio.sleep(0)
        return twin.ReplyFields(call.args[0])

    one = caller(twin, chain)
    for _ in range(2):  # and of the next
        assert await asyncio.gather(*[one.call("m", n) for n in range(50)]) == list(range(50))


@pytest.mark.asyncio
async def test_calls_of_one_turn_have_each_the_context_they_were_made_in(
    twin: SimpleNamespace,
) -> None:
    async def chain(call: Any) -> Any:
        return twin.ReplyFields((call.args[0], VAR.get()))

    one = caller(twin, chain)

    async def calling(name: str) -> Any:
        VAR.set(name)
        pending = one.call("m", name)
        VAR.set("later")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return await pending

    told = await asyncio.gather(*map(calling, "abc"))
    assert told == [("a", "a"), ("b", "b"), ("c", "c")]


@pytest.mark.asyncio
async def test_a_chain_that_raises_when_it_is_called_disturbs_no_other(
    twin: SimpleNamespace,
) -> None:
    def chain(call: Any) -> Any:
        if call.args:
            raise KeyError("now")
        return twin.Done(twin.ReplyFields("value"))

    one = caller(twin, chain)
    with pytest.raises(KeyError, match="now"):
        one.call("m", 1)
    pending = one.call("m")
    with pytest.raises(KeyError, match="now"):
        one.call("m", 1)
    await asyncio.sleep(0)
    assert await pending == "value"


@pytest.mark.asyncio
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("gives", [KeyError("x"), 5])
async def test_errors_come_out_in_a_task_as_well(
    twin: SimpleNamespace, begun: bool, gives: Any
) -> None:
    pending = caller(twin, Chain(twin, asyncio.sleep(0), gives=gives)).call("A.b")
    if begun:
        await asyncio.sleep(0)
    with pytest.raises(Internal if gives == 5 else KeyError, match="A.b gave int|x"):
        await pending


@pytest.mark.asyncio
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("turns", [1, 2, 3])
async def test_cancelling_who_awaits_cancels_the_chain(
    twin: SimpleNamespace, begun: bool, turns: int
) -> None:
    chain = Chain(twin, asyncio.get_running_loop().create_future())
    pending = caller(twin, chain).call("m")
    if begun:
        await asyncio.sleep(0)

    async def awaiting() -> Any:
        return await pending

    task = asyncio.create_task(awaiting())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert chain.log[1:] in (["CancelledError", "ends"], [])  # a task may not have begun


@pytest.mark.asyncio
@pytest.mark.parametrize("begun", [False, True])
async def test_tools_of_asyncio_take_it(twin: SimpleNamespace, begun: bool) -> None:
    tools: list[Callable[[Any], Any]] = [
        asyncio.ensure_future, asyncio.gather, asyncio.shield, lambda it: asyncio.wait_for(it, 60),
    ]  # fmt: skip
    for tool in tools:
        pending = caller(twin, Chain(twin, asyncio.sleep(0))).call("m")
        if begun:
            await asyncio.sleep(0)
        assert await tool(pending) in ("value", ["value"])


@pytest.mark.asyncio
async def test_a_timeout_around_it_ends_it(twin: SimpleNamespace) -> None:
    chain = Chain(twin, asyncio.get_running_loop().create_future())
    pending = caller(twin, chain).call("m")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await pending
    assert chain.log[1:] == ["CancelledError", "ends"]


@pytest.mark.asyncio
async def test_a_chain_through_a_lane(rig: Rig) -> None:
    twin = rig.twin

    async def chain(call: Any) -> Any:
        call.args = (2 * call.args[0],)
        reply = await twin.innermost(call)
        reply.value = ["seen", reply.value, reply.packed_metadata]
        return reply

    rig.share = twin.LoopShare(
        asyncio.get_running_loop().create_future, rig.soon.append, lambda: 100.0, lambda: True, 0,
        rig,
    )  # fmt: skip
    rig.lane = twin.Lane(rig.owner, rig.share, 2**20)
    other = Rig(twin)
    rig.lane.encoders, rig.lane.decoders = other.lane.encoders, other.lane.decoders
    rig.lane.attach(rig._write, rig._writelines)
    rig.lane.opened = rig.lane.ready = True
    sender = twin.Sender([rig.lane], _slow, None, print, twin.ReplyFields, print)
    one = twin.ChainCaller(chain, sender, twin.CallFields, 0.0, b"", INHERITED, lambda: 100.0)
    pending = one.call("m", 4)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    rig.answer(1, "found")
    assert await pending == ["seen", "found", b""]


def test_a_call_that_is_never_run_is_told_of(twin: SimpleNamespace) -> None:
    pending = [Chain(twin).pending()]
    with pytest.warns(RuntimeWarning, match="was never awaited"):
        pending.clear()
