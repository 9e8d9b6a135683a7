"""Turn decoded values into annotated types, without help from any library.

It does three jobs: it is the typed half of the plain engine; it finds the place
and the words when msgspec refuses a value; and it reads those types that msgspec
would read without a guard (see `containers`).

Rules of the room:
  * it accepts what msgspec accepts, and a property test says so;
  * a type that can't be read is refused when the reader is built.
"""

import collections.abc as cabc
import dataclasses
import enum
import re
import types
import typing
from collections.abc import Callable
from typing import Any, Literal, TypeVar, Union

from fastrpc.codec import containers, records
from fastrpc.codec.buffers import array_reader, is_array_type
from fastrpc.codec.reader import Dialect, Group, Reader, expected
from fastrpc.codec.scalars import accepting, enumeration, literals, scalar
from fastrpc.errors import ConfigError

#: The annotations of one container each, as their origins.
LISTS = (list, cabc.Sequence, cabc.MutableSequence, cabc.Collection)
SETS = (set, cabc.Set, cabc.MutableSet)
MAPS = (dict, cabc.Mapping, cabc.MutableMapping)
_MODULES = re.compile(r"(?:[\w<>]+\.)+(?=\w)")
_WRAPPERS = ("Final", "Required", "NotRequired", "ReadOnly")


def build_reader(wanted: object, dialect: Dialect) -> Reader:
    """Return a reader for values of type *wanted*.

    Raises:
        ConfigError: No value of that type can be read; the text tells a way out.
    """
    return _Builder(dialect).reader(wanted)


