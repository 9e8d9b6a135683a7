"""Read lists, tuples, sets and maps.

Sets and maps need a guard. Hashes of UUID, Decimal, tuples, records and of JSON's
boundless integers are not secret, so a peer can send thousands of different ones
with one hash: 3,000 such UUIDs kept a set busy for 1.6 s, and the time grows with
the square. Where that could happen the reader is marked `own`, which keeps
msgspec from filling the set, and collisions are counted here.

Rules of the room:
  * an error says at which item or key it happened.
"""

from collections.abc import Callable, Iterable
from typing import Any

from fastrpc.codec.contract import Mismatch
from fastrpc.codec.reader import Dialect, Group, Reader, expected
from fastrpc.errors import ConfigError

#: Different values of one hash that a set or map may have; honest ones have none.
COLLISIONS_MAX = 64

_NATIVE_ARRAYS = (list, tuple, set, frozenset)


def _arrays(dialect: Dialect) -> tuple[type[Any], ...]:
    return _NATIVE_ARRAYS if dialect.native else (list,)


def _read_items(item: Reader, values: Iterable[Any]) -> list[Any]:
    out: list[Any] = []
    read = item.read
    try:
        for value in values:
            out.append(read(value))  # noqa: PERF401  the count tells where it failed
    except Mismatch as error:
        raise error.inside(f"item {len(out)}") from None
    return out


def list_reader(item: Reader, dialect: Dialect) -> Reader:
    """Return the reader of a list."""
    name, arrays = f"list[{item.name}]", _arrays(dialect)

    def read(value: Any) -> list[Any]:
        if not isinstance(value, arrays):
            raise expected(name, value)
        return _read_items(item, value)

    return Reader(name, Group.ARRAY, arrays, read, weak=True, own=item.own)


def tuple_of_reader(item: Reader, dialect: Dialect) -> Reader:
    """Return the reader of a tuple of any length."""
    name, arrays = f"tuple[{item.name}, ...]", _arrays(dialect)

    def read(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, arrays):
            raise expected(name, value)
        return tuple(_read_items(item, value))

    return Reader(name, Group.ARRAY, arrays, read, weak=True, own=item.own)


def tuple_reader(items: list[Reader], dialect: Dialect) -> Reader:
    """Return the reader of a tuple of fixed length."""
    name = f"tuple[{', '.join(item.name for item in items) or '()'}]"
    arrays = _arrays(dialect)

    def read(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, arrays):
            raise expected(name, value)
        if len(value) != len(items):
            raise Mismatch(f"expected {len(items)} items, got {len(value)}")
        return tuple(read_each(items, value))

    own = any(item.own for item in items)
    return Reader(name, Group.ARRAY, arrays, read, weak=True, own=own)


def read_each(items: Iterable[Reader], values: Iterable[Any]) -> list[Any]:
    """Return the values, each read by its own reader."""
    out: list[Any] = []
    try:
        for item, value in zip(items, values, strict=False):
            out.append(item.read(value))
    except Mismatch as error:
        raise error.inside(f"item {len(out)}") from None
    return out


def set_reader(
    item: Reader, make: type[set[Any]] | type[frozenset[Any]], dialect: Dialect
) -> Reader:
    """Return the reader of a set or frozenset."""
    name, arrays = f"{make.__name__}[{item.name}]", _arrays(dialect)
    guard = item.weak and not dialect.native

    def read(value: Any) -> Any:
        if not isinstance(value, arrays):
            raise expected(name, value)
        items = _read_items(item, value)
        if item.group is None:
            items = [freeze(entry) for entry in items]
        return make(_guarded(items) if guard else items)

    return Reader(name, Group.ARRAY, arrays, read, weak=True, own=item.own or guard)


def freeze(value: Any) -> Any:
    """Return an untyped *value* made fit for a set: lists become tuples."""
    return tuple(map(freeze, value)) if type(value) is list else value


def _guarded(items: list[Any]) -> list[Any]:
    """Return *items* if their hashes are as different as they are.

    Raises:
        Mismatch: Too many collide, or one has no hash.
    """
    first: dict[int, Any] = {}
    collisions = 0
    for index, item in enumerate(items):
        try:
            other = first.setdefault(hash(item), item)
        except TypeError:
            raise Mismatch(f"{type(item).__name__} can't be in a set", f"item {index}") from None
        # A NaN is unequal to itself, but has a hash of its own each time.
        if other is not item and other != item:
            collisions += 1
            if collisions > COLLISIONS_MAX:
                raise Mismatch("too many values with the same hash")
    return items


def map_reader(name: str, key: Reader, value: Reader, dialect: Dialect) -> Reader:
    """Return the reader of a map."""
    name = f"dict[{key.name}, {value.name}]" if name != "dict" else name
    guard = key.weak and key.group is not None and not dialect.native

    def read(given: Any) -> dict[Any, Any]:
        if not isinstance(given, dict):
            raise expected(name, given)
        try:
            keys = [key.read(entry) for entry in given]
        except Mismatch as error:
            raise error.inside("a key") from None
        values: list[Any] = []
        try:
            for item in given.values():
                values.append(value.read(item))  # noqa: PERF401  the count tells where
        except Mismatch as error:
            raise error.inside(_value_of(list(given)[len(values)])) from None
        return dict(zip(_guarded(keys) if guard else keys, values, strict=True))

    own = key.own or value.own or guard
    return Reader(name, Group.MAP, (dict,), read, weak=True, own=own)


def _value_of(key: Any) -> str:
    shown = isinstance(key, int) or (isinstance(key, str) and len(key) <= 40)
    return f"value of {key!r}" if shown else "a value"


def text_key(reader: Reader) -> Reader:
    """Return *reader* for keys that are always text, as in JSON."""
    if reader.group is None or (str in reader.takes and reader.group is not Group.INT):
        return reader
    read = reader.read

    def read_key(text: Any) -> Any:
        if type(text) is not str:
            return read(text)
        for parse in _parsers(reader.takes):
            try:
                number = parse(text)
            except ValueError:
                continue
            return read(number)
        raise expected(reader.name, text)

    if reader.group in (Group.BOOL, Group.NULL):
        raise ConfigError(f"keys of type {reader.name} can't be sent as JSON")
    takes = (*reader.takes, str)
    return Reader(reader.name, reader.group, takes, read_key, reader.weak, reader.own)


def _parsers(takes: tuple[type, ...]) -> list[Callable[[str], Any]]:
    parsers: list[Callable[[str], Any]] = []
    if int in takes:
        parsers.append(_whole)
    if float in takes:
        parsers.append(_number)
    return parsers


def _whole(text: str) -> int:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or (digits[0] == "0" and len(digits) > 1):
        raise ValueError(text)
    return int(text)


def _number(text: str) -> float:
    if not text.isascii() or not text.removeprefix("-")[:1].isdigit() or "_" in text:
        raise ValueError(text)
    return float(text)
