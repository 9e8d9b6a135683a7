"""Whatever is packed comes back, and whatever is not packed is an error of ours or other bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrpc.compress import Compressor, pack, unpack
from fastrpc.errors import CodecError, FastRPCError, TooLarge
from tests.compress.samples import COMPRESSORS, TEXT

LIMIT = 4 * len(TEXT)

EVERY = pytest.mark.parametrize("compressor", COMPRESSORS.values(), ids=COMPRESSORS)

#: Alike enough to become smaller, different enough to be of several kinds.
payloads = st.lists(
    st.binary(max_size=40) | st.sampled_from([TEXT, bytes(1000), bytes(range(256))]), max_size=20
).map(b"".join)


def attempt(compressor: Compressor, data: bytes, max_size: int = LIMIT) -> bytes | None:
    """Return what *data* unpacks to, None if it is refused as it should be."""
    try:
        payload = unpack(compressor, data, max_size)
    except (CodecError, TooLarge) as exc:
        assert isinstance(exc, FastRPCError)
        assert str(exc).startswith(f"the {compressor.name} payload ")
        return None
    assert type(payload) is bytes
    assert len(payload) == int.from_bytes(data[:4], "big") <= max_size
    return payload


@pytest.mark.slow
@EVERY
@given(payload=payloads)
def test_round_trip(compressor: Compressor, payload: bytes) -> None:
    assert compressor.decompress(compressor.compress(payload), len(payload)) == payload
    packed = pack(compressor, payload)
    if packed is not None:
        assert unpack(compressor, packed, len(payload)) == payload


@EVERY
def test_every_truncation_is_refused(compressor: Compressor) -> None:
    for payload in (TEXT, bytes(200_000)):
        packed = pack(compressor, payload)
        assert packed is not None
        for cut in range(min(len(packed), 600)):
            assert attempt(compressor, packed[:cut], len(payload)) is None
            assert attempt(compressor, packed[: len(packed) - 1 - cut], len(payload)) is None


@EVERY
def test_every_flipped_byte_is_refused_or_gives_as_many_others(compressor: Compressor) -> None:
    packed = pack(compressor, TEXT)
    assert packed is not None
    for at in range(len(packed)):
        for flip in (0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xFF):
            damaged = packed[:at] + bytes([packed[at] ^ flip]) + packed[at + 1 :]
            attempt(compressor, damaged)


@pytest.mark.slow
@EVERY
@given(payload=payloads, data=st.data())
def test_any_change_is_refused_or_gives_as_many_others(
    compressor: Compressor, payload: bytes, data: st.DataObject
) -> None:
    packed = bytearray(len(payload).to_bytes(4, "big") + compressor.compress(payload))
    for _ in range(data.draw(st.integers(1, 4))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    attempt(compressor, bytes(packed), 2**20)


@EVERY
@given(size=st.integers(0, 2**32 - 1), body=st.binary(max_size=200), begun=st.booleans())
def test_random_bytes(compressor: Compressor, size: int, body: bytes, begun: bool) -> None:
    start = compressor.compress(TEXT)[:7] if begun else b""
    attempt(compressor, size.to_bytes(4, "big") + start + body)
