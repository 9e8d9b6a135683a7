"""The fields of every kind of record, as they travel."""

from dataclasses import dataclass
from typing import Any, Required, TypedDict

import attrs
import msgspec
import pytest

from fastrpc.call.fields import NOTHING, RecordField, read_record
from fastrpc.errors import ConfigError
from tests.codec import samples


def names(annotation: Any) -> list[tuple[str, Any, bool, bool]]:
    record = read_record(annotation)
    assert record is not None
    return [(f.name, f.annotation, f.required, f.omitted) for f in record.fields]


class Lean(msgspec.Struct, omit_defaults=True):
    a: int
    b: int = 2


class Late(TypedDict, total=False):
    a: "Required[int]"
    b: str


@attrs.define
class Attr:
    a: int
    b: str = "x"
    c: list[int] = attrs.Factory(list)


@dataclass
class Lost:
    x: "Nowhere"  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("annotation", "fields"),
    [
        (samples.Point, [("x", int, True, False), ("y", int, False, False)]),
        (samples.Box[int], [("v", int, True, False), ("many", list[int], True, False)]),
        (samples.Pair, [("a", int, True, False), ("b", str, False, False)]),
        (samples.OldPair, [("a", Any, True, False), ("b", Any, True, False)]),
        (Late, [("a", int, True, False), ("b", str, False, True)]),
        (samples.Plain, [("a", int, True, False), ("b", int, False, False), ("c", list[int], False, False)]),
        (Lean, [("a", int, True, False), ("b", int, False, True)]),
        (Attr, [("a", int, True, False), ("b", str, False, False), ("c", list[int], False, False)]),
    ],
    ids=str,
)  # fmt: skip
def test_fields(annotation: Any, fields: list[tuple[str, Any, bool, bool]]) -> None:
    found = [(name, str(hint), *rest) for name, hint, *rest in names(annotation)]
    wanted = [(name, str(hint), *rest) for name, hint, *rest in fields]
    if annotation is Late:
        wanted[0] = ("a", "typing.Required[int]", True, False)
    assert found == wanted


def test_typed_dicts_say_what_may_be_left_out() -> None:
    assert [(name, required, omitted) for name, _, required, omitted in names(samples.Movie)] == [
        ("a", True, False),
        ("b", False, True),
    ]


def test_structs_have_wire_names_and_configuration() -> None:
    assert [name for name, *_ in names(samples.Renamed)] == ["aB", "cD"]
    renamed = read_record(samples.Renamed)
    assert renamed is not None
    assert renamed.fields[1].omitted
    strict, cat, row = map(read_record, (samples.Strict, samples.Cat, samples.Row))
    assert strict is not None
    assert strict.closed
    assert cat is not None
    assert cat.tag == ("type", "Cat")
    assert row is not None
    assert (row.positional, row.closed) == (True, False)


def test_defaults_are_values_or_nothing() -> None:
    def defaults(annotation: Any) -> list[Any]:
        record = read_record(annotation)
        assert record is not None
        return [field.default for field in record.fields]

    assert defaults(samples.Point) == [NOTHING, 2]
    assert defaults(samples.Pair) == [NOTHING, "z"]
    assert defaults(Attr) == [NOTHING, "x", NOTHING]
    assert defaults(samples.Plain) == [NOTHING, 2, NOTHING]


@pytest.mark.parametrize("annotation", [int, list[int], samples.Color, str, 5, None, Any])
def test_what_is_no_record(annotation: Any) -> None:
    assert read_record(annotation) is None


def test_an_annotation_that_leads_nowhere() -> None:
    with pytest.raises(ConfigError, match="an annotation of Lost can't be resolved"):
        read_record(Lost)


def test_fields_are_plain_records() -> None:
    field = RecordField(name="a", annotation=int, required=True)
    assert (field.omitted, field.default) == (False, NOTHING)
