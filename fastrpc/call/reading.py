"""Read contracts that come from files and from other servers.

Rules of the room:
  * a document that was read has the right types everywhere that we look, no reference
    that leads nowhere and none that never ends: who works with it need not ask;
  * its text comes from anybody, so errors name the place and never repeat it.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from fastrpc.call.document import FORM, parameter_schema
from fastrpc.call.fingerprint import REF
from fastrpc.call.method import method_key
from fastrpc.call.schema import DIALECT, Schema
from fastrpc.errors import ConfigError

#: Deepest nesting of a schema; what our codecs carry is not deeper.
MAX_DEPTH: Final = 64


def read_document(value: object) -> dict[str, Any]:
    """Return *value* if it is a contract.

    Raises:
        ConfigError: It is not; the text names the place.
    """
    document = {"$schema": DIALECT, **_map(value, "the contract")}
    if document.get("fastrpc") != FORM:
        raise ConfigError(
            f"this is no contract of form {FORM}, as `fastrpc schema dump` writes it: "
            "the key 'fastrpc' says otherwise"
        )
    _text(document["$schema"], "$schema")
    defs = _map(document.get("$defs"), "$defs")
    for index, (name, schema) in enumerate(defs.items()):
        if type(name) is not str:
            raise ConfigError("$defs: keys must be text")
        _check_schema(schema, f"$defs, entry {index}", defs, 0)
    _check_circles(defs)
    for index, service in enumerate(_list(document.get("services"), "services")):
        _check_service(_map(service, f"services[{index}]"), f"services[{index}]", defs)
    return document


_KINDS: Final = ("positional", "positional_only", "keyword_only", "rest", "keywords", "items")


def _check_service(service: dict[str, Any], where: str, defs: Mapping[str, Any]) -> None:
    _text(service.get("name"), f"{where}.name")
    for key in ("version", "group"):
        _text(service.setdefault(key, ""), f"{where}.{key}")
    for index, value in enumerate(_list(service.get("methods"), f"{where}.methods")):
        place = f"{where}.methods[{index}]"
        method = _map(value, place)
        _text(method.get("name"), f"{place}.name")
        try:
            method_key(method["name"], service["version"], service["group"])
        except ConfigError:
            raise ConfigError(f"{place}: name, version and group don't go together") from None
        for part in ("arguments", "result"):
            _check_schema(method.get(part), f"{place}.{part}", defs, 0)
        _map(method["arguments"].get("properties"), f"{place}.arguments.properties")
        for number, item in enumerate(_list(method.get("parameters"), f"{place}.parameters")):
            _check_parameter(method, item, f"{place}.parameters[{number}]")


def _check_parameter(method: dict[str, Any], value: object, where: str) -> None:
    item = _map(value, where)
    _text(item.get("name"), f"{where}.name")
    if item.get("kind") not in _KINDS:
        raise ConfigError(f"{where}.kind must be one of {', '.join(_KINDS)}")
    if type(item.get("required")) is not bool:
        raise ConfigError(f"{where}.required must be true or false")
    try:
        parameter_schema(method, item)
    except KeyError:
        raise ConfigError(f"{where}: the arguments have no schema for it") from None


_LISTS: Final = ("anyOf", "prefixItems")
_ONE: Final = ("items", "additionalProperties", "x-key", "x-items")
_OPEN: Final = ("additionalProperties",)


def _check_schema(value: object, where: str, defs: Mapping[str, Any], depth: int) -> None:
    schema = _map(value, where)
    if depth > MAX_DEPTH:
        raise ConfigError(f"{where}: nested deeper than {MAX_DEPTH}")
    for word, check in _WORDS.items():
        if word in schema:
            check(schema[word], f"{where}.{word}")
    if "$ref" in schema and schema["$ref"].removeprefix(REF) not in defs:
        raise ConfigError(f"{where}.$ref leads nowhere; it must be {REF}NAME")
    if schema.get("x-stream") and "items" not in schema:
        raise ConfigError(f"{where}: a stream must have items")
    if "enum" in schema and "type" not in schema:
        raise ConfigError(f"{where}: an enum must have a type")
    for word, inner in _inner(schema, where):
        _check_schema(inner, f"{where}.{word}", defs, depth + 1)


def _inner(schema: Schema, where: str) -> Iterator[tuple[str, object]]:
    """Give the schemas directly inside *schema*, not checked yet."""
    for word in _LISTS:
        for item in _list(schema.get(word, []), f"{where}.{word}"):
            yield word, item
    for key, item in _map(schema.get("properties", {}), f"{where}.properties").items():
        _text(key, f"{where}.properties")
        yield "properties", item
    for word in _ONE:
        if word in schema and not (word in _OPEN and type(schema[word]) is bool):
            yield word, schema[word]


def _check_circles(defs: Mapping[str, Schema]) -> None:
    """Refuse definitions that are nothing but each other: following them would not end."""
    done: set[str] = set()
    for start in defs:
        path: dict[str, list[str]] = {start: _bare(defs[start])}
        while path:
            name = next(reversed(path))
            if name in done or not path[name]:
                done.add(name)
                del path[name]
                continue
            following = path[name].pop()
            if following in path:
                raise ConfigError("$defs: one of them is nothing but itself")
            path[following] = _bare(defs[following])


def _bare(schema: Schema) -> list[str]:
    """Return the definitions that *schema* is, with nothing around them."""
    found: list[str] = []
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if "$ref" in part:
            found.append(part["$ref"].removeprefix(REF))
        waiting += part.get("anyOf", ())
    return found


def _map(value: object, where: str) -> dict[str, Any]:
    if type(value) is not dict:
        raise ConfigError(f"{where} must be an object, got {_kind(value)}")
    return value


def _list(value: object, where: str) -> list[Any]:
    if type(value) is not list:
        raise ConfigError(f"{where} must be an array, got {_kind(value)}")
    return value


def _text(value: object, where: str) -> str:
    if type(value) is not str:
        raise ConfigError(f"{where} must be text, got {_kind(value)}")
    return value


def _kind(value: object) -> str:
    return "nothing" if value is None else type(value).__name__


def _texts(value: object, where: str) -> None:
    for item in _list(value, where):
        _text(item, where)


def _number(value: object, where: str) -> None:
    if type(value) not in (int, float):
        raise ConfigError(f"{where} must be a number, got {_kind(value)}")


def _singles(value: object, where: str) -> None:
    for item in _list(value, where):
        if item is not None and type(item) not in (bool, int, float, str):
            raise ConfigError(f"{where} must hold single values, got {_kind(item)}")


_WORDS: Final[dict[str, Callable[[object, str], object]]] = {
    **dict.fromkeys(("type", "format", "contentEncoding", "pattern", "title", "$ref"), _text),
    **dict.fromkeys(("x-type", "x-dtype"), _text),
    **dict.fromkeys(("required", "x-omitted", "x-positional"), _texts),
    **dict.fromkeys(("minItems", "maxItems", "minLength", "maxLength"), _number),
    **dict.fromkeys(("minProperties", "maxProperties", "multipleOf"), _number),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _number),
    "enum": _singles,
}
