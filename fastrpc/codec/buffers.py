"""Carry large buffers beside a payload, and arrays as what they are.

A buffer that goes beside its payload is neither copied into it nor out of it again:
the payload only says which one is meant. Arrays know their dtype, shape and byte
order wherever they travel; small ones, and all of them where the peer takes no
buffers beside the payload, go into the payload itself.

The forms are those of the wire document, section 5: extension 0x50 is the number of
a buffer, extension 0x51 an array [dtype, shape, number or bytes].

Rules of the room:
  * numpy is imported when the first array comes, and never if none does;
  * what a peer says of an array is checked against the bytes that are there;
  * dtypes that hold Python objects are refused in both directions.
"""

import math
import re
import sys
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, final

from fastrpc.codec.contract import Mismatch
from fastrpc.codec.reader import Group, Reader, expected
from fastrpc.errors import CodecError
from fastrpc.frame import writable

#: Extension types of msgpack.
EXT_BUFFER: Final = 0x50
EXT_ARRAY: Final = 0x51

#: Bytes from which on a buffer goes beside the payload.
BESIDE_FROM: Final = 32 * 2**10

_NDIM_MAX: Final = 32  # of any numpy
_PLAIN_KINDS: Final = "?bhilqpBHILQPefdgFDGSUmMV"
_TEXT_KINDS: Final = "biufU"  # what JSON and XML have words for

#: What `dtype.str` of those kinds looks like. numpy takes far more, and some of it (fields
#: by the million, dates in fractions of a unit) takes it down.
_DTYPE: Final = re.compile(
    r"[<>|=]?(?:[biufcSUV][0-9]{1,9}|[mM]8(?:\[[1-9][0-9]{0,8}?(?:Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\]"
    r"|\[(?:Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?)"
)


@final
class Buffers:
    """The buffers beside one payload, while it is written or read.

    Attributes:
        taken: What the codec put beside the payload it wrote last; None if it may not.
        given: What came beside the payload that is being read.
    """

    __slots__ = ("given", "taken")

    def __init__(self) -> None:
        self.taken: list[Any] | None = None
        self.given: list[bytes | None] = []

    def read(self, decode: Callable[[bytes], Any], payload: bytes, buffers: Iterable[bytes]) -> Any:
        """Return what *decode* makes of *payload* with *buffers* beside it."""
        self.given = list(buffers)
        try:
            return decode(payload)
        finally:
            self.given = []

    def inline(self, encode: Callable[[Any], bytes], value: Any) -> bytes:
        """Return *value* encoded with nothing beside it."""
        taken, self.taken = self.taken, None
        try:
            return encode(value)
        finally:
            self.taken = taken

    def put(self, buffer: Any) -> int:
        """Put *buffer* beside the payload and return its number: the payload itself is 0."""
        assert self.taken is not None
        self.taken.append(buffer)
        return len(self.taken)

    def take(self, number: int) -> bytes:
        """Return the buffer of that number.

        Raises:
            CodecError: There is none.
        """
        if not 1 <= number <= len(self.given):
            raise CodecError(f"there is no buffer {number}; {len(self.given)} came")
        found = self.given[number - 1]
        if found is None:
            raise CodecError(f"buffer {number} is meant twice")
        self.given[number - 1] = None  # it belongs to one value, which may write to it
        return found

    def array_parts(self, array: Any) -> list[Any]:
        """Return dtype, shape, and number or bytes of an array.

        Raises:
            TypeError: It holds objects or named fields.
        """
        dtype = array.dtype
        if dtype.hasobject or dtype.names is not None or dtype.char not in _PLAIN_KINDS:
            raise TypeError(f"arrays of dtype {dtype} can't be sent; use plain numbers or text")
        flat = array if array.flags.c_contiguous else array.copy(order="C")
        if self.taken is not None and flat.nbytes >= BESIDE_FROM:
            # By way of bytes: dates and half floats have no buffer of their own.
            data: Any = self.put(memoryview(flat.reshape(-1).view("u1")))
        else:
            data = flat.tobytes()
        return [dtype.str, list(array.shape), data]

    def array_of(self, dtype: str, shape: Sequence[int], data: int | bytes) -> Any:
        """Return the array that a peer describes, which may be written to.

        Raises:
            CodecError: It is none, or not what the bytes are.
        """
        numpy = _numpy()
        if _DTYPE.fullmatch(dtype) is None:
            raise CodecError("an array has a dtype that is none, or is not taken")
        try:
            kind = numpy.dtype(dtype)
        except (TypeError, ValueError):
            raise CodecError("an array has a dtype that is none") from None
        if kind.hasobject or kind.names is not None or kind.char not in _PLAIN_KINDS:
            raise CodecError("an array has a dtype that is not taken")
        if len(shape) > _NDIM_MAX or any(size < 0 for size in shape):
            raise CodecError(f"an array has a shape that is none, or over {_NDIM_MAX} dimensions")
        raw = self.take(data) if isinstance(data, int) else data
        if not kind.itemsize or kind.itemsize * math.prod(shape) != len(raw):
            raise CodecError(f"an array of {len(raw)} bytes has another dtype and shape")
        try:
            if not raw:
                return numpy.zeros(shape, kind)
            return numpy.frombuffer(writable(raw), kind).reshape(shape)
        except (ValueError, OverflowError):  # such as a dimension of 2**62 beside one of 0
            raise CodecError("an array has a shape that can't be") from None


