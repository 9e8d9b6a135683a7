"""A call is split by key, and its results come together as if it had not been."""

import copy
import pickle
from typing import Any

import pytest

import fastrpc
from fastrpc.client.broadcast import BroadcastFailed, InstanceResults, Recipient, Sending
from fastrpc.client.shard import ShardFailed, Shares, gather_shares
from tests.client.served import serving


class Given(Recipient):
    """An instance that gives what the test says."""

    def __init__(self, id: str, outcome: Any) -> None:
        self.id = id
        self.outcome = outcome

    def __str__(self) -> str:
        return self.id

    async def call(self, *args: Any) -> Any:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


async def gather(keys: Any, owners: str, **outcomes: Any) -> Any:
    """Gather what instances give that own *keys*, one letter for each."""
    shares = Shares("Cache.get", (keys,))
    shares.give(owners)

    async def begin() -> Sending:
        made = [Given(id, outcomes[id]) for id in shares.places]
        return [(each, each.call) for each in made]

    return await gather_shares(shares, InstanceResults(begin))


# Splitting


def test_a_list_is_split() -> None:
    shares = Shares("Cache.get", (["k", "l", "m", "k"], 1.5, None))
    shares.give("abaa")
    assert shares.places == {"a": [0, 2, 3], "b": [1]}
    assert shares.arguments("a") == (["k", "m", "k"], 1.5, None)
    assert shares.arguments("b") == (["l"], 1.5, None)


def test_a_dict_is_split() -> None:
    shares = Shares("Cache.set", ({"k": 1, "l": 2, ("m", 1): None},))
    shares.give("aba")
    assert shares.arguments("a") == ({"k": 1, ("m", 1): None},)
    assert shares.arguments("b") == ({"l": 2},)


@pytest.mark.parametrize("args", [(), ("abc",), (b"abc",), ({1, 2},), (iter([1]),), (None, [1])])
def test_what_can_not_be_split(args: tuple[Any, ...]) -> None:
    with pytest.raises(fastrpc.InvalidArgument, match="Cache.get: shard splits its first"):
        Shares("Cache.get", args)


def test_what_can_not_be_a_key() -> None:
    with pytest.raises(fastrpc.InvalidArgument, match="can't be keys: unhashable"):
        Shares("Cache.get", (["k", ["l"]],))


# Putting together


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("a", "b", "whole"),
    [
        ([1, 3], [2], [1, 2, 3]),
        ((1, 3), (None,), [1, None, 3]),
        ({"z": 3, "x": 1}, {"y": 2}, {"x": 1, "y": 2, "z": 3}),
        ({}, {"y": 2}, {"y": 2}),
        ({"sum": 3}, {"y": 2}, {"y": 2, "sum": 3}),
        ({1}, {2, 1}, {1, 2}),
        (None, None, None),
        (True, True, True),
        (True, False, False),
        (2, 1, 3),
        (2, 0.5, 2.5),
    ],
)
async def test_results_of_a_kind_come_together(a: Any, b: Any, whole: Any) -> None:
    found = await gather(["x", "y", "z"], "aba", a=a, b=b)
    assert found == whole
    assert type(found) is type(whole)
    assert not isinstance(found, dict) or list(found) == list(whole)


@pytest.mark.asyncio
async def test_one_instance_has_the_same_rules() -> None:
    assert await gather(["x", "y"], "aa", a=[1, 2]) == [1, 2]
    with pytest.raises(ShardFailed, match="2 keys went there, and 3 results came back"):
        await gather(["x", "y"], "aa", a=[1, 2, 3])
    with pytest.raises(ShardFailed, match="must be a dict, a list, .* not str"):
        await gather(["x", "y"], "aa", a="text")


@pytest.mark.asyncio
async def test_results_of_two_kinds_do_not_come_together() -> None:
    with pytest.raises(ShardFailed, match=r"Cache\.get: instances gave") as failed:
        await gather(["x", "y"], "ab", a={"x": 1}, b=3)
    assert len(failed.value.exceptions) == 1


# Failing


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("a", "c", "partial"),
    [
        ([1, 3], [4], {"x": 1, "z": 3, "w": 4}),
        ({"x": 1}, {"w": 4}, {"x": 1, "w": 4}),
        (None, None, None),
        (2, 1, 3),
    ],
)
async def test_what_came_is_not_lost(a: Any, c: Any, partial: Any) -> None:
    lost = fastrpc.ConnectionLost("lost", "maybe")
    with pytest.raises(ShardFailed, match=r"Cache.get: 1 of 3 failed: b: ") as failed:
        await gather(["x", "y", "z", "w", "v"], "abacb", a=a, b=lost, c=c)
    error = failed.value
    assert isinstance(error, BroadcastFailed)
    assert (error.partial, error.missing) == (partial, ["y", "v"])
    assert (error.errors, error.results) == ({"b": lost}, {"a": a, "c": c})
    assert error.ran == "maybe"
    for other in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert isinstance(other, ShardFailed)
        assert (other.partial, other.missing) == (partial, ["y", "v"])
    some = error.subgroup(fastrpc.ConnectionLost)
    assert isinstance(some, ShardFailed)
    assert (list(some.errors), some.missing) == (["b"], ["y", "v"])


@pytest.mark.asyncio
async def test_nothing_came() -> None:
    refused = fastrpc.Unavailable("no")
    with pytest.raises(ShardFailed) as failed:
        await gather(["x", "y"], "ab", a=refused, b=fastrpc.Overloaded("full"))
    error = failed.value
    assert (error.partial, error.missing, error.ran) == (None, ["x", "y"], "no")


# One server


class Cache:
    """Keeps numbers."""

    def __init__(self) -> None:
        self.kept: dict[str, int] = {}
        self.calls: list[list[str]] = []

    def set_many(self, items: dict[str, int]) -> None:
        self.kept.update(items)

    def get_many(self, keys: list[str], default: int = 0) -> list[int]:
        self.calls.append(keys)
        return [self.kept.get(key, default) for key in keys]

    async def find(self, keys: tuple[str, ...]) -> set[str]:
        return {key for key in keys if key in self.kept}


@pytest.mark.asyncio
async def test_one_server_owns_all_keys() -> None:
    cache = Cache()
    async with serving() as (server, _), fastrpc.connect(server.targets[0]) as client:
        server.register(cache)
        stub = client.stub(Cache)
        assert await client.shard("Cache.set_many", {"a": 1, "b": 2}) is None
        assert await client.shard("Cache.get_many", ["b", "x", "a"], default=7) == [2, 7, 1]
        assert cache.calls == [["b", "x", "a"]]
        assert await client.shard(stub.find, ("a", "x")) == {"a"}
        empty: Any = await client.shard(stub.get_many, [])
        assert (empty, cache.calls[-1]) == ([], [])
        with pytest.raises(ShardFailed) as failed:
            await client.shard("Cache.get_many", [1, 2])
        assert failed.value.missing == [1, 2]
        with pytest.raises(fastrpc.InvalidArgument, match="shard splits its first"):
            await client.shard("Cache.get_many", keys=["a"])
