"""lz4 means one frame that stands for itself, with blocks that a server can afford."""

import lz4.frame
import pytest

from fastrpc.compress import Lz4Compressor
from fastrpc.compress.inflate import PIECE
from fastrpc.errors import CodecError
from tests.compress.samples import NO_FRAME, TEXT, Fed

LZ4 = Lz4Compressor()
FRAME = LZ4.compress(TEXT)


def test_others_read_it_and_it_reads_others() -> None:
    assert lz4.frame.decompress(FRAME) == TEXT
    for options in (
        {},
        {"store_size": True, "content_checksum": True, "block_checksum": True},
        {"block_linked": False},
        {"compression_level": 12},
    ):
        assert LZ4.decompress(lz4.frame.compress(TEXT, **options), len(TEXT)) == TEXT


@pytest.mark.parametrize("block", ["MAX256KB", "MAX1MB", "MAX4MB"])
def test_larger_blocks_are_refused(block: str) -> None:
    frame = lz4.frame.compress(TEXT * 100, block_size=getattr(lz4.frame, f"BLOCKSIZE_{block}"))
    with pytest.raises(CodecError, match="^the lz4 payload has blocks that are not of 64 KiB$"):
        LZ4.decompress(frame, len(TEXT) * 100)


def test_a_size_in_the_frame_must_be_true() -> None:
    frame = bytearray(lz4.frame.compress(TEXT, store_size=True))
    assert LZ4.decompress(frame, len(TEXT)) == TEXT
    with pytest.raises(CodecError, match="longer than the 1000 bytes it states"):
        LZ4.decompress(frame, 1000)
    frame[6] ^= 1
    with pytest.raises(CodecError, match="damaged"):
        LZ4.decompress(frame, len(TEXT))


@pytest.mark.parametrize(
    "data",
    [
        NO_FRAME,
        NO_FRAME + FRAME,
        b"\x02\x21\x4c\x18" + FRAME[4:],  # of a version long gone
        FRAME[:5],
        b"",
    ],
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    for size in (0, len(TEXT)):
        with pytest.raises(CodecError, match="^the lz4 payload does not begin as one$"):
            LZ4.decompress(data, size)
    with pytest.raises(CodecError, match="bytes behind its end"):
        LZ4.decompress(FRAME + NO_FRAME, len(TEXT))


def test_a_dictionary_is_refused() -> None:
    frame = bytearray(FRAME)
    frame[4] |= 1
    with pytest.raises(CodecError, match="^the lz4 payload wants a dictionary"):
        LZ4.decompress(frame, len(TEXT))


def test_many_members_cost_no_more_than_one(monkeypatch: pytest.MonkeyPatch) -> None:
    fed = Fed(monkeypatch, "lz4")
    member = LZ4.compress(b"")
    for size in (0, 2**20):
        fed.count = 0
        with pytest.raises(CodecError, match="bytes behind its end"):
            LZ4.decompress(member * (2**20 // len(member)), size)
        assert fed.count == PIECE


def test_blocks_of_nothing_are_not_read_to_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    fed = Fed(monkeypatch, "lz4")
    empty = b"\x00\x00\x00\x80"
    with pytest.raises(CodecError, match="too many bytes that give nothing"):
        LZ4.decompress(LZ4.compress(b"")[:-4] + empty * 2**18, 2**24)
    assert fed.count <= 64 * 2**10 + 2 * PIECE
