"""A cluster is called as a server is, and its options have types."""

from typing import assert_type

import fastrpc
from fastrpc.cluster import Instance, MemoryRegistry, MemoryStore, Registry, connect_registry
from fastrpc.policy import EjectionOptions


class Shop:
    def price(self, item: str) -> int:
        return len(item)


async def serve(registry: Registry) -> None:
    server = fastrpc.Server(adaptive_limit=True, priority=("Shop.price",), max_connection_age=600.0)
    server.register(Shop())
    await server.start("tcp://127.0.0.1:0")
    await server.announce("etcd://127.0.0.1:2379", weight=2.0, zone="oslo", tags={"a": "b"})
    await registry.publish("Shop", Instance(id="one", addresses=tuple(server.targets)))


async def call() -> None:
    client = fastrpc.connect(
        "etcd://127.0.0.1:2379/Shop",
        balance="consistent_hash",
        key="item",
        failure_mode="hedge",
        hedge_after=0.05,
        attempts=2,
        ejection=EjectionOptions(in_a_row=3),
        zone="oslo",
        cache="/tmp/list.json",
    )
    assert_type(client, fastrpc.Client)
    async with client:
        assert_type(client.stub(Shop), Shop)
        view = client.options(key="lamp", idempotent=True, timeout=1.0)
        assert_type(view.stub(Shop).price("lamp"), int)
        stats = client.stats()
        assert_type(stats.freshness, str)
        assert_type(stats.instances[0].latency, float)
    async with connect_registry(MemoryRegistry(MemoryStore()), "Shop", zone="rome") as own:
        assert_type(own.target, str)


def blocking() -> None:
    with fastrpc.connect_sync("static:tcp://a:1,tcp://b:2", balance="random") as client:
        assert_type(client.stub(Shop).price("lamp"), int)
        assert_type(client.options(idempotent=True).stub(Shop).price("lamp"), int)
