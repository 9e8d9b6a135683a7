"""End a connection so that the peer can still read our last words.

A socket that is closed while bytes of the peer's are unread answers them with a
reset, and a reset can destroy what was sent before it: the GOAWAY that says
why. So our direction is ended first, and what still comes is read and dropped
until the peer ends its own, or until the session's patience is over.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final, final

_DROP_SIZE: Final = 64 * 1024


@final
class Farewell(asyncio.BufferedProtocol):
    """What a transport talks to once the session has nothing more to hear.

    Args:
        lost: Told when the connection has ended.
    """

    __slots__ = ("_buffer", "_lost")

    def __init__(self, lost: Callable[[Exception | None], None]) -> None:
        """Drop whatever comes from now on."""
        self._lost = lost
        self._buffer: bytearray | None = None

    def get_buffer(self, sizehint: int) -> bytearray:
        """Return memory for bytes that nobody will look at."""
        if self._buffer is None:
            self._buffer = bytearray(_DROP_SIZE)
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Drop what came."""

    def eof_received(self) -> None:
        """Close: both sides have said all they had to say."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the session."""
        self._lost(exc)


def part(transport: asyncio.Transport, lost: Callable[[Exception | None], None]) -> None:
    """End our direction of *transport*, and drop what comes until it is closed."""
    if transport.is_closing():
        return
    transport.set_protocol(Farewell(lost))
    # The peer may have reset the connection, which is the same to us.
    with contextlib.suppress(OSError, RuntimeError):
        transport.write_eof()
    if not transport.is_closing():
        transport.resume_reading()
