"""Know who owns which entry until when, and what has changed: a registry server's state.

Rules of the room:
  * time is an argument, and nothing here waits;
  * a renewal changes nothing that is told or kept, so it costs nothing of either;
  * what peers can make grow has a limit: entries, services, and the history that lets a
    watch go on where it was.
"""

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, final

from fastrpc.cluster.instance import INSTANCES_MAX
from fastrpc.errors import FastRPCError

__all__ = ["Event", "LeaseLimits", "Leases", "Row", "TooMany"]

#: Entries of the schedule that may stand for nothing any more, beside one for each lease.
_STALE: Final = 1024


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseLimits:
    """How much a registry server keeps.

    Attributes:
        max_entries: Most entries, all services together.
        max_instances: Most entries of one service.
        max_services: Most services that have entries.
        max_history: Most changes that are remembered, all services together.
    """

    max_entries: int = 100_000
    max_instances: int = INSTANCES_MAX
    max_services: int = 10_000
    max_history: int = 10_000


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


@final
@dataclass(slots=True)
class _Place:
    """A service, its entries and those who watch it."""

    floor: int  # changes up to this one are forgotten
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
    """

    def __init__(self, limits: LeaseLimits | None = None) -> None:
        self._limits = limits if limits is not None else LeaseLimits()
        self._places: dict[str, _Place] = {}
        self._told: deque[str] = deque()  # the places of all remembered changes, in order
        self._schedule: list[tuple[float, str, str]] = []
        self._guards: dict[str, set[Callable[[], None]]] = {}
        self._served = 0  # places that have entries
        self.revision = 0
        self.count = 0

    def restore(self, rows: Iterable[tuple[str, str, Row]], now: float) -> None:
        """Take back what was kept: every lease runs anew, since nobody could renew it."""
        for place, id, row in rows:
            self._put(self._place(place), place, id, row, now)

    def publish(self, place: str, id: str, row: Row, now: float) -> bool:
        """Write an entry, whoever had it before; return whether anything is to be kept.

        Raises:
            TooMany: There is no room.
        """
        found = self._places.get(place)
        lease = found.leases.get(id) if found is not None else None
        if found is None or lease is None:
            self._check_room(found)
            found = self._place(place)
            self._put(found, place, id, row, now)
            self._tell(found, place, id, row.text)
            return True
        before, lease.row = lease.row, row
        until, lease.until = lease.until, now + row.ttl
        if lease.until < until:  # a shorter time than before
            self._plan(place, id, lease.until)
        if before.text != row.text:
            self._tell(found, place, id, row.text)
        return before != row

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
        """Return the names of services under *prefix* that have entries, sorted."""
        head = f"{prefix}/"
        found = (
            name.removeprefix(head)
            for name, place in self._places.items()
            if place.leases and name.startswith(head)
        )
        return sorted(name for name in found if "/" not in name)

    def watch(self, place: str, tell: Callable[[], None]) -> None:
        """Call *tell* whenever something has changed there."""
        self._place(place).wakers.add(tell)

    def unwatch(self, place: str, tell: Callable[[], None]) -> None:
        """Call it no more."""
        found = self._places[place]
        found.wakers.discard(tell)
        self._forget(place, found)

    def guard(self, owner: str, tell: Callable[[], None]) -> None:
        """Call *tell* whenever entries of *owner* have expired."""
        self._guards.setdefault(owner, set()).add(tell)

    def unguard(self, owner: str, tell: Callable[[], None]) -> None:
        """Call it no more."""
        guards = self._guards[owner]
        guards.discard(tell)
        if not guards:
            del self._guards[owner]

    # Inside

    def _check_room(self, place: _Place | None) -> None:
        limits = self._limits
        if self.count >= limits.max_entries:
            raise TooMany(f"the registry has {limits.max_entries} entries (max_entries)")
        if place is not None and len(place.leases) >= limits.max_instances:
            raise TooMany(f"the service has {limits.max_instances} instances (max_instances)")
        if (place is None or not place.leases) and self._served >= limits.max_services:
            raise TooMany(f"the registry has {limits.max_services} services (max_services)")

    def _place(self, name: str) -> _Place:
        found = self._places.get(name)
        if found is None:
            found = self._places[name] = _Place(floor=self.revision)
        return found

    def _put(self, found: _Place, place: str, id: str, row: Row, now: float) -> None:
        if id not in found.leases:
            self.count += 1
            self._served += not found.leases
        found.leases[id] = _Lease(row, now + row.ttl)
        self._plan(place, id, now + row.ttl)

    def _remove(self, found: _Place, place: str, id: str, *, is_explicit: bool) -> None:
        del found.leases[id]
        self.count -= 1
        self._served -= not found.leases
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
        found.log.append(Event(self.revision, id, text, is_explicit))
        self._told.append(place)
        if len(self._told) > self._limits.max_history:
            name = self._told.popleft()
            oldest = self._places[name]
            oldest.floor = oldest.log.popleft().revision
            self._forget(name, oldest)
        for tell in found.wakers:
            tell()

    def _forget(self, name: str, place: _Place) -> None:
        if place.is_idle:
            del self._places[name]
