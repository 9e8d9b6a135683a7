"""Lane: items find their stream, streams are opened and given up, calls with metadata."""

import gc
import importlib
import weakref
from types import SimpleNamespace
from typing import Any

import pytest

from fastrpc import wire
from fastrpc.errors import CodecError, ConfigError, TooLarge
from tests.frame.halves import Receiver, Sender, unpack
from tests.frame.rig import PURE, Owner, Rig, Waiter, pack
from tests.frame.twins import open_twin

OPEN, END, MORE = 2, wire.BIT_END, wire.BIT_MORE


@pytest.fixture
def rig(twin: SimpleNamespace) -> Rig:
    return Rig(twin)


def taken(receiver: Receiver) -> list[Any]:
    return [receiver.inlet.take() for _ in range(len(receiver.inlet))]


def steps(rig: Rig) -> list[str]:
    return [what for what, *_ in rig.owner.log]


# Items


def test_each_item_goes_to_its_stream(rig: Rig) -> None:
    """The same number may be one of ours and one of the peer's."""
    all = [Receiver(rig, id=id, own=own) for id in (1, 2) for own in (True, False)]
    order = [0, 0, 1, 0, 3, 3, 2, 1, 0, 2, 2, 3]
    rig.lane.feed(b"".join(all[at].item([at, n]) for n, at in enumerate(order)))
    for at, receiver in enumerate(all):
        assert taken(receiver) == [[at, n] for n, one in enumerate(order) if one == at]
    assert rig.owner.log == []


def test_items_of_no_stream_are_dropped(rig: Rig) -> None:
    receiver = Receiver(rig, id=1)
    lost = PURE.encode_frame(3, 9, reply=True, payload=b"x")
    rig.lane.feed(lost + receiver.item(1) + lost + receiver.item(2) + lost)
    assert taken(receiver) == [1, 2]
    assert rig.owner.log == []


def test_items_before_any_stream_are_dropped(rig: Rig) -> None:
    rig.lane.feed(PURE.encode_frame(3, 1, reply=True, payload=b"x"))
    rig.lane.drop_sink(1, True)
    assert (rig.owner.log, rig.lane.calls_in) == ([], 0)


def test_items_before_hello_are_handed_up(twin: SimpleNamespace) -> None:
    rig = Rig(twin, opened=False)
    receiver = Receiver(rig)
    rig.lane.feed(receiver.item(1))
    assert steps(rig) == ["frames"]
    assert len(receiver.inlet) == 0


def test_fragments_are_no_items(rig: Rig) -> None:
    receiver = Receiver(rig)
    rig.lane.feed(receiver.item(1, bits=MORE))
    assert steps(rig) == ["frames"]
    assert len(receiver.inlet) == 0


def test_a_sink_may_be_dropped_twice_and_replaced(rig: Rig) -> None:
    first = Receiver(rig, window=1000)
    rig.lane.feed(first.item(1))
    second = Receiver(rig, window=1000)
    rig.lane.feed(first.item(2))
    rig.lane.drop_sink(1, True)
    rig.lane.drop_sink(1, True)
    rig.lane.feed(first.item(3))
    rig.lane.add_sink(1, True, first.inlet)
    rig.lane.feed(first.item(4))
    assert (taken(first), taken(second)) == ([1, 4], [2])


@pytest.mark.parametrize("last", [b"", b"\x07"])
def test_the_bit_end_ends_a_stream(rig: Rig, last: bytes) -> None:
    receiver = Receiver(rig, own=False)
    rig.lane.feed(receiver.item(0, bits=END, payload=last) + receiver.item(9))
    assert receiver.inlet.is_over
    assert len(receiver.inlet) == 1


def test_the_stream_may_open_in_the_same_read(rig: Rig) -> None:
    opened: list[Receiver] = []

    def open_it(owner: Owner, frames: list[Any]) -> None:
        opened.extend(
            Receiver(rig, id=frame.id, own=False) for frame in frames if frame.kind == OPEN
        )

    rig.owner.does["frames"] = open_it
    item = [PURE.encode_frame(3, id, serializer=1, payload=pack(id * 10)) for id in (0, 1, 2)]
    rig.lane.feed(
        PURE.encode_frame(OPEN, 1, serializer=1, name=b"n", arg=1, payload=pack([]))
        + item[1]
        + PURE.encode_frame(OPEN, 2, serializer=1, arg=1, payload=pack([]))
        + item[2] + item[1]
    )  # fmt: skip
    assert [taken(receiver) for receiver in opened] == [[10, 10], [20]]
    assert steps(rig) == ["frames", "frames"]


