"""Know who owns which entry until when, and what has changed: a registry server's state.

Rules of the room:
  * time is an argument, and nothing here waits;
  * a renewal changes nothing that is told or kept, so it costs nothing of either;
  * what peers can make grow has a limit: entries, of all, of one owner and by one
    connection; their bytes; services; and the history that lets a watch go on where it was.
"""

import heapq
import itertools
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, final

from fastrpc.cluster.instance import INSTANCES_MAX
from fastrpc.errors import FastRPCError

__all__ = ["Event", "LeaseLimits", "Leases", "Row", "TooMany"]

#: Entries of the schedule that may stand for nothing any more, beside one for each lease.
_STALE: Final = 1024

#: What an entry or a change costs beside its text, about, in bytes.
_BESIDE: Final = 256


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseLimits:
    """How much a registry server keeps.

    Attributes:
        max_entries: Most entries, all services together.
        max_instances: Most entries of one service.
        max_services: Most services that have entries.
        max_by_owner: Most entries of one owner.
        max_by_connection: Most entries that came, or were last renewed, on one connection.
        max_bytes: Most bytes of all entries, with what each costs beside its text; as many
            again may go into lists that are being read.
        max_history: Most changes that are remembered, all services together.
        max_history_bytes: Most bytes of them.
    """

    max_entries: int = 100_000
    max_instances: int = INSTANCES_MAX
    max_services: int = 10_000
    max_by_owner: int = 1_000
    max_by_connection: int = 1_000
    max_bytes: int = 64 * 2**20
    max_history: int = 10_000
    max_history_bytes: int = 16 * 2**20


class TooMany(FastRPCError):
    """A limit of the registry server is reached; its text names it."""


class Event(NamedTuple):
    """One change.

    Attributes:
        revision: Its number; each change of a server has the next one.
        id: Of the entry.
        text: What it says now, None if it is gone.
        is_explicit: Whether its owner took it away.
    """

    revision: int
    id: str
    text: bytes | None
    is_explicit: bool = False


class Row(NamedTuple):
    """What is kept of an entry over a restart."""

    text: bytes
    owner: str
    ttl: float


@final
@dataclass(slots=True)
class _Lease:
    row: Row
    until: float
    via: str  # the connection it was last stated on, "" if nobody knows


@final
@dataclass(slots=True)
class _Place:
    """A service, its entries and those who watch it."""

    floor: int  # changes up to this one are forgotten
    changed: int  # the last one
    leases: dict[str, _Lease] = field(default_factory=dict)
    log: deque[Event] = field(default_factory=deque)
    wakers: set[Callable[[], None]] = field(default_factory=set)

    @property
    def is_idle(self) -> bool:
        return not (self.leases or self.log or self.wakers)


