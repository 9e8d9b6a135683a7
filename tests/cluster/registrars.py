"""Registry servers for tests, with a clock that the test holds."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastrpc.cluster import Registry, parse_cluster
from fastrpc.cluster.registrar.run import Registrar
from fastrpc.cluster.registries.embedded import EmbeddedRegistry


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Scene:
    """A registry server, and owners of its entries."""

    def __init__(self, registrar: Registrar, clock: Clock) -> None:
        self.registrar = registrar
        self.clock = clock
        self.host = registrar.targets[0].removeprefix("tcp://")
        self.raw = self.owner()

    def owner(self, *, ttl: float = 15.0) -> EmbeddedRegistry:
        return EmbeddedRegistry(parse_cluster(f"registry://{self.host}"), ttl=ttl)

    async def expire(self, registry: Registry) -> None:
        """Let an hour pass in which everybody but *registry* renews."""
        assert isinstance(registry, EmbeddedRegistry)
        leases = self.registrar.keeper.leases
        rows = [
            (name, id, lease.row)
            for name, place in leases._places.items()
            for id, lease in place.leases.items()
        ]
        self.clock.now += 3600
        for name, id, row in rows:
            if row.owner != registry.owner:
                assert not leases.publish(name, id, row, self.clock.now)
        self.registrar.keeper.sweep()
        store = self.registrar._store
        for key in [*store._writing, *store._waiting]:
            await store.settle(key)

    async def poison(self, service: str, id: str, text: bytes) -> None:
        await self.raw._hosts[0].api.publish("fastrpc", service, id, text, "x" * 64, 15.0)


@asynccontextmanager
async def registrar_scene(data: str = ":memory:", **options: Any) -> AsyncIterator[Scene]:
    clock = Clock()
    registrar = Registrar(data, clock=clock, **options)
    await registrar.start("tcp://127.0.0.1:0")
    scene = Scene(registrar, clock)
    try:
        yield scene
    finally:
        await scene.raw.aclose()
        await registrar.aclose(grace=0.0)


class Relay:
    """Carries bytes to a server, until it is cut."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.port = 0
        self.accepted = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Let nobody in, and everybody out."""
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        back, forth = await asyncio.open_connection("127.0.0.1", self._port)
        for source, sink in ((reader, forth), (back, writer)):
            self._writers.add(sink)
            task = asyncio.ensure_future(self._carry(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while text := await source.read(65_536):
                sink.write(text)
        except OSError:
            pass
        finally:
            sink.close()
            self._writers.discard(sink)
