"""What converting says: the place, what was expected, what came."""

import datetime as dt
import sys
import typing
import uuid
from collections.abc import AsyncIterator
from dataclasses import InitVar, dataclass, field
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, NewType, TypeVar

import pytest

from fastrpc.codec import Mismatch, fast, plain
from fastrpc.codec.convert import build_reader, type_name
from fastrpc.codec.reader import Dialect
from fastrpc.errors import CodecError, ConfigError
from tests.codec import samples
from tests.codec.samples import Box, Color, Level, Line, Movie, Node, Pair, Point, Positive

TEXTS: list[tuple[Any, Any, str]] = [
    (None, 0, "expected None, got int"),
    (bool, 1, "expected bool, got int"),
    (int, "x", "expected int, got str"),
    (int, True, "expected int, got bool"),
    (int, 1.0, "expected int, got float"),
    (int, None, "expected int, got None"),
    (float, "x", "expected float, got str"),
    (float, False, "expected float, got bool"),
    (str, b"x", "expected str, got bytes"),
    (bytes, "x", "expected bytes, got str"),
    (list[int], {}, "expected list[int], got dict"),
    (list[int], [1, "x"], "item 1: expected int, got str"),
    (list[list[int]], [[], [1, "x"]], "item 1, item 1: expected int, got str"),
    (tuple[int, str], [1], "expected 2 items, got 1"),
    (tuple[int, str], [1, 2], "item 1: expected str, got int"),
    (tuple[int, ...], 5, "expected tuple[int, ...], got int"),
    (tuple[()], [1], "expected 0 items, got 1"),
    (set[int], ["x"], "item 0: expected int, got str"),
    (set[int], {}, "expected set[int], got dict"),
    (set, [{}], "item 0: dict can't be in a set"),
    (frozenset[str], [1], "item 0: expected str, got int"),
    (dict[str, int], {"a": "x"}, "value of 'a': expected int, got str"),
    (dict[str, int], {"k" * 41: "x"}, "a value: expected int, got str"),
    (dict[int, int], {5: "x"}, "value of 5: expected int, got str"),
    (dict[str, int], {1: 1}, "a key: expected str, got int"),
    (dict[str, list[Point]], {"a": [{"x": 1}, {}]}, "value of 'a', item 1: field 'x' is missing"),
    (dt.datetime, 5, "expected datetime, got int"),
    (dt.datetime, "soon", "expected datetime, got str of another form"),
    (dt.date, "2026-02-30", "expected date, got str of another form"),
    (dt.time, "25:00:00", "expected time, got str of another form"),
    (dt.timedelta, "1 day", "expected timedelta, got str of another form"),
    (uuid.UUID, "x", "expected UUID, got str of another form"),
    (uuid.UUID, b"x", "expected UUID, got bytes of another form"),
    (Decimal, "x", "expected Decimal, got str of another form"),
    (Decimal, None, "expected Decimal, got None"),
    (Color, "green", "expected one of 'red', 'blue', got another str"),
    (Color, 5, "expected one of 'red', 'blue', got int"),
    (Level, 9, "expected one of 1, 5, got another int"),
    (Literal["a"], "b", "expected 'a', got another str"),
    (Literal["a", "b"], 1, "expected one of 'a', 'b', got int"),
    (Literal[1, "a"], None, "expected Literal[1] | Literal['a'], got None"),
    (Literal[1, "a"], "b", "expected 'a', got another str"),
    (Point, [], "expected Point, got list"),
    (Point, {"x": "s"}, "field 'x': expected int, got str"),
    (Point, {}, "field 'x' is missing"),
    (Point, {1: 2}, "a key: expected str, got int"),
    (Line, {"a": {"x": 1}, "b": {"x": "s"}}, "field 'b', field 'x': expected int, got str"),
    (Node, {"v": 1, "next": {"v": "s"}}, "field 'next', field 'v': expected int, got str"),
    (Node, {"v": 1, "next": 5}, "field 'next': expected Node | None, got int"),
    (Positive, {"x": -1}, "x must not be negative"),
    (list[Positive], [{"x": 1}, {"x": -1}], "item 1: x must not be negative"),
    (Box[int], {"v": "s", "many": []}, "field 'v': expected int, got str"),
    (Pair, [], "expected 1 to 2 items, got 0"),
    (Pair, {"a": 1}, "expected Pair, got dict"),
    (Pair, ["x"], "item 0: expected int, got str"),
    (samples.OldPair, [1], "expected 2 items, got 1"),
    (Movie, {"b": "x"}, "field 'a' is missing"),
    (int | None, "x", "expected int | None, got str"),
    (str | int, 1.5, "expected int | str, got float"),
    (Point | int, {"x": "s"}, "field 'x': expected int, got str"),
    (list[int] | None, ["x"], "item 0: expected int, got str"),
    (Annotated[int, "note"], "x", "expected int, got str"),
    (samples.UserId, "x", "expected int, got str"),
    (samples.Iterable[int], ["x"], "item 0: expected int, got str"),
    (samples.Iterable[int], {"a": 1}, "expected list[int], got dict"),
]


@pytest.mark.parametrize("engine", [fast, plain], ids=["msgspec", "plain"])
@pytest.mark.parametrize(("type_", "value", "text"), TEXTS)
def test_error_text(engine: Any, type_: Any, value: Any, text: str) -> None:
    with pytest.raises(Mismatch) as caught:
        engine.MsgpackCodec().convert(value, type_)
    assert str(caught.value) == text
    assert isinstance(caught.value, CodecError)
    assert caught.value.status == 40


