"""One table of types for all codecs: each carries what the guide says, and no more.

Codecs of schemas are asked for a field of the type. What one can't carry is in CANNOT,
with the reason; that it really can't is checked, too.
"""

import datetime as dt
import uuid
from collections.abc import Callable
from dataclasses import dataclass, make_dataclass
from decimal import Decimal
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from fastrpc.codec import JsonCodec, MsgpackCodec
from fastrpc.codec.arrow import ArrowCodec
from fastrpc.codec.avro import AvroCodec
from fastrpc.codec.cbor import CborCodec
from fastrpc.codec.protobuf import ProtobufCodec
from fastrpc.codec.thrift import ThriftCodec
from fastrpc.codec.xml import XmlCodec
from fastrpc.errors import FastRPCError
from tests.codec.protos import load
from tests.codec.samples import Box, Cat, Color, Dog, Level, Movie, Node, Pair, Plain, Point
from tests.codec.test_thrift import people as thrifts
from tests.docs.pages import GUIDES, table

MOMENT = dt.datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=dt.UTC)
protos: Any = load("people")

#: What is carried: its name in the guide, an annotation, and a value.
KINDS: dict[str, tuple[Any, Any]] = {
    "None": (int | None, None),
    "bool": (bool, True),
    "int of 64 bits": (int, -(2**63)),
    "unsigned int of 64 bits": (int, 2**64 - 1),
    "longer int": (int, 2**70),
    "float": (float, 0.1),
    "infinity": (float, float("inf")),
    "str": (str, "grüße \U0001f600"),
    "str with any character": (str, "\x00\r\x1b"),
    "bytes": (bytes, b"\x00\xff"),
    "list of one type": (list[int], [1, 2]),
    "list of records": (list[Point], [Point(1), Point(2, 3)]),
    "list of anything": (list[Any], [1, "a", None]),
    "tuple of mixed types": (tuple[int, str], (1, "a")),
    "set": (set[int], {1, 2}),
    "dict with str keys": (dict[str, int], {"a": 1, "b c": 2}),
    "dict with int keys": (dict[int, str], {1: "a", -2: "b"}),
    "dict of records": (dict[str, Point], {"a": Point(1)}),
    "datetime with a zone": (dt.datetime, MOMENT),
    "datetime without": (dt.datetime, MOMENT.replace(tzinfo=None)),
    "date": (dt.date, dt.date(2026, 1, 2)),
    "time": (dt.time, dt.time(3, 4, 5, 6)),
    "timedelta": (dt.timedelta, dt.timedelta(days=3, microseconds=5)),
    "UUID": (uuid.UUID, uuid.UUID(int=5)),
    "Decimal": (Decimal, Decimal("1.50")),
    "Enum of str": (Color, Color.BLUE),
    "IntEnum": (Level, Level.HIGH),
    "record": (Point, Point(1, 5)),
    "record in itself": (Node, Node(1, Node(2))),
    "generic record": (Box[int], Box(1, [2])),
    "NamedTuple": (Pair, Pair(1, "b")),
    "TypedDict with absent keys": (Movie, {"a": 1}),
    "msgspec.Struct": (Plain, Plain(1)),
    "X or None": (str | None, "x"),
    "union of kinds": (int | str, "a"),
    "union of tagged Structs": (Cat | Dog, Dog("x")),
    "anything": (Any, {"a": [1, None]}),
}


@dataclass
class Holder:
    """Where the others have a value, codecs of schemas have a field."""

    v: Any


def whole(codec: Any, kind: str) -> Any:
    wanted, value = KINDS[kind]
    return codec.decoder(wanted)(codec.encode(value))


def as_field(codec: Any, kind: str) -> Any:
    wanted, value = KINDS[kind]
    holder = make_dataclass("Holder", [("v", wanted)])
    return codec.decoder(holder)(codec.encode(holder(value))).v


def _point(point: Any) -> Point:
    return Point(point.x, point.y)


