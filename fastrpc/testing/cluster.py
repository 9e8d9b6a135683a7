"""Run a service as a cluster in memory, and let its instances come, go, hang and die.

    async with MemoryCluster(Bank, instances=3) as cluster:
        client = cluster.connect(failure_mode="fail_over")
        await client.call("Bank.get")
        cluster.kill(0)
        await cluster.restart(1)
        cluster.registry_down = True

Servers, registry and client are the real ones; only what lies between them is memory. Each
instance has a relay before it, so all of them meet `cluster.faults`.

Rules of the room:
  * each start makes a service, a server and an id anew, as a process would;
  * the registry knows what a server there would have told it: who is killed says no word
    and stays listed for `ttl` seconds, and while the registry is down nothing is told.
"""

import asyncio
import inspect
import itertools
import time
from collections.abc import Callable, Coroutine, Sequence
from enum import Enum
from types import TracebackType
from typing import Any, Final, Unpack, final

from fastrpc.client import Client
from fastrpc.client.options import ConnectOptions
from fastrpc.cluster import Instance, InstanceState, MemoryRegistry, MemoryStore
from fastrpc.cluster.client import ClusterClient, connect_registry
from fastrpc.errors import ConfigError
from fastrpc.server import Server
from fastrpc.testing.faults import Faults
from fastrpc.testing.relay import FaultRelay
from fastrpc.testing.serving import PATIENCE

__all__ = ["MemoryCluster", "MemoryNode", "NodeState"]

_NUMBERS: Final = itertools.count(1)
_BUILT_IN: Final = "fastrpc."
_LOOK_AGAIN: Final = 0.001


class NodeState(Enum):
    """Where a node is in its life."""

    UP = "up"
    LEAVING = "leaving"  # drains
    STOPPED = "stopped"
    KILLED = "killed"


@final
class MemoryNode:
    """One life of an instance. Made by `MemoryCluster`.

    Attributes:
        number: Its place in the cluster.
        services: The objects that it serves.
        server: What serves them.
        relay: What stands before it.
        instance: What the registry knows of it.
        state: Where it is.
    """

    def __init__(self, number: int, services: list[Any], server: Server, relay: FaultRelay) -> None:
        self.number = number
        self.services = services
        self.server = server
        self.relay = relay
        self.state = NodeState.UP
        self.told: NodeState | None = None
        self.instance: Instance

    def __repr__(self) -> str:
        """Tell number and state."""
        return f"<MemoryNode {self.number} {self.state.value}>"

    @property
    def service(self) -> Any:
        """The first object that it serves."""
        return self.services[0]


