"""Members, two choices, and calls that go to the member that was picked."""

import math
from contextvars import ContextVar, copy_context
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrpc.errors import MethodNotFound
from tests.frame.rig import Rig, Waiter
from tests.frame.twins import agree, both


class Future(Waiter):
    """A waiter that may end with an error."""

    __slots__ = ()

    def set_exception(self, error: BaseException) -> None:
        self.told.append(("error", error))


class Cluster:
    """Members with a lane each, and a caller that picks among them."""

    def __init__(self, twin: SimpleNamespace, count: int = 2, **options: Any) -> None:
        self.twin = twin
        self.now = 100.0
        self.rigs = [Rig(twin) for _ in range(count)]
        self.members = [twin.MemberFields([rig.lane], 10.0) for rig in self.rigs]
        self.two = twin.TwoChoices(7)
        self.two.update(self.members, self.now)
        self.slow: list[Any] = []
        self.failed: list[Any] = []
        self.takes_over = False
        given: dict[str, Any] = {
            "key": None, "key_of": None, "timeout": 0.0, "metadata": b"", "inherited": None,
        } | options  # fmt: skip
        self.caller = twin.ClusterCaller(
            balancer=given.pop("balancer", self.two),
            slow=self._slow,
            failed=self._failed,
            clock=lambda: self.now,
            **given,
        )

    def _slow(self, *call: Any) -> str:
        self.slow.append(call)
        return "slow"

    def _failed(self, picked: Any, error: BaseException) -> bool:
        self.failed.append((picked, error))
        return self.takes_over

    def sent(self) -> list[int]:
        """Return how many calls each member was sent."""
        return [rig.lane.calls_out for rig in self.rigs]

    def picked(self, member: int = 0, **options: Any) -> Any:
        """Make a call that has left for a member."""
        given: dict[str, Any] = {
            "caller": self.caller, "member": self.members[member], "method": "m", "args": (1,),
            "kwargs": None, "decode": None, "deadline": 0.0, "future": Future(), "started": 99.0,
        } | options  # fmt: skip
        return self.twin.Picked(**given)


@pytest.fixture
def cluster(twin: SimpleNamespace) -> Cluster:
    return Cluster(twin)


# Members


def test_a_new_member_knows_nothing(twin: SimpleNamespace) -> None:
    lanes: list[Any] = []
    member = twin.MemberFields(lanes, 10.0)
    assert member.lanes is lanes
    assert (member.decay, member.weight, member.latency, member.seen) == (10.0, 1.0, 0.0, 0.0)
    assert (member.calls, member.errors, member.streak, member.cap) == (0, 0, 0, 0)
    assert (member.answered, member.in_flight) == (0.0, 0)
    assert member.lane() is None
    assert not member.takes()
    assert member.cost(1.0) == math.inf


def test_what_is_unknown_is_tried_with_one_call(cluster: Cluster) -> None:
    member = cluster.members[0]
    assert member.cost(100.0) == 0.0
    cluster.rigs[0].call("m")
    assert member.cost(100.0) >= 1e4
    assert member.in_flight == 1


def test_a_latency_that_is_higher_counts_at_once_and_fades(cluster: Cluster) -> None:
    member = cluster.members[0]
    member.note(0.1, 100.0)
    member.note(0.5, 101.0)
    assert member.latency == 0.5
    member.note(0.1, 111.0)
    assert member.latency == pytest.approx(0.1 + 0.4 / math.e)
    before = member.latency
    member.note(0.01, 111.0)  # at the same moment there is nothing to fade
    assert (member.latency, member.seen) == (before, 111.0)
    assert member.cost(111.0) == pytest.approx(before)
    assert member.cost(121.0) == pytest.approx(before / math.e)
    assert (member.calls, member.errors, member.streak) == (4, 0, 0)


def test_small_differences_of_latency_are_noise(cluster: Cluster) -> None:
    one, other = cluster.members
    one.note(0.00001, 100.0)
    other.note(0.0009, 100.0)
    assert one.cost(100.0) == other.cost(100.0) == 1e-3


def test_cost_grows_with_calls_in_flight_and_shrinks_with_weight(cluster: Cluster) -> None:
    member = cluster.members[0]
    member.note(0.1, 100.0)
    cluster.rigs[0].call("m")
    cluster.rigs[0].call("m")
    assert member.cost(100.0) == pytest.approx(0.3)
    member.weight = 2.0
    assert member.cost(100.0) == pytest.approx(0.15)


