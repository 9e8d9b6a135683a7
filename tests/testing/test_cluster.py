"""Instances of a cluster in memory come, go, hang and die, and a client sees it."""

import asyncio
from collections import Counter

import pytest

import fastrpc
from fastrpc.cluster import MemoryRegistry
from fastrpc.errors import ConfigError
from fastrpc.testing import FakeClock, Faults, MemoryCluster
from fastrpc.testing.cluster import NodeState


class Work:
    def __init__(self, number: int = 0) -> None:
        self.number = number
        self.ran = 0
        self.cancelled = 0
        self.gate = asyncio.Event()
        self.gate.set()

    @fastrpc.rpc(idempotent=True)
    async def get(self) -> int:
        self.ran += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self.number

    async def put(self) -> int:
        self.ran += 1
        await self.gate.wait()
        return self.number


class Extra:
    def name(self) -> str:
        return "extra"


async def seen(client: fastrpc.Client, count: int = 12, method: str = "Work.get") -> set[int]:
    return {await client.call(method) for _ in range(count)}


@pytest.mark.asyncio
async def test_all_instances_are_called_and_have_state_of_their_own() -> None:
    async with MemoryCluster(
        Work, lambda number: Extra(), instances=3, zones=("a", "b")
    ) as cluster:
        assert (cluster.name, len(set(map(id, cluster.services)))) == ("Work", 3)
        assert [node.instance.zone for node in cluster.nodes] == ["a", "b", "a"]
        client = cluster.connect(balance="round_robin")
        await cluster.ready(client)
        await seen(client, 9)
        assert [work.ran for work in cluster.services] == [3, 3, 3]
        assert await client.call("Extra.name") == "extra"
        assert repr(cluster) == "<MemoryCluster Work ['up', 'up', 'up']>"
        assert repr(cluster.nodes[2]) == "<MemoryNode 2 up>"


@pytest.mark.asyncio
async def test_a_killed_instance_breaks_its_calls_and_stays_listed() -> None:
    async with MemoryCluster(Work, instances=2) as cluster:
        client = cluster.connect(failure_mode="fail_fast")
        await cluster.ready(client)
        for work in cluster.services:
            work.gate.clear()
        calls = [asyncio.ensure_future(client.call("Work.put")) for _ in range(8)]
        while sum(work.ran for work in cluster.services) < 8:
            await asyncio.sleep(0)
        hit = cluster.services[0].ran
        cluster.kill(0)
        cluster.services[1].gate.set()
        ended = Counter(map(type, await asyncio.gather(*calls, return_exceptions=True)))
        assert ended == {fastrpc.ConnectionLost: hit, int: 8 - hit}
        assert hit
        listing = await MemoryRegistry(cluster.store).list("Work")
        assert len(listing.instances) == 2
        with pytest.raises(ConfigError, match="instance 0 is killed"):
            cluster.kill(0)
        node = await cluster.restart(0)
        assert (node.state, node.number, cluster.nodes[0]) == (NodeState.UP, 0, node)
        await cluster.ready(cluster.connect())


@pytest.mark.asyncio
async def test_idempotent_calls_outlive_a_kill() -> None:
    async with MemoryCluster(Work, instances=3) as cluster:
        client = cluster.connect()
        await cluster.ready(client)
        cluster.services[0].gate.clear()
        calls = [asyncio.ensure_future(client.call("Work.get")) for _ in range(30)]
        while not cluster.services[0].ran:
            await asyncio.sleep(0)
        cluster.kill(0)
        assert await asyncio.gather(*calls) == [0] * 30


def test_who_was_killed_is_forgotten_in_time() -> None:
    clock = FakeClock()

    async def scenario() -> None:
        async with MemoryCluster(Work, instances=2, ttl=15.0) as cluster:
            client = cluster.connect()
            await cluster.ready(client)
            cluster.kill(1)
            begun = clock.now
            registry = MemoryRegistry(cluster.store)
            while len((await registry.list("Work")).instances) == 2:
                await asyncio.sleep(0.5)
            assert 15.0 <= clock.now - begun < 16.0
            await asyncio.sleep(0.5)
            assert len(client.stats().instances) == 1
            assert await client.call("Work.get") == 0

    clock.run(scenario())


