"""zlib means RFC 1950 and nothing like it."""

import gzip
import zlib

import pytest

from fastrpc.compress import ZlibCompressor
from fastrpc.compress.inflate import PIECE
from fastrpc.errors import CodecError
from tests.compress.samples import TEXT, Fed

ZLIB = ZlibCompressor()
STREAM = zlib.compress(TEXT)


def test_others_read_it_and_it_reads_others() -> None:
    assert zlib.decompress(ZLIB.compress(TEXT)) == TEXT
    for level in range(10):
        assert ZLIB.decompress(zlib.compress(TEXT, level), len(TEXT)) == TEXT
    for window in (9, 15):
        packer = zlib.compressobj(wbits=window)
        data = packer.compress(TEXT) + packer.flush()
        assert ZLIB.decompress(data, len(TEXT)) == TEXT


@pytest.mark.parametrize(
    ("what", "data"),
    [
        ("gzip", gzip.compress(TEXT, mtime=0)),
        ("raw deflate", STREAM[2:-4]),
        ("another checksum", STREAM[:-1] + bytes([STREAM[-1] ^ 1])),
        ("another method", b"\x79" + STREAM[1:]),
    ],
)
def test_what_is_no_stream_is_refused(what: str, data: bytes) -> None:
    with pytest.raises(CodecError, match="^the zlib payload is damaged$"):
        ZLIB.decompress(data, len(TEXT))


def test_a_dictionary_is_refused() -> None:
    packer = zlib.compressobj(zdict=TEXT)
    with pytest.raises(CodecError, match="^the zlib payload is damaged$"):
        ZLIB.decompress(packer.compress(TEXT) + packer.flush(), len(TEXT))


def test_flushed_blocks_are_no_mischief() -> None:
    packer = zlib.compressobj(0)
    parts = [packer.compress(TEXT[at : at + 50]) + packer.flush(zlib.Z_SYNC_FLUSH)
             for at in range(0, len(TEXT), 50)]  # fmt: skip
    data = b"".join(parts) + packer.flush()
    assert ZLIB.decompress(data, len(TEXT)) == TEXT


def test_many_members_cost_no_more_than_one(monkeypatch: pytest.MonkeyPatch) -> None:
    fed = Fed(monkeypatch, "zlib")
    member = zlib.compress(b"")
    for size in (0, 2**20):
        fed.count = 0
        with pytest.raises(CodecError, match="bytes behind its end"):
            ZLIB.decompress(member * (2**20 // len(member)), size)
        assert fed.count == PIECE


@pytest.mark.parametrize(
    "block",
    [
        b"\x00\x00\x00\xff\xff",  # stored, of no bytes
        # Four of no bytes with fixed codes: three bits of head, seven of the end.
        int("0000000010" * 4, 2).to_bytes(5, "little"),
    ],
)
def test_blocks_of_nothing_are_not_read_to_their_end(
    block: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    fed = Fed(monkeypatch, "zlib")
    data = b"\x78\x01" + block * 200_000
    assert zlib.decompressobj().decompress(data[:1000]) == b""  # nothing is wrong with them
    with pytest.raises(CodecError, match="too many bytes that give nothing"):
        ZLIB.decompress(data, 2**24)
    assert fed.count == PIECE
