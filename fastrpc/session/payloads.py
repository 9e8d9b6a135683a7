"""Read payloads that are more than plain bytes: compressed, or with buffers beside them.

What may come was settled by HELLO; one object says so for a connection, and both
kinds of session have one.

Rules of the room:
  * nothing is inflated, and no buffer taken, that was not agreed on.
"""

from collections.abc import Callable
from typing import Any, Final, final

from fastrpc.codec import Codec
from fastrpc.compress import Compression
from fastrpc.errors import InvalidArgument, TooLarge, Unsupported
from fastrpc.frame import Frame, check_msgpack
from fastrpc.wire import BIT_END, BIT_SEG, BIT_ZIP, Limits, Serializer

_KNOWN: Final = BIT_SEG | BIT_ZIP | BIT_END


@final
class Payloads:
    """What the payloads of one connection may be.

    Args:
        limits: Sizes, depth and items.
        compression: How both sides compress, None if they don't.
        has_segments: Whether buffers may come beside a payload.
    """

    __slots__ = ("_compression", "_has_segments", "_limits")

    def __init__(
        self, limits: Limits, compression: Compression | None = None, *, has_segments: bool = False
    ) -> None:
        self._limits = limits
        self._compression = compression
        self._has_segments = has_segments

    def read(self, frame: Frame, codec: Codec, decode: Callable[[bytes], Any]) -> Any:
        """Return what *decode*, a decoder of *codec*, makes of a frame's payload.

        Raises:
            Unsupported: It is of a kind that was not agreed on.
            TooLarge: It is over a limit.
            InvalidArgument: It has what no payload may have.
            Exception: What *decode* raises.
        """
        payload = self._plain(frame)
        if codec.serializer == Serializer.MSGPACK:
            broken = check_msgpack(payload, self._limits.max_depth, self._limits.max_items)
            if broken:
                limited = "(max_" in broken  # the other thing wrong is no matter of size
                raise (TooLarge if limited else InvalidArgument)(f"what was sent {broken}")
        if not frame.buffers:
            return decode(payload)
        buffers = getattr(codec, "buffers", None)
        if buffers is None:
            raise Unsupported(f"the {codec.name} codec takes no segments")
        return buffers.read(decode, payload, frame.buffers)

    def _plain(self, frame: Frame) -> bytes:
        if frame.bits & ~_KNOWN:
            raise Unsupported(f"bits {frame.bits:#x} were not agreed on")
        if frame.bits & BIT_SEG:
            if not self._has_segments:
                raise Unsupported("segments were not agreed on")
            count = len(frame.buffers) + 1
            if count > self._limits.max_segments:
                most = self._limits.max_segments
                raise TooLarge(f"{count} segments are over max_segments of {most}")
        if not frame.bits & BIT_ZIP:
            return frame.payload
        if self._compression is None:
            raise Unsupported("compression was not agreed on")
        return self._compression.unpack(frame.payload, self._limits.max_body)
