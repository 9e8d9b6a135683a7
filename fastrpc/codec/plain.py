"""Speak msgpack and JSON where msgspec is missing: slower, and the same.

msgpack comes from the `msgpack` package, JSON from Python itself; the types are
read by `convert`.

Rules of the room:
  * the same bytes, values and error texts as the fast engine; where the bytes of
    JSON may differ (floats can be written in several ways), they mean the same.
"""

import datetime as dt
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import msgpack  # type: ignore[import-untyped]

from fastrpc.codec.buffers import EXT_ARRAY, EXT_BUFFER, Buffers, check_parts, is_array, lift
from fastrpc.codec.json_limits import check_json
from fastrpc.codec.reader import Dialect
from fastrpc.codec.simplify import jsonable, simplify
from fastrpc.codec.typed import ReaderCache, arguments_reader
from fastrpc.errors import CodecError
from fastrpc.wire import Serializer

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_BUILT_IN = frozenset((bool, int, float, str, bytes, bytearray, memoryview))
# Timestamps with nanoseconds; only these need to be rounded by hand.
_FINE_TIMES = (b"\xd7\xff", b"\xc7\x0c\xff")


class _Typed:
    """The typed half that both codecs share."""

    def __init__(self, dialect: Dialect, decode: Callable[[bytes], object]) -> None:
        self._readers = ReaderCache(dialect)
        self._decode = decode

    def decoder(self, type: object, /) -> Callable[[bytes], object]:
        """Return a function that reads one value of *type*.

        Raises:
            ConfigError: Values of *type* can't be read.
        """
        read, decode = self._readers.get(type).read, self._decode
        return lambda data: read(decode(data))

    def arguments(
        self, types: Sequence[object], required: int, rest: object | None, /
    ) -> Callable[[bytes], Sequence[object]]:
        """Return a function that reads an array of arguments.

        Raises:
            ConfigError: Values of one of the types can't be read.
        """
        readers = [self._readers.get(item) for item in types]
        last = None if rest is None else self._readers.get(rest)
        return arguments_reader(self._decode, readers, required, last)

    def convert(self, value: object, type: object, /) -> object:
        """Return a decoded *value* as a value of *type*.

        Raises:
            Mismatch: It doesn't fit.
        """
        return self._readers.get(type).read(value)


class Described(_Typed):
    """The typed half of a codec whose bytes tell what they hold.

    Args:
        dialect: How decoded values look.
        decode: Reads a payload without types.
    """


def built_in(value: Any, *kept: type) -> Any:
    """Return *value* made of plain values and bytes, all the way down.

    Args:
        value: Anything that can be sent.
        kept: Classes left as they are, such as datetime; they are text otherwise.

    Raises:
        TypeError: Some part of it can't be sent.
    """
    plain = type(value)
    if value is None or plain in _BUILT_IN or plain in kept:
        return value
    if plain is dict:
        return {built_in(key, *kept): built_in(item, *kept) for key, item in value.items()}
    if plain is list:
        return [built_in(item, *kept) for item in value]
    return built_in(simplify(value), *kept)


class MsgpackCodec(_Typed):
    """Speak msgpack."""

    name = "msgpack"
    serializer = int(Serializer.MSGPACK)

    def __init__(self) -> None:
        self.buffers = Buffers()
        super().__init__(Dialect(), self.decode)

    def encode(self, value: object, /) -> bytes:
        """Return *value* as msgpack."""
        return msgpack.packb(value, default=self._step, strict_types=True)  # type: ignore[no-any-return]

    def lift(self, args: Sequence[Any], /) -> list[Any]:
        """Return *args* with large bytes put beside the payload."""
        return lift(args, self.buffers, _buffer_ext)

    def _step(self, value: Any) -> Any:
        if is_array(value):
            parts = self.buffers.array_parts(value)
            return msgpack.ExtType(EXT_ARRAY, msgpack.packb(parts))
        return _step(value)

    def _ext(self, code: int, data: bytes) -> object:
        if code == EXT_BUFFER and len(data) == 4:
            return self.buffers.take(int.from_bytes(data, "big"))
        if code == EXT_ARRAY:
            check_parts(data)
            return self.buffers.array_of(*_array_parts(data))
        raise CodecError(f"msgpack extension type {code} is not known here")

    def decode(self, data: bytes, /) -> object:
        """Return the value in *data*."""
        data = bytes(data)
        hooks: dict[str, Any] = {"timestamp": 3}
        if any(mark in data for mark in _FINE_TIMES):
            hooks = {"object_hook": _times_in_map, "list_hook": _times_in_list}
        value = msgpack.unpackb(data, strict_map_key=False, ext_hook=self._ext, **hooks)
        return _time(value)


def _step(value: Any) -> Any:
    if type(value) is dt.datetime and value.utcoffset() is not None:
        away = value.astimezone(dt.UTC) - _EPOCH
        return msgpack.Timestamp(away.days * 86_400 + away.seconds, away.microseconds * 1000)
    if type(value) is int:  # the packer gave up
        raise OverflowError("can't serialize ints < -2**63 or > 2**64 - 1")
    return simplify(value)


def _array_parts(data: bytes) -> tuple[str, list[int], int | bytes]:
    dtype: Any = None
    shape: Any = None
    raw: Any = None
    try:
        dtype, shape, raw = msgpack.unpackb(data)
        is_sound = (type(dtype), type(shape)) == (str, list) and set(map(type, shape)) <= {int}
    except (ValueError, TypeError):
        is_sound = False
    if not is_sound or type(raw) not in (int, bytes):
        raise CodecError("an array is not made of dtype, shape and data")
    return dtype, shape, raw


def _buffer_ext(number: int) -> Any:
    return msgpack.ExtType(EXT_BUFFER, number.to_bytes(4, "big"))


def _time(value: Any) -> Any:
    if type(value) is not msgpack.Timestamp:
        return value
    return _EPOCH + dt.timedelta(
        seconds=value.seconds, microseconds=(value.nanoseconds + 500) // 1000
    )


def _times_in_list(items: list[Any]) -> list[Any]:
    return [_time(item) for item in items]


def _times_in_map(items: dict[Any, Any]) -> dict[Any, Any]:
    return {_time(key): _time(item) for key, item in items.items()}


class JsonCodec(_Typed):
    """Speak JSON.

    Args:
        max_depth: Deepest nesting of a payload.
        max_items: Most elements of a payload, all containers together.
    """

    name = "json"
    serializer = int(Serializer.JSON)

    def __init__(self, max_depth: int = 64, max_items: int = 100_000) -> None:
        super().__init__(Dialect(text_only=True, big_ints=True), self.decode)
        self.max_depth = max_depth
        self.max_items = max_items

    def encode(self, value: object, /) -> bytes:
        """Return *value* as JSON."""
        text = json.dumps(jsonable(value), ensure_ascii=False, separators=(",", ":"))
        return text.encode()

    def decode(self, data: bytes, /) -> object:
        """Return the value in *data*, after checking its limits."""
        data = bytes(data)
        check_json(data, self.max_depth, self.max_items)
        value = json.loads(
            data.decode(), parse_constant=_no_constant, parse_float=_finite, parse_int=_integer
        )
        if b"\\u" in data:
            _check_surrogates(value)
        return value


def _no_constant(name: str) -> float:
    raise ValueError(f"JSON is malformed: {name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("Number out of range")
    return number


def _integer(text: str) -> int:
    return int(text)  # Python itself refuses more than 4300 digits


def _check_surrogates(value: Any) -> None:
    """Refuse half a character, which could never be sent on."""
    json.dumps(value, ensure_ascii=False).encode()
