"""Answer those who publish to a registry server, and those who look things up there.

Rules of the room:
  * who publishes is answered when the entry is kept, and a watch is told at once;
  * a watch holds no queue: it is woken, and looks up what has changed since it last did;
    one that is too slow for the history gets a new list;
  * leases run while this process does: when it was stopped, nobody could renew.
"""

import asyncio
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Final, final

from fastrpc.cluster.instance import INSTANCE_MAX, check_id, check_service
from fastrpc.cluster.registrar.contract import PART, News, Refusal, RegistryContract
from fastrpc.cluster.registrar.leases import LeaseLimits, Leases, Row, TooMany
from fastrpc.cluster.registrar.store import Key, Store, StoreFailed
from fastrpc.errors import ConfigError, RpcError

__all__ = ["OWNER_MAX", "TTL_MAX", "RegistryService"]

#: Seconds between looks at the clock.
TICK: Final = 0.25

#: Seconds by which a look may be late before the leases get what is missing.
LATE: Final = 1.0

#: Most watches at once.
WATCHES_MAX: Final = 50_000

#: Longest of all leases, and the shortest.
TTL_MAX: Final = 86_400.0
TTL_MIN: Final = 1.0

#: Longest token of an owner.
OWNER_MAX: Final = 64

#: Most entries that wait for the disk.
WAITING_MAX: Final = 200_000

_PREFIX: Final = re.compile(r"[A-Za-z0-9._~-]{1,128}(/[A-Za-z0-9._~-]{1,128}){0,7}")
_OWNER: Final = re.compile(rf"[A-Za-z0-9._~-]{{1,{OWNER_MAX}}}")