@pytest.mark.parametrize("deed", ["fail", "leave"])
def test_nothing_comes_behind_an_owner_that_ends_it(rig: Rig, deed: str) -> None:
    receiver = Receiver(rig)

    def end_it(owner: Owner, frames: list[Any]) -> None:
        if deed == "fail":
            raise OSError("no")
        owner.lane.detach()

    rig.owner.does["frames"] = end_it
    rig.lane.feed(PURE.encode_frame(4, 9) + receiver.item(1) + receiver.item(2))
    assert len(receiver.inlet) == 0
    assert steps(rig) == ["frames", "broken"] if deed == "fail" else ["frames"]


@pytest.mark.parametrize("how", ["end", "drop", "last", "detach"])
def test_a_lane_holds_no_stream_that_has_ended(rig: Rig, how: str) -> None:
    """A connection may live for weeks, and serve millions of them."""
    receiver = Receiver(rig, own=how != "last")  # a callee's items have no last one
    gone = weakref.ref(receiver)  # its inlet holds it
    rig.lane.feed(receiver.item(1))
    if how == "last":
        rig.lane.feed(receiver.item(2, bits=END))
    elif how == "detach":
        rig.lane.detach()
    else:
        getattr(receiver.inlet, how)(*([None] if how == "end" else []))
    del receiver
    gc.collect()
    assert gone() is None


def test_a_detached_lane_forgets_its_sinks(rig: Rig) -> None:
    receiver = Receiver(rig)
    rig.lane.detach()
    rig.lane.drop_sink(1, True)
    receiver.inlet.end(None)
    assert receiver.inlet.is_over
    late = Receiver(rig, id=2)  # of a handler that has not heard of it
    rig.lane.feed(late.item(1))
    assert len(late.inlet) == 0


def test_items_do_not_wait_for_the_peer_to_read(rig: Rig) -> None:
    """Credit bounds them; and what is to be sent may depend on them."""
    receiver = Receiver(rig)
    rig.lane.paused = True
    rig.lane.feed(receiver.item(1) + receiver.item(2))
    assert (taken(receiver), rig.lane.stalled) == ([1, 2], False)


@pytest.mark.parametrize("most", [1, 7, 50, 40_000])
def test_items_of_any_size_cut_anywhere(rig: Rig, most: int) -> None:
    receiver = Receiver(rig, window=2**20)
    values: list[Any] = [1, "x" * 50, None] if most < 100 else [1, bytes(100_000), "y" * 40_000]
    rig.receive(b"".join(receiver.item(value) for value in values), most)
    assert taken(receiver) == values


def test_a_large_item_is_no_copy(rig: Rig) -> None:
    receiver = Receiver(rig, window=2**20, serializer=0)
    got: list[bytes] = []
    receiver.decode = lambda data: got.append(data)
    big = bytes(range(256)) * 400
    rig.receive(receiver.item(0, serializer=0, payload=big), 50_000)
    receiver.inlet.take()
    assert got == [big]


def test_parts_before_the_payload_are_left_out(rig: Rig) -> None:
    receiver = Receiver(rig)
    rig.lane.feed(receiver.item("v", name=b"name", metadata=b"md"))
    assert taken(receiver) == ["v"]


def test_a_pause_of_the_stream_between_two_reads(rig: Rig) -> None:
    receiver, other = Receiver(rig, id=1), Receiver(rig, id=2)
    rig.lane.feed(receiver.item(1))
    receiver.inlet.drop()
    rig.lane.feed(receiver.item(2) + other.item(3))
    assert (len(receiver.inlet), taken(other)) == (0, [3])


@pytest.mark.compiled
def test_a_sink_of_the_compiled_lane_is_an_inlet() -> None:
    rig = Rig(open_twin("compiled"))
    with pytest.raises(TypeError):
        rig.lane.add_sink(1, True, object())
    rig.lane.add_sink(1, True, importlib.import_module("fastrpc._lane").Sink())  # none of its own
    rig.lane.feed(PURE.encode_frame(3, 1, reply=True))
    assert rig.owner.log == [("broken", ("AssertionError", ""))]


