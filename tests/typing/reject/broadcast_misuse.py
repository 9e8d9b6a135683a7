"""Modes that there are not, and arguments that don't fit the method of a stub."""

import fastrpc


class Cache:
    def get_many(self, keys: list[str]) -> dict[str, int]:
        raise NotImplementedError


async def calls(client: fastrpc.Client) -> None:
    cache = client.stub(Cache)
    client.options(broadcast="most")  # error
    await client.broadcast(cache.get_many, 3)  # error
    await client.broadcast(cache.get_many)  # error
    client.broadcast_each(cache.get_many, ["a"], timeout=3)  # error
    await client.shard(cache.get_many, {1})  # error
    await client.shard(cache)  # error
