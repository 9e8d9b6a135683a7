"""Cut JSON-RPC messages apart without reading what they carry.

The members of a message come out as the bytes they were, so arguments and results pass on
unread, and an id goes back exactly as it came.

Rules of the room:
  * depth and items are counted before anything is cut;
  * what is cut is JSON in UTF-8, checked to its end.
"""

import json
from typing import TYPE_CHECKING, Any, Final

from fastrpc.codec.json_limits import check_json
from fastrpc.wire import Limits

#: Nesting that an envelope and a batch add to what they carry.
ENVELOPE_DEPTH: Final = 3

#: Items that the envelope of one message has: names and values of its members.
ENVELOPE_ITEMS: Final = 16

#: The members that mean something.
MEMBERS: Final = ("jsonrpc", "method", "params", "id", "result", "error")

#: What is not there is empty; of a name that stands twice, the last counts.
Members = dict[str, bytes]


class MalformedError(ValueError):
    """The text is no JSON; who reads it answers so, and nobody else sees this."""


def check(data: bytes, limits: Limits, messages: int) -> None:
    """Refuse what is no UTF-8, or over a limit.

    Args:
        data: One message, or a batch.
        limits: Depth and items of what each message carries.
        messages: How many a batch may have.

    Raises:
        MalformedError: It is no UTF-8.
        TooLarge: It is over a limit; the text names it.
    """
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError as error:
            raise MalformedError(f"no UTF-8 at byte {error.start}") from None
    items = limits.max_items + ENVELOPE_ITEMS * messages
    check_json(data, limits.max_depth + ENVELOPE_DEPTH, items)


def members_plainly(data: bytes) -> Members:
    """Cut an object into the members that mean something.

    Raises:
        MalformedError: It is no JSON.
    """
    found = dict.fromkeys(MEMBERS, b"")
    text = data.decode()
    at = _skip(text, _skip(text, 0) + 1)
    more = text[at : at + 1] != "}"
    while more:
        if text[at : at + 1] != '"':
            raise MalformedError(f"a name was expected at character {at}")
        end = _value(text, at)
        name = json.loads(text[at:end])
        at = _skip(text, end)
        if text[at : at + 1] != ":":
            raise MalformedError(f"a colon was expected at character {at}")
        at = _skip(text, at + 1)
        end = _value(text, at)
        if name in found:
            found[name] = text[at:end].encode()
        at, more = _next(text, end, "}")
    _check_end(text, at + 1)
    return found


def elements_plainly(data: bytes) -> list[bytes]:
    """Cut an array into its elements.

    Raises:
        MalformedError: It is no JSON.
    """
    found: list[bytes] = []
    text = data.decode()
    at = _skip(text, _skip(text, 0) + 1)
    more = text[at : at + 1] != "]"
    while more:
        end = _value(text, at)
        found.append(text[at:end].encode())
        at, more = _next(text, end, "]")
    _check_end(text, at + 1)
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


_SCAN: Final = json.JSONDecoder(parse_constant=_refuse_constant).scan_once  # type: ignore[attr-defined]
_SPACE: Final = " \t\r\n"


def _skip(text: str, at: int) -> int:
    while text[at : at + 1] and text[at] in _SPACE:
        at += 1
    return at


def _value(text: str, at: int) -> int:
    """Return where the value that begins at *at* ends."""
    try:
        value, end = _SCAN(text, at)
        if "\\u" in text[at:end]:  # which may stand for half a character
            json.dumps(value, ensure_ascii=False).encode()
    except StopIteration:
        raise MalformedError(f"a value was expected at character {at}") from None
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"malformed: {error}") from None
    return int(end)


def _check_end(text: str, at: int) -> None:
    at = _skip(text, at)
    if at < len(text):
        raise MalformedError(f"something follows at character {at}")


def _next(text: str, at: int, end: str) -> tuple[int, bool]:
    """Return where the next element begins, or the container ends, and whether it goes on."""
    at = _skip(text, at)
    mark = text[at : at + 1]
    if mark not in (",", end) or not mark:
        raise MalformedError(f"a comma was expected at character {at}")
    return (_skip(text, at + 1), True) if mark == "," else (at, False)


if TYPE_CHECKING:
    members, elements = members_plainly, elements_plainly
else:
    try:
        import msgspec
    except ModuleNotFoundError:
        members, elements = members_plainly, elements_plainly
    else:
        _cut_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode
        _cut_members = msgspec.json.Decoder(
            msgspec.defstruct("Message", [(name, msgspec.Raw, msgspec.Raw()) for name in MEMBERS])
        ).decode

        def members(data: bytes) -> Members:
            """Cut as `members_plainly` does, with msgspec."""
            try:
                cut = _cut_members(data)
            except (msgspec.DecodeError, RecursionError) as error:
                raise MalformedError(str(error)) from None
            return {name: bytes(getattr(cut, name)) for name in MEMBERS}

        def elements(data: bytes) -> list[bytes]:
            """Cut as `elements_plainly` does, with msgspec."""
            try:
                return [bytes(part) for part in _cut_elements(data)]
            except (msgspec.DecodeError, RecursionError) as error:
                raise MalformedError(str(error)) from None
