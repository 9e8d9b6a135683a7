"""FrameDecoder: sizes at their limits, what is skipped, what is refused, and when."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrpc import wire
from fastrpc.errors import ConfigError, FrameError
from tests.frame.model import read_frames
from tests.frame.streams import CUTS, MAX_BODY, STREAMS, cut
from tests.frame.twins import FIELDS, agree, both, open_twin, shown

LIMIT = 100


def header(
    size: int, *, id: int = 1, head: int = 20, version: int = 1, extra: bytes = b""
) -> bytes:
    """Return a reply's header that claims a body of *size* bytes."""
    fixed = wire.MAGIC.to_bytes(2, "big") + head.to_bytes(2, "big") + bytes([version, 0x81, 0, 0])
    return fixed + id.to_bytes(8, "big") + size.to_bytes(4, "big") + extra


def pieces_of(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("size", [0, 1, LIMIT - 1, LIMIT])
@pytest.mark.parametrize("step", [1, 7, 1000])
def test_a_body_up_to_the_limit_is_taken_in(twin: SimpleNamespace, size: int, step: int) -> None:
    decoder = twin.FrameDecoder(LIMIT)
    body = bytes(range(256))[:size]
    frames = [f for piece in pieces_of(header(size) + body, step) for f in decoder.feed(piece)]
    assert [frame.payload for frame in frames] == [body]
    assert frames[0].oversize == 0
    assert not decoder.waiting


@pytest.mark.parametrize("size", [LIMIT + 1, 5000])
@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_a_longer_one_is_told_at_once_and_skipped(
    twin: SimpleNamespace, size: int, step: int
) -> None:
    decoder = twin.FrameDecoder(LIMIT)
    (frame,) = decoder.feed(header(size, id=9))
    assert (frame.id, frame.oversize, frame.payload, frame.reply) == (9, size, b"", True)
    assert decoder.waiting
    data = bytes(size) + header(2, id=10) + b"ok"
    frames = [f for piece in pieces_of(data, step) for f in decoder.feed(piece)]
    assert [(frame.id, frame.payload, frame.oversize) for frame in frames] == [(10, b"ok", 0)]
    assert not decoder.waiting


def test_skipping_goes_on_to_64_mib_and_no_farther(twin: SimpleNamespace) -> None:
    (frame,) = twin.FrameDecoder(LIMIT).feed(header(wire.SKIP_MAX))
    assert frame.oversize == wire.SKIP_MAX
    with pytest.raises(FrameError, match=f"^body of {wire.SKIP_MAX + 1} bytes is over {LIMIT}$"):
        twin.FrameDecoder(LIMIT).feed(header(wire.SKIP_MAX + 1))


@pytest.mark.parametrize("size", [2**31 - 1, 2**31, 2**32 - 20, 2**32 - 1])
def test_a_body_of_gigabytes_is_refused(twin: SimpleNamespace, size: int) -> None:
    with pytest.raises(FrameError, match=f"^body of {size} bytes is over {LIMIT}$") as caught:
        twin.FrameDecoder(LIMIT).feed(header(size))
    assert caught.value.at == "body size"
    assert caught.value.seen == header(size)


def test_the_highest_limit_takes_two_gigabytes_less_one(twin: SimpleNamespace) -> None:
    decoder = twin.FrameDecoder(wire.BODY_MAX)
    assert decoder.feed(header(wire.BODY_MAX)) == []
    assert decoder.waiting
    with pytest.raises(FrameError, match="over 2147483647"):
        twin.FrameDecoder(wire.BODY_MAX).feed(header(2**31))


@pytest.mark.parametrize("size", [wire.BIG_BODY - 1, wire.BIG_BODY, wire.BIG_BODY + 1, 300_000])
@pytest.mark.parametrize("step", [999, 65_536, 1_000_000])
def test_large_bodies_come_whole_in_any_pieces(twin: SimpleNamespace, size: int, step: int) -> None:
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    decoder = twin.FrameDecoder()
    data = (header(size, id=1) + body) + (header(1, id=2) + b"x")
    frames = [f for piece in pieces_of(data, step) for f in decoder.feed(piece)]
    assert [(f.id, f.payload == want) for f, want in zip(frames, [body, b"x"], strict=True)] == [
        (1, True),
        (2, True),
    ]


@pytest.mark.parametrize("head", [*range(20, 64, 4), 256])
@pytest.mark.parametrize("step", [1, 300])
def test_headers_of_any_length_read_alike(twin: SimpleNamespace, head: int, step: int) -> None:
    extra = bytes([0, 0, 0, 7, 0, 0, 0, 8, 0, 1, 0, 1] + [0xEE] * 224)[: head - 20]
    decoder = twin.FrameDecoder()
    data = header(3, head=head, extra=extra) + b"abc"
    (frame,) = [f for piece in pieces_of(data, step) for f in decoder.feed(piece)]
    assert frame.arg == (7 if head >= 24 else 0)
    assert frame.time == (8 if head >= 28 else 0)
    assert (frame.name, frame.metadata) == ((b"a", b"b") if head >= 32 else (b"", b""))
    assert frame.payload == (b"c" if head >= 32 else b"abc")


@pytest.mark.parametrize("head", [0, 1, 16, 19, 21, 22, 23, 257, 260, 65_535])
def test_headers_of_other_lengths_are_refused(twin: SimpleNamespace, head: int) -> None:
    text = rf"^header size {head} is not a multiple of 4 in 20\.\.256$"
    with pytest.raises(FrameError, match=text):
        twin.FrameDecoder().feed(header(0, head=head))


@given(junk=st.binary(min_size=4, max_size=224).map(lambda junk: junk[: len(junk) // 4 * 4]))
def test_bytes_past_the_known_header_mean_nothing(twin: SimpleNamespace, junk: bytes) -> None:
    plain = header(1, head=32, extra=bytes(12)) + b"x"
    longer = header(1, head=32 + len(junk), extra=bytes(12) + junk) + b"x"
    assert twin.FrameDecoder().feed(longer) == twin.FrameDecoder().feed(plain)


@pytest.mark.parametrize("version", [0, 2, 255])
def test_other_versions_are_refused(twin: SimpleNamespace, version: int) -> None:
    with pytest.raises(FrameError, match=f"^version {version} is not 1$") as caught:
        twin.FrameDecoder().feed(header(0, version=version))
    assert caught.value.at == "version"


@pytest.mark.parametrize(("first", "refused"), [(b"\xfa", False), (b"\xfaX", True), (b"GE", True)])
def test_strangers_are_known_by_two_bytes(
    twin: SimpleNamespace, first: bytes, refused: bool
) -> None:
    decoder = twin.FrameDecoder()
    if not refused:
        assert decoder.feed(first) == []
        return
    with pytest.raises(FrameError) as caught:
        decoder.feed(first)
    assert (caught.value.at, caught.value.seen) == ("magic", first)


def test_name_and_metadata_of_a_skipped_body_are_checked_too(twin: SimpleNamespace) -> None:
    long = header(300, head=32, extra=bytes(8) + b"\x01\x00\x01\x00")
    with pytest.raises(FrameError, match="^name of 256 and metadata of 256 bytes are longer"):
        twin.FrameDecoder(LIMIT).feed(long)
    (frame,) = twin.FrameDecoder(LIMIT).feed(
        header(512, head=32, extra=bytes(8) + b"\x01\x00\x01\x00")
    )
    assert (frame.oversize, frame.name, frame.metadata) == (512, b"", b"")


def segmented(body: bytes) -> bytes:
    frame = bytearray(header(len(body)) + body)
    frame[7] = wire.BIT_SEG
    return bytes(frame)


def words(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(4, "big") for number in numbers)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "segment table is cut off"),
        (b"\0\0\0", "segment table is cut off"),
        (words(0), "segment count 0 is not 1 to 1024"),
        (words(1025) + bytes(5000), "segment count 1025 is not 1 to 1024"),
        (words(2, 1), "segment table is cut off"),
        (words(1, 1), "segment of 1 bytes runs past the body"),
        (words(1, 2**32 - 1) + b"x", f"segment of {2**32 - 1} bytes runs past the body"),
        (words(2, 1, 1) + bytes(4) + b"a", "segment of 1 bytes runs past the body"),
        (words(2, 1, 0) + b"\0\0\x01\0" + b"a", "bytes between segments are not zero"),
        (words(1, 1) + b"ab", "1 bytes left over after the last segment"),
    ],
)
def test_segment_tables_that_lie_are_refused(twin: SimpleNamespace, body: bytes, text: str) -> None:
    with pytest.raises(FrameError) as caught:
        twin.FrameDecoder(10_000).feed(segmented(body))
    assert (str(caught.value), caught.value.at) == (text, "segment table")


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
def test_what_is_bytes_like_is_taken(twin: SimpleNamespace, make: Any) -> None:
    (frame,) = twin.FrameDecoder().feed(make(header(2) + b"ab"))
    assert frame.payload == b"ab"
    assert type(frame.payload) is bytes


def test_a_view_with_holes_is_taken_too(twin: SimpleNamespace) -> None:
    data = header(2) + b"ab"
    doubled = bytes(byte for byte in data for _ in range(2))
    (frame,) = twin.FrameDecoder().feed(memoryview(doubled)[::2])
    assert frame.payload == b"ab"


def test_payloads_own_their_bytes(twin: SimpleNamespace) -> None:
    data = bytearray(header(2) + b"ab")
    (frame,) = twin.FrameDecoder().feed(data)
    data[-1] = 0
    assert frame.payload == b"ab"


@pytest.mark.parametrize("thing", [None, "text", 5, [1]])
def test_what_is_not_is_refused(twin: SimpleNamespace, thing: Any) -> None:
    text = rf"^feed\(\) takes bytes, not {type(thing).__name__}$"
    with pytest.raises(TypeError, match=text):
        twin.FrameDecoder().feed(thing)


@pytest.mark.parametrize("max_body", [0, -1, 2**31])
def test_a_limit_no_frame_could_have_is_refused(twin: SimpleNamespace, max_body: int) -> None:
    with pytest.raises(ConfigError, match=f"^max_body must be 1 to 2147483647, got {max_body}$"):
        twin.FrameDecoder(max_body)


@pytest.mark.parametrize("magic", [-1, 2**16])
def test_a_magic_no_frame_could_have_is_refused(twin: SimpleNamespace, magic: int) -> None:
    with pytest.raises(ConfigError, match=f"^magic must be 0 to 65535, got {magic}$"):
        twin.FrameDecoder(magic=magic)


def test_the_limit_can_be_raised_while_it_runs(twin: SimpleNamespace) -> None:
    decoder = twin.FrameDecoder(max_body=10)
    assert (decoder.max_body, decoder.magic) == (10, wire.MAGIC)
    assert decoder.feed(header(11) + bytes(11))[0].oversize == 11
    decoder.max_body = 11
    assert decoder.feed(header(11) + bytes(11))[0].oversize == 0


def read(twin: SimpleNamespace, pieces: list[bytes]) -> tuple[list[Any], Any]:
    """Return the frames, and the error if there was one."""
    decoder = twin.FrameDecoder(MAX_BODY)
    frames: list[Any] = []
    try:
        for piece in [*pieces, b""]:
            frames += [shown(frame) for frame in decoder.feed(piece)]
    except FrameError as exc:
        return frames, shown(exc)
    return frames, decoder.waiting


@pytest.mark.compiled
@given(data=STREAMS, sizes=CUTS)
def test_both_twins_read_a_stream_alike_and_like_the_model(data: bytes, sizes: list[int]) -> None:
    pure, compiled = both()
    pieces = cut(data, sizes)
    one, other = read(pure, pieces), read(compiled, pieces)
    agree("streams read", one, other, pieces)
    frames, wrong = read_frames(data, MAX_BODY)
    assert one[0] == frames
    assert (one[1][2] if isinstance(one[1], tuple) else "") == wrong


@given(data=STREAMS, sizes=CUTS, others=CUTS)
def test_how_a_stream_is_cut_makes_no_difference(
    twin: SimpleNamespace, data: bytes, sizes: list[int], others: list[int]
) -> None:
    one, other = read(twin, cut(data, sizes)), read(twin, cut(data, others))
    assert one[0] == other[0]
    # What an error saw of the bad frame depends on how much of it had come.
    if isinstance(one[1], tuple) and isinstance(other[1], tuple):
        assert one[1][2] == other[1][2]
    else:
        assert one[1] == other[1]


def test_fields_are_all_compared() -> None:
    assert set(FIELDS) == set(open_twin("pure").Frame.__slots__)
