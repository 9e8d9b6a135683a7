import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

import pytest

import fastrpc
from fastrpc.cluster.instance import INSTANCE_MAX, Instance, encode_instance
from fastrpc.cluster.registrar.contract import NAME, PART, News, Refusal, RegistryContract
from fastrpc.cluster.registrar.keeper import Keeper
from fastrpc.cluster.registrar.leases import LeaseLimits
from fastrpc.cluster.registrar.service import TTL_MAX, RegistryService
from fastrpc.cluster.registrar.store import Store
from fastrpc.errors import RpcError
from tests.cluster.registrars import Clock, registrar_scene

TEXT = encode_instance(Instance(id="x", addresses=("tcp://127.0.0.1:1",)))


async def parts(stream: AsyncIterator[News]) -> list[News]:
    """Read a list to its end."""
    found: list[News] = []
    async for news in stream:
        found.append(news)
        if not news.is_more:
            break
    return found


@pytest.fixture
def store() -> Iterator[Store]:
    """Give a store, and close it."""
    store = Store()
    yield store
    store.close()


WRONG: list[tuple[str, tuple[object, ...], str]] = [
    ("publish", ("p" * 129, "s", "x", TEXT, "me", 15.0), "prefix"),
    ("publish", ("p/" * 8 + "p", "s", "x", TEXT, "me", 15.0), "prefix"),
    ("publish", ("", "s", "x", TEXT, "me", 15.0), "prefix"),
    ("publish", ("p", "s" * 100_000, "x", TEXT, "me", 15.0), "service's name"),
    ("publish", ("p", "a/b", "x", TEXT, "me", 15.0), "service's name"),
    ("publish", ("p", "s", "x" * 129, TEXT, "me", 15.0), "id must be"),
    ("publish", ("p", "s", "x\n", TEXT, "me", 15.0), "id must be"),
    ("publish", ("p", "s", "x", b"x" * (INSTANCE_MAX + 1), "me", 15.0), f"over {INSTANCE_MAX}"),
    ("publish", ("p", "s", "x", TEXT, "", 15.0), "owner's token"),
    ("publish", ("p", "s", "x", TEXT, "m" * 65, 15.0), "owner's token"),
    ("publish", ("p", "s", "x", TEXT, "me", 0.5), "ttl must be 1 to 86400"),
    ("publish", ("p", "s", "x", TEXT, "me", TTL_MAX + 1), "ttl"),
    ("publish", ("p", "s", "x", TEXT, "me", float("nan")), "ttl"),
    ("publish", ("p", "s", "x", TEXT, "me", float("inf")), "ttl"),
    ("withdraw", ("p", "s", "", "me"), "id must be"),
    ("withdraw", ("p", "s", "x", "m e"), "owner's token"),
    ("services", ("/etc",), "prefix"),
]


@pytest.mark.asyncio
async def test_what_nobody_can_use_is_refused_by_name() -> None:
    async with registrar_scene() as scene:
        client = scene.raw._hosts[0].client
        for method, arguments, text in WRONG:
            with pytest.raises(RpcError, match=text) as raised:
                await client.call(f"{NAME}.{method}", *arguments)
            assert raised.value.code == Refusal.WRONG
            assert len(raised.value.message) < 300
        for method in ("listing", "watch"):
            with pytest.raises(RpcError, match="service's name"):
                await anext(aiter(client.stream(f"{NAME}.{method}", "p", "s s")))
        with pytest.raises(RpcError, match="owner's token"):
            await anext(aiter(client.stream(f"{NAME}.owned", "?" * 10)))
        with pytest.raises(fastrpc.InvalidArgument):
            await client.call(f"{NAME}.publish", "p", "s", "x", "no bytes", "me", "soon")
        assert scene.registrar.keeper.leases.count == 0
        assert await client.call(f"{NAME}.withdraw", "p", "s", "x", "nobody") is False


