"""Inlet: items wait encoded, credit is counted, the end comes behind what waits."""

from types import SimpleNamespace
from typing import Any

import pytest

from fastrpc import wire
from fastrpc.errors import CodecError, ConfigError, ProtocolError, TooLarge
from tests.frame.halves import Receiver, Refused, unpack
from tests.frame.rig import PURE, Rig, pack


@pytest.fixture
def rig(twin: SimpleNamespace) -> Rig:
    return Rig(twin)


def taken(receiver: Receiver) -> list[Any]:
    """Take all that waits."""
    return [receiver.inlet.take() for _ in range(len(receiver.inlet))]


# Coming and being taken


def test_items_come_out_as_they_came(rig: Rig) -> None:
    receiver = Receiver(rig)
    for value in (1, "two", [3], None):
        receiver.push(value)
    assert (len(receiver.inlet), receiver.inlet.count) == (4, 0)
    assert taken(receiver) == [1, "two", [3], None]
    assert (len(receiver.inlet), receiver.inlet.count) == (0, 4)
    with pytest.raises(LookupError, match="no item has come yet"):
        receiver.inlet.take()


@pytest.mark.parametrize("ahead", [0, 1, 15, 16, 17])
def test_thousands_may_wait_and_go_in_any_rhythm(rig: Rig, ahead: int) -> None:
    """The compiled list keeps taken places at its front for a while."""
    receiver = Receiver(rig, window=wire.CREDIT_MAX)
    came = left = 0
    for more, less in ((ahead, 0), (10_000, 4000), (1, 300), (500, 6000), (20_000, 20_000)):
        for _ in range(more):
            receiver.push(came)
            came += 1
        for _ in range(less):
            assert receiver.inlet.take() == left
            left += 1
    while left < came:
        assert receiver.inlet.take() == left
        left += 1
    assert (len(receiver.inlet), receiver.inlet.count) == (0, came)


def test_items_are_decoded_when_they_are_taken(rig: Rig) -> None:
    receiver = Receiver(rig)
    seen: list[bytes] = []
    receiver.decode = lambda data: seen.append(data)
    receiver.push(5)
    assert seen == []
    receiver.inlet.take()
    assert seen == [b"\x05"]


def test_other_serializers_and_odd_frames_go_to_unpack(rig: Rig) -> None:
    receiver = Receiver(rig)
    receiver.rig.lane.feed(
        receiver.item(1, serializer=2, payload=b"[1]")
        + receiver.item(1, bits=0x20, payload=b"zip")
        + receiver.item(1, bits=0x60, payload=b"seg", buffers=[b"x"])
    )
    assert taken(receiver) == [("odd", 1), ("odd", 2), ("odd", 3)]
    assert receiver.odd[0] == (2, b"[1]")
    assert [(told["bits"], told["payload"]) for _, told in receiver.odd[1:]] == [
        (0x20, b"zip"), (0x60, b"seg"),
    ]  # fmt: skip


def test_an_item_too_large_arrives_as_a_frame_that_says_so(twin: SimpleNamespace) -> None:
    receiver = Receiver(Rig(twin, max_body=50), window=10_000)
    receiver.rig.receive(receiver.item("x" * 100) + receiver.item(5))
    assert taken(receiver) == [("odd", 1), 5]
    (_, told) = receiver.odd[0]
    assert (told["oversize"], told["payload"]) == (102, b"")


def test_an_item_that_can_not_be_read_is_explained_and_those_behind_it_come(rig: Rig) -> None:
    receiver = Receiver(rig)
    receiver.push(1)
    receiver.inlet.push(1, b"\xc1", 21, False)
    receiver.inlet.push(9, b"\x05", 21, False)
    receiver.push(4)
    assert receiver.inlet.take() == 1
    for number, name in ((2, "DecodeError"), (3, "CodecError")):
        with pytest.raises(Refused, match=f"item {number}: {name}") as caught:
            receiver.inlet.take()
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__
    assert (receiver.inlet.take(), receiver.inlet.count) == (4, 4)
    assert [number for number, _ in receiver.explained] == [2, 3]


@pytest.mark.parametrize("what", ["depth", "items"])
def test_limits_of_nesting_hold_for_items(rig: Rig, what: str) -> None:
    receiver = Receiver(rig)
    rig.lane.max_depth, rig.lane.max_items = (3, 1000) if what == "depth" else (60, 5)
    good: Any = [[["x"]]] if what == "depth" else ["x"] * 4
    receiver.push(good)
    receiver.push([good] if what == "depth" else [0, *good, 0])
    receiver.inlet.push(0, bytes(100), 120, False)  # has no depth
    assert receiver.inlet.take() == good
    with pytest.raises(Refused):
        receiver.inlet.take()
    assert receiver.explained[0][1][0] == "TooLarge"
    assert receiver.inlet.take() == ("odd", 1)


