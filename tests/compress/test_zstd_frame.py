"""zstd means one frame that stands for itself, with a window that a server can afford."""

import sys

import pytest

from fastrpc.compress import ZstdCompressor
from fastrpc.compress.inflate import PIECE
from fastrpc.errors import CodecError
from tests.compress.samples import NO_FRAME, TEXT, Fed

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ZSTD = ZstdCompressor()
MAGIC = b"\x28\xb5\x2f\xfd"


def framed(data: bytes, **options: int) -> bytes:
    numbers = {int(getattr(zstd.CompressionParameter, name)): options[name] for name in options}
    packer = zstd.ZstdCompressor(options=numbers)
    return packer.compress(data) + packer.flush()


def test_others_read_it_and_it_reads_others() -> None:
    assert zstd.decompress(ZSTD.compress(TEXT)) == TEXT
    for options in (
        {"compression_level": -5},
        {"compression_level": 19},
        {"checksum_flag": 1},
        {"content_size_flag": 0},
        {"window_log": 23},
    ):
        assert ZSTD.decompress(framed(TEXT, **options), len(TEXT)) == TEXT


def test_every_level_stays_within_the_window() -> None:
    data = bytes(2**24)
    frame = ZstdCompressor(level=19).compress(data)
    assert ZSTD.decompress(frame, len(data)) == data


@pytest.mark.parametrize("log", [24, 27, 31])
def test_a_larger_window_is_refused(log: int) -> None:
    frame = MAGIC + bytes([0x00, log - 10 << 3]) + b"\x01\x00\x00"  # one last block of nothing
    with pytest.raises(CodecError, match="^the zstd payload is damaged$"):
        ZSTD.decompress(frame, 0)
    allowed = MAGIC + bytes([0x00, 23 - 10 << 3]) + b"\x01\x00\x00"
    assert ZSTD.decompress(allowed, 0) == b""


@pytest.mark.parametrize("size", [2**24, 2**40, 2**63])
def test_a_frame_that_states_a_huge_size_is_refused(size: int) -> None:
    frame = MAGIC + b"\xe0" + size.to_bytes(8, "little") + b"\x01\x00\x00"
    with pytest.raises(CodecError):
        ZSTD.decompress(frame, 100)


def test_a_size_in_the_frame_is_no_way_around_the_cap() -> None:
    frame = ZSTD.compress(bytes(2**20))
    assert zstd.get_frame_info(frame).decompressed_size == 2**20
    with pytest.raises(CodecError, match="longer than the 1000 bytes it states"):
        ZSTD.decompress(frame, 1000)


@pytest.mark.parametrize(
    "data",
    [
        NO_FRAME,
        NO_FRAME + ZSTD.compress(TEXT),
        b"\x25" + ZSTD.compress(TEXT)[1:],  # of a version long gone
        MAGIC[:3],
        b"",
    ],
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    for size in (0, len(TEXT)):
        with pytest.raises(CodecError, match="^the zstd payload does not begin as one$"):
            ZSTD.decompress(data, size)
    with pytest.raises(CodecError, match="bytes behind its end"):
        ZSTD.decompress(ZSTD.compress(TEXT) + NO_FRAME, len(TEXT))


def test_a_dictionary_is_refused() -> None:
    dictionary = zstd.train_dict([b"%d %s" % (number, TEXT) for number in range(100)], 1000)
    frame = zstd.compress(TEXT, zstd_dict=dictionary)
    assert zstd.get_frame_info(frame).dictionary_id
    with pytest.raises(CodecError, match="^the zstd payload is damaged$"):
        ZSTD.decompress(frame, len(TEXT))


def test_many_members_cost_no_more_than_one(monkeypatch: pytest.MonkeyPatch) -> None:
    fed = Fed(monkeypatch, "zstd")
    member = ZSTD.compress(b"")
    for size in (0, 2**20):
        fed.count = 0
        with pytest.raises(CodecError, match="bytes behind its end"):
            ZSTD.decompress(member * (2**20 // len(member)), size)
        assert fed.count == PIECE


def test_blocks_of_nothing_are_not_read_to_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    fed = Fed(monkeypatch, "zstd")
    with pytest.raises(CodecError, match="too many bytes that give nothing"):
        ZSTD.decompress(MAGIC + b"\x00\x58" + b"\x00\x00\x00" * 350_000, 2**24)
    assert fed.count <= 128 * 2**10 + 2 * PIECE
