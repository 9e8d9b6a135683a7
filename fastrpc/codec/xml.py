"""Speak XML with Python's own expat: plain elements that say what they hold.

    <value t="map"><id t="int">5</id><tags t="list"><item>a</item></tags></value>

An element is text unless `t` says otherwise: null, bool, int, float, bytes, text64, list
or map. In a map the element's name is the key; one that is no name is in the attributes
`key` and `k` of an `entry`.

Rules of the room:
  * a DOCTYPE, a comment, CDATA and a processing instruction are refused unread, so there
    are no entities, and every `<` is an element's: they can be counted beforehand;
  * texts tell places, never what was sent.
"""

import base64
import binascii
import math
import re
from collections.abc import Callable
from typing import Any, Final, NoReturn
from xml.parsers import expat

from fastrpc.codec.engine import built_in
from fastrpc.codec.json_limits import DIGITS_MAX
from fastrpc.codec.limited import Limited
from fastrpc.errors import CodecError, TooLarge

#: Serializer number of XML: one of those that HELLO names for a connection.
XML: Final = 29

_ENTRY: Final = "entry"
_ATTRIBUTES: Final = frozenset(("t", "key", "k"))
# A tag with one attribute more than there are; expat would take any number.
_CROWDED: Final = re.compile(
    rb"""<[^\s<>/="']++(?:\s++[^\s<>/="']++\s*+=\s*+(?:"[^"<]*+"|'[^'<]*+')){4}"""
)
_NAME: Final = re.compile(r"(?![xX][mM][lL])[A-Za-z_][A-Za-z0-9_.-]*")
_UNFIT: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SPACE: Final = frozenset(" \t\r\n")
_ESCAPES: Final = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\r": "&#13;"}
)
_SPACES: Final = str.maketrans({"\n": "&#10;", "\t": "&#9;"})
_INT: Final = re.compile(rf"-?[0-9]{{1,{DIGITS_MAX}}}")
_FLOAT: Final = re.compile(r"-?[0-9]{1,400}(?:\.[0-9]{1,400})?(?:[eE][+-]?[0-9]{1,4})?")
_WORDS: Final = {"NaN": math.nan, "INF": math.inf, "-INF": -math.inf}
_BOOLS: Final = {"true": True, "false": False}
_INT64: Final = range(-(2**63), 2**64)


class XmlCodec(Limited):
    """Speak XML, with every type that msgpack has.

    Args:
        max_depth: Deepest nesting of lists and maps.
        max_items: Most elements of a payload, all lists and maps together.
    """

    name = "xml"
    serializer = XML

    def encode(self, value: object, /) -> bytes:
        """Return *value* as XML in UTF-8."""
        out: list[str] = []
        _write(out, "value", "", built_in(value))
        return "".join(out).encode()

    def decode(self, data: bytes, /) -> object:
        """Return the value in *data*, after checking its limits."""
        data = bytes(data)
        _check(data, self.max_items)
        reading = _Reading(self.max_depth, self.max_items)
        # The encoding is ours to say: whatever a declaration says, it is UTF-8.
        parser = expat.ParserCreate("utf-8")
        parser.buffer_text = True
        parser.StartElementHandler = reading.start
        parser.EndElementHandler = reading.end
        parser.CharacterDataHandler = reading.text
        parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = _refuse
        try:
            parser.Parse(data, True)
        except expat.ExpatError as error:
            place = f"line {error.lineno}, column {error.offset}"
            raise CodecError(f"XML is malformed at {place}") from None
        return reading.value


def _write(out: list[str], tag: str, more: str, value: Any) -> None:
    """Write one element; *more* is the attributes of its key."""
    kind, text = _leaf(value)
    if kind is None:
        kind = "list" if isinstance(value, list | tuple) else "map"
        out.append(f'<{tag}{more} t="{kind}">')
        if kind == "list":
            for item in value:
                _write(out, "item", "", item)
        else:
            for key, item in value.items():
                _write(out, *_key(key), item)
        out.append(f"</{tag}>")
    elif kind == "null":
        out.append(f'<{tag}{more} t="null"/>')
    else:
        said = f' t="{kind}"' if kind else ""
        out.append(f"<{tag}{more}{said}>{text}</{tag}>")


def _key(key: Any) -> tuple[str, str]:
    """Return the name of an element for a key, and its attributes."""
    if type(key) is str and key != _ENTRY and _NAME.fullmatch(key):
        return key, ""
    kind, text = _leaf(key)
    if kind is None:
        raise CodecError(f"keys of type {type(key).__name__} can't be sent as XML")
    said = f' k="{kind}"' if kind else ""
    return _ENTRY, f' key="{text.translate(_SPACES)}"{said}'


