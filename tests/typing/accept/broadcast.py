"""Broadcasts and shards, by name and by the method of a stub."""

from collections.abc import Mapping
from typing import Any, assert_type

import fastrpc


class Cache:
    def get_many(self, keys: list[str], *, default: int = 0) -> dict[str, int]:
        raise NotImplementedError

    async def set_many(self, items: dict[str, int]) -> None:
        raise NotImplementedError


def merge(results: Mapping[str, Any]) -> int:
    return len(results)


async def calls(client: fastrpc.Client) -> None:
    cache = client.stub(Cache)
    await client.broadcast("Cache.get_many", ["a"], default=1)
    await client.broadcast(cache.get_many, ["a"], default=1)
    await client.options(broadcast="quorum", timeout=1.0).broadcast(cache.set_many, {"a": 1})
    await client.options(broadcast=2).options(key="a").broadcast(cache.set_many, items={"a": 1})
    await client.options(broadcast=merge).broadcast(cache.get_many, ["a"])
    async for result in client.broadcast_each(cache.get_many, ["a"]):
        assert_type(result.id, str)
        assert_type(result.error, Exception | None)
    async with client.broadcast_each("Cache.get_many", ["a"]) as results:
        assert_type(results.ids, tuple[str, ...])
    assert_type(await client.shard(cache.get_many, ["a"], default=1), dict[str, int])
    await client.shard(cache.set_many, {"a": 1})
    assert_type(await client.shard("Cache.get_many", ["a"]), Any)
