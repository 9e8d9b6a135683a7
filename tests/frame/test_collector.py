"""The collector may run anybody's code at any allocation: calls made there harm no other.

An object in a circle that makes a call when it dies is all it takes. The collector is made to
run as often as it can.
"""

import gc
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from tests.frame.rig import PURE, Rig


class Dying:
    """Does something when the collector finds it."""

    def __init__(self, deed: Any) -> None:
        self.deed = deed
        self.circle = self

    def __del__(self) -> None:
        self.deed()


@pytest.fixture
def eager() -> Iterator[None]:
    """Let the collector run at nearly every allocation."""
    before = gc.get_threshold()
    gc.collect()
    gc.set_threshold(1, 1, 1)
    yield
    gc.set_threshold(*before)
    gc.collect()


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("ahead", range(4))
def test_calls_made_while_a_table_grows(twin: SimpleNamespace, ahead: int) -> None:
    table = twin.CallTable()
    given: dict[int, str] = {}

    def open_one(name: str) -> None:
        given[table.open(name)] = name

    for n in range(ahead):
        open_one(f"ahead {n}")
    for n in range(100):
        Dying(lambda n=n: open_one(f"dying {n}"))
        open_one(f"plain {n}")
    gc.collect()
    assert len(table) == len(given) == ahead + 200
    assert {id: table.take(id)[0] for id in sorted(given)} == given


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("other", [0, 1])
def test_calls_taken_while_others_are(twin: SimpleNamespace, other: int) -> None:
    """The dying take the very call that is being taken, or the next."""
    table = twin.CallTable()
    for n in range(400):
        table.open(n)
    taken = []
    for id in range(1, 401, 1 + other):
        Dying(lambda id=id: taken.append(table.take(id + other)))
        taken.append(table.take(id))
    gc.collect()
    assert sorted(slot[0] for slot in taken if slot) == list(range(400))
    assert len(table) == 0


@pytest.mark.usefixtures("eager")
@pytest.mark.compiled
def test_calls_of_the_dying_go_out_whole_and_in_order() -> None:
    """The compiled lane takes a number and writes the call without a place to interrupt it."""
    from tests.frame.twins import open_twin

    rig = Rig(open_twin("compiled"))
    for n in range(300):
        Dying(lambda n=n: rig.call("dying", n))
        rig.call("plain", n)
        if n % 7 == 0:
            rig.turn()
    gc.collect()
    rig.turn()
    frames = rig.sent()
    assert [frame.id for frame in frames] == list(range(1, 601))
    values = sorted(msgspec.msgpack.decode(frame.payload)[0] for frame in frames)
    assert values == sorted([*range(300), *range(300)])


@pytest.mark.usefixtures("eager")
def test_replies_reach_their_own_callers(twin: SimpleNamespace) -> None:
    rig = Rig(twin)
    waiters = [rig.call("m", n) for n in range(200)]
    rig.turn()
    for n in range(200):
        Dying(lambda: rig.call("dying"))
        rig.answer(n + 1, {"n": [n]})
    gc.collect()
    assert [waiter.result() for waiter in waiters] == [{"n": [n]} for n in range(200)]
    assert len(rig.lane.table) == rig.lane.calls_out - 200 == 200


@pytest.mark.parametrize("deed", ["call", "take", "grow"])
def test_a_decoder_that_uses_the_table_harms_no_other_call(
    twin: SimpleNamespace, deed: str
) -> None:
    rig = Rig(twin)

    def decode(data: bytes) -> bytes:
        for _ in range({"call": 1, "take": 0, "grow": 50}[deed]):
            rig.call("inner")
        if deed == "take":
            rig.lane.table.take(2)
        return data

    one, two = rig.call("m", decode=decode), rig.call("m")
    rig.lane.feed(PURE.encode_frame(0, 1, reply=True, serializer=1, payload=b"\x05"))
    rig.answer(2, 6)
    assert one.result() == b"\x05"
    assert two.told == ([] if deed == "take" else [("result", 6)])
    assert rig.lane.table.take(1) is None
