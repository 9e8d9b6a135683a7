"""Write annotations as JSON Schema 2020-12.

The schema says how values look in JSON. What JSON has no word for stands in
keywords of our own, which other tools pass over:

  * `x-stream`: items that come one by one, each as `items` says;
  * `x-key`: the type of a map's keys, where it is not text;
  * `x-omitted`: fields that a sender may leave out;
  * `x-type`: a class that only a codec of its own knows.

Rules of the room:
  * every type has a schema, be it an empty one: telling what is there can't fail;
  * records and enumerations stand in `$defs` once, so types may hold themselves.
"""

import collections.abc as cabc
import datetime as dt
import decimal
import enum
import inspect
import re
import types
import typing
import uuid
from collections.abc import Callable, Iterable
from typing import Any, Final, Literal, TypeVar, Union

from fastrpc.call.fields import NOTHING, Record, RecordField, is_unset, read_record
from fastrpc.call.hints import is_stream, item_of, type_text
from fastrpc.errors import ConfigError

Schema = dict[str, Any]

#: What our schemas are written in.
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

_SCALARS: Final[dict[Any, Schema]] = {
    type(None): {"type": "null"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    bytes: {"type": "string", "contentEncoding": "base64"},
    bytearray: {"type": "string", "contentEncoding": "base64"},
    memoryview: {"type": "string", "contentEncoding": "base64"},
    dt.datetime: {"type": "string", "format": "date-time"},
    dt.date: {"type": "string", "format": "date"},
    dt.time: {"type": "string", "format": "time"},
    dt.timedelta: {"type": "string", "format": "duration"},
    uuid.UUID: {"type": "string", "format": "uuid"},
    decimal.Decimal: {"type": "string", "format": "decimal"},
}
_LISTS: Final = (
    list, tuple, cabc.Sequence, cabc.MutableSequence, cabc.Collection, cabc.Iterable,
)  # fmt: skip
_SETS: Final = (set, frozenset, cabc.Set, cabc.MutableSet)
_MAPS: Final = (dict, cabc.Mapping, cabc.MutableMapping)
_WRAPPERS: Final = ("Final", "Required", "NotRequired", "ReadOnly", "ClassVar")

# Attributes of a `msgspec.Meta`, and the keywords that say the same.
_LIMITS: Final = {
    "gt": "exclusiveMinimum",
    "ge": "minimum",
    "lt": "exclusiveMaximum",
    "le": "maximum",
    "multiple_of": "multipleOf",
    "pattern": "pattern",
    "tz": "x-timezone",
}
_LENGTHS: Final = {"string": "Length", "array": "Items", "object": "Properties"}
_TEXTS: Final = ("title", "description", "examples")

_INTEGER_KEY: Final = "^-?(0|[1-9][0-9]*)$"


class SchemaBuilder:
    """Write schemas that share one set of definitions.

    Attributes:
        defs: What `#/$defs/` stands for in the schemas written so far.
        types: The types they were written from, by the same names.
    """

    def __init__(self) -> None:
        self.defs: dict[str, Schema] = {}
        self.types: dict[str, Any] = {}
        self._names: dict[object, str] = {}

    def schema(self, annotation: Any) -> Schema:
        """Return the schema of a type."""
        annotation = _unwrap(annotation)
        origin = typing.get_origin(annotation) or annotation
        if origin is typing.Annotated:
            return self._annotated(annotation)
        if annotation is Any or annotation is object or annotation is inspect.Parameter.empty:
            return {}
        if annotation is None:
            return {"type": "null"}
        if isinstance(annotation, TypeVar):
            return self._variable(annotation)
        if origin in (Union, types.UnionType):
            return self._union(typing.get_args(annotation))
        if origin is Literal:
            return one_of(_literals(typing.get_args(annotation)))
        if is_stream(annotation):
            return self.stream(item_of(annotation))
        if type(origin).__name__ == "TypeAliasType":  # `type X = ...`, 3.12 and later
            return self._defined(annotation, lambda: self.schema(origin.__value__))
        return self._class(annotation, origin)

    def stream(self, item: Any) -> Schema:
        """Return the schema of a stream of items of type *item*."""
        return {"x-stream": True, "items": self.schema(item)}

    def _class(self, annotation: Any, origin: Any) -> Schema:
        found = _scalar(origin) or self._container(annotation, origin)
        if found is not None:
            return found
        if isinstance(origin, type) and issubclass(origin, enum.Enum):
            return self._defined(annotation, lambda: _enumeration(origin))
        try:
            record = read_record(annotation)
        except ConfigError:  # a codec refuses it as an argument; as a result it may stand
            record = None
        if record is not None:
            return self._defined(annotation, lambda: self._record(origin, record))
        return _foreign(annotation, origin)

    def _container(self, annotation: Any, origin: Any) -> Schema | None:
        args = typing.get_args(annotation)
        if origin is tuple and (args[-1:] not in ((), (...,)) or "()" in str(annotation)):
            return _array([self.schema(arg) for arg in args], len(args))
        if origin in _LISTS or origin in _SETS:
            array: Schema = {"type": "array"}
            if args and (items := self.schema(args[0])):
                array["items"] = items
            return array | ({"uniqueItems": True} if origin in _SETS else {})
        if origin in _MAPS:
            key, value = args or (Any, Any)
            return self._map(self.schema(key), self.schema(value))
        return None

    def _map(self, key: Schema, value: Schema) -> Schema:
        schema: Schema = {"type": "object"}
        if value:
            schema["additionalProperties"] = value
        if key != _SCALARS[str]:
            schema["x-key"] = key
            if names := self._names_of(key):
                schema["propertyNames"] = names
        return schema

    def _names_of(self, key: Schema) -> Schema:
        """Return the schema of keys in JSON, where all of them are text."""
        key = self.defs.get(key.get("$ref", "").removeprefix("#/$defs/"), key)
        if "enum" in key:
            return {"enum": [str(value) for value in key["enum"]]}
        if key.get("type") == "integer":
            return {"pattern": _INTEGER_KEY}
        return {word: key[word] for word in ("format", "contentEncoding") if word in key}

    def _variable(self, variable: TypeVar) -> Schema:
        if variable.__constraints__:
            return self._union(variable.__constraints__)
        return self.schema(Any if variable.__bound__ is None else variable.__bound__)

    def _union(self, members: Iterable[Any]) -> Schema:
        chosen: list[Any] = []
        found: list[Schema] = []
        for member in _flat(members):
            if typing.get_origin(member) is Literal:
                chosen += [value for value in typing.get_args(member) if value not in chosen]
            elif not is_unset(member):
                found.append(self.schema(member))
        return one_of(found + _literals(chosen))

    def _annotated(self, annotation: Any) -> Schema:
        base, *notes = typing.get_args(annotation)
        schema = self.schema(base)
        for note in notes:
            schema = schema | self._said(schema, note)
        return schema

    def _said(self, schema: Schema, note: Any) -> Schema:
        """Return the keywords for one note of an `Annotated`."""
        if isinstance(text := getattr(note, "documentation", None), str):  # a `Doc`
            return {"description": text}
        if type(note).__module__ != "msgspec" or type(note).__name__ != "Meta":
            return {}
        said = {word: getattr(note, word) for word in _TEXTS}
        said |= {word: getattr(note, name) for name, word in _LIMITS.items()}
        for end in ("min", "max"):
            length = getattr(note, f"{end}_length")
            for type_ in self._types(schema) if length is not None else ():
                coded = type_ == "string" and schema.get("contentEncoding") is not None
                said[end + _LENGTHS[type_]] = -(-length // 3) * 4 if coded else length
        said |= note.extra_json_schema or {}
        return {
            word: value for word, value in said.items() if value is not None and is_plain(value)
        }

    def _types(self, schema: Schema) -> list[str]:
        schema = self.defs.get(schema.get("$ref", "").removeprefix("#/$defs/"), schema)
        members = schema.get("anyOf", [schema])
        return [type_ for type_ in _LENGTHS if any(m.get("type") == type_ for m in members)]

    # Definitions

    def _defined(self, annotation: Any, write: Callable[[], Schema]) -> Schema:
        try:
            hash(annotation)
            key = annotation
        except TypeError:  # Box[Annotated[int, []]]
            key = repr(annotation)
        if key not in self._names:
            name = self._names[key] = self._free_name(annotation)
            self.types[name] = annotation
            self.defs[name] = {}  # taken: what follows may refer to it
            self.defs[name] = write()
        return {"$ref": f"#/$defs/{self._names[key]}"}

    def _free_name(self, annotation: Any) -> str:
        # Brackets would have to be escaped in a reference.
        plain = re.sub(r"\W+", "_", type_text(annotation)).strip("_") or "type"
        name, count = plain, 1
        while name in self.defs:
            count += 1
            name = f"{plain}_{count}"
        return name

    def _record(self, cls: type, record: Record) -> Schema:
        told = _told(cls)
        fields = [(field, self._field(field)) for field in record.fields]
        tag = [] if record.tag is None else [(record.tag[0], one_of(_literals(record.tag[1:])))]
        if record.positional:
            items = [schema for _, schema in tag]
            items += [{**schema, "title": field.name} for field, schema in fields]
            least = len(tag) + sum(field.required for field, _ in fields)
            array = _array(items, least)
            if not record.closed:
                array.pop("maxItems")
            return told | array
        schema: Schema = {"type": "object", "properties": dict(tag)}
        schema["properties"] |= {field.name: item for field, item in fields}
        required = [name for name, _ in tag] + [f.name for f, _ in fields if f.required]
        omitted = [field.name for field, _ in fields if field.omitted]
        if required:
            schema["required"] = required
        if omitted:
            schema["x-omitted"] = omitted
        if record.closed:
            schema["additionalProperties"] = False
        return told | schema

    def _field(self, field: RecordField) -> Schema:
        return self.schema(field.annotation) | default_of(field.default)


def one_of(members: list[Schema]) -> Schema:
    """Return the schema of values that fit one of *members*."""
    flat: list[Schema] = []
    for member in members:
        for inner in member["anyOf"] if set(member) == {"anyOf"} else [member]:
            if inner not in flat:
                flat.append(inner)
    return flat[0] if len(flat) == 1 else {"anyOf": flat}


def default_of(value: Any) -> Schema:
    """Return the keyword that tells a default, if JSON has a form for it."""
    if isinstance(value, enum.Enum):
        value = value.value
    return {} if value is NOTHING or not is_plain(value) else {"default": value}


def is_plain(value: Any) -> bool:
    """Tell whether every codec can carry *value*, and JSON has a form for it."""
    if type(value) is list:
        return all(map(is_plain, value))
    if type(value) is dict:
        return all(type(key) is str and is_plain(item) for key, item in value.items())
    if type(value) is float:
        return value - value == 0  # neither NaN nor infinite
    if type(value) is int:
        return -(2**63) <= value < 2**64
    return value is None or type(value) in (bool, str)


def _unwrap(annotation: Any) -> Any:
    """Take away what says nothing about the value: Final, NewType, NotRequired, ..."""
    while True:
        if hasattr(annotation, "__supertype__"):
            annotation = annotation.__supertype__
        elif getattr(typing.get_origin(annotation), "_name", "") in _WRAPPERS:
            annotation = typing.get_args(annotation)[0]
        else:
            return annotation


def _flat(members: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for member in members:
        inner = _unwrap(member)
        if typing.get_origin(inner) in (Union, types.UnionType):
            found += _flat(typing.get_args(inner))
        else:
            found.append(inner)
    return found


def _scalar(cls: Any) -> Schema | None:
    found = _SCALARS.get(cls) if isinstance(cls, type) else None
    return None if found is None else dict(found)


def _literals(values: Iterable[Any]) -> list[Schema]:
    """Return a schema for each type among *values*: a union may be split by them."""
    by_type: dict[type, list[Any]] = {}
    for value in values:
        plain = value.value if isinstance(value, enum.Enum) else value
        by_type.setdefault(type(plain), []).append(plain)
    found = []
    for cls, same in by_type.items():
        schema = _scalar(cls) or {"x-type": cls.__name__}
        listed = cls is not type(None) and is_plain(same)
        found.append(schema | ({"enum": same} if listed else {}))
    return found


def _enumeration(cls: type[enum.Enum]) -> Schema:
    values = [member.value for member in cls]
    if issubclass(cls, enum.Flag):  # sums of members are values, too
        return _told(cls) | {"type": "integer", "x-flags": values}
    return _told(cls) | one_of(_literals(values))


def _array(items: list[Schema], least: int) -> Schema:
    schema: Schema = {"type": "array"}
    if items:
        schema["prefixItems"] = items
    return schema | {"minItems": least, "maxItems": len(items)}


def _told(cls: type) -> Schema:
    told: Schema = {"title": cls.__name__}
    doc = vars(cls).get("__doc__") or ""
    # Made by `dataclass`, `NamedTuple` and `Enum` where nobody wrote one.
    if doc and not doc.startswith((f"{cls.__name__}(", "An enumeration.")):
        told["description"] = inspect.cleandoc(doc)
    return told


def _foreign(annotation: Any, origin: Any) -> Schema:
    """Return the schema of a class that only a codec of its own can know."""
    if not isinstance(origin, type):
        return {"x-type": type_text(annotation)}
    schema: Schema = {"x-type": f"{origin.__module__}.{origin.__qualname__}"}
    args = typing.get_args(annotation)
    if schema["x-type"] == "numpy.ndarray" and args:  # ndarray[shape, dtype[float64]]
        kind = next(iter(typing.get_args(args[-1])), None)
        if isinstance(kind, type):
            schema["x-dtype"] = kind.__name__
    return schema
