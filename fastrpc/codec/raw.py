"""Pass bytes through: the codec for those who have bytes already.

Rules of the room:
  * nothing is interpreted, so nothing in the bytes can be wrong;
  * what comes out belongs to the caller.
"""

from collections.abc import Callable, Sequence
from typing import Any

from fastrpc.codec.contract import Mismatch
from fastrpc.errors import CodecError, ConfigError
from fastrpc.wire import Serializer


class RawCodec:
    """Send and receive bytes as they are: one bytes argument, a bytes result."""

    name = "raw"
    serializer = int(Serializer.RAW)

    def encode(self, value: object, /) -> bytes:
        """Return *value*, or a copy of it if it is another kind of buffer."""
        if isinstance(value, bytes):
            return value
        if isinstance(value, (bytearray, memoryview)):
            return bytes(value)
        raise CodecError(f"the raw codec takes bytes only, got {type(value).__name__}")

    def decode(self, data: bytes, /) -> bytes:
        """Return *data* as bytes of its own."""
        return bytes(data)

    def decoder(self, type: object, /) -> Callable[[bytes], object]:
        """Return a function that reads bytes.

        Raises:
            ConfigError: *type* is neither a kind of bytes nor Any.
        """
        if type is bytearray:
            return bytearray
        if type is memoryview:
            return lambda data: memoryview(bytes(data))
        if type in _BYTES:
            return self.decode
        raise ConfigError(f"the raw codec gives bytes, not {type!r}; use msgpack or JSON")

    def arguments(
        self, types: Sequence[object], required: int, rest: object | None, /
    ) -> Callable[[bytes], Sequence[object]]:
        """Return a function that reads one bytes argument, or none at all.

        Raises:
            ConfigError: The method can't be called with exactly one bytes, and
                not without arguments either.
        """
        if not types and rest is None:
            return _nothing
        if required > 1:
            raise ConfigError("the raw codec carries one argument; use msgpack or JSON")
        read = self.decoder(types[0] if types else rest)
        return lambda data: (read(data),)

    def convert(self, value: object, type: object, /) -> object:
        """Return *value* as the kind of bytes that *type* says.

        Raises:
            Mismatch: *type* is something else.
        """
        try:
            read = self.decoder(type)
        except ConfigError as error:
            raise Mismatch(str(error)) from None
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise Mismatch(f"expected bytes, got {value.__class__.__name__}")
        return read(bytes(value))


_BYTES: tuple[object, ...] = (bytes, Any, object)


def _nothing(data: bytes) -> Sequence[object]:
    if len(data):
        raise Mismatch(f"expected no arguments, got {len(data)} bytes")
    return ()
