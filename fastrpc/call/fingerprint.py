"""Name the shape of a method by sixteen hexadecimal digits.

Two methods with one fingerprint understand each other's bytes: parameters have the
same names and kinds, and types the same structure. Names of classes, texts for
people and the values of defaults are left out, for nobody sees them on the wire.

Rules of the room:
  * nothing that differs between processes or versions of Python goes in;
  * the words that count are listed here, all others are passed over;
  * types that hold themselves have the fingerprint of the tree they unfold to.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

Schema = Mapping[str, Any]

#: Bytes of the SHA-256 that are kept.
SIZE: Final = 8

_PLAIN: Final = (
    "type", "format", "contentEncoding", "uniqueItems",
    "x-stream", "x-type", "x-dtype", "x-timezone",
    "minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties",
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "pattern",
)  # fmt: skip
_SORTED: Final = ("enum", "required", "x-omitted")
_ONE: Final = ("items", "additionalProperties", "x-key", "x-items")
#: What a reference begins with.
REF: Final = "#/$defs/"


def fingerprint(
    parameters: Iterable[tuple[str, str, bool, Schema]], result: Schema, defs: Mapping[str, Schema]
) -> str:
    """Return the fingerprint of a method.

    Args:
        parameters: Name, kind, whether it is required, and schema of each.
        result: Schema of the result.
        defs: What references in the schemas stand for.
    """
    listed = list(parameters)
    trees = _Trees(defs, [result, *(schema for *_, schema in listed)])
    told = [
        [kind, _wire_name(name, kind), required, trees.digest(schema)]
        for name, kind, required, schema in listed
    ]
    # Who is called by name only may stand in any order.
    named = sorted((item for item in told if item[0] == "keyword_only"), key=_text)
    ordered = [item for item in told if item[0] != "keyword_only"]
    return _digest([ordered + named, trees.digest(result)])[: 2 * SIZE]


def _wire_name(name: str, kind: str) -> str:
    """Return the name, unless nobody can say it."""
    return name if kind in ("positional", "keyword_only") else ""


class _Trees:
    """Digests of schemas, where a reference counts as what it stands for.

    Definitions that hold themselves get theirs round by round: each takes in those
    it refers to, until no round tells more of them apart than the one before.
    """

    def __init__(self, defs: Mapping[str, Schema], roots: Iterable[Schema]) -> None:
        self._defs = defs
        self._rounds: dict[str, str] = dict.fromkeys(_in_circles(roots, defs), "")
        self._known: dict[str, str] = {}
        apart = 0
        while len(set(self._rounds.values())) != apart:
            apart = len(set(self._rounds.values()))
            fresh = {name: _digest(self._form(defs[name])) for name in self._rounds}
            self._rounds, self._known = fresh, {}

    def digest(self, schema: Schema) -> str:
        """Return the digest of a schema."""
        form = self._form(schema)
        return str(form["$ref"]) if list(form) == ["$ref"] else _digest(form)

    def _definition(self, name: str) -> str:
        found = self._rounds.get(name) or self._known.get(name)
        if found is None and name not in self._rounds:
            found = self._known[name] = self.digest(self._defs[name])
        return found or ""

    def _form(self, schema: Schema) -> dict[str, Any]:
        """Return what counts of a schema, in one form only."""
        told: dict[str, Any] = {word: schema[word] for word in _PLAIN if word in schema}
        told |= {word: sorted(schema[word], key=_text) for word in _SORTED if word in schema}
        for word in _ONE:
            inner = schema.get(word)
            if inner is not None:
                told[word] = inner if isinstance(inner, bool) else self.digest(inner)
        if "$ref" in schema:
            told["$ref"] = self._definition(schema["$ref"].removeprefix(REF))
        if "anyOf" in schema:
            told["anyOf"] = sorted({self.digest(member) for member in schema["anyOf"]})
        if "prefixItems" in schema:
            told["prefixItems"] = [self.digest(item) for item in schema["prefixItems"]]
        if "properties" in schema:
            fields = schema["properties"].items()
            told["properties"] = {name: self.digest(item) for name, item in fields}
        return told


def _in_circles(roots: Iterable[Schema], defs: Mapping[str, Schema]) -> list[str]:
    """Return the definitions that hold themselves, of those that *roots* lead to."""
    return [name for name in reached(roots, defs) if name in reached([defs[name]], defs)]


def reached(roots: Iterable[Schema], defs: Mapping[str, Schema]) -> list[str]:
    """Return the names of all definitions that *roots* lead to."""
    found: dict[str, None] = {}
    waiting = [name for root in roots for name in references(root)]
    while waiting:
        name = waiting.pop(0)
        if name not in found:
            found[name] = None
            waiting += references(defs[name])
    return list(found)


def references(schema: Schema) -> list[str]:
    """Return the names of the definitions that *schema* itself refers to."""
    found: list[str] = []
    waiting: list[Any] = [schema]
    while waiting:
        part = waiting.pop()
        if "$ref" in part:
            found.append(part["$ref"].removeprefix(REF))
        waiting += parts(part)
    return found


def parts(schema: Schema) -> list[Schema]:
    """Return the schemas directly inside *schema*."""
    found = [schema[word] for word in _ONE if isinstance(schema.get(word), Mapping)]
    found += schema.get("anyOf", ())
    found += schema.get("prefixItems", ())
    found += schema.get("properties", {}).values()
    return found


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _digest(value: Any) -> str:
    return hashlib.sha256(_text(value).encode("ascii")).hexdigest()
