"""Decide who may come in when connections are many.

Rules of the room:
  * no sockets and no clock: connections are told in and told out;
  * when there are too many, those that have said nothing yet go first, oldest first;
  * who was turned away is counted no more, though it takes a moment to be gone.
"""

from typing import Final, final

from fastrpc.session import Session

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
    """

    def __init__(self, most: int, per_host: int, pending: int) -> None:
        """Begin with nobody."""
        self._most = most
        self._per_host = per_host
        self._most_pending = pending
        self._sessions: dict[Session, str] = {}
        self._pending: dict[Session, None] = {}
        self._hosts: dict[str, int] = {}
        self.accepted = self.turned_away = 0

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._sessions)

    def __contains__(self, session: Session) -> bool:
        """Say whether *session* is one of them."""
        return session in self._sessions

    @property
    def sessions(self) -> list[Session]:
        """All of them, oldest first."""
        return list(self._sessions)

    def enter(self, session: Session) -> tuple[Session, str] | None:
        """Count a new connection in; return whom to turn away for it, and why."""
        self.accepted += 1
        host = host_of(session.peer)
        self._sessions[session] = host
        self._pending[session] = None
        if host:
            self._hosts[host] = self._hosts.get(host, 0) + 1
            if self._hosts[host] > self._per_host:
                return session, f"more than {self._per_host} connections of its host (max_per_host)"
        oldest = next(iter(self._pending))
        if len(self._sessions) > self._most:
            return oldest, f"more than {self._most} connections (max_connections)"
        if len(self._pending) > self._most_pending:
            return oldest, f"more than {self._most_pending} without HELLO (max_pending)"
        return None

    def greeted(self, session: Session) -> None:
        """Note that *session* has said HELLO."""
        self._pending.pop(session, None)

    def turn_away(self, session: Session) -> None:
        """Count *session* out because of a limit."""
        self.turned_away += 1
        self.leave(session)

    def leave(self, session: Session) -> None:
        """Count *session* out; twice is fine."""
        self._pending.pop(session, None)
        host = self._sessions.pop(session, "")
        if host:
            self._hosts[host] -= 1
            if not self._hosts[host]:
                del self._hosts[host]
