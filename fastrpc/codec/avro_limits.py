"""Walk Avro data by its schema before anything is built.

Avro's bytes say nothing of themselves: what they mean, and how much memory they take,
is in the schema. A list of nulls has no bytes at all, and a record that holds itself
goes as deep as its bytes go long.

Rules of the room:
  * nothing is stored, and a count or length is checked before it is believed;
  * schemas come from the user's own code, data from anybody.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

from fastrpc.errors import CodecError, TooLarge

_FIXED: Final = {"null": 0, "float": 4, "double": 8}
_VARINT_MAX: Final = 10


def check_avro(
    data: bytes,
    start: int,
    schema: Any,
    named: Mapping[str, Any],
    max_depth: int,
    max_items: int,
) -> None:
    """Refuse Avro data that is malformed, too deep or has too many items.

    Items are the fields of all records and the elements of all arrays and maps; keys
    and values of a map count one each.

    Args:
        data: The payload.
        start: Where the data begins in it.
        schema: The schema it was written with, as fastavro parsed it.
        named: The schemas in it that have names.
        max_depth: Deepest nesting.
        max_items: Most items.

    Raises:
        TooLarge: A limit is broken; the text names it.
        CodecError: It does not fit the schema.
    """
    walk = _Walk(data, start, named, max_depth, max_items)
    try:
        walk.value(schema, 0)
    except RecursionError:  # max_depth may be more than Python can do from here
        raise TooLarge(f"Avro data is nested deeper than {max_depth} (max_depth)") from None
    if walk.at != len(data):
        _malformed("something comes after the value")


def _malformed(why: str) -> NoReturn:
    raise CodecError(f"Avro data is malformed: {why}")


class _Walk:
    """One walk over one payload."""

    __slots__ = ("at", "data", "items", "max_depth", "max_items", "named")

    def __init__(
        self, data: bytes, start: int, named: Mapping[str, Any], max_depth: int, max_items: int
    ) -> None:
        self.data = data
        self.at = start
        self.named = named
        self.items = 0
        self.max_depth = max_depth
        self.max_items = max_items

    def value(self, schema: Any, depth: int) -> None:
        """Step over one value of *schema*."""
        if isinstance(schema, list):
            self.value(schema[self._index(len(schema))], depth)
            return
        kind = schema["type"] if isinstance(schema, dict) else schema
        if isinstance(kind, dict | list):
            self.value(kind, depth)
        elif kind in _FIXED:
            self._skip(_FIXED[kind])
        elif kind in _KINDS:
            _KINDS[kind](self, schema, depth)
        else:
            self.value(self.named[kind], depth)

    def _skip(self, size: int) -> None:
        if not 0 <= size <= len(self.data) - self.at:
            _malformed("it is cut short")
        self.at += size

    def _long(self) -> int:
        """Return a zigzag number and step over it."""
        value = shift = 0
        for byte in self.data[self.at : self.at + _VARINT_MAX]:
            self.at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value >> 64:
                    break
                return (value >> 1) ^ -(value & 1)
            shift += 7
        _malformed("a number does not end")

    def _index(self, count: int) -> int:
        index = self._long()
        if not 0 <= index < count:
            _malformed("a choice is out of range")
        return index

    def _count(self, more: int) -> None:
        self.items += more
        if self.items > self.max_items:
            raise TooLarge(f"Avro data has more than {self.max_items} items (max_items)")

    def _deeper(self, depth: int) -> int:
        if depth >= self.max_depth:
            raise TooLarge(f"Avro data is nested deeper than {self.max_depth} (max_depth)")
        return depth + 1

    def boolean(self, schema: Any, depth: int) -> None:
        """Step over a byte that is 0 or 1."""
        self._skip(1)
        if self.data[self.at - 1] > 1:
            _malformed("a boolean is neither 0 nor 1")

    def number(self, schema: Any, depth: int) -> None:
        """Step over an int or long."""
        self._long()

    def text(self, schema: Any, depth: int) -> None:
        """Step over a string or bytes."""
        self._skip(self._long())

    def fixed(self, schema: Any, depth: int) -> None:
        """Step over bytes whose length the schema has."""
        self._skip(schema["size"])

    def enum(self, schema: Any, depth: int) -> None:
        """Step over the number of a symbol."""
        self._index(len(schema["symbols"]))

    def record(self, schema: Any, depth: int) -> None:
        """Step over the fields."""
        depth = self._deeper(depth)
        self._count(len(schema["fields"]))
        for field in schema["fields"]:
            self.value(field["type"], depth)

    def array(self, schema: Any, depth: int) -> None:
        """Step over the blocks of an array."""
        self._blocks(schema["items"], depth, with_keys=False)

    def map(self, schema: Any, depth: int) -> None:
        """Step over the blocks of a map."""
        self._blocks(schema["values"], depth, with_keys=True)

    def _blocks(self, item: Any, depth: int, *, with_keys: bool) -> None:
        depth = self._deeper(depth)
        while (count := self._long()) != 0:
            if count < 0:
                count = -count
                self._long()  # the block's size in bytes, for those who skip it
            self._count(count * 2 if with_keys else count)
            for _ in range(count):
                if with_keys:
                    self._skip(self._long())
                self.value(item, depth)


_KINDS: Final[dict[str, Callable[[_Walk, Any, int], None]]] = {
    "boolean": _Walk.boolean,
    "int": _Walk.number,
    "long": _Walk.number,
    "string": _Walk.text,
    "bytes": _Walk.text,
    "fixed": _Walk.fixed,
    "enum": _Walk.enum,
    "record": _Walk.record,
    "error": _Walk.record,
    "array": _Walk.array,
    "map": _Walk.map,
}
