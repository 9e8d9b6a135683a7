"""A real cluster of three in three namespaces, and networks that break between them.

F10 and F11 of the fault table: the registry is away for the server only, for the client only;
and the registry itself falls apart. After each heal there is exactly one entry, and everybody
knows it.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastrpc.cluster import Instance, Listing, parse_cluster
from fastrpc.cluster.registries.etcd import EtcdRegistry
from fastrpc.testing.lookout import Lookout
from tests.cluster.engines.etcd_server import Etcd, EtcdCluster
from tests.cluster.engines.netns import HostLoop, Net
from tests.cluster.engines.party import ONE, TTL, Party, announced

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]

ETCDS = ("one", "two", "three")


class Watching(Party[EtcdRegistry]):
    """A registry on a host of its own: an owner that states an entry, or one that watches."""

    def __init__(self, host: HostLoop, places: str) -> None:
        super().__init__(host, lambda: EtcdRegistry(parse_cluster(f"etcd://{places}"), ttl=TTL))
        self.lookout: Lookout | None = None

    async def look(self) -> None:
        """Begin to watch."""
        self.lookout = Lookout(self.registry, "Arith")
        await self.lookout.until_begun()

    async def until_known(self, *instances: Instance) -> None:
        """Wait until exactly these are known by the watch."""
        assert self.lookout is not None
        await self.lookout.until_known(*instances)

    def known(self) -> list[str]:
        """Return the ids that are known by the watch."""
        assert self.lookout is not None
        return sorted(self.lookout.known)

    def listings(self) -> int:
        """Return how often the watch began with a listing."""
        assert self.lookout is not None
        return sum(isinstance(change, Listing) for change in self.lookout.changes)

    async def aclose(self) -> None:
        """Let go, and look whether the watch has kept the contract."""
        if self.lookout is not None:
            await self.lookout.aclose()
        await super().aclose()
        assert self.lookout is None or self.lookout.problems == []


class Scene:
    """Three etcds, a server that announces itself, and a client that watches."""

    def __init__(self, net: Net, cluster: EtcdCluster, server: Watching, client: Watching) -> None:
        self.net = net
        self.cluster = cluster
        self.server = server
        self.client = client

    def entries(self) -> list[str]:
        """Return what is written in etcd, as most of them know it."""
        return self.cluster.leader().keys("/fastrpc/Arith/")

    def check_healed(self) -> None:
        """Wait until both are back, and see that there is one entry."""
        stated = self.server.stated
        self.client.host.run(self.client.until_known(ONE))
        self.server.host.run(self.server.until(lambda: self.server.stated > stated + 1))
        assert self.entries() == ["/fastrpc/Arith/one"]
        assert self.client.known() == ["one"]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with contextlib.ExitStack() as stack:
        net = stack.enter_context(Net(*ETCDS, "server", "client"))
        cluster = stack.enter_context(EtcdCluster(tmp_path, *ETCDS, net=net))
        leader = cluster.leader()
        # Everybody asks the leader first: whatever happens to it happens to them.
        order: list[Etcd] = [leader, *(each for each in cluster.servers if each is not leader)]
        places = ",".join(each.place for each in order)
        server, client = stack.enter_context(announced(net, lambda host: Watching(host, places)))
        client.host.run(client.look())
        client.host.run(client.until_known(ONE))
        yield Scene(net, cluster, server, client)


def test_server_cut_from_its_registry_expires_and_comes_back(scene: Scene) -> None:
    scene.net.cut("server", *ETCDS)
    scene.client.host.run(scene.client.until_known())
    assert scene.entries() == []
    scene.net.heal()
    scene.check_healed()
    assert scene.server.failed
    assert scene.client.listings() == 1  # the client missed nothing


def test_client_cut_from_its_registry_is_told_and_lists_anew(scene: Scene) -> None:
    scene.net.cut("client", *ETCDS)
    scene.client.host.run(scene.client.until_lost())
    stated = scene.server.stated
    scene.server.host.run(scene.server.until(lambda: scene.server.stated > stated))
    assert scene.client.known() == ["one"]  # what is known stays
    scene.net.heal()
    scene.check_healed()
    assert not scene.server.failed


def test_leader_cut_from_the_others_is_left_for_them(scene: Scene) -> None:
    before = scene.cluster.leader()
    scene.net.cut(before.name, *(name for name in ETCDS if name != before.name))
    rest = [each for each in scene.cluster.servers if each is not before]
    # The old leader still answers, and has nobody behind it: both go over to the others.
    scene.server.host.run(scene.server.until(lambda: any(each.is_leader() for each in rest)))
    stated = scene.server.stated
    scene.server.host.run(scene.server.until(lambda: scene.server.stated > stated + 2))
    moved = Instance(id="two", addresses=("tcp://10.0.0.2:7000",))
    scene.server.host.run(scene.server.registry.publish("Arith", moved))
    scene.client.host.run(scene.client.until_known(ONE, moved))
    scene.server.host.run(scene.server.registry.withdraw("Arith", "two"))
    scene.net.heal()
    scene.check_healed()


def test_etcds_that_are_all_apart_forget_nobody(scene: Scene) -> None:
    for name in ETCDS:
        scene.net.cut(name, *(other for other in ETCDS if other != name))
    scene.client.host.run(scene.client.until_lost())
    scene.server.host.run(scene.server.until(lambda: scene.server.failed))
    assert scene.client.known() == ["one"]
    scene.net.heal()
    scene.check_healed()