def test_only_exceptions_are_explained(rig: Rig) -> None:
    """What ends the program is nobody's item."""
    receiver = Receiver(rig)

    def interrupted(data: bytes) -> Any:
        raise KeyboardInterrupt

    receiver.decode = interrupted
    receiver.push(1)
    with pytest.raises(KeyboardInterrupt):
        receiver.inlet.take()
    assert (receiver.explained, receiver.inlet.count) == ([], 1)


@pytest.mark.parametrize("deed", ["take", "push", "end", "drop"])
def test_a_decoder_may_use_its_own_stream(rig: Rig, deed: str) -> None:
    receiver = Receiver(rig)
    inner: list[Any] = []

    def decode(data: bytes) -> Any:
        receiver.decode = unpack
        if deed == "take":
            inner.append(receiver.inlet.take())
        elif deed == "push":
            receiver.push("inner")
        else:
            getattr(receiver.inlet, deed)(*([None] if deed == "end" else []))
        return unpack(data)

    receiver.decode = decode
    for value in (1, 2, 3):
        receiver.push(value)
    assert receiver.inlet.take() == 1
    rest = taken(receiver)
    assert (inner, rest) == {
        "take": ([2], [3]), "push": ([], [2, 3, "inner"]), "end": ([], [2, 3]), "drop": ([], []),
    }[deed]  # fmt: skip


# Credit


def test_credit_counts_whole_frames(rig: Rig) -> None:
    """Header, name, metadata and payload: whatever the frame has."""
    receiver = Receiver(rig, window=2 * (32 + 1 + 2 + 1))
    one = receiver.item(1, name=b"n", metadata=b"md", header_size=32)
    assert len(one) == 36
    rig.lane.feed(one)
    assert receiver.inlet.take() == 1
    assert receiver.granted() == [36]


def test_a_grant_comes_with_half_a_window_taken(rig: Rig) -> None:
    receiver = Receiver(rig, window=100)
    for _ in range(5):
        receiver.push(0, cost=20)
    granted = []
    for _ in range(5):
        receiver.inlet.take()
        granted.append(receiver.granted())
    assert granted == [[], [], [60], [], []]
    receiver.push(0, cost=10)
    receiver.inlet.take()
    assert receiver.granted() == [50]


@pytest.mark.parametrize("own", [True, False])
def test_a_grant_names_the_stream_from_the_right_side(rig: Rig, own: bool) -> None:
    receiver = Receiver(rig, id=7, own=own, window=10)
    receiver.push(0)
    receiver.inlet.take()
    rig.turn()
    (frame,) = rig.sent()
    assert (frame.kind, frame.id, frame.reply, frame.arg) == (5, 7, not own, 21)


def test_credit_may_go_below_zero_by_one_frame(rig: Rig) -> None:
    receiver = Receiver(rig, window=50)
    receiver.push(0, cost=49)
    receiver.push(0, cost=5000)
    with pytest.raises(ProtocolError, match="stream 1: an item came without credit"):
        receiver.push(0, cost=1)
    assert len(receiver.inlet) == 2


def test_credit_that_was_granted_again_counts(rig: Rig) -> None:
    receiver = Receiver(rig, window=50)
    receiver.push(0, cost=60)
    receiver.inlet.take()
    assert receiver.granted() == [60]
    receiver.push(0, cost=50)
    with pytest.raises(ProtocolError):
        receiver.push(0, cost=1)


def test_an_item_without_credit_breaks_the_lane(rig: Rig) -> None:
    receiver = Receiver(rig, window=30)
    receiver.arrive(1, 2, 3)
    assert rig.owner.log == [("broken", ("ProtocolError", "stream 1: an item came without credit"))]
    assert taken(receiver) == [1, 2]


def test_nothing_is_granted_after_the_end(rig: Rig) -> None:
    receiver = Receiver(rig, window=20)
    receiver.push(1)
    receiver.inlet.end(None)
    assert receiver.inlet.take() == 1
    assert receiver.granted() == []


# The end


@pytest.mark.parametrize("error", [None, CodecError("broken"), KeyError("k")])
def test_what_waits_is_given_out_before_the_end(rig: Rig, error: Exception | None) -> None:
    receiver = Receiver(rig)
    receiver.push(1)
    receiver.push(2)
    receiver.inlet.end(error)
    assert receiver.inlet.is_over
    assert taken(receiver) == [1, 2]
    if error is not None:  # once
        with pytest.raises(type(error)) as caught:
            receiver.inlet.take()
        assert caught.value is error
    for _ in range(2):
        with pytest.raises(StopAsyncIteration):
            receiver.inlet.take()