# Out


@pytest.mark.parametrize("own", [True, False])
def test_an_item_costs_its_frame(rig: Rig, own: bool) -> None:
    assert rig.lane.put_item(5, own, 1, b"12345") == 25
    assert rig.lane.put_item(5, own, 0, b"") == 20
    rig.turn()
    assert [(f.kind, f.id, f.reply, f.serializer, f.payload) for f in rig.sent()] == [
        (3, 5, not own, 1, b"12345"), (3, 5, not own, 0, b""),
    ]  # fmt: skip


def test_items_put_while_reading_leave_with_the_read(rig: Rig) -> None:
    sender = Sender(rig, own=False)

    def answer(owner: Owner, frames: list[Any]) -> None:
        for n in range(3):
            sender.outlet.put(n)

    rig.owner.does["frames"] = answer
    rig.lane.feed(PURE.encode_frame(4, 9))
    assert (rig.writes, rig.soon) == (1, [])
    assert sender.gone() == [0, 1, 2]


# Opening and giving up


def started(rig: Rig, bits: int = OPEN, waiter: Any = None, **more: Any) -> int:
    given = {"args": (1,), "kwargs": None, "timeout": 0.0, "metadata": b"", "decode": None} | more
    id: int = rig.lane.start(
        "m", given["args"], given["kwargs"], given["timeout"], given["metadata"],
        given["decode"], waiter, bits,
    )  # fmt: skip
    return id


@pytest.mark.parametrize("bits", [0, OPEN, OPEN | END])
def test_a_stream_is_opened_as_it_is_said(rig: Rig, bits: int) -> None:
    waiter = Waiter()
    assert started(rig, bits, waiter, timeout=2.0, metadata=b"md", kwargs={"k": 2}) == 1
    (frame,) = rig.sent()
    assert (frame.kind, frame.bits, frame.id, frame.name, frame.arg, frame.time) == (
        bits & 15, bits & 0xF0, 1, b"m", 1, 2001,
    )  # fmt: skip
    assert (frame.metadata, unpack(frame.payload)) == (b"md", {"k": 2, "*": [1]})
    assert (len(rig.lane.table), rig.lane.calls_out) == (1, 1)
    rig.answer(1, "end")
    assert waiter.result() == "end"


def test_numbers_of_methods_are_shared_with_calls(rig: Rig) -> None:
    rig.call("m")
    assert started(rig, OPEN, Waiter()) == 2
    assert started(rig, OPEN, Waiter(), timeout=1.0) == 3
    rig.turn()
    assert [(f.kind, f.name, f.arg, f.time > 0) for f in rig.sent()] == [
        (0, b"m", 1, False), (OPEN, b"", 1, False), (OPEN, b"", 1, True),
    ]  # fmt: skip


def test_without_a_waiter_one_is_made(rig: Rig) -> None:
    id = started(rig, OPEN)
    rig.answer(id, 5)
    assert rig.waiters[0].result() == 5


def test_opening_that_fails_leaves_nothing(rig: Rig) -> None:
    waiter = Waiter()
    for more, error in (
        ({"args": (object(),)}, CodecError), ({"metadata": bytes(65_536)}, TooLarge),
    ):  # fmt: skip
        with pytest.raises(error):
            started(rig, OPEN, waiter, **more)
    rig.running = False
    with pytest.raises(ConfigError):
        started(rig, OPEN, waiter)
    assert (len(rig.lane.table), rig.written, waiter.told) == (0, b"", [])


def test_a_lone_one_leaves_at_once_and_a_corked_one_with_the_others(rig: Rig) -> None:
    rig.lane.corked = True
    ids = [started(rig, 0, Waiter()) for _ in range(3)]
    assert rig.writes == 0
    rig.lane.corked = False
    rig.turn()
    assert (rig.writes, len(rig.sent())) == (1, 3)
    for id in ids:
        rig.lane.cancel(id)
    rig.turn()
    started(rig, 0, Waiter())
    assert rig.writes == 3


