"""Decide who may come in when connections are many.

Rules of the room:
  * no sockets and no clock: connections are told in and told out;
  * when there are too many, those that have said nothing yet go first, oldest first;
  * who was turned away is counted no more, though it takes a moment to be gone.
"""

from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from fastrpc.server.doorway import Visitor

#: Peers that no remote host can pretend to be.
_LOCAL: Final = ("tcp://127.", "tcp://[::1]", "tcp://[::ffff:127.", "unix", "mem")


def host_of(peer: str) -> str:
    """Return the host of *peer*, "" for one of this machine."""
    return "" if peer.startswith(_LOCAL) else peer.rpartition(":")[0]


@final
class Admission:
    """The connections of one server.

    Args:
        most: Most connections.
        per_host: Most connections from one remote host.
        pending: Most connections that have not said HELLO.

    Attributes:
        most: Most connections.
        accepted: Who came in so far.
        turned_away: Who of them was sent away because of a limit.
    """

    def __init__(self, most: int, per_host: int, pending: int) -> None:
        """Begin with nobody."""
        self.most = most
        self._per_host = per_host
        self._most_pending = pending
        self._visitors: dict[Visitor, str] = {}
        self._pending: dict[Visitor, None] = {}
        self._hosts: dict[str, int] = {}
        self.accepted = self.turned_away = 0

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._visitors)

    @property
    def arriving(self) -> int:
        """How many of them have not said HELLO."""
        return len(self._pending)

    def __contains__(self, visitor: "Visitor") -> bool:
        """Say whether *visitor* is one of them."""
        return visitor in self._visitors

    @property
    def visitors(self) -> "list[Visitor]":
        """All of them, oldest first."""
        return list(self._visitors)

    def enter(self, visitor: "Visitor") -> "tuple[Visitor, str] | None":
        """Count a new connection in; return whom to turn away for it, and why."""
        self.accepted += 1
        host = host_of(visitor.peer)
        self._visitors[visitor] = host
        self._pending[visitor] = None
        if host:
            self._hosts[host] = self._hosts.get(host, 0) + 1
            if self._hosts[host] > self._per_host:
                return visitor, f"more than {self._per_host} connections of its host (max_per_host)"
        oldest = next(iter(self._pending))
        if len(self._visitors) > self.most:
            return oldest, f"more than {self.most} connections (max_connections)"
        if len(self._pending) > self._most_pending:
            return oldest, f"more than {self._most_pending} without HELLO (max_pending)"
        return None

    def greeted(self, visitor: "Visitor") -> None:
        """Note that *visitor* has said HELLO."""
        self._pending.pop(visitor, None)

    def replace(self, visitor: "Visitor", other: "Visitor") -> None:
        """Count *other* in the place of *visitor*: it is the same connection."""
        self._visitors[other] = self._visitors.pop(visitor, "")
        if visitor in self._pending:
            del self._pending[visitor]
            self._pending[other] = None

    def turn_away(self, visitor: "Visitor") -> None:
        """Count *visitor* out because of a limit."""
        self.turned_away += 1
        self.leave(visitor)

    def leave(self, visitor: "Visitor") -> None:
        """Count *visitor* out; twice is fine."""
        self._pending.pop(visitor, None)
        host = self._visitors.pop(visitor, "")
        if host:
            self._hosts[host] -= 1
            if not self._hosts[host]:
                del self._hosts[host]
