"""Buffers beside a payload: cut anywhere they arrive whole, and belong to one frame only."""

import random
from types import SimpleNamespace
from typing import Any

import pytest

from fastrpc import wire
from fastrpc.errors import CodecError, FrameError, TooLarge
from tests.frame.rig import PURE, Rig, pack
from tests.frame.twins import agree, both, outcome, shown

BIG = wire.BIG_BODY


def framed(*sizes: int, name: bytes = b"", metadata: bytes = b"", seed: int = 0) -> bytes:
    """Return a frame with buffers of these sizes."""
    draw = random.Random(seed)
    buffers = [draw.randbytes(size) for size in sizes]
    return PURE.encode_frame(  # type: ignore[no-any-return]
        0, 1, serializer=1, arg=1, name=name, metadata=metadata, payload=b"\x05", buffers=buffers
    )


@pytest.fixture
def rig(twin: SimpleNamespace) -> Rig:
    return Rig(twin)


SHAPES = [
    (BIG,), (BIG, 0), (0, BIG), (BIG + 1, 3, BIG - 1), (1, 2, 3, BIG, 5), (BIG,) * 3, (0, 0, 0, BIG),
    (70_001, 0, 70_003, 1),
]  # fmt: skip


@pytest.mark.parametrize("sizes", SHAPES, ids=str)
@pytest.mark.parametrize("step", [1000, 4096, 65_537])
def test_cut_anywhere_they_arrive_whole(
    twin: SimpleNamespace, sizes: tuple[int, ...], step: int
) -> None:
    data = framed(*sizes, name=b"echo", metadata=b"\x01k\x00\x01v") + framed(3)
    frames: list[Any] = []
    decoder = twin.FrameDecoder()
    for at in range(0, len(data), step):
        frames += decoder.feed(data[at : at + step])
    first, second = frames
    draw = random.Random(0)
    assert first.buffers == [draw.randbytes(size) for size in sizes]
    assert all(type(buffer) is bytes for buffer in first.buffers)
    assert (first.payload, first.name, first.metadata) == (b"\x05", b"echo", b"\x01k\x00\x01v")
    assert len(second.buffers[0]) == 3


@pytest.mark.parametrize("first", [1, 19, 20, 33, 40, 44, 47, 48, 49, 50, 56, 57, 64, 65, 200])
def test_cut_inside_the_head_or_the_table(twin: SimpleNamespace, first: int) -> None:
    data = framed(BIG, 9, name=b"echo")
    decoder = twin.FrameDecoder()
    assert decoder.feed(data[:first]) == []
    (frame,) = decoder.feed(data[first:])
    assert list(map(len, frame.buffers)) == [BIG, 9]


def test_through_a_lane_they_come_into_memory_of_their_own(twin: SimpleNamespace) -> None:
    rig = Rig(twin)
    rig.receive(framed(BIG, 100_000, name=b"echo"), most=30_000)
    ((what, (frame,)),) = rig.owner.log
    assert what == "frames"
    assert list(map(len, frame["buffers"])) == [BIG, 100_000]
    assert not rig.lane.waiting


@pytest.mark.parametrize("how", ["stained", "table", "rest", "count", "flip"])
@pytest.mark.compiled
def test_what_is_wrong_is_found_alike(how: str) -> None:
    draw = random.Random(how)
    for _ in range(60):
        data = bytearray(framed(BIG + draw.randrange(8), draw.randrange(9), BIG, seed=1))
        if how == "stained":
            data[32 + draw.randrange(40)] ^= 1 << draw.randrange(8)
        elif how == "table":
            data[20 + draw.randrange(24)] ^= 1 << draw.randrange(8)
        elif how == "rest":
            data[16:20] = (len(data) - 20 + draw.randrange(-9, 9)).to_bytes(4, "big")
        elif how == "count":
            data[24:28] = draw.choice([0, 1, 2, 5, 1024, 1025, 2**32 - 1]).to_bytes(4, "big")
        else:
            data[draw.randrange(len(data))] ^= 255
        told = []
        step = draw.choice([61, 999, 40_000])
        for twin in both():
            decoder = twin.FrameDecoder(2**20)
            seen: list[Any] = []
            for at in range(0, len(data), step):
                seen.append(outcome(decoder.feed, bytes(data[at : at + step])))
            told.append(seen)
        agree("segments", *told, data.hex()[:200])


def test_padding_that_is_not_zero_ends_the_stream(twin: SimpleNamespace) -> None:
    data = bytearray(framed(BIG + 1, BIG))
    data[20 + 4 + 16 + 8 + BIG + 1 + 3] = 7  # header, table, payload and its padding, one buffer
    decoder = twin.FrameDecoder()
    with pytest.raises(FrameError, match="bytes between segments are not zero"):
        for at in range(0, len(data), 5000):
            decoder.feed(bytes(data[at : at + 5000]))


def beside(rig: Rig, *buffers: bytes) -> None:
    """Let the rig's codec put *buffers* beside whatever is encoded."""
    lane, encode = rig.lane, rig.lane.encoders[1]

    def with_buffers(value: Any) -> bytes:
        lane.taken.extend(buffers)
        return encode(value)  # type: ignore[no-any-return]

    lane.has_segments = True
    lane.encoders = [*lane.encoders]
    lane.encoders[1] = with_buffers


def sent(rig: Rig) -> list[dict[str, Any]]:
    rig.lane.flush()
    return [shown(frame) for frame in rig.sent()]


