"""Compress with zlib, which every Python has.

The format is that of RFC 1950 alone: two bytes of header, deflate, a checksum. Raw
deflate and gzip are other names for the same bytes and would be other ways in.

Rules of the room:
  * one stream, no preset dictionary.
"""

import zlib
from typing import Final

from fastrpc.compress.contract import Data, check_level
from fastrpc.compress.inflate import inflate

#: Fastest: for calls the time matters more than the last tenth of the size.
_LEVEL: Final = 1
#: A stored block gives its bytes as they come; what can be ahead is a block's head.
_LAG: Final = 2 * 2**10


class ZlibCompressor:
    """Compress with zlib.

    Args:
        level: 1, fastest, to 9, smallest.
    """

    name = "zlib"

    def __init__(self, *, level: int = _LEVEL) -> None:
        self._level = check_level(self.name, level, 1, 9)

    def compress(self, data: Data, /) -> bytes:
        """Return *data* as a zlib stream."""
        return zlib.compress(data, self._level)

    def decompress(self, data: Data, size: int, /) -> bytes:
        """Return the *size* bytes of the zlib stream *data*.

        Raises:
            CodecError: It is not exactly one stream of that size.
        """
        stream = zlib.decompressobj(wbits=zlib.MAX_WBITS)  # that number means RFC 1950 only

        def step(piece: Data, most: int) -> tuple[bytes, Data, bool]:
            chunk = stream.decompress(piece, most)
            return chunk, stream.unused_data or stream.unconsumed_tail, stream.eof

        return inflate(self.name, step, data, size, _LAG)
