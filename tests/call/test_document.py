"""A contract has all that describe tells, and schemas that hold for real calls."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import jsonschema
import pytest

from fastrpc.call import describe_service, method_schema, read_document, write_document
from fastrpc.call.document import only, parameter_schema
from fastrpc.errors import ConfigError
from tests.codec import samples


class Shop:
    def place(self, item: samples.Point, /, count: int = 1, *tags: str, rush: bool = False) -> int:
        """Place an order."""
        raise NotImplementedError

    def look(self, *, colour: samples.Color = samples.Color.RED, **more: float) -> samples.Node: ...
    def nothing(self) -> None: ...
    async def watch(self, count: int) -> AsyncIterator[samples.Pair]:
        yield samples.Pair(count)

    def numbers(self) -> Iterator[int]:
        yield 1

    async def feed(self, parts: AsyncIterator[bytes]) -> int: ...
    def anything(self, value, *rest): ...  # type: ignore[no-untyped-def]


DOCUMENT = write_document([describe_service(Shop)])


def test_it_is_json_and_what_describe_tells_and_more() -> None:
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT
    (told,) = DOCUMENT["services"]
    described = describe_service(Shop).describe()
    for method, plain in zip(told["methods"], described["methods"], strict=True):
        assert {key: method[key] for key in plain} == plain
        assert set(method) - set(plain) == {"arguments", "result"}
    assert (DOCUMENT["fastrpc"], told["types"]) == (1, described["types"])


def test_it_can_be_read_again() -> None:
    assert read_document(json.loads(json.dumps(DOCUMENT))) == DOCUMENT


@pytest.mark.parametrize("name", [m["name"] for m in DOCUMENT["services"][0]["methods"]])
def test_schemas_stand_alone(name: str) -> None:
    for part in ("arguments", "result"):
        schema = method_schema(DOCUMENT, name, part)
        jsonschema.Draft202012Validator.check_schema(schema)
        jsonschema.Draft202012Validator(schema).is_valid(None)  # every reference leads somewhere


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        (
            "Shop.place",
            [{"*": [{"x": 1}]}, {"*": [{"x": 1}, "a"], "count": 2, "rush": True}],
            [{}, {"*": []}, {"*": [1]}, {"*": [{"x": 1}], "count": "2"}, {"*": [{"x": 1}], "odd": 1}],
        ),
        ("Shop.look", [{}, {"colour": "blue", "a": 1.5}], [{"colour": "green"}, {"a": "b"}]),
        ("Shop.nothing", [{}], [{"a": 1}]),
        ("Shop.watch", [{"count": 1}], [{}, {"count": None}]),
        ("Shop.anything", [{"value": 1}, {"value": None, "*": [1, "a"]}], [{}]),
    ],
)  # fmt: skip
def test_arguments_are_those_that_a_call_may_have(name: str, good: Any, bad: Any) -> None:
    validator = jsonschema.Draft202012Validator(method_schema(DOCUMENT, name, "arguments"))
    assert [validator.is_valid(value) for value in good] == [True] * len(good)
    assert [validator.is_valid(value) for value in bad] == [False] * len(bad)


def test_streams_are_marked() -> None:
    watch = method_schema(DOCUMENT, "Shop.watch", "result")
    assert (watch["x-stream"], watch["items"]) == (True, {"$ref": "#/$defs/Pair"})
    assert method_schema(DOCUMENT, "Shop.numbers", "result")["x-stream"] is True
    feed = method_schema(DOCUMENT, "Shop.feed", "arguments")
    assert feed["x-items"]["x-stream"] is True
    assert "x-stream" not in method_schema(DOCUMENT, "Shop.feed", "result")


def test_docs_and_positions_are_told() -> None:
    place = method_schema(DOCUMENT, "Shop.place", "arguments")
    assert place["description"] == "Place an order."
    assert place["x-positional"] == ["item", "count"]
    assert place["properties"]["rush"] == {"type": "boolean", "default": False}


def test_only_what_is_needed_is_kept() -> None:
    assert set(method_schema(DOCUMENT, "Shop.look", "result")["$defs"]) == {"Node"}
    assert "$defs" not in method_schema(DOCUMENT, "Shop.nothing", "result")
    part = only(DOCUMENT, "Shop.watch")
    assert [m["name"] for s in part["services"] for m in s["methods"]] == ["Shop.watch"]
    assert set(part["$defs"]) == {"Pair"}
    assert only(DOCUMENT, "Shop") == only(DOCUMENT, "") == DOCUMENT
    assert only(DOCUMENT, "Shop.gone")["services"] == []


def test_parameters_find_their_schemas() -> None:
    place, look = DOCUMENT["services"][0]["methods"][:2]
    found = {p["name"]: parameter_schema(m, p) for m in (place, look) for p in m["parameters"]}
    assert found["item"]["$ref"] == "#/$defs/Point"
    assert found["tags"] == {"type": "string"}
    assert found["more"] == {"type": "number"}
    assert found["colour"] == {"$ref": "#/$defs/Color", "default": "red"}


def test_a_method_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="no method 'Shop.sell'"):
        method_schema(DOCUMENT, "Shop.sell", "result")
