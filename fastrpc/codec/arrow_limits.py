"""Check an Arrow stream's messages before pyarrow builds anything of them.

The messages are flatbuffers, whose parts are found by offsets: a thousand fields may
share one name of a megabyte, and a field its children, so a few bytes can become any
number of objects. Bodies may be compressed, and say themselves how long they become.

Rules of the room:
  * every table, text and vector is counted as often as it is found;
  * compressed bodies, and types whose rows may share one piece of memory, are refused;
  * what the values are is left to pyarrow's own full validation.
"""

import struct
from typing import Final, NoReturn

from fastrpc.errors import CodecError, TooLarge

_CONTINUES: Final = b"\xff\xff\xff\xff"
_SCHEMA, _DICTIONARY, _BATCH = 1, 2, 3
# Types by their numbers in Arrow's Schema.fbs. Those left out are run-end encoding, and
# views, whose rows can all be the same large piece of a buffer.
_TYPES: Final = frozenset(range(1, 22))
#: The texts and vectors of numbers in a type's table, as (slot, bytes of an item).
_INSIDE: Final = {10: (1, 1), 14: (1, 4)}  # a timestamp's zone, a union's numbers


def check_arrow(data: bytes, max_depth: int, max_items: int) -> None:
    """Refuse an Arrow stream that is malformed or takes more memory than it should.

    Items are the fields of the schema, and the columns of every batch.

    Raises:
        TooLarge: A limit is broken; the text names it.
        CodecError: It is not well formed, or holds what is not taken here.
    """
    stream = _Stream(data, max_depth, max_items)
    try:
        stream.walk()
    except struct.error:
        _malformed("a place is outside of its message")


def _malformed(why: str) -> NoReturn:
    raise CodecError(f"the Arrow stream is malformed: {why}")


class _Stream:
    """One walk over the messages of one payload."""

    def __init__(self, data: bytes, max_depth: int, max_items: int) -> None:
        self.data = data
        self.max_depth = max_depth
        self.max_items = max_items
        self.items = 0
        # Columns of nulls have rows and no bytes, those of bools eight in a byte.
        self.rows_max = max(max_items, 8 * len(data))

    def walk(self) -> None:
        """Go from message to message; the first is the schema."""
        at, kind = 0, 0
        while at < len(self.data):
            if self.data[at : at + 4] != _CONTINUES:
                _malformed("a message does not begin as it should")
            (size,) = struct.unpack_from("<i", self.data, at + 4)
            at += 8
            if size == 0:
                break
            if not 0 < size <= len(self.data) - at:
                _malformed("a message is longer than what is left")
            kind, body = self._message(_Flat(self.data[at : at + size]), first=kind == 0)
            at += size + body
            if at > len(self.data):
                _malformed("a body is longer than what is left")
        if not kind or at != len(self.data):
            _malformed("it does not end where it should")

    def count(self, more: int) -> None:
        """Count items."""
        self.items += more
        if self.items > self.max_items:
            raise TooLarge(f"the Arrow stream has more than {self.max_items} items (max_items)")

    def _message(self, flat: "_Flat", *, first: bool) -> tuple[int, int]:
        """Check one message; return what it is and the length of its body."""
        message = flat.root()
        kind = flat.number(message, 1, "<B")
        header = flat.table(message, 2)
        body: int = flat.number(message, 3, "<q")
        flat.pairs(message, 4)
        if header is None or body < 0:
            _malformed("a message has nothing in it")
        if (kind == _SCHEMA) != first:
            _malformed("a schema is not where it should be")
        if kind == _DICTIONARY:
            header = flat.table(header, 1)
            if header is None:
                _malformed("a dictionary has nothing in it")
        if kind == _SCHEMA:
            flat.pairs(header, 2)
            for field in flat.tables(header, 1):
                self._field(flat, field, 1)
        elif kind in (_DICTIONARY, _BATCH):
            self._batch(flat, header, body)
        else:
            raise CodecError("the Arrow stream has a message that is no table")
        return kind, body

    def _field(self, flat: "_Flat", field: int, depth: int) -> None:
        if depth > self.max_depth:
            raise TooLarge(f"Arrow's types are nested deeper than {self.max_depth} (max_depth)")
        self.count(1)
        kind = flat.number(field, 2, "<B")
        if kind not in _TYPES:
            raise CodecError("an Arrow column has a type that is not taken: a view or run ends")
        flat.vector(field, 0, 1)
        flat.pairs(field, 6)
        inside, described = _INSIDE.get(kind), flat.table(field, 3)
        if inside is not None and described is not None:
            flat.vector(described, *inside)
        for child in flat.tables(field, 5):
            self._field(flat, child, depth + 1)

    def _batch(self, flat: "_Flat", batch: int, body: int) -> None:
        if flat.table(batch, 3) is not None:
            raise CodecError("a compressed Arrow stream is not taken")
        self.count(1)
        self._rows(flat.number(batch, 0, "<q"))
        at, count = flat.vector(batch, 1, 16)
        self.count(count)
        for place in range(at, at + count * 16, 16):
            self._rows(flat.unpack("<q", place))
        at, count = flat.vector(batch, 2, 16)
        for place in range(at, at + count * 16, 16):
            start, size = flat.unpack("<q", place), flat.unpack("<q", place + 8)
            if not (0 <= start <= body and 0 <= size <= body - start):
                _malformed("a buffer is outside of the body")

    def _rows(self, rows: int) -> None:
        if not 0 <= rows <= self.rows_max:
            raise TooLarge(f"an Arrow column says that it has more than {self.rows_max} rows")


