"""Read the fields of records: dataclasses, TypedDicts, NamedTuples, Structs, attrs classes.

A contract has to say which fields travel under which names, and which of them may
be left out. The codecs read the same classes to make readers of them; they stand
on this storey, too, so nothing is shared but what the classes themselves say.

Rules of the room:
  * classes are looked at, never made;
  * libraries that such classes come from are not imported: who made one has them.
"""

import dataclasses
import sys
import typing
from dataclasses import dataclass
from typing import Any, Final

from fastrpc.errors import ConfigError


class Nothing:
    """The default of a field that has none, or none that could be shown."""


NOTHING: Final = Nothing()


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordField:
    """One field as it travels.

    Attributes:
        name: Its name on the wire.
        annotation: Its type.
        required: Whoever reads it needs it.
        omitted: Whoever sends it may leave it out.
        default: Its default, if it is a plain value.
    """

    name: str
    annotation: Any
    required: bool
    omitted: bool = False
    default: Any = NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The fields of a class.

    Attributes:
        fields: In the order they are written.
        positional: It travels as an array.
        closed: It refuses fields that it doesn't know.
        tag: Name and value of the field by which it is told from others.
    """

    fields: tuple[RecordField, ...]
    positional: bool = False
    closed: bool = False
    tag: tuple[str, str | int] | None = None


def read_record(annotation: Any) -> Record | None:
    """Return what *annotation*, a class or such a class with types in brackets, holds.

    Returns None for a class that is no record.

    Raises:
        ConfigError: An annotation of a field can't be resolved.
    """
    cls = typing.get_origin(annotation) or annotation
    if not isinstance(cls, type):
        return None
    for is_one, read in _READERS:
        if is_one(cls):
            return read(cls, _hints(annotation, cls))
    return None


def _hints(annotation: Any, cls: type) -> dict[str, Any]:
    try:
        hints = typing.get_type_hints(cls, include_extras=True)
    except Exception as error:
        raise ConfigError(f"an annotation of {cls.__name__} can't be resolved: {error}") from None
    given = typing.get_args(annotation)
    variables = dict(zip(getattr(cls, "__parameters__", ()), given, strict=False))
    return {name: _substitute(hint, variables) for name, hint in hints.items()}


def _substitute(hint: Any, variables: dict[Any, Any]) -> Any:
    """Put the types of `Box[int]` where the class has its type variables."""
    if isinstance(hint, typing.TypeVar):
        return variables.get(hint, hint)
    inner = getattr(hint, "__parameters__", ())
    if not variables or not inner or isinstance(hint, type):
        return hint
    return hint[tuple(variables.get(variable, variable) for variable in inner)]


def _dataclass(cls: Any, hints: dict[str, Any]) -> Record:
    missing = dataclasses.MISSING
    fields = [
        RecordField(
            name=field.name,
            annotation=hints.get(field.name, Any),
            required=field.default is missing and field.default_factory is missing,
            default=NOTHING if field.default is missing else field.default,
        )
        for field in dataclasses.fields(cls)
    ]
    return Record(fields=tuple(fields))


def _typed_dict(cls: Any, hints: dict[str, Any]) -> Record:
    fields = []
    for name, hint in hints.items():
        # The wrapper counts first: where annotations are text, Python does not look
        # into them before it decides which keys are required.
        mark = str(typing.get_origin(hint))
        required = name in cls.__required_keys__
        if mark.endswith((".NotRequired", ".Required")):
            required = mark.endswith(".Required")
        fields.append(
            RecordField(name=name, annotation=hint, required=required, omitted=not required)
        )
    return Record(fields=tuple(fields))


def _named_tuple(cls: Any, hints: dict[str, Any]) -> Record:
    defaults = cls._field_defaults
    fields = [
        RecordField(
            name=name,
            annotation=hints.get(name, Any),
            required=name not in defaults,
            default=defaults.get(name, NOTHING),
        )
        for name in cls._fields
    ]
    return Record(fields=tuple(fields), positional=True, closed=True)


def _struct(cls: Any, hints: dict[str, Any]) -> Record:
    msgspec = sys.modules["msgspec"]  # there, or there would be no Struct
    config = cls.__struct_config__
    fields = []
    for field in msgspec.structs.fields(cls):
        hint = hints.get(field.name, field.type)
        shown = field.default not in (msgspec.NODEFAULT, msgspec.UNSET)
        fields.append(
            RecordField(
                name=field.encode_name,
                annotation=hint,
                required=field.required,
                omitted=_may_be_unset(hint) or (config.omit_defaults and not field.required),
                default=field.default if shown else NOTHING,
            )
        )
    return Record(
        fields=tuple(fields),
        positional=config.array_like,
        closed=config.forbid_unknown_fields,
        tag=None if config.tag is None else (config.tag_field, config.tag),
    )


def _may_be_unset(hint: Any) -> bool:
    return any(is_unset(member) for member in typing.get_args(hint))


def is_unset(member: Any) -> bool:
    """Tell whether a member of a union is msgspec's word for "left out"."""
    return getattr(member, "__name__", "") == "UnsetType"


def _attrs(cls: Any, hints: dict[str, Any]) -> Record:
    nothing = sys.modules["attr"].NOTHING
    fields = []
    for field in cls.__attrs_attrs__:
        made = type(field.default).__name__ == "Factory"
        fields.append(
            RecordField(
                name=field.name,
                annotation=hints.get(field.name, Any),
                required=field.default is nothing,
                default=NOTHING if made or field.default is nothing else field.default,
            )
        )
    return Record(fields=tuple(fields))


_READERS: Final = (
    (lambda cls: hasattr(cls, "__struct_config__"), _struct),
    (lambda cls: hasattr(cls, "__required_keys__") and issubclass(cls, dict), _typed_dict),
    (lambda cls: issubclass(cls, tuple) and hasattr(cls, "_fields"), _named_tuple),
    (dataclasses.is_dataclass, _dataclass),
    (lambda cls: hasattr(cls, "__attrs_attrs__"), _attrs),
)
