"""Make arguments of what stands behind the "?" of a path.

A query is text, and the types of the method say what is meant by it: where text is wanted,
`123` is text; elsewhere it is JSON, if it can be. A name that comes twice is an array.

Rules of the room:
  * what a parameter takes is found out once, however many names it gets;
  * what does not fit is passed on as the text it is: the session's error names the argument.
"""

from typing import Any, Final, NamedTuple

from fastrpc.call import MethodInfo
from fastrpc.call.method import Parameter
from fastrpc.call.schema import SchemaBuilder
from fastrpc.errors import FastRPCError
from fastrpc.gateway.convert import json_of, value_of
from fastrpc.gateway.request import RefusedError
from fastrpc.wire import Limits

#: Parameters whose types are remembered; they are those of methods, so few.
KNOWN_MAX: Final = 4096

_REF: Final = "#/$defs/"
_TYPES: Final = (
    (bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"),
    (list, "array"), (dict, "object"), (type(None), "null"),
)  # fmt: skip


class _Taken(NamedTuple):
    """What a parameter takes: one schema for each possibility, and for each item of an array."""

    parameter: Parameter  # kept, or its place in memory could be another's
    members: list[dict[str, Any]]
    items: list[dict[str, Any]] | None  # None if it takes no array


_known: Final[dict[int, _Taken]] = {}


def arguments_of(info: MethodInfo, pairs: list[tuple[str, str]], limits: Limits) -> bytes:
    """Return a payload, a JSON object, of the arguments in a query.

    Args:
        info: The method.
        pairs: Names and values.
        limits: Depth and items that a value may have.

    Raises:
        RefusedError: A name comes twice that is no array.
    """
    if not pairs:
        return b"[]"
    found: dict[str, list[str]] = {}
    for name, text in pairs:
        found.setdefault(name, []).append(text)
    values: dict[str, Any] = {}
    for name, texts in found.items():
        taken = _taken_by(info, name)
        members, items = (taken.members, taken.items) if taken is not None else ([], None)
        if items is not None and not (len(texts) == 1 and texts[0].startswith("[")):
            values[name] = [_value(text, items, limits) for text in texts]
        elif len(texts) > 1:
            raise RefusedError(400, f"argument {name[:100]!r} comes {len(texts)} times")
        else:
            values[name] = _value(texts[0], members, limits)
    return json_of(values)


def _taken_by(info: MethodInfo, name: str) -> _Taken | None:
    """Return what an argument of that name may be, None if there is none."""
    rest: Parameter | None = None
    for parameter in info.parameters:
        if parameter.kind == "keywords":
            rest = parameter
        elif parameter.name == name and parameter.kind in ("positional", "keyword_only"):
            return _taken(parameter)
    return _taken(rest) if rest is not None else None


def _taken(parameter: Parameter) -> _Taken:
    known = _known.get(id(parameter))
    if known is not None:
        return known
    builder = SchemaBuilder()
    members = _members(parameter.schema(builder), builder)
    array = next((each for each in members if each.get("type") == "array"), None)
    items = _members(array.get("items", {}), builder) if array is not None else None
    if len(_known) >= KNOWN_MAX:
        _known.clear()
    made = _known[id(parameter)] = _Taken(parameter, members, items)
    return made


def _members(schema: Any, builder: SchemaBuilder, depth: int = 0) -> list[dict[str, Any]]:
    """Return what a value may be, one schema for each possibility; none for anything."""
    if not isinstance(schema, dict) or depth > 8:
        return []
    ref = schema.get("$ref", "")
    if ref.startswith(_REF):
        return _members(builder.defs.get(ref.removeprefix(_REF), {}), builder, depth + 1)
    if "anyOf" in schema:
        return [found for each in schema["anyOf"] for found in _members(each, builder, depth + 1)]
    if "enum" in schema:
        return [{"type": _type_of(value)} for value in schema["enum"]]
    return [schema] if "type" in schema else []


def _type_of(value: Any) -> str:
    return next(word for kind, word in _TYPES if isinstance(value, kind))


def _value(text: str, members: list[dict[str, Any]], limits: Limits) -> Any:
    types = {str(each.get("type")) for each in members}
    if types == {"string"}:
        return text
    try:
        value = value_of(text.encode(), limits)
    except FastRPCError:
        return text
    if "string" not in types or isinstance(value, str):
        return value
    said = _type_of(value)
    return value if said in types or (said == "integer" and "number" in types) else text
