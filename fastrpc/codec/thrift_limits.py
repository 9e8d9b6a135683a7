"""Walk Thrift's binary protocol by its struct before anything is built.

thriftpy2 believes the lengths it reads: a negative one takes all that is left, and types
that don't fit let it read texts as numbers. Nothing of that passes here.

Rules of the room:
  * a field that is unknown or has another type is skipped, as Thrift has it, but its
    bytes must be well formed;
  * strings for fields that are none, elements of another type, and keys whose hashes
    a peer could choose are refused.
"""

from collections.abc import Callable
from typing import Any, Final, NoReturn

from fastrpc.errors import CodecError, TooLarge

_STOP, _BOOL, _I08, _DOUBLE, _I16, _I32, _I64 = 0, 2, 3, 4, 6, 8, 10
_STRING, _STRUCT, _MAP, _SET, _LIST = 11, 12, 13, 14, 15
_BINARY: Final = 18  # bytes in a spec of thriftpy2; on the wire it is a string
_WIDTHS: Final = {_BOOL: 1, _I08: 1, _I16: 2, _I32: 4, _I64: 8, _DOUBLE: 8}
#: The fewest bytes that one value has, by its type.
_LEAST: Final = {**_WIDTHS, _STRING: 4, _STRUCT: 1, _MAP: 6, _SET: 5, _LIST: 5}
_KEYS: Final = frozenset((*_WIDTHS, _STRING))


def check_thrift(data: bytes, cls: Any, max_depth: int, max_items: int) -> None:
    """Refuse a struct that is malformed, too deep or has too many items.

    Items are the fields of all structs and the elements of all containers; keys and
    values of a map count one each.

    Args:
        data: The payload.
        cls: The class of thriftpy2 that it is to be read as.
        max_depth: Deepest nesting.
        max_items: Most items.

    Raises:
        TooLarge: A limit is broken; the text names it.
        CodecError: It is not well formed, or lacks a required field.
    """
    walk = _Walk(data, max_depth, max_items)
    try:
        walk.struct(cls, 0)
    except RecursionError:  # max_depth may be more than Python can do from here
        raise TooLarge(f"Thrift data is nested deeper than {max_depth} (max_depth)") from None
    if walk.at != len(data):
        _malformed("something comes after the struct")


def _malformed(why: str) -> NoReturn:
    raise CodecError(f"Thrift data is malformed: {why}")


def _element(spec: Any) -> tuple[int, Any]:
    """Return type and inner spec of what a container's spec says of its elements."""
    return spec[:2] if isinstance(spec, tuple) else (spec, None)


class _Walk:
    """One walk over one payload."""

    __slots__ = ("at", "data", "items", "max_depth", "max_items")

    def __init__(self, data: bytes, max_depth: int, max_items: int) -> None:
        self.data = data
        self.at = 0
        self.items = 0
        self.max_depth = max_depth
        self.max_items = max_items

    def _skip(self, size: int) -> None:
        if not 0 <= size <= len(self.data) - self.at:
            _malformed("it is cut short")
        self.at += size

    def _number(self, size: int) -> int:
        start = self.at
        self._skip(size)
        return int.from_bytes(self.data[start : self.at], "big", signed=True)

    def _count(self, more: int) -> None:
        self.items += more
        if self.items > self.max_items:
            raise TooLarge(f"Thrift data has more than {self.max_items} items (max_items)")

    def _deeper(self, depth: int) -> int:
        if depth >= self.max_depth:
            raise TooLarge(f"Thrift data is nested deeper than {self.max_depth} (max_depth)")
        return depth + 1

    def value(self, kind: int, spec: Any, depth: int) -> None:
        """Step over one value; *spec* is None where nobody reads it."""
        width = _WIDTHS.get(kind)
        if width is not None:
            self._skip(width)
        elif kind == _STRING:
            self._skip(self._number(4))
        else:
            walk = _KINDS.get(kind)
            if walk is None:
                _malformed("a type has no meaning")
            walk(self, spec, depth)

    def struct(self, cls: Any, depth: int) -> None:
        """Step over the fields of a struct."""
        depth = self._deeper(depth)
        fields: dict[int, Any] = cls.thrift_spec if cls is not None else {}
        seen = set()
        while (kind := self._number(1)) != _STOP:
            self._count(1)
            number = self._number(2)
            field = fields.get(number)
            spec = None
            if field is not None and _wire(field[0]) == kind:
                seen.add(number)
                spec = field[2] if len(field) > 3 else None
            elif field is not None and kind == _STRING:
                # thriftpy2 does not skip it: it reads the text's bytes as the other type.
                _malformed(f"the field {field[1]!r} is a string, and no string in the struct")
            self.value(kind, spec, depth)
        for number, field in fields.items():
            if field[-1] and number not in seen:
                raise CodecError(f"{cls.__name__} lacks the required field {field[1]!r}")

    def elements(self, spec: Any, depth: int) -> None:
        """Step over a list or set."""
        depth = self._deeper(depth)
        kind = self._number(1)
        count = self._number(4)
        inner = None
        if spec is not None:
            wanted, inner = _element(spec)
            self._fits(kind, wanted)
        self._room(count, _LEAST.get(kind, 1), 1)
        for _ in range(count):
            self.value(kind, inner, depth)

    def map(self, spec: Any, depth: int) -> None:
        """Step over a map."""
        depth = self._deeper(depth)
        key, kind = self._number(1), self._number(1)
        count = self._number(4)
        inner = None
        if spec is not None and count:
            wanted, _ = _element(spec[0])
            self._fits(key, wanted)
            if key not in _KEYS:
                raise CodecError("a key of a Thrift map is no single value")
            wanted, inner = _element(spec[1])
            self._fits(kind, wanted)
        self._room(count, _LEAST.get(key, 1) + _LEAST.get(kind, 1), 2)
        for _ in range(count):
            self.value(key, None, depth)
            self.value(kind, inner, depth)

    def _fits(self, kind: int, wanted: int) -> None:
        if _wire(wanted) != kind:
            _malformed("elements have another type than in the struct")

    def _room(self, count: int, least: int, items: int) -> None:
        if not 0 <= count * least <= len(self.data) - self.at:
            _malformed("a container is longer than what is left")
        self._count(count * items)


def _wire(kind: int) -> int:
    return _STRING if kind == _BINARY else kind


_KINDS: Final[dict[int, Callable[[_Walk, Any, int], None]]] = {
    _STRUCT: _Walk.struct,
    _MAP: _Walk.map,
    _SET: _Walk.elements,
    _LIST: _Walk.elements,
}
