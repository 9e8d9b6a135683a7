"""Keep what one server wants to be known for written down in one registry.

What is wanted is stated: "these instances are there, and mine". One task sees to it, for
as long as it is wanted, and `Reconcile` says when. A start, a renewal, a refusal, a lost
session and a registry that was away all lead to the same statement.

Rules of the room:
  * no statement may take so long that the next one comes too late;
  * whatever an engine raises, the task goes on: a server that nobody renews any more is
    lost to everyone;
  * a registry that is away is told of once, and once more when it is back.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from math import inf
from typing import Final, final

from fastrpc.cluster.instance import Instance, InstanceState, check_service
from fastrpc.cluster.reconcile import RENEWALS, RETRY_CAP, Belief, Reconcile
from fastrpc.cluster.registry import Registry
from fastrpc.errors import ConfigError
from fastrpc.policy import Backoff
from fastrpc.server.announcing import FAREWELL

__all__ = ["AnnounceStats", "Announcer", "EntryStats"]

#: Most statements under way at once.
PARALLEL: Final = 16

#: Longest that one statement may take, in seconds, and its share of the time between two.
PATIENCE: Final = 2.5
_SHARE: Final = 0.9

#: How long a first round is waited for before a server goes on without it.
FIRST: Final = 1.0

#: Least seconds between two losses that are believed: a session that comes and goes
#: all the time does not make us state things all the time.
CALM: Final = 0.2

_log = logging.getLogger("fastrpc.cluster")


@final
@dataclass(frozen=True, slots=True)
class EntryStats:
    """What became of one instance that is announced.

    Attributes:
        service: Under which it is written down.
        instance: As it was last meant to be.
        belief: Whether it may be believed to be there.
        stated: Statements that were confirmed.
        failed: Those that were not.
        lost: How often the registry has let go of everything of ours.
        error: Why the last statement failed; "" if it did not.
    """

    service: str
    instance: Instance
    belief: Belief
    stated: int
    failed: int
    lost: int
    error: str


@final
@dataclass(frozen=True, slots=True)
class AnnounceStats:
    """A snapshot of an announcer.

    Attributes:
        entries: What is announced, in the order it was given.
        is_leaving: Whether it was, or is being, withdrawn.
    """

    entries: tuple[EntryStats, ...]
    is_leaving: bool


class _Entry:
    """One instance, and what is known of its entry."""

    __slots__ = ("error", "instance", "is_running", "is_tried", "reconcile", "service")

    def __init__(self, service: str, instance: Instance, reconcile: Reconcile) -> None:
        self.service = service
        self.instance = instance
        self.reconcile = reconcile
        self.is_running = False
        self.is_tried = False
        self.error: Exception | None = None


@final
class Announcer:
    """Keep instances in a registry, owned by us.

    Made anywhere, it belongs to the loop where it begins.

    Args:
        registry: Where; the announcer uses it and does not close it, unless it *owns* it.
        entries: Service and instance of each; ids of one service must differ.
        owns: Whether to close the registry in the end.
        rng: Source of chance.
        log: Where to say that a registry is away; "fastrpc.cluster" by default.

    Raises:
        ConfigError: Nothing can be published there, a name can't be used, or is there twice.
    """

    def __init__(
        self,
        registry: Registry,
        entries: Iterable[tuple[str, Instance]],
        *,
        owns: bool = False,
        rng: random.Random | None = None,
        log: logging.Logger | None = None,
    ) -> None:
        if not registry.can_publish:
            raise ConfigError(f"{type(registry).__name__}: nothing can be published there")
        ttl = registry.ttl
        self._registry = registry
        self._entries = [
            _Entry(check_service(service), instance, Reconcile(ttl, rng))
            for service, instance in entries
        ]
        if len({(each.service, each.instance.id) for each in self._entries}) < len(self._entries):
            raise ConfigError("an instance is announced twice under one id")
        self._owns = owns
        self._rng = rng
        self._log = log or _log
        self.patience = min(ttl / RENEWALS * _SHARE, PATIENCE)
        self._task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._tried = asyncio.Event()
        self._is_leaving = False
        self._is_away = False

    @property
    def registry(self) -> Registry:
        """Where it publishes."""
        return self._registry

    def begin(self) -> None:
        """Publish from now on."""
        if self._task is None and not self._is_leaving:
            self._task = asyncio.get_running_loop().create_task(self._keep())

    async def wait_tried(self, patience: float = FIRST) -> bool:
        """Wait until each instance was stated once, with success or without.

        Returns:
            Whether that was so within *patience* seconds. It goes on, either way.

        Raises:
            ConfigError: One can never be published here.
        """
        try:
            async with asyncio.timeout(patience):
                await self._tried.wait()
        except TimeoutError:
            return False
        for entry in self._entries:
            if isinstance(entry.error, ConfigError):
                raise entry.error
        return True

    def change(self, edit: Callable[[Instance], Instance]) -> None:
        """State what *edit* makes of each instance, as soon as may be; ids stay."""
        now = asyncio.get_running_loop().time()
        for entry in self._entries:
            entry.instance = edit(entry.instance)
            entry.reconcile.on_changed(now)
        self._news.set()

    def stats(self) -> AnnounceStats:
        """Return what became of each instance so far."""
        now = asyncio.get_running_loop().time()
        entries = tuple(
            EntryStats(
                each.service, each.instance, each.reconcile.belief(now), each.reconcile.stated,
                each.reconcile.failed, each.reconcile.lost, _words(each.error),
            )
            for each in self._entries
        )  # fmt: skip
        return AnnounceStats(entries, self._is_leaving)

    async def leave(self, patience: float = FAREWELL) -> bool:
        """Say that no more calls are wanted, and withdraw; then end. Twice is fine.

        Args:
            patience: Seconds for all of it. What could not be told by then expires.

        Returns:
            Whether the registry has heard any of it.
        """
        if self._is_leaving:
            await self.aclose()
            return False
        self._is_leaving = True
        part = patience / 3
        try:
            await self._settle(part)
            drained = await self._tell_all(self._drain, part)
            withdrawn = await self._tell_all(self._withdraw, part)
        finally:
            await self.aclose()
        return drained + withdrawn > 0

    async def rest(self) -> None:
        """State nothing more, and leave what was stated as it is; another sees to it now."""
        self._is_leaving = True
        await self._settle(self.patience)

    async def aclose(self) -> None:
        """End without a word: what was published expires, or goes with its registry."""
        self._is_leaving = True
        await self._stop()
        if self._owns:
            self._owns = False
            try:
                async with asyncio.timeout(self.patience):
                    await self._registry.aclose()
            except Exception as error:
                self._log.warning("a registry does not close well: %s", _words(error))

    # The task

    async def _keep(self) -> None:
        """State what is due, and wait for what is due next."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            losses = group.create_task(self._watch_losses(loop))
            while not self._is_leaving:
                self._news.clear()
                soonest = self._start_due(group, loop)
                timer = loop.call_at(soonest, self._news.set) if soonest < inf else None
                try:
                    await self._news.wait()
                finally:
                    if timer is not None:
                        timer.cancel()
            losses.cancel()

    def _start_due(self, group: asyncio.TaskGroup, loop: asyncio.AbstractEventLoop) -> float:
        """Begin to state what is due, as far as there is room; return when to look again."""
        now = loop.time()
        resting = [each for each in self._entries if not each.is_running]
        due = [each for each in resting if each.reconcile.due <= now]
        due.sort(key=lambda each: each.reconcile.due)  # who has waited longest goes first
        room = PARALLEL - sum(each.is_running for each in self._entries)
        for entry in due[:room]:
            entry.is_running = True
            group.create_task(self._state(entry, loop))
        if len(due) > room:
            return inf  # whoever ends makes room, and says so
        return min((each.reconcile.due for each in resting if not each.is_running), default=inf)

    async def _state(self, entry: _Entry, loop: asyncio.AbstractEventLoop) -> None:
        """State one instance once, and note what came of it."""
        reconcile, instance = entry.reconcile, entry.instance
        asked, lost = loop.time(), reconcile.lost
        try:
            async with asyncio.timeout(self.patience):
                await self._registry.publish(entry.service, instance)
        except Exception as error:  # an engine's mistake must not end this task either
            entry.error = error
            reconcile.on_failed(loop.time())
            self._say_away(error)
        else:
            entry.error = None
            if reconcile.lost == lost:  # else it may have gone with what was lost: once more
                reconcile.on_stated(asked, loop.time())
            if entry.instance is not instance:
                reconcile.on_changed(loop.time())
            self._say_back()
        finally:
            entry.is_running = False
            entry.is_tried = True
            if all(each.is_tried for each in self._entries):
                self._tried.set()
            self._news.set()

    async def _watch_losses(self, loop: asyncio.AbstractEventLoop) -> None:
        """State everything anew whenever the registry may have let go of it."""
        backoff = Backoff(first=CALM, cap=RETRY_CAP, rng=self._rng)
        count, is_failing = 0, False
        while True:
            try:
                count = await self._registry.wait_lost(count)
            except Exception as error:  # that it can't be told is no loss: renewals go on
                if not is_failing:
                    name = type(self._registry).__name__
                    text = "%s: a loss of what is announced can't be heard of: %s"
                    self._log.warning(text, name, _words(error))
                is_failing = True
                await asyncio.sleep(backoff.next())
                continue
            is_failing = False
            backoff.reset()
            now = loop.time()
            for entry in self._entries:
                entry.reconcile.on_lost(now)
            self._news.set()
            await asyncio.sleep(CALM)

    async def _settle(self, patience: float) -> None:
        """End the task when what it is stating has come to an end."""
        if self._task is not None:
            # A statement on its way could arrive behind a withdrawal, and would stay.
            self._news.set()
            await asyncio.wait((self._task,), timeout=patience)
        await self._stop()

    async def _stop(self) -> None:
        """End the task."""
        task, self._task = self._task, None
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait((task,), timeout=self.patience)

    # Goodbye

    async def _tell_all(self, tell: Callable[[_Entry], Awaitable[None]], patience: float) -> int:
        """Let *tell* do its work for every entry; return how often it could."""
        room = asyncio.Semaphore(PARALLEL)
        told = 0

        async def tell_one(entry: _Entry) -> None:
            nonlocal told
            async with room:
                try:
                    await tell(entry)
                except Exception as error:
                    self._log.debug("%s: goodbye failed: %s", entry.service, _words(error))
                else:
                    told += 1

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience), asyncio.TaskGroup() as group:
                for entry in self._entries:
                    group.create_task(tell_one(entry))
        return told

    async def _drain(self, entry: _Entry) -> None:
        entry.instance = entry.instance.with_state(InstanceState.DRAINING)
        await self._registry.publish(entry.service, entry.instance)

    async def _withdraw(self, entry: _Entry) -> None:
        entry.reconcile.on_withdrawn()
        await self._registry.withdraw(entry.service, entry.instance.id)

    # The log

    def _say_away(self, error: Exception) -> None:
        if not self._is_away:
            self._is_away = True
            has_been = any(each.reconcile.stated for each in self._entries)
            what = "what is announced can't be renewed" if has_been else "nothing is announced yet"
            text = f"%s: {what}, and it will be tried again: %s"
            self._log.warning(text, type(self._registry).__name__, _words(error))

    def _say_back(self) -> None:
        if self._is_away and all(each.error is None for each in self._entries):
            self._is_away = False
            name = type(self._registry).__name__
            self._log.warning("%s: everything announced is there again", name)


def _words(error: Exception | None) -> str:
    if error is None:
        return ""
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    return str(error) or type(error).__name__
