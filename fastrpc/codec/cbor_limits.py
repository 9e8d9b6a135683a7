"""Check CBOR before anything is built: depth, items, tags, keys.

cbor2 has limits of its own for some of this, and knows tags that make dates, patterns,
mails and references of what a peer says. A look at the heads first keeps all of
that away, and costs no memory.

Rules of the room:
  * nothing is stored but one number for each container that is open;
  * a count or length is compared with the bytes left before it is believed;
  * what passes is well formed, but for the insides of texts and times.
"""

from typing import Final, NoReturn

from fastrpc.errors import CodecError, TooLarge

#: Longest bignum: Python prints and reads no more than 4300 digits.
BIGNUM_MAX: Final = 1785

_NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _OTHER = range(1, 8)
_ENDLESS: Final = 31
#: Follows the five low bits 24 to 27: this many bytes of a number.
_WIDTHS: Final = {24: 1, 25: 2, 26: 4, 27: 8}
#: What may follow a tag: the whole head byte's major types.
_TAGS: Final = {
    0: (_TEXT,),
    1: (0, _NEGATIVE, _OTHER),
    2: (_BYTES,),
    3: (_BYTES,),
}
_WORDS: Final = range(20, 23)  # false, true, null
_FLOATS: Final = range(25, 28)


def check_cbor(data: bytes, max_depth: int, max_items: int) -> None:
    """Refuse CBOR that is malformed, too deep, too long or has strange tags.

    Items are the elements of all containers together; keys and values of a map count
    one each, as in msgpack.

    Raises:
        TooLarge: A limit is broken; the text names it.
        CodecError: It is not well formed, or holds what is not taken here.
    """
    _Scan(data, max_depth, max_items).run()


def _malformed(why: str) -> NoReturn:
    raise CodecError(f"CBOR is malformed: {why}")


class _Scan:
    """One walk over the heads of a payload."""

    __slots__ = ("at", "data", "items", "max_depth", "max_items", "open")

    def __init__(self, data: bytes, max_depth: int, max_items: int) -> None:
        self.data = data
        self.at = 0
        self.items = 0
        self.max_depth = max_depth
        self.max_items = max_items
        # What is left of each open container, and whether it is a map. Those that end
        # with a break begin at -1, or -2 for a map: keys come at even numbers.
        self.open: list[tuple[int, bool]] = []

    def run(self) -> None:
        """Walk to the end."""
        self._value(key=False)
        while self.open:
            left, is_map = self.open.pop()
            if left == 0:
                continue
            if left < 0 and self._at_break():
                if is_map and left % 2:
                    _malformed("a map ends after a key")
                self.at += 1
                continue
            self.open.append((left - 1, is_map))
            self._count(1)
            self._value(key=is_map and left % 2 == 0)
        if self.at != len(self.data):
            _malformed("something comes after the value")

    def _count(self, more: int) -> None:
        self.items += more
        if self.items > self.max_items:
            raise TooLarge(f"CBOR has more than {self.max_items} items (max_items)")

    def _at_break(self) -> bool:
        return self.at < len(self.data) and self.data[self.at] == 0xFF

    def _head(self) -> tuple[int, int, int]:
        """Return major type, low bits and number of the head here, and step over it."""
        data, at = self.data, self.at
        if at >= len(data):
            _malformed("it is cut short")
        major, low = data[at] >> 5, data[at] & 31
        self.at = at + 1
        if low < 24:
            return major, low, low
        width = _WIDTHS.get(low)
        if width is None:
            if low == _ENDLESS and _BYTES <= major <= _MAP:
                return major, low, -1
            _malformed("a head has no meaning")
        if at + 1 + width > len(data):
            _malformed("it is cut short")
        self.at = at + 1 + width
        return major, low, int.from_bytes(data[at + 1 : self.at], "big")

    def _value(self, *, key: bool) -> None:
        major, low, number = self._head()
        if major == _OTHER:
            _check_word(low)
        elif major in (_BYTES, _TEXT):
            self._string(major, number)
        elif major >= _ARRAY:
            if key:
                raise CodecError("a key of a CBOR map is no single value")
            if major == _TAG:
                self._tagged(number)
            else:
                self._container(number, is_map=major == _MAP)

    def _container(self, number: int, *, is_map: bool) -> None:
        if len(self.open) >= self.max_depth:
            raise TooLarge(f"CBOR is nested deeper than {self.max_depth} (max_depth)")
        left = number * 2 if is_map else number
        if left > len(self.data) - self.at:
            _malformed("a container is longer than what is left")
        if left > self.max_items - self.items:
            self._count(left)
        self.open.append((left, is_map))

    def _string(self, major: int, number: int) -> None:
        if number >= 0:
            if number > len(self.data) - self.at:
                _malformed("a text or bytes is longer than what is left")
            self.at += number
            return
        while not self._at_break():
            kind, _, number = self._head()
            if kind != major or number < 0:
                _malformed("a part of a text or bytes is something else")
            self._count(1)
            self._string(major, number)
        self.at += 1

    def _tagged(self, tag: int) -> None:
        allowed = _TAGS.get(tag)
        if allowed is None:
            raise CodecError("CBOR has a tag that is not taken; taken are 0, 1, 2 and 3")
        major, low, number = self._head()
        if major not in allowed or number < 0:
            _malformed("what follows a tag does not fit it")
        if major == _OTHER:
            if low not in _FLOATS:
                _malformed("what follows a tag does not fit it")
        elif major in (_BYTES, _TEXT):
            if major == _BYTES and number > BIGNUM_MAX:
                raise TooLarge(f"a CBOR bignum has more than {BIGNUM_MAX} bytes")
            self._string(major, number)


def _check_word(low: int) -> None:
    if low not in _WORDS and low not in _FLOATS:
        raise CodecError("CBOR has a simple value that is not taken")