def test_requests_carry_what_the_codec_put_beside(rig: Rig) -> None:
    beside(rig, b"x" * BIG, b"y")
    rig.call("m", 1)
    rig.call("m", 2, metadata=b"\x01k\x00\x00", timeout=1.0)
    first, second = sent(rig)
    for frame, value in ((first, 1), (second, 2)):
        assert frame["buffers"] == [b"x" * BIG, b"y"]
        assert frame["payload"] == pack([value])
    assert (first["name"], second["name"], second["arg"]) == (b"m", b"", 1)
    assert (second["metadata"], second["time"]) == (b"\x01k\x00\x00", 1001)
    assert rig.lane.taken == []


def test_replies_and_items_do_so_too(rig: Rig) -> None:
    beside(rig, b"x" * BIG)
    rig.ask("echo", 5, arg=1)
    serializer, body = rig.lane.encode_result(1, 6)
    rig.lane.reply(9, serializer, body, metadata=b"\x01k\x00\x00")
    serializer, body = rig.lane.encode_result(1, 7)
    cost = rig.lane.put_item(3, False, serializer, body)
    reply, late, item = sent(rig)
    assert [frame["buffers"] for frame in (reply, late, item)] == [[b"x" * BIG]] * 3
    assert late["metadata"] == b"\x01k\x00\x00"
    assert (item["kind"], item["reply"]) == (3, True)
    assert cost == len(
        PURE.encode_frame(3, 3, reply=True, serializer=1, payload=body, buffers=[b"x" * BIG])
    )


def test_a_result_that_is_not_sent_leaves_nothing_for_the_next_frame(rig: Rig) -> None:
    beside(rig, b"secret" * BIG)
    _, body = rig.lane.encode_result(1, 6)
    assert rig.lane.size_of(body) > 6 * BIG
    rig.lane.reply(9, 1, b"\xa5other")  # an error, say, encoded elsewhere
    rig.lane.reply(10, 1, body)
    other, same = sent(rig)
    assert other["buffers"] == same["buffers"] == []
    assert rig.lane.size_of(body) == len(body)


def test_what_can_not_be_encoded_leaves_nothing_either(rig: Rig) -> None:
    beside(rig, b"x" * BIG)
    with pytest.raises(CodecError):
        rig.call("m", object())
    assert rig.lane.taken == []
    rig.lane.encoders[1] = pack
    rig.call("m", 1)
    assert sent(rig)[0]["buffers"] == []


def test_a_peer_that_takes_none_gets_it_inside(rig: Rig) -> None:
    beside(rig, b"x" * BIG)
    rig.lane.has_segments = False
    rig.owner.inline = lambda serializer, value: pack(["inside", list(value)])
    rig.call("m", 1)
    (frame,) = sent(rig)
    assert (frame["buffers"], frame["payload"]) == ([], pack(["inside", [1]]))


def test_they_count_against_the_peers_limit(rig: Rig) -> None:
    beside(rig, b"x" * BIG)
    rig.lane.peer_body = BIG
    with pytest.raises(TooLarge, match="over the server's max_body"):
        rig.call("m", 1)
    rig.ask("echo", 5, arg=1)
    assert [what for what, *_ in rig.owner.log if what == "unsendable"] == ["unsendable"]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_large_arguments_are_lifted_by_place_and_name(rig: Rig, kind: Any) -> None:
    lane = rig.lane
    lane.has_segments = True

    def lift(values: Any) -> list[Any]:
        lane.taken.extend(value for value in values if not isinstance(value, int))
        return [value if isinstance(value, int) else "there" for value in values]

    lane.lift = lift
    large, small = kind(b"z" * BIG), kind(b"z" * (BIG - 1))
    rig.call("m", 1, large)
    rig.call("m", 1, b=large)
    rig.call("m", 1, small)
    first, second, third = sent(rig)
    assert first["payload"] == pack([1, "there"])
    assert second["payload"] == pack({"b": "there", "*": [1]})
    assert first["buffers"] == second["buffers"] == [b"z" * BIG]
    assert third["buffers"] == []


def test_payloads_are_compressed_from_a_size_on(rig: Rig) -> None:
    lane = rig.lane
    lane.zip_from = 10
    lane.pack = lambda body: b"packed" if len(body) < 100 else None
    rig.call("m", "1234567")
    rig.call("m", "12345678")
    rig.call("m", "x" * 200)
    lane.reply(5, 1, b"0123456789")
    lane.reply(6, 1, b"0123456789", status=50)
    lane.put_item(3, True, 1, b"0123456789")
    frames = sent(rig)
    assert [frame["bits"] & wire.BIT_ZIP for frame in frames] == [0, 32, 0, 32, 0, 32]
    assert [frame["payload"] == b"packed" for frame in frames] == [
        False,
        True,
        False,
        True,
        False,
        True,
    ]


def test_memory_that_may_be_written_to(twin: SimpleNamespace) -> None:
    for size in (0, 1, 2, 5000):
        data = bytes(range(256)) * 20
        view = twin.writable(data[:size])
        assert (bytes(view), view.readonly) == (data[:size], False)
        if size:
            view[0] = 99
            assert view[0] == 99
    assert b"\x00"[0] == 0  # the ones that Python shares are not touched
    for wrong in (bytearray(b"x"), memoryview(b"x"), None):
        with pytest.raises(TypeError):
            twin.writable(wrong)
