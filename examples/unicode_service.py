"""Serve Python's own Unicode database: about 150,000 characters with names.

    fastrpc serve examples/unicode_service.py:Unicode
    fastrpc describe 127.0.0.1:7000
    fastrpc call 127.0.0.1:7000 Unicode.named '"SNOWMAN"'
    fastrpc call 127.0.0.1:7000 Unicode.search '"black chess"' limit=3

The contract is the class: plain methods, annotated with plain dataclasses. All are
idempotent: to look twice does no harm, so a client may ask another instance when one
is lost. An index of all words in all names is built once, in under two seconds.
"""

import bisect
import functools
import sys
import time
import unicodedata
from array import array
from collections import defaultdict
from dataclasses import dataclass
from enum import IntEnum

import fastrpc

MAX_RESULTS = 200
MAX_TEXT = 1000
MIN_PREFIX = 2

# Not characters of their own: unassigned, for private use, and halves of pairs.
_NOT_SERVED = {"Cn", "Co", "Cs"}

CATEGORIES = {
    "Lu": "uppercase letter",
    "Ll": "lowercase letter",
    "Lt": "titlecase letter",
    "Lm": "modifier letter",
    "Lo": "other letter",
    "Mn": "nonspacing mark",
    "Mc": "spacing mark",
    "Me": "enclosing mark",
    "Nd": "decimal digit",
    "Nl": "letter number",
    "No": "other number",
    "Pc": "connector punctuation",
    "Pd": "dash",
    "Ps": "opening punctuation",
    "Pe": "closing punctuation",
    "Pi": "opening quote",
    "Pf": "closing quote",
    "Po": "other punctuation",
    "Sm": "mathematical symbol",
    "Sc": "currency symbol",
    "Sk": "modifier symbol",
    "So": "other symbol",
    "Zs": "space",
    "Zl": "line separator",
    "Zp": "paragraph separator",
    "Cc": "control character",
    "Cf": "format character",
}


class Code(IntEnum):
    """Codes of the errors this service raises."""

    UNKNOWN_NAME = 1
    NOT_ONE_CHARACTER = 2
    NOT_ASSIGNED = 3
    OUT_OF_RANGE = 4
    NO_WORDS = 5


def refusal(code: Code, text: str) -> fastrpc.RpcError:
    """Return the error that tells a caller what was wrong."""
    return fastrpc.RpcError(code.value, text)


@dataclass(frozen=True, slots=True)
class Character:
    """One character and its properties.

    Attributes:
        char: The character.
        code: Its number, such as "U+2603".
        name: Its name; control characters have none and get "<control>".
        category: Its general category in words.
        value: Its number, if it stands for one.
        decomposition: What it is made of, as code points, if anything.
        mirrored: Whether it is mirrored in right-to-left text.
        width: "wide", "narrow" or "ambiguous" in East Asian text.
        utf8: Its bytes in UTF-8.
    """

    char: str
    code: str
    name: str
    category: str
    value: float | None
    decomposition: str
    mirrored: bool
    width: str
    utf8: bytes


@dataclass(frozen=True, slots=True)
class Found:
    """The first characters that match, and how many there are in all."""

    total: int
    characters: list[Character]


@dataclass(frozen=True, slots=True)
class About:
    """What is served here."""

    unicode_version: str
    characters: int
    words: int
    built_in: float


_WIDTHS = {"W": "wide", "F": "wide", "A": "ambiguous"}


@functools.lru_cache(maxsize=4096)  # texts use few characters again and again
def describe(code: int) -> Character:
    """Return the character with the number *code*."""
    char = chr(code)
    return Character(
        char=char,
        code=f"U+{code:04X}",
        name=unicodedata.name(char, "<control>"),
        category=CATEGORIES[unicodedata.category(char)],
        value=unicodedata.numeric(char, None),
        decomposition=unicodedata.decomposition(char),
        mirrored=bool(unicodedata.mirrored(char)),
        width=_WIDTHS.get(unicodedata.east_asian_width(char), "narrow"),
        utf8=char.encode(),
    )


def is_served(char: str) -> bool:
    """Tell whether *char* is an assigned character."""
    return unicodedata.category(char) not in _NOT_SERVED