def test_errors_are_counted_and_how_many_came_in_a_row(cluster: Cluster) -> None:
    member = cluster.members[0]
    member.blame(0.1, 100.0)
    member.blame(0.1, 100.0)
    assert (member.calls, member.errors, member.streak) == (2, 2, 2)
    member.note(0.1, 100.0)
    assert (member.calls, member.errors, member.streak, member.answered) == (3, 2, 0, 100.0)
    member.blame(0.1, 100.0)
    assert member.streak == 1


def test_a_call_given_up_counts_against_who_has_answered_nobody_since(cluster: Cluster) -> None:
    member = cluster.members[0]
    member.given_up(99.0, 100.0)
    assert (member.errors, member.latency) == (1, 1.0)
    member.note(0.1, 101.0)
    member.given_up(100.5, 105.0)
    assert (member.calls, member.errors, member.latency) == (2, 1, 4.5)


@pytest.mark.parametrize("why", ["not ready", "crowded", "full", "capped"])
def test_who_takes_no_call_says_so(cluster: Cluster, why: str) -> None:
    member, lane = cluster.members[0], cluster.rigs[0].lane
    lane.peer_calls = 2
    cluster.rigs[0].call("m")
    assert member.takes()
    assert member.lane() is lane
    if why == "capped":
        member.cap = 1
    elif why == "full":
        cluster.rigs[0].call("m")
    else:
        lane.ready, lane.crowded = why != "not ready", why == "crowded"
    assert not member.takes()
    assert member.lane() is None
    assert member.cost(100.0) == math.inf


def test_lanes_of_a_member_take_turns(twin: SimpleNamespace) -> None:
    rigs = [Rig(twin) for _ in range(3)]
    member = twin.MemberFields([rig.lane for rig in rigs], 10.0, 1.0)
    taken = [member.lane() for _ in range(6)]
    assert taken[:3] == taken[3:]
    assert {id(lane) for lane in taken} == {id(rig.lane) for rig in rigs}
    rigs[1].lane.ready = False
    assert rigs[1].lane not in [member.lane() for _ in range(6)]
    rigs[0].call("m")
    assert member.in_flight == 1
    assert member.takes()


# Two choices


def test_nobody_can_be_picked_where_nobody_is(twin: SimpleNamespace) -> None:
    two = twin.TwoChoices()
    assert two.members == []
    assert two.pick(None, 0.0) is None


def test_one_is_picked_if_it_takes_calls(twin: SimpleNamespace) -> None:
    cluster = Cluster(twin, 1)
    assert cluster.two.pick("key", 0.0) is cluster.members[0]
    cluster.rigs[0].lane.ready = False
    assert cluster.two.pick(None, 0.0) is None


def test_the_cheaper_of_two_is_picked(cluster: Cluster) -> None:
    cheap, dear = cluster.members
    cheap.note(0.1, 100.0)
    dear.note(0.2, 100.0)
    assert {cluster.two.pick(None, 100.0) for _ in range(50)} == {cheap}
    cheap.observe(0.3, 100.0)
    assert {cluster.two.pick(None, 100.0) for _ in range(50)} == {dear}


def test_all_are_picked_about_as_often(twin: SimpleNamespace) -> None:
    cluster = Cluster(twin, 8)
    found = [cluster.two.pick(None, 100.0) for _ in range(4000)]
    counts = [found.count(member) for member in cluster.members]
    assert sum(counts) == 4000
    assert min(counts) > 300


def test_those_that_take_no_call_are_passed_over(twin: SimpleNamespace) -> None:
    cluster = Cluster(twin, 5)
    for rig in cluster.rigs[:4]:
        rig.lane.ready = False
    assert {cluster.two.pick(None, 100.0) for _ in range(50)} == {cluster.members[4]}


def test_those_to_avoid_come_last(twin: SimpleNamespace) -> None:
    cluster = Cluster(twin, 3)
    one, two, three = cluster.members
    assert {cluster.two.pick(None, 1.0, [one, two]) for _ in range(50)} == {three}
    cluster.rigs[2].lane.ready = False
    assert {cluster.two.pick(None, 1.0, (one, two, three)) for _ in range(50)} == {one, two}
    for rig in cluster.rigs:
        rig.lane.ready = False
    assert cluster.two.pick(None, 1.0, [one]) is None


def test_chance_has_a_seed(twin: SimpleNamespace) -> None:
    def run(seed: int) -> list[int]:
        cluster = Cluster(twin, 20)
        two = twin.TwoChoices(seed)
        two.update(tuple(cluster.members), 1.0)
        return [cluster.members.index(two.pick(None, 1.0)) for _ in range(40)]

    assert run(1) == run(1)
    assert run(1) != run(2)
    assert run(0) == run(2**64)  # a word is all it has
    two = twin.TwoChoices(seed=5)
    members = [twin.MemberFields([], 1.0)]
    two.update(members, 1.0)
    members.clear()
    assert len(two.members) == 1  # it has its own list


