"""Generated messages travel as their own bytes, and hostile ones are refused."""

from typing import Any

import pytest
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import ListValue, Value

from fastrpc.codec.protobuf import ProtobufCodec
from fastrpc.errors import CodecError, ConfigError
from fastrpc.testing.codec import CODEC_CHECKS, check_codec
from tests.codec.hostile import refusal, survives
from tests.codec.protos import load

codec = ProtobufCodec()
people: Any = load("people")
legacy: Any = load("legacy")


def everything() -> Any:
    return people.Everything(
        yes=True,
        whole=-(2**40),
        real=1.5,
        text="grüße",
        data=b"\x00\xff",
        numbers=[1, 2, 300],
        points=[people.Point(x=1), people.Point(y=-2)],
        counts={"a": 1, "b": 2},
        maybe="",
        color=people.RED,
        inner=people.Everything(word="x", inner=people.Everything(number=5)),
    )


SAMPLES = [
    (people.Everything, everything()),
    (people.Point, people.Point(x=1)),
    (people.Point, people.Point()),
    (None, None),
]


@pytest.mark.parametrize("check", CODEC_CHECKS)
def test_conforms(check: str) -> None:
    check_codec(codec, SAMPLES, only=check)


def test_the_payload_is_the_message() -> None:
    point = people.Point(x=1, y=2)
    for value in (point, (point,)):
        assert codec.encode(value) == point.SerializeToString() == bytes.fromhex("08011002")
    assert codec.encode(()) == codec.encode(None) == codec.encode(people.Point()) == b""


def test_arguments() -> None:
    point = people.Point(x=1)
    data = codec.encode((point,))
    assert list(codec.arguments([people.Point], 1, None)(data)) == [point]
    assert list(codec.arguments([people.Point, int], 1, None)(data)) == [point]
    assert list(codec.arguments([], 0, people.Point)(data)) == [point]
    assert list(codec.arguments([], 0, None)(b"")) == []
    # Nothing set and nothing there are the same bytes.
    assert list(codec.arguments([people.Point], 0, None)(b"")) == [people.Point()]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ((1, 2), "carries one argument, got 2"),
        ({"point": 1}, "by position and not by name"),
        (5, "carries a generated protobuf message, got int"),
        ("x", "got str"),
    ],
)
def test_what_is_no_message_is_refused(value: Any, text: str) -> None:
    with pytest.raises(CodecError, match=text):
        codec.encode(value)


def test_types_that_are_no_messages_are_refused() -> None:
    for wanted in (int, Any, str, list[people.Point], Message, "Point"):
        with pytest.raises(ConfigError, match="the protobuf codec carries a generated"):
            codec.decoder(wanted)
    with pytest.raises(ConfigError, match="None and an empty message are the same"):
        codec.decoder(people.Point | None)
    with pytest.raises(ConfigError, match="put what belongs together into one message"):
        codec.arguments([people.Point, people.Point], 2, None)


def test_nothing_is_read_without_a_type() -> None:
    with pytest.raises(CodecError, match="reads nothing without a type: annotate the method"):
        codec.decode(b"\x08\x01")
    assert "expected None" in refusal(codec.decoder(None), b"\x08\x01")
    assert "expected no arguments, got 2 bytes" in refusal(
        codec.arguments([], 0, None), b"\x08\x01"
    )


def test_damage_is_an_error_or_another_message() -> None:
    data = codec.encode(everything())
    assert survives(codec.decoder(people.Everything), data) > len(data)


def test_required_fields() -> None:
    assert codec.decoder(legacy.Needy)(b"\x08\x01") == legacy.Needy(id=1)
    assert "Needy lacks a required field" in refusal(codec.decoder(legacy.Needy), b"")
    with pytest.raises(Exception, match="missing required"):
        codec.encode(legacy.Needy())


def _nested(depth: int) -> bytes:
    data = b""
    for _ in range(depth):
        for field in (1, 6):  # ListValue.values, Value.list_value
            length, size = len(data), bytearray()
            while length > 127:
                size.append(length & 127 | 128)
                length >>= 7
            data = bytes([field << 3 | 2]) + bytes(size) + bytes([length]) + data
    return data


def test_depth() -> None:
    read = codec.decoder(Value)
    assert read(_nested(50)).HasField("list_value")
    for depth in (51, 200, 5_000):
        assert "nested deeper than 100" in refusal(read, _nested(depth))
    # The walk that counts fields stops as well.
    tiny = ProtobufCodec(max_items=200).decoder(Value)
    assert "nested deeper than 100" in refusal(tiny, _nested(90))


def test_many_empty_messages() -> None:
    few = ProtobufCodec(max_items=1000)
    data = b"\x0a\x00" * 1000
    assert len(few.decoder(ListValue)(data).values) == 1000
    assert "ListValue has more than 1000 fields" in refusal(
        few.decoder(ListValue), data + b"\x0a\x00"
    )
    deep = b"\x0a\x80\x7d" + b"\x0a\x00" * 8000  # one Blank with 8000 in it
    assert "Blank has more than 1000 fields" in refusal(few.decoder(people.Blank), deep)


def test_a_large_message_of_few_fields_is_fine() -> None:
    few = ProtobufCodec(max_items=50)
    for message in (
        people.Everything(data=b"\x0a\x00" * 5000, text="x" * 3000),
        people.Everything(numbers=range(10_000), inner=people.Everything(text="y" * 300)),
    ):
        assert few.decoder(people.Everything)(few.encode(message)) == message
    unknown = people.Everything(data=b"\x0a\x00" * 5000).SerializeToString()
    assert few.decoder(people.Point)(unknown).ByteSize() == len(unknown)


def test_groups_and_extensions_are_counted() -> None:
    needy = legacy.Needy(id=1)
    needy.inner.x = 5
    needy.Extensions[legacy.more].add().needy.add(id=2)
    few = ProtobufCodec(max_items=10)
    assert few.decoder(legacy.Needy)(few.encode(needy)) == needy
    for _ in range(20):
        needy.Extensions[legacy.more].add()
    assert "Needy has more than 10 fields" in refusal(few.decoder(legacy.Needy), few.encode(needy))
    groups = b"\x08\x01" + b"\x13\x14" * 30
    assert "Needy has more than 10 fields" in refusal(few.decoder(legacy.Needy), groups)


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a\xff\xff\xff\xff\x0f",  # longer than what is left
        b"\xff" * 40,
        b"\x0a" + b"\x80" * 40,
        b"\x0b" * 300,
        b"\x0c" * 40,
        b"\x0f" * 40,
        b"\x12\x05abc" * 30,
        b"\x22\x01\xff" * 30,  # no UTF-8
    ],
)
def test_malformed(data: bytes) -> None:
    for most in (5, 100_000):
        read = ProtobufCodec(max_items=most).decoder(people.Everything)
        assert "Everything" in refusal(read, data)
