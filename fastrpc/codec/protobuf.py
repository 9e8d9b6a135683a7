"""Speak protobuf: the messages that protoc makes, one to a call.

Google's library reads and writes. It has its own limit of depth, 100; that of items is
ours, because an empty message of two bytes becomes an object of fifty.

Rules of the room:
  * what the library raises becomes a `CodecError` without its words.
"""

from typing import Any, ClassVar, Final

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message

from fastrpc.codec.messages import MessageCodec, Read
from fastrpc.errors import CodecError, TooLarge
from fastrpc.wire import Serializer

#: The library's own limit of nesting; it can't be asked for.
DEPTH_MAX: Final = 100

_VARINT, _FIXED64, _BYTES, _GROUP, _GROUP_END, _FIXED32 = range(6)
_WIDTHS: Final = {_FIXED64: 8, _FIXED32: 4}


class ProtobufCodec(MessageCodec):
    """Speak protobuf: a generated message is the argument, another the result.

    Args:
        max_depth: Not used; the library refuses more than `DEPTH_MAX`.
        max_items: Most fields of a message, all its messages together.
    """

    name = "protobuf"
    serializer = int(Serializer.PROTOBUF)
    carries: ClassVar[str] = "a generated protobuf message"
    empty: ClassVar[bool] = True

    def write(self, message: Any) -> bytes:
        """Return a message as bytes."""
        if not isinstance(message, Message):
            raise CodecError(
                f"the protobuf codec carries {self.carries}, got {type(message).__name__}"
            )
        return bytes(message.SerializeToString())

    def reader(self, wanted: Any) -> Read:
        """Return the function that reads messages of a generated class."""
        if not (isinstance(wanted, type) and issubclass(wanted, Message)):
            self.refuse(wanted)
        described: Descriptor | None = getattr(wanted, "DESCRIPTOR", None)
        if described is None:  # Message itself
            self.refuse(wanted)
        make, name, most = wanted.FromString, described.name, self.max_items

        def read(data: bytes) -> Message:
            data = bytes(data)
            if len(data) > 2 * most:  # a field has two bytes at least
                _check_fields(data, described, most)
            try:
                message = make(data)
            except (DecodeError, ValueError, RecursionError):
                raise CodecError(
                    f"{name} is malformed protobuf, or nested deeper than {DEPTH_MAX}"
                ) from None
            if not message.IsInitialized():
                raise CodecError(f"{name} lacks a required field")
            return message

        return read


def _check_fields(data: bytes, described: Descriptor, max_items: int) -> None:
    """Refuse a message with too many fields; malformed ones are left to the library.

    Fields of numbers packed into one count as one: they take little more memory than
    they have bytes.

    Raises:
        TooLarge: There are more than *max_items*.
    """
    # Of each open message: where it ends, and what it is (None: nobody knows).
    inside: list[tuple[int, Descriptor | None]] = [(len(data), described)]
    at = items = 0
    while inside and len(inside) <= DEPTH_MAX and at <= inside[-1][0]:
        end, kind = inside[-1]
        if at == end:
            inside.pop()
            continue
        tag, at = _varint(data, at)
        items += 1
        if items > max_items:
            raise TooLarge(f"{described.name} has more than {max_items} fields (max_items)")
        wire = tag & 7
        if wire in _WIDTHS:
            at += _WIDTHS[wire]
        elif wire == _VARINT:
            _, at = _varint(data, at)
        elif wire == _BYTES:
            length, at = _varint(data, at)
            inner = _message_of(kind, tag >> 3)
            if inner is not None:
                inside.append((at + length, inner))
            else:
                at += length
        elif wire == _GROUP:
            inside.append((end, _message_of(kind, tag >> 3)))
        elif wire == _GROUP_END:
            inside.pop()
        else:
            return


def _message_of(kind: Descriptor | None, number: int) -> Descriptor | None:
    if kind is None:
        return None
    field = kind.fields_by_number.get(number)
    if field is None and kind.is_extendable:
        try:
            field = kind.file.pool.FindExtensionByNumber(kind, number)
        except KeyError:
            return None
    return field.message_type if field is not None else None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a number and the place behind it; a broken one ends behind the data."""
    value = 0
    for place, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, at + place + 1
    return 0, len(data) + 1
