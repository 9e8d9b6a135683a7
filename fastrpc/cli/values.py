"""Turn words of a command line into call arguments, and results into JSON.

A command line has only text, a call has values; JSON is the bridge both ways.

Rules of the room:
  * a word that is not JSON is refused with the way to write it, never guessed;
  * every result has a JSON form, also those JSON has no type for;
  * nothing here prints or connects.
"""

import base64
import dataclasses
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from fastrpc.errors import ConfigError


class Arguments(NamedTuple):
    """The arguments of one call."""

    positional: list[object]
    keywords: dict[str, object]

    def __str__(self) -> str:
        """Write them as a Python call would, shortened to one line."""
        parts = [_short(value) for value in self.positional]
        parts += [f"{name}={_short(value)}" for name, value in self.keywords.items()]
        return ", ".join(parts)


def parse_arguments(
    words: Sequence[str], *, args_json: str | None = None, text: bool = False
) -> Arguments:
    """Return the arguments that *words* and *args_json* spell.

    Args:
        words: JSON values, `name=value` keywords, `@file` for a file's bytes.
        args_json: A JSON array of positional arguments or a JSON object of
            keyword ones, in place of words; "-" reads it from standard input.
        text: Take words that are not JSON as text.

    Raises:
        ConfigError: A word can't be understood; the message says which and how
            to write it.
    """
    if args_json is not None:
        if words:
            raise ConfigError("give the arguments either as words or with --args-json, not both")
        return _parse_whole(sys.stdin.read() if args_json == "-" else args_json)
    arguments = Arguments([], {})
    for word in words:
        name, equals, rest = word.partition("=")
        if equals and name.isidentifier():
            if name in arguments.keywords:
                raise ConfigError(f"argument {name!r} is given twice")
            arguments.keywords[name] = _parse_value(rest, text=text, where=f"{name}=")
        else:
            arguments.positional.append(_parse_value(word, text=text))
    return arguments


def parse_pairs(words: Iterable[str], option: str) -> dict[str, str]:
    """Return the `key=value` *words* of *option* as a dict."""
    pairs = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise ConfigError(f"{option} wants key=value, got {word!r}")
        pairs[key] = value
    return pairs


def _parse_value(word: str, *, text: bool, where: str = "") -> object:
    if word.startswith("@") and len(word) > 1:
        return _read_file(word[1:])
    try:
        return json.loads(word)
    except ValueError:
        if text:
            return word
    quoted = where + json.dumps(word, ensure_ascii=False)
    raise ConfigError(
        f"argument {where}{word} is not JSON; if it is text write '{quoted}', or give --text "
        "to take such words as they are"
    )


def _parse_whole(text: str) -> Arguments:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"--args-json is not JSON: {error}") from None
    if isinstance(value, list):
        return Arguments(value, {})
    if isinstance(value, dict):
        return Arguments([], value)
    raise ConfigError("--args-json wants an array (positional) or an object (keywords)")


def _read_file(name: str) -> bytes:
    if name == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise ConfigError(f"argument @{name}: {error.strerror or error}") from None


def _short(value: object, limit: int = 40) -> str:
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def plain(value: object) -> object:
    """Return *value* in types JSON has; what it lacks becomes text.

    Bytes become base64, dates ISO text, NaN and infinities null, and dataclasses
    objects; keys become text.
    """
    if isinstance(value, Enum):
        return plain(value.value)
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, Mapping):
        return {_key(key): plain(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Iterable):
        return [plain(item) for item in value]
    iso = getattr(value, "isoformat", None)
    return iso() if callable(iso) else str(value)


def _key(key: object) -> str:
    value = plain(key)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def to_json(value: object, *, indent: int | None = None) -> str:
    """Return *value* as JSON text: one line, or indented for people."""
    return json.dumps(plain(value), indent=indent, ensure_ascii=False, allow_nan=False)
