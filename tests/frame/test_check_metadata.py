"""check_metadata: sound is what can be unpacked, within the limits, and nothing else."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrpc.call.metadata import decode_metadata, encode_metadata
from fastrpc.errors import FastRPCError
from fastrpc.wire import Limits
from tests.frame.twins import agree, both, open_twin

PAIR = b"\x01k\x00\x01v"


def unpacks(data: bytes, size: int, pairs: int) -> bool:
    """Say whether the room above can unpack it."""
    try:
        decode_metadata(data, Limits(max_metadata=size, max_metadata_pairs=pairs))
    except FastRPCError:
        return False
    return True


@pytest.mark.parametrize(
    "data",
    [
        b"", PAIR, PAIR * 3, b"\x01k\x00\x00", b"\x01!\x00\x00", b"\x01~\x00\x00",
        b"\xff" + b"k" * 255 + b"\xfe\xfd" + bytes(65_535 - 258),
        encode_metadata([("traceparent", "00-0af7"), ("a-b.c_d", b"\x00\xff")]),
    ],
    ids=len,
)  # fmt: skip
def test_sound(twin: SimpleNamespace, data: bytes) -> None:
    assert twin.check_metadata(data, 65_535, 64) is True


@pytest.mark.parametrize(
    "data",
    [
        b"\x00", b"\x00\x00\x00", b"\x01", b"\x01k", b"\x01k\x00", b"\x01k\x00\x01",
        b"\x02k\x00\x00", b"\xffk\x00\x00", b"\x01k\xff\xff", b"\x01k\x00\x02v", PAIR + b"\x01",
        PAIR + b"\x00", b"\x01K\x00\x00", b"\x01A\x00\x00", b"\x01Z\x00\x00", b"\x01 \x00\x00",
        b"\x01\x7f\x00\x00", b"\x01\x80\x00\x00", b"\x01\xff\x00\x00", b"\x01\x00\x00\x00",
        b"\x02kK\x00\x00", b"\x02Kk\x00\x00",
    ],
    ids=bytes.hex,
)  # fmt: skip
def test_not_sound(twin: SimpleNamespace, data: bytes) -> None:
    assert twin.check_metadata(data, 65_535, 64) is False


def test_each_byte_of_a_key(twin: SimpleNamespace) -> None:
    for byte in range(256):
        allowed = 0x21 <= byte <= 0x7E and not 0x41 <= byte <= 0x5A
        for key in (bytes([byte]), bytes([0x61, byte]), bytes([byte, 0x61])):
            data = bytes([len(key)]) + key + b"\x00\x00"
            assert twin.check_metadata(data, 100, 1) is allowed


def test_limits_are_the_most_that_is_allowed(twin: SimpleNamespace) -> None:
    data = PAIR * 4
    assert twin.check_metadata(data, len(data), 4)
    assert not twin.check_metadata(data, len(data) - 1, 4)
    assert not twin.check_metadata(data, len(data), 3)
    assert twin.check_metadata(b"", 0, 0)
    assert not twin.check_metadata(PAIR, 100, 0)


@pytest.mark.parametrize("data", [None, "text", bytearray(PAIR), memoryview(PAIR), 5])
def test_only_bytes_are_looked_at(twin: SimpleNamespace, data: Any) -> None:
    with pytest.raises(TypeError):
        twin.check_metadata(data, 100, 10)


_DATA = st.one_of(
    st.binary(max_size=30),
    st.lists(
        st.builds(
            lambda key, value, cut: (
                bytes([len(key)]) + key + len(value).to_bytes(2, "big") + value
            )[: 100 - cut],
            st.binary(max_size=3) | st.sampled_from([b"k", b"key", b"K"]),
            st.binary(max_size=3),
            st.sampled_from([0, 0, 0, 97]),
        ),
        max_size=4,
    ).map(b"".join),
)


@pytest.mark.compiled
@given(data=_DATA, size=st.integers(0, 40), pairs=st.integers(0, 5))
def test_both_say_what_unpacking_says(data: bytes, size: int, pairs: int) -> None:
    pure, compiled = both()
    agree(
        "metadata", pure.check_metadata(data, size, pairs),
        compiled.check_metadata(data, size, pairs), (data, size, pairs),
    )  # fmt: skip
    if size and pairs:  # as limits of a side they begin with 1
        assert open_twin("pure").check_metadata(data, size, pairs) is unpacks(data, size, pairs)