Same = Callable[[Any], Any]
#: For each kind that protobuf has: how the field is set, and what is made of what arrives.
PROTOBUF: dict[str, tuple[dict[str, Any], Same]] = {
    "None": ({}, lambda m: m.maybe if m.HasField("maybe") else None),
    "bool": ({"yes": True}, lambda m: m.yes),
    "int of 64 bits": ({"whole": -(2**63)}, lambda m: m.whole),
    "unsigned int of 64 bits": ({"natural": 2**64 - 1}, lambda m: m.natural),
    "float": ({"real": 0.1}, lambda m: m.real),
    "infinity": ({"real": float("inf")}, lambda m: m.real),
    "str": ({"text": "grüße \U0001f600"}, lambda m: m.text),
    "str with any character": ({"text": "\x00\r\x1b"}, lambda m: m.text),
    "bytes": ({"data": b"\x00\xff"}, lambda m: m.data),
    "list of one type": ({"numbers": [1, 2]}, lambda m: list(m.numbers)),
    "list of records": (
        {"points": [protos.Point(x=1, y=2), protos.Point(x=2, y=3)]},
        lambda m: [_point(item) for item in m.points],
    ),
    "dict with str keys": ({"counts": {"a": 1, "b c": 2}}, lambda m: dict(m.counts)),
    "dict with int keys": ({"names": {1: "a", -2: "b"}}, lambda m: dict(m.names)),
    "dict of records": (
        {"places": {"a": protos.Point(x=1, y=2)}},
        lambda m: {key: _point(item) for key, item in m.places.items()},
    ),
    "datetime with a zone": ({"at": MOMENT}, lambda m: m.at.ToDatetime(dt.UTC)),
    "timedelta": ({"took": KINDS["timedelta"][1]}, lambda m: m.took.ToTimedelta()),
    "IntEnum": ({"color": protos.RED}, lambda m: Level(m.color * 5)),
    "record": ({"points": [protos.Point(x=1, y=5)]}, lambda m: _point(m.points[0])),
    "record in itself": (
        {"whole": 1, "inner": protos.Everything(whole=2)},
        lambda m: Node(m.whole, Node(m.inner.whole)),
    ),
    "X or None": ({"maybe": "x"}, lambda m: m.maybe),
    "union of kinds": ({"word": "a"}, lambda m: getattr(m, m.WhichOneof("choice"))),
}
THRIFT: dict[str, tuple[dict[str, Any], Same]] = {
    "None": ({}, lambda m: m.text),
    "bool": ({"yes": True}, lambda m: m.yes),
    "int of 64 bits": ({"large": -(2**63)}, lambda m: m.large),
    "float": ({"real": 0.1}, lambda m: m.real),
    "infinity": ({"real": float("inf")}, lambda m: m.real),
    "str": ({"text": "grüße \U0001f600"}, lambda m: m.text),
    "str with any character": ({"text": "\x00\r\x1b"}, lambda m: m.text),
    "bytes": ({"data": b"\x00\xff"}, lambda m: m.data),
    "list of one type": ({"numbers": [1, 2]}, lambda m: m.numbers),
    "list of records": (
        {"points": [thrifts.Point(x=1), thrifts.Point(x=2, y=3)]},
        lambda m: [_point(item) for item in m.points],
    ),
    "dict with str keys": ({"counts": {"a": 1, "b c": 2}}, lambda m: m.counts),
    "dict with int keys": ({"names": {1: "a", -2: "b"}}, lambda m: m.names),
    "dict of records": (
        {"places": {"a": thrifts.Point(x=1)}},
        lambda m: {key: _point(item) for key, item in m.places.items()},
    ),
    "IntEnum": ({"whole": 5}, lambda m: Level(m.whole)),
    "record": ({"point": thrifts.Point(x=1, y=5)}, lambda m: _point(m.point)),
    "record in itself": ({}, lambda m: Node(1, Node(2))),
    "X or None": ({"text": "x"}, lambda m: m.text),
}
#: For each kind that Arrow has: the type of the column.
ARROW: dict[str, Any] = {
    "None": pa.null(),
    "bool": pa.bool_(),
    "int of 64 bits": pa.int64(),
    "unsigned int of 64 bits": pa.uint64(),
    "float": pa.float64(),
    "infinity": pa.float64(),
    "str": pa.string(),
    "str with any character": pa.string(),
    "bytes": pa.binary(),
    "list of one type": pa.list_(pa.int64()),
    "list of records": pa.list_(pa.struct([("x", pa.int8()), ("y", pa.int8())])),
    "dict with str keys": pa.map_(pa.string(), pa.int64()),
    "dict with int keys": pa.map_(pa.int64(), pa.string()),
    "dict of records": pa.map_(pa.string(), pa.struct([("x", pa.int8()), ("y", pa.int8())])),
    "datetime with a zone": pa.timestamp("us", "UTC"),
    "datetime without": pa.timestamp("us"),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timedelta": pa.duration("us"),
    "Decimal": pa.decimal128(5, 2),
    "Enum of str": pa.dictionary(pa.int8(), pa.string()),
    "record": pa.struct([("x", pa.int8()), ("y", pa.int8())]),
    "X or None": pa.string(),
}


