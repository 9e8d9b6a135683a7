"""What a chain of interceptors is made of: calls, replies, and what is awaited in their turn."""

import asyncio
from collections.abc import Generator
from types import SimpleNamespace, coroutine
from typing import Any

import pytest

from fastrpc.errors import Internal
from tests.frame.chains import call_of
from tests.frame.halves import Job
from tests.frame.rig import Rig, Waiter

PIECES = ["Done", "Sent"]


@pytest.fixture
def rig(twin: SimpleNamespace) -> Rig:
    return Rig(twin)


def done_sent(twin: SimpleNamespace) -> Any:
    """Return a call that has left and has its outcome."""
    sent = twin.Sent(Waiter(), twin.ReplyFields)
    sent.set_result(5)
    return sent


def piece(twin: SimpleNamespace, name: str) -> Any:
    """Return something that gives its outcome at once when it is awaited."""
    return twin.Done(5) if name == "Done" else done_sent(twin)


# Fields


def test_a_call_keeps_what_it_is_given(twin: SimpleNamespace) -> None:
    call = twin.CallFields("m", (1,), {"k": 2}, b"md", 5.5, "source", 7, True, "items")
    assert (call.method, call.args, call.kwargs, call.packed_metadata) == (
        "m", (1,), {"k": 2}, b"md",
    )  # fmt: skip
    assert (call.deadline, call.source, call.number, call.items) == (5.5, "source", 7, "items")
    assert call.is_oneway is True
    assert (call.reply_metadata, call.sender, call.passed) == ((), None, None)
    assert call.is_called is False


def test_a_call_needs_little(twin: SimpleNamespace) -> None:
    call = twin.CallFields("m", (), {})
    assert (call.packed_metadata, call.deadline, call.source, call.number) == (b"", 0.0, None, 0)
    assert (call.is_oneway, call.items) == (False, None)


def test_a_reply_keeps_what_it_is_given(twin: SimpleNamespace) -> None:
    reply = twin.ReplyFields()
    assert (reply.value, reply.packed_metadata, reply.items) == (None, b"", None)
    reply = twin.ReplyFields(1, b"md", "items")
    assert (reply.value, reply.packed_metadata, reply.items) == (1, b"md", "items")


# Small functions


def test_an_interceptor_that_makes_a_call_of_its_own_is_told(twin: SimpleNamespace) -> None:
    with pytest.raises(Internal, match="made a call of its own; change the one it is given"):
        twin.innermost(call_of(twin))


def test_the_innermost_handler_is_what_the_call_brings(twin: SimpleNamespace) -> None:
    call = call_of(twin, sender=lambda given: ("sent", given))
    assert twin.innermost(call) == ("sent", call)


@pytest.mark.parametrize("thing", [None, 5, "call"])
def test_the_innermost_handler_takes_calls_only(twin: SimpleNamespace, thing: Any) -> None:
    with pytest.raises(TypeError):
        twin.innermost(thing)


def test_a_reply_is_checked(twin: SimpleNamespace) -> None:
    reply = twin.ReplyFields(5)
    assert twin.checked(reply, "A.b") is reply
    sub = type("Sub", (twin.ReplyFields,), {})()
    assert twin.checked(sub, "A.b") is sub


@pytest.mark.parametrize("thing", [None, 5, "x", ReferenceError])
def test_what_is_no_reply_is_an_error_that_names_the_method(
    twin: SimpleNamespace, thing: Any
) -> None:
    kind = type(thing).__name__
    with pytest.raises(Internal, match=rf"^an interceptor of A\.b gave {kind} for a Reply") as told:
        twin.checked(thing, "A.b")
    assert told.value.method == "A.b"


@coroutine
def turns(*values: Any) -> Generator[Any, None, str]:
    yield from values
    return "end"


async def raising(error: BaseException) -> None:
    raise error


def test_a_step_ends_it_or_tells_what_it_waits_for(twin: SimpleNamespace) -> None:
    async def waits() -> str:
        return await turns("one", None)

    for coro in (waits(), turns("one", None)):
        told = [twin.advance(coro) for _ in range(3)]
        assert told == [(False, "one"), (False, None), (True, "end")]


@pytest.mark.parametrize("value", [None, (), (1, 2), StopIteration(7), KeyError("x")])
def test_whatever_a_coroutine_returns_is_its_result(twin: SimpleNamespace, value: Any) -> None:
    async def gives() -> Any:
        return value

    over, found = twin.advance(gives())
    assert over is True
    assert found is value


@pytest.mark.parametrize("error", [KeyError("x"), asyncio.CancelledError("x"), SystemExit(3)])
def test_errors_of_a_step_are_raised(twin: SimpleNamespace, error: BaseException) -> None:
    with pytest.raises(type(error)) as told:
        twin.advance(raising(error))
    assert told.value is error