def test_the_last_item_ends_it(rig: Rig) -> None:
    receiver = Receiver(rig)
    receiver.push(1, last=True)
    assert receiver.inlet.is_over
    assert receiver.inlet.take() == 1
    with pytest.raises(StopAsyncIteration):
        receiver.inlet.take()


def test_what_comes_after_the_end_is_dropped(rig: Rig) -> None:
    receiver = Receiver(rig, window=30)
    receiver.inlet.end(None)
    for _ in range(5):  # without regard to credit
        receiver.push(1)
    assert len(receiver.inlet) == 0
    receiver.arrive(1, 2)
    assert rig.owner.log == []


def test_the_first_end_counts(rig: Rig) -> None:
    receiver = Receiver(rig)
    receiver.inlet.end(CodecError("first"))
    receiver.inlet.end(CodecError("second"))
    with pytest.raises(CodecError, match="first"):
        receiver.inlet.take()


def test_dropping_forgets_items_and_error(rig: Rig) -> None:
    for ended in (False, True):
        receiver = Receiver(rig)
        receiver.push(1)
        receiver.push(2)
        receiver.inlet.take()
        if ended:
            receiver.inlet.end(CodecError("x"))
        receiver.inlet.drop()
        receiver.inlet.drop()
        assert (len(receiver.inlet), receiver.inlet.is_over) == (0, True)
        with pytest.raises(StopAsyncIteration):
            receiver.inlet.take()


# Waiting


def test_a_waiter_is_told_of_the_next_item(rig: Rig) -> None:
    receiver = Receiver(rig)
    waiter = receiver.inlet.wait()
    assert not waiter.done()
    receiver.push(1)
    assert waiter.told == [("result", None)]
    receiver.push(2)
    receiver.inlet.end(None)
    assert waiter.told == [("result", None)]  # once


@pytest.mark.parametrize("why", ["item", "end", "drop"])
def test_a_waiter_that_need_not_wait_is_done(rig: Rig, why: str) -> None:
    receiver = Receiver(rig)
    if why == "item":
        receiver.push(1)
    else:
        getattr(receiver.inlet, why)(*([None] if why == "end" else []))
    assert receiver.inlet.wait().done()


@pytest.mark.parametrize("why", ["last", "end", "drop"])
def test_whoever_waits_is_woken_when_it_ends(rig: Rig, why: str) -> None:
    receiver = Receiver(rig)
    waiter = receiver.inlet.wait()
    if why == "last":
        receiver.push(1, last=True)
    elif why == "end":
        receiver.inlet.end(CodecError("x"))
    else:
        receiver.inlet.drop()
    assert waiter.done()


def test_one_may_wait_at_a_time(rig: Rig) -> None:
    receiver = Receiver(rig)
    first = receiver.inlet.wait()
    with pytest.raises(ConfigError, match="a stream can be read by one task at a time"):
        receiver.inlet.wait()
    first.cancel()  # it has gone
    second = receiver.inlet.wait()
    receiver.push(1)
    assert (second.told, first.told) == ([("result", None)], [("cancelled",)])


def test_a_cancelled_waiter_is_not_told(rig: Rig) -> None:
    receiver = Receiver(rig)
    waiter = receiver.inlet.wait()
    waiter.cancel()
    receiver.push(1)
    assert waiter.told == [("cancelled",)]
    assert receiver.inlet.take() == 1


def test_items_of_one_read_wake_the_reader_once(rig: Rig) -> None:
    receiver = Receiver(rig, window=10_000)
    waiter = receiver.inlet.wait()
    receiver.arrive(*range(50))
    assert waiter.told == [("result", None)]
    assert len(rig.waiters) == 1
    assert taken(receiver) == list(range(50))


def test_a_fault_of_the_loop_passes(rig: Rig) -> None:
    receiver = Receiver(rig)

    def broken() -> Any:
        raise OSError("no futures")

    share = rig.twin.LoopShare(broken, rig.soon.append, lambda: 0.0, lambda: True, 0, None)
    lane = rig.twin.Lane(rig.owner, share, 1000)
    inlet = rig.twin.Inlet(lane, 1, True, 100, 1, print, print, print)
    with pytest.raises(OSError, match="no futures"):
        inlet.wait()
    with pytest.raises(LookupError):
        receiver.inlet.take()


def test_too_large_is_what_the_lane_says(rig: Rig) -> None:
    rig.lane.max_depth = 2
    rig.lane.measure(pack([[1]]))
    with pytest.raises(TooLarge, match="depth"):
        rig.lane.measure(pack([[[1]]] * 2))
    assert PURE.check_msgpack(pack([[[1]]]), 2, 100)
