"""Arguments that stand in a query."""

import datetime as dt
import enum
import json
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from fastrpc.call import describe_service
from fastrpc.call.schema import SchemaBuilder
from fastrpc.gateway import queries
from fastrpc.gateway.queries import arguments_of
from fastrpc.gateway.request import RefusedError
from fastrpc.wire import Limits


class Size(enum.IntEnum):
    SMALL = 1


@dataclass
class Ware:
    name: str


class Shop:
    def typed(
        self,
        text: str = "",
        number: int = 0,
        real: float = 0.0,
        yes: bool = False,
        maybe: str | None = None,
        either: int | str = 0,
        texts: list[str] = [],  # noqa: B006
        numbers: list[int] | None = None,
        any: Any = None,
        day: dt.date | None = None,
        choice: Literal["1", "b"] = "b",
        size: Size = Size.SMALL,
        pair: tuple[int, str] = (1, ""),
        table: dict[str, int] | None = None,
    ) -> None: ...

    def loose(self, **more: str) -> None: ...

    def wares(self, **more: Ware) -> None: ...


METHODS = describe_service(Shop()).methods
TYPED = METHODS["Shop.typed"] if "Shop.typed" in METHODS else METHODS["typed"]
LOOSE = METHODS["Shop.loose"] if "Shop.loose" in METHODS else METHODS["loose"]


def read(*pairs: tuple[str, str], info: Any = TYPED) -> Any:
    return json.loads(arguments_of(info, list(pairs), Limits()))


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("text", "123", "123"),
        ("text", "null", "null"),
        ("text", '"x"', '"x"'),
        ("text", "", ""),
        ("number", "123", 123),
        ("number", "x", "x"),
        ("number", "", ""),
        ("number", "1" * 5000, "1" * 5000),
        ("real", "1e3", 1000.0),
        ("real", "NaN", "NaN"),
        ("yes", "true", True),
        ("maybe", "null", None),
        ("maybe", "12", "12"),
        ("maybe", "x", "x"),
        ("either", "12", 12),
        ("either", "x", "x"),
        ("either", "[1]", "[1]"),
        ("any", '{"a":[1]}', {"a": [1]}),
        ("any", "x y", "x y"),
        ("any", "[" * 3000, "[" * 3000),
        ("day", "2026-01-02", "2026-01-02"),
        ("choice", "1", "1"),
        ("size", "1", 1),
        ("texts", "1", ["1"]),
        ("texts", "[", "["),
        ("texts", '["a"]', ["a"]),
        ("numbers", "5", [5]),
        ("pair", '[1,"x"]', [1, "x"]),
        ("table", '{"a":1}', {"a": 1}),
        ("unknown", "1", 1),
    ],
)
def test_types_say_what_a_text_means(name: str, text: str, value: Any) -> None:
    assert read((name, text)) == {name: value}


def test_a_name_that_comes_twice_is_an_array_or_wrong() -> None:
    assert read(("texts", "1"), ("texts", "b")) == {"texts": ["1", "b"]}
    assert read(("numbers", "1"), ("text", "x"), ("numbers", "2")) == {
        "numbers": [1, 2], "text": "x",
    }  # fmt: skip
    with pytest.raises(RefusedError, match="'text' comes 2 times"):
        read(("text", "a"), ("text", "b"))


def test_names_of_no_parameter() -> None:
    assert read(("a", "1"), ("b", "x"), info=LOOSE) == {"a": "1", "b": "x"}
    assert arguments_of(LOOSE, [], Limits()) == b"[]"


def test_a_schema_is_built_once_for_all_names_of_a_parameter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built: list[Any] = []
    write = SchemaBuilder.schema

    def count(self: SchemaBuilder, annotation: Any) -> Any:
        if annotation is Ware:
            built.append(annotation)
        return write(self, annotation)

    monkeypatch.setattr(SchemaBuilder, "schema", count)
    methods = describe_service(Shop()).methods
    info = next(each for name, each in methods.items() if name.endswith("wares"))
    built.clear()
    pairs = [(f"a{index}", '{"name":"x"}') for index in range(256)]
    assert len(read(*pairs, info=info)) == 256
    assert read(*pairs[:1], info=info) == {"a0": {"name": "x"}}
    assert built == [Ware]


def test_what_is_remembered_of_parameters_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "KNOWN_MAX", 2)
    monkeypatch.setattr(queries, "_known", {})
    for _ in range(2):
        assert read(("text", "1"), ("number", "1"), ("texts", "1")) == {
            "text": "1", "number": 1, "texts": ["1"],
        }  # fmt: skip
    assert len(queries._known) <= 2