@final
class Leases:
    """All entries of a registry server.

    A place is the name of a service behind the prefix it is kept under. Callbacks that are
    told of changes must only note that there are some.

    Args:
        limits: How much is kept.

    Attributes:
        revision: Number of the last change.
        count: How many entries there are.
        bytes: What they cost.
        limits: How much is kept.
    """

    def __init__(self, limits: LeaseLimits | None = None) -> None:
        self.limits = limits if limits is not None else LeaseLimits()
        self._places: dict[str, _Place] = {}
        self._told: deque[str] = deque()  # the places of all remembered changes, in order
        self._schedule: list[tuple[float, str, str]] = []
        self._guards: dict[str, set[Callable[[], None]]] = {}
        self._served = 0  # places that have entries
        self._names: dict[str, set[str]] = {}  # of services that have entries, by prefix
        self._sorted: dict[str, list[str]] = {}  # the same as it was last asked for
        self._by_owner: Counter[str] = Counter()
        self._by_connection: Counter[str] = Counter()
        self._told_bytes = 0
        self.revision = 0
        self.count = 0
        self.bytes = 0

    def restore(self, rows: Iterable[tuple[str, str, Row]], now: float) -> None:
        """Take back what was kept: every lease runs anew, since nobody could renew it."""
        for place, id, row in rows:
            self._put(self._place(place), place, id, row, now, "")

    def publish(self, place: str, id: str, row: Row, now: float, via: str = "") -> bool:
        """Write an entry, whoever had it before; return whether anything is to be kept.

        Who had it before, if somebody else, is told.

        Raises:
            TooMany: There is no room.
        """
        found = self._places.get(place)
        lease = found.leases.get(id) if found is not None else None
        self._check_room(found, lease, row, via)
        if found is None or lease is None:
            found = self._place(place)
            self._put(found, place, id, row, now, via)
            self._tell(found, place, id, row.text)
            return True
        self._count(lease, -1)
        before, lease.row, lease.via = lease.row, row, via
        self._count(lease, 1)
        until, lease.until = lease.until, now + row.ttl
        if lease.until < until:  # a shorter time than before
            self._plan(place, id, lease.until)
        if before.text != row.text:
            self._tell(found, place, id, row.text)
        if before.owner != row.owner:
            for tell in self._guards.get(before.owner, ()):
                tell()
        return before != row

    def row(self, place: str, id: str) -> Row | None:
        """Return what an entry says; None if it isn't there."""
        found = self._places.get(place)
        lease = found.leases.get(id) if found is not None else None
        return lease.row if lease is not None else None

    def take_back(self, place: str, id: str, before: Row | None) -> None:
        """Make an entry what it was: what was stated last could not be kept."""
        found = self._places[place]
        lease = found.leases[id]
        if before is None:
            self._remove(found, place, id, is_explicit=False)
            return
        self._count(lease, -1)
        now, lease.row = lease.row, before
        self._count(lease, 1)
        if now.text != before.text:
            self._tell(found, place, id, before.text)

    def withdraw(self, place: str, id: str, owner: str) -> bool:
        """Take an entry away if it is *owner*'s; return whether it was."""
        found = self._places.get(place)
        lease = found.leases.get(id) if found is not None else None
        if found is None or lease is None or lease.row.owner != owner:
            return False
        self._remove(found, place, id, is_explicit=True)
        return True

    def expire(self, now: float) -> list[tuple[str, str]]:
        """Let go of what was not renewed in time; return place and id of each."""
        gone: list[tuple[str, str]] = []
        guards: set[Callable[[], None]] = set()
        while self._schedule and self._schedule[0][0] <= now:
            _, place, id = heapq.heappop(self._schedule)
            found = self._places.get(place)
            lease = found.leases.get(id) if found is not None else None
            if found is None or lease is None:
                continue
            if lease.until > now:
                self._plan(place, id, lease.until)
                continue
            guards |= self._guards.get(lease.row.owner, set())
            self._remove(found, place, id, is_explicit=False)
            gone.append((place, id))
        for tell in guards:  # once, however many entries it has lost
            tell()
        return gone

    def listing(self, place: str) -> list[tuple[str, bytes]]:
        """Return id and text of all entries of *place*."""
        found = self._places.get(place)
        if found is None:
            return []
        return [(id, lease.row.text) for id, lease in found.leases.items()]

    def changed(self, place: str) -> int:
        """Return the revision of the last change there."""
        found = self._places.get(place)
        return found.changed if found is not None else self.revision

    def has(self, place: str) -> bool:
        """Tell whether there are entries."""
        found = self._places.get(place)
        return found is not None and bool(found.leases)

    def since(self, place: str, revision: int) -> list[Event] | None:
        """Return what has changed after *revision*; None if nobody knows any more."""
        found = self._places.get(place)
        if revision > self.revision or found is None or revision < found.floor:
            return None
        if not found.log or found.log[-1].revision <= revision:
            return []
        newer = itertools.takewhile(lambda event: event.revision > revision, reversed(found.log))
        return list(newer)[::-1]

    def places(self, prefix: str) -> list[str]:
        """Return the names of services under *prefix* that have entries, sorted; change nothing."""
        if prefix not in self._names:
            return []
        found = self._sorted.get(prefix)
        if found is None:
            found = self._sorted[prefix] = sorted(self._names[prefix])
        return found

    def watch(self, place: str, tell: Callable[[], None]) -> None:
        """Call *tell* whenever something has changed there."""
        self._place(place).wakers.add(tell)

    def unwatch(self, place: str, tell: Callable[[], None]) -> None:
        """Call it no more."""
        found = self._places[place]
        found.wakers.discard(tell)
        self._forget(place, found)

    def guard(self, owner: str, tell: Callable[[], None]) -> None:
        """Call *tell* whenever entries of *owner* have expired, or are another's."""
        self._guards.setdefault(owner, set()).add(tell)

    def unguard(self, owner: str, tell: Callable[[], None]) -> None:
        """Call it no more."""
        guards = self._guards[owner]
        guards.discard(tell)
        if not guards:
            del self._guards[owner]

    # Inside

    def _check_room(self, place: _Place | None, lease: _Lease | None, row: Row, via: str) -> None:
        limits = self.limits
        if lease is None or lease.row.owner != row.owner:  # a renewal is never refused for these
            if self._by_owner[row.owner] >= limits.max_by_owner:
                raise TooMany(f"the owner has {limits.max_by_owner} entries (max_by_owner)")
            if via and self._by_connection[via] >= limits.max_by_connection:
                most = limits.max_by_connection
                raise TooMany(f"the connection has {most} entries (max_by_connection)")
        more = len(row.text) - len(lease.row.text) if lease is not None else len(row.text) + _BESIDE
        if more > 0 and self.bytes + more > limits.max_bytes:
            raise TooMany(f"the registry has {limits.max_bytes} bytes of entries (max_bytes)")
        if lease is not None:
            return
        if self.count >= limits.max_entries:
            raise TooMany(f"the registry has {limits.max_entries} entries (max_entries)")
        if place is not None and len(place.leases) >= limits.max_instances:
            raise TooMany(f"the service has {limits.max_instances} instances (max_instances)")
        if (place is None or not place.leases) and self._served >= limits.max_services:
            raise TooMany(f"the registry has {limits.max_services} services (max_services)")

    def _count(self, lease: _Lease, by: int) -> None:
        """Note that *lease* is here, or is here no more."""
        self.count += by
        self.bytes += by * (len(lease.row.text) + _BESIDE)
        for counts, key in ((self._by_owner, lease.row.owner), (self._by_connection, lease.via)):
            counts[key] += by
            if not counts[key]:
                del counts[key]

    def _serve(self, place: str, *, is_served: bool) -> None:
        """Note that a service has its first entry, or lost its last."""
        prefix, _, name = place.rpartition("/")
        self._sorted.pop(prefix, None)
        if is_served:
            self._served += 1
            self._names.setdefault(prefix, set()).add(name)
            return
        self._served -= 1
        names = self._names[prefix]
        names.discard(name)
        if not names:
            del self._names[prefix]

    def _place(self, name: str) -> _Place:
        found = self._places.get(name)
        if found is None:
            found = self._places[name] = _Place(self.revision, self.revision)
        return found

    def _put(self, found: _Place, place: str, id: str, row: Row, now: float, via: str) -> None:
        if not found.leases:
            self._serve(place, is_served=True)
        lease = found.leases[id] = _Lease(row, now + row.ttl, via)
        self._count(lease, 1)
        self._plan(place, id, lease.until)

    def _remove(self, found: _Place, place: str, id: str, *, is_explicit: bool) -> None:
        self._count(found.leases.pop(id), -1)
        if not found.leases:
            self._serve(place, is_served=False)
        self._tell(found, place, id, None, is_explicit)

    def _plan(self, place: str, id: str, until: float) -> None:
        heapq.heappush(self._schedule, (until, place, id))
        if len(self._schedule) > 2 * self.count + _STALE:
            # Of leases that came and went: else a peer could make it grow for ever.
            self._schedule = [
                (lease.until, name, key)
                for name, each in self._places.items()
                for key, lease in each.leases.items()
            ]
            heapq.heapify(self._schedule)

    def _tell(
        self, found: _Place, place: str, id: str, text: bytes | None, is_explicit: bool = False
    ) -> None:
        self.revision += 1
        found.changed = self.revision
        found.log.append(Event(self.revision, id, text, is_explicit))
        self._told.append(place)
        self._told_bytes += len(text or b"") + _BESIDE
        while (
            len(self._told) > self.limits.max_history
            or self._told_bytes > self.limits.max_history_bytes
        ):
            name = self._told.popleft()
            oldest = self._places[name]
            event = oldest.log.popleft()
            oldest.floor = event.revision
            self._told_bytes -= len(event.text or b"") + _BESIDE
            self._forget(name, oldest)
        for tell in found.wakers:
            tell()

    def _forget(self, name: str, place: _Place) -> None:
        if place.is_idle:
            del self._places[name]
