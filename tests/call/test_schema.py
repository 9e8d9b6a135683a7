"""Schemas are JSON Schema 2020-12, and what our JSON codec writes is valid by them."""

import datetime as dt
import decimal
import enum
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, NewType, TypeVar

import attrs
import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrpc.call.schema import Schema, SchemaBuilder, default_of
from fastrpc.codec import JsonCodec
from tests.codec import samples

CODEC = JsonCodec()
S = TypeVar("S")
T = TypeVar("T")


def whole(annotation: Any) -> Schema:
    """Return a schema that stands alone."""
    builder = SchemaBuilder()
    schema = builder.schema(annotation)
    return {**schema, "$defs": builder.defs} if builder.defs else schema


def bare(annotation: Any) -> Schema:
    return SchemaBuilder().schema(annotation)


@attrs.define
class Attr:
    a: int
    b: str = "x"


@dataclass
class Documented:
    """What it is.

    More of it.
    """

    x: int = 1


class Doc:
    def __init__(self, documentation: str) -> None:
        self.documentation = documentation


@pytest.mark.parametrize(
    ("annotation", "value"),
    [*samples.ROUND_TRIPS, *samples.STRUCTS, (Attr, Attr(1)), (Documented, Documented())],
    ids=lambda value: type(value).__name__,
)
def test_what_the_codec_writes_is_valid(annotation: Any, value: Any) -> None:
    schema = whole(annotation)
    jsonschema.Draft202012Validator.check_schema(schema)
    json.dumps(schema)
    jsonschema.Draft202012Validator(schema).validate(json.loads(CODEC.encode(value)))


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, "1"),
        (int, 1.5),
        (bool, 1),
        (str, 1),
        (list[int], ["a"]),
        (tuple[int, str], [1]),
        (tuple[int, str], [1, "a", 2]),
        (set[int], [1, 1]),
        (dict[str, int], {"a": "b"}),
        (dict[int, str], {"a": "b"}),
        (samples.Point, {"y": 1}),
        (samples.Point, {"x": "1"}),
        (samples.Line, {"a": {"x": 1}, "b": {}}),
        (samples.Node, {"v": 1, "next": {"v": "1"}}),
        (samples.Box[int], {"v": "a", "many": []}),
        (samples.Pair, ["a"]),
        (samples.Movie, {"b": "x"}),
        (samples.Color, "green"),
        (samples.Level, 2),
        (Literal["a", 1], 2),
        (int | None, "a"),
        (samples.Strict, {"a": 1, "b": 2}),
        (samples.Cat | samples.Dog, {"type": "Cow", "a": 1}),
        (samples.Row, ["a"]),
        (Annotated[int, msgspec.Meta(ge=3)], 2),
        (Annotated[str, msgspec.Meta(min_length=2, pattern="^a")], "a"),
        (Annotated[list[int], msgspec.Meta(max_length=1)], [1, 2]),
        (Annotated[dict[str, int], msgspec.Meta(max_length=0)], {"a": 1}),
    ],
    ids=str,
)
def test_what_does_not_fit_is_not_valid(annotation: Any, value: Any) -> None:
    assert not jsonschema.Draft202012Validator(whole(annotation)).is_valid(value)


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (Any, {}),
        (object, {}),
        (None, {"type": "null"}),
        (bytes, {"type": "string", "contentEncoding": "base64"}),
        (dt.datetime, {"type": "string", "format": "date-time"}),
        (dt.timedelta, {"type": "string", "format": "duration"}),
        (uuid.UUID, {"type": "string", "format": "uuid"}),
        (decimal.Decimal, {"type": "string", "format": "decimal"}),
        (list, {"type": "array"}),
        (tuple[()], {"type": "array", "minItems": 0, "maxItems": 0}),
        (dict, {"type": "object", "x-key": {}}),
        (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (Literal["a"] | int, {"anyOf": [{"type": "integer"}, {"type": "string", "enum": ["a"]}]}),
        (T, {}),
        (AsyncIterator[int], {"x-stream": True, "items": {"type": "integer"}}),
        (AsyncIterator, {"x-stream": True, "items": {}}),
        (complex, {"x-type": "builtins.complex"}),
        (Annotated[int, Doc("How many.")], {"type": "integer", "description": "How many."}),
        (Annotated[int, "a note"], {"type": "integer"}),
        (
            Annotated[bytes, msgspec.Meta(max_length=4)],
            {"type": "string", "contentEncoding": "base64", "maxLength": 8},
        ),
        (
            Annotated[int, msgspec.Meta(title="N", extra_json_schema={"x-a": 1, "x-b": object()})],
            {"type": "integer", "title": "N", "x-a": 1},
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_schemas(annotation: Any, schema: Schema) -> None:
    assert bare(annotation) == schema


def test_records_stand_in_the_definitions_once() -> None:
    builder = SchemaBuilder()
    assert builder.schema(list[samples.Point]) == {
        "type": "array",
        "items": {"$ref": "#/$defs/Point"},
    }
    assert builder.schema(samples.Point) == {"$ref": "#/$defs/Point"}
    assert builder.defs == {
        "Point": {
            "title": "Point",
            "type": "object",
            "properties": {"x": {"type": "integer"}, "y": {"type": "integer", "default": 2}},
            "required": ["x"],
        }
    }
    assert builder.types == {"Point": samples.Point}


def test_classes_of_one_name_are_told_apart() -> None:
    @dataclass
    class Point:
        z: str

    builder = SchemaBuilder()
    builder.schema(samples.Point)
    assert builder.schema(Point) == {"$ref": "#/$defs/Point_2"}
    assert set(builder.defs) == {"Point", "Point_2"}


def test_generic_records_have_names_of_their_own() -> None:
    builder = SchemaBuilder()
    builder.schema(tuple[samples.Box[int], samples.Box[list[str]]])
    assert set(builder.defs) == {"Box_int", "Box_list_str"}
    assert builder.defs["Box_list_str"]["properties"]["v"]["items"] == {"type": "string"}


def test_docs_are_descriptions_and_made_up_ones_are_not() -> None:
    builder = SchemaBuilder()
    for annotation in (Documented, samples.Point, samples.Pair, samples.Movie, samples.Color):
        builder.schema(annotation)
    told = {name: schema.get("description") for name, schema in builder.defs.items()}
    assert told.pop("Documented") == "What it is.\n\nMore of it."
    assert set(told.values()) == {None}


class Dtype(Generic[T]):
    """Stands for numpy's: numpy is no dependency, and only names are looked at."""


class Array(Generic[S, T]):
    """The same."""


Array.__module__, Array.__qualname__ = "numpy", "ndarray"


def test_ndarrays_are_named_with_what_is_in_them() -> None:
    assert bare(Array) == {"x-type": "numpy.ndarray"}
    annotation = Array[tuple[int, ...], Dtype[float]]
    assert bare(annotation) == {"x-type": "numpy.ndarray", "x-dtype": "float"}


def test_flags_are_numbers_and_odd_enumerations_break_nothing() -> None:
    odd = enum.Enum("odd", {"A": (1, 2), "B": 2**70, "C": "c"})
    for annotation in (samples.Perm, odd, samples.Mixed):
        json.dumps(whole(annotation))
    builder = SchemaBuilder()
    builder.schema(samples.Perm)
    assert builder.defs["Perm"] == {"title": "Perm", "type": "integer", "x-flags": [1, 2]}


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, {"default": None}),
        (5, {"default": 5}),
        (samples.Color.RED, {"default": "red"}),
        ([1, {"a": [None]}], {"default": [1, {"a": [None]}]}),
        (float("nan"), {}),
        (float("inf"), {}),
        (2**64, {}),
        (b"x", {}),
        ({1: 2}, {}),
        (samples.Point(1), {}),
    ],
    ids=repr,
)
def test_defaults_are_told_if_json_has_a_form(value: Any, told: Schema) -> None:
    assert default_of(value) == told


