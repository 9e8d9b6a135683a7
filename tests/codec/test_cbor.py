"""CBOR is the standard's, and what is not taken is refused before anything is built."""

import datetime as dt
from typing import Any
from uuid import UUID

import cbor2
import pytest

from fastrpc.codec import cbor, fast, limited, plain
from fastrpc.codec.cbor import CborCodec
from fastrpc.errors import CodecError
from fastrpc.testing.codec import CODEC_CHECKS, check_codec
from tests.codec.hostile import outcome, refusal, survives
from tests.codec.samples import ROUND_TRIPS, STRUCTS

codec = CborCodec()
UTC = dt.UTC


@pytest.fixture(params=[fast, plain], ids=["msgspec", "plain"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> CborCodec:
    """The codec over each of the engines under it."""
    monkeypatch.setattr(limited, "Described", request.param.Described)
    monkeypatch.setattr(cbor, "built_in", request.param.built_in)
    return CborCodec()


@pytest.mark.parametrize("check", CODEC_CHECKS)
def test_conforms(either: CborCodec, check: str) -> None:
    check_codec(either, ROUND_TRIPS, only=check)


@pytest.mark.parametrize("check", ["round trip", "arguments"])
def test_structs(check: str) -> None:
    check_codec(codec, STRUCTS, only=check)


# From appendix A of RFC 8949.
VECTORS: list[tuple[Any, str]] = [
    (1000000000000, "1b000000e8d4a51000"),
    (18446744073709551616, "c249010000000000000000"),
    (-18446744073709551617, "c349010000000000000000"),
    (1.1, "fb3ff199999999999a"),
    (None, "f6"),
    (dt.datetime(2013, 3, 21, 20, 4, tzinfo=UTC), "c074323031332d30332d32315432303a30343a30305a"),
    (b"\x01\x02\x03\x04", "4401020304"),
    ("\u6c34", "63e6b0b4"),
    ([1, [2, 3], [4, 5]], "8301820203820405"),
    ({"a": 1, "b": [2, 3]}, "a26161016162820203"),
]


@pytest.mark.parametrize(("value", "wire"), VECTORS)
def test_the_standards_own_examples(value: Any, wire: str) -> None:
    assert codec.encode(value).hex() == wire
    assert codec.decode(bytes.fromhex(wire)) == value


@pytest.mark.parametrize(
    ("wire", "value"),
    [
        ("9f018202039f0405ffff", [1, [2, 3], [4, 5]]),
        ("bf61610161629f0203ffff", {"a": 1, "b": [2, 3]}),
        ("5f42010243030405ff", b"\x01\x02\x03\x04\x05"),
        ("7f657374726561646d696e67ff", "streaming"),
        ("f97c00", float("inf")),
        ("c11a514b67b0", dt.datetime(2013, 3, 21, 20, 4, tzinfo=UTC)),
        ("a10102", {1: 2}),
    ],
)
def test_what_others_write_is_read(wire: str, value: Any) -> None:
    assert codec.decode(bytes.fromhex(wire)) == value


def test_times_without_a_zone_are_text() -> None:
    assert codec.decode(codec.encode(dt.datetime(2026, 1, 2, 3))) == "2026-01-02T03:00:00"
    assert codec.decode(codec.encode(UUID(int=1))) == str(UUID(int=1))


def test_long_integers() -> None:
    for number in (2**70, -(2**70), 2 ** (1785 * 8) - 1):
        assert codec.decoder(int)(codec.encode(number)) == number
    with pytest.raises(CodecError, match="more than 1785 bytes"):
        codec.encode(2 ** (1785 * 8))


SAMPLE = {
    "name": "ada",
    "tags": [1, -2.5, None, True, b"\x00\xff"],
    "at": dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
    "big": 2**80,
    "deep": [[[{"x": [1, 2, 3]}]]],
}


def test_damage_is_an_error_or_another_value() -> None:
    data = codec.encode(SAMPLE)
    assert survives(codec.decode, data) > len(data)
    assert survives(codec.decoder(dict[str, Any]), data) > len(data)


def test_every_short_input() -> None:
    for first in range(256):
        for second in range(256):
            outcome(codec.decode, bytes((first, second)))


HOSTILE: list[tuple[str, bytes, str]] = [
    ("nothing", b"", "CodecError: CBOR is malformed: it is cut short"),
    ("array of 2**64", b"\x9b" + b"\xff" * 8, "longer than what is left"),
    ("map of 2**32", b"\xba" + b"\xff" * 4, "longer than what is left"),
    ("text of 2**64", b"\x7b" + b"\xff" * 8 + b"x", "longer than what is left"),
    ("bytes of 2**31", b"\x5a\x80\x00\x00\x00x", "longer than what is left"),
    ("a million deep", b"\x81" * 1_000_000 + b"\x00", "TooLarge: CBOR is nested deeper than 64"),
    ("deep without end", b"\x9f" * 100_000, "TooLarge: CBOR is nested deeper than 64"),
    ("tags in tags", b"\xc1" * 100_000 + b"\x00", "what follows a tag does not fit it"),
    ("many items", b"\x9a\x00\x0f\x42\x40" + b"\x80" * 1_000_000, "TooLarge: CBOR has more than"),
    ("endless items", b"\x9f" + b"\x80" * 1_000_000, "TooLarge: CBOR has more than 10000 items"),
    ("endless parts", b"\x5f" + b"\x40" * 1_000_000, "TooLarge: CBOR has more than 10000 items"),
    ("long bignum", b"\xc2\x59\x06\xfa" + b"\xff" * 1786, "TooLarge: a CBOR bignum has more than"),
    ("endless bignum", b"\xc2\x5f\x41\x01\xff", "what follows a tag does not fit it"),
    ("bignum of text", b"\xc2\x61\x31", "what follows a tag does not fit it"),
    ("regular expression", cbor2.dumps(cbor2.CBORTag(35, "(a+)+b")), "a tag that is not taken"),
    ("shared value", b"\xd8\x1c\x81\xd8\x1d\x00", "a tag that is not taken"),
    ("text reference", b"\xd9\x01\x00\x82\x63abc\xd8\x19\x00", "a tag that is not taken"),
    ("MIME", cbor2.dumps(cbor2.CBORTag(36, "Content-Type: x")), "a tag that is not taken"),
    ("fraction of 0", cbor2.dumps(cbor2.CBORTag(30, [1, 0])), "a tag that is not taken"),
    ("huge decimal", cbor2.dumps(cbor2.CBORTag(4, [10**9, 1])), "a tag that is not taken"),
    ("array as key", b"\xa1\x80\x00", "a key of a CBOR map is no single value"),
    ("map as key", b"\xa1\xa0\x00", "a key of a CBOR map is no single value"),
    ("bignum as key", b"\xa1\xc2\x41\x01\x00", "a key of a CBOR map is no single value"),
    ("one key twice", b"\xa2\x01\x00\x01\x00", "CBOR can't be read"),
    ("a key alone", b"\xbf\x01\xff", "a map ends after a key"),
    ("break alone", b"\xff", "a head has no meaning"),
    ("reserved head", b"\x1c", "a head has no meaning"),
    ("undefined", b"\xf7", "a simple value that is not taken"),
    ("simple value", b"\xf8\xff", "a simple value that is not taken"),
    ("something behind", b"\x00\x00", "something comes after the value"),
    ("no UTF-8", b"\x61\xff", "CBOR can't be read"),
    ("time of other form", b"\xc0\x63abc", "CBOR can't be read"),
    ("time out of range", b"\xc1\x1b" + b"\xff" * 8, "CBOR can't be read"),
    ("time not a number", b"\xc1\xf9\x7e\x00", "CBOR can't be read"),
]


@pytest.mark.parametrize(
    ("data", "text"), [row[1:] for row in HOSTILE], ids=[r[0] for r in HOSTILE]
)
def test_hostile_bytes_are_refused(data: bytes, text: str) -> None:
    assert text in refusal(CborCodec(max_items=10_000).decode, data)


def test_limits_are_exact() -> None:
    small = CborCodec(max_depth=2, max_items=4)
    assert small.decode(cbor2.dumps([[1, 2, 3]])) == [[1, 2, 3]]
    assert "max_depth" in refusal(small.decode, cbor2.dumps([[[]]]))
    assert "max_items" in refusal(small.decode, cbor2.dumps([1, 2, 3, 4, 5]))
    assert "max_items" in refusal(small.decode, cbor2.dumps({1: 2, 3: 4, 5: 6}))


def test_colliding_integers_in_a_set_are_refused() -> None:
    # Bignums whose hash is 0 all: multiples of 2**61 - 1.
    same = codec.encode([(2**61 - 1) * step for step in range(1, 2000)])
    assert "same hash" in refusal(codec.decoder(set[int]), same, times=40)
