"""The registry in memory conforms, and its store's clock and outages are in a test's hand."""

import asyncio

import pytest

from fastrpc.cluster import Gone, Instance, Listing, MemoryRegistry, MemoryStore, Put
from fastrpc.cluster.instance import INSTANCES_MAX, encode_instance
from fastrpc.errors import ConfigError, RegistryLost
from fastrpc.testing.registry import check_registry, registry_checks

ONE = Instance(id="one", addresses=("tcp://127.0.0.1:7000",))


@pytest.mark.asyncio
@pytest.mark.parametrize("check", registry_checks("publish", "expire", "poison"))
async def test_memory_conforms(check: str) -> None:
    store = MemoryStore()

    async def expire(registry: object) -> None:
        assert isinstance(registry, MemoryRegistry)
        registry.lose(is_over=True)

    async def poison(service: str, id: str, text: bytes) -> None:
        store.put_raw(None, service, id, text)

    await check_registry(lambda: MemoryRegistry(store), only=check, expire=expire, poison=poison)


@pytest.mark.asyncio
async def test_entry_expires_by_the_clock_of_the_store() -> None:
    now = 100.0
    store = MemoryStore(lambda: now)
    registry = MemoryRegistry(store, ttl=5)
    await registry.publish("Arith", ONE)
    watch = registry.watch("Arith")
    assert await anext(watch) == Listing((ONE,))
    now = 104.9
    assert (await registry.list("Arith")).instances == (ONE,)
    now = 105.0
    assert await registry.services() == ()
    assert await anext(watch) == Gone("one", is_explicit=False)
    await registry.publish("Arith", ONE)
    assert await anext(watch) == Put(ONE)
    await watch.aclose()


@pytest.mark.asyncio
async def test_watch_is_told_of_expiry_though_nobody_asks() -> None:
    registry = MemoryRegistry(MemoryStore(), ttl=0.01)
    watch = registry.watch("Arith")
    assert await anext(watch) == Listing(())
    await registry.publish("Arith", ONE)
    assert await anext(watch) == Put(ONE)
    assert await anext(watch) == Gone("one")
    await watch.aclose()


@pytest.mark.asyncio
async def test_a_store_that_is_down_raises_everywhere_and_ends_watches() -> None:
    store = MemoryStore()
    registry = MemoryRegistry(store)
    await registry.publish("Arith", ONE)
    watch = registry.watch("Arith")
    await anext(watch)
    store.is_down = True
    for call in (
        registry.publish("Arith", ONE),
        registry.withdraw("Arith", "one"),
        registry.list("Arith"),
        registry.services(),
        anext(watch),
        anext(registry.watch("Arith")),
    ):
        with pytest.raises(RegistryLost, match="is down"):
            await call
    store.is_down = False
    assert (await registry.list("Arith")).instances == (ONE,)


@pytest.mark.asyncio
async def test_closed_registry_says_so() -> None:
    registry = MemoryRegistry(MemoryStore())
    await registry.aclose()
    for call in (
        registry.publish("Arith", ONE),
        registry.withdraw("Arith", "one"),
        registry.list("Arith"),
        registry.services(),
        anext(registry.watch("Arith")),
    ):
        with pytest.raises(RegistryLost, match="closed"):
            await call


@pytest.mark.asyncio
async def test_lost_session_leaves_entries_until_their_time() -> None:
    store = MemoryStore()
    registry = MemoryRegistry(store)
    await registry.publish("Arith", ONE)
    registry.lose()
    count = await registry.wait_lost()
    await registry.withdraw("Arith", "one")  # not ours any more
    assert (await registry.list("Arith")).instances == (ONE,)
    again = asyncio.ensure_future(registry.wait_lost(count))
    await asyncio.sleep(0)
    assert not again.done()
    again.cancel()


@pytest.mark.asyncio
async def test_no_more_instances_are_taken_than_the_limit() -> None:
    store = MemoryStore()
    for number in range(INSTANCES_MAX + 1):
        each = Instance(id=f"n{number}", addresses=ONE.addresses)
        store.put_raw(None, "Arith", each.id, encode_instance(each))
    listing = await MemoryRegistry(store).list("Arith")
    assert (len(listing.instances), listing.skipped) == (INSTANCES_MAX, 1)


@pytest.mark.asyncio
async def test_name_that_no_service_can_have_is_refused() -> None:
    with pytest.raises(ConfigError, match="service"):
        await MemoryRegistry(MemoryStore()).publish("a/b", ONE)
