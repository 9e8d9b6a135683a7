import asyncio
import sqlite3
import time
from collections.abc import Iterator

import pytest

from fastrpc.cluster.registrar import keeper as keeper_module
from fastrpc.cluster.registrar import store as store_module
from fastrpc.cluster.registrar.contract import Refusal
from fastrpc.cluster.registrar.keeper import Keeper
from fastrpc.cluster.registrar.leases import LeaseLimits, Row
from fastrpc.cluster.registrar.store import Store
from fastrpc.errors import RpcError
from tests.cluster.registrars import Clock

ROW = Row(b"text", "me", 15.0)
OTHER = Row(b"other", "you", 15.0)


@pytest.fixture
def store() -> Iterator[Store]:
    """Give a store, and close it."""
    store = Store()
    yield store
    store.close()


async def gone(keeper: Keeper, place: str = "p/s") -> None:
    """Wait until nothing is listed there."""
    wake = asyncio.Event()
    keeper.leases.watch(place, wake.set)
    while keeper.leases.listing(place):
        await wake.wait()
        wake.clear()
    keeper.leases.unwatch(place, wake.set)


@pytest.mark.asyncio
async def test_leases_expire_by_themselves(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper_module, "TICK", 0.001)
    clock = Clock()
    keeper = Keeper(store, clock=clock)
    await keeper.publish("p/s", "x", ROW)
    clock.now += 15.0
    await gone(keeper)
    await store.settle(("p/s", "x"))
    assert store.load() == []
    keeper.end()


@pytest.mark.asyncio
async def test_leases_stand_still_while_the_process_does(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_module, "TICK", 0.001)
    clock = Clock()
    keeper = Keeper(store, clock=clock)
    ahead = 0.0
    keeper._time = lambda: time.monotonic() + ahead
    await keeper.publish("p/s", "x", ROW)
    await asyncio.sleep(0)  # the pulse has begun
    ahead += 3600.0
    clock.now += 3600.0  # an hour in which nobody could renew
    while not keeper._behind:
        await asyncio.sleep(0.001)
    assert keeper.leases.count == 1
    clock.now += 16.0  # the pause was a little longer than it
    await gone(keeper)
    keeper.end()


@pytest.mark.asyncio
async def test_a_restart_takes_everything_back_and_expels_nobody(store: Store) -> None:
    clock = Clock()
    before = Keeper(store, clock=clock)
    for number in range(10):
        await before.publish("p/s", f"x{number}", ROW)
    before.end()
    clock.now += 1000.0
    after = Keeper(store, clock=clock)
    assert after.epoch != before.epoch
    after.sweep()
    assert after.leases.count == 10
    clock.now += 14.9
    after.sweep()
    assert after.leases.count == 10
    clock.now += 0.1
    after.sweep()
    assert after.leases.count == 0
    after.end()


@pytest.mark.asyncio
async def test_those_who_wait_have_a_limit_and_are_told_of_the_end(store: Store) -> None:
    keeper = Keeper(store, max_watches=2)
    wakes = [keeper.enter(), keeper.enter()]
    with pytest.raises(RpcError, match="2 watches already") as raised:
        keeper.enter()
    assert raised.value.code == Refusal.FULL
    keeper.leave(wakes.pop())
    wakes.append(keeper.enter())
    waiting = [asyncio.ensure_future(keeper.wait(wake)) for wake in wakes]
    await asyncio.sleep(0)
    keeper.end()
    await asyncio.wait(waiting)
    for each in waiting:
        error = each.exception()
        assert isinstance(error, RpcError)
        assert error.code == Refusal.ENDING
    for late in (keeper.wait(wakes[0]), asyncio.to_thread(keeper.enter)):
        with pytest.raises(RpcError, match="stops"):
            await late


@pytest.mark.asyncio
async def test_it_ends_when_the_server_takes_no_more_calls(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_module, "TICK", 0.001)
    ending = False
    keeper = Keeper(store, is_ending=lambda: ending)
    waiting = asyncio.ensure_future(keeper.wait(keeper.enter()))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    ending = True
    await asyncio.wait([waiting])
    assert isinstance(waiting.exception(), RpcError)


@pytest.mark.asyncio
async def test_no_room_and_no_disk_are_told_by_code(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "_RETRY", 0.0)
    keeper = Keeper(store, LeaseLimits(max_entries=1))
    await keeper.publish("p/s", "x", ROW)
    with pytest.raises(RpcError, match="max_entries") as raised:
        await keeper.publish("p/s", "y", ROW)
    assert raised.value.code == Refusal.FULL
    write = store._write

    def full(batch: object) -> None:
        raise sqlite3.OperationalError("disk is full")

    monkeypatch.setattr(store, "_write", full)
    for _ in range(2):  # told again to who states it again, though nothing is new then
        with pytest.raises(RpcError, match="disk is full") as raised:
            await keeper.publish("p/s", "x", ROW._replace(text=b"other"))
        assert raised.value.code == Refusal.BROKEN
    monkeypatch.setattr(keeper_module, "WAITING_MAX", 1)
    with pytest.raises(RpcError, match="wait for the disk") as raised:
        await keeper.publish("p/s", "x", ROW)
    assert raised.value.code == Refusal.BROKEN
    assert await keeper.withdraw("p/s", "x", "me")
    assert keeper.leases.count == 0
    monkeypatch.setattr(store, "_write", write)
    keeper.end()


@pytest.mark.asyncio
async def test_what_cannot_be_kept_is_not_listed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = Keeper(store)
    await keeper.publish("p/s", "old", ROW)
    write = store._write

    def full(batch: dict[tuple[str, str], Row | None]) -> None:
        if any(batch.values()):
            raise sqlite3.OperationalError("disk is full")
        write(batch)

    monkeypatch.setattr(store, "_write", full)
    monkeypatch.setattr(store_module, "_RETRY", 0.01)
    stated = [("new", ROW), ("new", ROW), ("new", OTHER), ("old", OTHER), ("old", OTHER)]
    calls = [keeper.publish("p/s", id, row) for id, row in stated]
    for result in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(result, RpcError)
        assert (result.code, "disk is full" in result.message) == (Refusal.BROKEN, True)
    assert keeper.leases.listing("p/s") == [("old", ROW.text)]
    await keeper.publish("p/s", "old", ROW._replace())  # renewed, for it is kept
    await store.settle(("p/s", "new"))
    assert store.load() == [("p/s", "old", ROW)]
    assert keeper._unkept == {}
    keeper.end()
