"""Count what a peer may do only so often, and say when it is too much.

A peer that pings, cancels or answers out of nowhere without end costs it
little and us a lot. Each such act draws from a bucket that fills with time.

Rules of the room:
  * time is an argument, in seconds of any clock that does not run backwards;
  * a limit that is passed is a `ProtocolError` with status 71, never a sleep.
"""

from typing import Final

from fastrpc.errors import ConfigError, ProtocolError
from fastrpc.wire import StatusCode

#: Pings that may come too early before the connection is closed.
PING_STRIKES: Final = 2
CANCEL_BURST: Final = 1000
CANCEL_RATE: Final = 33.0
UNKNOWN_BURST: Final = 1000
UNKNOWN_RATE: Final = 1000 / 60
LOG_INTERVAL: Final = 1.0


class TokenBucket:
    """Allow *burst* acts at once and *rate* per second in the long run.

    In any span of t seconds at most burst + rate * t acts are allowed, and as
    many more as tokens were given. A clock that steps back adds nothing and
    takes nothing away.

    Args:
        rate: Tokens per second, 0 or more.
        burst: Most tokens the bucket holds; it starts full. At least 1.
    """

    __slots__ = ("_burst", "_last", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float) -> None:
        if not 0 <= rate < float("inf"):
            raise ConfigError(f"rate must be 0 or more and finite, got {rate!r}")
        if not 1 <= burst < float("inf"):
            raise ConfigError(f"burst must be 1 or more and finite, got {burst!r}")
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._last: float | None = None

    def take(self, now: float, count: int = 1) -> bool:
        """Take *count* tokens at time *now*; False, and none taken, if there are fewer."""
        last = self._last
        if last is None:
            self._last = now
        elif now > last:
            self._tokens = min(self._burst, self._tokens + (now - last) * self._rate)
            self._last = now
        if self._tokens < count:
            return False
        self._tokens -= count
        return True

    def give(self, count: int) -> None:
        """Add *count* tokens, as far as they fit."""
        self._tokens = min(self._burst, self._tokens + count)


class PeerGuard:
    """Watch one peer for floods that cost it less than they cost us.

    Every method raises `ProtocolError` with status 71 when it was called too
    often; the session then says GOAWAY and closes.

    Args:
        ping_interval: Shortest time between pings that HELLO told the peer, in
            seconds; 0 means any. Two early pings are forgiven, and so is the
            jitter of a peer that keeps to the interval.
        cancel_burst: Most CANCELs at once.
        cancel_rate: CANCELs per second in the long run, beside one for each
            call that was answered.
    """

    __slots__ = ("_answered", "_cancels", "_pings", "_unknown")

    def __init__(
        self,
        ping_interval: float = 1.0,
        *,
        cancel_burst: float = CANCEL_BURST,
        cancel_rate: float = CANCEL_RATE,
    ) -> None:
        if not 0 <= ping_interval < float("inf"):
            raise ConfigError(f"ping_interval must be 0 or more, got {ping_interval!r}")
        self._pings = TokenBucket(1 / ping_interval, 1 + PING_STRIKES) if ping_interval else None
        self._cancels = TokenBucket(cancel_rate, cancel_burst)
        self._answered = 0
        self._unknown = TokenBucket(UNKNOWN_RATE, UNKNOWN_BURST)

    def ping(self, now: float) -> None:
        """Count a ping of the peer's. Pongs are not counted."""
        if self._pings is not None and not self._pings.take(now):
            raise ProtocolError("pings come faster than agreed", status=StatusCode.FLOOD)

    def cancel(self, now: float, answered: int = 0) -> None:
        """Count a CANCEL, whether its call is known or not.

        A peer that lets most of its calls come to an answer may cancel many; one
        that starts calls only to cancel them may not.

        Args:
            now: The time.
            answered: Calls of this peer that were answered, since the start.
        """
        # Streams that come in one read are counted before any of their CANCELs is seen, which
        # makes *answered* too high for a while. Nobody is paid twice for it.
        if answered > self._answered:
            self._cancels.give(answered - self._answered)
            self._answered = answered
        if not self._cancels.take(now):
            raise ProtocolError("too many calls are cancelled", status=StatusCode.FLOOD)

    def unknown_reply(self, now: float, count: int = 1) -> None:
        """Count *count* replies to ids that we never used.

        A reply to an id that was used and is no longer open is ordinary: it
        crossed our CANCEL. Don't count those.
        """
        if not self._unknown.take(now, count):
            raise ProtocolError("too many replies to unknown calls", status=StatusCode.FLOOD)


class LogLimiter:
    """Let one line through per interval, and count the ones held back.

    Args:
        interval: Shortest time between two lines, in seconds.
    """

    __slots__ = ("_held", "_interval", "_next")

    def __init__(self, interval: float = LOG_INTERVAL) -> None:
        self._interval = interval
        self._held = 0
        self._next: float | None = None

    def take(self, now: float) -> int | None:
        """Return how many lines were held back since the last, or None to hold this one back."""
        if self._next is not None and now < self._next:
            self._held += 1
            return None
        held, self._held = self._held, 0
        self._next = now + self._interval
        return held
