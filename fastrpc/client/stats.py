"""Say what a client knows and does: a snapshot, for people and for programs that watch."""

from dataclasses import dataclass

__all__ = ["ClientStats", "InstanceStats"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceStats:
    """One instance, as a client of a cluster sees it.

    Attributes:
        id: What the registry calls it.
        address: Where it is reached first.
        state: "ready", "dialling", "resting", "ejected", "probed", "leaving" or "retired".
        zone: Where it stands, "" if nobody said.
        weight: Its share of the calls beside others, now.
        in_flight: Calls that were sent to it and have not ended.
        latency: Moving average of how long calls take, in seconds.
        calls: How many have ended.
        errors: How many of them count against it.
    """

    id: str
    address: str
    state: str
    zone: str
    weight: float
    in_flight: int
    latency: float
    calls: int
    errors: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientStats:
    """A snapshot of a client.

    Attributes:
        target: Of the client.
        connected: Connections that take calls.
        dials: How often one was dialled.
        freshness: How far the list of instances is to be trusted: "unknown", "remembered",
            "fresh" or "stale"; "" for a client of one server.
        registry_error: Why the registry can't be asked, "" if it can.
        retries: How many calls were sent again, as the budget counts.
        retries_refused: How many were not, because the budget was spent.
        instances: Those of the cluster, in the order they came.
    """

    target: str
    connected: int
    dials: int
    freshness: str = ""
    registry_error: str = ""
    retries: int = 0
    retries_refused: int = 0
    instances: tuple[InstanceStats, ...] = ()