def check_parts(data: bytes | memoryview) -> None:
    """Look at the head of an array's parts before they are unpacked.

    Raises:
        CodecError: They are no array of three, with a short dtype and a shape of few
            dimensions in front.
    """
    head = bytes(data[:40])
    at = 2 + (head[1] & 31 if len(head) > 1 and 0xA0 <= head[1] <= 0xBF else 38)
    shape = head[at : at + 3]
    count = shape[0] & 15 if shape and shape[0] >> 4 == 9 else int.from_bytes(shape[1:], "big")
    is_shape = len(shape) == 3 and (shape[0] >> 4 == 9 or shape[0] == 0xDC)
    if head[:1] != b"\x93" or not is_shape or count > _NDIM_MAX:
        text = f"an array is not made of dtype, shape (at most {_NDIM_MAX} dimensions) and data"
        raise CodecError(text)


def lift(args: Sequence[Any], buffers: Buffers, place: Callable[[int], Any]) -> list[Any]:
    """Return *args* with large bytes put beside the payload.

    Only arguments themselves are looked at, not what is inside them. In their places
    stands what *place* makes of their numbers.
    """
    return [
        place(buffers.put(memoryview(item).cast("B")))
        if type(item) in _BYTES and memoryview(item).nbytes >= BESIDE_FROM and _is_flat(item)
        else item
        for item in args
    ]


_BYTES: Final = (bytes, bytearray, memoryview)


def _is_flat(item: Any) -> bool:
    return type(item) is not memoryview or item.c_contiguous


def is_array(value: object) -> bool:
    """Say whether *value* is an array of numpy, without importing it."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def scalar_of(value: Any) -> Any:
    """Return a number of numpy's as one of Python's, None if it is none."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, numpy.generic):
        return None
    plain = value.item()
    return plain if type(plain) in (bool, int, float, str, bytes) else None


def nested(array: Any) -> Any:
    """Return an array as lists of lists, for codecs that are text.

    Raises:
        TypeError: Its items have no words there.
    """
    if array.dtype.kind not in _TEXT_KINDS:
        raise TypeError(f"arrays of dtype {array.dtype} can't be sent as text")
    return array.tolist()


def is_array_type(wanted: Any) -> bool:
    """Say whether an annotation means an array of numpy."""
    origin = typing.get_origin(wanted) or wanted
    names = getattr(origin, "__module__", ""), getattr(origin, "__qualname__", "")
    return names == ("numpy", "ndarray")


def array_reader(wanted: Any) -> Reader:
    """Return the reader of an array, of a certain dtype if the annotation says so."""
    numpy = _numpy()
    args = typing.get_args(wanted)
    inner = typing.get_args(args[1]) if len(args) > 1 else ()
    scalar = inner[0] if inner and isinstance(inner[0], type) else None
    name = f"ndarray of {scalar.__name__}" if scalar is not None else "ndarray"

    def read(value: Any) -> Any:
        if type(value) is list:
            try:
                exact = scalar if scalar is not None and _is_exact(numpy, scalar) else None
                value = numpy.array(value, dtype=exact)
            except (TypeError, ValueError, OverflowError):
                raise Mismatch(f"expected {name} as nested lists of equal length") from None
            if value.dtype.hasobject:
                raise Mismatch(f"expected {name} as nested lists of equal length")
        if not isinstance(value, numpy.ndarray):
            raise expected(name, value)
        if scalar is not None and not numpy.issubdtype(value.dtype, scalar):
            raise Mismatch(f"expected {name}, got ndarray of {value.dtype}")
        return value

    return Reader(name, Group.ARRAY, (list,), read, weak=True, own=True)


def _is_exact(numpy: Any, scalar: type) -> bool:
    """Say whether *scalar* is one dtype, not a family such as numpy.floating."""
    try:
        return bool(numpy.dtype(scalar).type is scalar)
    except TypeError:
        return False


def _numpy() -> Any:
    try:
        import numpy  # noqa: PLC0415  only who sends arrays needs it
    except ModuleNotFoundError as error:
        if error.name != "numpy":
            raise
        raise CodecError("arrays need numpy, which is not installed") from None
    return numpy
