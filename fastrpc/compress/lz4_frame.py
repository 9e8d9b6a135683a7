"""Compress with LZ4: the least work, for payloads that shrink easily.

Rules of the room:
  * one LZ4 frame with blocks of 64 KiB, no dictionary, nothing to skip before it;
  * the library is imported when a compressor is made, not before.
"""

from typing import Final

from fastrpc.compress.contract import Data, check_level
from fastrpc.compress.inflate import inflate
from fastrpc.errors import CodecError, ConfigError

_MAGIC: Final = b"\x04\x22\x4d\x18"
_LEVEL_MAX: Final = 12
# The two bytes behind the magic number.
_HAS_DICTIONARY: Final = 0x01
_BLOCK_SHIFT: Final = 4
_BLOCK_MASK: Final = 0x07
_BLOCK_64K: Final = 4
#: A block of 64 KiB, its head and the frame's.
_LAG: Final = 64 * 2**10 + 64


class Lz4Compressor:
    """Compress with LZ4.

    Args:
        level: 0, fastest, to 12; from 3 on much slower to compress, a bit smaller.

    Raises:
        ConfigError: The library is not installed; the text says how to.
    """

    name = "lz4"

    def __init__(self, *, level: int = 0) -> None:
        self._level = check_level(self.name, level, 0, _LEVEL_MAX)
        # Here, because it is an optional extra and nobody else should pay for it.
        try:
            import lz4.frame  # noqa: PLC0415
        except ImportError:
            raise ConfigError("lz4 is not installed: pip install 'fastrpc[lz4]'") from None
        self._lz4 = lz4.frame

    def compress(self, data: Data, /) -> bytes:
        """Return *data* as a frame."""
        frame: bytes = self._lz4.compress(
            data,
            compression_level=self._level,
            block_size=self._lz4.BLOCKSIZE_MAX64KB,
            store_size=False,  # it stands before the frame
        )
        return frame

    def decompress(self, data: Data, size: int, /) -> bytes:
        """Return the *size* bytes of the frame *data*.

        Raises:
            CodecError: It is not exactly one frame of that size.
        """
        # The library would take frames that only ask to be skipped, and it takes the memory for
        # two blocks of up to 4 MiB as soon as it has read a header that says so.
        if len(data) < len(_MAGIC) + 2 or data[:4] != _MAGIC:
            raise CodecError("the lz4 payload does not begin as one")
        flags, block = data[4], data[5]
        if flags & _HAS_DICTIONARY:
            raise CodecError("the lz4 payload wants a dictionary, which there is none of")
        if block >> _BLOCK_SHIFT & _BLOCK_MASK != _BLOCK_64K:
            raise CodecError("the lz4 payload has blocks that are not of 64 KiB")
        context = self._lz4.create_decompression_context()

        def step(piece: Data, most: int) -> tuple[bytes, Data, bool]:
            # The chunk function, because the class copies the rest of the input in each step.
            chunk, used, ended = self._lz4.decompress_chunk(context, piece, max_length=most)
            return chunk, piece[used:], ended

        return inflate(self.name, step, data, size, _LAG)