class Unicode:
    """Python's Unicode database."""

    def __init__(self) -> None:
        started = time.perf_counter()
        characters = 0
        index: defaultdict[str, array[int]] = defaultdict(lambda: array("I"))
        name_of, category_of = unicodedata.name, unicodedata.category
        for code in range(sys.maxunicode + 1):
            char = chr(code)
            if category_of(char) in _NOT_SERVED:
                continue
            characters += 1
            for word in name_of(char, "CONTROL").replace("-", " ").split():
                index[word].append(code)
        self._index = dict(index)
        self._words = sorted(index)
        self._about = About(
            unicode_version=unicodedata.unidata_version,
            characters=characters,
            words=len(index),
            built_in=round(time.perf_counter() - started, 3),
        )

    @fastrpc.rpc(idempotent=True)
    def about(self) -> About:
        """Return how much there is."""
        return self._about

    @fastrpc.rpc(idempotent=True)
    def character(self, char: str) -> Character:
        """Return the properties of one character."""
        if len(char) != 1:
            raise refusal(
                Code.NOT_ONE_CHARACTER, f"expected one character, got {len(char)}: {char[:20]!r}"
            )
        if not is_served(char):
            raise refusal(Code.NOT_ASSIGNED, f"U+{ord(char):04X} is not assigned")
        return describe(ord(char))

    @fastrpc.rpc(idempotent=True)
    def named(self, name: str) -> Character:
        """Return the character with this name or alias; case doesn't matter."""
        try:
            found = unicodedata.lookup(name)
        except KeyError:
            found = ""
        if len(found) != 1:  # some names stand for sequences
            raise refusal(Code.UNKNOWN_NAME, f"no character is called {name[:80]!r}")
        return describe(ord(found))

    @fastrpc.rpc(idempotent=True)
    def text(self, text: str) -> list[Character]:
        """Return the characters of a short text, each once, in order of appearance."""
        if len(text) > MAX_TEXT:
            raise refusal(
                Code.OUT_OF_RANGE, f"at most {MAX_TEXT} characters at once, got {len(text)}"
            )
        return [describe(ord(char)) for char in dict.fromkeys(text) if is_served(char)]

    @fastrpc.rpc(idempotent=True)
    def search(self, words: str, limit: int = 20) -> Found:
        """Return characters whose name has all of the words.

        A word that ends with * stands for all that begin with it: "chess kn*".
        """
        if not 1 <= limit <= MAX_RESULTS:
            raise refusal(Code.OUT_OF_RANGE, f"limit must be 1 to {MAX_RESULTS}, got {limit}")
        wanted = words.upper().replace("-", " ").split()
        if not wanted:
            raise refusal(Code.NO_WORDS, "give at least one word")
        matches = sorted((self._having(word) for word in wanted), key=len)
        codes = sorted(set.intersection(*matches))
        return Found(total=len(codes), characters=[describe(code) for code in codes[:limit]])

    def _having(self, word: str) -> set[int]:
        if not word.endswith("*"):
            return set(self._index.get(word, ()))
        start = word.rstrip("*")
        if len(start) < MIN_PREFIX:
            raise refusal(
                Code.OUT_OF_RANGE, f"at least {MIN_PREFIX} letters before the *, got {word!r}"
            )
        at = bisect.bisect_left(self._words, start)
        found: set[int] = set()
        while at < len(self._words) and self._words[at].startswith(start):
            found.update(self._index[self._words[at]])
            at += 1
        return found

    @fastrpc.rpc(idempotent=True)
    async def block(self, first: int, count: int = 128) -> list[Character]:
        """Return the assigned characters among *count* numbers from *first* on."""
        if not 0 <= first <= sys.maxunicode:
            raise refusal(Code.OUT_OF_RANGE, f"first must be 0 to {sys.maxunicode}, got {first}")
        if not 1 <= count <= MAX_RESULTS:
            raise refusal(Code.OUT_OF_RANGE, f"count must be 1 to {MAX_RESULTS}, got {count}")
        end = min(first + count, sys.maxunicode + 1)
        return [describe(code) for code in range(first, end) if is_served(chr(code))]


if __name__ == "__main__":
    server = fastrpc.Server()
    server.register(Unicode())
    fastrpc.run(server, "tcp://127.0.0.1:7000")