# Calls


def test_a_call_goes_to_who_is_picked(cluster: Cluster) -> None:
    for _ in range(20):
        cluster.caller.call("Arith.add", 2, b=3)
    assert cluster.sent() == [10, 10]
    (frame, *_) = cluster.rigs[0].sent()
    assert (frame.name, frame.time) == (b"Arith.add", 0)
    assert msgspec.msgpack.decode(frame.payload) == {"b": 3, "*": [2]}
    assert [each.in_flight for each in cluster.members] == [10, 10]


def test_the_reply_is_the_futures_and_is_timed(cluster: Cluster) -> None:
    future = cluster.caller.call("m", 1)
    at = 0 if cluster.sent()[0] else 1
    cluster.now += 0.25
    cluster.rigs[at].answer(1, 7)
    assert future.told == [("result", 7)]
    member = cluster.members[at]
    assert (member.calls, member.latency, member.answered) == (1, 0.25, cluster.now)
    assert member.in_flight == 0


def test_a_bound_call_reads_its_result_its_own_way(cluster: Cluster) -> None:
    typed = msgspec.msgpack.Decoder(tuple[int, str]).decode
    call = cluster.twin.ClusterCall(cluster.caller, "m", typed)
    assert (call.caller, call.method, call.decode) == (cluster.caller, "m", typed)
    future = call(1, k=2)
    cluster.rigs[0 if cluster.sent()[0] else 1].answer(1, [1, "a"])
    assert future.told == [("result", (1, "a"))]
    assert cluster.twin.ClusterCall(cluster.caller, method="m").decode is None


def test_calls_that_nobody_takes_are_handed_up(cluster: Cluster) -> None:
    cluster.two.update([], 1.0)
    assert cluster.caller.call("m", 1, k=2) == "slow"
    assert cluster.caller.send("m", (1,), None, int) == "slow"
    assert cluster.twin.ClusterCall(cluster.caller, "b", str)(5) == "slow"
    assert cluster.slow == [
        ("m", (1,), {"k": 2}, None), ("m", (1,), None, int), ("b", (5,), {}, str),
    ]  # fmt: skip


def test_a_balancer_of_ones_own_is_given_the_key(twin: SimpleNamespace) -> None:
    asked: list[Any] = []

    class Second:
        def pick(self, key: object, now: float) -> Any:
            asked.append((key, now))
            return cluster.members[1] if key else None

    cluster = Cluster(twin, 2, balancer=Second(), key="tenant")
    cluster.caller.call("m")
    assert cluster.sent() == [0, 1]
    other = Cluster(
        twin, 2, balancer=Second(), key="no", key_of=lambda method, args, kwargs: args[0]
    )
    cluster.members, cluster.rigs = other.members, other.rigs
    other.caller.call("m", "user", k=1)
    assert other.caller.call("m", "") == "slow"
    assert other.sent() == [0, 1]
    assert asked == [("tenant", 100.0), ("user", 100.0), ("", 100.0)]


def test_who_is_picked_but_takes_no_call_gets_none(twin: SimpleNamespace) -> None:
    class First:
        def pick(self, key: object, now: float) -> Any:
            return cluster.members[0]

    cluster = Cluster(twin, 1, balancer=First())
    cluster.rigs[0].lane.ready = False
    assert cluster.caller.call("m") == "slow"


def test_the_shorter_of_own_and_inherited_time_counts(twin: SimpleNamespace) -> None:
    deadline: ContextVar[float] = ContextVar("deadline", default=0.0)
    cluster = Cluster(twin, 1, timeout=2.0, inherited=deadline, metadata=b"md")
    cluster.caller.call("m")
    copy_context().run(lambda: (deadline.set(101.0), cluster.caller.call("m")))
    cluster.rigs[0].turn()
    first, second = cluster.rigs[0].sent()
    assert (first.time, first.metadata) == (2001, b"md")
    assert second.time == 1001


def test_it_says_what_it_was_given(cluster: Cluster) -> None:
    caller = cluster.caller
    assert (caller.balancer, caller.key, caller.key_of) == (cluster.two, None, None)
    assert (caller.timeout, caller.metadata, caller.inherited) == (0.0, b"", None)
    assert (caller.slow, caller.failed) == (cluster._slow, cluster._failed)
    assert caller.clock() == cluster.now


