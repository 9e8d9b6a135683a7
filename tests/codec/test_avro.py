"""Records travel as Avro data behind a fingerprint, and hostile data is refused."""

import datetime as dt
import enum
import io
import json
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple, NotRequired, TypedDict
from uuid import UUID

import fastavro
import pytest

from fastrpc.codec import avro
from fastrpc.codec.avro import AvroCodec
from fastrpc.codec.avro_schema import derive
from fastrpc.errors import CodecError, ConfigError
from fastrpc.testing.codec import CODEC_CHECKS, check_codec
from tests.codec.hostile import outcome, refusal, survives
from tests.codec.samples import Box, Color, Level, Line, Node, Plain, Point, Positive, Tree

UTC = dt.UTC


class Size(enum.Enum):
    SMALL = "a size"
    LARGE = "another"


class Movie(TypedDict):
    title: str
    year: int


@dataclass
class Order:
    id: int
    at: dt.datetime
    price: Decimal
    key: UUID
    size: Size = Size.SMALL
    color: Color = Color.RED
    level: Level = Level.LOW
    note: str | None = None
    points: list[Point] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    either: int | str = 0
    ratio: float = 0.5
    data: bytes = b""


ORDER = Order(
    5,
    dt.datetime(2026, 1, 2, tzinfo=UTC),
    Decimal("1.10"),
    UUID(int=7),
    points=[Point(1), Point(2, 3)],
    counts={"a": 1},
    either="x",
    data=b"\x00\xff",
)
SAMPLES: list[tuple[Any, Any]] = [
    (Order, ORDER),
    (Point, Point(1, -2)),
    (Line, Line(a=Point(1), b=Point(2, 3), tags=["x"])),
    (Node, Node(1, Node(2, Node(3)))),
    (Tree, Tree([Tree([]), Tree([Tree([])])])),
    (Plain, Plain(1)),
    (Movie, {"title": "x", "year": 1}),
    (bool, True),
    (int, -(2**63)),
    (float, 1.5),
    (str, "grüße"),
    (bytes, b"\x00\xff"),
    (UUID, UUID(int=5)),
    (dt.datetime, dt.datetime(2026, 1, 2, 3)),
    (Color, Color.BLUE),
    (Level, Level.HIGH),
    (Point | None, Point(1)),
    (Point | None, None),
    (None, None),
]


@pytest.mark.parametrize("check", CODEC_CHECKS)
def test_conforms(check: str) -> None:
    check_codec(AvroCodec(Movie), SAMPLES, only=check)


def test_the_payload_is_avros_single_object_encoding() -> None:
    # The fingerprint of "int" stands in the Avro specification's own test data.
    assert AvroCodec('"int"')._dicts[0].print.hex() == "8f5c393f1ad57572"
    data = AvroCodec().encode((Point(1, 2),))
    assert data[:2] == b"\xc3\x01"
    assert data[10:] == b"\x02\x04"
    schema = fastavro.parse_schema(AvroCodec().schema(Point))
    assert fastavro.schemaless_reader(io.BytesIO(data[10:]), schema, None) == {"x": 1, "y": 2}


def test_a_class_is_the_schema() -> None:
    assert AvroCodec().schema(Point) == {
        "type": "record",
        "name": "Point",
        "fields": [{"name": "x", "type": "long"}, {"name": "y", "type": "long", "default": 2}],
    }
    described: Any = AvroCodec().schema(Order)
    types = {item["name"]: item["type"] for item in described["fields"]}
    defaults = {item["name"]: item["default"] for item in described["fields"] if "default" in item}
    assert types["at"] == types["price"] == types["key"] == types["size"] == "string"
    assert types["color"] == {"type": "enum", "name": "Color", "symbols": ["red", "blue"]}
    assert types["note"] == ["null", "string"]
    assert types["points"]["items"]["name"] == "Point"
    assert defaults == {
        "size": "a size",
        "color": "red",
        "level": 1,
        "note": None,
        "points": [],
        "counts": {},
        "either": 0,
        "ratio": 0.5,
    }
    json.dumps(described)
    assert derive(Box[int])["name"] == "Box_int"  # type: ignore[call-overload, index]


