"""ZooKeeper as a registry: it conforms, and sessions may end at any time."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fastrpc.cluster import Instance, Registry, open_registry
from fastrpc.cluster.zookeeper import ZooKeeperRegistry
from fastrpc.testing.registry import check_registry, registry_checks
from tests.cluster.engines.zookeeper_server import (
    ZooKeepers,
    ZooKeeperServer,
    end_session,
    known_of,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

ONE = Instance(id="one", addresses=("tcp://127.0.0.1:7000",))
TWO = Instance(id="two", addresses=("tcp://127.0.0.1:7001",))


@pytest.fixture(scope="module")
def server() -> Iterator[ZooKeeperServer]:
    with ZooKeepers() as all_of_them:
        yield all_of_them.servers[0]


def make(target: str, ttl: float = 10.0) -> ZooKeeperRegistry:
    registry = open_registry(target, ttl=ttl)
    assert isinstance(registry, ZooKeeperRegistry)
    return registry


@asynccontextmanager
async def opened(target: str, ttl: float = 10.0) -> AsyncIterator[ZooKeeperRegistry]:
    registry = make(target, ttl)
    try:
        yield registry
    finally:
        await registry.aclose()


async def end(server: ZooKeeperServer, registry: Registry) -> None:
    await asyncio.to_thread(end_session, server, known_of(registry))


async def put(registry: ZooKeeperRegistry, path: str, text: bytes, **options: Any) -> None:
    """Write a node past all rules, in the session of *registry*."""

    def question(client: Any) -> Any:
        return client.create_async(path, text, makepath=True, **options)

    await registry._session.ask(question)


@pytest.mark.asyncio
@pytest.mark.parametrize("check", registry_checks("publish", "expire", "poison"))
async def test_zookeeper_conforms(server: ZooKeeperServer, check: str) -> None:
    async def expire(registry: Registry) -> None:
        await end(server, registry)

    async with opened(server.target) as foreign:

        async def poison(service: str, id: str, text: bytes) -> None:
            await put(foreign, f"/fastrpc/{service}/{id}", text)

        await check_registry(
            lambda: make(server.target), only=check, expire=expire, poison=poison, is_polled=True
        )