@pytest.mark.slow
@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_one_instance_too_many_gets_a_typed_error() -> None:
    async with registrar_scene(limits=LeaseLimits(max_by_connection=20_000)) as scene:
        leases = scene.registrar.keeper.leases
        api = scene.raw._hosts[0].api
        calls = (api.publish("p", "s", f"x{n}", TEXT, f"owner{n}", 15.0) for n in range(10_000))
        while batch := [call for call, _ in zip(calls, range(500), strict=False)]:
            await asyncio.gather(*batch)
        assert leases.count == 10_000
        with pytest.raises(RpcError, match=r"10000 instances \(max_instances\)") as raised:
            await api.publish("p", "s", "one-more", TEXT, "me", 15.0)
        assert raised.value.code == Refusal.FULL
        await api.publish("p", "s", "x1", TEXT, "owner1", 15.0)
        await api.publish("p", "t", "one-more", TEXT, "me", 15.0)


@pytest.mark.asyncio
async def test_a_long_list_comes_in_parts_that_are_no_long_messages(store: Store) -> None:
    keeper = Keeper(store)
    service = RegistryService(keeper)
    text = b"x" * INSTANCE_MAX
    for number in range(1000):
        await service.publish("p", "s", f"x{number}", text, "me", 15.0)
    found = await parts(service.listing("p", "s"))
    assert len(found) > 50
    assert max(sum(len(entry[1] or b"") for entry in each.entries) for each in found) <= (
        PART + INSTANCE_MAX
    )
    assert [each.is_more for each in found] == [True] * (len(found) - 1) + [False]
    assert [id for each in found for id, _, _ in each.entries] == [f"x{n}" for n in range(1000)]
    keeper.end()


@pytest.mark.asyncio
async def test_a_watch_goes_on_from_a_revision_or_begins_anew(store: Store) -> None:
    keeper = Keeper(store, LeaseLimits(max_history=3))
    service = RegistryService(keeper)
    await service.publish("p", "s", "a", TEXT, "me", 15.0)
    async with aclosing(service.watch("p", "s")) as watch:
        first = await anext(watch)
        assert (first.is_listing, first.revision, first.epoch) == (True, 1, keeper.epoch)
        await service.publish("p", "s", "b", TEXT, "me", 15.0)
        assert (await anext(watch)).entries == [("b", TEXT, False)]
    await service.withdraw("p", "s", "a", "me")
    async with aclosing(service.watch("p", "s", keeper.epoch, 2)) as watch:
        news = await anext(watch)
        assert (news.is_listing, news.revision) == (False, 3)
        assert news.entries == [("a", None, True)]
    async with aclosing(service.watch("p", "s", keeper.epoch, 3)) as watch:
        assert (await anext(watch)).entries == []  # at once, so that who asks knows
    for epoch, revision in (("another", 3), (keeper.epoch, 99), ("", 0)):
        async with aclosing(service.watch("p", "s", epoch, revision)) as watch:
            assert (await anext(watch)).is_listing
    for number in range(3):  # more than is remembered
        await service.publish("p", "other", f"x{number}", TEXT, "me", 15.0)
    async with aclosing(service.watch("p", "s", keeper.epoch, 1)) as watch:
        assert (await anext(watch)).is_listing
    assert keeper._waiting == set()
    keeper.end()


@pytest.mark.asyncio
async def test_a_watch_that_is_too_slow_for_the_history_gets_a_new_list(store: Store) -> None:
    keeper = Keeper(store, LeaseLimits(max_history=3))
    service = RegistryService(keeper)
    async with aclosing(service.watch("p", "s")) as watch:
        assert (await anext(watch)).is_listing
        for number in range(10):
            await service.publish("p", "s", f"x{number}", TEXT, "me", 15.0)
        news = await anext(watch)
        assert news.is_listing
        assert len(news.entries) == 10
    keeper.end()


@pytest.mark.asyncio
async def test_watches_that_read_nothing_share_one_list(store: Store) -> None:
    keeper = Keeper(store)
    service = RegistryService(keeper)
    text = b"x" * INSTANCE_MAX
    for number in range(100):
        await service.publish("p", "s", f"x{number}", text, "me", 15.0)
    watches = [service.watch("p", "s") for _ in range(20)]
    first = {id(await anext(watch)) for watch in watches}
    assert len(first) == 1
    await service.publish("p", "s", "x0", b"new", "me", 15.0)
    rest = await parts(watches[0])  # the list of before, to its end, and then what is new
    assert [id for each in rest for id, _, _ in each.entries][-1] == "x99"
    assert {each.revision for each in rest} == {100}
    assert (await anext(watches[0])).entries == [("x0", b"new", False)]
    for watch in watches:
        await watch.aclose()  # type: ignore[attr-defined]
    assert keeper._waiting == set()
    keeper.end()


