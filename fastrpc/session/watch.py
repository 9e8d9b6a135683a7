"""Judge from what is seen now and then whether a peer is silent, stalled or too slow.

The session looks once a second and passes what it sees; the answer is why the
connection has to end, or "" if it may go on.

Rules of the room:
  * clock-free: the time is an argument;
  * a look that comes late proves nothing: the loop was blocked, and what seems
    to be a silent peer may only be an unread one;
  * any byte of the peer's counts as life.
"""

from typing import Final, final

from fastrpc.wire import Limits

PING: Final = "ping"  # what `silent` says when it is time to ask
#: A HELLO's `ping_ms` of a peer that asks for no pings: between calls it can't answer.
NEVER_MS: Final = 2**32 - 1
LINGER: Final = 1.0  # how long a peer has to end its side of a closed connection


@final
class Watch:
    """What was seen of one peer so far.

    Args:
        limits: How long things may take.
        now: When the connection was made.
        unit: What the peer sends one of at a time, for what people are told.

    Attributes:
        since: The same.
    """

    __slots__ = (
        "_bytes", "_frames", "_heard", "_limits", "_parted", "_partial_bytes", "_partial_since",
        "_pinged", "_stalled_since", "_taken", "_unit", "since",
    )  # fmt: skip

    def __init__(self, limits: Limits, now: float, unit: str = "frame") -> None:
        """Begin with the moment as a sign of life."""
        self._unit = unit
        self._limits = limits
        self.since = self._heard = now
        self._pinged = self._partial_since = self._stalled_since = self._parted = 0.0
        self._bytes = self._frames = self._partial_bytes = self._taken = 0

    def greeted(self, now: float) -> None:
        """Note that HELLO is done."""
        self._heard = now

    def no_hello(self, now: float, late: bool) -> str:
        """Look at a connection that has not said HELLO."""
        limit = self._limits.hello_timeout
        return f"no HELLO within {limit:g} s" if now - self._heard > limit and not late else ""

    def silent(self, now: float, late: bool, bytes_in: int, ping_after: float) -> str:
        """Look for life; `PING` means that the peer should be asked for some.

        Args:
            now: The time.
            late: Whether this look comes late.
            bytes_in: Bytes received so far.
            ping_after: Seconds of silence after which to ask.
        """
        if bytes_in != self._bytes or late:
            self._bytes, self._heard, self._pinged = bytes_in, now, 0.0
        elif self._pinged:
            if now - self._pinged > self._limits.ping_timeout:
                return f"silent for {now - self._heard:.0f} s, ping unanswered"
        elif now - self._heard > ping_after:
            self._pinged = now
            return PING
        return ""

    def due(self, now: float, ping_after: float) -> bool:
        """Say whether to ping a peer that can't answer: only the attempt tells of it."""
        if now - self._pinged < ping_after:
            return False
        self._pinged = now
        return True

    def stalled(self, now: float, late: bool, taken: int, unsent: int) -> str:
        """Look at what the peer takes while more waits for it.

        Args:
            now: The time.
            late: Whether this look comes late.
            taken: Bytes it took so far.
            unsent: Bytes that wait.
        """
        limits = self._limits
        enough = limits.frame_rate * limits.write_stall
        if not self._stalled_since or late or taken - self._taken >= enough:
            self._stalled_since, self._taken = now, taken
        elif now - self._stalled_since > limits.write_stall:
            read = taken - self._taken
            return (
                f"has read {read} bytes in {now - self._stalled_since:.0f} s (write_stall),"
                f" {unsent} wait"
            )
        return ""

    def unstalled(self) -> None:
        """Note that nothing waits for the peer any more."""
        self._stalled_since = 0.0

    def slow(self, now: float, late: bool, bytes_in: int, frames: int, partial: bool) -> str:
        """Look at a frame of which a part has come.

        Args:
            now: The time.
            late: Whether this look comes late.
            bytes_in: Bytes received so far.
            frames: Frames received so far.
            partial: Whether a part of another one is there.
        """
        limits = self._limits
        if not partial or frames != self._frames or late:
            self._frames, self._partial_since = frames, 0.0
        elif not self._partial_since:
            self._partial_since, self._partial_bytes = now, bytes_in
        elif (spent := now - self._partial_since) > limits.frame_timeout:
            if bytes_in - self._partial_bytes < limits.frame_rate * spent:
                return f"a {self._unit} takes longer than {limits.frame_timeout:g} s"
            self._partial_since = 0.0  # large, but on its way: measure anew
        return ""

    def may_leave(self, now: float, late: bool, taken: int, unsent: int) -> bool:
        """Say whether a closed connection has been kept for its peer long enough.

        Args:
            now: The time.
            late: Whether this look comes late.
            taken: Bytes it took so far.
            unsent: Bytes that it should still have.
        """
        if unsent:
            return bool(self.stalled(now, late, taken, unsent))
        if not self._parted or late:
            self._parted = now
        return now - self._parted > LINGER
