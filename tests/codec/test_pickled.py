"""Pickle, once switched on: everything goes through, and types are still checked."""

import uuid
from decimal import Decimal
from typing import Any

import pytest

from fastrpc.codec import Mismatch, default_codecs
from fastrpc.errors import ConfigError
from tests.codec.samples import ROUND_TRIPS, STRUCTS, Color, Line, Pair, Point

codec = default_codecs().with_pickle().get("pickle")


class Custom:
    def __init__(self, value: int) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Custom) and other.value == self.value

    __hash__ = None  # type: ignore[assignment]


def test_identity() -> None:
    assert (codec.name, codec.serializer) == ("pickle", 3)


@pytest.mark.parametrize(
    ("type_", "value"),
    [*ROUND_TRIPS, *STRUCTS, (Custom, Custom(5)), (list[Custom], [Custom(1)]), (complex, 1j)],
    ids=lambda item: str(item)[:40],
)
def test_round_trip(type_: Any, value: Any) -> None:
    if "Meta" in str(type_):
        return
    try:
        read = codec.decoder(type_)
    except ConfigError:
        assert "Cat | " in str(type_)  # a union nobody can check
        return
    got = read(codec.encode(value))
    assert got == value
    assert type(got) is type(value)
    assert codec.convert(value, type_) == value
    assert list(codec.arguments([type_], 1, None)(codec.encode((value,)))) == [value]


@pytest.mark.parametrize(
    ("type_", "value", "text"),
    [
        (int, "x", "expected int, got str"),
        (int, True, "expected int, got bool"),
        (Custom, 5, "expected Custom, got int"),
        (list[Custom], [Custom(1), 5], "item 1: expected Custom, got int"),
        (Point, Custom(1), "expected Point, got Custom"),
        (Color, Custom(1), "expected one of 'red', 'blue', got Custom"),
        (dict[str, Point], {"a": Pair(1)}, "value of 'a': expected Point, got Pair"),
    ],
)
def test_types_are_checked(type_: Any, value: Any, text: str) -> None:
    with pytest.raises(Mismatch) as caught:
        codec.convert(value, type_)
    assert str(caught.value) == text


def test_plain_values_become_types_too() -> None:
    assert codec.convert({"x": 1}, Point) == Point(1)
    assert codec.convert({"a": Point(1), "b": {"x": 2}}, Line) == Line(a=Point(1), b=Point(2))
    assert codec.convert([1, 2], set[int]) == codec.convert({1, 2}, set[int]) == {1, 2}
    assert codec.convert(str(uuid.UUID(int=5)), uuid.UUID) == uuid.UUID(int=5)
    assert codec.convert(5, Decimal) == Decimal(5)


def test_arguments() -> None:
    read = codec.arguments([int, str], 1, float)
    assert read(codec.encode((1,))) == [1]
    assert read(codec.encode([1, "a", 2.5, 3])) == [1, "a", 2.5, 3.0]
    for bad in ((), {"a": 1}, 5, {1}):
        with pytest.raises(Mismatch):
            read(codec.encode(bad))


def test_what_is_no_type_is_refused() -> None:
    with pytest.raises(ConfigError):
        codec.decoder("int")
    with pytest.raises(ConfigError):
        codec.decoder(lambda: None)
