"""Memory grows with what has come, not with what a header claims; and comes back."""

import gc
import sys
import tracemalloc
import weakref
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from fastrpc import wire
from tests.frame.halves import Receiver
from tests.frame.rig import PURE, Rig

MIB = 2**20
CLAIMS = 20


def resident() -> int:
    rss: int = psutil.Process().memory_info().rss
    return rss


def claim(size: int) -> bytes:
    """Return the header of a call with a body of *size* bytes, and none of the body."""
    return PURE.encode_frame(0, 1, serializer=1, arg=1)[:16] + size.to_bytes(4, "big") + bytes(4)


def test_a_claim_of_16_mib_takes_none(twin: SimpleNamespace) -> None:
    decoders = [twin.FrameDecoder(16 * MIB) for _ in range(CLAIMS)]
    before = resident()
    for decoder in decoders:
        assert decoder.feed(claim(16 * MIB)) == []
        assert decoder.feed(bytes(1000)) == []
    assert resident() - before < 16 * MIB * CLAIMS // 4
    assert all(decoder.waiting for decoder in decoders)


def test_a_lane_that_is_promised_16_mib_takes_none(twin: SimpleNamespace) -> None:
    rigs = [Rig(twin, max_body=16 * MIB) for _ in range(CLAIMS)]
    before = resident()
    for rig in rigs:
        rig.receive(claim(16 * MIB))
        rig.receive(bytes(100_000))
    assert resident() - before < 16 * MIB * CLAIMS // 4
    assert all(rig.lane.waiting for rig in rigs)


def test_what_has_come_of_a_large_body_takes_little_more_than_itself(twin: SimpleNamespace) -> None:
    rig = Rig(twin, max_body=64 * MIB)
    rig.receive(claim(64 * MIB))
    before = resident()
    rig.receive(bytes(4 * MIB), most=256 * 1024)
    assert resident() - before < 24 * MIB


def test_a_body_that_is_skipped_takes_none(twin: SimpleNamespace) -> None:
    decoder = twin.FrameDecoder(1000)
    before = resident()
    decoder.feed(claim(wire.SKIP_MAX))
    chunk = bytes(MIB)
    for _ in range(64):
        assert decoder.feed(chunk) == []
    assert not decoder.waiting
    assert resident() - before < 8 * MIB


@pytest.mark.parametrize("what", ["decoder", "lane", "table", "answers"])
def test_blocks_come_back(twin: SimpleNamespace, what: str) -> None:
    """Thousands of rounds leave no object behind."""
    rig = Rig(twin)
    frame = PURE.encode_frame(0, 1, serializer=1, name=b"n", metadata=b"m", payload=b"x" * 100)
    table = twin.CallTable()

    def round_of(what: str) -> None:
        if what == "decoder":
            twin.FrameDecoder().feed(frame)
        elif what == "table":
            table.open(None, deadline=1.0)
            table.open(None)
            table.expire(2.0)
            table.drain()
        elif what == "lane":
            id = rig.lane.table.next_id
            rig.call("m", 1)
            rig.answer(id, 5)
            rig.call("m", 1)
            rig.answer(id + 1, payload=b"\xc1")
            rig.waiters.clear()
        else:
            for name in ("echo", "fail", "nobody", "odd"):
                rig.ask(name, 1)
        rig.owner.log.clear()
        rig.turn()
        rig.written.clear()

    for _ in range(200):
        round_of(what)
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(1000):
        round_of(what)
    gc.collect()
    assert sys.getallocatedblocks() - before < 200


def test_a_lane_goes_when_nobody_holds_it(twin: SimpleNamespace) -> None:
    class Owner:
        lane: Any = None

    owner = Owner()
    rig = Rig(twin)
    owner.lane = twin.Lane(owner, rig.share, 1000)  # a circle, as a session is
    owner.lane.send(b"never sent")
    owner.lane.feed(b"\xfa")
    rig.soon.clear()  # a flush that was put off holds the lane as well
    gone = weakref.ref(owner)
    del owner
    gc.collect()
    assert gone() is None


