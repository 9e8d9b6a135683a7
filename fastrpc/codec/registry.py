"""Keep the codecs one side knows, by name and by wire number.

A registry is an ordinary object that belongs to one server or client: nothing is
global, so two servers in one process may know different codecs.

Rules of the room:
  * a name and a number belong to one codec, for good;
  * pickle is never here unless somebody asked for it by that name;
  * nor is a codec that needs a library of its own, and the library isn't imported.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from fastrpc.codec.contract import Codec
from fastrpc.codec.engine import JsonCodec, MsgpackCodec
from fastrpc.codec.extras import EXTRAS, extra
from fastrpc.codec.raw import RawCodec
from fastrpc.errors import ConfigError
from fastrpc.wire import SERIALIZER_CUSTOM, Limits, Serializer

#: Numbers the wire document gives to names; a codec of that name must use it.
_KNOWN = {item.name.lower(): int(item) for item in Serializer}


class CodecRegistry:
    """Find codecs by name or number.

    Args:
        codecs: What to begin with; every one is checked as in `register`.
        limits: For codecs that are given by name.

    Attributes:
        beside: Where its codecs put what goes beside a payload: one list, for whoever
            encodes has to look there, and to leave it empty.
    """

    def __init__(self, codecs: Iterable[Codec | str] = (), limits: Limits | None = None) -> None:
        self._limits = limits
        self.beside: list[Any] = []
        self._by_name: dict[str, Codec] = {}
        self._by_number: dict[int, Codec] = {}
        for codec in codecs:
            self.register(codec)

    def register(self, codec: Codec | str) -> None:
        """Add a codec of the user's own, or one of `extras.EXTRAS` by its name.

        Its number is one of 16 to 31, unless the wire document has a number for
        its name (protobuf 4, cbor 5, arrow 6).

        Raises:
            ConfigError: Name or number is taken or not allowed, or the library of a
                codec given by name is not installed.
        """
        if isinstance(codec, str):
            codec = extra(codec, self._limits)
        name, number = codec.name, codec.serializer
        if name == "pickle":
            raise ConfigError("pickle is switched on with pickle=True, not registered")
        self._add(name, number, codec)

    def _add(self, name: str, number: int, codec: Codec) -> None:
        if not name.isascii() or not name.isprintable() or name != name.lower().strip() or not name:
            raise ConfigError(f"a codec's name must be lower-case ASCII text, got {name!r}")
        if type(number) is not int:
            raise ConfigError(f"the number of codec {name!r} must be an int, got {number!r}")
        if name in _KNOWN:
            if number != _KNOWN[name]:
                raise ConfigError(f"codec {name!r} has number {_KNOWN[name]}, got {number}")
        elif number not in SERIALIZER_CUSTOM:
            raise ConfigError(f"the number of codec {name!r} must be 16 to 31, got {number}")
        if name in self._by_name:
            raise ConfigError(f"there is a codec named {name!r} already")
        if number in self._by_number:
            taken = self._by_number[number].name
            raise ConfigError(f"number {number} of codec {name!r} belongs to {taken!r}")
        self._by_name[name] = codec
        self._by_number[number] = codec

    def get(self, name: str) -> Codec:
        """Return the codec called *name*.

        Raises:
            ConfigError: There is none; the text lists those there are.
        """
        codec = self._by_name.get(name)
        if codec is None:
            known = ", ".join(self._by_name)
            raise ConfigError(f"no codec is called {name!r}; known are {known}")
        return codec

    def choose(self, name: str) -> Codec:
        """Return the codec called *name*, opening it if it is one of `extras.EXTRAS`.

        Raises:
            ConfigError: There is none, or its library is not installed.
        """
        if name in EXTRAS and name not in self._by_name:
            self.register(name)
        return self.get(name)

    def find(self, serializer: int) -> Codec | None:
        """Return the codec with wire number *serializer*, or None."""
        return self._by_number.get(serializer)

    @property
    def names(self) -> dict[str, int]:
        """The names and numbers of all codecs, as HELLO tells them."""
        return {name: codec.serializer for name, codec in self._by_name.items()}

    def __iter__(self) -> Iterator[Codec]:
        """Go through the codecs in the order they came."""
        return iter(self._by_name.values())

    def __len__(self) -> int:
        """Count the codecs."""
        return len(self._by_name)

    def with_pickle(self) -> "CodecRegistry":
        """Return a copy that knows pickle too.

        Whoever may send pickled bytes may run code of his choice here. Both sides
        must switch it on, and only where every peer is trusted.
        """
        # Only here, so that a process that never asked for it has no pickle codec.
        from fastrpc.codec.pickled import PickleCodec  # noqa: PLC0415

        copy = CodecRegistry(limits=self._limits)
        copy._by_name = dict(self._by_name)
        copy._by_number = dict(self._by_number)
        if "pickle" not in copy._by_name:
            codec = PickleCodec()
            copy._add(codec.name, codec.serializer, codec)
        return copy


def is_typed_only(codec: Codec) -> bool:
    """Tell whether *codec* reads nothing without its type, as a schema's codec must.

    Its `decode` always raises. Arguments come by way of `arguments`, one message to a
    call, and results by way of `decoder`.
    """
    return bool(getattr(codec, "typed_only", False))


def default_codecs(limits: Limits | None = None) -> CodecRegistry:
    """Return a new registry with raw, msgpack and JSON.

    Args:
        limits: Depth and items that JSON payloads may have; msgpack payloads are
            checked where the frames are split.
    """
    limits = limits if limits is not None else Limits()
    json = JsonCodec(max_depth=limits.max_depth, max_items=limits.max_items)
    return CodecRegistry((RawCodec(), MsgpackCodec(), json), limits)
