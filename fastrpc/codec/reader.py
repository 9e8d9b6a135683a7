"""Hold what typed conversion is made of: readers, and how a codec's values look.

Rules of the room:
  * a reader is built once per type and has no state of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from fastrpc.codec.contract import Mismatch


class Group(Enum):
    """What a value is on the wire; a union may hold one type of each.

    The order is that of a union's members in errors, and of who is asked first:
    an int goes to an int, else to a float, else to a Decimal.
    """

    BOOL = "bool"
    INT = "int-like"
    FLOAT = "float"
    TEXT = "str-like"
    ARRAY = "list-like"
    MAP = "dict-like"
    NULL = "None"


@dataclass(slots=True, eq=False)
class Reader:
    """Turn decoded values into one annotated type.

    Attributes:
        name: The type as errors call it.
        group: What it is on the wire; None if it takes anything.
        takes: Types of the decoded values it can be asked to read.
        read: Give it a decoded value, get the typed one or a `Mismatch`.
        weak: Whoever chooses the values also chooses their hashes.
        own: Only this reader reads it right, even where msgspec could.
    """

    name: str
    group: Group | None
    takes: tuple[type, ...]
    read: Callable[[Any], Any]
    weak: bool = False
    own: bool = False


@dataclass(frozen=True, slots=True)
class Dialect:
    """What the values of one codec look like before they have their types.

    Attributes:
        text_only: As in JSON: bytes are base64 text, keys of maps are text.
        big_ints: Integers have no largest value, as in JSON.
        native: Values may have their final types already, as with pickle.
        opaque: Asked about classes and unions nobody here knows; it returns a
            reader or None.
        constrain: Given an Annotated type and the reader of what is annotated; it
            returns the reader to use.
    """

    text_only: bool = False
    big_ints: bool = False
    native: bool = False
    opaque: Callable[[Any], Reader | None] = lambda wanted: None
    constrain: Callable[[Any, Reader], Reader] = lambda wanted, reader: reader


def kind(value: object) -> str:
    """Return the type of a decoded value as errors call it."""
    return "None" if value is None else type(value).__name__


def expected(name: str, value: object) -> Mismatch:
    """Return the error for a *value* of a wrong type."""
    return Mismatch(f"expected {name}, got {kind(value)}")


def malformed(name: str, value: object) -> Mismatch:
    """Return the error for a *value* of a right type that is not well formed.

    What was sent is not repeated: it may be a secret, and texts get into logs.
    """
    return Mismatch(f"expected {name}, got {kind(value)} of another form")
