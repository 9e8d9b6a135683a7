"""Keep what a server has to know of a peer that speaks through a translation.

It is what `server.doorway.Visitor` asks for, whatever carries the messages.
"""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from fastrpc.session import Session
from fastrpc.session.watch import Watch

if TYPE_CHECKING:
    from fastrpc.gateway.translation import Translation
    from fastrpc.server.hall import Hall


class TranslatedVisitor(ABC):
    """Someone who came to a server, with one session behind him.

    Args:
        hall: Of the server.
        peer: Where it comes from.
    """

    def __init__(self, hall: "Hall", peer: str) -> None:
        self.peer = peer
        self._hall = hall
        self._translation: Translation | None = None
        self._watch = Watch(hall.side.limits, hall.clock(), "message")

    def __repr__(self) -> str:
        """Tell whose it is."""
        return f"<{type(self).__name__} {self.peer}>"

    @property
    @abstractmethod
    def door(self) -> str:
        """What is spoken."""

    @property
    def since(self) -> float:
        """When it came."""
        return self._watch.since

    @property
    def sessions(self) -> tuple[Session, ...]:
        """What stands behind it."""
        return (self._translation.session,) if self._translation is not None else ()

    @property
    def traffic(self) -> tuple[int, int]:
        """Bytes of frames, as the session counts them."""
        return self._translation.session.traffic if self._translation is not None else (0, 0)

    def leave(self) -> None:
        """Take nothing new; the session closes when nothing is under way."""
        if self._translation is not None:
            self._translation.leave()

    def abort(self, cause: Exception) -> None:
        """Close at once."""
        if self._translation is not None:
            self._translation.abort(cause)

    def fast_tick(self, now: float) -> bool:
        """Expire nothing: the session does."""
        return False

    @abstractmethod
    def slow_tick(self, now: float, late: bool) -> None:
        """Look after the connection."""

    def depart(self) -> None:
        """Note that the connection is gone."""
        self._hall.side.ticker.forget(self)
        self._hall.depart(self)