class _Flat:
    """Find the parts of one flatbuffer, and count what is found.

    Args:
        data: The flatbuffer.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        # Writers may share a few parts, but nothing that makes a message many times longer.
        self.left = 4 * len(data) + 1024

    def unpack(self, form: str, at: int) -> int:
        """Return the number at a place.

        Raises:
            struct.error: It is outside.
        """
        if at < 0:
            raise struct.error
        return struct.unpack_from(form, self.data, at)[0]  # type: ignore[no-any-return]

    def _found(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise TooLarge("an Arrow message uses its parts too often")

    def root(self) -> int:
        """Return the place of the outermost table."""
        return self.unpack("<I", 0)

    def _slot(self, table: int, slot: int) -> int:
        """Return the place of a table's member, 0 if it is not there."""
        names = table - self.unpack("<i", table)
        if 4 + 2 * slot >= self.unpack("<H", names):
            return 0
        offset = self.unpack("<H", names + 4 + 2 * slot)
        return table + offset if offset else 0

    def number(self, table: int, slot: int, form: str) -> int:
        """Return a number of a table, 0 if it is not there."""
        at = self._slot(table, slot)
        return self.unpack(form, at) if at else 0

    def table(self, table: int, slot: int) -> int | None:
        """Return the place of a table inside of a table, None if it is not there."""
        at = self._slot(table, slot)
        if not at:
            return None
        self._found(8)
        return at + self.unpack("<I", at)

    def vector(self, table: int, slot: int, width: int) -> tuple[int, int]:
        """Return place and length of a vector or text, whose items have *width* bytes."""
        at = self._slot(table, slot)
        if not at:
            return 0, 0
        at += self.unpack("<I", at)
        count = self.unpack("<I", at)
        self._found(4 + count * width)
        if count * width > len(self.data) - at - 4:
            raise struct.error
        return at + 4, count

    def tables(self, table: int, slot: int) -> list[int]:
        """Return the places of a vector's tables."""
        at, count = self.vector(table, slot, 4)
        self._found(8 * count)
        places = range(at, at + 4 * count, 4)
        return [place + self.unpack("<I", place) for place in places]

    def pairs(self, table: int, slot: int) -> None:
        """Count a vector of pairs of texts."""
        for pair in self.tables(table, slot):
            self.vector(pair, 0, 1)
            self.vector(pair, 1, 1)
