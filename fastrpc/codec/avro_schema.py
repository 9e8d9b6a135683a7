"""Make Avro schemas of annotated classes, so that one class is the whole contract.

Times, UUIDs and decimals are text, as they are over the other codecs; a schema given
by hand may have them as Avro's logical types.

Rules of the room:
  * what Avro has no word for is refused by name, when the schema is made;
  * a schema depends on the class alone: both sides come to the same fingerprint.
"""

import collections.abc as cabc
import datetime as dt
import decimal
import enum
import math
import re
import types
import typing
import uuid
from typing import Any, Final, Literal, NoReturn, Union

from fastrpc.codec import records
from fastrpc.codec.convert import LISTS, MAPS, SETS, members_of, type_name, unwrap
from fastrpc.errors import ConfigError

#: An Avro schema as parsed JSON.
Schema = str | list[Any] | dict[str, Any]

SCALARS: Final[dict[Any, str]] = {
    None: "null",
    type(None): "null",
    bool: "boolean",
    int: "long",
    float: "double",
    str: "string",
    bytes: "bytes",
    bytearray: "bytes",
    memoryview: "bytes",
    dt.datetime: "string",
    dt.date: "string",
    dt.time: "string",
    dt.timedelta: "string",
    decimal.Decimal: "string",
    uuid.UUID: "string",
}

_ARRAYS: Final = (*LISTS, *SETS, frozenset, tuple, cabc.Iterable)
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def derive(wanted: Any) -> Schema:
    """Return the schema of values of type *wanted*.

    Raises:
        ConfigError: Avro can't say it; the text names the class and field.
    """
    return _Deriver().schema(wanted)


class _Deriver:
    """Derive one schema with all its parts."""

    def __init__(self) -> None:
        # Whom a name belongs to: the second time it stands for the whole.
        self._named: dict[str, Any] = {}

    def schema(self, wanted: Any) -> Schema:
        wanted = unwrap(wanted)
        if typing.get_origin(wanted) is typing.Annotated:
            return self.schema(typing.get_args(wanted)[0])
        if isinstance(wanted, type) or wanted is None:
            known = SCALARS.get(wanted)
            if known is not None:
                return known
        origin = typing.get_origin(wanted) or wanted
        if origin in (Union, types.UnionType):
            return self._union([self.schema(member) for member in members_of(wanted)])
        if origin is Literal:
            return self._union([SCALARS.get(type(v), "") for v in typing.get_args(wanted)])
        if type(origin).__name__ == "TypeAliasType":  # `type X = ...`, 3.12 and later
            return self.schema(wanted.__value__)
        return self._container(wanted, origin) or self._class(wanted, origin)

    def _container(self, wanted: Any, origin: Any) -> Schema | None:
        args = typing.get_args(wanted)
        if origin in _ARRAYS:
            if not args:
                _no_word(wanted, "say what is in it")
            if origin is tuple and args[-1] is not Ellipsis:
                _no_word(wanted, "use a dataclass")
            return {"type": "array", "items": self.schema(args[0])}
        if origin in MAPS:
            if not args or unwrap(args[0]) is not str:
                _no_word(wanted, "keys of maps are str, and values have a type")
            return {"type": "map", "values": self.schema(args[1])}
        return None

    def _class(self, wanted: Any, origin: Any) -> Schema:
        if isinstance(origin, type) and issubclass(origin, enum.Enum):
            return self._enum(origin)
        if not (isinstance(origin, type) and records.is_record(origin)):
            _no_word(wanted, "use a dataclass, a TypedDict or a plain msgspec.Struct")
        name = re.sub(r"\W+", "_", type_name(wanted)).strip("_")
        if self._taken(name, wanted):
            return name
        shape = records.shape_of(wanted, origin)
        if shape.positional:
            _no_word(wanted, "use a dataclass")
        if records.is_typed_dict(origin) and not all(field.required for field in shape.fields):
            _no_word(wanted, "its fields may be absent: make them required, or use a dataclass")
        return {
            "type": "record",
            "name": name,
            "fields": [self._field(name, field) for field in shape.fields],
        }

    def _taken(self, name: str, owner: Any) -> bool:
        """Give *name* to *owner*; True if it has it already."""
        if not _NAME.fullmatch(name):
            raise ConfigError(f"{name!r} is no name that Avro takes; use letters, digits and _")
        if name not in self._named:
            self._named[name] = owner
            return False
        if self._named[name] == owner:
            return True
        raise ConfigError(f"two types are called {name}; an Avro schema needs names of their own")

    def _field(self, record: str, field: records.Field) -> dict[str, Any]:
        if not _NAME.fullmatch(field.wire):
            raise ConfigError(f"{record}.{field.wire}: Avro names are letters, digits and _")
        try:
            schema = self.schema(field.type)
        except ConfigError as error:
            raise ConfigError(f"{record}.{field.wire}: {error}") from None
        described: dict[str, Any] = {"name": field.wire, "type": schema}
        if field.make_default is not None:
            _add_default(described, field.make_default())
        return described

    def _enum(self, cls: type[enum.Enum]) -> Schema:
        values = [member.value for member in cls]
        if all(isinstance(value, int) for value in values):
            return "long"
        if not all(isinstance(value, str) and _NAME.fullmatch(value) for value in values):
            return "string"
        if self._taken(cls.__name__, cls):
            return cls.__name__
        return {"type": "enum", "name": cls.__name__, "symbols": values}

    def _union(self, members: list[Schema]) -> Schema:
        unique = [item for at, item in enumerate(members) if item not in members[:at]]
        # "null" first: its default is the one that is nearly always meant.
        unique.sort(key=lambda item: item != "null")
        return unique[0] if len(unique) == 1 else unique


def _no_word(wanted: Any, way_out: str) -> NoReturn:
    raise ConfigError(f"Avro has no word for {type_name(wanted)}; {way_out}")


def _add_default(described: dict[str, Any], value: Any) -> None:
    """Put a default into a field's schema, where Avro can say it and readers may need it."""
    schema = described["type"]
    first = schema[0] if isinstance(schema, list) else schema
    kind = first.get("type") if isinstance(first, dict) else first
    plain = value.value if isinstance(value, enum.Enum) else value
    if kind in ("array", "map"):
        if plain is not None and not plain:
            described["default"] = [] if kind == "array" else {}
    elif type(plain) is float and not math.isfinite(plain):
        return
    elif kind == _KINDS.get(type(plain)) or (kind == "enum" and type(plain) is str):
        described["default"] = plain


_KINDS: Final[dict[type, str]] = {
    type(None): "null",
    bool: "boolean",
    int: "long",
    float: "double",
    str: "string",
}