def as_message(codec: Any, kind: str) -> Any:
    made, cls = {
        "protobuf": (PROTOBUF, protos.Everything),
        "thrift": (THRIFT, thrifts.Everything),
    }[codec.name]
    if kind == "record in itself" and codec.name == "thrift":
        tree = thrifts.Tree(kids=[thrifts.Tree(kids=[])])
        assert codec.decoder(thrifts.Tree)(codec.encode(tree)) == tree
    given, read = made[kind]
    return read(codec.decoder(cls)(codec.encode(cls(**given))))


def _plain(value: Any) -> Any:
    if isinstance(value, Point):
        return {"x": value.x, "y": value.y}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return [(key, _plain(item)) for key, item in value.items()]
    return value.value if isinstance(value, Color) else value


def as_column(codec: Any, kind: str) -> Any:
    value = KINDS[kind][1]
    column = pa.array([_plain(value)], ARROW[kind])
    arrived = codec.decoder(pa.Table)(codec.encode(pa.table({"v": column})))
    assert arrived.column("v").to_pylist() == [_plain(value)]
    return value


CODECS: dict[str, tuple[Any, Callable[[Any, str], Any]]] = {
    "msgpack": (MsgpackCodec(), whole),
    "json": (JsonCodec(), whole),
    "cbor": (CborCodec(), whole),
    "xml": (XmlCodec(), whole),
    "avro": (AvroCodec(), as_field),
    "protobuf": (ProtobufCodec(), as_message),
    "thrift": (ThriftCodec(), as_message),
    "arrow": (ArrowCodec(), as_column),
}
#: What a codec can't carry: of schemas, because their language has no such field.
CANNOT: dict[str, set[str]] = {
    "msgpack": {"longer int"},
    "json": {"infinity"},
    "cbor": set(),
    "xml": set(),
    "avro": {
        "unsigned int of 64 bits",
        "longer int",
        "list of anything",
        "tuple of mixed types",
        "dict with int keys",
        "NamedTuple",
        "TypedDict with absent keys",
        "union of tagged Structs",
        "anything",
    },
    "protobuf": set(KINDS) - set(PROTOBUF),
    "thrift": set(KINDS) - set(THRIFT),
    "arrow": set(KINDS) - set(ARROW),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CODECS)
def test_it_carries_what_the_table_says(name: str, kind: str) -> None:
    codec, carry = CODECS[name]
    value = KINDS[kind][1]
    if kind not in CANNOT[name]:
        arrived = carry(codec, kind)
        assert arrived == value
        assert type(arrived) is type(value)
        return
    if carry in (as_message, as_column):
        with pytest.raises(FastRPCError, match="carries"):  # it is no field, and no message
            codec.encode(value)
        return
    with pytest.raises((FastRPCError, OverflowError, msgspec.ValidationError)):
        carry(codec, kind)


def test_the_guide_has_the_same_table() -> None:
    page = next(page for page in GUIDES if page.name == "codecs.md").read_text(encoding="utf-8")
    rows = {row[0]: row[1:] for row in table(page, "carried")}
    assert list(rows) == list(KINDS)
    for kind, marks in rows.items():
        can = ["no" if kind in CANNOT[name] else "yes" for name in CODECS]
        assert marks == can, kind


def test_messages_of_schemas_carry_no_plain_values() -> None:
    for name in ("protobuf", "thrift", "arrow"):
        with pytest.raises(FastRPCError):
            CODECS[name][0].encode(Holder(5))