@final
class MemoryCluster:
    """A cluster of one service, in memory. Use it with `async with`.

    Args:
        service: A class without arguments, or a function that makes the object for the
            number of an instance. Each start makes one.
        more: Further ones that are served along.
        instances: How many there are at first.
        zones: Where they stand, in turn.
        weights: Their shares of the calls, in turn.
        faults: What shall go wrong with calls; its own by default.
        make_server: Makes a server with options of your own.
        ttl: Seconds for which who was killed stays listed.

    Attributes:
        nodes: The instances, by number.
        faults: What shall go wrong with calls.
        store: What the registry knows.
        name: Of the service, in the registry.
    """

    def __init__(
        self,
        service: Callable[..., Any],
        *more: Callable[..., Any],
        instances: int = 3,
        zones: Sequence[str] = (),
        weights: Sequence[float] = (),
        faults: Faults | None = None,
        make_server: Callable[[], Server] = Server,
        ttl: float = 15.0,
    ) -> None:
        if type(instances) is not int or instances < 0:
            raise ConfigError(f"instances must be 0 or more, got {instances!r}")
        self.nodes: list[MemoryNode] = []
        self.faults = Faults() if faults is None else faults
        self.store = MemoryStore(lambda: time.monotonic())  # a FakeClock's, by then
        self.name = ""
        self._makers = (service, *more)
        self._instances = instances
        self._zones = tuple(zones) or ("",)
        self._weights = tuple(weights) or (1.0,)
        self._make_server = make_server
        self._ttl = ttl
        self._lives: list[MemoryNode] = []
        self._clients: list[Client] = []
        self._endings: set[asyncio.Task[None]] = set()
        self._expiries: list[asyncio.TimerHandle] = []
        self._target = f"mem://cluster-{next(_NUMBERS)}"

    def __repr__(self) -> str:
        """Tell the service and its nodes."""
        return f"<MemoryCluster {self.name} {[node.state.value for node in self.nodes]}>"

    @property
    def services(self) -> list[Any]:
        """The object that each instance serves, by number."""
        return [node.service for node in self.nodes]

    async def __aenter__(self) -> "MemoryCluster":
        """Start the instances."""
        try:
            await self.grow(self._instances)
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close all clients, then end everything at once."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close the clients that were made here, and stop all instances without delay."""
        for expiry in self._expiries:
            expiry.cancel()
        try:
            for client in self._clients:
                await client.aclose()
        finally:
            for node in self._lives:
                if node.state in (NodeState.UP, NodeState.LEAVING):
                    self._end(node, NodeState.STOPPED)
            if self._endings:
                await asyncio.wait(list(self._endings))

    # Clients

    def connect(self, **options: Unpack[ConnectOptions]) -> Client:
        """Return a client of the cluster; it is closed at the end, if nobody did it before.

        Args:
            **options: As `fastrpc.connect` has them for a target that is a registry; calls
                have a timeout of five seconds by default.
        """
        if not self.name:
            raise ConfigError("the cluster has no instance yet")
        options.setdefault("timeout", PATIENCE)
        client = connect_registry(MemoryRegistry(self.store), self.name, **options)
        self._clients.append(client)
        return client

    async def ready(self, client: Client) -> None:
        """Wait until *client* can call all instances that are up, and no others."""
        assert isinstance(client, ClusterClient)
        client.begin()
        while True:
            wanted = {node.instance.id for node in self.nodes if node.state is NodeState.UP}
            seen = {each.id for each in client.stats().instances if each.state == "ready"}
            if seen == wanted:
                return
            await asyncio.sleep(_LOOK_AGAIN)

    # Instances

    async def grow(self, count: int = 1) -> list[MemoryNode]:
        """Start so many instances more."""
        return [await self._start(len(self.nodes)) for _ in range(count)]

    def kill(self, number: int) -> None:
        """Let an instance die: connections break, handlers end, and nobody is told.

        The registry lists it until its `ttl` is over.
        """
        node = self._node(number, NodeState.UP, NodeState.LEAVING)
        self._end(node, NodeState.KILLED)

    async def drain(self, number: int, grace: float = 5.0) -> None:
        """Let an instance leave in order: withdrawn first, then drained, then stopped.

        Args:
            number: Which.
            grace: Seconds that calls have to end.
        """
        node = self._node(number, NodeState.UP)
        self._tell(node, NodeState.LEAVING)
        await node.server.aclose(grace)
        if node.state is NodeState.LEAVING:  # and was not killed meanwhile
            node.relay.close()
            if node.relay.is_frozen:
                node.relay.cut()
            await node.relay.wait_gone()
            self._tell(node, NodeState.STOPPED)

    async def restart(self, number: int, grace: float = 5.0) -> MemoryNode:
        """Start an instance anew, after `drain` if it is up."""
        if self._node(number).state is NodeState.UP:
            await self.drain(number, grace)
        return await self._start(number)

    def freeze(self, number: int) -> None:
        """Let an instance hang: it can be connected to, takes everything, and says nothing."""
        self._node(number, NodeState.UP).relay.is_frozen = True

    def thaw(self, number: int) -> None:
        """Let an instance go on that hangs."""
        self._node(number).relay.is_frozen = False

    @property
    def registry_down(self) -> bool:
        """Whether the registry can't be asked."""
        return self.store.is_down

    @registry_down.setter
    def registry_down(self, value: bool) -> None:
        self.store.is_down = value
        if not value:
            for node in self._lives:
                self._tell(node, node.state)

    def _node(self, number: int, *states: NodeState) -> MemoryNode:
        if not 0 <= number < len(self.nodes):
            raise ConfigError(f"there is no instance {number} of {len(self.nodes)}")
        node = self.nodes[number]
        if states and node.state not in states:
            raise ConfigError(f"instance {number} is {node.state.value}")
        return node

    async def _start(self, number: int) -> MemoryNode:
        services = [maker() if inspect.isclass(maker) else maker(number) for maker in self._makers]
        server = self._make_server()
        for service in services:
            server.register(service)
        life = len(self._lives)
        await server.start(f"{self._target}-{life}")
        node = MemoryNode(number, services, server, FaultRelay(server.targets[0], self.faults))
        try:
            await node.relay.__aenter__()
        except BaseException:
            await server.aclose(0.0)
            raise
        self.name = self.name or _name_of(server)
        node.instance = Instance(
            id=f"{number}-{life}",
            addresses=(node.relay.target,),
            zone=self._zones[number % len(self._zones)],
            weight=self._weights[number % len(self._weights)],
        )
        self._lives.append(node)
        self.nodes[number : number + 1] = [node]
        self._tell(node, NodeState.UP)
        return node

    def _tell(self, node: MemoryNode, state: NodeState) -> None:
        """Let the registry know how a node is, unless it is down."""
        node.state = state
        if self.store.is_down or node.told is state:
            return
        node.told = state
        if state is NodeState.UP:
            self.store.put(node, self.name, node.instance, float("inf"))
        elif state is NodeState.KILLED:
            self.store.put(node, self.name, node.instance, self._ttl)
            later = asyncio.get_running_loop().call_later
            # Nobody who watches was told of the change, so nobody looks at the time.
            self._expiries.append(later(self._ttl + _LOOK_AGAIN, self.store.expire))
        else:
            if state is NodeState.LEAVING:
                leaving = node.instance.with_state(InstanceState.DRAINING)
                self.store.put(node, self.name, leaving, float("inf"))
            self.store.remove(node, self.name, node.instance.id)

    def _end(self, node: MemoryNode, state: NodeState) -> None:
        self._tell(node, state)
        node.relay.close()
        node.relay.cut()
        self._keep(self._stop(node))

    async def _stop(self, node: MemoryNode) -> None:
        try:
            await node.server.aclose(0.0)
        finally:
            node.relay.cut()
            await node.relay.wait_gone()

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)


def _name_of(server: Server) -> str:
    """Return the name of the first service that is not built in."""
    names: list[str] = [each["name"] for each in server.describe()["services"]]
    return next(name for name in names if not name.startswith(_BUILT_IN))
