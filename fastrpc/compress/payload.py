"""Put compressed payloads on the wire, and take them off again.

A compressed payload is its original size, u32, and the compressed bytes. The size
stands outside of them so that it can be refused before anything is inflated,
whatever the compressor.

Rules of the room:
  * what did not become smaller is sent as it is;
  * the limit is asked first, the compressor second, and its result is counted;
  * each payload stands alone.
"""

import struct
from dataclasses import dataclass
from typing import Final

from fastrpc.compress.contract import Compressor, Data
from fastrpc.errors import CodecError, ConfigError, TooLarge
from fastrpc.wire import BODY_MAX

#: Payloads below it are not worth the time.
COMPRESS_FROM: Final = 1024

_SIZE: Final = struct.Struct(">I")


def pack(compressor: Compressor, payload: Data) -> bytes | None:
    """Return *payload* compressed, or None if it did not become smaller.

    Raises:
        CodecError: The compressor failed.
    """
    size = len(payload)
    if size > BODY_MAX:
        return None
    try:
        packed = _SIZE.pack(size) + compressor.compress(payload)
    except Exception as exc:
        name, kind = compressor.name, type(exc).__name__
        raise CodecError(f"the compressor {name!r} failed to compress: {kind}") from exc
    return packed if len(packed) < size else None


def unpack(compressor: Compressor, data: Data, max_size: int) -> bytes:
    """Return the payload that `pack` made *data* of.

    Args:
        compressor: The one that HELLO chose.
        data: The payload of a frame with the ZIP bit.
        max_size: Most bytes it may inflate to.

    Raises:
        TooLarge: It states that it is larger; nothing was inflated.
        CodecError: It is not exactly one compressed payload of the size it states.
    """
    name = compressor.name
    if len(data) < _SIZE.size:
        raise CodecError(f"the {name} payload is cut off")
    (size,) = _SIZE.unpack_from(data)
    if size > max_size:
        raise TooLarge(f"the {name} payload inflates to {size} bytes, over max_body of {max_size}")
    try:
        payload = compressor.decompress(memoryview(data)[_SIZE.size :], size)
    except CodecError:
        raise
    except Exception as exc:  # of a user's compressor; its text may repeat what was sent
        kind = type(exc).__name__
        raise CodecError(f"the {name} payload can't be inflated: {kind}") from None
    if type(payload) is not bytes or len(payload) != size:
        raise CodecError(f"the {name} payload does not have the {size} bytes it states")
    return payload


@dataclass(frozen=True, slots=True, kw_only=True)
class Compression:
    """How one connection compresses.

    Attributes:
        compressor: The one that HELLO chose.
        threshold: Payloads of fewer bytes are sent as they are.

    Raises:
        ConfigError: The threshold is no whole number of bytes.
    """

    compressor: Compressor
    threshold: int = COMPRESS_FROM

    def __post_init__(self) -> None:
        """Refuse a threshold that makes no sense."""
        check_threshold(self.threshold, "threshold")

    def pack(self, payload: Data) -> bytes | None:
        """Return *payload* compressed, or None if it is to be sent as it is.

        Raises:
            CodecError: The compressor failed.
        """
        return pack(self.compressor, payload) if len(payload) >= self.threshold else None

    def unpack(self, data: Data, max_size: int) -> bytes:
        """Return the payload that the peer's `pack` made *data* of.

        Raises:
            TooLarge: It states that it is larger than *max_size*.
            CodecError: It is not exactly one compressed payload of the size it states.
        """
        return unpack(self.compressor, data, max_size)


def check_threshold(threshold: int, name: str) -> None:
    """Refuse a threshold that makes no sense.

    Raises:
        ConfigError: It makes none; the text calls it *name*.
    """
    if type(threshold) is not int or threshold < 0:
        raise ConfigError(f"{name} must be a whole number of bytes, got {threshold!r}")
