"""Speak pickle, for those who trust every peer as they trust themselves.

Unpickling runs whatever code the bytes name. So this module, and Python's own
pickle, are imported only after both sides switched it on by name: the server with
`Server(pickle=True)`, the client with `connect(..., pickle=True)`.

Rules of the room:
  * only `CodecRegistry.with_pickle` makes a codec of it, and a test says so.
"""

from collections.abc import Callable, Sequence
from typing import Any

from fastrpc.codec.buffers import BESIDE_FROM, Buffers
from fastrpc.codec.reader import Dialect, Reader, expected
from fastrpc.codec.typed import ReaderCache, arguments_reader
from fastrpc.frame import writable
from fastrpc.wire import Serializer


def _by_class(wanted: Any) -> Reader | None:
    if not isinstance(wanted, type):
        return None

    def read(value: Any) -> Any:
        if not isinstance(value, wanted):
            raise expected(wanted.__name__, value)
        return value

    return Reader(wanted.__name__, None, (wanted,), read)


class PickleCodec:
    """Speak pickle: any Python object, and any code a peer likes to run."""

    name = "pickle"
    serializer = int(Serializer.PICKLE)

    def __init__(self) -> None:
        # Not at the top: even an import by accident must not load it.
        import pickle  # noqa: PLC0415

        self._dumps, self._loads = pickle.dumps, pickle.loads
        self.buffers = Buffers()
        self._readers = ReaderCache(Dialect(native=True, opaque=_by_class))

    def encode(self, value: object, /) -> bytes:
        """Return *value* pickled, in the newest format that Python 3.11 reads."""
        taken = self.buffers.taken
        if taken is None:
            return self._dumps(value, protocol=5)
        return self._dumps(value, protocol=5, buffer_callback=self._beside)

    def _beside(self, buffer: Any) -> bool:
        """Put a large buffer beside the payload (PEP 574); True leaves it inside."""
        try:
            raw = buffer.raw()
        except BufferError:  # not contiguous
            return True
        if raw.nbytes < BESIDE_FROM:
            return True
        self.buffers.put(raw)
        return False

    def decode(self, data: bytes, /) -> object:
        """Return the object in *data*, running what it says."""
        given = self.buffers.given
        return (
            self._loads(data, buffers=[writable(each) for each in given if each is not None])
            if given
            else self._loads(data)
        )

    def decoder(self, type: object, /) -> Callable[[bytes], object]:
        """Return a function that reads one value of *type*.

        Raises:
            ConfigError: *type* is no type that can be checked.
        """
        read = self._readers.get(type).read
        return lambda data: read(self.decode(data))

    def arguments(
        self, types: Sequence[object], required: int, rest: object | None, /
    ) -> Callable[[bytes], Sequence[object]]:
        """Return a function that reads an array of arguments.

        Raises:
            ConfigError: One of the types is none that can be checked.
        """
        readers = [self._readers.get(item) for item in types]
        last = None if rest is None else self._readers.get(rest)
        return arguments_reader(self.decode, readers, required, last)

    def convert(self, value: object, type: object, /) -> object:
        """Return *value* checked against *type*.

        Raises:
            Mismatch: It doesn't fit.
        """
        return self._readers.get(type).read(value)
