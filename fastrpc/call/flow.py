"""Find where values of one schema do not fit another, or fit with room to spare.

Values flow from a writer to a reader: arguments from an old caller to a new service,
results from a new service to an old caller. One walk serves both; only what its
findings are called differs.

Rules of the room:
  * a finding that breaks is reported whenever a codec may refuse a value, and the
    tests send values through the codecs to see that it is so;
  * what can't be judged counts as refused;
  * both schemas went through `reading`, or were written here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Any, Final

from fastrpc.call.fingerprint import REF
from fastrpc.call.schema import Schema
from fastrpc.errors import ConfigError

#: Most pairs of schemas that one comparison may visit.
MAX_PAIRS: Final = 200_000

#: Most members that a union may have, those of unions inside it included.
MAX_MEMBERS: Final = 1_000


class Finding(Enum):
    """What the walk can find; the first of two is the one that breaks."""

    TYPE_UNREADABLE = auto()
    TYPE_ROOMIER = auto()
    CHOICE_UNREADABLE = auto()
    CHOICE_ROOMIER = auto()
    LIMIT_UNREADABLE = auto()
    LIMIT_ROOMIER = auto()
    LENGTH_UNREADABLE = auto()
    LENGTH_ROOMIER = auto()
    FIELD_REFUSED = auto()
    FIELD_IGNORED = auto()
    FIELD_NEEDED = auto()
    FIELD_FILLED = auto()
    FIELD_MAY_LACK = auto()
    FIELD_HAS_DEFAULT = auto()
    FIELD_ALWAYS_THERE = auto()
    STREAM_CHANGED = auto()


BREAKING: Final = frozenset(
    {
        Finding.TYPE_UNREADABLE,
        Finding.CHOICE_UNREADABLE,
        Finding.LIMIT_UNREADABLE,
        Finding.LENGTH_UNREADABLE,
        Finding.FIELD_REFUSED,
        Finding.FIELD_NEEDED,
        Finding.FIELD_MAY_LACK,
        Finding.STREAM_CHANGED,
    }
)


@dataclass(frozen=True, slots=True)
class Found:
    """One finding: what, where inside, and the words for the writer's and reader's side."""

    finding: Finding
    where: str
    writer: str
    reader: str


# What readers take beside their own kind.
_TAKES: Final[dict[str, frozenset[str]]] = {
    "string": frozenset({"date", "time", "duration", "uuid", "decimal"}),
    "number": frozenset({"integer"}),
    "decimal": frozenset({"integer", "number"}),
}
# Kinds whose values can always be in a set.
_HASHABLE: Final = frozenset(
    {"null", "boolean", "integer", "number", "string", "bytes", "date-time"}
    | {"date", "time", "duration", "uuid", "decimal"}
)
_LOWER: Final = ("minimum", "exclusiveMinimum", "minLength", "minProperties")
_UPPER: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxProperties")
_EXACT: Final = ("multipleOf", "pattern", "x-timezone")
_NUMBERS: Final = (
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
)  # fmt: skip
_LIMITED: Final[dict[str, tuple[str, ...]]] = {
    "integer": _NUMBERS,
    "number": _NUMBERS,
    "string": ("minLength", "maxLength", "pattern", "x-timezone"),
    "array": ("minItems", "maxItems"),
    "object": ("minProperties", "maxProperties"),
}
_LIMITS: Final = tuple(word for words in _LIMITED.values() for word in words)
_KEYS: Final[Schema] = {"type": "string"}


def kind_of(schema: Schema) -> str:
    """Return what a schema without reference and union is on the wire."""
    if schema.get("x-stream"):
        return "stream"
    if "x-type" in schema:
        return f"{schema['x-type']}[{schema.get('x-dtype', '')}]"
    kind = schema.get("type", "any")
    if kind != "string":
        return str(kind)
    return "bytes" if "contentEncoding" in schema else str(schema.get("format", "string"))


@dataclass(slots=True)
class Walk:
    """Compare what is written with what is read.

    Attributes:
        writer_defs: What references on the writer's side stand for.
        reader_defs: What references on the reader's side stand for.
        free: Whoever writes may leave out what is not required, as a caller may; if
            not, only what is marked `x-omitted`, as a service does.
    """

    writer_defs: Mapping[str, Schema]
    reader_defs: Mapping[str, Schema]
    free: bool
    # What was found inside two schemas, which are told apart by being other objects;
    # nothing while they are being compared further up.
    _known: dict[tuple[int, int], list[Found]] = field(default_factory=dict)
    # As long as they are told apart, they must not make room for others.
    _kept: list[object] = field(default_factory=list)
    _pairs: int = 0

    def compare(self, writer: Schema, reader: Schema, where: str = "") -> list[Found]:
        """Return what there is to say about values of *writer* that *reader* reads."""
        self._count(1)
        return self._unions(writer, reader, where)

    def _count(self, pairs: int) -> None:
        self._pairs += pairs
        if self._pairs > MAX_PAIRS:
            raise ConfigError("the contracts are too large to compare")

    def _unions(self, writer: Schema, reader: Schema, where: str) -> list[Found]:
        writers = members(writer, self.writer_defs)
        readers = members(reader, self.reader_defs)
        self._kept.append((writers, readers))
        if any(kind_of(item) == "any" for item in readers):
            exact = any(kind_of(item) == "any" for item in writers)
            return [] if exact else [Found(Finding.TYPE_ROOMIER, where, text(writer), "anything")]
        found: list[Found] = []
        met: set[int] = set()
        several = len(writers) > 1 or len(readers) > 1
        for item in writers:
            index, inner = self._best(item, readers, where)
            if index < 0:
                lost = Found(Finding.CHOICE_UNREADABLE, where, text(item), "")
                other = Found(Finding.TYPE_UNREADABLE, where, text(item), text(reader))
                found.append(lost if several else other)
            met.add(index)
            found += inner
        found += [
            Found(Finding.CHOICE_ROOMIER, where, "", text(item))
            for index, item in enumerate(readers)
            if index not in met and (several or not found)
        ]
        return found

    def _best(self, item: Schema, readers: list[Schema], where: str) -> tuple[int, list[Found]]:
        """Return which reader takes *item*, -1 for none, and what there is to say."""
        best: tuple[int, list[Found]] = (-1, [])
        weight = None
        self._count(len(readers))
        for index, reader in enumerate(readers):
            if not _takes(kind_of(reader), kind_of(item)):
                continue
            inner = self._one(item, reader, where)
            breaking = sum(found.finding in BREAKING for found in inner)
            if weight is None or (breaking, len(inner)) < weight:
                best, weight = (index, inner), (breaking, len(inner))
        return best

    def _one(self, writer: Schema, reader: Schema, where: str) -> list[Found]:
        found: list[Found] = []
        kind = kind_of(writer)
        if kind != kind_of(reader):
            found.append(Found(Finding.TYPE_ROOMIER, where, text(writer), text(reader)))
        found += self._limits(writer, reader, where) + _choices(writer, reader, where)
        if kind == "stream":
            found += self.compare(writer["items"], reader["items"], _inside(where, "an item"))
        elif kind in ("array", "object"):
            found += self._within(writer, reader, where)
        return found

    def _within(self, writer: Schema, reader: Schema, where: str) -> list[Found]:
        key = id(writer), id(reader)
        if key not in self._known:
            self._known[key] = []
            look = self._arrays if writer["type"] == "array" else self._objects
            self._known[key] = look(writer, reader, "")
        found = self._known[key]
        self._count(len(found))
        return [replace(item, where=_inside(where, item.where)) for item in found]

    # Limits

    def _limits(self, writer: Schema, reader: Schema, where: str) -> list[Found]:
        found = []
        for words, sign in ((_LOWER, 1), (_UPPER, -1), (_EXACT, 0)):
            for word in words:
                mine, theirs = writer.get(word), reader.get(word)
                if mine == theirs:
                    continue
                if theirs is None or (mine is not None and sign and mine * sign > theirs * sign):
                    what = Finding.LIMIT_ROOMIER
                else:
                    what = Finding.LIMIT_UNREADABLE
                found.append(Found(what, where, _limit(word, mine), _limit(word, theirs)))
        return found

    # Arrays

    def _arrays(self, writer: Schema, reader: Schema, where: str) -> list[Found]:
        found = []
        mine, theirs = self._lengths(writer), _readable_lengths(reader)
        if mine[0] < theirs[0] or mine[1] > theirs[1]:
            found.append(_lengths_found(Finding.LENGTH_UNREADABLE, where, mine, theirs))
        elif mine != self._lengths(reader):
            found.append(_lengths_found(Finding.LENGTH_ROOMIER, where, mine, theirs))
        if reader.get("uniqueItems") and not writer.get("uniqueItems"):
            items = [writer.get("items", {}), *writer.get("prefixItems", ())]
            if not all(self._is_hashable(item) for item in items):
                found.append(Found(Finding.TYPE_UNREADABLE, where, text(writer), text(reader)))
        written, read = writer.get("prefixItems", []), reader.get("prefixItems", [])
        for index in range(max(len(written), len(read))):
            pair = _item(writer, written, index), _item(reader, read, index)
            if None not in pair and index < mine[1]:
                found += self.compare(*pair, _inside(where, f"item {index}"))  # type: ignore[arg-type]
        if mine[1] > max(len(written), len(read)):
            each = writer.get("items", {}), reader.get("items", {})
            found += self.compare(*each, _inside(where, "an item"))
        return found

    def _lengths(self, writer: Schema) -> tuple[float, float]:
        fixed = writer.get("prefixItems")
        if fixed is None:
            return writer.get("minItems", 0), writer.get("maxItems", float("inf"))
        most = float("inf") if "items" in writer else len(fixed)
        return (writer.get("minItems", 0) if self.free else len(fixed)), most

    def _is_hashable(self, schema: Schema) -> bool:
        kinds = {kind_of(item) for item in members(schema, self.writer_defs)}
        return kinds <= _HASHABLE

    # Objects

    def _objects(self, writer: Schema, reader: Schema, where: str) -> list[Found]:
        if "properties" in writer and "properties" in reader:
            return self._records(writer, reader, where)
        if "properties" in reader:
            return self._map_to_record(writer, reader, where)
        value = _values(reader)
        if "properties" in writer:
            found = self.compare(_KEYS, reader.get("x-key", _KEYS), _inside(where, "a key"))
            for name, item in writer["properties"].items():
                found += self.compare(item, value, _inside(where, f"field {name!r}"))
            return [*found, Found(Finding.TYPE_ROOMIER, where, text(writer), text(reader))]
        keys = writer.get("x-key", _KEYS), reader.get("x-key", _KEYS)
        found = self.compare(*keys, _inside(where, "a key"))
        return found + self.compare(_values(writer), value, _inside(where, "a value"))

    def _records(self, writer: Schema, reader: Schema, where: str) -> list[Found]:
        found: list[Found] = []
        written, read = writer["properties"], reader["properties"]
        needed, sent = reader.get("required", ()), writer.get("required", ())
        omitted = writer.get("x-omitted", ())
        closed = reader.get("additionalProperties") is False
        for name, item in written.items():
            place = _inside(where, f"field {name!r}")
            if name not in read:
                what = Finding.FIELD_REFUSED if closed else Finding.FIELD_IGNORED
                found.append(Found(what, place, text(item), ""))
                continue
            found += self.compare(item, read[name], place)
            lacking = name not in sent if self.free else name in omitted
            if name in needed and name not in sent:
                what = Finding.FIELD_MAY_LACK if lacking else Finding.FIELD_HAS_DEFAULT
                found.append(Found(what, place, "optional", "required"))
            elif name not in needed and name in sent:
                found.append(Found(Finding.FIELD_ALWAYS_THERE, place, "required", "optional"))
        for name, item in read.items():
            if name not in written:
                what = Finding.FIELD_NEEDED if name in needed else Finding.FIELD_FILLED
                place = _inside(where, f"field {name!r}")
                found.append(Found(what, place, "", text(item)))
        return found

    def _map_to_record(self, writer: Schema, reader: Schema, where: str) -> list[Found]:
        found = self.compare(writer.get("x-key", _KEYS), _KEYS, _inside(where, "a key"))
        if reader.get("required") or reader.get("additionalProperties") is False:
            found.append(Found(Finding.TYPE_UNREADABLE, where, text(writer), text(reader)))
        for name, item in reader["properties"].items():
            found += self.compare(_values(writer), item, _inside(where, f"field {name!r}"))
        return found


def members(schema: Schema, defs: Mapping[str, Schema]) -> list[Schema]:
    """Return what a schema may be, without references and unions."""
    found: list[Schema] = []
    waiting: list[tuple[Schema, Schema]] = [(schema, {})]
    while waiting:
        if len(found) + len(waiting) > MAX_MEMBERS:
            raise ConfigError(f"a union has more than {MAX_MEMBERS} members")
        part, around = waiting.pop(0)
        limits = {**around, **{word: part[word] for word in _LIMITS if word in part}}
        if "$ref" in part:
            waiting.insert(0, (defs[part["$ref"].removeprefix(REF)], limits))
        elif "anyOf" in part:
            waiting[:0] = [(member, limits) for member in part["anyOf"]]
        else:
            # What limits a union limits those members that have such a thing.
            fit = _LIMITED.get(part.get("type", ""), ())
            here = {word: limit for word, limit in around.items() if word in fit}
            found.append({**part, **here} if here else part)
    return found


def _takes(reader: str, writer: str) -> bool:
    return reader == writer or writer in _TAKES.get(reader, ())


def _choices(writer: Schema, reader: Schema, where: str) -> list[Found]:
    mine, theirs = writer.get("enum"), reader.get("enum")
    if theirs is None:
        roomier = mine is not None
        return [Found(Finding.TYPE_ROOMIER, where, text(writer), text(reader))] * roomier
    if mine is None:
        return [Found(Finding.TYPE_UNREADABLE, where, text(writer), text(reader))]
    lost = [Found(Finding.CHOICE_UNREADABLE, where, repr(v), "") for v in mine if v not in theirs]
    new = [Found(Finding.CHOICE_ROOMIER, where, "", repr(v)) for v in theirs if v not in mine]
    return lost + new


def _item(schema: Schema, prefix: list[Schema], index: int) -> Schema | None:
    if index < len(prefix):
        return prefix[index]
    if prefix and "items" not in schema:
        return None
    items = schema.get("items", {})
    return items if isinstance(items, dict) else None


def _readable_lengths(reader: Schema) -> tuple[float, float]:
    return reader.get("minItems", 0), reader.get("maxItems", float("inf"))


def _lengths_found(
    what: Finding, where: str, mine: tuple[float, float], theirs: tuple[float, float]
) -> Found:
    return Found(what, where, _range(mine), _range(theirs))


def _range(lengths: tuple[float, float]) -> str:
    least, most = lengths
    if least == most:
        return f"{least} items"
    return f"{least} or more items" if most == float("inf") else f"{least} to {most} items"


def _values(schema: Schema) -> Schema:
    values = schema.get("additionalProperties", {})
    return values if isinstance(values, dict) else {}


def _limit(word: str, value: Any) -> str:
    return f"no {word}" if value is None else f"{word} {value}"


def _inside(where: str, step: str) -> str:
    return ", ".join(filter(None, (where, step)))


def text(schema: Schema) -> str:
    """Return a schema in few words, as changes call it."""
    if "$ref" in schema:
        return str(schema["$ref"]).removeprefix(REF)
    if "anyOf" in schema:
        return " | ".join(text(member) for member in schema["anyOf"])
    if "title" in schema and ("properties" in schema or "enum" in schema):
        return str(schema["title"])
    if "enum" in schema:
        return f"one of {', '.join(repr(value) for value in schema['enum'][:10])}"
    kind = kind_of(schema)
    if kind == "array" and "prefixItems" in schema:
        return f"array of {len(schema['prefixItems'])}"
    if kind in ("array", "stream") and isinstance(schema.get("items"), dict):
        return f"{kind} of {text(schema['items'])}"
    if kind == "object" and "properties" not in schema and _values(schema):
        return f"map of {text(_values(schema))}"
    return {"any": "anything", "object": "map"}.get(kind, kind)
