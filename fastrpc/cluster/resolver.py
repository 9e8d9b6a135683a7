"""Know the instances of one service now: ask a registry, watch it, and remember.

One task watches. When the registry can't be asked it begins anew, after a wait that grows;
the list stays meanwhile, for a registry that is away says nothing about servers.

Rules of the room:
  * whatever comes, or doesn't, the list that was good is kept;
  * a watch that is silent is fine, however long: nothing changes;
  * who follows the list is told once for changes that come together.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Final, final

from fastrpc.cluster.instance import Instance, check_service
from fastrpc.cluster.registry import Change, Listing, Registry
from fastrpc.cluster.roll import GRACE, Freshness, Roll
from fastrpc.cluster.shelf import Shelf
from fastrpc.errors import RegistryLost
from fastrpc.policy import Backoff

__all__ = ["Resolver", "ResolverStats"]

#: Longest planned wait before a registry is asked again, in seconds; chance adds a fifth.
RETRY_CAP: Final = 4.0

#: Longest wait for the list a watch begins with.
PATIENCE: Final = 10.0

#: A registry that has not answered by then has not answered at once.
AT_ONCE: Final = 0.5

#: Least seconds between two tries, whoever hints that it is time.
HINT_GAP: Final = 1.0

#: Least seconds between two lines of the log about entries that can't be read.
COMPLAIN_EVERY: Final = 10.0

_BURST: Final = 64  # changes that are taken before others get their turn

_log = logging.getLogger("fastrpc.cluster")


@final
@dataclass(frozen=True, slots=True)
class ResolverStats:
    """A snapshot of a resolver.

    Attributes:
        service: Whose instances.
        freshness: How far they are to be trusted.
        instances: How many are known that fit.
        skipped: Entries of the registry that could not be read.
        is_suspect: Whether some are kept that left without a word.
        changes: What the registry has said so far.
        losses: How often it could not be asked.
        failure: Why it can't be asked now; "" if it can.
    """

    service: str
    freshness: Freshness
    instances: int
    skipped: int
    is_suspect: bool
    changes: int
    losses: int
    failure: str


@final
class Resolver:
    """The instances of one service, as a registry knows them.

    Made anywhere, it belongs to the loop where it begins. It does not close the registry.

    Args:
        registry: What to ask.
        service: Whose instances.
        changed: Called on the loop when instances or freshness are other than before.
        cache: File to keep the list in, for a start while no registry answers.
        version: Of the service; None for all of them.
        group: Of the service; None for all of them.
        grace: Seconds for which instances are kept that left without a word.
        rng: Source of chance.
        log: Where to say that the registry is away; "fastrpc.cluster" by default.

    Raises:
        ConfigError: The service's name can't be used.
    """

    def __init__(
        self,
        registry: Registry,
        service: str,
        *,
        changed: Callable[[], None],
        cache: str | Path | None = None,
        version: str | None = "",
        group: str | None = "",
        grace: float = GRACE,
        rng: random.Random | None = None,
        log: logging.Logger | None = None,
    ) -> None:
        self.service = check_service(service)
        self._registry = registry
        self._changed = changed
        self._wanted = (version, group)
        self._log = log or _log
        self._roll = Roll(grace)
        self._shelf = Shelf(cache, service, log=self._log) if cache is not None else None
        self._backoff = Backoff(first=0.1, cap=RETRY_CAP, rng=rng)
        self._instances: tuple[Instance, ...] = ()
        self._freshness = Freshness.UNKNOWN
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None  # the grace of somebody is over
        self._telling: asyncio.Handle | None = None
        self._asked = asyncio.Event()  # the first answer, or the first failure, has come
        self._first = asyncio.Event()  # something is known
        self._again = asyncio.Event()  # the wait before another try is over
        self._began = -inf
        self._changes = self._losses = self._skipped = 0
        self._complained = -inf
        self.failure: Exception | None = None

    @property
    def instances(self) -> tuple[Instance, ...]:
        """Those that fit, whatever their state, in the order they came."""
        return self._instances

    @property
    def freshness(self) -> Freshness:
        """How far the list is to be trusted."""
        return self._freshness

    def begin(self) -> None:
        """Ask from now on."""
        if self._task is None:
            self._loop = asyncio.get_running_loop()
            self._task = self._loop.create_task(self._run(self._loop))

    async def wait_first(self, deadline: float = 0.0) -> bool:
        """Wait until something is known, from the registry or from the disk.

        Args:
            deadline: By the loop's clock; 0.0 for none.

        Returns:
            Whether it came in time; `failure` says why not.
        """
        try:
            async with asyncio.timeout_at(deadline or None):
                await self._first.wait()
        except TimeoutError:
            return False
        return True

    def hint(self) -> None:
        """Look again soon: somebody has found that the list does not fit any more."""
        self._registry.hint()
        if self._loop is not None and self._loop.time() - self._began >= HINT_GAP:
            self._again.set()

    def stats(self) -> ResolverStats:
        """Return how things stand."""
        failure = self.failure
        return ResolverStats(
            service=self.service,
            freshness=self._freshness,
            instances=len(self._instances),
            skipped=self._roll.skipped,
            is_suspect=self._roll.is_suspect,
            changes=self._changes,
            losses=self._losses,
            failure="" if failure is None else str(failure) or type(failure).__name__,
        )

    async def aclose(self) -> None:
        """End; the list stays as it is. Twice is fine."""
        task, self._task = self._task, None
        try:
            if task is not None:
                task.cancel()
                await asyncio.wait((task,))
        finally:
            for handle in (self._timer, self._telling):
                if handle is not None:
                    handle.cancel()
            if self._shelf is not None:
                await self._shelf.aclose()

    # The task

    async def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        async with asyncio.TaskGroup() as group:
            if self._shelf is not None:
                group.create_task(self._recall(loop, self._shelf))
            while True:
                self._again.clear()
                self._began = loop.time()
                error = await self._follow(loop)
                self._on_lost(error)
                if loop.time() - self._began > RETRY_CAP + PATIENCE:
                    self._backoff.reset()  # it had been well for long
                timer = loop.call_later(self._backoff.next(), self._again.set)
                try:
                    await self._again.wait()
                finally:
                    timer.cancel()

    async def _follow(self, loop: asyncio.AbstractEventLoop) -> Exception:
        """Take what the registry says for as long as it speaks; return why it does not."""
        changes: AsyncIterator[Change] | None = None
        try:
            changes = self._registry.watch(self.service)
            async with asyncio.timeout(PATIENCE):
                first = await anext(changes)
            self._take(first, loop)
            count = 0
            async for change in changes:
                self._take(change, loop)
                count += 1
                if count % _BURST == 0:
                    await asyncio.sleep(0)
        except TimeoutError:
            return RegistryLost("the registry does not answer")
        except Exception as error:  # an engine's mistake must not end this task either
            return error
        finally:
            await self._close(changes)
        return RegistryLost("the registry has ended the watch")

    async def _close(self, changes: AsyncIterator[Change] | None) -> None:
        """Let go of a watch, if it is of a kind that has to be let go of."""
        close = getattr(changes, "aclose", None)
        if close is not None:
            try:
                await close()
            except Exception as error:
                self._log.warning("%s: a watch does not end well: %s", self.service, error)

    async def _recall(self, loop: asyncio.AbstractEventLoop, shelf: Shelf) -> None:
        """Begin with what an earlier run knew, unless the registry answers at once."""
        timer = loop.call_later(AT_ONCE, self._asked.set)
        try:
            await self._asked.wait()
        finally:
            timer.cancel()
        if self._roll.freshness is not Freshness.UNKNOWN:
            return
        if found := await shelf.read():
            self._roll.remember(found)
            self._tell_soon(loop)

    # What comes

    def _take(self, change: Change, loop: asyncio.AbstractEventLoop) -> None:
        if isinstance(change, Listing) and not all(
            isinstance(each, Instance) for each in change.instances
        ):
            raise TypeError("a listing of its registry holds what is no instance")
        now = loop.time()
        self._roll.take(change, now)
        self._changes += 1
        self._asked.set()
        if self.failure is not None:
            self._log.warning("%s: its registry answers again", self.service)
            self.failure = None
        if self._roll.skipped != self._skipped and now - self._complained >= COMPLAIN_EVERY:
            self._complained = now
            self._skipped = self._roll.skipped
            text = "%s: entries of the registry that can't be read, and are left out: %d"
            self._log.warning(text, self.service, self._skipped)
        self._plan(loop)
        self._tell_soon(loop)

    def _on_lost(self, error: Exception) -> None:
        assert self._loop is not None
        self._losses += 1
        self._roll.on_lost(self._loop.time())
        self._asked.set()
        if self.failure is None:
            text = "%s: its registry can't be asked, what is known stays (%d): %s"
            self._log.warning(text, self.service, len(self._roll.instances), error)
        self.failure = error
        # Nobody's grace ends while nobody could say that they are back.
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._tell_soon(self._loop)

    def _plan(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look again when somebody's grace is over."""
        soonest = self._roll.soonest
        if self._timer is not None:
            if self._timer.when() == soonest:
                return
            self._timer.cancel()
        self._timer = loop.call_at(soonest, self._tick, loop) if soonest < inf else None

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        self._roll.tick(loop.time())
        self._plan(loop)
        self._tell_soon(loop)

    def _tell_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._telling is None:
            self._telling = loop.call_soon(self._tell)

    def _tell(self) -> None:
        """Say what is other than before, if anything is."""
        self._telling = None
        roll = self._roll
        known, freshness = roll.instances, roll.freshness
        if freshness is Freshness.UNKNOWN:
            return
        if self._shelf is not None and freshness is Freshness.FRESH:
            self._shelf.put(known)
        fitting = tuple(each for each in known if self._fits(each))
        self._first.set()
        if fitting == self._instances and freshness is self._freshness:
            return
        self._instances, self._freshness = fitting, freshness
        try:
            self._changed()
        except Exception:
            self._log.exception("%s: who follows its instances failed", self.service)

    def _fits(self, instance: Instance) -> bool:
        version, group = self._wanted
        return version in (None, instance.version) and group in (None, instance.group)
