"""Caller and BoundCall: straight into a lane if that can take a call now, else up."""

from contextvars import ContextVar, copy_context
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from fastrpc.errors import ConfigError, MethodNotFound
from tests.frame.rig import Rig


class Slow:
    """Takes the calls that have to wait."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def __call__(self, *call: Any) -> str:
        self.calls.append(call)
        return "slow"


@pytest.fixture
def rigs(twin: SimpleNamespace) -> list[Rig]:
    return [Rig(twin) for _ in range(3)]


def caller(rigs: list[Rig], slow: Any = None, **options: Any) -> Any:
    return rigs[0].twin.Caller([rig.lane for rig in rigs], slow or Slow(), **options)


def test_it_says_what_it_was_given(twin: SimpleNamespace) -> None:
    lanes: list[Any] = []
    one = twin.Caller(lanes, print)
    assert one.lanes is lanes
    assert (one.slow, one.timeout, one.metadata) == (print, 0.0, b"")
    two = twin.Caller(lanes=lanes, slow=print, timeout=1.5, metadata=b"md")
    assert (two.timeout, two.metadata) == (1.5, b"md")
    bound = twin.BoundCall(two, "m", int)
    assert (bound.caller, bound.method, bound.decode) == (two, "m", int)
    assert twin.BoundCall(caller=two, method="m").decode is None


def test_a_call_goes_into_the_lane(rigs: list[Rig]) -> None:
    one = caller(rigs[:1], timeout=2.0, metadata=b"md")
    waiter = one.call("Arith.add", 2, b=3)
    (frame,) = rigs[0].sent()
    assert waiter is rigs[0].waiters[0]
    assert (frame.name, frame.time, frame.metadata) == (b"Arith.add", 2001, b"md")
    assert msgspec.msgpack.decode(frame.payload) == {"b": 3, "*": [2]}


def test_a_call_may_have_an_argument_of_any_name(rigs: list[Rig]) -> None:
    one = caller(rigs[:1])
    one.call("m", self=1, method=2, args=3)
    rigs[0].twin.BoundCall(one, "n")(self=1, caller=2)
    rigs[0].turn()
    told = [msgspec.msgpack.decode(frame.payload) for frame in rigs[0].sent()]
    assert told == [{"self": 1, "method": 2, "args": 3}, {"self": 1, "caller": 2}]


def test_lanes_take_turns(rigs: list[Rig]) -> None:
    one = caller(rigs)
    for _ in range(6):
        one.call("m")
    assert [rig.lane.calls_out for rig in rigs] == [2, 2, 2]


def test_lanes_may_come_and_go(rigs: list[Rig]) -> None:
    one = caller(rigs)
    one.call("m")
    one.call("m")
    del one.lanes[1:]
    for _ in range(3):
        one.call("m")
    assert rigs[0].lane.calls_out == 3
    one.lanes.append(rigs[1].lane)
    for _ in range(4):
        one.call("m")
    assert (rigs[0].lane.calls_out, rigs[1].lane.calls_out) == (5, 3)
    one.lanes.clear()
    assert one.call("m") == "slow"


@pytest.mark.parametrize("why", ["none", "not ready", "crowded", "full"])
def test_a_call_that_has_to_wait_is_handed_up(rigs: list[Rig], why: str) -> None:
    slow = Slow()
    lane = rigs[0].lane
    lane.ready, lane.crowded = why != "not ready", why == "crowded"
    lane.peer_calls = 1
    one = (
        caller([] if why == "none" else rigs[:1], slow)
        if why != "none"
        else rigs[0].twin.Caller([], slow)
    )
    if why == "full":
        one.call("first")
    assert one.call("m", 1, k=2) == "slow"
    assert one.send("m", (1,), None, int) == "slow"
    assert rigs[0].twin.BoundCall(one, "b", str)(5) == "slow"
    assert slow.calls == [
        ("m", (1,), {"k": 2}, None), ("m", (1,), None, int), ("b", (5,), {}, str),
    ]  # fmt: skip
    assert lane.calls_out == (why == "full")


def test_a_bound_call_reads_its_result_its_own_way(rigs: list[Rig]) -> None:
    typed = msgspec.msgpack.Decoder(tuple[int, str]).decode
    call = rigs[0].twin.BoundCall(caller(rigs[:1]), "m", typed)
    waiter = call(1)
    rigs[0].answer(1, [1, "a"])
    assert waiter.result() == (1, "a")


@pytest.mark.parametrize("name", [None, 5, b"m"])
def test_methods_are_named_by_text(rigs: list[Rig], name: Any) -> None:
    with pytest.raises(TypeError):
        caller(rigs[:1]).call(name)
    assert len(rigs[0].lane.table) == 0


def test_errors_of_the_lane_come_at_once(rigs: list[Rig]) -> None:
    one = caller(rigs[:1])
    with pytest.raises(MethodNotFound):
        one.call("x" * 256)
    rigs[0].running = False
    with pytest.raises(ConfigError):
        one.call("m")


def test_arguments_go_as_they_are(twin: SimpleNamespace) -> None:
    with pytest.raises(TypeError):
        twin.Caller([], print).call()
    with pytest.raises(TypeError):
        twin.BoundCall()


@pytest.mark.parametrize(
    ("timeout", "deadline", "millis"),
    [
        (0.0, 0.0, 0), (2.0, 0.0, 2001), (0.0, 105.0, 5001), (2.0, 105.0, 2001), (9.0, 105.0, 5001),
        (9.0, 100.0, 1), (0.0, 50.0, 1), (9.0, 50.0, 1), (0.0, 105, 5001),
    ],
)  # fmt: skip
def test_a_call_inside_a_call_has_what_is_left_of_it(
    rigs: list[Rig], timeout: float, deadline: float, millis: int
) -> None:
    """It is 100 by the clock."""
    inherited = ContextVar("inherited", default=0.0)
    one = caller(rigs[:1], timeout=timeout, inherited=inherited)
    assert one.inherited is inherited
    context = copy_context()
    context.run(inherited.set, deadline)
    context.run(one.call, "m", 1)
    context.run(rigs[0].twin.BoundCall(one, "m"), 1)
    rigs[0].turn()
    assert [frame.time for frame in rigs[0].sent()] == [millis] * 2
    soonest = rigs[0].lane.table.soonest
    assert soonest == pytest.approx(100.0 + max((millis - 1) / 1000, 1e-6)) if millis else True


def test_outside_of_a_call_nothing_is_inherited(rigs: list[Rig]) -> None:
    one = caller(rigs[:1], inherited=ContextVar("inherited", default=0.0))
    one.call("m")
    (frame,) = rigs[0].sent()
    assert frame.time == 0


def test_a_variable_without_a_value_is_an_error_of_its_owner(rigs: list[Rig]) -> None:
    one = caller(rigs[:1], inherited=ContextVar("inherited"))
    with pytest.raises(LookupError, match="inherited"):
        one.call("m")
    assert rigs[0].lane.calls_out == 0


def test_what_is_inherited_must_be_a_variable_with_a_number(rigs: list[Rig]) -> None:
    with pytest.raises((TypeError, AttributeError)):
        caller(rigs[:1], inherited=5).call("m")
    with pytest.raises(TypeError):
        caller(rigs[:1], inherited=ContextVar("inherited", default="soon")).call("m")
    assert rigs[0].lane.calls_out == 0
