"""Check the depth and the number of items of JSON before anything is built.

msgpack payloads are checked where the frames are split; JSON has no lengths in
front, so its check is here.

Rules of the room:
  * nothing is stored: memory does not grow with what a peer sends;
  * the work stops at the limit, not at the end of the payload.
"""

import re
from typing import Final

from fastrpc.errors import TooLarge

# A mark that counts, a whole string, or a number or word. The possessive quantifiers
# and the missing need for a closing quote keep it linear: it never goes back over what
# it has seen.
_TOKEN = re.compile(rb'[\[\]{},:]|"(?:[^"\\]++|\\.)*+"?|[^\s\[\]{},:"]++', re.DOTALL)

# Reading a number takes time that grows with the square of its digits.
DIGITS_MAX: Final = 512
# From the first digit of a run only: else each of them is begun at anew.
_LONG = re.compile(rb"(?<![0-9])[0-9]{%d}" % (DIGITS_MAX + 1))

# Scalars that no container accounts for end the scan: such text is no JSON anyway.
_LOOSE_MAX = 16


def check_json(data: bytes, max_depth: int, max_items: int) -> None:
    """Refuse JSON that is nested too deeply or has too many items.

    Items are the elements of all containers together; keys and values of an
    object count one each, as in msgpack. Malformed text passes: the decoder will
    say what is wrong with it.

    Raises:
        TooLarge: A limit is broken; the text names it.
    """
    if len(data) > DIGITS_MAX and _LONG.search(data):
        _check_numbers(data)
    if len(data) <= min(max_depth, max_items):
        return
    opened = data.count(b"[") + data.count(b"{")
    # Each element but the first of a container has a comma before it, and a value
    # of an object a colon.
    marks = opened + data.count(b",") + data.count(b":")
    if opened <= max_depth and marks <= max_items:
        return
    _scan(data, max_depth, max_items)


def _check_numbers(data: bytes) -> None:
    """Refuse numbers that are too long; texts may hold as many digits as they like."""
    for match in _TOKEN.finditer(data):
        if match[0][:1] != b'"' and _LONG.search(match[0]):
            raise TooLarge(f"a JSON number has more than {DIGITS_MAX} digits")


def _scan(data: bytes, max_depth: int, max_items: int) -> None:
    depth = items = scalars = 0
    fresh = False  # just after an opening bracket: an element makes it count
    for match in _TOKEN.finditer(data):
        token = match[0][:1]
        if fresh and token not in (b"]", b"}"):
            items += 1
        fresh = False
        if token in (b"[", b"{"):
            depth += 1
            fresh = True
            if depth > max_depth:
                raise TooLarge(f"JSON is nested deeper than {max_depth} (max_depth)")
        elif token in (b"]", b"}"):
            depth -= 1
        elif token in (b",", b":"):
            items += 1
        else:
            scalars += 1
            if scalars > items + _LOOSE_MAX:
                return
        if items > max_items:
            raise TooLarge(f"JSON has more than {max_items} items (max_items)")
