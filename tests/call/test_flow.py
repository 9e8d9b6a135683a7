"""What the walk says about two types is what the codecs do with their values."""

from typing import Annotated, Any

import msgspec
import pytest

from fastrpc.call import flow
from fastrpc.call.flow import BREAKING, Finding, Walk, kind_of, members, text
from fastrpc.call.schema import SchemaBuilder
from fastrpc.codec import JsonCodec, MsgpackCodec
from fastrpc.errors import ConfigError
from tests.codec import samples

CODECS = (JsonCodec(), MsgpackCodec())
TYPES: list[tuple[Any, Any]] = [
    *samples.ROUND_TRIPS,
    *samples.STRUCTS,
    (Annotated[str, msgspec.Meta(min_length=2)], "ab"),
    (Annotated[list[int], msgspec.Meta(max_length=2)], [1, 2]),
]


def described(annotation: Any) -> tuple[Any, Any]:
    builder = SchemaBuilder()
    return builder.schema(annotation), builder.defs


def findings(writer: Any, reader: Any, *, free: bool = True) -> list[Finding]:
    (written, writer_defs), (read, reader_defs) = described(writer), described(reader)
    found = Walk(writer_defs, reader_defs, free=free).compare(written, read)
    return [item.finding for item in found]


SCHEMAS = [described(annotation) for annotation, _ in TYPES]
DECODERS = [[codec.decoder(annotation) for codec in CODECS] for annotation, _ in TYPES]


@pytest.mark.parametrize("index", range(len(TYPES)), ids=lambda i: str(TYPES[i][0])[:40])
def test_a_verdict_of_harmless_is_true(index: int) -> None:
    """Write the value, read it as every type that the walk says can read it."""
    (writer, writer_defs), value = SCHEMAS[index], TYPES[index][1]
    written = [codec.encode(value) for codec in CODECS]
    for (reader, reader_defs), decoders in zip(SCHEMAS, DECODERS, strict=True):
        for free in (True, False):
            found = Walk(writer_defs, reader_defs, free=free).compare(writer, reader)
            if not any(item.finding in BREAKING for item in found):
                for decode, data in zip(decoders, written, strict=True):
                    decode(data)  # raises if the verdict is wrong


def test_the_verdicts_are_not_all_the_same() -> None:
    pairs = [
        any(f.finding in BREAKING for f in Walk(a[1], b[1], free=True).compare(a[0], b[0]))
        for a in SCHEMAS[::3]
        for b in SCHEMAS[::3]
    ]
    assert 100 < pairs.count(False) < pairs.count(True)


@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("index", range(len(TYPES)), ids=lambda i: str(TYPES[i][0])[:40])
def test_a_type_fits_itself_and_there_is_nothing_to_say(index: int, free: bool) -> None:
    schema, defs = SCHEMAS[index]
    again, defs_again = described(TYPES[index][0])
    assert Walk(defs, defs_again, free=free).compare(schema, again) == []


# A value of the writer's type that the reader refuses: what is called breaking does break.
REFUSED: list[tuple[Any, Any, Any]] = [
    (int, str, 1),
    (float, int, 1.5),
    (int | None, int, None),
    (int | str, int, "a"),
    (Any, int, "a"),
    (list[Any], list[int], ["a"]),
    (list[int], tuple[int, int], [1]),
    (list[int], samples.Pair, [1, 2]),
    (list[samples.Point], set[samples.Point], [samples.Point(1)]),
    (str, samples.Color, "green"),
    (int, samples.Level, 9),
    (str, bytes, "é"),
    (bytes, str, b"\xff"),
    (dict[str, int], samples.Point, {}),
    (dict[str, int], dict[str, str], {"a": 1}),
    (dict[int, int], dict[str, int], {1: 1}),
    (samples.Point, samples.Strict, samples.Point(1)),
    (samples.Movie, samples.Pair, {"a": 1}),
    (samples.Node, samples.Tree, samples.Node(1)),
    (samples.Cat | samples.Dog, samples.Cat, samples.Dog("x")),
    (tuple[int, ...], tuple[int], (1, 2)),
    (int, Annotated[int, msgspec.Meta(ge=3)], 2),
    (str, Annotated[str, msgspec.Meta(pattern="^a")], "b"),
    (Annotated[int, msgspec.Meta(le=9)], Annotated[int, msgspec.Meta(le=8)], 9),
    (list[int], Annotated[list[int], msgspec.Meta(max_length=1)], [1, 2]),
]


