"""Three ZooKeepers in three namespaces, and networks that break between them.

F10 and F11 of the fault table, and a leader that dies: after each there is exactly one
entry, and everybody knows it.
"""

import contextlib
from collections.abc import Iterator
from functools import partial

import pytest

from fastrpc.cluster import Instance, open_registry
from fastrpc.cluster.registries.zookeeper import ZooKeeperRegistry
from fastrpc.testing.lookout import Lookout
from tests.cluster.engines.netns import HostLoop, Net
from tests.cluster.engines.party import ONE, TTL, Party, announced
from tests.cluster.engines.zookeeper_server import ZooKeepers, ZooKeeperServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

KEEPERS = ("one", "two", "three")
TWO = Instance(id="two", addresses=("tcp://10.0.0.2:7000",))


def open_zookeeper(target: str) -> ZooKeeperRegistry:
    registry = open_registry(target, ttl=TTL)
    assert isinstance(registry, ZooKeeperRegistry)
    return registry


class Member(Party[ZooKeeperRegistry]):
    """A registry on a host of its own."""

    def __init__(self, host: HostLoop, target: str) -> None:
        super().__init__(host, lambda: open_zookeeper(target))

    async def owners(self) -> list[int]:
        """Return who has each node that there is."""
        ask = self.registry._session.ask
        names = await ask(lambda client: client.get_children_async("/fastrpc/Arith"))
        nodes = [
            await ask(
                partial(lambda name, client: client.exists_async(name), f"/fastrpc/Arith/{n}")
            )
            for n in names
        ]
        return [node.ephemeralOwner for node in nodes]


class Scene:
    """Three ZooKeepers, a server that announces itself, and a client that watches."""

    def __init__(
        self, net: Net, keepers: dict[str, ZooKeeperServer], server: Member, client: Member
    ) -> None:
        self.net = net
        self.keepers = keepers
        self.server = server
        self.client = client
        self.lookout: Lookout = client.host.run(self._look())

    async def _look(self) -> Lookout:
        return Lookout(self.client.registry, "Arith")

    def until_known(self, *instances: Instance) -> None:
        self.client.host.run(self.lookout.until_known(*instances))

    def leader(self) -> str:
        for name, keeper in self.keepers.items():
            with self.net.inside(name):
                if keeper.mode() == "leader":
                    return name
        return ""

    def check_one_entry(self, within: float) -> None:
        """See that the server is registered anew in that time, once, and known."""
        stated = self.server.stated
        self.server.host.run(self.server.until(lambda: self.server.stated > stated + 1), within)
        self.until_known(ONE)
        owner = self.server.registry._session.id
        assert self.client.host.run(self.client.owners()) == [owner]


@pytest.fixture(scope="module")
def ensemble() -> Iterator[tuple[Net, dict[str, ZooKeeperServer]]]:
    with contextlib.ExitStack() as stack:
        net = stack.enter_context(Net(*KEEPERS, "server", "client"))
        addresses = [net.address(name) for name in KEEPERS]
        starts = [partial(net.popen, name) for name in KEEPERS]
        keepers = stack.enter_context(ZooKeepers(addresses, starts, port=2181))
        found = dict(zip(KEEPERS, keepers.servers, strict=True))
        for name, keeper in found.items():
            with net.inside(name):
                keeper.wait()
        yield net, found


@pytest.fixture
def scene(ensemble: tuple[Net, dict[str, ZooKeeperServer]]) -> Iterator[Scene]:
    net, keepers = ensemble
    target = "zookeeper://" + ",".join(keeper.host for keeper in keepers.values())
    with contextlib.ExitStack() as stack:
        server, client = stack.enter_context(announced(net, lambda host: Member(host, target)))
        scene = Scene(net, keepers, server, client)
        stack.callback(lambda: client.host.run(scene.lookout.aclose()))
        stack.callback(net.heal)
        scene.until_known(ONE)
        yield scene
        assert scene.lookout.problems == []


def test_f10_server_cut_from_its_registry_expires_and_comes_back(scene: Scene) -> None:
    before = scene.server.registry._session.id
    scene.net.cut("server", *KEEPERS)
    scene.until_known()
    scene.net.heal()
    scene.server.host.run(scene.server.until(lambda: scene.server.losses), 5)
    scene.check_one_entry(within=5)
    assert scene.server.registry._session.id != before


def test_f11_client_cut_from_its_registry_keeps_what_it_knows(scene: Scene) -> None:
    scene.net.cut("client", *KEEPERS)
    scene.client.host.run(scene.client.until_lost())
    scene.server.host.run(scene.server.registry.publish("Arith", TWO))
    assert set(scene.lookout.known) == {"one"}
    scene.net.heal()
    scene.until_known(ONE, TWO)
    scene.server.host.run(scene.server.registry.withdraw("Arith", "two"))
    scene.check_one_entry(within=5)
    assert not scene.server.losses


def test_dead_leader_is_followed_by_another(scene: Scene) -> None:
    before, session = scene.leader(), scene.server.registry._session.id
    scene.keepers[before].kill()
    scene.check_one_entry(within=15)
    assert scene.leader() not in ("", before)
    # A session is the ensemble's, not one server's.
    assert scene.server.registry._session.id == session
    scene.keepers[before].start()
    with scene.net.inside(before):
        scene.keepers[before].wait()
    assert set(scene.lookout.known) == {"one"}
