"""Metadata: the bytes of the wire document, both ways, at every limit."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrpc.call import decode_metadata, encode_metadata
from fastrpc.errors import InvalidArgument, TooLarge
from fastrpc.wire import Limits

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
# From the frame call_meta of the wire document.
GOLDEN = bytes.fromhex(
    "0b7472616365706172656e74003730302d306166373635313931366364343364643834343865623231316338"
    "30333139632d623761643662373136393230333333312d3031"
)

KEYS = st.text(st.sampled_from("abcxyz0189-_.:/"), min_size=1, max_size=20)
PAIRS = st.lists(st.tuples(KEYS, st.binary(max_size=30)), max_size=20)


def test_golden_bytes() -> None:
    assert encode_metadata({"traceparent": TRACE}) == GOLDEN
    assert decode_metadata(GOLDEN) == [("traceparent", TRACE.encode())]


def test_the_vectors_agree() -> None:
    path = Path(__file__).parents[1] / "vectors" / "golden.json"
    assert GOLDEN.hex() in json.dumps(json.loads(path.read_text()))


@given(PAIRS)
def test_round_trip(pairs: list[tuple[str, bytes]]) -> None:
    data = encode_metadata(pairs)
    assert decode_metadata(data) == pairs
    assert decode_metadata(memoryview(data)) == pairs  # type: ignore[arg-type]


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        pairs = decode_metadata(data)
    except InvalidArgument:
        return
    assert encode_metadata(pairs) == data


def test_forms_of_pairs() -> None:
    expected = b"\x01a\x00\x021\xc3"[:-1] + b"2" + b"\x01b\x00\x00"
    for pairs in (
        {"a": "12", "b": ""},
        [("a", b"12"), ("b", bytearray())],
        iter([("a", memoryview(b"12")), ("b", "")]),
    ):
        assert encode_metadata(pairs) == expected  # type: ignore[arg-type]
    assert encode_metadata({}) == encode_metadata([]) == b""
    assert decode_metadata(b"") == []
    assert encode_metadata({"a": "é"}) == b"\x01a\x00\x02\xc3\xa9"
    assert decode_metadata(encode_metadata([("a", "1"), ("a", "2")])) == [("a", b"1"), ("a", b"2")]


@pytest.mark.parametrize("key", ["", "A", "a b", "é", "a\n", "a\x00", "\x7f", 5, None, b"a"])
def test_keys(key: Any) -> None:
    with pytest.raises(InvalidArgument, match="metadata key"):
        encode_metadata([(key, "x")])
    if isinstance(key, str):
        raw = key.encode()
        with pytest.raises(InvalidArgument, match="metadata key 1 is not lower-case ASCII"):
            decode_metadata(bytes([len(raw)]) + raw + b"\x00\x00")


@pytest.mark.parametrize("value", [5, None, 1.5, ["x"]])
def test_values(value: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"'a': the value must be str or bytes, got"):
        encode_metadata({"a": value})


@pytest.mark.parametrize("cut", range(1, 8))
def test_cut_off(cut: int) -> None:
    data = encode_metadata([("abc", "xy")])
    with pytest.raises(InvalidArgument, match="cut off in pair 1"):
        decode_metadata(data[:cut])
    with pytest.raises(InvalidArgument, match="cut off in pair 2"):
        decode_metadata(data + data[:cut])


def test_longest_key_and_value() -> None:
    assert decode_metadata(encode_metadata({"k" * 255: "x"})) == [("k" * 255, b"x")]
    with pytest.raises(TooLarge, match="256 bytes, at most 255"):
        encode_metadata({"k" * 256: "x"})
    longest = 65_535 - 4
    assert len(encode_metadata({"k": b"x" * longest})) == 65_535
    with pytest.raises(TooLarge, match="metadata of 65536 bytes, max_metadata is 65535"):
        encode_metadata({"k": b"x" * (longest + 1)})
    with pytest.raises(TooLarge, match="65536 bytes, at most 65535 allowed"):
        encode_metadata({"k": b"x" * 65_536})


def test_max_metadata() -> None:
    limits = Limits(max_metadata=10)
    fits, over = encode_metadata({"k": b"x" * 6}), encode_metadata({"k": b"x" * 7})
    assert encode_metadata({"k": b"x" * 6}, limits) == fits
    assert decode_metadata(fits, limits) == [("k", b"x" * 6)]
    for work in (
        lambda: encode_metadata({"k": b"x" * 7}, limits),
        lambda: decode_metadata(over, limits),
    ):
        with pytest.raises(TooLarge, match="metadata of 11 bytes, max_metadata is 10"):
            work()
    default = Limits().max_metadata
    decode_metadata(encode_metadata({"k": b"x" * (default - 4)}))
    with pytest.raises(TooLarge, match=f"max_metadata is {default}"):
        decode_metadata(encode_metadata({"k": b"x" * (default - 3)}))


def test_max_metadata_pairs() -> None:
    limits = Limits(max_metadata_pairs=3)
    fits, over = [("k", b"")] * 3, [("k", b"")] * 4
    assert decode_metadata(encode_metadata(fits, limits), limits) == fits
    for work in (
        lambda: encode_metadata(over, limits),
        lambda: decode_metadata(encode_metadata(over), limits),
    ):
        with pytest.raises(TooLarge, match=r"more than 3 metadata pairs \(max_metadata_pairs\)"):
            work()
    assert len(decode_metadata(encode_metadata([("k", b"")] * 64))) == 64
    with pytest.raises(TooLarge):
        decode_metadata(encode_metadata([("k", b"")] * 65))
