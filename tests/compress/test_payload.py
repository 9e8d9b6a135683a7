"""A packed payload is its size and its compressed bytes, and is believed in neither."""

import json
from pathlib import Path
from typing import Any

import pytest

from fastrpc.compress import (
    COMPRESS_FROM,
    Compression,
    Compressor,
    Data,
    ZlibCompressor,
    pack,
    unpack,
)
from fastrpc.errors import CodecError, ConfigError, TooLarge
from fastrpc.wire import BODY_MAX
from tests.compress.samples import COMPRESSORS, TEXT

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "vectors" / "golden.json").read_text(encoding="utf-8")
)
EVERY = pytest.mark.parametrize("compressor", COMPRESSORS.values(), ids=COMPRESSORS)


@EVERY
def test_pack_and_unpack(compressor: Compressor) -> None:
    packed = pack(compressor, TEXT)
    assert packed is not None
    assert packed[:4] == len(TEXT).to_bytes(4, "big")
    assert packed[4:] == compressor.compress(TEXT)
    assert len(packed) < len(TEXT) // 5
    assert unpack(compressor, packed, len(TEXT)) == TEXT
    assert unpack(compressor, memoryview(packed), 2**31) == TEXT


@EVERY
@pytest.mark.parametrize("payload", [b"", b"a", b"abc" * 5, bytes(range(256)) * 4])
def test_what_does_not_become_smaller_is_sent_as_it_is(
    compressor: Compressor, payload: bytes
) -> None:
    packed = pack(compressor, payload)
    assert packed is None or len(packed) < len(payload)
    assert pack(compressor, payload[:20]) is None


def test_equal_is_not_smaller() -> None:
    class Cut:
        name = "cut"
        size = 0

        def compress(self, data: Data, /) -> bytes:
            return bytes(self.size)

        def decompress(self, data: Data, size: int, /) -> bytes:
            return bytes(size)

    compressor = Cut()
    compressor.size = 96
    assert pack(compressor, bytes(100)) is None
    compressor.size = 95
    assert pack(compressor, bytes(100)) == b"\0\0\0\x64" + bytes(95)


def test_a_payload_too_long_for_any_frame_is_not_touched() -> None:
    class Huge(bytes):
        def __len__(self) -> int:
            return BODY_MAX + 1

    assert pack(Breaking(ValueError()), Huge()) is None


def test_the_golden_payload() -> None:
    entry = next(entry for entry in GOLDEN["good"] if entry["name"] == "zipped")
    data = bytes.fromhex(entry["fields"]["payload"])
    assert unpack(ZlibCompressor(), data, 42) == b"\xd9\x28" + b"a" * 40


@EVERY
def test_a_size_over_the_limit_is_refused_before_anything_is_inflated(
    compressor: Compressor,
) -> None:
    packed = pack(compressor, TEXT)
    assert packed is not None
    size = len(TEXT)
    with pytest.raises(TooLarge, match=f"payload inflates to {size} bytes, over max_body of"):
        unpack(compressor, packed, size - 1)


@pytest.mark.parametrize("size", [101, 2**31, 2**32 - 1])
def test_the_limit_comes_before_the_compressor(size: int) -> None:
    with pytest.raises(TooLarge):
        unpack(Breaking(AssertionError("asked")), size.to_bytes(4, "big") + b"xxxx", 100)


@pytest.mark.parametrize("length", range(4))
def test_less_than_a_size_is_no_payload(length: int) -> None:
    with pytest.raises(CodecError, match="^the zlib payload is cut off$"):
        unpack(ZlibCompressor(), bytes(length), 100)


class Breaking:
    """A user's compressor that raises whatever it is told to, or returns it."""

    name = "own"

    def __init__(self, outcome: Any) -> None:
        self.outcome = outcome

    def compress(self, data: Data, /) -> bytes:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome  # type: ignore[no-any-return]

    def decompress(self, data: Data, size: int, /) -> bytes:
        return self.compress(data)


@pytest.mark.parametrize("outcome", [ValueError("secret"), MemoryError(), RecursionError()])
def test_what_a_users_compressor_raises_is_told_in_our_words(outcome: Exception) -> None:
    kind = type(outcome).__name__
    with pytest.raises(CodecError, match=f"^the own payload can't be inflated: {kind}$") as caught:
        unpack(Breaking(outcome), b"\0\0\0\1secret", 100)
    assert caught.value.__suppress_context__  # its text may be the peer's
    with pytest.raises(CodecError, match=f"^the compressor 'own' failed to compress: {kind}$") as (
        caught
    ):
        pack(Breaking(outcome), b"ours")
    assert caught.value.__cause__ is outcome


@pytest.mark.parametrize("outcome", [b"", b"12", b"1234", bytearray(b"123"), None])
def test_what_a_users_compressor_returns_is_counted(outcome: Any) -> None:
    with pytest.raises(CodecError, match="^the own payload does not have the 3 bytes it states$"):
        unpack(Breaking(outcome), b"\0\0\0\3...", 100)


def test_compression_leaves_small_payloads_alone() -> None:
    compression = Compression(compressor=ZlibCompressor())
    assert compression.threshold == COMPRESS_FROM == 1024
    assert compression.pack(bytes(1023)) is None
    packed = compression.pack(bytes(1024))
    assert packed is not None
    assert compression.unpack(packed, 1024) == bytes(1024)
    with pytest.raises(TooLarge):
        compression.unpack(packed, 1023)


@pytest.mark.parametrize("threshold", [-1, 1.5, True, "1024", None])
def test_a_threshold_is_a_number_of_bytes(threshold: Any) -> None:
    with pytest.raises(ConfigError, match="^threshold must be a whole number of bytes, got "):
        Compression(compressor=ZlibCompressor(), threshold=threshold)
