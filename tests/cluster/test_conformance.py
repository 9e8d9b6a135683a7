"""Every check of `check_registry` can fail: registries that are wrong in one thing are found."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from fastrpc.cluster import Change, Gone, Instance, Listing, MemoryRegistry, MemoryStore, Registry
from fastrpc.cluster.registry import Losses
from fastrpc.errors import CodecError, ConfigError, RegistryLost
from fastrpc.testing.registry import check_registry, registry_checks


class Honest(Registry):
    """A registry in memory, to be made wrong in one thing."""

    leak: ClassVar[set["asyncio.Task[None]"]] = set()

    def __init__(self, store: MemoryStore, all: list["Honest"]) -> None:
        self.store = store
        self.inner = MemoryRegistry(store)
        self.all = all
        all.append(self)

    async def publish(self, service: str, instance: Instance) -> None:
        await self.inner.publish(service, instance)

    async def withdraw(self, service: str, id: str) -> None:
        await self.inner.withdraw(service, id)

    async def list(self, service: str) -> Listing:
        return await self.inner.list(service)

    def watch(self, service: str) -> AsyncGenerator[Change, None]:
        return self.inner.watch(service)

    async def services(self) -> tuple[str, ...]:
        return await self.inner.services()

    async def wait_lost(self, since: int = 0) -> int:
        return await self.inner.wait_lost(since)

    async def aclose(self) -> None:
        await self.inner.aclose()

    def expire(self) -> None:
        self.inner.lose(is_over=True)


class OtherList(Honest):
    async def list(self, service: str) -> Listing:
        return Listing((Instance(id="ghost", addresses=("tcp://a:1",)),))


class StaysOpen(Honest):
    async def aclose(self) -> None:
        pass


class Leaks(Honest):
    async def watch(self, service: str) -> AsyncGenerator[Change, None]:
        self.leak.add(asyncio.create_task(asyncio.sleep(1000)))
        async for change in self.inner.watch(service):
            yield change


class TakesAll(Honest):
    async def publish(self, service: str, instance: Instance) -> None:
        with contextlib.suppress(ConfigError):
            await self.inner.publish(service, instance)


class Forgets(Honest):
    async def publish(self, service: str, instance: Instance) -> None:
        await self.inner.publish(service, replace(instance, tags=()))


class TellsAgain(Honest):
    async def watch(self, service: str) -> AsyncGenerator[Change, None]:
        async for change in self.inner.watch(service):
            yield change
            if not isinstance(change, Listing):
                yield change


class Shares(Honest):
    async def withdraw(self, service: str, id: str) -> None:
        for each in self.all:
            await each.inner.withdraw(service, id)


class KeepsTheFirst(Honest):
    async def publish(self, service: str, instance: Instance) -> None:
        if instance not in (await self.inner.list(service)).instances:
            await self.inner.publish(service, instance)


class Complains(Honest):
    async def withdraw(self, service: str, id: str) -> None:
        if id not in {each.id for each in (await self.inner.list(service)).instances}:
            raise RegistryLost("not there")
        await self.inner.withdraw(service, id)


class Skips(Honest):
    async def watch(self, service: str) -> AsyncGenerator[Change, None]:
        number = 0
        async for change in self.inner.watch(service):
            number += 1
            if number != 7:
                yield change


class Turns(Honest):
    """Tells every two changes the other way round."""

    async def watch(self, service: str) -> AsyncGenerator[Change, None]:
        changes = self.inner.watch(service)
        yield await anext(changes)
        async for change in changes:
            later = await anext(changes)
            yield later
            yield change


class Misses(Honest):
    async def watch(self, service: str) -> AsyncGenerator[Change, None]:
        yield await self.inner.list(service)
        await asyncio.sleep(0)
        changes = self.inner.watch(service)
        await anext(changes)
        async for change in changes:
            yield change


class EndsTogether(Honest):
    async def watch(self, service: str) -> AsyncGenerator[Change, None]:
        try:
            async for change in self.inner.watch(service):
                yield change
        finally:
            self.store.is_down = True
            self.store.is_down = False


class ByPrefix(Honest):
    async def list(self, service: str) -> Listing:
        names = [name for name in await self.inner.services() if name.startswith(service)]
        lists = [await self.inner.list(name) for name in names]
        return Listing(tuple(each for listing in lists for each in listing.instances))


class SmallIds(Honest):
    async def publish(self, service: str, instance: Instance) -> None:
        await self.inner.publish(service, replace(instance, id=instance.id.lower()))


class HasRoomForAHundred(Honest):
    async def list(self, service: str) -> Listing:
        return Listing((await self.inner.list(service)).instances[:100])


class StaysLocked(Honest):
    locked = False

    async def publish(self, service: str, instance: Instance) -> None:
        if self.locked:
            raise RegistryLost("locked")
        self.locked = True
        await asyncio.sleep(0)
        self.locked = False
        await self.inner.publish(service, instance)


class SaysGoodbye(Honest):
    async def watch(self, service: str) -> AsyncGenerator[Change, None]:
        async for change in self.inner.watch(service):
            yield Gone(change.id, is_explicit=True) if isinstance(change, Gone) else change


class ExpiresAll(Honest):
    def expire(self) -> None:
        for each in self.all:
            each.inner.lose(is_over=True)


class TellsOneOfThem(Honest):
    """A loss is told to whoever waits when it happens, and then to nobody."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._lost, self._count = asyncio.Event(), 0

    async def wait_lost(self, since: int = 0) -> int:
        await self._lost.wait()
        self._lost.clear()
        return self._count

    def expire(self) -> None:
        super().expire()
        self._count += 1
        self._lost.set()