FINITE = st.floats(allow_nan=False, allow_infinity=False)
POINTS = st.builds(samples.Point, st.integers(-5, 5), st.integers())
NODES = st.recursive(
    st.builds(samples.Node, st.integers()),
    lambda inner: st.builds(samples.Node, st.integers(), inner),
    max_leaves=4,
)
VALUES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (int, st.integers(-(2**63), 2**64 - 1)),
    (float, FINITE),
    (str, st.text()),
    (bytes, st.binary()),
    (dt.datetime, st.datetimes(timezones=st.just(dt.UTC))),
    (dt.timedelta, st.timedeltas()),
    (decimal.Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    (dict[int, list[float | None]], st.dictionaries(st.integers(), st.lists(FINITE | st.none()))),
    (set[str], st.sets(st.text())),
    (tuple[int, ...], st.lists(st.integers()).map(tuple)),
    (list[samples.Point | None], st.lists(POINTS | st.none())),
    (samples.Node, NODES),
    (samples.Color | int, st.sampled_from(samples.Color) | st.integers()),
    (dict[uuid.UUID, samples.Pair], st.dictionaries(st.uuids(), st.builds(samples.Pair, st.integers()))),
]  # fmt: skip


VALIDATORS = [
    (jsonschema.Draft202012Validator(whole(annotation)), values) for annotation, values in VALUES
]


@pytest.mark.slow
@given(data=st.data())
def test_any_value_that_is_written_is_valid(data: st.DataObject) -> None:
    validator, values = data.draw(st.sampled_from(VALIDATORS))
    validator.validate(json.loads(CODEC.encode(data.draw(values))))


@dataclass
class Lost:
    x: "Nowhere"  # type: ignore[name-defined]  # noqa: F821


class TypeAliasType:
    """Stands for `type Json = ...` of 3.12, which this file can't write on 3.11."""

    __name__ = "Json"

    @property
    def __value__(self) -> Any:
        return dict[str, self] | list[int] | None  # type: ignore[valid-type]


def test_aliases_may_hold_themselves() -> None:
    alias = TypeAliasType()
    builder = SchemaBuilder()
    assert builder.schema(alias) == {"$ref": "#/$defs/Json"}
    assert builder.defs["Json"]["anyOf"] == [
        {"type": "object", "additionalProperties": {"$ref": "#/$defs/Json"}},
        {"type": "array", "items": {"type": "integer"}},
        {"type": "null"},
    ]


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (Lost, {"x-type": f"{__name__}.Lost"}),
        (TypeVar("Chosen", int, str), {"anyOf": [{"type": "integer"}, {"type": "string"}]}),
        (NewType("Maybe", int | None) | str, None),  # type: ignore[valid-newtype]
        (5, {"x-type": "5"}),
    ],
    ids=str,
)
def test_odd_annotations(annotation: Any, schema: Schema | None) -> None:
    flat = {"anyOf": [{"type": "integer"}, {"type": "null"}, {"type": "string"}]}
    assert bare(annotation) == (flat if schema is None else schema)


def test_annotations_without_a_hash() -> None:
    annotation = samples.Box[Annotated[int, []]]  # type: ignore[valid-type]
    builder = SchemaBuilder()
    assert builder.schema(annotation) == builder.schema(annotation) == {"$ref": "#/$defs/Box_int"}
    assert set(builder.defs) == {"Box_int"}