def _leaf(value: Any) -> tuple[str | None, str]:
    """Return kind and text of a single value; the kind of a list or map is None."""
    if value is None:
        return "null", ""
    if value is True or value is False:
        return "bool", "true" if value else "false"
    if isinstance(value, str):
        if _UNFIT.search(value):
            return "text64", base64.b64encode(value.encode()).decode()
        return "", value.translate(_ESCAPES)
    if isinstance(value, int):
        if value.bit_length() > DIGITS_MAX * 3:
            raise CodecError(f"an integer of more than {DIGITS_MAX} digits can't be sent as XML")
        return "int", str(value)
    if isinstance(value, float):
        return "float", _float_text(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return "bytes", base64.b64encode(value).decode()
    return None, ""


def _float_text(value: float) -> str:
    if math.isfinite(value):
        return repr(value)
    return "NaN" if math.isnan(value) else "INF" if value > 0 else "-INF"


def _refuse(*_: object) -> NoReturn:
    raise CodecError("XML with a DOCTYPE, a comment, CDATA or an instruction is not taken")


def _malformed(why: str) -> NoReturn:
    raise CodecError(f"XML does not fit: {why}")


def _check(data: bytes, max_items: int) -> None:
    """Refuse what is never taken, and too many elements, before anything is parsed."""
    # expat believes the byte order mark of UTF-16 whatever it was told. Every `<` of
    # that has a NUL beside it, and UTF-8 has no NUL that XML would take.
    if b"\x00" in data:
        raise CodecError("XML is not taken but in UTF-8 without NUL")
    if b"<!" in data or data.find(b"<?", 1) >= 0:
        _refuse()
    if data.count(b"<") - data.count(b"</") > max_items + 2:  # the root, the declaration
        raise TooLarge(f"XML has more than {max_items} items (max_items)")
    if _CROWDED.search(data):
        _malformed("an element has more than three attributes")


class _Reading:
    """One payload on its way from elements to values."""

    __slots__ = ("items", "max_depth", "max_items", "open", "value")

    def __init__(self, max_depth: int, max_items: int) -> None:
        self.max_depth = max_depth
        self.max_items = max_items
        self.items = 0
        self.value: Any = None
        # Of each open element: its key, its kind, and what is in it so far.
        self.open: list[tuple[Any, str, Any]] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """Open an element."""
        if not attributes.keys() <= _ATTRIBUTES:
            _malformed("an attribute is not known")
        key: Any = None
        if self.open:
            _, outer, inside = self.open[-1]
            if outer == "list":
                self._count(1)
            elif outer == "map":
                self._count(2)
                key = _key_of(tag, attributes)
                if key in inside:
                    _malformed("a key comes twice")
            else:
                _malformed("an element is inside a single value")
        kind = attributes.get("t", "")
        if kind in _CONTAINERS:
            if len(self.open) >= self.max_depth:
                raise TooLarge(f"XML is nested deeper than {self.max_depth} (max_depth)")
            self.open.append((key, kind, _CONTAINERS[kind]()))
        elif kind in _LEAVES:
            self.open.append((key, kind, []))
        else:
            _malformed("an element is of a kind that is not known")

    def text(self, text: str) -> None:
        """Take text of the open element; between elements there is only space."""
        _, kind, inside = self.open[-1]
        if kind not in _CONTAINERS:
            inside.append(text)
        elif not _SPACE.issuperset(text):
            _malformed("text stands between elements")

    def end(self, tag: str) -> None:
        """Close an element and put its value where it belongs."""
        key, kind, inside = self.open.pop()
        value = inside if kind in _CONTAINERS else _LEAVES[kind]("".join(inside))
        if not self.open:
            self.value = value
            return
        _, outer, around = self.open[-1]
        if outer == "list":
            around.append(value)
        else:
            around[key] = value

    def _count(self, more: int) -> None:
        self.items += more
        if self.items > self.max_items:
            raise TooLarge(f"XML has more than {self.max_items} items (max_items)")


def _key_of(tag: str, attributes: dict[str, str]) -> Any:
    if "key" not in attributes:
        return tag
    key = _LEAVES.get(attributes.get("k", ""), _no_kind)(attributes["key"])
    if type(key) is int and key not in _INT64:  # longer ones could be made to collide
        _malformed("a key is an integer of more than 64 bits")
    return key


def _no_kind(text: str) -> NoReturn:
    _malformed("a key is of a kind that is not known")


def _null(text: str) -> None:
    if text:
        _malformed("null has text")


def _bool(text: str) -> bool:
    value = _BOOLS.get(text)
    if value is None:
        _malformed("a bool is neither true nor false")
    return value


def _int(text: str) -> int:
    if not _INT.fullmatch(text):
        _malformed(f"an int is no number of up to {DIGITS_MAX} digits")
    return int(text)


def _float(text: str) -> float:
    if text in _WORDS:
        return _WORDS[text]
    if not _FLOAT.fullmatch(text):
        _malformed("a float is no number")
    value = float(text)
    if math.isinf(value):
        _malformed("a float is out of range")
    return value


def _bytes(text: str) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        _malformed("bytes are no base64")


def _text64(text: str) -> str:
    try:
        return _bytes(text).decode()
    except UnicodeDecodeError:
        _malformed("text is no UTF-8")


_CONTAINERS: Final[dict[str, Callable[[], Any]]] = {"list": list, "map": dict}
_LEAVES: Final[dict[str, Callable[[str], Any]]] = {
    "": str,
    "null": _null,
    "bool": _bool,
    "int": _int,
    "float": _float,
    "bytes": _bytes,
    "text64": _text64,
}