class NeverLost(Honest):
    async def wait_lost(self, since: int = 0) -> int:
        return await Losses().wait(since)


class Chokes(Honest):
    async def list(self, service: str) -> Listing:
        listing = await self.inner.list(service)
        if listing.skipped:
            raise CodecError("poisoned")
        return listing


class CountsNothing(Honest):
    async def list(self, service: str) -> Listing:
        return replace(await self.inner.list(service), skipped=0)


WRONG: dict[str, type[Honest]] = {
    "read": OtherList,
    "close": StaysOpen,
    "cancelled_watch": Leaks,
    "refuse": TakesAll,
    "publish": Forgets,
    "renew": TellsAgain,
    "replace": Shares,
    "replaced_alike": KeepsTheFirst,
    "withdraw": Complains,
    "order": Turns,
    "nothing_missed": Misses,
    "two_lookouts": EndsTogether,
    "services": ByPrefix,
    "odd_ids": SmallIds,
    "many": HasRoomForAHundred,
    "cancelled_calls": StaysLocked,
    "expire": SaysGoodbye,
    "expired_before": ExpiresAll,
    "lost": NeverLost,
    "poisoned": Chokes,
}
MORE: list[tuple[str, type[Honest]]] = [
    ("order", Skips),
    ("order", TellsAgain),
    ("replaced_alike", Shares),
    ("withdraw", Shares),
    ("poisoned", CountsNothing),
    ("lost", TellsOneOfThem),
]


async def check(kind: type[Honest], only: str, patience: float = 0.3) -> None:
    store, all = MemoryStore(), []

    async def expire(registry: Any) -> None:
        registry.expire()

    async def poison(service: str, id: str, text: bytes) -> None:
        store.put_raw(None, service, id, text)

    await check_registry(
        lambda: kind(store, all), only=only, expire=expire, poison=poison, patience=patience
    )


def test_every_check_has_a_registry_that_fails_it() -> None:
    assert set(WRONG) == set(registry_checks("publish", "expire", "poison"))


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_an_honest_registry_passes_all() -> None:
    await check(Honest, "", patience=10)


@pytest.mark.asyncio(loop_factories=["asyncio"])
@pytest.mark.parametrize(("only", "kind"), [*WRONG.items(), *MORE])
async def test_what_is_wrong_is_found(only: str, kind: type[Honest]) -> None:
    try:
        with pytest.raises(AssertionError, match=f"^{only}: "):
            await check(kind, only)
    finally:
        for task in Honest.leak:
            task.cancel()
        Honest.leak.clear()


class Fixed(Registry):
    """What others have written, and nobody can publish to."""

    can_publish = False

    def __init__(self, lists: dict[str, tuple[Instance, ...]], changed: asyncio.Event) -> None:
        self._lists = lists
        self._changed = changed

    async def publish(self, service: str, instance: Instance) -> None:
        raise ConfigError("nobody can publish here")

    async def withdraw(self, service: str, id: str) -> None:
        pass

    async def list(self, service: str) -> Listing:
        return Listing(self._lists.get(service, ()))

    async def watch(self, service: str) -> AsyncGenerator[Change, None]:
        while True:
            yield await self.list(service)
            await self._changed.wait()
            self._changed.clear()

    async def services(self) -> tuple[str, ...]:
        return tuple(sorted(self._lists))

    async def wait_lost(self, since: int = 0) -> int:
        return await Losses().wait(since)

    async def aclose(self) -> None:
        self._changed.set()


def fixed(tells: bool) -> tuple[Callable[[], Registry], Any]:
    lists: dict[str, tuple[Instance, ...]] = {}
    changed = asyncio.Event()

    async def fill(service: str, instances: tuple[Instance, ...]) -> None:
        lists[service] = instances
        if tells:
            changed.set()

    return lambda: Fixed(lists, changed), fill


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_registry_that_others_fill_is_checked_as_far_as_it_goes() -> None:
    assert registry_checks() == ("read", "close", "cancelled_watch", "refuse")
    make, fill = fixed(tells=True)
    for only in ("read", "cancelled_watch", "refuse", "filled"):
        await check_registry(make, only=only, fill=fill)
    with pytest.raises(AssertionError, match="publish needs publish, and this registry has none"):
        await check_registry(make, only="publish", fill=fill)
    make, fill = fixed(tells=False)
    with pytest.raises(AssertionError, match="^filled: waited 0.1 s"):
        await check_registry(make, only="filled", fill=fill, patience=0.1)