def test_a_step_is_for_coroutines(twin: SimpleNamespace) -> None:
    with pytest.raises(AttributeError, match="send"):
        twin.advance(5)
    closed = turns(1)
    closed.close()
    assert twin.advance(closed) == (True, None)


# What is awaited


@pytest.mark.parametrize("name", PIECES)
def test_awaited_it_is_over_at_once(twin: SimpleNamespace, name: str) -> None:
    thing = piece(twin, name)
    for _ in range(2):
        (what, value) = Job(thing).step().told
        assert (what, getattr(value, "value", value)) == ("returned", 5)
    with pytest.raises(StopIteration) as told:
        next(iter(thing.__await__()))
    assert getattr(told.value.value, "value", told.value.value) == 5


@pytest.mark.parametrize("value", [(1, 2), (), None, StopIteration(1), KeyError("x")])
def test_any_value_comes_out_as_it_went_in(twin: SimpleNamespace, value: Any) -> None:
    for ask in (lambda step: step.send(None), next):
        with pytest.raises(StopIteration) as told:
            ask(twin.Done(value).__await__())
        assert told.value.value is value
    assert twin.Done(value).value is value


@pytest.mark.filterwarnings("ignore:the .* signature of throw:DeprecationWarning")
@pytest.mark.parametrize("name", PIECES)
def test_what_is_thrown_where_nothing_waits_comes_out(twin: SimpleNamespace, name: str) -> None:
    error = KeyError("thrown")
    ways: list[tuple[Any, ...]] = [
        (error,),
        (KeyError,),
        (KeyError, error),
        (KeyError, error, None),
    ]
    for way in ways:
        step = piece(twin, name).__await__()
        with pytest.raises(KeyError):
            step.throw(*way)
        step.close()


@pytest.mark.parametrize("name", PIECES)
def test_nothing_thrown_is_a_mistake(twin: SimpleNamespace, name: str) -> None:
    step = piece(twin, name).__await__()
    with pytest.raises(TypeError):
        step.throw()
    step.close()


def test_a_call_that_has_left_gives_its_reply(rig: Rig) -> None:
    waiter = rig.share.create_future()
    sent = rig.twin.Sent(waiter, rig.twin.ReplyFields)
    assert sent.trailers == b""
    first, second = Job(sent).step(), Job(sent).step()
    assert first.waits is second.waits is waiter
    assert not sent.done()
    sent.trailers = b"md"
    sent.set_result([1])
    assert sent.done()
    for job in (first, second, Job(sent)):
        (what, reply) = job.step().told
        assert (what, type(reply)) == ("returned", rig.twin.ReplyFields)
        assert (reply.value, reply.packed_metadata, reply.items) == ([1], b"md", None)


def test_replies_are_of_the_class_that_was_asked_for(twin: SimpleNamespace) -> None:
    sub = type("Sub", (twin.ReplyFields,), {})
    sent = twin.Sent(Waiter(), sub)
    sent.set_result(None)
    assert type(Job(sent).step().told[1]) is sub


@pytest.mark.parametrize("error", [KeyError("mine"), asyncio.CancelledError("mine")])
def test_an_error_is_raised_for_each_who_waits(twin: SimpleNamespace, error: Any) -> None:
    sent = twin.Sent(Waiter(), twin.ReplyFields)
    first = Job(sent).step()
    sent.set_exception(error)
    for job in (first, Job(sent)):
        assert job.step().told == ("raised", type(error).__name__, str(error))


def test_an_outcome_is_set_once(twin: SimpleNamespace) -> None:
    sent = done_sent(twin)
    for late in (lambda: sent.set_result(6), lambda: sent.set_exception(KeyError("late"))):
        with pytest.raises(RuntimeError):
            late()
        assert Job(sent).step().told[1].value == 5


def test_who_waits_may_be_cancelled(twin: SimpleNamespace) -> None:
    sent = twin.Sent(Waiter(), twin.ReplyFields)
    job = Job(sent).step()
    job.cancel()
    assert sent.done()
    assert job.step().told == ("raised", "CancelledError", "")


@pytest.mark.asyncio
@pytest.mark.parametrize("late", ["result", "exception"])
async def test_a_future_that_was_cancelled_says_so_whatever_comes_late(
    twin: SimpleNamespace, late: str
) -> None:
    sent = twin.Sent(asyncio.get_running_loop().create_future(), twin.ReplyFields)

    async def waiting() -> Any:
        return await sent

    tasks = [asyncio.create_task(waiting()) for _ in range(2)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    told = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in told] == [asyncio.CancelledError] * 2
    assert sent.done()
    with pytest.raises(asyncio.InvalidStateError):
        sent.set_result(1) if late == "result" else sent.set_exception(KeyError("late"))
    with pytest.raises(asyncio.CancelledError):
        await sent
