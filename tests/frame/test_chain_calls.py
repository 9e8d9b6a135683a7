"""Pending and ChainCaller by hand: calls through interceptors run where they are awaited."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from fastrpc._caller_py import LEAST
from tests.frame.chains import INHERITED, Chain, caller, refuse
from tests.frame.halves import Job
from tests.frame.rig import Rig, Waiter


@pytest.fixture
def rig(twin: SimpleNamespace) -> Rig:
    return Rig(twin)


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
    one = caller(twin, refuse)
    with pytest.raises(TypeError):
        one.call(name)
    with pytest.raises(TypeError):
        one.send(None, name)
    with pytest.raises(TypeError):
        one.call()


def test_a_call_needs_a_loop(twin: SimpleNamespace) -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        caller(twin, refuse).call("m")


def test_a_call_that_is_never_run_is_told_of(twin: SimpleNamespace) -> None:
    pending = [Chain(twin).pending()]
    with pytest.warns(RuntimeWarning, match="was never awaited"):
        pending.clear()