def test_errors_of_the_lane_come_at_once(cluster: Cluster) -> None:
    with pytest.raises(MethodNotFound):
        cluster.caller.call("x" * 256)
    assert [each.in_flight for each in cluster.members] == [0, 0]


@pytest.mark.parametrize("name", [None, 5, b"m"])
def test_methods_are_named_by_text(cluster: Cluster, name: Any) -> None:
    with pytest.raises(TypeError):
        cluster.caller.call(name)
    assert cluster.sent() == [0, 0]


# How calls end


def test_a_picked_call_says_what_it_is(cluster: Cluster) -> None:
    future = Future()
    picked = cluster.picked(future=future, kwargs={"k": 1}, decode=int, deadline=105.0)
    assert (picked.caller, picked.member) == (cluster.caller, cluster.members[0])
    assert (picked.method, picked.args, picked.kwargs) == ("m", (1,), {"k": 1})
    assert (picked.decode, picked.deadline, picked.started) == (int, 105.0, 99.0)
    assert picked.future is future
    assert picked.done() is False


def test_an_error_is_the_callers_unless_somebody_sees_to_it(cluster: Cluster) -> None:
    error = ValueError("no")
    picked = cluster.picked()
    picked.set_exception(error)
    assert picked.future.told == [("error", error)]
    assert cluster.failed == [(picked, error)]
    cluster.takes_over = True
    other = cluster.picked()
    other.set_exception(error)
    assert other.future.told == []
    assert cluster.members[0].calls == 0  # who is told counts it


def test_a_call_given_up_is_noted_once(cluster: Cluster) -> None:
    picked = cluster.picked()
    picked.future.cancel()
    assert picked.done()
    assert picked.done()
    member = cluster.members[0]
    assert (member.calls, member.errors, member.latency) == (1, 1, 1.0)


def test_a_call_that_has_ended_is_not_given_up(cluster: Cluster) -> None:
    one, other = cluster.picked(), cluster.picked()
    one.set_result(5)
    other.set_exception(ValueError())
    assert one.done()
    assert other.done()
    assert (cluster.members[0].calls, cluster.members[0].errors) == (1, 0)


def test_a_sweep_finds_calls_given_up(cluster: Cluster) -> None:
    future = cluster.caller.call("m")
    at = 0 if cluster.sent()[0] else 1
    future.cancel()
    cluster.now += 3.0
    assert cluster.rigs[at].lane.sweep(cluster.now) == []
    assert cluster.members[at].in_flight == 0
    assert cluster.members[at].latency == 3.0


# Both twins do the same

DEEDS = st.lists(
    st.tuples(
        st.sampled_from(["call", "answer", "cancel", "blame", "sweep", "ready", "avoid", "weigh"]),
        st.integers(0, 4),
        st.sampled_from([0.0, 0.0001, 0.002, 0.5, 30.0]),
    ),
    max_size=60,
)


def played(twin: SimpleNamespace, deeds: list[tuple[str, int, float]]) -> list[Any]:
    cluster = Cluster(twin, 5)
    futures: list[Any] = []
    told: list[Any] = []
    for what, number, seconds in deeds:
        cluster.now += seconds
        member, rig = cluster.members[number], cluster.rigs[number]
        if what == "call":
            futures.append(cluster.caller.call("m", number))
        elif what == "answer":
            for id in range(1, rig.lane.table.next_id):
                rig.answer(id, id)
        elif what == "cancel" and futures:
            future = futures[number % len(futures)]
            if future != "slow":
                future.cancel()
        elif what == "blame":
            member.blame(seconds, cluster.now)
        elif what == "sweep":
            rig.lane.sweep(cluster.now)
        elif what == "ready":
            rig.lane.ready = not rig.lane.ready
        elif what == "avoid":
            found = cluster.two.pick(None, cluster.now, cluster.members[:number])
            told.append(None if found is None else cluster.members.index(found))
        elif what == "weigh":
            member.weight, member.cap = 1.0 + number, number % 3
        told.append(cluster.sent())
        told.append([each.cost(cluster.now) for each in cluster.members])
    told += [
        (each.calls, each.errors, each.streak, each.latency, each.seen, each.in_flight)
        for each in cluster.members
    ]
    return [*told, [future if future == "slow" else future.told for future in futures]]


@pytest.mark.compiled
@given(DEEDS)
def test_twins_agree(deeds: list[tuple[str, int, float]]) -> None:
    pure, compiled = both()
    agree("pick", played(pure, deeds), played(compiled, deeds), str(deeds))
