"""Read records: dataclasses, TypedDicts, NamedTuples and msgspec's Structs.

Unknown fields are ignored and missing ones take their default, so a newer caller
and an older service understand each other, and the other way round.

Rules of the room:
  * a record is filled field by field, as msgspec does it; of its own code only
    `__post_init__` runs.
"""

import dataclasses
import sys
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastrpc.codec.containers import read_each
from fastrpc.codec.contract import Mismatch
from fastrpc.codec.reader import Reader, expected
from fastrpc.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a record.

    Attributes:
        name: Its attribute or key in Python.
        wire: Its name when it travels.
        type: Its annotation.
        required: It has no default, and must come.
        make_default: Gives the default; None if it is simply left out.
    """

    name: str
    wire: str
    type: Any
    required: bool
    make_default: Callable[[], Any] | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """All fields of a record, and how to make one.

    Attributes:
        fields: In the order they are written.
        make: Turns names and values into the record.
        positional: It travels as an array.
    """

    fields: list[Field]
    make: Callable[[dict[str, Any]], Any]
    positional: bool = False


def is_typed_dict(cls: Any) -> bool:
    """Tell whether *cls* is a TypedDict, of typing or typing_extensions."""
    return isinstance(cls, type) and hasattr(cls, "__required_keys__") and issubclass(cls, dict)


def is_struct(cls: Any) -> bool:
    """Tell whether *cls* is a msgspec.Struct, without importing msgspec."""
    cls = typing.get_origin(cls) or cls
    return hasattr(cls, "__struct_config__") and isinstance(cls, type)


def _is_plain_struct(cls: Any) -> bool:
    config = cls.__struct_config__
    return not (config.array_like or config.forbid_unknown_fields or config.tag is not None)


def _is_named_tuple(cls: type) -> bool:
    return issubclass(cls, tuple) and hasattr(cls, "_fields")


def is_record(cls: type) -> bool:
    """Tell whether this module can read *cls*."""
    if is_struct(cls):
        return _is_plain_struct(cls)
    return dataclasses.is_dataclass(cls) or is_typed_dict(cls) or _is_named_tuple(cls)


def shape_of(wanted: Any, cls: type) -> Shape:
    """Return the fields of a record type.

    Raises:
        ConfigError: An annotation can't be resolved, or a field can't be filled.
    """
    hints = _hints(wanted, cls)
    if is_struct(cls):
        return _struct(cls, hints)
    if is_typed_dict(cls):
        return _typed_dict(cls, hints)
    if _is_named_tuple(cls):
        return _named_tuple(cls, hints)
    return _dataclass(cls, hints)


def _hints(wanted: Any, cls: type) -> dict[str, Any]:
    try:
        hints = typing.get_type_hints(cls, include_extras=True)
    except Exception as error:
        raise ConfigError(f"an annotation of {cls.__name__} can't be resolved: {error}") from None
    variables = dict(zip(getattr(cls, "__parameters__", ()), typing.get_args(wanted), strict=False))
    return {name: _substitute(hint, variables) for name, hint in hints.items()}


def _substitute(hint: Any, variables: dict[Any, Any]) -> Any:
    """Put the types of `Box[int]` where the class has its type variables."""
    if not variables:
        return hint
    if hint in variables:
        return variables[hint]
    inner = getattr(hint, "__parameters__", ())
    if not inner or isinstance(hint, type):
        return hint
    return hint[tuple(variables.get(variable, variable) for variable in inner)]


def _dataclass(cls: Any, hints: dict[str, Any]) -> Shape:
    if any(str(hint).startswith("dataclasses.InitVar") for hint in hints.values()):
        raise ConfigError(f"{cls.__name__} has InitVar fields, which can't be sent")
    fields = []
    for field in dataclasses.fields(cls):
        make: Callable[[], Any] | None = None
        if field.default_factory is not dataclasses.MISSING:
            make = field.default_factory
        elif field.default is not dataclasses.MISSING:
            make = _constant(field.default)
        fields.append(Field(field.name, field.name, hints[field.name], make is None, make))
    finish = getattr(cls, "__post_init__", None)

    def build(values: dict[str, Any]) -> Any:
        record = cls.__new__(cls)
        for name, value in values.items():
            object.__setattr__(record, name, value)  # also where the class is frozen
        if finish is not None:
            finish(record)
        return record

    return Shape(fields, build)


def _constant(value: Any) -> Callable[[], Any]:
    return lambda: value


def _typed_dict(cls: type, hints: dict[str, Any]) -> Shape:
    always: frozenset[str] = cls.__required_keys__  # type: ignore[attr-defined]
    fields = []
    for name, hint in hints.items():
        # The wrapper counts first: where annotations are text, Python does not look
        # into them before it decides which keys are required.
        mark = str(typing.get_origin(hint))
        required = name in always
        if mark.endswith((".NotRequired", ".Required")):
            required = mark.endswith(".Required")
        fields.append(Field(name, name, hint, required))
    return Shape(fields, lambda values: values)


def _named_tuple(cls: Any, hints: dict[str, Any]) -> Shape:
    defaults = cls._field_defaults
    fields = [
        Field(
            name,
            name,
            hints.get(name, Any),
            name not in defaults,
            _constant(defaults[name]) if name in defaults else None,
        )
        for name in cls._fields
    ]
    return Shape(fields, lambda values: cls(**values), positional=True)


def _struct(cls: Any, hints: dict[str, Any]) -> Shape:
    # msgspec is there, or there would be no Struct; but this module must load without.
    describe = sys.modules["msgspec"].structs.fields
    fields = [  # without defaults: the constructor knows them
        Field(field.name, field.encode_name, hints[field.name], field.required)
        for field in describe(cls)
    ]
    return Shape(fields, lambda values: cls(**values))


def read_function(
    name: str, shape: Shape, fields: list[tuple[Field, Reader]]
) -> Callable[[Any], Any]:
    """Return the function that reads a record of this *shape*."""
    if shape.positional:
        return _read_positional(name, shape, fields)
    return _read_by_name(name, shape, fields)


def _finish(shape: Shape, values: dict[str, Any]) -> Any:
    try:
        return shape.make(values)
    except (ValueError, TypeError) as error:  # the record's own __post_init__ refused it
        raise Mismatch(str(error)) from None


def _read_by_name(
    name: str, shape: Shape, fields: list[tuple[Field, Reader]]
) -> Callable[[Any], Any]:
    by_wire = {field.wire: (field, reader) for field, reader in fields}

    def read(given: Any) -> Any:
        if not isinstance(given, dict):
            raise expected(name, given)
        values: dict[str, Any] = {}
        for key, value in given.items():
            if type(key) is not str:
                raise expected("str", key).inside("a key")
            known = by_wire.get(key)
            if known is None:
                continue  # a newer peer's field
            field, reader = known
            try:
                values[field.name] = reader.read(value)
            except Mismatch as error:
                raise error.inside(f"field {key!r}") from None
        _fill(values, fields)
        return _finish(shape, values)

    return read


def _fill(values: dict[str, Any], fields: list[tuple[Field, Reader]]) -> None:
    for field, _ in fields:
        if field.name in values:
            continue
        if field.required:
            raise Mismatch(f"field {field.wire!r} is missing")
        if field.make_default is not None:
            values[field.name] = field.make_default()


def _read_positional(
    name: str, shape: Shape, fields: list[tuple[Field, Reader]]
) -> Callable[[Any], Any]:
    readers = [reader for _, reader in fields]
    least = sum(field.required for field, _ in fields)
    count = f"{least}" if least == len(fields) else f"{least} to {len(fields)}"

    def read(given: Any) -> Any:
        if not isinstance(given, list):
            raise expected(name, given)
        if not least <= len(given) <= len(fields):
            raise Mismatch(f"expected {count} items, got {len(given)}")
        read_values = read_each(readers, given)
        names = (field.name for field, _ in fields)
        return _finish(shape, dict(zip(names, read_values, strict=False)))

    return read
