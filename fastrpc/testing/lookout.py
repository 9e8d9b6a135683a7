"""Watch a registry as a client does: what `check_registry` stands on.

Rules of the room:
  * a lookout notes every change that breaks the contract, and the bench tells at the end,
    whatever the check was about;
  * nothing is polled: whoever waits is woken by a change;
  * when a bench ends, nothing that its registries began is still going on.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, final

from fastrpc.cluster import Change, Instance, Listing, Put, Registry
from fastrpc.errors import RegistryLost
from fastrpc.testing.watch import expect

#: Gives another owner on the same store each time.
Make = Callable[[], Registry]

#: Makes everything expire that a registry has published, as if its owner had died.
Expire = Callable[[Registry], Awaitable[None]]

#: Writes bytes where the entry of a service's instance would be: service, id, bytes.
Poison = Callable[[str, str, bytes], Awaitable[None]]

#: Makes these the instances of a service, in a registry that nobody can publish to.
Fill = Callable[[str, tuple[Instance, ...]], Awaitable[None]]

#: Seconds after which a watch that ended is begun anew.
_AGAIN: Final = 0.02


@final
class Lookout:
    """One watch of a service, and what is known by it.

    Attributes:
        changes: All that was told, in order.
        known: What that comes to.
        problems: Where the contract was broken.
        lost: How often the watch could not go on, and was begun anew.
        ended: Why there is none any more, if it was not closed.
    """

    def __init__(self, registry: Registry, service: str) -> None:
        self.changes: list[Change] = []
        self.known: dict[str, Instance] = {}
        self.skipped = 0
        self.problems: list[str] = []
        self.lost = 0
        self.ended: BaseException | None = None
        self._changed = asyncio.Event()
        self._registry = registry
        self._service = service
        self._task = asyncio.create_task(self._look())

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until *condition* holds; it is looked at after every change."""
        try:
            while not condition():
                if self.ended is not None:
                    raise AssertionError(f"the watch ended with {self.ended!r}, before {what}")
                self._changed.clear()
                await self._changed.wait()
        except asyncio.CancelledError as error:
            raise asyncio.CancelledError(f"while a watch waited for {what}") from error

    async def until_begun(self) -> None:
        """Wait for the first listing."""
        await self.until(lambda: self.changes, "its first listing")

    async def until_known(self, *instances: Instance) -> None:
        """Wait until exactly *instances* are known."""
        wanted = {each.id: each for each in instances}
        await self.until(lambda: self.known == wanted, f"{sorted(wanted)} to be all there is")

    def of(self, id: str) -> list[Change]:
        """Return what was told of one instance between listings."""
        return [
            change
            for change in self.changes
            if not isinstance(change, Listing)
            and (change.instance.id if isinstance(change, Put) else change.id) == id
        ]

    async def aclose(self) -> None:
        """End the watch, and wait for that."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _look(self) -> None:
        try:
            while True:
                try:
                    return await self._watch()
                except RegistryLost:
                    self.lost += 1
                    await asyncio.sleep(_AGAIN)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self.ended = error
            self.problems.append(f"the watch raised {error!r}")
        finally:
            if self.ended is None:
                self.ended = StopAsyncIteration()
            self._changed.set()

    async def _watch(self) -> None:
        first = True
        async for change in self._registry.watch(self._service):
            if first and not isinstance(change, Listing):
                self.problems.append(f"a watch began with {change}")
            first = False
            self._take(change)
            self.changes.append(change)
            self._changed.set()

    def _take(self, change: Change) -> None:
        if isinstance(change, Listing):
            self.known = {each.id: each for each in change.instances}
            self.skipped = change.skipped
            if len(self.known) < len(change.instances):
                self.problems.append("an id stands in a listing twice")
        elif isinstance(change, Put):
            if self.known.get(change.instance.id) == change.instance:
                self.problems.append(f"told again what it was already: {change}")
            self.known[change.instance.id] = change.instance
        elif self.known.pop(change.id, None) is None:
            self.problems.append(f"told to be gone, and was never there: {change}")


@final
class RegistryBench:
    """Registries on one store, and lookouts on them, for one check.

    Attributes:
        service: Whose instances the check is about; of no other check.
    """

    def __init__(
        self, make: Make, service: str, expire: Expire | None, poison: Poison | None,
        fill: Fill | None, has_session: bool, is_polled: bool,
    ) -> None:  # fmt: skip
        self.service = service or self.other()
        self.has_session = has_session
        self.is_polled = is_polled
        self._make = make
        self._expire = expire
        self._poison = poison
        self._fill = fill
        self._registries: list[Registry] = []
        self._lookouts: list[Lookout] = []
        self._before: set[asyncio.Task[object]] = set()

    def other(self, text: str = "check") -> str:
        """Return the name of a service that is nobody's yet."""
        return f"{text}-{uuid.uuid4().hex[:12]}"

    def owner(self) -> Registry:
        """Return another registry on the store."""
        registry = self._make()
        self._registries.append(registry)
        return registry

    def lookout(self, registry: Registry, service: str = "") -> Lookout:
        """Return a new watch, of the check's service if no other is named."""
        lookout = Lookout(registry, service or self.service)
        self._lookouts.append(lookout)
        return lookout

    async def publish(self, registry: Registry, instance: Instance) -> None:
        """Publish as an announcer does: what can't be done now is tried again."""
        while True:
            try:
                return await registry.publish(self.service, instance)
            except RegistryLost:
                await asyncio.sleep(0)

    async def expire(self, registry: Registry) -> None:
        """Make what *registry* has published expire."""
        expect(self._expire, "this check needs expire=")
        assert self._expire is not None
        await self._expire(registry)

    async def poison(self, id: str, text: bytes) -> None:
        """Write *text* where an entry of the check's service would be."""
        expect(self._poison, "this check needs poison=")
        assert self._poison is not None
        await self._poison(self.service, id, text)

    async def fill(self, *instances: Instance) -> None:
        """Make *instances* those of the check's service."""
        expect(self._fill, "this check needs fill=")
        assert self._fill is not None
        await self._fill(self.service, instances)

    async def __aenter__(self) -> "RegistryBench":
        """Note what is going on already."""
        self._before = asyncio.all_tasks()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go of everything, and look whether anything is left."""
        for lookout in self._lookouts:
            await lookout.aclose()
        for registry in self._registries:
            await registry.aclose()
        if kind is not None:
            return
        problems = [each for lookout in self._lookouts for each in lookout.problems]
        expect(not problems, "; ".join(problems[:5]))
        # An end may take a few steps of the loop: a generator is closed by a task.
        for _ in range(100):
            await asyncio.sleep(0)
        left = asyncio.all_tasks() - self._before
        expect(not left, f"still going on after aclose: {[each.get_coro() for each in left]}")