@pytest.mark.asyncio
async def test_many_changes_come_in_parts_each_with_its_revision(store: Store) -> None:
    keeper = Keeper(store)
    service = RegistryService(keeper)
    text = b"x" * INSTANCE_MAX
    async with aclosing(service.watch("p", "s")) as watch:
        await anext(watch)
        for number in range(50):
            await service.publish("p", "s", f"x{number}", text, "me", 15.0)
        told, revision = 0, 0
        while told < 50:
            news = await anext(watch)
            assert sum(len(entry[1] or b"") for entry in news.entries) <= PART + INSTANCE_MAX
            told, revision = told + len(news.entries), news.revision
            assert (news.is_listing, news.is_more, revision) == (False, False, told)
    keeper.end()


@pytest.mark.asyncio
async def test_one_connection_has_a_limit_of_watches_and_of_entries() -> None:
    limits = LeaseLimits(max_by_connection=2)
    async with registrar_scene(limits=limits) as scene:
        keeper = scene.registrar.keeper
        keeper._max_by_connection = 2
        host, other = scene.raw._hosts[0], scene.owner()
        open_ones = [host.long.watch("p", "s"), host.long.owned("me")]
        for each in open_ones:
            await anext(aiter(each))
        with pytest.raises(RpcError, match="the connection has 2 watches already") as raised:
            await anext(aiter(host.long.watch("p", "s")))
        assert raised.value.code == Refusal.FULL
        await anext(aiter(other._hosts[0].long.watch("p", "s")))  # another may
        for number in range(2):
            await host.api.publish("p", "s", f"x{number}", TEXT, f"owner{number}", 15.0)
        with pytest.raises(RpcError, match=r"2 entries \(max_by_connection\)") as raised:
            await host.api.publish("p", "s", "x2", TEXT, "owner2", 15.0)
        assert raised.value.code == Refusal.FULL
        await other._hosts[0].api.publish("p", "s", "x2", TEXT, "owner2", 15.0)
        await other.aclose()
        for stream in open_ones:
            await stream.aclose()
        while keeper._by_connection:
            await asyncio.sleep(0.001)


@pytest.mark.asyncio
async def test_an_owner_is_told_at_once_that_another_has_its_entry(store: Store) -> None:
    keeper = Keeper(store)
    service = RegistryService(keeper)
    await service.publish("p", "s", "a", TEXT, "me", 15.0)
    async with aclosing(service.owned("me")) as owned:
        assert await anext(owned) == 0
        await service.publish("p", "s", "a", TEXT, "other", 15.0)
        assert await anext(owned) == 1
        await service.publish("p", "s", "a", TEXT, "me", 15.0)  # and takes it back
        assert not [wake for wake in keeper._waiting if wake.is_set()]
    keeper.end()


@pytest.mark.asyncio
async def test_what_expires_is_told_to_watches_and_once_to_its_owner(store: Store) -> None:
    clock = Clock()
    keeper = Keeper(store, clock=clock)
    service = RegistryService(keeper)
    for id in ("a", "b"):
        await service.publish("p", "s", id, TEXT, "me", 15.0)
    async with aclosing(service.watch("p", "s")) as watch, aclosing(service.owned("me")) as owned:
        await anext(watch)
        assert await anext(owned) == 0
        clock.now += 15.0
        keeper.sweep()
        assert (await anext(watch)).entries == [("a", None, False), ("b", None, False)]
        assert await anext(owned) == 1
        clock.now += 100.0
        keeper.sweep()
        await service.publish("p", "s", "a", TEXT, "me", 15.0)
        clock.now += 15.0
        keeper.sweep()
        assert await anext(owned) == 2
    await store.settle(("p/s", "a"))
    assert store.load() == []
    assert keeper.leases._guards == {}
    keeper.end()


def test_the_contract_is_served_and_nothing_else(store: Store) -> None:
    server = fastrpc.Server()
    server.register(RegistryService(Keeper(store)), NAME)
    ours = {name for name in vars(RegistryContract) if not name.startswith("_")}
    assert ours == {"publish", "withdraw", "services", "listing", "watch", "owned"}
    told = json.dumps(server.describe())
    served = set(re.findall(rf'"{NAME}\.(\w+)"', told))
    assert served == ours
