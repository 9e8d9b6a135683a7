"""The golden vectors of streams: what lane, outlet and inlet write and take, byte for byte."""

from types import SimpleNamespace
from typing import Any

import pytest

from fastrpc.wire import BIT_END, Kind
from tests.frame.golden import GOOD
from tests.frame.halves import Receiver, Sender
from tests.frame.rig import Rig, Waiter

VECTORS = {vector.name: vector.data for vector in GOOD}
CREDIT = 65_536


def opened(rig: Rig) -> None:
    rig.lane.start("Arith.Range", (3,), None, 0.0, b"", None, Waiter(), Kind.OPEN | BIT_END)


def bidi_opened(rig: Rig) -> None:
    """The vector has no arguments at all; a list of none is another way to say it."""
    rig.call("Arith.Range")
    rig.lane.flush()
    rig.taken()
    rig.lane.encoders[1] = lambda value: b""
    rig.lane.start("Arith.Sum", (), None, 0.0, b"", None, Waiter(), Kind.OPEN)


def granted(rig: Rig, id: int, own: bool) -> None:
    receiver = Receiver(rig, id=id, own=own, window=2 * CREDIT)
    receiver.push(0, cost=CREDIT)
    receiver.inlet.take()


def given_up(rig: Rig) -> None:
    opened(rig)
    rig.lane.flush()
    rig.taken()
    assert rig.lane.cancel(9)


WRITTEN: dict[str, Any] = {
    "stream_open": opened,
    "stream_item": lambda rig: Sender(rig, id=9, own=False).outlet.put(0),
    "stream_credit": lambda rig: granted(rig, 9, True),
    "stream_done": lambda rig: rig.lane.reply(9, 0, b""),
    "bidi_open": bidi_opened,
    "bidi_item": lambda rig: Sender(rig, id=10).outlet.put(7),
    "bidi_half": lambda rig: rig.lane.send(rig.twin.encode_frame(Kind.HALF, 10)),
    "bidi_credit": lambda rig: granted(rig, 10, False),
    "cancel": given_up,
}


@pytest.mark.parametrize("name", WRITTEN)
def test_written_byte_for_byte(twin: SimpleNamespace, name: str) -> None:
    rig = Rig(twin, first_id=8)
    rig.call("Arith.Add")  # has the number 1
    rig.lane.flush()
    rig.taken()
    WRITTEN[name](rig)
    rig.lane.flush()
    assert rig.taken().hex() == VECTORS[name].hex()


@pytest.mark.parametrize("most", [1, 2**30])
def test_a_caller_takes_them(twin: SimpleNamespace, most: int) -> None:
    rig = Rig(twin, first_id=9)
    waiter = Waiter()
    rig.lane.start("Arith.Range", (3,), None, 0.0, b"", None, waiter, Kind.OPEN | BIT_END)
    receiver = Receiver(rig, id=9)
    sender = Sender(rig, id=10, credit=1)
    rig.receive(VECTORS["stream_item"] + VECTORS["bidi_credit"] + VECTORS["stream_done"], most)
    assert receiver.inlet.take() == 0
    frames = [frame for what, *told in rig.owner.log if what == "frames" for frame in told[0]]
    assert [(frame["kind"], frame["id"], frame["arg"]) for frame in frames] == [
        (Kind.CREDIT, 10, CREDIT)
    ]
    sender.outlet.grant(frames[0]["arg"])
    assert waiter.result() == b""


@pytest.mark.parametrize("most", [1, 2**30])
def test_a_callee_takes_them(twin: SimpleNamespace, most: int) -> None:
    rig = Rig(twin)
    receiver = Receiver(rig, id=10, own=False)
    rig.receive(
        b"".join(
            VECTORS[name]
            for name in (
                "stream_open",
                "bidi_open",
                "bidi_item",
                "bidi_last",
                "stream_credit",
                "cancel",
            )
        ),
        most,
    )
    assert [receiver.inlet.take(), receiver.inlet.take()] == [7, 8]
    assert receiver.inlet.is_over
    frames = [frame for what, *told in rig.owner.log if what == "frames" for frame in told[0]]
    assert [(frame["kind"], frame["id"], frame["arg"], frame["bits"]) for frame in frames] == [
        (Kind.OPEN, 9, 2, BIT_END), (Kind.OPEN, 10, 3, 0), (Kind.CREDIT, 9, CREDIT, 0),
        (Kind.CANCEL, 9, 0, 0),
    ]  # fmt: skip
    assert rig.lane.last_id == 10


def test_items_ended_by_half(twin: SimpleNamespace) -> None:
    rig = Rig(twin)
    receiver = Receiver(rig, id=10, own=False)
    rig.owner.does["frames"] = lambda owner, frames: [
        receiver.inlet.end(None) for frame in frames if frame.kind == Kind.HALF
    ]
    rig.lane.feed(VECTORS["bidi_item"] + VECTORS["bidi_half"] + VECTORS["bidi_item"])
    assert (len(receiver.inlet), receiver.inlet.is_over) == (1, True)
