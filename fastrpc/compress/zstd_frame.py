"""Compress with Zstandard: smaller than zlib's and several times as fast.

It is in the standard library from Python 3.14 on. The extra `zstd` brings the
same module to older ones, so there is one way to use it.

Rules of the room:
  * one frame of RFC 8878, no dictionary, nothing to skip before it;
  * a frame's header may ask for a window of up to 8 MiB, what the RFC wants every
    reader to have, and for no more;
  * the library is imported when a compressor is made, not before.
"""

import sys
from typing import Final

from fastrpc.compress.contract import Data, check_level
from fastrpc.compress.inflate import inflate
from fastrpc.errors import CodecError, ConfigError

_LEVEL: Final = 3
#: Above it frames need larger windows than a reader of ours has.
_LEVEL_MAX: Final = 19
_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_WINDOW_LOG_MAX: Final = 23
#: A block of 128 KiB, its head and the frame's.
_LAG: Final = 128 * 2**10 + 64


class ZstdCompressor:
    """Compress with Zstandard.

    Args:
        level: 1, fastest, to 19, smallest and very slow.

    Raises:
        ConfigError: The library is not installed; the text says how to.
    """

    name = "zstd"

    def __init__(self, *, level: int = _LEVEL) -> None:
        self._level = check_level(self.name, level, 1, _LEVEL_MAX)
        # Here, because it is an optional extra and nobody else should pay for it.
        try:
            if sys.version_info >= (3, 14):
                from compression import zstd  # noqa: PLC0415
            else:
                from backports import zstd  # noqa: PLC0415
        except ImportError:
            raise ConfigError("zstd is not installed: pip install 'fastrpc[zstd]'") from None
        self._zstd = zstd
        self._options: dict[int, int] = {
            zstd.DecompressionParameter.window_log_max: _WINDOW_LOG_MAX
        }

    def compress(self, data: Data, /) -> bytes:
        """Return *data* as a frame."""
        return self._zstd.compress(data, self._level)

    def decompress(self, data: Data, size: int, /) -> bytes:
        """Return the *size* bytes of the frame *data*.

        Raises:
            CodecError: It is not exactly one frame of that size.
        """
        # The library would take frames that only ask to be skipped, and those of its first years.
        if data[:4] != _MAGIC:
            raise CodecError("the zstd payload does not begin as one")
        frame = self._zstd.ZstdDecompressor(options=self._options)

        def step(piece: Data, most: int) -> tuple[bytes, Data, bool]:
            chunk = frame.decompress(piece, most)  # keeps what it has not used, unless it ended
            return chunk, frame.unused_data if frame.eof else b"", frame.eof

        return inflate(self.name, step, data, size, _LAG)
