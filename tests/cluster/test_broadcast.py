"""Every instance hears a broadcast, each once; nobody is waited for in vain."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

import fastrpc
from fastrpc.client.broadcast import BroadcastFailed
from fastrpc.cluster import Instance, InstanceState, MemoryRegistry
from fastrpc.cluster.client import connect_registry
from fastrpc.cluster.member import MemberState
from fastrpc.policy import EjectionOptions
from tests.cluster.scene import Node, Scene, Work, cluster

pytestmark = pytest.mark.asyncio


def block(scene: Scene, *numbers: int) -> None:
    """Let calls wait, at these instances or at all."""
    for node in scene.nodes:
        if not numbers or node.number in numbers:
            node.work.gate.clear()


@contextlib.asynccontextmanager
async def few_calls(count: int, most: int) -> AsyncIterator[Scene]:
    """A cluster whose instances take few calls at once."""
    async with Scene() as scene:
        scene.nodes = [Node(scene, number, max_calls=most) for number in range(count)]
        for node in scene.nodes:
            await node.start()
        await scene.connect()
        yield scene


def cancelled(scene: Scene) -> list[int]:
    return [node.work.cancelled for node in scene.nodes]


def in_flight(scene: Scene) -> int:
    return sum(member.in_flight for member in scene.client.fleet.members.values())


async def test_each_instance_runs_it_once() -> None:
    async with cluster() as scene:
        client = scene.client
        everybody = {"node-0": 0, "node-1": 1, "node-2": 2}
        assert await client.broadcast("Work.put") in (0, 1, 2)
        assert scene.ran == [1, 1, 1]
        assert await client.options(broadcast="all").broadcast("Work.put", key=3) == everybody
        total = client.options(broadcast=lambda found: sum(found.values()))
        assert await total.broadcast(client.stub(Work).put) == 3
        assert scene.ran == [3, 3, 3]


async def test_errors_say_whose_they_are() -> None:
    async with cluster() as scene:
        scene.nodes[1].work.error = fastrpc.RpcError(7, "full")
        with pytest.raises(fastrpc.RpcError) as one:
            await scene.client.broadcast("Work.put")
        assert f"instance node-1 at {scene.nodes[1].server.targets[0]}" in one.value.__notes__
        view = scene.client.options(broadcast="all")
        with pytest.raises(BroadcastFailed, match=r"Work.put: 1 of 3 failed: node-1: ") as failed:
            await view.broadcast("Work.put")
        assert failed.value.results == {"node-0": 0, "node-2": 2}
        assert isinstance(failed.value.errors["node-1"], fastrpc.RpcError)


async def test_losers_are_told_at_once() -> None:
    async with cluster(4) as scene:
        block(scene, 0, 1, 3)
        assert await scene.client.options(broadcast="first").broadcast("Work.get") == 2
        assert in_flight(scene) == 0
        await scene.until(lambda: cancelled(scene) == [1, 1, 0, 1])
        assert scene.ran == [1, 1, 1, 1]


async def test_an_error_cancels_the_others() -> None:
    async with cluster() as scene:
        block(scene, 0, 2)
        scene.nodes[1].work.error = ValueError("wrong")
        with pytest.raises(fastrpc.RemoteError, match="wrong"):
            await scene.client.broadcast("Work.get")
        assert in_flight(scene) == 0
        await scene.until(lambda: cancelled(scene) == [1, 0, 1])


async def test_results_come_as_they_come_and_the_rest_is_cancelled() -> None:
    async with cluster(4) as scene:
        block(scene)
        scene.nodes[2].work.gate.set()
        order = []
        async with scene.client.broadcast_each("Work.get") as results:
            async for each in results:
                order.append(each.id)
                if len(order) == 2:
                    break
                scene.nodes[0].work.gate.set()
        assert order == ["node-2", "node-0"]
        await scene.until(lambda: cancelled(scene) == [0, 1, 0, 1])


async def test_one_deadline_over_all() -> None:
    async with cluster() as scene:
        block(scene, 1)
        view = scene.client.options(timeout=0.05, broadcast="all")
        with pytest.raises(BroadcastFailed) as failed:
            await view.broadcast("Work.get")
        late = failed.value.errors["node-1"]
        assert isinstance(late, fastrpc.DeadlineExceeded)
        assert scene.nodes[1].server.targets[0] in str(late)
        assert failed.value.results == {"node-0": 0, "node-2": 2}
        await scene.until(lambda: cancelled(scene) == [0, 1, 0])


@pytest.mark.slow
async def test_fifty_instances() -> None:
    async with Scene() as scene:
        await scene.grow(50)
        await scene.connect()
        view = scene.client.options(broadcast="all")
        found = await asyncio.gather(*[view.broadcast("Work.put") for _ in range(4)])
        assert found == [{f"node-{n}": n for n in range(50)}] * 4
        assert scene.ran == [4] * 50
        block(scene)
        scene.nodes[17].work.gate.set()
        assert await scene.client.options(broadcast="first").broadcast("Work.put") == 17
        await scene.until(lambda: sum(cancelled(scene)) == 49)
        assert in_flight(scene) == 0


# Who gets it


async def test_those_that_rest_or_are_ejected_hear_it_too() -> None:
    async with cluster(ejection=EjectionOptions(in_a_row=1, first=60.0)) as scene:
        members = scene.client.fleet.members
        scene.nodes[0].work.error = ValueError("ill")
        view = scene.client.options(broadcast="all")
        with pytest.raises(BroadcastFailed):
            await view.broadcast("Work.get")
        members["node-1"].rests_until = time.monotonic() + 60.0
        scene.client.fleet.changed()
        await scene.until(lambda: scene.client.fleet.chosen == [members["node-2"]])
        now = time.monotonic()
        assert members["node-0"].state(now) is MemberState.EJECTED
        assert members["node-1"].state(now) is MemberState.RESTING
        scene.nodes[0].work.error = None
        assert await view.broadcast("Work.get") == {"node-0": 0, "node-1": 1, "node-2": 2}


async def test_how_calls_ended_is_known_to_the_members() -> None:
    async with cluster(2) as scene:
        one, other = scene.client.fleet.members.values()
        scene.nodes[0].work.error = ValueError("ill")
        with pytest.raises(BroadcastFailed):
            await scene.client.options(broadcast="all").broadcast("Work.get")
        assert (one.calls, one.errors, other.calls, other.errors) == (1, 1, 1, 0)
        assert other.latency > 0
        block(scene)
        call = asyncio.ensure_future(scene.client.broadcast("Work.get"))
        await scene.until(lambda: scene.ran == [2, 2])
        call.cancel()
        await asyncio.wait([call])
        assert (one.errors, other.errors) == (2, 1)  # given up, and nobody had answered since


async def test_who_drains_does_not_get_it() -> None:
    async with cluster() as scene:
        await scene.nodes[1].list(state=InstanceState.DRAINING)
        await scene.until(lambda: len(scene.client.lanes) == 2)
        view = scene.client.options(broadcast="all")
        assert await view.broadcast("Work.get") == {"node-0": 0, "node-2": 2}


async def test_who_can_not_be_reached_is_an_error() -> None:
    async with cluster() as scene:
        await scene.nodes[1].die()
        await scene.until(lambda: len(scene.client.lanes) == 2)
        with pytest.raises(BroadcastFailed) as failed:
            await scene.client.options(broadcast="all").broadcast("Work.get")
        assert isinstance(failed.value.errors["node-1"], fastrpc.ConnectFailed)
        assert failed.value.results == {"node-0": 0, "node-2": 2}
        with pytest.raises(fastrpc.ConnectFailed):
            await scene.client.broadcast("Work.get")
        assert await scene.client.options(broadcast="quorum").broadcast("Work.get") == {
            "node-0": 0,
            "node-2": 2,
        }
        with pytest.raises(BroadcastFailed):
            await scene.client.options(broadcast=3).broadcast("Work.get")
        with pytest.raises(fastrpc.Unavailable, match="of 3 instances 4 can't be well"):
            await scene.client.options(broadcast=4).broadcast("Work.get")


async def test_all_are_gone() -> None:
    async with cluster(2) as scene:
        for node in scene.nodes:
            await node.die()
        await scene.until(lambda: not scene.client.lanes)
        with pytest.raises(BroadcastFailed, match="2 of 2 failed") as failed:
            await scene.client.options(broadcast="first").broadcast("Work.get")
        assert failed.value.ran == "no"


async def test_the_first_broadcast_waits_for_the_list_and_for_all_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fastrpc.cluster.fleet.DIALS_MAX", 2)
    async with Scene() as scene:
        client: Any = connect_registry(MemoryRegistry(scene.store), "Work")
        scene.client = client
        calls = [asyncio.ensure_future(client.options(broadcast="all").broadcast("Work.put"))]
        await asyncio.sleep(0)
        await scene.grow(7)  # more than are dialled at once
        found = await calls[0]
        assert len(found) >= 1  # of a list that grew while it was read
        everybody = await client.options(broadcast="all").broadcast("Work.put")
        assert everybody == {f"node-{n}": n for n in range(7)}


async def test_nobody_is_listed() -> None:
    async with Scene() as scene:
        client: Any = connect_registry(MemoryRegistry(scene.store), "Work", connect_timeout=0.05)
        scene.client = client
        for mode in ("one", "all"):
            with pytest.raises(fastrpc.Unavailable, match="no instance is listed"):
                await client.options(broadcast=mode).broadcast("Work.get")
        with pytest.raises(fastrpc.Unavailable, match="no instance is listed"):
            await anext(client.broadcast_each("Work.get"))
        with pytest.raises(fastrpc.DeadlineExceeded) as late:
            await client.options(timeout=0.01).broadcast("Work.get")
        assert late.value.ran == "no"


async def test_who_does_not_take_another_call_is_waited_for() -> None:
    async with few_calls(2, most=2) as scene:
        block(scene, 0)
        view = scene.client.options(broadcast="all")
        calls = [asyncio.ensure_future(view.broadcast("Work.put")) for _ in range(4)]
        await scene.until(lambda: scene.ran == [2, 4])
        late = scene.client.options(timeout=0.02, broadcast="all")
        with pytest.raises(BroadcastFailed) as failed:
            await late.broadcast("Work.put")
        error = failed.value.errors["node-0"]
        assert isinstance(error, fastrpc.DeadlineExceeded)
        assert (error.ran, error.stages.queued > 0.01) == ("no", True)
        scene.nodes[0].work.gate.set()
        assert await asyncio.gather(*calls) == [{"node-0": 0, "node-1": 1}] * 4
        assert scene.ran == [4, 5]
        assert not any(lane.crowded for lane in scene.client.lanes)


async def test_a_connection_that_is_being_made_is_waited_for() -> None:
    async with cluster(2) as scene:
        scene.nodes[0].cut()
        await scene.until(lambda: len(scene.client.lanes) == 1)
        view = scene.client.options(broadcast="all", timeout=5.0)
        member = scene.client.fleet.members["node-0"]
        for link in member.links:
            link.hurry()
        assert any(link.is_dialling for link in member.links)
        assert await view.broadcast("Work.get") == {"node-0": 0, "node-1": 1}


async def test_nothing_is_sent_twice() -> None:
    async with cluster(2) as scene:
        block(scene)
        view = scene.client.options(broadcast="all", idempotent=True)
        call = asyncio.ensure_future(view.broadcast("Work.get"))
        await scene.until(lambda: scene.ran == [1, 1])
        scene.nodes[0].cut()
        scene.nodes[1].work.gate.set()
        with pytest.raises(BroadcastFailed) as failed:
            await call
        lost = failed.value.errors["node-0"]
        assert isinstance(lost, fastrpc.ConnectionLost)
        assert lost.ran == "maybe"
        assert scene.ran == [1, 1]


# Interceptors


async def test_interceptors_see_the_call_to_each_instance() -> None:
    seen: list[Any] = []

    def note(handler: fastrpc.Handler) -> fastrpc.Handler:
        async def noted(call: fastrpc.Call) -> fastrpc.Reply:
            call.metadata = [("number", str(len(seen)))]
            seen.append((call.method, [*call.args]))
            call.args = [call.args[0] + 1]
            reply = await handler(call)
            return fastrpc.Reply(reply.value * 10)

        return noted

    async with cluster(interceptors=[note]) as scene:
        view = scene.client.options(broadcast="all", timeout=5.0)
        work = scene.client.stub(Work)
        assert await view.broadcast(work.put, 5) == {"node-0": 0, "node-1": 10, "node-2": 20}
        assert seen == [("Work.put", [5])] * 3
        block(scene, 0, 1)
        assert await view.options(broadcast="first").broadcast("Work.put", 5) == 20
        assert in_flight(scene) == 0
        await scene.until(lambda: cancelled(scene) == [1, 1, 0])


async def test_an_interceptor_that_waits_too_long_sends_nothing() -> None:
    def slow(handler: fastrpc.Handler) -> fastrpc.Handler:
        async def wait(call: fastrpc.Call) -> fastrpc.Reply:
            await asyncio.sleep(0.03)
            return await handler(call)

        return wait

    async with cluster(2, interceptors=[slow]) as scene:
        with pytest.raises(fastrpc.DeadlineExceeded, match="before the call was sent") as late:
            await scene.client.options(timeout=0.01).broadcast("Work.put")
        assert late.value.ran == "maybe"  # the other one was cancelled
        assert scene.ran == [0, 0]


# Ends


@pytest.mark.parametrize("mode", ["one", "all"])
async def test_the_caller_may_be_cancelled_anywhere(mode: Any) -> None:
    async with cluster(3) as scene:
        tasks = len(asyncio.all_tasks())
        view = scene.client.options(broadcast=mode)
        for turns in range(16):
            block(scene)
            call = asyncio.ensure_future(view.broadcast("Work.put"))
            for _ in range(turns):
                await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert in_flight(scene) == 0
            await scene.until(lambda: not any(n.server.stats().running for n in scene.nodes))
        assert sum(scene.ran) > 0
        assert cancelled(scene) == scene.ran
        await scene.until(lambda: len(asyncio.all_tasks()) <= tasks)


async def test_dropping_an_iterator_cancels_what_runs() -> None:
    async with cluster(2) as scene:
        block(scene, 1)
        async for each in scene.client.broadcast_each("Work.put"):
            assert each.id == "node-0"
            break
        await scene.until(lambda: cancelled(scene) == [0, 1])
        assert in_flight(scene) == 0


async def test_closing_the_client_ends_broadcasts() -> None:
    async with cluster(2) as scene:
        block(scene)
        view = scene.client.options(broadcast="all")
        call = asyncio.ensure_future(view.broadcast("Work.put"))
        await scene.until(lambda: scene.ran == [1, 1])
        await scene.client.aclose()
        with pytest.raises(BroadcastFailed) as failed:
            await call
        assert {type(each) for each in failed.value.exceptions} == {fastrpc.ConnectionLost}
        with pytest.raises(fastrpc.ConnectionLost, match="closed"):
            await view.broadcast("Work.put")


async def test_closing_the_client_ends_those_that_wait() -> None:
    async with few_calls(1, most=1) as scene:
        block(scene)
        first = asyncio.ensure_future(scene.client.broadcast("Work.put"))
        await scene.until(lambda: scene.ran == [1])
        second = asyncio.ensure_future(scene.client.broadcast("Work.put"))
        await asyncio.sleep(0.01)
        await scene.client.aclose()
        for call in (first, second):
            with pytest.raises(fastrpc.ConnectionLost, match="closed"):
                await call
        client: Any = connect_registry(MemoryRegistry(scene.store), "Nobody")
        third = asyncio.ensure_future(client.broadcast("Work.put"))
        await asyncio.sleep(0.01)
        await client.aclose()
        with pytest.raises(fastrpc.ConnectionLost, match="closed"):
            await third


async def test_who_leaves_the_list_while_it_is_dialled_is_an_error() -> None:
    async with cluster(1) as scene:
        silent = socket.create_server(("127.0.0.1", 0))  # nobody takes what connects there
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        await scene.registry.publish("Work", Instance(id="odd", addresses=(address,)))
        await scene.until(lambda: "odd" in scene.client.fleet.members)
        call = asyncio.ensure_future(scene.client.options(broadcast="all").broadcast("Work.get"))
        await scene.until(lambda: scene.ran == [1])
        await scene.registry.withdraw("Work", "odd")
        with pytest.raises(BroadcastFailed, match="odd at .* is not listed any more") as failed:
            await call
        assert failed.value.results == {"node-0": 0}
        silent.close()
