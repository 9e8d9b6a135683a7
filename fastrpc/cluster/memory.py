"""Keep instances in the memory of this process: for tests, and as the plainest registry.

The same store may be shared by many `MemoryRegistry`s, each of them an owner of what
it publishes. Entries expire by the store's clock, which a test may hold in its hand.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import final

from fastrpc.cluster.instance import Instance
from fastrpc.cluster.registry import Change, Gone, Listing, Put, Registry
from fastrpc.errors import RegistryLost

__all__ = ["MemoryRegistry", "MemoryStore"]


@final
class MemoryStore:
    """What `MemoryRegistry`s share.

    Args:
        clock: Returns seconds, monotonic.

    Attributes:
        is_down: Set it, and every registry of this store can't be asked.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._entries: dict[str, dict[str, tuple[object, Instance, float]]] = {}
        self._watches: dict[str, set[asyncio.Queue[Change | None]]] = {}
        self._is_down = False

    @property
    def is_down(self) -> bool:
        """Whether nobody can ask."""
        return self._is_down

    @is_down.setter
    def is_down(self, value: bool) -> None:
        self._is_down = value
        if value:
            for queues in self._watches.values():
                for queue in queues:
                    queue.put_nowait(None)

    def put(self, owner: object, service: str, instance: Instance, ttl: float) -> None:
        """Write an entry, whoever had it before."""
        self.check()
        entries = self._entries.setdefault(service, {})
        before = entries.get(instance.id)
        entries[instance.id] = (owner, instance, self._clock() + ttl)
        if before is None or before[1] != instance:
            self._tell(service, Put(instance))

    def remove(self, owner: object, service: str, id: str) -> None:
        """Take an entry away, if it is the owner's."""
        self.check()
        entries = self._entries.get(service, {})
        if id in entries and entries[id][0] is owner:
            del entries[id]
            self._tell(service, Gone(id, is_explicit=True))

    def listing(self, service: str) -> Listing:
        """Return what is there."""
        self.check()
        self.expire()
        return Listing(tuple(entry[1] for entry in self._entries.get(service, {}).values()))

    def services(self) -> list[str]:
        """Return the names of services that have instances."""
        self.check()
        self.expire()
        return sorted(name for name, entries in self._entries.items() if entries)

    def expire(self) -> None:
        """Let go of what was not renewed in time."""
        now = self._clock()
        for service, entries in self._entries.items():
            for id in [id for id, entry in entries.items() if entry[2] <= now]:
                del entries[id]
                self._tell(service, Gone(id))

    def check(self) -> None:
        """Raise if nobody can ask."""
        if self._is_down:
            raise RegistryLost("the registry in memory is down")

    def subscribe(self, service: str) -> "asyncio.Queue[Change | None]":
        """Return a queue of changes; None in it means that there is no more."""
        self.check()
        queue: asyncio.Queue[Change | None] = asyncio.Queue()
        self._watches.setdefault(service, set()).add(queue)
        return queue

    def unsubscribe(self, service: str, queue: "asyncio.Queue[Change | None]") -> None:
        """Put nothing more into *queue*."""
        self._watches[service].discard(queue)

    def _tell(self, service: str, change: Change) -> None:
        for queue in self._watches.get(service, ()):
            queue.put_nowait(change)


@final
class MemoryRegistry(Registry):
    """An owner of entries in a store.

    Args:
        store: Where they are.
        ttl: Seconds for which they outlive a renewal.
    """

    def __init__(self, store: MemoryStore, ttl: float = 15.0) -> None:
        self._store = store
        self._lost = asyncio.Event()
        self._owner = object()
        self.ttl = ttl

    async def publish(self, service: str, instance: Instance) -> None:
        """Make it so, see `Registry`."""
        self._store.put(self._owner, service, instance, self.ttl)

    async def withdraw(self, service: str, id: str) -> None:
        """Take an entry of ours away, see `Registry`."""
        self._store.remove(self._owner, service, id)

    async def list(self, service: str) -> Listing:
        """Return what is there now."""
        return self._store.listing(service)

    async def watch(self, service: str) -> AsyncIterator[Change]:
        """Give what is there, and then what changes."""
        queue = self._store.subscribe(service)
        try:
            yield self._store.listing(service)
            while (change := await queue.get()) is not None:
                yield change
        finally:
            self._store.unsubscribe(service, queue)
        raise RegistryLost("the registry in memory is down")

    async def services(self) -> tuple[str, ...]:
        """Return the names of the services that have instances, sorted."""
        return tuple(self._store.services())

    def lose(self) -> None:
        """Be as if the session was lost: what was published has another owner now."""
        self._owner = object()
        self._lost.set()

    async def wait_lost(self) -> None:
        """Return when a session was lost since this was asked last."""
        await self._lost.wait()
        self._lost.clear()

    async def aclose(self) -> None:
        """Let go."""
