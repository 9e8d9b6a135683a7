"""One twin calls, the other answers, and the reverse, over a pipe in memory."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrpc import wire
from tests.frame.rig import Rig
from tests.frame.twins import COMPARED, agree, open_twin

pytestmark = pytest.mark.compiled

PAIRS = [("pure", "compiled"), ("compiled", "pure"), ("compiled", "compiled"), ("pure", "pure")]

_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.text(max_size=90),
              st.binary(max_size=90), st.sampled_from([bytes(wire.BIG_BODY), "x" * 40_000])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
_CALLS = st.lists(
    st.tuples(
        st.sampled_from(["echo", "later", "fail", "odd", "task", "nobody"]),
        _VALUES,
        st.sampled_from([0.0, 5.0]),
        st.sampled_from([b"", b"\x01k\x00\x01v"]),
        st.booleans(),
    ),
    min_size=1,
    max_size=8,
)


class Pipe:
    """Two rigs, each one's output the other's input, cut into pieces."""

    def __init__(self, client: str, server: str) -> None:
        self.client, self.server = Rig(open_twin(client)), Rig(open_twin(server))
        for lane in (self.client.lane, self.server.lane):
            lane.raw = True
        refuse = self._refuse
        for what in ("raised", "unsendable", "start", "bind"):
            self.server.owner.does[what] = lambda owner, frame: refuse(frame, 50)
        self.server.owner.does["frames"] = lambda owner, frames: [
            refuse(frame, 44) for frame in frames
        ]
        self.client.owner.does["answered"] = lambda owner, slot: slot[0].told.append(("refused",))

    def _refuse(self, frame: Any, status: int) -> None:
        if not frame.oneway:
            self.server.lane.reply(frame.id, frame.serializer, b"", status, 7, 99)

    def carry(self, most: int) -> None:
        """Carry bytes to and fro until nothing moves."""
        moved = True
        while moved:
            moved = False
            for one, other in ((self.client, self.server), (self.server, self.client)):
                one.turn()
                data = one.taken()
                moved = moved or bool(data)
                other.receive(data, most)


def history(pair: tuple[str, str], calls: list[Any], most: int) -> list[Any]:
    pipe = Pipe(*pair)
    for name, value, timeout, metadata, oneway in calls:
        if oneway:
            pipe.client.lane.notify(name, (value,), None, metadata)
        else:
            pipe.client.call(name, value, timeout=timeout, metadata=metadata)
        if len(name) == 5:
            pipe.carry(most)
    pipe.carry(most)
    return [rig.record() for rig in (pipe.client, pipe.server)]


@given(calls=_CALLS, most=st.sampled_from([2**30, 1000, 33]))
def test_any_two_of_them_understand_each_other(calls: list[Any], most: int) -> None:
    if most == 33 and any(len(repr(value)) > 30_000 for _, value, *_ in calls):
        most = 3333
    want, *others = (history(pair, calls, most) for pair in PAIRS)
    for other in others:
        agree("conversations", want, other, calls)
    client, _server = want
    answered = [told for told in client["waiters"] if told != "[]"]
    assert len(answered) == sum(not oneway for *_, oneway in calls)


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@pytest.mark.parametrize("size", [0, 1, wire.BIG_BODY - 10, wire.BIG_BODY, 2**20 - 20, 2**20 - 9])
def test_bodies_of_any_size(pair: tuple[str, str], size: int) -> None:
    pipe = Pipe(*pair)
    for value in (bytes(size), "t" * size):
        waiter = pipe.client.call("echo", value)
        pipe.carry(2**30)
        assert waiter.result() == value
    assert pipe.client.owner.log == [("tick",)]
    COMPARED["conversations"] += 1


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_both_ends_may_call_at_once(pair: tuple[str, str]) -> None:
    pipe = Pipe(*pair)
    waiters = [(rig.call("echo", n), n) for n in range(50) for rig in (pipe.client, pipe.server)]
    pipe.carry(100)
    assert [waiter.result() for waiter, _ in waiters] == [n for _, n in waiters]
    assert len(pipe.client.lane.table) == len(pipe.server.lane.table) == 0


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_a_slow_reader_gets_everything_in_the_end(pair: tuple[str, str]) -> None:
    pipe = Pipe(*pair)
    waiters = [pipe.client.call("echo", n) for n in range(20)]
    pipe.server.lane.paused = True
    pipe.carry(2**30)
    assert sum(waiter.done() for waiter in waiters) == 1  # then it waits
    for _ in range(5):
        pipe.server.lane.resume()
        pipe.carry(2**30)
    assert sum(waiter.done() for waiter in waiters) == 6
    pipe.server.lane.paused = False
    pipe.server.lane.resume()
    pipe.carry(2**30)
    assert [waiter.result() for waiter in waiters] == list(range(20))
