"""Inflate one payload in small steps, never past the size that was stated.

The libraries have caps of their own, but each means something else by them: one
ignores its cap if the data states a size, one takes the memory first, one copies
the rest of the input with each step. So they are fed a little and asked for a
little, and the counting is done here, once for all of them.

Rules of the room:
  * no byte is kept beyond the stated size, and memory at most doubles on the way
    there, so a size that is a lie costs next to nothing;
  * input must lead to output: nobody reads a frame of blocks that hold nothing to
    its end. Between blocks that hold much they can still hide, so the time for a
    frame is bounded by its length, at what the library's dearest block costs;
  * every error is a `CodecError` in words of ours: none repeats what was sent.
"""

import io
from collections.abc import Callable
from typing import Final

from fastrpc.compress.contract import Data
from fastrpc.errors import CodecError

#: Bytes given to a library at once: what it copies if it can't use all of them.
PIECE: Final = 16 * 2**10
#: Bytes asked of a library at once: it may take the memory for them up front.
STEP: Final = 128 * 2**10
#: Memory of a result that takes more than one step begins with so much.
_FIRST: Final = 2 * STEP

#: Takes bytes and how many it may give; returns what came out, which of the bytes
#: it has not used, and whether the compressed data is at its end. It must use or
#: give something unless it is given nothing.
Step = Callable[[Data, int], tuple[bytes, Data, bool]]


def inflate(name: str, step: Step, data: Data, size: int, lag: int) -> bytes:
    """Return the *size* bytes that *data* stands for.

    Args:
        name: Of the compressor, for messages.
        step: A library's inflater, at its beginning.
        data: One compressed payload and nothing else.
        size: How many bytes must come out.
        lag: Bytes by which an honest payload may be ahead of what came out of it:
            the largest block that has to be complete before it gives anything.

    Raises:
        CodecError: It is not one payload of that size.
    """
    view = memoryview(data)
    output = _Output(size)
    rest: Data = b""
    given = 0
    more = False  # there may be more output without more input
    while True:
        if not rest and not more:
            if given == len(view):
                raise CodecError(f"the {name} payload is cut off")
            rest = view[given : given + PIECE]
            given += len(rest)
        had = len(rest)
        # One more than there may be: who gives it is too long, who doesn't has come to an end.
        most = min(STEP, size - output.written + 1)
        try:
            chunk, rest, ended = step(rest, most)
        except Exception:  # whatever a library raises about bytes that are none of its own
            raise CodecError(f"the {name} payload is damaged") from None
        if output.written + len(chunk) > size:
            raise CodecError(f"the {name} payload is longer than the {size} bytes it states")
        output.write(chunk)
        if ended:
            break
        more = len(chunk) == most
        stuck = not chunk and 0 < had == len(rest)
        if stuck or (not more and given - len(rest) > output.written * 5 // 4 + lag):
            raise CodecError(f"the {name} payload has too many bytes that give nothing")
    if rest or given < len(view):
        raise CodecError(f"the {name} payload has bytes behind its end")
    if output.written < size:
        raise CodecError(f"the {name} payload is shorter than the {size} bytes it states")
    return output.value()


class _Output:
    """What came out so far, in memory that doubles up to *size*.

    Doubling moves bytes less often than `BytesIO` does by itself, and where memory
    can't grow in place old and new together take less.
    """

    __slots__ = ("_buffer", "_first", "_room", "_size", "written")

    def __init__(self, size: int) -> None:
        self._size = size
        self._first = b""
        self._buffer: io.BytesIO | None = None
        self._room = 0
        self.written = 0

    def write(self, chunk: bytes) -> None:
        """Add *chunk*; all together must not be more than the size."""
        if not self.written:  # most payloads end with it, and need no buffer
            self._first = chunk
            self.written = len(chunk)
            return
        if self._buffer is None:
            self._buffer = io.BytesIO()
            self._buffer.write(self._first)
            self._first = b""
        self.written += len(chunk)
        if self.written > self._room:
            self._room = min(max(2 * self._room, self.written, _FIRST), self._size)
            place = self._buffer.tell()
            self._buffer.seek(self._room - 1)
            self._buffer.write(b"\0")
            self._buffer.seek(place)
        self._buffer.write(chunk)

    def value(self) -> bytes:
        """Return all of it, once it has the whole size."""
        return self._first if self._buffer is None else self._buffer.getvalue()
