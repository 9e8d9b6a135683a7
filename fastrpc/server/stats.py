"""Say where a server stands, and what it did so far."""

from dataclasses import dataclass, field
from enum import Enum


class ServerState(Enum):
    """Where a server stands."""

    IDLE = "idle"
    SERVING = "serving"
    DRAINING = "draining"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStats:
    """A snapshot of what a server did and does.

    Attributes:
        state: Where it stands.
        connections: Open now, whatever is spoken on them.
        sessions: Open now; a connection that speaks HTTP has none until it calls something,
            and may have several then.
        accepted: Connections made since the start.
        turned_away: Those of them that a limit refused.
        calls: Calls taken since the start.
        running: Handlers in flight.
        refused: Calls answered without running a handler.
        methods: Calls and errors per method, of those that were called.
    """

    state: ServerState
    connections: int
    sessions: int
    accepted: int
    turned_away: int
    calls: int
    running: int
    refused: int
    methods: dict[str, tuple[int, int]] = field(default_factory=dict)