@pytest.mark.asyncio
async def test_rolling_restart_fails_no_call() -> None:
    async with MemoryCluster(Work, instances=3) as cluster:
        client = cluster.connect(failure_mode="fail_fast")
        await cluster.ready(client)
        done = 0
        is_over = asyncio.Event()

        async def load() -> None:
            nonlocal done
            while not is_over.is_set():
                await client.call("Work.put")
                done += 1

        loads = [asyncio.ensure_future(load()) for _ in range(4)]
        before = [node.instance.id for node in cluster.nodes]
        for number in range(3):
            await cluster.restart(number)
        await cluster.ready(client)
        is_over.set()
        await asyncio.gather(*loads)
        assert done > 12
        assert not set(before) & {node.instance.id for node in cluster.nodes}


@pytest.mark.asyncio
async def test_a_drained_instance_ends_what_it_has() -> None:
    async with MemoryCluster(Work, instances=2) as cluster:
        client = cluster.connect(balance="round_robin")
        await cluster.ready(client)
        works = cluster.services
        for work in works:
            work.gate.clear()
        calls = [asyncio.ensure_future(client.call("Work.put")) for _ in range(4)]
        while sum(work.ran for work in works) < 4:
            await asyncio.sleep(0)
        draining = asyncio.ensure_future(cluster.drain(0))
        await asyncio.sleep(0)
        assert cluster.nodes[0].state is NodeState.LEAVING
        for work in works:
            work.gate.set()
        await asyncio.gather(*calls)
        await draining
        assert cluster.nodes[0].state is NodeState.STOPPED
        before = works[0].ran
        await seen(client)
        assert works[0].ran == before
        with pytest.raises(ConfigError, match="instance 0 is stopped"):
            cluster.freeze(0)


@pytest.mark.asyncio
async def test_a_frozen_instance_says_nothing() -> None:
    async with MemoryCluster(Work, instances=2) as cluster:
        client = cluster.connect(timeout=0.1, failure_mode="fail_fast", balance="round_robin")
        await cluster.ready(client)
        cluster.freeze(0)
        ended = Counter(map(type, [await _outcome(client) for _ in range(4)]))
        assert ended == {fastrpc.DeadlineExceeded: 2, int: 2}
        cluster.thaw(0)
        assert [type(await _outcome(client)) for _ in range(4)] == [int] * 4
        cluster.freeze(1)
        cluster.kill(1)


def test_a_frozen_instance_can_be_restarted() -> None:
    async def scenario() -> None:
        async with MemoryCluster(Work, instances=2) as cluster:
            client = cluster.connect()
            await cluster.ready(client)
            cluster.freeze(1)
            await cluster.restart(1)
            await cluster.ready(client)

    FakeClock().run(scenario())


async def _outcome(client: fastrpc.Client) -> object:
    try:
        return await client.call("Work.get")
    except fastrpc.FastRPCError as error:
        return error


@pytest.mark.asyncio
async def test_the_registry_goes_away_and_comes_back() -> None:
    async with MemoryCluster(Work, instances=2) as cluster:
        client = cluster.connect()
        await cluster.ready(client)
        cluster.registry_down = True
        assert cluster.registry_down
        assert await client.call("Work.get") == 0
        await cluster.grow()  # nobody is told as yet
        cluster.kill(0)
        await cluster.drain(1)
        cluster.registry_down = False
        listed = (await MemoryRegistry(cluster.store).list("Work")).instances
        assert [each.id for each in listed] == [
            cluster.nodes[number].instance.id for number in (0, 2)
        ]
        await cluster.ready(client)
        assert await client.call("Work.get") == 0
        assert cluster.services[2].ran == 1


@pytest.mark.asyncio
async def test_faults_are_for_all_instances() -> None:
    faults = Faults(seed=3)
    async with MemoryCluster(Work, instances=2, faults=faults) as cluster:
        client = cluster.connect()
        faults.fail("Work.get", after=None, nth=1)
        assert await client.call("Work.get") == 0  # the second try was answered
        assert len(faults.log) == 1
        assert sum(work.ran for work in cluster.services) == 2


@pytest.mark.asyncio
async def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigError, match="instances"):
        MemoryCluster(Work, instances=-1)
    with pytest.raises(ConfigError, match="no instance yet"):
        MemoryCluster(Work).connect()
    async with MemoryCluster(Work, instances=1) as cluster:
        with pytest.raises(ConfigError, match="no instance 1 of 1"):
            cluster.kill(1)


@pytest.mark.asyncio
async def test_a_service_that_can_not_be_made_leaves_nothing() -> None:
    def make(number: int) -> Work:
        if number:
            raise ValueError("no second one")
        return Work(number)

    with pytest.raises(ValueError, match="no second one"):
        async with MemoryCluster(make, instances=2):
            pass
    assert asyncio.all_tasks() == {asyncio.current_task()}
