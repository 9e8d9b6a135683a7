"""Keep instances in the memory of this process: for tests, and as the plainest registry.

The same store may be shared by many `MemoryRegistry`s, each of them an owner of what
it publishes. Entries expire by the store's clock, which a test may hold in its hand;
by the real one, whoever watches is told in time.

Rules of the room:
  * entries are texts, read when somebody asks: what is true of an engine over the
    network is true here;
  * nothing here waits, except a watch.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from typing import final

from fastrpc.cluster.instance import (
    INSTANCES_MAX,
    Instance,
    check_service,
    decode_instance,
    encode_instance,
)
from fastrpc.cluster.registry import Change, Gone, Listing, Losses, Put, Registry
from fastrpc.errors import CodecError, RegistryLost

__all__ = ["MemoryRegistry", "MemoryStore"]

_Queue = asyncio.Queue[Change | None]


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
        self._entries: dict[str, dict[str, tuple[object, bytes, float]]] = {}
        self._watches: dict[str, set[_Queue]] = {}
        self._is_down = False
        # No entry expires before; so nobody looks through all of them at each call.
        self._soonest = float("inf")

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
        text = encode_instance(instance)
        self.put_raw(owner, check_service(service), instance.id, text, ttl)

    def put_raw(
        self, owner: object, service: str, id: str, text: bytes, ttl: float = float("inf")
    ) -> None:
        """Write any text as an entry: one that nobody can read is skipped by those who list."""
        self.check()
        self.expire()
        entries = self._entries.setdefault(service, {})
        before = entries.get(id)
        until = self._clock() + ttl
        entries[id] = (owner, text, until)
        self._soonest = min(self._soonest, until)
        instance = _read(id, text)
        if instance is not None and (before is None or _read(id, before[1]) != instance):
            self._tell(service, Put(instance))

    def remove(self, owner: object, service: str, id: str) -> None:
        """Take an entry away, if it is the owner's."""
        self.check()
        self.expire()
        entries = self._entries.get(service, {})
        if id in entries and entries[id][0] is owner:
            self._drop(service, id, is_explicit=True)

    def listing(self, service: str) -> Listing:
        """Return what is there."""
        self.check()
        self.expire()
        entries = self._entries.get(service, {})
        read = [_read(id, entry[1]) for id, entry in entries.items()]
        found = tuple(each for each in read if each is not None)[:INSTANCES_MAX]
        return Listing(found, skipped=len(entries) - len(found))

    def services(self) -> list[str]:
        """Return the names of services that have instances."""
        self.check()
        self.expire()
        return sorted(name for name, entries in self._entries.items() if entries)

    def expire(self) -> None:
        """Let go of what was not renewed in time."""
        now = self._clock()
        if now >= self._soonest:
            self._drop_where(lambda entry: entry[2] <= now)
            ends = (each[2] for entries in self._entries.values() for each in entries.values())
            self._soonest = min(ends, default=float("inf"))

    def forget(self, owner: object) -> None:
        """Let go of what an owner has, as if it had died and its time was over."""
        self._drop_where(lambda entry: entry[0] is owner)

    def soonest(self) -> float | None:
        """Return in how many seconds to look what has expired; None if nothing will."""
        wait = self._soonest - self._clock()
        return None if wait == float("inf") else max(wait, 0.0)

    def check(self) -> None:
        """Raise if nobody can ask."""
        if self._is_down:
            raise RegistryLost("the registry in memory is down")

    def subscribe(self, service: str) -> _Queue:
        """Return a queue of changes; None in it means that there is no more."""
        self.check()
        queue: _Queue = asyncio.Queue()
        self._watches.setdefault(service, set()).add(queue)
        return queue

    def unsubscribe(self, service: str, queue: _Queue) -> None:
        """Put nothing more into *queue*."""
        watches = self._watches[service]
        watches.discard(queue)
        if not watches:
            del self._watches[service]

    def _drop_where(self, is_over: Callable[[tuple[object, bytes, float]], bool]) -> None:
        over = [
            (service, id)
            for service, entries in self._entries.items()
            for id, entry in entries.items()
            if is_over(entry)
        ]
        for service, id in over:
            self._drop(service, id)

    def _drop(self, service: str, id: str, is_explicit: bool = False) -> None:
        entries = self._entries[service]
        instance = _read(id, entries.pop(id)[1])
        if not entries:
            del self._entries[service]
        if instance is not None:
            self._tell(service, Gone(id, is_explicit))

    def _tell(self, service: str, change: Change) -> None:
        for queue in self._watches.get(service, ()):
            queue.put_nowait(change)


def _read(id: str, text: bytes) -> Instance | None:
    try:
        instance = decode_instance(text)
    except CodecError:
        return None
    return instance if instance.id == id else None


@final
class MemoryRegistry(Registry):
    """An owner of entries in a store.

    Args:
        store: Where they are.
        ttl: Seconds for which they outlive a renewal.
    """

    def __init__(self, store: MemoryStore, ttl: float = 15.0) -> None:
        self._store = store
        self._losses = Losses()
        self._owner = object()
        self._queues: set[_Queue] = set()
        self._is_closed = False
        self.ttl = ttl

    async def publish(self, service: str, instance: Instance) -> None:
        """Make it so, see `Registry`."""
        self._check()
        self._store.put(self._owner, service, instance, self.ttl)

    async def withdraw(self, service: str, id: str) -> None:
        """Take an entry of ours away, see `Registry`."""
        self._check()
        self._store.remove(self._owner, service, id)

    async def list(self, service: str) -> Listing:
        """Return what is there now."""
        self._check()
        return self._store.listing(service)

    async def watch(self, service: str) -> AsyncGenerator[Change, None]:
        """Give what is there, and then what changes."""
        self._check()
        # Before the subscription: what expires by it was never listed.
        listing = self._store.listing(service)
        queue = self._store.subscribe(service)
        self._queues.add(queue)
        try:
            yield listing
            while (change := await self._next(queue)) is not None:
                yield change
        finally:
            self._queues.discard(queue)
            self._store.unsubscribe(service, queue)
        raise RegistryLost(f"the registry in memory is {'closed' if self._is_closed else 'down'}")

    async def services(self) -> tuple[str, ...]:
        """Return the names of the services that have instances, sorted."""
        self._check()
        return tuple(self._store.services())

    def lose(self, *, is_over: bool = False) -> None:
        """Be as if the session was lost: what was published has another owner now.

        Args:
            is_over: Whether its entries are gone, too; else they last until their time.
        """
        before, self._owner = self._owner, object()
        self._losses.note()
        if is_over:
            self._store.forget(before)

    async def wait_lost(self, since: int = 0) -> int:
        """Return when a session was lost, see `Registry`."""
        return await self._losses.wait(since)

    async def aclose(self) -> None:
        """Let go: watches end, and entries of ours expire."""
        self._is_closed = True
        for queue in self._queues:
            queue.put_nowait(None)

    async def _next(self, queue: _Queue) -> Change | None:
        while True:
            try:
                async with asyncio.timeout(self._store.soonest()):
                    return await queue.get()
            except TimeoutError:
                self._store.expire()

    def _check(self) -> None:
        if self._is_closed:
            raise RegistryLost("the registry in memory is closed")