class _Builder:
    """Build the readers of one type and all its parts."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        # Records by type, entered before their fields: a tree's nodes hold nodes.
        self._records: dict[object, Reader] = {}
        self._aliases: list[object] = []

    def reader(self, wanted: Any) -> Reader:
        """Return the reader of *wanted*."""
        wanted = unwrap(wanted)
        if typing.get_origin(wanted) is typing.Annotated:
            return self.dialect.constrain(wanted, self.reader(typing.get_args(wanted)[0]))
        if wanted is Any or wanted is object:
            return Reader("Any", None, (), lambda value: value, weak=True)
        found = scalar(wanted, self.dialect)
        if found is not None:
            return found
        if isinstance(wanted, str | typing.ForwardRef):
            raise ConfigError(f"the type {wanted!r} is text that was never resolved")
        if isinstance(wanted, TypeVar):
            return self._variable(wanted)
        origin = typing.get_origin(wanted) or wanted
        if origin in (Union, types.UnionType):
            return self._union(wanted)
        if origin is Literal:
            return self._choose(wanted, literals(typing.get_args(wanted)))
        if type(origin).__name__ == "TypeAliasType":  # `type X = ...`, 3.12 and later
            return self._alias(wanted)
        return self._class(wanted, origin)

    def _class(self, wanted: Any, origin: Any) -> Reader:
        container = self._container(wanted, origin)
        if container is not None:
            return container
        if isinstance(origin, type):
            if issubclass(origin, enum.Enum):
                return enumeration(origin, self.dialect)
            if records.is_record(origin):
                return self._record(wanted, origin)
        if is_array_type(wanted):
            return array_reader(wanted)
        found = self.dialect.opaque(wanted)
        if found is None:
            raise ConfigError(
                f"values of type {type_name(wanted)} can't be sent; use a dataclass, a "
                "TypedDict, a NamedTuple or a msgspec.Struct, or convert it yourself"
            )
        return found

    def _container(self, wanted: Any, origin: Any) -> Reader | None:
        args = typing.get_args(wanted)
        if origin in LISTS or origin is cabc.Iterable:
            reader = containers.list_reader(self._item(args), self.dialect)
            # msgspec would let any iterable pass here, a map too, items unread.
            reader.own = reader.own or origin is cabc.Iterable
            return reader
        if origin in SETS:
            return containers.set_reader(self._item(args), set, self.dialect)
        if origin is frozenset:
            return containers.set_reader(self._item(args), frozenset, self.dialect)
        if origin in MAPS:
            key, value = args or (Any, Any)
            return containers.map_reader(
                type_name(wanted), self._key(key), self.reader(value), self.dialect
            )
        if origin is tuple:
            if not args and "()" in str(wanted):  # tuple[()], not a bare tuple
                return containers.tuple_reader([], self.dialect)
            if not args or args[-1] is Ellipsis:
                return containers.tuple_of_reader(self._item(args), self.dialect)
            return containers.tuple_reader([self.reader(arg) for arg in args], self.dialect)
        return None

    def _item(self, args: tuple[Any, ...]) -> Reader:
        return self.reader(args[0] if args else Any)

    def _key(self, wanted: Any) -> Reader:
        reader = self.reader(wanted)
        if reader.group in (Group.ARRAY, Group.MAP):
            # Beside being rare, hashes of tuples can be chosen by a peer.
            raise ConfigError(
                f"keys of type {reader.name} can't be sent; use str, int or another single value"
            )
        return containers.text_key(reader) if self.dialect.text_only else reader

    def _record(self, wanted: Any, origin: type) -> Reader:
        if wanted in self._records:
            return self._records[wanted]
        shape = records.shape_of(wanted, origin)
        group = Group.ARRAY if shape.positional else Group.MAP
        takes = (list,) if shape.positional else (dict,)
        reader = Reader(type_name(wanted), group, takes, lambda value: value, weak=True)
        self._records[wanted] = reader
        fields = [(field, self._field(origin, field)) for field in shape.fields]
        reader.read = records.read_function(reader.name, shape, fields)
        reader.own = any(item.own for _, item in fields)
        if self.dialect.native and not records.is_typed_dict(origin):
            inner = accepting(origin, dataclasses.replace(reader))
            reader.read, reader.takes = inner.read, inner.takes
        return reader

    def _field(self, cls: type, field: records.Field) -> Reader:
        try:
            return self.reader(field.type)
        except ConfigError as error:
            raise ConfigError(f"{cls.__name__}.{field.name}: {error}") from None

    def _variable(self, wanted: TypeVar) -> Reader:
        if wanted.__constraints__:
            raise ConfigError(f"the type variable {wanted} has constraints; use a union instead")
        return self.reader(Any if wanted.__bound__ is None else wanted.__bound__)

    def _alias(self, wanted: Any) -> Reader:
        if wanted in self._aliases:
            raise ConfigError(f"the alias {wanted} holds itself; use Any for the inner part")
        self._aliases.append(wanted)
        reader = self.reader(wanted.__value__)
        self._aliases.pop()
        return reader

    def _union(self, wanted: Any) -> Reader:
        members: list[Reader] = []
        chosen: list[object] = []
        tagged: list[Any] = []
        for member in members_of(wanted):
            if typing.get_origin(member) is Literal:
                chosen += [value for value in typing.get_args(member) if value not in chosen]
            elif records.is_struct(member):
                tagged.append(member)
            else:
                members.append(self.reader(member))
        members += literals(chosen)
        if len(tagged) == 1:
            members.append(self.reader(tagged[0]))
        elif tagged:
            found = self.dialect.opaque(Union[tuple(tagged)])  # noqa: UP007
            if found is None:
                raise ConfigError(f"values of type {type_name(wanted)} can't be sent")
            members.append(found)
        return self._choose(wanted, members)

    def _choose(self, wanted: Any, members: list[Reader]) -> Reader:
        """Return the reader that gives each value to the member that takes it."""
        by_group: dict[Group | None, Reader] = {}
        for member in members:
            other = by_group.setdefault(member.group, member)
            if other is not member:
                raise ConfigError(
                    f"{type_name(wanted)}: {other.name} and {member.name} can't be told apart "
                    "when they arrive; use one of them, or tagged msgspec.Struct types"
                )
        if None in by_group:
            return by_group[None]
        if len(members) == 1:
            return members[0]
        groups = [group for group in Group if group in by_group]
        members = [by_group[group] for group in groups]
        table: dict[type, Callable[[Any], Any]] = {}
        for member in members:
            for type_ in member.takes:
                table.setdefault(type_, _late(member))
        name = " | ".join(member.name for member in members)

        def read(value: Any) -> Any:
            choice = table.get(type(value))
            if choice is None:
                raise expected(name, value)
            return choice(value)

        weak, own = any(m.weak for m in members), any(m.own for m in members)
        # A group for the whole, by which a map knows that this can't be its key.
        group = next(group for group in reversed(groups) if group is not Group.NULL)
        return Reader(name, group, tuple(table), read, weak, own)


def _late(reader: Any) -> Callable[[Any], Any]:
    # A record's `read` is set after its fields are known, so it is looked up late.
    return lambda value: reader.read(value)


def unwrap(wanted: Any) -> Any:
    """Take away what says nothing about the value: Final, NewType, NotRequired, ..."""
    while True:
        origin = typing.get_origin(wanted)
        if hasattr(wanted, "__supertype__"):
            wanted = wanted.__supertype__
        elif getattr(origin, "_name", "") in _WRAPPERS:
            wanted = typing.get_args(wanted)[0]
        else:
            return wanted


def members_of(union: Any) -> list[Any]:
    """Return the members of a union and of the unions in it, msgspec's UNSET left out."""
    members: list[Any] = []
    for member in typing.get_args(union):
        inner = unwrap(member)
        if typing.get_origin(inner) in (Union, types.UnionType):
            members += members_of(inner)
        elif getattr(inner, "__name__", "") != "UnsetType":  # msgspec's word for "left out"
            members.append(inner)
    return members


def type_name(wanted: Any) -> str:
    """Return a type as errors call it."""
    if typing.get_args(wanted) or not isinstance(wanted, type):
        return _MODULES.sub("", str(wanted))
    return wanted.__name__