def test_a_table_lets_the_collector_see_its_waiters(twin: SimpleNamespace) -> None:
    class Waiter:
        table: Any = None

    waiter = Waiter()
    waiter.table = twin.CallTable()
    waiter.table.open(waiter)
    gone = weakref.ref(waiter)
    del waiter
    gc.collect()
    assert gone() is None


def body_of(twin: SimpleNamespace, body: bytes) -> Any:
    """Send *body* in two pieces, and return what the decoder makes of it."""
    data = PURE.encode_frame(0, 1, serializer=0, arg=1, payload=body)
    decoder = twin.FrameDecoder(16 * MIB)
    decoder.feed(data[:50_000])
    (frame,) = decoder.feed(data[50_000:])
    return frame.payload


def test_a_large_body_that_is_held_is_never_written_to_again(twin: SimpleNamespace) -> None:
    kept = [body_of(twin, bytes([number]) * MIB) for number in range(10)]
    views = [memoryview(body_of(twin, bytes([number]) * MIB)) for number in range(10)]
    for number in range(10):
        assert kept[number] == views[number] == bytes([number]) * MIB


def test_a_large_body_in_memory_used_again_is_a_value_of_its_own(twin: SimpleNamespace) -> None:
    for number in range(20):  # dropped at once each time
        for size in (MIB, MIB, 3 * MIB):
            body = body_of(twin, bytes([number]) * size)
            assert body == bytes([number]) * size
            assert {bytes([number]) * size: 1}[body] == 1  # by its hash
            del body


def test_large_bodies_that_were_dropped_hold_little(twin: SimpleNamespace) -> None:
    body_of(twin, bytes(100_000))
    gc.collect()
    before = resident()
    for size in (MIB, 2 * MIB, 4 * MIB):
        for _ in range(20):
            body_of(twin, bytes(size))
    gc.collect()
    assert resident() - before < 12 * MIB


def kept_of(twin: SimpleNamespace, size: int) -> int:
    """Receive some bodies and drop them; return how much memory they still take."""
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(4):
        body_of(twin, bytes(size))
    return tracemalloc.get_traced_memory()[0] - before


def test_memory_of_the_largest_bodies_is_kept_while_somebody_asks_for_its_release(
    twin: SimpleNamespace,
) -> None:
    keeps, size = twin.COMPILED, 8 * MIB
    tracemalloc.start()
    try:
        twin.release_bodies(everything=True)
        assert kept_of(twin, size) < MIB  # nobody would let go of it
        twin.release_bodies()
        assert keeps * size <= kept_of(twin, size) < keeps * size + MIB
        most = tracemalloc.get_traced_memory()[0]
        twin.release_bodies()  # it was in use since the last time
        assert most - tracemalloc.get_traced_memory()[0] < MIB
        twin.release_bodies()
        assert most - tracemalloc.get_traced_memory()[0] > keeps * size - MIB
        kept_of(twin, size)
        twin.release_bodies(everything=True)
        assert most - tracemalloc.get_traced_memory()[0] > keeps * size - MIB
        assert kept_of(twin, size) < MIB
    finally:
        tracemalloc.stop()
        twin.release_bodies(everything=True)


@pytest.mark.parametrize("bits", [wire.BIT_ZIP, 0], ids=["zipped", "plain"])
def test_items_that_wait_take_a_small_multiple_of_their_window(
    twin: SimpleNamespace, bits: int
) -> None:
    count = 20_000
    half = Receiver(Rig(twin), window=MIB)
    frames = b"".join(
        PURE.encode_frame(wire.Kind.DATA, 1, reply=True, serializer=1, bits=bits, payload=b"\x01")
        for _ in range(count)
    )
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        half.rig.receive(frames)
        waits = tracemalloc.get_traced_memory()[0] - before
        assert len(half.inlet) == count
        assert waits < len(frames) * (8 if twin.name == "pure" else 5)
    finally:
        tracemalloc.stop()
