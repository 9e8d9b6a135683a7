"""Find where the messages of a stream of msgpack end.

msgpack-rpc has no lengths in front of its messages: a reader has to walk through each to
find its end. Here that is done once per byte, however the stream is cut.

Rules of the room:
  * nothing is built, and no memory taken for what a container claims to hold;
  * a message that grows over its limit ends the stream.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, final

from msgpack import OutOfData, Unpacker  # type: ignore[import-untyped]

from fastrpc.errors import ProtocolError
from fastrpc.wire import MSGPACK_FIXED, MSGPACK_VARIABLE

_NEVER: Final = 0xC1
_STEP: Final = 2**20

#: Deepest nesting that is walked through; what a payload may have is checked later.
_DEPTH_MAX: Final = 1000


def scalar_end(data: bytes | bytearray, at: int) -> int:
    """Return where the value at *at* ends, 0 if more is needed, -1 if it is a container.

    Raises:
        ProtocolError: No value begins so.
    """
    byte = data[at]
    if byte < 0x80 or byte >= 0xE0 or 0xC0 <= byte <= 0xC3:
        if byte == _NEVER:
            raise ProtocolError("not msgpack: it has the byte c1")
        return at + 1
    if byte < 0xA0 or byte >= 0xDC:
        return -1
    if byte < 0xC0:
        end = at + 1 + (byte & 31)
    elif byte in MSGPACK_FIXED:
        end = at + 1 + MSGPACK_FIXED[byte]
    else:
        width, beside = MSGPACK_VARIABLE[byte]
        start = at + 1 + width
        if start > len(data):
            return 0
        end = start + beside + int.from_bytes(data[at + 1 : start], "big")
    return end if end <= len(data) else 0


@final
class EndsPlainly:
    """Walk through a stream of msgpack, value by value.

    Args:
        longest: Most bytes of one value.
    """

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._data = bytearray()
        self._at = 0  # where to go on
        self._left = [1]  # how many values each open container still waits for

    @property
    def has_more(self) -> bool:
        """Whether part of a value has come and the rest has not."""
        return bool(self._data)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take the next bytes and give the values that they complete; go on to the end.

        Raises:
            ProtocolError: They are no msgpack, or a value is too long.
        """
        self._data += data
        while self._walk():
            value = bytes(self._data[: self._at])
            del self._data[: self._at]
            self._at = 0
            self._left = [1]
            yield value
        if len(self._data) > self._longest:
            raise ProtocolError(f"a message is over {self._longest} bytes")

    def _walk(self) -> bool:
        """Go to the end of the value; False if it is not all there."""
        data, left = self._data, self._left
        while left:
            if not left[-1]:
                left.pop()
                continue
            if self._at >= len(data):
                return False
            end = scalar_end(data, self._at)
            if end == 0:
                return False
            count = 0
            if end < 0:
                end, count = _opened(data, self._at)
                if end == 0:
                    return False
            left[-1] -= 1
            self._at = end
            if count:
                if len(left) > _DEPTH_MAX:
                    raise ProtocolError(f"a message is nested deeper than {_DEPTH_MAX}")
                left.append(count)
        return True


def _opened(data: bytearray, at: int) -> tuple[int, int]:
    """Return where the first element of a container begins, 0 if unknown, and how many follow."""
    byte = data[at]
    if byte < 0xA0:
        return at + 1, (byte & 15) * (2 if byte < 0x90 else 1)
    width = 4 if byte & 1 else 2
    start = at + 1 + width
    if start > len(data):
        return 0, 0
    return start, int.from_bytes(data[at + 1 : start], "big") * (2 if byte >= 0xDE else 1)


@final
class EndsQuickly:
    """The same, with the compiled walker of the `msgpack` package."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._data = bytearray()
        self._start = 0  # of the data, in the stream
        self._walker = Unpacker(max_buffer_size=longest + _STEP)

    @property
    def has_more(self) -> bool:
        """Whether part of a value has come and the rest has not."""
        return bool(self._data)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take the next bytes and give the values that they complete; go on to the end.

        Raises:
            ProtocolError: They are no msgpack, or a value is too long.
        """
        for at in range(0, len(data), _STEP):  # as much as the walker has room for
            yield from self._feed(data[at : at + _STEP] if len(data) > _STEP else data)
            if len(self._data) > self._longest:
                raise ProtocolError(f"a message is over {self._longest} bytes")

    def _feed(self, data: bytes) -> Iterator[bytes]:
        walker, at = self._walker, 0
        walker.feed(data)
        self._data += data
        try:
            while True:
                walker.skip()
                start, at = at, walker.tell() - self._start
                yield bytes(self._data[start:at])
        except OutOfData:
            pass
        except ValueError as error:
            raise ProtocolError(f"not msgpack: {type(error).__name__}") from None
        self._start += at
        del self._data[:at]


if TYPE_CHECKING:
    Ends = EndsPlainly
else:
    # The one in plain Python begins anew with every piece.
    Ends = EndsQuickly if Unpacker.__module__.endswith("_cmsgpack") else EndsPlainly
