"""What a chain of interceptors is made of: calls, replies, and what is awaited in their turn."""

import asyncio
from collections.abc import Callable, Generator
from contextvars import ContextVar, copy_context
from types import SimpleNamespace, coroutine
from typing import Any

import msgspec
import pytest

from fastrpc._caller_py import LEAST
from fastrpc.errors import CodecError, Internal, MethodNotFound
from tests.frame.halves import Job
from tests.frame.rig import Rig, Waiter

PIECES = ["Done", "Sent"]


@pytest.fixture
def rig(twin: SimpleNamespace) -> Rig:
    return Rig(twin)


def call_of(twin: SimpleNamespace, *args: Any, **fields: Any) -> Any:
    call = twin.CallFields("m", args, fields.pop("kwargs", {}))
    for name, value in fields.items():
        setattr(call, name, value)
    return call


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


# The innermost handlers


@pytest.mark.parametrize("kwargs", [{}, {"k": 3}])
def test_a_handler_gets_what_the_call_has_now(
    twin: SimpleNamespace, kwargs: dict[str, int]
) -> None:
    inherited = ContextVar("inherited", default=0.0)
    at_once = twin.AtOnce(lambda *args, **given: (args, given), False, twin.ReplyFields, inherited)
    call = call_of(twin, 1, 2, kwargs=kwargs)
    reply = at_once(call).value
    assert (reply.value, reply.packed_metadata) == (((1, 2), kwargs), ())
    assert call.is_called is True
    call.args = [3]  # as an interceptor may have it
    call.reply_metadata = b"md"
    reply = at_once(call).value
    assert (reply.value, reply.packed_metadata) == (((3,), kwargs), b"md")


@pytest.mark.parametrize("kwargs", [None, 5])
def test_arguments_by_name_are_a_mapping(twin: SimpleNamespace, kwargs: Any) -> None:
    at_once = twin.AtOnce(lambda: 5, False, twin.ReplyFields, None)
    call = call_of(twin, kwargs=kwargs)
    with pytest.raises(TypeError):
        at_once(call)
    assert call.is_called


@pytest.mark.parametrize(("deadline", "seen"), [(0.0, 7.5), (5.5, 5.5)])
def test_a_handler_knows_the_deadline_of_its_call(
    twin: SimpleNamespace, deadline: float, seen: float
) -> None:
    inherited = ContextVar("inherited", default=0.0)
    at_once = twin.AtOnce(inherited.get, False, twin.ReplyFields, inherited)
    context = copy_context()
    context.run(inherited.set, 7.5)
    done = context.run(at_once, call_of(twin, deadline=deadline))
    assert done.value.value == seen


def test_a_handler_may_be_a_coroutine_that_never_waits(twin: SimpleNamespace) -> None:
    async def gives(value: int) -> int:
        return value

    async def waits(value: int) -> int:
        return len(await turns(value))

    def made(handler: Callable[..., Any]) -> Any:
        return twin.AtOnce(handler, True, twin.ReplyFields, None)

    assert made(gives)(call_of(twin, 5)).value.value == 5
    with pytest.raises(RuntimeError, match="waits although its code has no await"):
        made(waits)(call_of(twin, 5))


@pytest.mark.parametrize("error", [KeyError("x"), StopIteration(5), SystemExit(1)])
def test_errors_of_a_handler_come_as_they_are(twin: SimpleNamespace, error: BaseException) -> None:
    def fails() -> None:
        raise error

    call = call_of(twin)
    with pytest.raises(type(error)) as told:
        twin.AtOnce(fails, False, twin.ReplyFields, None)(call)
    assert told.value is error
    assert call.is_called


