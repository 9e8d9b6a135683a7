"""A small cluster in this process: servers, a registry in memory, and a client of it."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, cast

import fastrpc
from fastrpc.cluster import Instance, InstanceState, MemoryRegistry, MemoryStore
from fastrpc.cluster.client import ClusterClient, connect_registry

SERVICE = "Work"


class Gated:
    """A service that counts what it runs and does what the test says.

    Attributes:
        ran: How many calls have begun.
        cancelled: How many of them were cancelled.
        error: What the others raise, if anything.
        gate: Closed, it keeps them all.
    """

    def __init__(self) -> None:
        self.ran = self.cancelled = 0
        self.error: BaseException | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def _begin(self) -> None:
        self.ran += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error


class Work(Gated):
    """One that says which it is."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    async def _run(self) -> int:
        await self._begin()
        return self.number

    @fastrpc.rpc(idempotent=True)
    async def get(self, key: int = 0) -> int:
        """Return the number of the instance."""
        return await self._run()

    async def put(self, key: int = 0) -> int:
        """Return the number of the instance; running it twice is wrong."""
        return await self._run()

    def add(self, a: int, b: int) -> int:
        """Return a + b."""
        return a + b

    async def numbers(self, count: int) -> AsyncIterator[int]:
        """Give the number of the instance so many times."""
        for _ in range(count):
            yield self.number

    def note(self, key: str = "") -> None:
        """Count."""
        self.ran += 1


class Node:
    """One server of the cluster."""

    def __init__(self, scene: "Scene", number: int, **options: Any) -> None:
        self.scene = scene
        self.number = number
        self.work = Work(number)
        self.server = fastrpc.Server(**options)
        self.server.register(self.work)
        self.instance: Instance | None = None

    async def start(self, target: str = "tcp://127.0.0.1:0", **fields: Any) -> None:
        """Serve, and be listed."""
        await self.server.start(target)
        await self.list(**fields)

    async def list(self, **fields: Any) -> None:
        """Be listed with these fields."""
        known = {"id": f"node-{self.number}", "addresses": tuple(self.server.targets)}
        self.instance = Instance(**{**known, **fields})
        await self.scene.registry.publish(SERVICE, self.instance)

    async def leave(self) -> None:
        """Say goodbye in order."""
        assert self.instance is not None
        leaving = self.instance.with_state(InstanceState.DRAINING)
        await self.scene.registry.publish(SERVICE, leaving)
        await self.scene.registry.withdraw(SERVICE, self.instance.id)

    def cut(self) -> None:
        """Break all connections, as a process does that is killed."""
        for session in list(self.server.hall.sessions):
            session.abort(ConnectionError("cut"))

    async def die(self) -> None:
        """Be gone without a word."""
        self.cut()
        await self.server.aclose(0.0)


class Scene:
    """The cluster."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.registry = MemoryRegistry(self.store)
        self.nodes: list[Node] = []
        self.client: ClusterClient = cast("ClusterClient", None)

    @property
    def ran(self) -> list[int]:
        """How many calls each instance has run."""
        return [node.work.ran for node in self.nodes]

    async def grow(self, count: int = 1, **fields: Any) -> list[Node]:
        """Start so many servers more."""
        grown = [Node(self, len(self.nodes) + number) for number in range(count)]
        for node in grown:
            await node.start(**fields)
        self.nodes += grown
        return grown

    async def connect(self, **options: Any) -> ClusterClient:
        """Make the client, and let it connect to all."""
        client = connect_registry(MemoryRegistry(self.store), SERVICE, **options)
        self.client = cast("ClusterClient", client)
        await self.client.__aenter__()
        await self.until(lambda: len(self.client.lanes) == len(self.nodes))
        return self.client

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait until something is so."""
        while not is_so():
            await asyncio.sleep(0.001)

    async def spread(self, count: int, method: str = "Work.get") -> Counter[Any]:
        """Make so many calls, one after the other; count what came from where."""
        found: Counter[Any] = Counter()
        for _ in range(count):
            try:
                found[await self.client.call(method)] += 1
            except fastrpc.FastRPCError as error:
                found[type(error).__name__] += 1
        return found

    async def __aenter__(self) -> "Scene":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.client is not None:
            await self.client.aclose()
        for node in self.nodes:
            node.work.gate.set()
            await node.server.aclose(0.0)


@contextlib.asynccontextmanager
async def cluster(count: int = 3, **options: Any) -> AsyncIterator[Scene]:
    """A cluster of *count* servers with a client that is connected to all."""
    async with Scene() as scene:
        await scene.grow(count)
        await scene.connect(**options)
        yield scene
        await scene.client.aclose()
        await asyncio.sleep(0)
        assert scene.client._tasks == set()
        assert all(len(lane.table) == 0 for lane in scene.client.lanes)
