"""The registry over a real etcd: it conforms, and comes back from what etcds do to it."""

import asyncio
from collections.abc import Iterator

import pytest

from fastrpc.cluster import Instance, Registry, parse_cluster
from fastrpc.cluster.etcd import EtcdRegistry
from fastrpc.testing.registry import check_registry, registry_checks
from tests.cluster.engines.etcd_server import Etcd, one_etcd

ONE = Instance(id="one", addresses=("tcp://127.0.0.1:7000",))


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    with one_etcd(tmp_path_factory.mktemp("etcd")) as server:
        yield server


def registry_at(places: str, ttl: float = 2, login: str = "") -> EtcdRegistry:
    return EtcdRegistry(parse_cluster(f"etcd://{login}{places}"), ttl=ttl)


@pytest.mark.asyncio
@pytest.mark.slow
@pytest.mark.parametrize("check", registry_checks("publish", "expire", "poison"))
async def test_etcd_conforms(check: str, etcd: Etcd) -> None:
    async def expire(registry: Registry) -> None:
        assert isinstance(registry, EtcdRegistry)
        await asyncio.to_thread(etcd.revoke, registry.lease)

    async def poison(service: str, id: str, text: bytes) -> None:
        await asyncio.to_thread(etcd.put, f"/fastrpc/{service}/{id}", text)

    await check_registry(lambda: registry_at(etcd.place), only=check, expire=expire, poison=poison)