class Pair(NamedTuple):
    first: int
    second: str


class Sparse(TypedDict):
    a: int
    b: NotRequired[str]


@dataclass
class Holds:
    v: Any


@dataclass
class Named:
    größe: int


@dataclass
class Twice:
    a: Point
    b: "other.Point"


class other:  # a place for a second class of one name
    @dataclass
    class Point:
        z: int


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        (Holds, r"Holds\.v: Avro has no word for Any"),
        (Pair, "Pair; use a dataclass"),
        (Sparse, "its fields may be absent"),
        (Named, "Avro names are letters, digits and _"),
        (Twice, r"Twice\.b: two types are called Point"),
        (dict[str, int], "carries a record or a single value, not dict"),
        (list[int], "carries a record or a single value, not list"),
        (int | str, r"not int \| str"),
        (Any, "not Any"),
        (complex, "not complex"),
        ("Point", "'Point'|Point"),
    ],
)
def test_types_that_avro_can_not_say_are_refused(wanted: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        AvroCodec().decoder(wanted)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2**63, "this int does not fit its Avro schema"),
        (Point("1"), "this Point does not fit its Avro schema"),  # type: ignore[arg-type]
        (Point(1.5), "this Point does not fit its Avro schema"),  # type: ignore[arg-type]
        (Point(True), "this Point does not fit its Avro schema"),
        ([1], "a record or a single value, not list"),
        ({"x": 1}, "this dict fits no schema"),
        ((1, 2), "carries one argument, got 2"),
    ],
)
def test_values_that_do_not_fit_are_refused(value: Any, text: str) -> None:
    with pytest.raises(CodecError, match=text):
        AvroCodec().encode(value)


GIVEN = {
    "type": "record",
    "name": "shop.Sale",
    "fields": [
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "key", "type": {"type": "string", "logicalType": "uuid"}},
        {
            "name": "price",
            "type": {"type": "bytes", "logicalType": "decimal", "precision": 8, "scale": 2},
        },
    ],
}


@dataclass
class Sale:
    at: dt.datetime
    day: dt.date
    key: UUID
    price: Decimal


def test_a_schema_given_by_hand_is_used_for_the_class_of_its_name() -> None:
    codec = AvroCodec(json.dumps(GIVEN))
    sale = Sale(
        dt.datetime(2026, 1, 2, 3, 4, tzinfo=UTC), dt.date(2026, 1, 2), UUID(int=1), Decimal("1.10")
    )
    data = codec.encode(sale)
    assert len(data) < 70
    assert codec.decoder(Sale)(data) == sale
    assert codec.schema(Sale) == GIVEN
    as_dict = {"at": sale.at, "day": sale.day, "key": sale.key, "price": sale.price}
    assert codec.encode(as_dict) == data


def test_wrong_schemas_are_refused() -> None:
    for schema in ('{"type": "recod"}', "{", {"type": "record"}, 5, '"Point"'):
        with pytest.raises(ConfigError, match="an Avro schema is wrong"):
            AvroCodec(schema)


def test_the_table_of_schemas_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(avro, "SCHEMAS_MAX", 3)
    codec = AvroCodec('"int"', writers=['"long"', Point])
    assert codec.encode(Point(1))
    with pytest.raises(ConfigError, match="at most 3 schemas"):
        codec.learn('"string"')
    # What peers send adds nothing.
    read = codec.decoder(Point)
    for number in range(100):
        outcome(read, b"\xc3\x01" + number.to_bytes(8, "little") + b"\x00")
    assert len(codec._by_print) == 3


def test_a_record_of_our_own_that_refuses_says_why() -> None:
    codec = AvroCodec()
    data = codec.encode(Positive(0))
    assert "x must not be negative" in refusal(codec.decoder(Positive), data[:-1] + b"\x01")


