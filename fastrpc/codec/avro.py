"""Speak Avro with fastavro: records of annotated classes, or of schemas given by hand.

A payload begins with the fingerprint of the schema it was written with (Avro's
"single object encoding"). The reader looks it up among those it knows, so old clients
and new servers understand each other once the server was told the old schema.

Rules of the room:
  * a peer can't make the table of schemas grow: only the user's own code adds to it;
  * fastavro sees only what `avro_limits` let pass, and its words are not repeated.
"""

import datetime as dt
import decimal
import enum
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import fastavro
from fastavro.schema import SchemaParseException, fingerprint, to_parsing_canonical_form
from fastavro.validation import validate

from fastrpc.codec.avro_limits import check_avro
from fastrpc.codec.avro_schema import SCALARS, Schema, derive
from fastrpc.codec.convert import type_name, unwrap
from fastrpc.codec.engine import Described, built_in
from fastrpc.codec.messages import MessageCodec, Read
from fastrpc.codec.reader import Dialect
from fastrpc.codec.records import is_record
from fastrpc.errors import CodecError, ConfigError

#: Serializer number of Avro: one of those that HELLO names for a connection.
AVRO: Final = 30
#: Most schemas that one codec knows.
SCHEMAS_MAX: Final = 1024

_MARK: Final = b"\xc3\x01"
_START: Final = 10  # behind the mark and a fingerprint of eight bytes
# Classes that fastavro writes as logical types; elsewhere they are text.
_LOGICAL: Final[tuple[tuple[str, type], ...]] = (
    ("timestamp", dt.datetime),
    ("local-timestamp", dt.datetime),
    ("date", dt.date),
    ("time", dt.time),
    ("decimal", decimal.Decimal),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A schema made ready.

    Attributes:
        schema: As fastavro parsed it.
        named: The schemas in it that have names.
        print: Its fingerprint, as it travels.
        kept: Classes it has logical types for.
        given: It was given by hand, so data is read by Avro's own rules of resolution.
    """

    schema: Any
    named: Mapping[str, Any]
    print: bytes
    kept: tuple[type, ...]
    given: bool


class AvroCodec(MessageCodec):
    """Speak Avro: a record or a single value is the argument, another the result.

    Args:
        schemas: Schemas to use for classes of their names, as JSON text or parsed;
            or classes themselves, needed only for those whose values are plain dicts.
        writers: Schemas that peers may write with beside ours: older and newer ones.
        max_depth: Deepest nesting of a message.
        max_items: Most fields and elements of a message, all together.

    Raises:
        ConfigError: A schema is wrong.
    """

    name = "avro"
    serializer = AVRO
    carries: ClassVar[str] = "a record or a single value"
    maps: ClassVar[bool] = True

    def __init__(
        self,
        *schemas: Any,
        writers: Iterable[Any] = (),
        max_depth: int = 64,
        max_items: int = 100_000,
    ) -> None:
        super().__init__(max_depth, max_items)
        self._typed = Described(Dialect(), self.decode)
        self._by_print: dict[bytes, Known] = {}
        self._by_name: dict[str, Known] = {}
        self._by_class: dict[Any, Known] = {}
        # What plain dicts are tried as, in the order given.
        self._dicts: list[Known] = []
        for item in schemas:
            if isinstance(item, type):
                self._dicts.append(self._known(item))
                continue
            known = self._learn(item, given=True)
            self._dicts.append(known)
            if isinstance(known.schema, dict) and "name" in known.schema:
                self._by_name[known.schema["name"].rpartition(".")[2]] = known
        for item in writers:
            self.learn(item)

    def learn(self, schema: Any) -> None:
        """Read what others write with *schema*, given as JSON text, parsed, or as a class.

        Raises:
            ConfigError: The schema is wrong, or there are too many.
        """
        if isinstance(schema, type):
            self._known(schema)
        else:
            self._learn(schema, given=False)

    def schema(self, wanted: Any) -> Schema:
        """Return the schema that values of *wanted* are written with, as parsed JSON.

        It is what other programs need, and what a later version is given as one of
        *writers*.

        Raises:
            ConfigError: Values of that type can't be sent as Avro.
        """
        described: Schema = json.loads(json.dumps(_bare(self._known(wanted).schema)))
        return described

    def write(self, message: Any) -> bytes:
        """Return a record or single value as bytes."""
        if type(message) is dict:
            return self._write_dict(message)
        try:
            known = self._known(type(message))
        except ConfigError as error:
            raise CodecError(str(error)) from None
        return _written(known, built_in(message, *known.kept), type_name(type(message)))

    def _write_dict(self, message: dict[str, Any]) -> bytes:
        for known in self._dicts:
            datum = built_in(message, *known.kept)
            if validate(datum, known.schema, raise_errors=False, strict=True):
                return _written(known, datum, "dict")
        raise CodecError(
            "this dict fits no schema: give AvroCodec the TypedDict it is, or its schema; "
            "arguments go by position, not by name"
        )

    def reader(self, wanted: Any) -> Read:
        """Return the function that reads records of a class, or single values."""
        bare = unwrap(wanted)
        if not isinstance(bare, type) and not _is_record(bare):
            self.refuse(wanted)
        own, name = self._known(bare), type_name(bare)
        self._typed.decoder(bare)  # says now what it can't read

        def read(data: bytes) -> Any:
            data = bytes(data)
            writer = self._writer_of(data, own)
            check_avro(data, _START, writer.schema, writer.named, self.max_depth, self.max_items)
            resolved = own.schema if own.given and writer is not own else None
            stream = io.BytesIO(data)
            stream.seek(_START)
            try:
                value = fastavro.schemaless_reader(stream, writer.schema, resolved)
            except Exception as error:
                raise CodecError(
                    f"Avro data can't be read as {name} ({type(error).__name__})"
                ) from None
            if stream.tell() != len(data):  # the walk and fastavro disagree
                raise CodecError(f"Avro data can't be read as {name}")
            return self._typed.convert(value, bare)

        return read

    def _writer_of(self, data: bytes, own: Known) -> Known:
        if data[:2] != _MARK or len(data) < _START:
            raise CodecError("Avro data does not begin with the fingerprint of a schema")
        found = data[2:_START]
        if found == own.print:  # prints leave out logical types: ours go first
            return own
        writer = self._by_print.get(found)
        if writer is None:
            raise CodecError(
                "Avro data was written with a schema that is not known here; give it to "
                "AvroCodec(writers=[...])"
            )
        return writer

    def _known(self, wanted: Any) -> Known:
        """Return the schema of a class: given by name, or derived."""
        known = self._by_class.get(wanted)
        if known is None:
            known = self._by_name.get(type_name(wanted))
            if known is None:
                if not (wanted in SCALARS or _is_enum(wanted) or _is_record(wanted)):
                    self.refuse(wanted)
                known = self._learn(derive(wanted), given=False)
            self._by_class[wanted] = known
        return known

    def _learn(self, schema: Any, *, given: bool) -> Known:
        if len(self._by_print) >= SCHEMAS_MAX:
            raise ConfigError(f"an Avro codec knows at most {SCHEMAS_MAX} schemas")
        named: dict[str, Any] = {}
        try:
            plain = (
                json.loads(schema) if isinstance(schema, str) and schema[:1] in '{["' else schema
            )
            parsed = fastavro.parse_schema(plain, named)
            canonical = to_parsing_canonical_form(parsed)
        except (SchemaParseException, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"an Avro schema is wrong: {error}") from None
        known = Known(
            schema=parsed,
            named=named,
            print=bytes.fromhex(fingerprint(canonical, "CRC-64-AVRO")),
            kept=_kept(json.dumps(_bare(parsed))),
            given=given,
        )
        self._by_print.setdefault(known.print, known)
        return known


def _is_enum(wanted: Any) -> bool:
    return isinstance(wanted, type) and issubclass(wanted, enum.Enum)


def _is_record(wanted: Any) -> bool:
    origin = getattr(wanted, "__origin__", wanted)
    return isinstance(origin, type) and is_record(origin)


def _kept(text: str) -> tuple[type, ...]:
    return tuple({cls for word, cls in _LOGICAL if f'"logicalType": "{word}' in text})


def _bare(schema: Any) -> Any:
    """Return a parsed schema without fastavro's own marks."""
    if isinstance(schema, dict):
        return {key: _bare(item) for key, item in schema.items() if not key.startswith("__")}
    if isinstance(schema, list):
        return [_bare(item) for item in schema]
    return schema


def _written(known: Known, datum: Any, name: str) -> bytes:
    if not validate(datum, known.schema, raise_errors=False):
        raise CodecError(f"this {name} does not fit its Avro schema")
    stream = io.BytesIO()
    stream.write(_MARK + known.print)
    fastavro.schemaless_writer(stream, known.schema, datum)
    return stream.getvalue()
