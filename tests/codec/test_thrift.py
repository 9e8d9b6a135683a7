"""Structs of a .thrift file travel as their own bytes, and hostile ones are refused."""

import functools
import struct
from pathlib import Path
from typing import Any

import pytest
import thriftpy2
from thriftpy2.thrift import TPayload

from fastrpc.codec.thrift import ThriftCodec
from fastrpc.errors import CodecError, ConfigError
from fastrpc.testing.codec import CODEC_CHECKS, check_codec
from tests.codec.hostile import outcome, refusal, survives

codec = ThriftCodec()


@functools.cache
def load() -> Any:
    path = Path(__file__).parent / "schemas" / "people.thrift"
    return thriftpy2.load(str(path), module_name="people_thrift")


people = load()
Point, Everything, Tree = people.Point, people.Everything, people.Tree


def everything() -> Any:
    return Everything(
        yes=True,
        tiny=-5,
        small=300,
        whole=-(2**31),
        large=2**60,
        real=1.5,
        text="grüße",
        data=b"\x00\xff",
        numbers=[1, 2],
        words=["a", "b"],
        counts={"a": 1},
        points=[Point(x=1), Point(x=2, y=3)],
        deep={5: [[Point(x=1)], []]},
        color=people.Color.BLUE,
        point=Point(x=9),
        parts=[b"\xff", b""],
        colors=[1, 2],
    )


SAMPLES = [
    (Everything, everything()),
    (Everything, Everything()),
    (Point, Point(x=1)),
    (Tree, Tree(kids=[Tree(kids=[]), Tree(kids=[Tree()])])),
    (Point | None, None),
    (None, None),
]


@pytest.mark.parametrize("check", CODEC_CHECKS)
def test_conforms(check: str) -> None:
    check_codec(codec, SAMPLES, only=check)


def test_the_payload_is_the_struct() -> None:
    data = bytes.fromhex("08 0001 00000001 08 0002 00000002 00")
    assert codec.encode((Point(x=1, y=2),)) == codec.encode(Point(x=1, y=2)) == data
    assert codec.encode(()) == codec.encode(None) == b""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ((1, 2), "carries one argument, got 2"),
        ({"point": 1}, "by position and not by name"),
        (5, "carries a struct of thriftpy2, got int"),
        (Point(x="1"), "this Point does not fit its Thrift struct"),
        (Point(x=2**31), "this Point does not fit its Thrift struct"),
        (Everything(points=5), "this Everything does not fit its Thrift struct"),
    ],
)
def test_what_does_not_fit_is_refused(value: Any, text: str) -> None:
    with pytest.raises(CodecError, match=text):
        codec.encode(value)


def test_types_that_are_no_structs_are_refused() -> None:
    for wanted in (int, Any, list[int], TPayload, "Point"):
        with pytest.raises(ConfigError, match="the thrift codec carries a struct of thriftpy2"):
            codec.decoder(wanted)


@pytest.mark.slow
def test_damage_is_an_error_or_another_struct() -> None:
    data = codec.encode(everything())
    assert survives(codec.decoder(Everything), data) > len(data)
    assert survives(codec.decoder(Tree), codec.encode(SAMPLES[3][1])) > 20


def field(kind: int, number: int, rest: bytes) -> bytes:
    return struct.pack("!bh", kind, number) + rest


def deep(depth: int) -> bytes:
    return field(15, 1, b"\x0c" + struct.pack("!i", 1)) * depth


HOSTILE: list[tuple[str, Any, bytes, str]] = [
    ("nothing", Tree, b"", "it is cut short"),
    ("list of 2**31", Tree, field(15, 1, b"\x0c\x7f\xff\xff\xff"), "longer than what is left"),
    ("list of -1", Tree, field(15, 1, b"\x0c\xff\xff\xff\xff"), "longer than what is left"),
    ("unknown list", Tree, field(15, 9, b"\x02\x7f\xff\xff\xff"), "longer than what is left"),
    ("map of 2**31", Everything, field(13, 11, b"\x0b\x08\x7f\xff\xff\xff"), "longer than what"),
    ("text of 2**31", Everything, field(11, 7, b"\x7f\xff\xff\xffx"), "it is cut short"),
    ("text of -5", Everything, field(11, 7, b"\xff\xff\xff\xfbx\x00"), "it is cut short"),
    ("deep", Tree, deep(100_000), "Thrift data is nested deeper than 64"),
    ("deep unknown", Point, field(12, 7, b"") * 100_000, "Thrift data is nested deeper than 64"),
    (
        "many",
        Tree,
        field(15, 1, b"\x0c\x00\x0f\x42\x40") + bytes(1_000_001),
        "more than 2000 items",
    ),
    ("many fields", Point, field(2, 7, b"\x01") * 2_001, "more than 2000 items"),
    ("voids", Tree, field(15, 9, b"\x01\x00\x00\x00\x05") + bytes(9), "a type has no meaning"),
    ("no type", Tree, field(99, 9, b"") + bytes(9), "a type has no meaning"),
    (
        "other elements",
        Everything,
        field(15, 9, b"\x0b\x00\x00\x00\x01") + bytes(5),
        "another type",
    ),
    (
        "other values",
        Everything,
        field(13, 11, b"\x0b\x0b\x00\x00\x00\x01") + bytes(9),
        "another type",
    ),
    (
        "struct as key",
        people.Keyed,
        field(13, 1, b"\x0c\x08\x00\x00\x00\x01") + bytes(6),
        "a key of a",
    ),
    (
        "no UTF-8",
        Everything,
        field(11, 7, b"\x00\x00\x00\x01\xff\x00"),
        "can't be read as Everything",
    ),
    ("something behind", Tree, b"\x00\x00", "something comes after the struct"),
    ("nothing required", Point, b"\x00", "Point lacks the required field 'x'"),
    (
        "required of another type",
        Point,
        field(10, 1, bytes(8)) + b"\x00",
        "lacks the required field",
    ),
    (
        "a text for a map",
        Everything,
        field(11, 11, b"\x00\x00\x00\x02ab") + b"\x00",
        "the field 'counts' is a string, and no string in the struct",
    ),
    ("required further in", Everything, field(12, 15, b"\x00\x00"), "Point lacks the required"),
]


@pytest.mark.parametrize(
    ("wanted", "data", "text"), [r[1:] for r in HOSTILE], ids=[r[0] for r in HOSTILE]
)
def test_hostile_bytes_are_refused(wanted: Any, data: bytes, text: str) -> None:
    assert text in refusal(ThriftCodec(max_items=2_000).decoder(wanted), data)


def test_limits_are_exact() -> None:
    tree = codec.encode(
        Tree(kids=[Tree(kids=[Tree()])])
    )  # five containers deep, four fields and kids
    assert ThriftCodec(max_depth=5).decoder(Tree)(tree) == codec.decoder(Tree)(tree)
    assert "max_depth" in refusal(ThriftCodec(max_depth=4).decoder(Tree), tree)
    assert ThriftCodec(max_items=4).decoder(Tree)(tree)
    assert "max_items" in refusal(ThriftCodec(max_items=3).decoder(Tree), tree)


def test_as_deep_as_a_limit_can_be() -> None:
    read = ThriftCodec(max_depth=512).decoder(Tree)
    assert read(deep(100) + bytes(101)).kids
    for depth in (255, 256, 257, 10_000):  # Python itself may stop earlier
        outcome(read, deep(depth) + bytes(depth + 1))
    assert "nested deeper than 512" in str(outcome(read, deep(257) + bytes(258)))