@pytest.mark.parametrize(("writer", "reader", "value"), REFUSED, ids=lambda value: str(value)[:40])
def test_a_verdict_of_breaking_is_true(writer: Any, reader: Any, value: Any) -> None:
    assert BREAKING.intersection(findings(writer, reader))
    refused = 0
    for codec in CODECS:
        try:
            codec.decoder(reader)(codec.encode(value))
        except Exception:
            refused += 1
    assert refused


@pytest.mark.parametrize(
    ("writer", "reader", "wanted"),
    [
        (int, float, [Finding.TYPE_ROOMIER]),
        (int, Any, [Finding.TYPE_ROOMIER]),
        (int, int | None, [Finding.CHOICE_ROOMIER]),
        (samples.Color, str, [Finding.TYPE_ROOMIER]),
        (list[int], list[float], [Finding.TYPE_ROOMIER]),
        (tuple[int, int], list[int], [Finding.LENGTH_ROOMIER]),
        (samples.Point, dict[str, int], [Finding.TYPE_ROOMIER]),
        (Annotated[int, msgspec.Meta(ge=3)], int, [Finding.LIMIT_ROOMIER]),
        (Annotated[int, msgspec.Meta(ge=3)], Annotated[int, msgspec.Meta(ge=2)], [Finding.LIMIT_ROOMIER]),
        (Annotated[str, msgspec.Meta(pattern="a")], str, [Finding.LIMIT_ROOMIER]),
        (Annotated[int, msgspec.Meta(ge=3)] | None, Annotated[int | None, msgspec.Meta(ge=3)], []),
        (Annotated[int | None, msgspec.Meta(ge=3)], Annotated[int, msgspec.Meta(ge=3)] | None, []),
    ],
    ids=str,
)  # fmt: skip
def test_room_to_spare(writer: Any, reader: Any, wanted: list[Finding]) -> None:
    assert findings(writer, reader) == wanted


def test_a_difference_inside_a_circle_is_found_once_per_place() -> None:
    old = SchemaBuilder()
    schema = old.schema(samples.Node)
    changed = {"Node": {**old.defs["Node"], "required": ["v", "next"]}}
    found = Walk(old.defs, changed, free=True).compare(schema, schema)
    assert [(item.finding, item.where) for item in found] == [
        (Finding.FIELD_MAY_LACK, "field 'next'")
    ]


def test_places_are_told() -> None:
    old, defs = described(dict[str, list[samples.Line]])
    wrong = {**defs, "Point": {**defs["Point"], "required": ["x", "y"]}}
    found = Walk(defs, wrong, free=True).compare(old, old)
    assert [item.where for item in found] == [
        "a value, an item, field 'a', field 'y'",
        "a value, an item, field 'b', field 'y'",
    ]


def test_comparing_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "MAX_PAIRS", 3)
    with pytest.raises(ConfigError, match="too large to compare"):
        findings(samples.Line, samples.Line)


def test_words_for_types() -> None:
    told = {
        annotation: text(described(annotation)[0])
        for annotation in (Any, int, samples.Point, int | None, list[int], dict[str, int], dict)
    }
    assert list(told.values()) == [
        "anything", "integer", "Point", "integer | null", "array of integer", "map of integer",
        "map",
    ]  # fmt: skip
    assert text({"enum": ["a", "b"]}) == "one of 'a', 'b'"
    assert text({"type": "array", "prefixItems": [{}, {}]}) == "array of 2"


def test_kinds_and_members() -> None:
    assert kind_of({"type": "string", "contentEncoding": "base64"}) == "bytes"
    assert kind_of({"type": "string", "format": "uuid"}) == "uuid"
    assert kind_of({"x-type": "numpy.ndarray", "x-dtype": "int8"}) == "numpy.ndarray[int8]"
    assert kind_of({}) == "any"
    schema = {"anyOf": [{"$ref": "#/$defs/A"}, {"type": "null"}]}
    defs = {"A": {"anyOf": [{"type": "integer"}, {"type": "string"}]}}
    assert [kind_of(item) for item in members(schema, defs)] == ["integer", "string", "null"]
