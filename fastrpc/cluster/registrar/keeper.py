"""Keep leases running: the clock, the file, and those who wait for news.

Rules of the room:
  * who states something is answered when it is kept, and those who wait hear of it at once;
    what can't be kept is taken back;
  * leases run while this process does: when it was stopped, nobody could renew;
  * at the end those who wait are told, and nothing is left.
"""

import asyncio
import contextlib
import time
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Final, final

from fastrpc.cluster.registrar.contract import Refusal
from fastrpc.cluster.registrar.leases import LeaseLimits, Leases, Row, TooMany
from fastrpc.cluster.registrar.store import Key, Store, StoreFailed
from fastrpc.errors import RpcError

__all__ = ["BY_CONNECTION", "WATCHES_MAX", "Keeper"]

#: Seconds between looks at the clock.
TICK: Final = 0.25

#: Seconds by which a look may be late before the leases get what is missing.
LATE: Final = 1.0

#: Most of those who wait for news at once.
WATCHES_MAX: Final = 50_000

#: Most of those on one connection.
BY_CONNECTION: Final = 100

#: Most entries that wait for the disk.
WAITING_MAX: Final = 200_000


@final
class Keeper:
    """What a registry server knows, and what keeps it so.

    Args:
        store: Where entries are kept; what is in it is taken back.
        limits: How much is kept.
        clock: Returns seconds, monotonic: what leases run by.
        is_ending: Tells whether the server takes no more calls: all that wait are told then.
        max_watches: Most of those who wait at once.
        max_by_connection: Most of those on one connection.

    Attributes:
        epoch: Of this process.
        leases: All entries.
    """

    def __init__(
        self,
        store: Store,
        limits: LeaseLimits | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        is_ending: Callable[[], bool] = lambda: False,
        max_watches: int = WATCHES_MAX,
        max_by_connection: int = BY_CONNECTION,
    ) -> None:
        self._store = store
        self._clock = clock
        self._time = time.monotonic  # by which this process is late, or is not
        self._is_ending = is_ending
        self._max_watches = max_watches
        self._max_by_connection = max_by_connection
        self._by_connection: Counter[str] = Counter()
        self._behind = 0.0  # seconds that the leases' clock has stood still
        self._waiting: set[asyncio.Event] = set()
        self._unkept: dict[Key, Row | None] = {}  # what the file has of what is being written
        self._ended = False
        self._pulse: asyncio.Task[None] | None = None
        self.epoch = uuid.uuid4().hex
        self.leases = Leases(limits)
        self.leases.restore(store.load(), self._now())

    def begin(self) -> None:
        """Let leases expire from now on; done by the first who publishes or waits, too."""
        if self._pulse is None and not self._ended:
            self._pulse = asyncio.get_running_loop().create_task(self._keep_time())

    def end(self) -> None:
        """Tell all who wait that this server stops."""
        self._ended = True
        if self._pulse is not None:
            self._pulse.cancel()
        for wake in self._waiting:
            wake.set()

    def sweep(self) -> None:
        """Let go of what was not renewed in time."""
        for key in self.leases.expire(self._now()):
            self._unkept.pop(key, None)
            self._store.remove(key)

    async def publish(self, place: str, id: str, row: Row, via: str = "") -> None:
        """Write an entry, or renew it, and keep it.

        Raises:
            RpcError: There is no room, or it can't be kept.
        """
        if self._store.waiting >= WAITING_MAX:
            raise RpcError(Refusal.BROKEN, f"{WAITING_MAX} entries wait for the disk")
        self.begin()
        key, before = (place, id), self.leases.row(place, id)
        try:
            if self.leases.publish(place, id, row, self._now(), via):
                if not self._store.is_waiting(key):
                    self._unkept[key] = before
                self._store.put(key, row)
        except TooMany as error:
            raise RpcError(Refusal.FULL, str(error)) from None
        try:
            await self._store.settle(key)
        except StoreFailed as error:
            self._take_back(key, row)
            raise RpcError(Refusal.BROKEN, str(error)) from None
        self._unkept.pop(key, None)

    async def withdraw(self, place: str, id: str, owner: str) -> bool:
        """Take an entry away if it is *owner*'s; return whether it was.

        It is gone though the disk be full: should this server start again before that is
        written, the entry comes back until its time is over.
        """
        was_there = self.leases.withdraw(place, id, owner)
        if was_there:
            self._unkept.pop((place, id), None)
            self._store.remove((place, id))
        with contextlib.suppress(StoreFailed):
            await self._store.settle((place, id))
        return was_there

    def enter(self, via: str = "") -> asyncio.Event:
        """Return what is to be set when there is news for somebody, who leaves in the end.

        Args:
            via: The connection of who waits, "" if there is none.

        Raises:
            RpcError: Too many are here, or this server stops.
        """
        if self._ended:
            raise _stopping()
        if len(self._waiting) >= self._max_watches:
            raise RpcError(Refusal.FULL, f"there are {self._max_watches} watches already")
        if via:
            if self._by_connection[via] >= self._max_by_connection:
                text = f"the connection has {self._max_by_connection} watches already"
                raise RpcError(Refusal.FULL, text)
            self._by_connection[via] += 1
        wake = asyncio.Event()
        self._waiting.add(wake)
        self.begin()
        return wake

    def leave(self, wake: asyncio.Event, via: str = "") -> None:
        """Forget who had *wake*."""
        self._waiting.discard(wake)
        if via:
            self._by_connection[via] -= 1
            if not self._by_connection[via]:
                del self._by_connection[via]

    async def wait(self, wake: asyncio.Event) -> None:
        """Wait for news.

        Raises:
            RpcError: This server stops.
        """
        if not self._ended:
            await wake.wait()
        if self._ended:
            raise _stopping()

    # Inside

    def _now(self) -> float:
        return self._clock() - self._behind

    async def _keep_time(self) -> None:
        last = self._time()
        while not self._is_ending():
            await asyncio.sleep(TICK)
            late = self._time() - last - TICK
            last = self._time()
            if late > LATE:
                self._behind += late
            self.sweep()
        self.end()

    def _take_back(self, key: Key, row: Row) -> None:
        """Make an entry what the file has of it, unless it was stated anew since *row*."""
        if self.leases.row(*key) is not row or not self._store.is_waiting(key):
            return
        before = self._unkept.pop(key, None)
        self.leases.take_back(*key, before)
        self._store.take_back(key, before)
        if before is not None and self._store.is_waiting(key):
            self._unkept[key] = before  # that is not there yet either


def _stopping() -> RpcError:
    return RpcError(Refusal.ENDING, "this registry server stops")
