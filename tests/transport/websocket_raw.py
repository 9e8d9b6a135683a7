"""A WebSocket peer of our own that can do everything wrong: it shares no code with the library.

It writes and reads frames byte by byte as RFC 6455 draws them, and knows no rule.
"""

import asyncio
import os
from collections.abc import Iterable
from dataclasses import dataclass

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


@dataclass(frozen=True)
class Frame:
    """One frame as it came."""

    opcode: int
    payload: bytes
    fin: bool = True
    masked: bool = False

    @property
    def code(self) -> int:
        """Code of a close; 1005 if it has none."""
        return int.from_bytes(self.payload[:2]) if self.payload else 1005


def xor(data: bytes, mask: bytes) -> bytes:
    """Mask, or unmask."""
    pad = (mask * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data) ^ int.from_bytes(pad)).to_bytes(len(data))


def put(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = b"\x0a\x3c\x96\xf1",
    width: int = 0,
) -> bytes:
    """Write one frame.

    Args:
        opcode: Any of 0 to 15.
        payload: What it carries.
        fin: Whether the message ends with it.
        rsv: The three reserved bits.
        mask: None for a server's.
        width: Bytes of the long form of the length, if it is to be longer than needed.
    """
    size = len(payload)
    width = width or (0 if size < 126 else 2 if size < 2**16 else 8)
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    second = (0x80 if mask is not None else 0) | {0: size, 2: 126, 8: 127}[width]
    head = bytes((first, second)) + (size.to_bytes(width) if width else b"")
    return head + payload if mask is None else head + mask + xor(payload, mask)


def close(code: int, reason: bytes = b"", *, mask: bytes | None = b"\x01\x02\x03\x04") -> bytes:
    """Write a close."""
    return put(CLOSE, code.to_bytes(2) + reason, mask=mask)


def pieces(opcode: int, payload: bytes, size: int) -> bytes:
    """Write a message in fragments of *size* bytes."""
    parts = [payload[at : at + size] for at in range(0, len(payload), size)] or [b""]
    return b"".join(
        put(opcode if not n else CONT, part, fin=n == len(parts) - 1)
        for n, part in enumerate(parts)
    )


async def get(reader: asyncio.StreamReader) -> Frame:
    """Read one frame.

    Raises:
        asyncio.IncompleteReadError: The peer has hung up.
    """
    first, second = await reader.readexactly(2)
    size = second & 0x7F
    if size > 125:
        size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8))
    mask = await reader.readexactly(4) if second & 0x80 else None
    payload = await reader.readexactly(size)
    if mask is not None:
        payload = xor(payload, mask)
    assert not first & 0x70, "reserved bits"
    return Frame(first & 0x0F, payload, bool(first & 0x80), mask is not None)


async def rest(reader: asyncio.StreamReader) -> list[Frame]:
    """Read frames until the peer hangs up."""
    found = []
    try:
        while True:
            found.append(await get(reader))
    except (asyncio.IncompleteReadError, ConnectionResetError):
        return found


def chop(data: bytes, size: int) -> Iterable[bytes]:
    """Cut *data* into what is written apart."""
    return (data[at : at + size] for at in range(0, len(data), size))


def key() -> bytes:
    """Return a random mask."""
    return os.urandom(4)