def test_arguments() -> None:
    codec = AvroCodec()
    data = codec.encode((Point(1),))
    assert list(codec.arguments([Point], 1, None)(data)) == [Point(1)]
    assert list(codec.arguments([Point | None], 0, None)(b"")) == []
    assert list(codec.arguments([Point], 0, None)(data)) == [Point(1)]
    with pytest.raises(ConfigError, match="put what belongs together"):
        codec.arguments([Point, Point], 2, None)


def test_damage_is_an_error_or_another_value() -> None:
    codec = AvroCodec()
    for value in (ORDER, Node(1, Node(2)), Tree([Tree([]), Tree([])])):
        data = codec.encode(value)
        assert survives(codec.decoder(type(value)), data) > len(data)


NULLS = {
    "type": "record",
    "name": "Nulls",
    "fields": [{"name": "v", "type": {"type": "array", "items": "null"}}],
}


@dataclass
class Nulls:
    v: list[None]


def _long(number: int) -> bytes:
    number = number << 1 ^ number >> 63
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out) + bytes([number])


HOSTILE: list[tuple[str, Any, bytes, str]] = [
    ("a billion nulls", Nulls, _long(10**9) + b"\x00", "Avro data has more than 10000 items"),
    ("2**62 nulls", Nulls, _long(2**62) + b"\x00", "Avro data has more than 10000 items"),
    ("-2**63 nulls", Nulls, _long(-(2**63)) + b"\x00\x00", "Avro data has more than 10000 items"),
    ("blocks of nulls", Nulls, _long(9000) * 2 + b"\x00", "Avro data has more than 10000 items"),
    ("deep", Node, b"\x02\x02" * 100_000, "Avro data is nested deeper than 64"),
    ("deep arrays", Tree, b"\x02" * 100_000, "Avro data is nested deeper than 64"),
    ("long text", str, _long(2**40) + b"x", "it is cut short"),
    ("negative text", str, _long(-1) + b"x", "it is cut short"),
    ("endless number", int, b"\xff" * 30, "a number does not end"),
    ("too large a number", int, b"\xff" * 9 + b"\x7f", "a number does not end"),
    ("a choice beyond", Node, b"\x02\x08", "a choice is out of range"),
    ("a choice below", Node, b"\x02\x01", "a choice is out of range"),
    ("a symbol beyond", Color, b"\x08", "a choice is out of range"),
    ("no boolean", bool, b"\x02", "a boolean is neither 0 nor 1"),
    ("no UTF-8", str, b"\x02\xff", "can't be read as str"),
    ("something behind", int, b"\x02\x02", "something comes after the value"),
    ("nothing", int, b"", "a number does not end"),
]


@pytest.mark.parametrize(
    ("wanted", "data", "text"), [r[1:] for r in HOSTILE], ids=[r[0] for r in HOSTILE]
)
def test_hostile_data_is_refused(wanted: Any, data: bytes, text: str) -> None:
    codec = AvroCodec(NULLS, max_items=10_000)
    mark = b"\xc3\x01" + codec._known(wanted).print
    assert text in refusal(codec.decoder(wanted), mark + data)


def test_deepest_limit_there_can_be() -> None:
    codec = AvroCodec(max_depth=512)
    mark = b"\xc3\x01" + codec._known(Tree).print
    assert "nested deeper than 512" in refusal(codec.decoder(Tree), mark + b"\x02" * 10_000)


@pytest.mark.parametrize("data", [b"", b"\xc3", b"\xc3\x01", b"\xc3\x01" + bytes(7), bytes(20)])
def test_without_a_fingerprint(data: bytes) -> None:
    assert "does not begin with the fingerprint" in refusal(AvroCodec().decoder(int), data)


def test_an_unknown_fingerprint_says_what_to_do() -> None:
    text = refusal(AvroCodec().decoder(int), b"\xc3\x01" + bytes(8) + b"\x02")
    assert "give it to AvroCodec(writers=[...])" in text
