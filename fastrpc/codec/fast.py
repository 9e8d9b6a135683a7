"""Speak msgpack and JSON with msgspec, the fast engine.

msgspec reads straight into the annotated types, in C. When it refuses something,
`convert` looks for the place and the words, so that both engines say the same.

Rules of the room:
  * what the hot path calls is a bound C method, never a Python function;
  * msgspec never fills a set or map whose hashes a peer could choose (see
    `containers`): such types are read by `convert`.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from fastrpc.codec.buffers import (
    EXT_ARRAY,
    EXT_BUFFER,
    Buffers,
    check_parts,
    is_array,
    lift,
    nested,
    scalar_of,
)
from fastrpc.codec.contract import Mismatch
from fastrpc.codec.json_limits import check_json
from fastrpc.codec.reader import Dialect, Group, Reader
from fastrpc.codec.records import is_struct
from fastrpc.codec.simplify import refuse
from fastrpc.codec.typed import ReaderCache, arguments_reader, check_count
from fastrpc.errors import CodecError, ConfigError
from fastrpc.wire import Serializer

Decode = Callable[[bytes], Any]

# What msgpack has beside JSON; datetime is not listed, or its text form would be refused.
_BUILTIN = (bytes, bytearray, memoryview)

# Up to here the first byte of a msgpack array tells its length.
_SHORT_ARRAY = 15


class _Typed:
    """The typed half that both codecs share.

    Args:
        dialect: How decoded values look.
        decode: Reads a payload without types.
        make: Gives msgspec's own decode function for a type.
        options: For `msgspec.convert`.
    """

    def __init__(
        self,
        dialect: Dialect,
        decode: Decode,
        make: Callable[[Any], Decode],
        **options: Any,
    ) -> None:
        def opaque(wanted: Any) -> Reader | None:
            return _opaque(wanted, self._readers, options)

        def constrain(wanted: Any, reader: Reader) -> Reader:
            return _constrained(wanted, reader, options)

        self._readers = ReaderCache(replace(dialect, opaque=opaque, constrain=constrain))
        self._decode = decode
        self._make = make
        self._options = options

    def decoder(self, type: object, /) -> Decode:
        """Return a function that reads one value of *type*.

        Raises:
            ConfigError: Values of *type* can't be read.
        """
        reader = self._readers.get(type)
        if reader.own:
            read, decode = reader.read, self._decode
            return lambda data: read(decode(data))
        try:
            return self._make(type)
        except (TypeError, NotImplementedError) as error:
            raise _refused(type, error) from None

    def arguments(
        self, types: Sequence[object], required: int, rest: object | None, /
    ) -> Callable[[bytes], Sequence[object]]:
        """Return a function that reads an array of arguments.

        Where all of *types* are required it is msgspec's own C method.

        Raises:
            ConfigError: Values of one of the types can't be read.
        """
        readers = [self._readers.get(item) for item in types]
        last = None if rest is None else self._readers.get(rest)
        if any(reader.own for reader in readers) or (last is not None and last.own):
            return arguments_reader(self._decode, readers, required, last)
        if rest is None and required == len(types):
            return self.decoder(_tuple(types))
        return self._flexible(types, required, rest)

    def _flexible(
        self, types: Sequence[object], required: int, rest: object | None
    ) -> Callable[[bytes], Sequence[object]]:
        """Return a function for arrays of several lengths: split first, read then."""
        split = self._make(list[msgspec.Raw])
        # The parts were checked for the payload's limits when it was split.
        reads = [self._make(item) for item in types]
        last = self._make(rest) if rest is not None else None

        def read(data: bytes) -> list[object]:
            parts = split(data)
            check_count(len(parts), required, len(reads), endless=last is not None)
            out = [read_one(part) for read_one, part in zip(reads, parts, strict=False)]
            if last is not None:
                out += [last(part) for part in parts[len(reads) :]]
            return out

        return read

    def explain(self, error: Exception, /) -> Exception:
        """Return what a decoder raised, in our words: `convert` gives them by itself."""
        return _translated(str(error)) if isinstance(error, msgspec.ValidationError) else error

    def convert(self, value: object, type: object, /) -> object:
        """Return a decoded *value* as a value of *type*.

        Raises:
            Mismatch: It doesn't fit.
        """
        reader = self._readers.get(type)
        if reader.own:
            return reader.read(value)
        try:
            return msgspec.convert(value, type=type, **self._options)
        except msgspec.ValidationError as error:
            reader.read(value)  # knows the place and the words, and raises
            raise _translated(str(error)) from None


_ENCODE_PARTS = msgspec.msgpack.Encoder().encode
_DECODE_PARTS = msgspec.msgpack.Decoder(tuple[str, list[int], int | bytes]).decode


def _buffer_ext(number: int) -> msgspec.msgpack.Ext:
    return msgspec.msgpack.Ext(EXT_BUFFER, number.to_bytes(4, "big"))


class MsgpackCodec(_Typed):
    """Speak msgpack.

    Attributes:
        encode: Value to bytes.
        decode: Bytes to plain value.
    """

    name = "msgpack"
    serializer = int(Serializer.MSGPACK)
    encode: Callable[[object], bytes]
    decode: Decode

    def __init__(self) -> None:
        self.buffers = Buffers()
        self.encode = msgspec.msgpack.Encoder(enc_hook=self._other).encode
        self.decode = self._decode_as(Any)
        super().__init__(Dialect(), self.decode, self._decode_as, builtin_types=_BUILTIN)

    def _decode_as(self, wanted: Any) -> Decode:
        return msgspec.msgpack.Decoder(wanted, ext_hook=self._ext).decode

    def lift(self, args: Sequence[Any], /) -> list[Any]:
        """Return *args* with large bytes put beside the payload."""
        return lift(args, self.buffers, _buffer_ext)

    def _other(self, value: Any) -> Any:
        """Encode what msgspec does not know."""
        if is_array(value):
            parts = self.buffers.array_parts(value)
            return msgspec.msgpack.Ext(EXT_ARRAY, _ENCODE_PARTS(parts))
        plain = scalar_of(value)
        return refuse(value) if plain is None else plain

    def _ext(self, code: int, data: memoryview) -> Any:
        """Decode what msgpack leaves to us."""
        if code == EXT_BUFFER and len(data) == 4:
            return self.buffers.take(int.from_bytes(data, "big"))
        if code == EXT_ARRAY:
            check_parts(data)
            try:
                parts = _DECODE_PARTS(data)
            except msgspec.MsgspecError:
                raise CodecError("an array is not made of dtype, shape and data") from None
            return self.buffers.array_of(*parts)
        raise CodecError(f"msgpack extension type {code} is not known here")

    def _flexible(
        self, types: Sequence[object], required: int, rest: object | None
    ) -> Callable[[bytes], Sequence[object]]:
        if rest is not None or len(types) > _SHORT_ARRAY:
            return super()._flexible(types, required, rest)
        # One decoder for each length; the array's first byte is 0x90 plus its length.
        start = 0x90 + required
        counts = range(required, len(types) + 1)
        reads = [self._decode_as(_tuple(types[:count])) for count in counts]

        def read(data: bytes) -> Sequence[object]:
            index = data[0] - start
            if not 0 <= index < len(reads):
                raise Mismatch("expected an array of arguments of another length")
            return reads[index](data)  # type: ignore[no-any-return]

        return read


def _as_text(value: Any) -> Any:
    if is_array(value):
        return nested(value)
    plain = scalar_of(value)
    return refuse(value) if plain is None else plain


class JsonCodec(_Typed):
    """Speak JSON.

    Args:
        max_depth: Deepest nesting of a payload.
        max_items: Most elements of a payload, all containers together.
    """

    name = "json"
    serializer = int(Serializer.JSON)
    encode: Callable[[object], bytes]
    decode: Decode

    def __init__(self, max_depth: int = 64, max_items: int = 100_000) -> None:
        self.max_depth = max_depth
        self.max_items = max_items
        self.encode = msgspec.json.Encoder(enc_hook=_as_text).encode
        self.decode = self._decode_as(Any)
        super().__init__(
            Dialect(text_only=True, big_ints=True), self.decode, self._decode_as, str_keys=True
        )

    def _decode_as(self, wanted: Any) -> Decode:
        decode = msgspec.json.Decoder(wanted).decode
        max_depth, max_items = self.max_depth, self.max_items

        def decode_checked(data: bytes) -> Any:
            data = bytes(data)
            check_json(data, max_depth, max_items)
            return decode(data)

        return decode_checked


class Described(_Typed):
    """The typed half of a codec whose bytes tell what they hold, but not to msgspec.

    Args:
        dialect: How decoded values look.
        decode: Reads a payload without types.
    """

    def __init__(self, dialect: Dialect, decode: Decode) -> None:
        options = {"builtin_types": _BUILTIN, "str_keys": dialect.text_only}

        def make(wanted: Any) -> Decode:
            msgspec.msgpack.Decoder(wanted)  # raises if it can't read such values
            return lambda data: self.convert(decode(data), wanted)

        super().__init__(dialect, decode, make, **options)

    def _flexible(
        self, types: Sequence[object], required: int, rest: object | None
    ) -> Callable[[bytes], Sequence[object]]:
        readers = [self._readers.get(item) for item in types]
        last = None if rest is None else self._readers.get(rest)
        return arguments_reader(self._decode, readers, required, last)


def built_in(value: object, *kept: type) -> Any:
    """Return *value* made of plain values and bytes, all the way down.

    Args:
        value: Anything that can be sent.
        kept: Classes left as they are, such as datetime; they are text otherwise.

    Raises:
        TypeError: Some part of it can't be sent.
    """
    return msgspec.to_builtins(value, builtin_types=(*_BUILTIN, *kept), enc_hook=_as_text)


def _tuple(types: Sequence[object]) -> Any:
    return tuple[tuple(types)]  # type: ignore[misc]


def _opaque(wanted: Any, readers: ReaderCache, options: dict[str, Any]) -> Reader | None:
    """Return a reader for what only msgspec knows: special Structs, attrs classes."""
    try:
        info = msgspec.inspect.type_info(wanted)
    except TypeError as error:
        if not _members(wanted):
            return None
        raise _refused(wanted, error) from None
    if isinstance(info, msgspec.inspect.CustomType):
        return None
    _check_guards(wanted, readers)
    array = _is_array(wanted)
    group, takes = (Group.ARRAY, list) if array else (Group.MAP, dict)
    return Reader(_name(wanted), group, (takes,), _converter(wanted, options), weak=True)


def _converter(wanted: Any, options: dict[str, Any]) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        try:
            return msgspec.convert(value, type=wanted, **options)
        except msgspec.ValidationError as error:
            raise _translated(str(error)) from None

    return read


def _constrained(wanted: Any, reader: Reader, options: dict[str, Any]) -> Reader:
    """Return *reader* with the limits of a `msgspec.Meta` on top."""
    if not any(isinstance(item, msgspec.Meta) for item in wanted.__metadata__):
        return reader
    inner, check = reader.read, _converter(wanted, options)

    def read(value: Any) -> Any:
        result = inner(value)  # first: it guards and finds the words
        check(value)
        return result

    return replace(reader, read=read)


def _members(wanted: Any) -> tuple[Any, ...]:
    members: tuple[Any, ...] = (wanted,) if is_struct(wanted) else getattr(wanted, "__args__", ())
    return tuple(member for member in members if is_struct(member))


def _is_array(wanted: Any) -> bool:
    return any(member.__struct_config__.array_like for member in _members(wanted))


def _name(wanted: Any) -> str:
    members = _members(wanted) or (wanted,)
    return " | ".join(getattr(member, "__name__", str(member)) for member in members)


def _check_guards(wanted: Any, readers: ReaderCache) -> None:
    for struct in _members(wanted):
        for field in msgspec.structs.fields(struct):
            if _mentions(field.type, struct):
                continue
            if readers.get(field.type).own:
                raise ConfigError(
                    f"{struct.__name__}.{field.name}: sets and map keys of this type need a "
                    "guard that tagged and array-like Structs don't have; use a list"
                )


def _mentions(annotation: Any, struct: Any) -> bool:
    parts = getattr(annotation, "__args__", ())
    return annotation is struct or any(_mentions(part, struct) for part in parts)


def _refused(wanted: object, error: Exception) -> ConfigError:
    reason = str(error).partition(" - type ")[0]
    return ConfigError(f"values of type {wanted} can't be read: {reason}")


_AT = re.compile(r" - at `(.+)`$")
_EXPECTED = re.compile(r"Expected `([^`]+)`, got `([^`]+)`$")
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]|\[\.\.\.\]")
_WORDS = {"null": "None", "array": "list", "object": "dict"}


def _translated(text: str) -> Mismatch:
    """Return msgspec's error in our words, without what the peer sent."""
    at = _AT.search(text)
    text = _AT.sub("", text)
    match = _EXPECTED.match(text)
    if match is not None:
        names = [" | ".join(_WORDS.get(w, w) for w in part.split(" | ")) for part in match.groups()]
        problem = f"expected {names[0]}, got {names[1]}"
    elif text.startswith(("Invalid value", "Invalid enum value")):
        problem = "invalid value"
    elif text.startswith("Object missing required field"):
        problem = f"field {text.split('`')[1]!r} is missing"
    else:
        problem = text[:1].lower() + text[1:].replace("`", "")
    return Mismatch(problem, _path(at[1]) if at is not None else "")


def _path(at: str) -> str:
    """Return a path such as "$[3].x" in words: "item 3, field 'x'"."""
    steps = []
    for field, index in _STEP.findall(at):
        if field:
            steps.append(f"field {field!r}")
        else:
            steps.append(f"item {index}" if index else "a value")
    return ", ".join(steps + ["a key"] * at.startswith("key"))
