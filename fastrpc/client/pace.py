"""Space out pings, so that the server does not take them for a flood.

Rules of the room:
  * time is an argument.
"""

from typing import Final, final

BURST: Final = 2  # at once; a server forgives one more, which heartbeats may need


@final
class PingPace:
    """When the next ping may be sent."""

    def __init__(self) -> None:
        self._next = 0.0

    def wait(self, now: float, interval: float) -> float:
        """Take the next turn and return the seconds until it comes.

        Args:
            now: The time, of a clock that does not run backwards.
            interval: Shortest time between pings that the server accepts.
        """
        turn = max(self._next, now - interval * (BURST - 1))
        self._next = turn + interval
        return max(turn - now, 0.0)
