"""Share between the codecs what they do with readers.

Rules of the room:
  * a codec keeps the readers it has built; types come from the user's own code,
    so there is no limit to guard.
"""

from collections.abc import Callable, Sequence
from typing import Any

from fastrpc.codec.contract import Mismatch
from fastrpc.codec.convert import build_reader
from fastrpc.codec.reader import Dialect, Reader, expected


class ReaderCache:
    """Build each type's reader once.

    Args:
        dialect: How the codec's decoded values look.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._readers: dict[object, Reader] = {}

    def get(self, wanted: object) -> Reader:
        """Return the reader of a type.

        Raises:
            ConfigError: No value of that type can be read.
        """
        try:
            known = self._readers.get(wanted)
        except TypeError:  # an Annotated with something unhashable in it
            return build_reader(wanted, self._dialect)
        if known is None:
            known = self._readers[wanted] = build_reader(wanted, self._dialect)
        return known


def arguments_reader(
    decode: Callable[[bytes], object],
    readers: Sequence[Reader],
    required: int,
    rest: Reader | None,
) -> Callable[[bytes], Sequence[object]]:
    """Return a function that decodes an array and then reads item by item."""
    most = len(readers)

    def read(data: bytes) -> list[Any]:
        values: Any = decode(data)
        if type(values) not in (list, tuple):
            raise expected("an array of arguments", values)
        check_count(len(values), required, most, endless=rest is not None)
        out = [reader.read(value) for reader, value in zip(readers, values, strict=False)]
        if rest is not None:
            out += [rest.read(value) for value in values[most:]]
        return out

    return read


def check_count(count: int, required: int, most: int, *, endless: bool = False) -> None:
    """Raise `Mismatch` unless *count* arguments are as many as may be."""
    if count < required:
        raise Mismatch(f"expected at least {required} arguments, got {count}")
    if count > most and not endless:
        raise Mismatch(f"expected at most {most} arguments, got {count}")
