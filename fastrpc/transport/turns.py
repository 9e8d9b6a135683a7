"""Let a connection have its turn of the loop, and then the others theirs.

libuv reads up to 32 times from one socket before it looks at the next, and each read may
bring 256 KiB: if they are cheap to send and dear to read, everybody waits for seconds. So who
has used up its share is not read from until the loop has been round once.

Rules of the room:
  * what was read and is not taken yet is kept, in its order, and goes on in the next turn;
  * reading that somebody else has paused stays paused;
  * ordinary traffic pays for looking at a clock, and for nothing else.
"""

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import Final, final

#: Seconds of the loop's time that a connection has before it is others' turn...
TIME_MAX: Final = 0.005
#: ...and bytes.
BYTES_MAX: Final = 256 * 2**10

#: Bytes that are handed on at once, between two looks at the clock.
PIECE: Final = 16 * 2**10


@final
class Turns:
    """What a connection has read, handed on piece by piece.

    Args:
        take: Takes a piece; called only from `feed`, `drain`, and the loop.
        is_wanted: Whether more should be read, as far as others are concerned.

    Attributes:
        is_resting: It is others' turn.
    """

    __slots__ = (
        "_at", "_bytes", "_held", "_is_over", "_is_wanted", "_spent", "_take", "_transport",
        "is_resting",
    )  # fmt: skip

    def __init__(self, take: Callable[[bytes], object], is_wanted: Callable[[], bool]) -> None:
        self._take = take
        self._is_wanted = is_wanted
        self._transport: asyncio.Transport | None = None  # while it rests
        self._held = b""  # what is not handed on yet, from _at on
        self._at = 0
        self._spent = 0.0
        self._bytes = 0
        self._is_over = False
        self.is_resting = False

    @property
    def held(self) -> bytes:
        """What was read and not handed on."""
        return self._held[self._at :]

    def feed(self, transport: asyncio.Transport, data: bytes) -> None:
        """Hand *data* on, as much as this turn allows; the rest follows by itself.

        Args:
            transport: Where it comes from.
            data: What was read.
        """
        if self.is_resting:  # somebody has resumed it
            self._held = self.held + data
            self._at = 0
            if not transport.is_closing():
                transport.pause_reading()
            return
        self._held, self._at = data, 0
        self._go(transport)

    def drain(self) -> None:
        """Hand on all that is held: nothing will follow."""
        while self._at < len(self._held):
            self._take(self._next())

    def stop(self) -> bytes:
        """Hand on nothing more, and read again; return what is held."""
        held, self._held, self._at = self.held, b"", 0
        self._is_over = True
        self._take, self._is_wanted = len, bool  # whoever they belong to has us, too
        transport, self._transport = self._transport, None
        if self.is_resting and transport is not None and not transport.is_closing():
            transport.resume_reading()
        self.is_resting = False
        return held

    def _go(self, transport: asyncio.Transport) -> bool:
        """Hand pieces on until nothing is left, or the turn is over; return whether to read on."""
        began = perf_counter()
        spent = self._spent
        while self._at < len(self._held):
            if self._spent > TIME_MAX or self._bytes >= BYTES_MAX:
                break
            piece = self._next()
            self._bytes += len(piece)
            self._take(piece)
            self._spent = spent + perf_counter() - began
        if self._is_over or transport.is_closing():
            return False
        if self._spent > TIME_MAX or self._bytes >= BYTES_MAX:
            self.is_resting = True
            self._transport = transport
            transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._rested)
            return False
        return True

    def _next(self) -> bytes:
        at, held = self._at, self._held
        end = at + PIECE
        piece = held if not at and end >= len(held) else held[at:end]
        if end >= len(held):
            self._held, self._at = b"", 0
        else:
            self._at = end
        return piece

    def _rested(self) -> None:
        """Go on: the others have had their turn."""
        transport, self._transport = self._transport, None
        if self._is_over or transport is None:
            return
        self.is_resting = False
        self._spent, self._bytes = 0.0, 0
        if self._go(transport) and self._is_wanted():
            transport.resume_reading()
