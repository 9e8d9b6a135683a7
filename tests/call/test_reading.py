"""Contracts come from anywhere: what is wrong is named by its place, and nothing else happens."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrpc.call import compare, describe_service, read_document, write_document
from fastrpc.call.reading import MAX_DEPTH
from fastrpc.errors import ConfigError
from tests.codec import samples


class Shop:
    def place(
        self, node: samples.Node, /, colour: samples.Color, *tags: str, **more: int
    ) -> int: ...


GOOD = write_document([describe_service(Shop)])


def nested(depth: int) -> Any:
    schema: Any = {"type": "integer"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


def method(document: Any) -> Any:
    return document["services"][0]["methods"][0]


def result(schema: Any) -> Callable[[Any], None]:
    return lambda document: method(document).update(result=schema)


def defs(**schemas: Any) -> Callable[[Any], None]:
    return lambda document: document["$defs"].update(schemas)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda d: d.pop("fastrpc"), "no contract of form 1"),
        (lambda d: d.update({"fastrpc": 2}), "no contract of form 1"),
        (lambda d: d.update({"$schema": 1}), r"\$schema must be text, got int"),
        (lambda d: d.pop("$defs"), r"\$defs must be an object, got nothing"),
        (lambda d: d["$defs"].update({1: {}}), r"\$defs: keys must be text"),
        (lambda d: d.pop("services"), "services must be an array"),
        (lambda d: d.update(services=[1]), r"services\[0\] must be an object, got int"),
        (lambda d: d["services"][0].pop("name"), r"services\[0\].name must be text"),
        (lambda d: d["services"][0].update(version=2), r"services\[0\].version must be text"),
        (lambda d: d["services"][0].update(version="a b"), "version and group don't go together"),
        (lambda d: d["services"][0].update(methods={}), r"methods must be an array, got dict"),
        (lambda d: method(d).pop("name"), r"methods\[0\].name must be text"),
        (lambda d: method(d).pop("arguments"), r"methods\[0\].arguments must be an object"),
        (lambda d: method(d)["arguments"].pop("properties"), "arguments.properties must be an"),
        (lambda d: method(d).pop("parameters"), r"methods\[0\].parameters must be an array"),
        (lambda d: method(d)["parameters"][0].update(name=1), r"parameters\[0\].name must be text"),
        (lambda d: method(d)["parameters"][0].update(kind=[]), r"kind must be one of positional,"),
        (lambda d: method(d)["parameters"][0].update(required=1), "required must be true or false"),
        (lambda d: method(d)["parameters"][1].update(name="x"), "no schema for it"),
        (result(1), r"methods\[0\].result must be an object"),
        (result({"type": ["a"]}), "result.type must be text"),
        (result({"required": "a"}), "result.required must be an array"),
        (result({"required": [1]}), "result.required must be text"),
        (result({"minItems": "1"}), "result.minItems must be a number"),
        (result({"enum": [[]], "type": "string"}), "result.enum must hold single values"),
        (result({"enum": ["a"]}), "an enum must have a type"),
        (result({"items": True}), "result.items must be an object, got bool"),
        (result({"anyOf": {}}), "result.anyOf must be an array"),
        (result({"properties": {"a": 1}}), "result.properties must be an object, got int"),
        (result({"properties": {1: {}}}), "result.properties must be text"),
        (result({"$ref": "#/$defs/Gone"}), "leads nowhere"),
        (result({"x-stream": True}), "a stream must have items"),
        (result(nested(MAX_DEPTH + 1)), f"deeper than {MAX_DEPTH}"),
        (defs(A={"$ref": "#/$defs/A"}), "nothing but itself"),
        (defs(A={"anyOf": [{"$ref": "#/$defs/B"}]}, B={"$ref": "#/$defs/A"}), "nothing but itself"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_by_its_place(spoil: Callable[[Any], Any], words: str) -> None:
    document = copy.deepcopy(GOOD)
    spoil(document)
    with pytest.raises(ConfigError, match=words):
        read_document(document)


def test_the_limit_itself_is_fine() -> None:
    document = copy.deepcopy(GOOD)
    result(nested(MAX_DEPTH))(document)
    read_document(document)


@pytest.mark.parametrize("value", [None, [], "secret", 5])
def test_what_is_no_object(value: object) -> None:
    with pytest.raises(ConfigError, match="the contract must be an object") as caught:
        read_document(value)
    assert "secret" not in str(caught.value)


def test_a_reader_of_older_files_fills_in_what_they_lack() -> None:
    document = copy.deepcopy(GOOD)
    del document["services"][0]["version"], document["services"][0]["group"], document["$schema"]
    assert read_document(document) == GOOD


def test_unions_that_grow_without_end_are_refused() -> None:
    document = copy.deepcopy(GOOD)
    following = [{"$ref": "#/$defs/L1"}] * 2
    for number in range(1, 40):
        following = [{"$ref": f"#/$defs/L{number + 1}"}] * 2
        document["$defs"][f"L{number}"] = {"anyOf": following}
    document["$defs"]["L40"] = {"type": "null"}
    result({"$ref": "#/$defs/L1"})(document)
    read_document(document)
    with pytest.raises(ConfigError, match="more than 1000 members"):
        compare(document, document)


def test_records_that_are_nested_too_deeply_are_refused() -> None:
    document = copy.deepcopy(GOOD)
    for number in range(1000):
        inner = {"$ref": f"#/$defs/R{number + 1}"}
        document["$defs"][f"R{number}"] = {"type": "object", "properties": {"a": inner}}
    document["$defs"]["R1000"] = {"type": "null"}
    result({"$ref": "#/$defs/R0"})(document)
    read_document(document)
    with pytest.raises(ConfigError, match="nested too deeply"):
        compare(document, document)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from(["array", "object", "string", "integer", "#/$defs/Node"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["type", "items", "properties", "required", "$ref", "anyOf", "prefixItems", "enum",
             "x-stream", "x-key", "additionalProperties", "minItems", "maxItems", "x-omitted",
             "minimum", "uniqueItems", "x-type", "format", "pattern"]
        ),
        inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@pytest.mark.slow
@given(JSON, JSON)
def test_whatever_comes_is_compared_or_refused(one: Any, other: Any) -> None:
    document = copy.deepcopy(GOOD)
    result(one)(document)
    document["$defs"]["Node"] = other
    try:
        changed = read_document(document)
        compare(GOOD, changed)
        compare(changed, GOOD)
        compare(changed, copy.deepcopy(changed))
    except ConfigError:
        pass
