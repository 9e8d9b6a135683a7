"""Pack the pairs that travel beside a call, readable without any codec.

The bytes are those of the wire document, section 5: u8 key size, key, u16 value
size, value, one pair after the other.

Rules of the room:
  * keys are lower-case ASCII, so that a proxy can compare them byte by byte;
  * order is kept and a key may come twice.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import final

from fastrpc.errors import InvalidArgument, TooLarge
from fastrpc.wire import LIMIT_CEILINGS, Limits

Pairs = Mapping[str, str | bytes] | Iterable[tuple[str, str | bytes]]

_ANY = Limits(max_metadata=LIMIT_CEILINGS["max_metadata"], max_metadata_pairs=2**16)
_KEY_MAX = 255
_VALUE_MAX = 65_535
# Printable ASCII but space and capitals: what a header line of any tongue takes.
_KEY_BYTES = frozenset(range(0x21, 0x7F)) - frozenset(range(ord("A"), ord("Z") + 1))


@final
class Metadata(Mapping[str, bytes]):
    """The pairs beside a call or a reply: a mapping that knows keys which come twice.

    Args:
        pairs: Packed, or anything that `encode_metadata` takes.
    """

    __slots__ = ("_first", "_pairs")

    def __init__(self, pairs: "bytes | Pairs" = b"") -> None:
        if isinstance(pairs, bytes):
            self._pairs = decode_metadata(pairs, _ANY)
        elif isinstance(pairs, Metadata):
            self._pairs = pairs._pairs
        else:
            self._pairs = decode_metadata(encode_metadata(pairs), _ANY)
        self._first: dict[str, bytes] | None = None

    def __getitem__(self, key: str) -> bytes:
        """Return the first value of *key*."""
        if self._first is None:
            self._first = dict(reversed(self._pairs))
        return self._first[key]

    def __iter__(self) -> Iterator[str]:
        """Go through the keys, each once, in the order they came."""
        return iter(dict.fromkeys(key for key, _ in self._pairs))

    def __len__(self) -> int:
        """Count the keys."""
        return len({key for key, _ in self._pairs})

    def __repr__(self) -> str:
        """Tell the keys; values may be secret."""
        return f"<Metadata {', '.join(self) or 'empty'}>"

    def text(self, key: str, default: str = "") -> str:
        """Return the first value of *key* as text; what is no UTF-8 is replaced."""
        value = self.get(key)
        return default if value is None else value.decode("utf-8", "replace")

    def all(self, key: str) -> list[bytes]:
        """Return every value of *key*, in order."""
        return [value for name, value in self._pairs if name == key]

    @property
    def pairs(self) -> list[tuple[str, bytes]]:
        """All pairs, in order."""
        return list(self._pairs)


def encode_metadata(pairs: Pairs, limits: Limits | None = None) -> bytes:
    """Return *pairs* as bytes; text values are sent as UTF-8.

    Args:
        pairs: A mapping, or pairs of key and value.
        limits: What the peer takes; by default only what fits the format.

    Raises:
        InvalidArgument: A key or value is of the wrong kind.
        TooLarge: A pair or all of them are too long, or there are too many.
    """
    out = bytearray()
    if isinstance(pairs, Metadata):
        pairs = pairs.pairs
    items = pairs.items() if isinstance(pairs, Mapping) else pairs
    for count, (key, value) in enumerate(items, 1):
        name = _key(key)
        if isinstance(value, str):
            value = value.encode()
        if not isinstance(value, bytes | bytearray | memoryview):
            raise InvalidArgument(
                f"metadata {key!r}: the value must be str or bytes, got {type(value).__name__}"
            )
        value = bytes(value)
        if len(value) > _VALUE_MAX:
            raise TooLarge(f"metadata {key!r}: {len(value)} bytes, at most {_VALUE_MAX} allowed")
        out += len(name).to_bytes(1, "big") + name + len(value).to_bytes(2, "big") + value
        _check_size(len(out), count, limits)
    return bytes(out)


def decode_metadata(data: bytes, limits: Limits | None = None) -> list[tuple[str, bytes]]:
    """Return the pairs in *data*, in their order.

    Raises:
        InvalidArgument: The bytes are no metadata.
        TooLarge: They are more than `max_metadata` or `max_metadata_pairs` allow.
    """
    limits = limits if limits is not None else Limits()
    _check_size(len(data), 0, limits)
    data = bytes(data)
    pairs: list[tuple[str, bytes]] = []
    at, end = 0, len(data)
    while at < end:
        start = at + 1
        stop = start + data[at]
        if stop + 2 > end:
            raise InvalidArgument(f"metadata is cut off in pair {len(pairs) + 1}")
        key = data[start:stop]
        at = stop + 2 + int.from_bytes(data[stop : stop + 2], "big")
        if at > end:
            raise InvalidArgument(f"metadata is cut off in pair {len(pairs) + 1}")
        if not key or not _KEY_BYTES.issuperset(key):
            raise InvalidArgument(f"metadata key {len(pairs) + 1} is not lower-case ASCII")
        _check_size(0, len(pairs) + 1, limits)
        pairs.append((key.decode("ascii"), data[stop + 2 : at]))
    return pairs


def _key(key: object) -> bytes:
    if not isinstance(key, str):
        raise InvalidArgument(f"metadata keys must be str, got {type(key).__name__}")
    name = key.encode("utf-8", "replace")
    if not name or not _KEY_BYTES.issuperset(name):
        raise InvalidArgument(f"metadata key {key!r} must be lower-case ASCII without spaces")
    if len(name) > _KEY_MAX:
        raise TooLarge(f"metadata key {key[:40]!r}...: {len(name)} bytes, at most {_KEY_MAX}")
    return name


def _check_size(size: int, count: int, limits: Limits | None) -> None:
    most = limits.max_metadata if limits is not None else LIMIT_CEILINGS["max_metadata"]
    if size > most:
        raise TooLarge(f"metadata of {size} bytes, max_metadata is {most}")
    if limits is not None and count > limits.max_metadata_pairs:
        raise TooLarge(f"more than {limits.max_metadata_pairs} metadata pairs (max_metadata_pairs)")