@final
class RegistryService(RegistryContract):
    """What a registry server serves.

    Args:
        store: Where entries are kept; what is in it is taken back.
        limits: How much is kept.
        clock: Returns seconds, monotonic: what leases run by.
        is_ending: Tells whether the server takes no more calls: watches end then.
    """

    def __init__(
        self,
        store: Store,
        limits: LeaseLimits | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        is_ending: Callable[[], bool] = lambda: False,
        max_watches: int = WATCHES_MAX,
    ) -> None:
        self._store = store
        self._clock = clock
        self._is_ending = is_ending
        self._max_watches = max_watches
        self._behind = 0.0  # seconds that the leases' clock has stood still
        self._wakers: set[Callable[[], None]] = set()
        self._ended = False
        self._pulse: asyncio.Task[None] | None = None
        self.epoch = uuid.uuid4().hex
        self.leases = Leases(limits)
        self.leases.restore(store.load(), self._now())

    def begin(self) -> None:
        """Let leases expire from now on; done by the first who publishes, too."""
        if self._pulse is None and not self._ended:
            self._pulse = asyncio.get_running_loop().create_task(self._keep_time())

    def end(self) -> None:
        """End all watches: who watches goes to another server."""
        self._ended = True
        if self._pulse is not None:
            self._pulse.cancel()
        for wake in list(self._wakers):
            wake()

    def sweep(self) -> None:
        """Let go of what was not renewed in time."""
        for key in self.leases.expire(self._now()):
            self._store.remove(key)

    # What is served

    async def publish(
        self, prefix: str, service: str, id: str, text: bytes, owner: str, ttl: float
    ) -> None:
        """Write an entry, or renew it: it is *owner*'s for *ttl* seconds from now."""
        place, id = _place(prefix, service), _checked(check_id, id)
        if len(text) > INSTANCE_MAX:
            raise _wrong(f"an entry of {len(text)} bytes is over {INSTANCE_MAX}")
        if not TTL_MIN <= ttl <= TTL_MAX:
            raise _wrong(f"ttl must be {TTL_MIN:.0f} to {TTL_MAX:.0f} seconds, got {ttl!r}")
        row, key = Row(text, _owner(owner), ttl), (place, id)
        if self._store.waiting >= WAITING_MAX:
            raise RpcError(Refusal.BROKEN, f"{WAITING_MAX} entries wait for the disk")
        self.begin()
        try:
            if self.leases.publish(place, id, row, self._now()):
                self._store.put(key, row)
        except TooMany as error:
            raise RpcError(Refusal.FULL, str(error)) from None
        await self._settled(key)

    async def withdraw(self, prefix: str, service: str, id: str, owner: str) -> bool:
        """Take an entry away if it is *owner*'s; return whether it was."""
        key = _place(prefix, service), _checked(check_id, id)
        was_there = self.leases.withdraw(*key, _owner(owner))
        if was_there:
            self._store.remove(key)
        await self._settled(key)
        return was_there

    async def services(self, prefix: str) -> list[str]:
        """Return the names of services that have entries, sorted."""
        return self.leases.places(_prefix(prefix))

    async def listing(self, prefix: str, service: str) -> AsyncIterator[News]:
        """Give all entries of a service, in parts."""
        for news in self._list(_place(prefix, service)):
            yield news

    async def watch(
        self, prefix: str, service: str, epoch: str = "", revision: int = 0
    ) -> AsyncIterator[News]:
        """Give what has changed since a revision, or all if nobody knows any more; go on."""
        place = _place(prefix, service)
        told = revision if epoch == self.epoch else -1
        is_first = True
        wake = self._enter()
        self.leases.watch(place, wake.set)
        try:
            while True:
                wake.clear()
                changes, now = self.leases.since(place, told), self.leases.revision
                if changes is None:
                    for news in self._list(place):
                        yield news
                elif changes or is_first:
                    for news in self._parts(changes, now):
                        yield news
                told, is_first = now, False
                await self._wait(wake)
        finally:
            self.leases.unwatch(place, wake.set)
            self._wakers.discard(wake.set)

    async def owned(self, owner: str) -> AsyncIterator[int]:
        """Give 0 at once, and a number whenever entries of *owner* have expired."""
        owner = _owner(owner)
        wake = self._enter()
        self.leases.guard(owner, wake.set)
        times = 0
        try:
            while True:
                yield times
                await self._wait(wake)
                wake.clear()
                times += 1
        finally:
            self.leases.unguard(owner, wake.set)
            self._wakers.discard(wake.set)

    # Inside

    def _now(self) -> float:
        return self._clock() - self._behind

    async def _keep_time(self) -> None:
        loop = asyncio.get_running_loop()
        last = loop.time()
        while not self._is_ending():
            await asyncio.sleep(TICK)
            late = loop.time() - last - TICK
            last = loop.time()
            if late > LATE:
                self._behind += late
            self.sweep()
        self.end()

    def _enter(self) -> asyncio.Event:
        if self._ended:
            raise RpcError(Refusal.ENDING, "this registry server stops")
        if len(self._wakers) >= self._max_watches:
            raise RpcError(Refusal.FULL, f"there are {self._max_watches} watches already")
        wake = asyncio.Event()
        self._wakers.add(wake.set)
        self.begin()
        return wake

    async def _wait(self, wake: asyncio.Event) -> None:
        if not self._ended:
            await wake.wait()
        if self._ended:
            raise RpcError(Refusal.ENDING, "this registry server stops")

    async def _settled(self, key: Key) -> None:
        try:
            await self._store.settle(key)
        except StoreFailed as error:
            raise RpcError(Refusal.BROKEN, str(error)) from None

    def _list(self, place: str) -> Iterator[News]:
        entries: list[tuple[str, bytes | None, bool]] = [
            (id, text, False) for id, text in self.leases.listing(place)
        ]
        return self._cut(entries, self.leases.revision, is_listing=True)

    def _parts(
        self, changes: Iterable[tuple[int, str, bytes | None, bool]], now: int
    ) -> Iterator[News]:
        entries = [(id, text, is_explicit) for _, id, text, is_explicit in changes]
        return self._cut(entries, now, is_listing=False)

    def _cut(
        self, entries: list[tuple[str, bytes | None, bool]], now: int, *, is_listing: bool
    ) -> Iterator[News]:
        """Give *entries* in messages that are not too long."""
        part: list[tuple[str, bytes | None, bool]] = []
        size = 0
        for entry in entries:
            if size >= PART:
                yield News(self.epoch, now, part, is_listing, True)
                part, size = [], 0
            part.append(entry)
            size += len(entry[0]) + len(entry[1] or b"") + 8
        yield News(self.epoch, now, part, is_listing, False)


def _wrong(text: str) -> RpcError:
    return RpcError(Refusal.WRONG, text)


def _checked(check: Callable[[object], str], given: str) -> str:
    try:
        return check(given)
    except ConfigError as error:
        raise _wrong(_short(str(error))) from None


def _prefix(prefix: str) -> str:
    if not _PREFIX.fullmatch(prefix):
        raise _wrong(f"a prefix is 1 to 8 names with / between them, got {_short(repr(prefix))}")
    return prefix


def _place(prefix: str, service: str) -> str:
    return f"{_prefix(prefix)}/{_checked(check_service, service)}"


def _owner(token: str) -> str:
    if not _OWNER.fullmatch(token):
        raise _wrong(f"an owner's token is 1 to {OWNER_MAX} letters, digits and . _ ~ -")
    return token


def _short(text: str) -> str:
    """Return *text*, but not all that a peer could put into it."""
    return text if len(text) <= 200 else text[:200] + "..."