class Slow:
    """Takes the calls that have to wait."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def __call__(self, call: Any, decode: Any) -> str:
        self.calls.append((call, decode))
        return "slow"


def sender(rigs: list[Rig], slow: Any = None, decode: Any = None) -> Any:
    twin = rigs[0].twin
    lanes = [rig.lane for rig in rigs]
    return twin.Sender(
        lanes, slow or Slow(), decode, lambda call: b"packed", twin.ReplyFields, lambda: 100.0
    )


def test_a_call_goes_into_the_lane(rig: Rig) -> None:
    sent = sender([rig])(call_of(rig.twin, 1, kwargs={"k": 2}, packed_metadata=b"md"))
    assert type(sent) is rig.twin.Sent
    job = Job(sent).step()
    assert job.waits is rig.waiters[0]
    (frame,) = rig.sent()
    assert (frame.name, frame.time, frame.metadata) == (b"m", 0, b"md")
    assert msgspec.msgpack.decode(frame.payload) == {"k": 2, "*": [1]}
    rig.answer(1, "found")
    assert job.step().told[1].value == "found"


def test_results_are_read_as_the_sender_was_told(rig: Rig) -> None:
    typed = msgspec.msgpack.Decoder(tuple[int, str]).decode
    job = Job(sender([rig], decode=typed)(call_of(rig.twin)))
    rig.answer(1, [1, "a"])
    assert job.step().told[1].value == (1, "a")


@pytest.mark.parametrize("metadata", [{"k": "v"}, None, ()])
def test_metadata_that_is_not_packed_yet_is_packed(rig: Rig, metadata: Any) -> None:
    sender([rig])(call_of(rig.twin, packed_metadata=metadata))
    (frame,) = rig.sent()
    assert frame.metadata == b"packed"


@pytest.mark.parametrize("kind", [tuple, list, iter])
def test_arguments_may_be_anything_that_makes_a_tuple(rig: Rig, kind: Any) -> None:
    sender([rig])(call_of(rig.twin, args=kind([1, 2])))
    (frame,) = rig.sent()
    assert msgspec.msgpack.decode(frame.payload) == [1, 2]


@pytest.mark.parametrize(
    ("deadline", "left"), [(0.0, 0.0), (105.0, 5.0), (100.0, LEAST), (50.0, LEAST)]
)
def test_a_deadline_becomes_what_is_left_of_it(rig: Rig, deadline: float, left: float) -> None:
    """It is 100 by the clock; what has passed is still a deadline."""
    sender([rig])(call_of(rig.twin, deadline=deadline))
    (frame,) = rig.sent()
    assert frame.time == (int(left * 1000) + 1 if left else 0)
    assert rig.lane.table.soonest == (pytest.approx(100.0 + left) if left else 0.0)


def test_lanes_take_turns_and_may_come_and_go(twin: SimpleNamespace) -> None:
    rigs = [Rig(twin) for _ in range(3)]
    lanes = [rig.lane for rig in rigs]
    slow = Slow()
    send = twin.Sender(lanes, slow, None, print, twin.ReplyFields, print)
    for _ in range(6):
        send(call_of(twin))
    assert [rig.lane.calls_out for rig in rigs] == [2, 2, 2]
    del lanes[1:]
    send(call_of(twin))
    assert rigs[0].lane.calls_out == 3
    lanes.clear()
    assert send(call_of(twin)) == "slow"


@pytest.mark.parametrize("why", ["none", "not ready", "crowded", "full"])
def test_a_call_that_has_to_wait_is_handed_up(rig: Rig, why: str) -> None:
    slow = Slow()
    lane, call = rig.lane, call_of(rig.twin)
    lane.ready, lane.crowded = why != "not ready", why == "crowded"
    lane.peer_calls = 1
    send = rig.twin.Sender(
        [] if why == "none" else [lane], slow, int, print, rig.twin.ReplyFields, print
    )
    if why == "full":
        send(call)
    assert send(call) == "slow"
    assert slow.calls == [(call, int)]
    assert lane.calls_out == (why == "full")


def test_what_can_not_be_sent_is_an_error_at_once(rig: Rig) -> None:
    with pytest.raises(CodecError):
        sender([rig])(call_of(rig.twin, object()))
    with pytest.raises(MethodNotFound):
        sender([rig])(call_of(rig.twin, method="x" * 256))
    with pytest.raises(TypeError):
        sender([rig])(call_of(rig.twin, args=5))
    assert len(rig.lane.table) == 0
