"""Follow many servers at once: ask each how it is, again and again.

Rules of the room:
  * a server has one question of ours at most, however long it takes to answer;
  * who comes is asked from the next round on, who leaves is let go of at once;
  * so many are followed and no more: the rest is counted.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, final

from fastrpc.cli.asking import Asker, Health, single
from fastrpc.cli.places import PATIENCE, only_service
from fastrpc.cli.rates import Figures, History, InstanceRow, View, added, place_of
from fastrpc.cluster import Instance, is_cluster, open_registry, parse_cluster
from fastrpc.cluster.resolver import Resolver
from fastrpc.errors import FastRPCError, RegistryLost

_log: Final = logging.Logger("fastrpc.cli.top", logging.CRITICAL + 1)  # the screen tells it


@final
class _Followed:
    """One instance that is followed."""

    def __init__(self, instance: Instance, settings: Mapping[str, Any], patience: float) -> None:
        self.instance = instance
        self.asker = Asker(instance, settings, patience)
        self.answer: Health | None = None
        self.problem = ""
        self.task: asyncio.Task[None] | None = None
        self.since = 0.0

    async def ask(self, methods: int, history: History) -> None:
        """Ask once, and keep what comes back."""
        answer = await self.asker.ask(methods)
        if isinstance(answer, str):
            self.answer, self.problem = None, answer
            history.clear()
        else:
            self.answer, self.problem = answer, ""
            history.add(answer, self.asker.connections, time.monotonic())


@final
class Follower:
    """Follows instances.

    Args:
        settings: Of the clients.
        methods: How many methods each is asked about.
        patience: Seconds that each has to answer.
        most: How many are followed.

    Attributes:
        problem: Why the registry can't be asked, "" if it can.
    """

    def __init__(
        self, settings: Mapping[str, Any], *, methods: int, patience: float, most: int
    ) -> None:
        self._settings = settings
        self._methods = methods
        self._patience = patience
        self._most = most
        self._followed: dict[str, _Followed] = {}
        self._histories: dict[str, History] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._more = 0
        self.problem = ""

    @property
    def failure(self) -> FastRPCError | None:
        """Why one of them did not answer, None if all have."""
        failures = [each.asker.failure for each in self._followed.values()]
        return next((each for each in failures if each is not None), None)

    def take(self, instances: Sequence[Instance]) -> None:
        """Follow *instances*, and nobody else."""
        wanted = {each.id: each for each in sorted(instances, key=place_of)[: self._most]}
        self._more = len(instances) - len(wanted)
        for id, each in list(self._followed.items()):
            instance = wanted.get(id)
            if instance is not None and instance.addresses == each.instance.addresses:
                each.instance = instance
            else:
                del self._followed[id], self._histories[id]
                self._let_go(each)
        for id, instance in wanted.items():
            if id not in self._followed:
                self._followed[id] = _Followed(instance, self._settings, self._patience)
                self._histories[id] = History(self._methods)

    async def round(self, wait: float) -> None:
        """Ask all that owe no answer, and wait for answers, but not longer than *wait*."""
        now = time.monotonic()
        for id, each in self._followed.items():
            if each.task is None or each.task.done():
                each.since = now
                each.task = asyncio.create_task(each.ask(self._methods, self._histories[id]))
        asked = [each.task for each in self._followed.values() if each.task is not None]
        if asked:
            done, _ = await asyncio.wait(asked, timeout=wait)
            for task in done:
                if not task.cancelled():  # of one that has left meanwhile
                    task.result()

    def view(self) -> View:
        """Return what is known now."""
        now = time.monotonic()
        methods: dict[str, list[Figures]] = {}
        rows = []
        for id, each in self._followed.items():
            own = self._histories[id].methods()
            for name, figures in (own or {}).items():
                methods.setdefault(name, []).append(figures)
            running = each.answer.running if each.answer is not None else 0
            problem = each.problem
            if each.task is not None and not each.task.done() and not problem:
                problem = f"no answer for {now - each.since:.1f} s"
            total = added(own.values(), running) if own is not None else None
            rows.append(InstanceRow(each.instance, each.answer, problem, total))
        together = {name: added(parts) for name, parts in methods.items()}
        return View(time.time(), together, rows, self._more, self.problem)

    async def aclose(self) -> None:
        """Let go of all of them. Twice is fine."""
        self.take(())
        if self._leaving:
            await asyncio.wait(self._leaving)

    def _let_go(self, each: _Followed) -> None:
        async def close() -> None:
            if each.task is not None:
                each.task.cancel()
                await asyncio.wait((each.task,))
            await each.asker.aclose()

        task = asyncio.create_task(close())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)


@asynccontextmanager
async def following(target: str, follower: Follower) -> AsyncIterator[None]:
    """Let *follower* follow what *target* names: one server, or a service in a registry.

    Raises:
        ConfigError: It can't be a target, or names no service where there are several.
        RegistryLost: Nobody could be asked at the start.
    """
    try:
        if is_cluster(target):
            async with _resolved(target, follower):
                yield
        else:
            follower.take([single(target)])
            yield
    finally:
        await follower.aclose()


@asynccontextmanager
async def _resolved(target: str, follower: Follower) -> AsyncIterator[None]:
    where = parse_cluster(target)
    registry = open_registry(where)
    try:
        service = await only_service(where, registry)
        try:
            async with asyncio.timeout(PATIENCE):
                listing = await registry.list(service)  # says at once if nobody is there
        except TimeoutError:
            raise RegistryLost(f"{where}: no answer within {PATIENCE:g} s") from None
        follower.take(listing.instances)

        def changed() -> None:
            follower.take(resolver.instances)
            follower.problem = resolver.stats().failure

        resolver = Resolver(registry, service, changed=changed, version=None, group=None, log=_log)
        resolver.begin()
        try:
            yield
        finally:
            await resolver.aclose()
    finally:
        await registry.aclose()
