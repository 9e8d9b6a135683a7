"""AtOnce and Sender: what stands at the inner end of every chain."""

from collections.abc import Callable, Generator
from contextvars import ContextVar, copy_context
from types import SimpleNamespace, coroutine
from typing import Any

import msgspec
import pytest

from fastrpc.errors import CodecError, DeadlineExceeded, MethodNotFound
from tests.frame.chains import INHERITED, call_of
from tests.frame.halves import Job
from tests.frame.rig import Rig


@pytest.fixture
def rig(twin: SimpleNamespace) -> Rig:
    return Rig(twin)


@coroutine
def turns(*values: Any) -> Generator[Any, None, str]:
    yield from values
    return "end"


@pytest.mark.parametrize("kwargs", [{}, {"k": 3}])
def test_a_handler_gets_what_the_call_has_now(
    twin: SimpleNamespace, kwargs: dict[str, int]
) -> None:
    inherited = ContextVar("inherited", default=0.0)
    at_once = twin.AtOnce(
        lambda *args, **given: (args, given), False, twin.ReplyFields, inherited, lambda: 1.0
    )
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
    at_once = twin.AtOnce(lambda: 5, False, twin.ReplyFields, INHERITED, lambda: 1.0)
    call = call_of(twin, kwargs=kwargs)
    with pytest.raises(TypeError):
        at_once(call)
    assert call.is_called


@pytest.mark.parametrize(("deadline", "seen"), [(0.0, 0.0), (5.5, 5.5), (9.5, 9.5)])
def test_a_handler_knows_the_deadline_of_its_call(
    twin: SimpleNamespace, deadline: float, seen: float
) -> None:
    inherited = ContextVar("inherited", default=0.0)
    at_once = twin.AtOnce(inherited.get, False, twin.ReplyFields, inherited, lambda: 1.0)
    context = copy_context()
    context.run(inherited.set, 7.5)
    done = context.run(at_once, call_of(twin, deadline=deadline))
    assert done.value.value == seen


def test_a_handler_is_not_called_when_the_deadline_has_passed(twin: SimpleNamespace) -> None:
    at_once = twin.AtOnce(print, False, twin.ReplyFields, INHERITED, lambda: 5.0)
    call = call_of(twin, deadline=5.0)
    with pytest.raises(DeadlineExceeded, match="before the handler was called") as caught:
        at_once(call)
    assert (caught.value.ran, caught.value.method) == ("no", "m")
    assert not call.is_called


def test_a_handler_may_be_a_coroutine_that_never_waits(twin: SimpleNamespace) -> None:
    async def gives(value: int) -> int:
        return value

    async def waits(value: int) -> int:
        return len(await turns(value))

    def made(handler: Callable[..., Any]) -> Any:
        return twin.AtOnce(handler, True, twin.ReplyFields, INHERITED, lambda: 1.0)

    assert made(gives)(call_of(twin, 5)).value.value == 5
    with pytest.raises(RuntimeError, match="waits although its code has no await"):
        made(waits)(call_of(twin, 5))


@pytest.mark.parametrize("error", [KeyError("x"), StopIteration(5), SystemExit(1)])
def test_errors_of_a_handler_come_as_they_are(twin: SimpleNamespace, error: BaseException) -> None:
    def fails() -> None:
        raise error

    call = call_of(twin)
    with pytest.raises(type(error)) as told:
        twin.AtOnce(fails, False, twin.ReplyFields, INHERITED, lambda: 1.0)(call)
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


@pytest.mark.parametrize(("deadline", "left"), [(0.0, 0.0), (105.0, 5.0), (100.001, 0.001)])
def test_a_deadline_becomes_what_is_left_of_it(rig: Rig, deadline: float, left: float) -> None:
    """It is 100 by the clock."""
    sender([rig])(call_of(rig.twin, deadline=deadline))
    (frame,) = rig.sent()
    assert frame.time == (int(left * 1000) + 1 if left else 0)
    assert rig.lane.table.soonest == (pytest.approx(100.0 + left) if left else 0.0)


@pytest.mark.parametrize("deadline", [100.0, 50.0])
def test_what_is_late_takes_the_slow_way_which_says_so(rig: Rig, deadline: float) -> None:
    assert sender([rig])(call_of(rig.twin, deadline=deadline)) == "slow"
    assert rig.sent() == []


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
