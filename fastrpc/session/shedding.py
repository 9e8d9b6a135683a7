"""Say what an answerer asks whoever decides that a server has too much to do.

`server.overload` decides; here is only the face of it, for a session knows no server.
"""

from collections.abc import Collection
from typing import Any, Protocol

from fastrpc.frame import Method

#: Places over `max_running` for calls that come first, such as those of health.
RESERVED = 64


class Shedding(Protocol):
    """What decides about calls when more come than can be run.

    Attributes:
        shed: How many calls were refused because a turn's time was used up.
    """

    shed: int

    def has_room(self, method: Method) -> bool:
        """Say whether one more call of *method* may be in flight; a no is counted."""
        ...

    def limit_of(self, method: Method) -> int:
        """Return how many calls of *method* may be in flight."""
        ...

    def crowd(self, method: Method, running: Collection[Any]) -> Collection[Any]:
        """Return what is as long as *running*, and too long while *method* has no room."""
        ...

    def began(self, method: Method) -> None:
        """Note that a call is in flight."""
        ...

    def took(self, method: Method, seconds: float, well: bool) -> None:
        """Note how long the handler of a call took, or how long until it was given up."""
        ...

    def ended(self, method: Method) -> None:
        """Note that a call is in flight no more."""
        ...

    def pushback(self) -> int:
        """Return the milliseconds that a refused caller should stay away."""
        ...