JSON_TEXTS: list[tuple[Any, Any, str]] = [
    (bytes, 5, "expected bytes as base64 text, got int"),
    (bytes, "?", "expected bytes as base64 text, got str of another form"),
    (dict[int, int], {"a": 1}, "a key: expected int, got str"),
    (dict[int, int], {"01": 1}, "a key: expected int, got str"),
    (dict[float, int], {"x": 1}, "a key: expected float, got str"),
    (dict[dt.date, int], {"x": 1}, "a key: expected date, got str of another form"),
    (float, 10**400, "expected float, got int out of range"),
]


@pytest.mark.parametrize(("type_", "value", "text"), JSON_TEXTS)
def test_error_text_of_json(type_: Any, value: Any, text: str) -> None:
    with pytest.raises(Mismatch) as caught:
        plain.JsonCodec().convert(value, type_)
    assert str(caught.value) == text


def test_keys_of_json_are_text() -> None:
    for engine in (fast, plain):
        codec = engine.JsonCodec()
        assert codec.convert({"1": 2, "-3": 4}, dict[int, int]) == {1: 2, -3: 4}
        assert codec.convert({"1.5": 2, "2": 3}, dict[float, int]) == {1.5: 2, 2.0: 3}
        assert codec.convert({"1": 2}, dict[int | None, int]) == {1: 2}
        assert codec.convert({"1": 2}, dict[Level, int]) == {Level.LOW: 2}
        assert codec.convert({"1": 2}, dict[Any, int]) == {"1": 2}
    for bad in (bool, None):
        with pytest.raises(ConfigError, match=r"can't be sent as JSON"):
            plain.JsonCodec().decoder(dict[bad, int])


def test_no_error_repeats_what_was_sent() -> None:
    secret = "hunter2"
    for type_ in (int, Color, dt.date, uuid.UUID, Decimal, Literal["a"], bytes, list[int], Point):
        for value in (secret, [secret], {"x": secret}, {"x": [secret]}):
            with pytest.raises(Mismatch) as caught:
                plain.MsgpackCodec().convert(value, type_)
            assert secret not in str(caught.value)


def test_a_mismatch_knows_its_path_and_problem() -> None:
    with pytest.raises(Mismatch) as caught:
        plain.MsgpackCodec().convert([{"x": "s"}], list[Point])
    assert caught.value.path == "item 0, field 'x'"
    assert caught.value.problem == "expected int, got str"


def test_wrappers_say_nothing_about_the_value() -> None:
    codec = plain.MsgpackCodec()
    deeper = NewType("deeper", samples.UserId)  # type: ignore[valid-newtype]
    for wanted in (Final[int], deeper, Annotated[samples.UserId, 1], TypeVar("V", bound=int)):
        assert codec.convert(5, wanted) == 5
        with pytest.raises(Mismatch):
            codec.convert("x", wanted)
    assert codec.convert("x", TypeVar("W")) == "x"
    assert codec.convert(["x"], typing.List) == ["x"]  # noqa: UP006
    assert codec.convert([1, "x"], typing.Tuple) == (1, "x")  # noqa: UP006
    assert codec.convert([], typing.Tuple[()]) == ()  # noqa: UP006


def test_what_is_not_hashable_is_a_type_as_well() -> None:
    assert plain.MsgpackCodec().convert(5, Annotated[int, []]) == 5


@dataclass
class Lists:
    any: list = field(default_factory=list)  # type: ignore[type-arg]
    late: int = field(default=3, init=False)
    hidden: int = field(default=4, repr=False)


@dataclass
class Unsaid:
    x: "Nowhere"  # type: ignore[name-defined]  # noqa: F821


@dataclass
class WithInitVar:
    x: int
    seed: InitVar[int] = 3


def test_dataclasses_are_filled_field_by_field() -> None:
    for engine in (fast, plain):
        codec = engine.MsgpackCodec()
        one, other = codec.convert({}, Lists), codec.convert({}, Lists)
        assert one.any == other.any == []
        assert one.any is not other.any
        assert (one.late, one.hidden) == (3, 4)
        assert codec.convert({"late": 9}, Lists).late == 9
        with pytest.raises(ConfigError, match=r"annotation of Unsaid can't be resolved.*Nowhere"):
            codec.decoder(Unsaid)
        with pytest.raises(ConfigError, match=r"WithInitVar has InitVar fields"):
            codec.decoder(WithInitVar)


def test_a_stream_is_no_value() -> None:
    for engine in (fast, plain):
        with pytest.raises(ConfigError, match=r"AsyncIterator\[int\] can't be sent"):
            engine.MsgpackCodec().decoder(AsyncIterator[int])


def test_type_names() -> None:
    assert type_name(Point) == "Point"
    assert type_name(dict[str, Point]) == "dict[str, Point]"
    assert type_name(Point | None) == "Point | None"
    assert type_name(typing.Any) == "Any"


def test_readers_are_built_once() -> None:
    codec = plain.MsgpackCodec()
    assert codec._readers.get(Point) is codec._readers.get(Point)
    assert build_reader(Point, Dialect()) is not build_reader(Point, Dialect())


if sys.version_info >= (3, 12):  # the statement is younger than 3.11

    def test_aliases() -> None:
        names: dict[str, Any] = {}
        exec("type Id = int\ntype Loop = list[Loop]\ntype Ids = list[Id]", names)
        for engine in (fast, plain):
            codec = engine.MsgpackCodec()
            assert codec.convert([5], names["Ids"]) == [5]
            with pytest.raises(ConfigError, match="holds itself"):
                codec.decoder(names["Loop"])
