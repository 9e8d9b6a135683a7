"""Share what the codecs of schemas have in common: one message is the payload.

Protobuf, Thrift, Avro and Arrow describe messages, not argument lists. So a call has
one argument, its bytes are the payload, and a call without arguments has none.

Rules of the room:
  * nothing is read without a type, so `decode` says why instead;
  * no bytes are no arguments, or the result None; only protobuf has a message of no
    bytes, so there they are that message.
"""

import types
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NoReturn, Union

from fastrpc.codec.contract import Mismatch
from fastrpc.codec.convert import type_name
from fastrpc.codec.reader import expected
from fastrpc.errors import CodecError, ConfigError

Read = Callable[[bytes], Any]


class MessageCodec(ABC):
    """Send and receive one message at a time, each of a type known to both sides.

    Args:
        max_depth: Deepest nesting of a message.
        max_items: Most parts of a message, all containers together.

    Attributes:
        typed_only: Tells those who call a codec that bytes alone say nothing.
        carries: What a message is, for errors.
        empty: A message may have no bytes.
        maps: A message may be a dict.
    """

    name: str
    serializer: int
    typed_only: ClassVar[bool] = True
    carries: ClassVar[str]
    empty: ClassVar[bool] = False
    maps: ClassVar[bool] = False

    def __init__(self, max_depth: int = 64, max_items: int = 100_000) -> None:
        self.max_depth = max_depth
        self.max_items = max_items
        self._reads: dict[object, Read] = {}

    @abstractmethod
    def write(self, message: Any) -> bytes:
        """Return *message* as bytes; raise any exception if that can't be done."""

    @abstractmethod
    def reader(self, wanted: Any) -> Read:
        """Return the function that reads a message of one type.

        Raises:
            ConfigError: It is no type of message.
        """

    def encode(self, value: object, /) -> bytes:
        """Return one message, or a tuple of one, as bytes.

        Raises:
            CodecError: It is more than one, or no message.
        """
        if type(value) is tuple:
            if len(value) > 1:
                raise CodecError(f"the {self.name} codec carries one argument, got {len(value)}")
            value = value[0] if value else None
        elif type(value) is dict and not self.maps:
            raise CodecError(
                f"the {self.name} codec carries {self.carries}, by position and not by name"
            )
        if value is None:
            return b""
        return self.write(value)

    def decode(self, data: bytes, /) -> NoReturn:
        """Raise: bytes of a message mean nothing without its type."""
        raise CodecError(
            f"the {self.name} codec reads nothing without a type: annotate the method, and "
            "call it through a stub"
        )

    def decoder(self, type: object, /) -> Read:
        """Return a function that reads one message of *type*, or None.

        Raises:
            ConfigError: *type* is no type of message.
        """
        try:
            known = self._reads.get(type)
        except TypeError:  # an Annotated with something unhashable in it
            return self._decoder(type)
        if known is None:
            known = self._reads[type] = self._decoder(type)
        return known

    def _decoder(self, wanted: Any) -> Read:
        if wanted is None or wanted is types.NoneType:
            return _nothing
        bare = _without_none(wanted)
        if bare is wanted:
            return self.reader(wanted)
        if self.empty:
            raise ConfigError(
                f"{type_name(wanted)}: over {self.name} None and an empty message are the same"
            )
        read = self.reader(bare)
        return lambda data: read(data) if len(data) else None

    def arguments(
        self, types: Sequence[object], required: int, rest: object | None, /
    ) -> Callable[[bytes], Sequence[object]]:
        """Return a function that reads one message, or none at all.

        Raises:
            ConfigError: The method can't be called with exactly one message, and not
                without arguments either.
        """
        if not types and rest is None:
            return _no_arguments
        if required > 1:
            raise ConfigError(
                f"the {self.name} codec carries one argument, {self.carries}; "
                "put what belongs together into one message"
            )
        read = self.decoder(types[0] if types else rest)
        if required or self.empty:
            return lambda data: (read(data),)
        return lambda data: (read(data),) if len(data) else ()

    def convert(self, value: object, type: object, /) -> object:
        """Return *value* if it is a *type* already: there is nothing else to convert.

        Raises:
            Mismatch: It is not.
        """
        wanted = _without_none(type)
        cls = typing.get_origin(wanted) or wanted
        if value is None and (wanted is not type or wanted is None):
            return None
        if isinstance(cls, _CLASS) and isinstance(value, cls):
            return value
        raise expected(type_name(type), value)

    def refuse(self, wanted: Any) -> NoReturn:
        """Raise the error for a type that is none of a message."""
        raise ConfigError(f"the {self.name} codec carries {self.carries}, not {type_name(wanted)}")


_CLASS = type


def _without_none(wanted: Any) -> Any:
    """Return X for `X | None`, anything else as it is."""
    if typing.get_origin(wanted) not in (Union, types.UnionType):
        return wanted
    rest = tuple(item for item in typing.get_args(wanted) if item is not types.NoneType)
    return wanted if len(rest) == len(typing.get_args(wanted)) else Union[rest]  # noqa: UP007


def _nothing(data: bytes) -> None:
    if len(data):
        raise Mismatch(f"expected None, got a message of {len(data)} bytes")


def _no_arguments(data: bytes) -> Sequence[object]:
    if len(data):
        raise Mismatch(f"expected no arguments, got {len(data)} bytes")
    return ()