def test_giving_up_tells_the_peer_once(rig: Rig) -> None:
    waiter = Waiter()
    id = started(rig, OPEN, waiter)
    rig.taken()
    assert rig.lane.cancel(id) is True
    assert rig.lane.cancel(id) is False
    assert rig.lane.cancel(99) is False
    rig.turn()
    assert [(frame.kind, frame.id, frame.status) for frame in rig.sent()] == [(6, id, 42)]
    rig.answer(id, 1)
    assert (waiter.told, rig.lane.late, rig.lane.given_up) == ([], 1, 1)


def test_what_has_ended_can_not_be_given_up(rig: Rig) -> None:
    id = started(rig, OPEN, Waiter())
    rig.answer(id, 1)
    rig.taken()
    assert rig.lane.cancel(id) is False
    rig.turn()
    assert rig.taken() == b""


@pytest.mark.parametrize("kind", [0, OPEN])
def test_opens_take_ids_and_numbers_as_calls_do(rig: Rig, kind: int) -> None:
    rig.lane.feed(
        PURE.encode_frame(kind, 3, serializer=1, name=b"echo", arg=4, payload=pack([1]), bits=END)
    )
    assert (rig.lane.last_id, rig.lane.calls_in) == (3, 1)
    assert rig.lane.bound_method(4).name == b"echo"
    rig.lane.feed(PURE.encode_frame(OPEN, 3, serializer=1))
    assert rig.owner.log[-1][0] == "broken"


# Calls with metadata


GOOD = b"\x01k\x00\x01v"


def test_calls_with_metadata_are_answered_here(rig: Rig) -> None:
    rig.lane.feed(rig.asked("echo", 5, id=1, metadata=GOOD) + rig.asked("echo", 6, id=2))
    assert [unpack(frame.payload) for frame in rig.sent()] == [5, 6]
    assert rig.owner.log == []


@pytest.mark.parametrize("metadata", [b"k", b"\x00\x00\x01v", b"\x01K\x00\x01v", GOOD + b"\x01"])
def test_metadata_that_is_not_sound_is_handed_up(rig: Rig, metadata: bytes) -> None:
    rig.ask("echo", 5, metadata=metadata)
    ((what, (frame,)),) = rig.owner.log
    assert (what, frame["metadata"], frame["name"]) == ("frames", metadata, b"echo")
    assert rig.written == b""
    assert rig.lane.last_id == 1


@pytest.mark.parametrize("limit", ["size", "pairs"])
def test_metadata_over_the_limits_is_handed_up(rig: Rig, limit: str) -> None:
    rig.lane.max_metadata = len(GOOD) * (2 if limit == "size" else 10)
    rig.lane.max_metadata_pairs = 10 if limit == "size" else 2
    rig.ask("echo", 5, metadata=GOOD * 2)
    assert rig.owner.log == []
    rig.ask("echo", 5, metadata=GOOD * 3)
    assert steps(rig) == ["frames"]


@pytest.mark.parametrize(
    ("name", "what"), [("fail", "raised"), ("task", "start"), ("odd", "unsendable")]
)
@pytest.mark.parametrize("by_number", [False, True])
def test_frames_handed_up_have_their_metadata(
    rig: Rig, name: str, what: str, by_number: bool
) -> None:
    if by_number:
        rig.ask("echo", 1)
        rig.lane.feed(rig.asked(name, id=2, arg=3))
        rig.owner.log.clear()
        rig.lane.feed(rig.asked(name, 1, id=3, arg=3, metadata=GOOD, name=b""))
    else:
        rig.ask(name, 1, metadata=GOOD)
    ((told, _, frame, *_),) = rig.owner.log
    assert (told, frame["metadata"], unpack(frame["payload"])) == (what, GOOD, [1])
    assert frame["name"] == (b"" if by_number else name.encode())


def test_arguments_that_do_not_fit_keep_their_metadata(rig: Rig) -> None:
    rig.ask("echo", metadata=GOOD, payload=b"\xc1")
    ((told, _, frame, exc),) = rig.owner.log
    assert (told, frame["metadata"], exc[0]) == ("bind", GOOD, "DecodeError")


def test_a_large_call_with_metadata(rig: Rig) -> None:
    rig.receive(rig.asked("echo", bytes(100_000), id=1, metadata=GOOD), 30_000)
    rig.receive(rig.asked("fail", bytes(100_000), id=2, metadata=GOOD), 30_000)
    (reply,) = rig.sent()
    assert unpack(reply.payload) == bytes(100_000)
    assert rig.owner.log[0][2]["metadata"] == GOOD
