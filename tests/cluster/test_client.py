"""A client of a cluster: the methods of any client, and nothing lost when instances fail."""

import asyncio
import time
from collections import Counter
from typing import Any

import pytest

import fastrpc
from fastrpc.cluster import InstanceState, MemoryRegistry, MemoryStore
from fastrpc.cluster.client import connect_registry
from fastrpc.cluster.member import MemberState
from fastrpc.policy import EjectionOptions
from tests.cluster.scene import Scene, Work, cluster

pytestmark = pytest.mark.asyncio


async def test_it_does_what_every_client_does() -> None:
    async with cluster() as scene:
        client = scene.client
        assert await client.call("Work.add", 1, b=2) == 3
        stub = client.stub(Work)
        assert await stub.add(4, 5) == 9
        assert await client.gather([("Work.add", 1, n) for n in range(20)]) == list(range(1, 21))
        assert len({x async for x in client.stream("Work.numbers", 3)}) == 1
        assert [x async for x in stub.numbers(2)] != []
        assert (await client.exchange("Work.add", 1, 2)).value == 3
        assert await client.ping() > 0
        assert "Work" in str(await client.describe())
        client.notify("Work.note")
        await scene.until(lambda: sum(scene.ran) == 1)
        assert await client.options(timeout=1.0, metadata={"a": "b"}).call("Work.add", 1, 1) == 2
        with pytest.raises(fastrpc.MethodNotFound):
            await client.call("Work.nothing")
        assert "MemoryRegistry/Work" in repr(client)


async def test_calls_are_spread() -> None:
    async with cluster() as scene:
        found = Counter(await asyncio.gather(*[scene.client.call("Work.get") for _ in range(300)]))
        assert set(found) == {0, 1, 2}
        assert min(found.values()) > 50


async def test_the_first_call_waits_for_the_list_and_a_connection() -> None:
    async with Scene() as scene:
        client: Any = connect_registry(MemoryRegistry(scene.store), "Work")
        scene.client = client
        calls = [client.call("Work.add", n, 1) for n in range(5)]
        await asyncio.sleep(0)
        await scene.grow(2)
        assert await asyncio.gather(*calls) == [1, 2, 3, 4, 5]


async def test_instances_come_and_go() -> None:
    async with cluster(1) as scene:
        await scene.grow(1)
        await scene.until(lambda: len(scene.client.lanes) == 2)
        await scene.nodes[0].leave()
        await scene.until(lambda: len(scene.client.fleet.members) == 1)
        assert set(await scene.spread(20)) == {1}


async def test_who_leaves_ends_what_it_has() -> None:
    async with cluster(1) as scene:
        scene.nodes[0].work.gate.clear()
        call = scene.client.call("Work.put")
        await scene.until(lambda: scene.ran == [1])
        await scene.grow(1)
        await scene.nodes[0].leave()
        await scene.until(lambda: [*scene.client.fleet.members] == ["node-1"])
        assert set(await scene.spread(10)) == {1}
        scene.nodes[0].work.gate.set()
        assert await call == 0
        await scene.until(lambda: not scene.nodes[0].server.hall.sessions)


async def test_who_drains_gets_no_new_calls() -> None:
    async with cluster(2) as scene:
        node = scene.nodes[0]
        await node.list(state=InstanceState.DRAINING)
        await scene.until(lambda: len(scene.client.lanes) == 1)
        assert set(await scene.spread(20)) == {1}
        now = time.monotonic()
        assert scene.client.fleet.members["node-0"].state(now) is MemberState.LEAVING
        await node.list(state=InstanceState.UP)
        await scene.until(lambda: len(scene.client.lanes) == 2)


async def test_a_registry_that_is_away_changes_nothing() -> None:
    async with cluster() as scene:
        scene.store.is_down = True
        await scene.until(lambda: scene.client.resolver.failure is not None)
        assert sum((await scene.spread(50)).values()) == 50
        assert len(scene.client.fleet.members) == 3


# Failing over


async def test_a_call_that_may_run_twice_is_sent_to_another_instance() -> None:
    async with cluster() as scene:
        for node in scene.nodes:
            node.work.gate.clear()
        stub = scene.client.stub(Work)
        calls = [stub.get() for _ in range(15)]  # the budget of a client that has just begun is 10
        await scene.until(lambda: sum(scene.ran) == 15)
        scene.nodes[0].cut()
        for node in scene.nodes[1:]:
            node.work.gate.set()
        assert set(await asyncio.gather(*calls)) == {1, 2}


async def test_a_call_that_must_not_run_twice_fails_if_it_may_have_run() -> None:
    async with cluster() as scene:
        for node in scene.nodes:
            node.work.gate.clear()
        calls = [asyncio.ensure_future(scene.client.call("Work.put")) for _ in range(30)]
        await scene.until(lambda: sum(scene.ran) == 30)
        scene.nodes[0].cut()
        for node in scene.nodes:
            node.work.gate.set()
        ended = await asyncio.gather(*calls, return_exceptions=True)
        lost = [each for each in ended if isinstance(each, fastrpc.ConnectionLost)]
        assert len(lost) == scene.ran[0]
        assert {each.ran for each in lost} == {"maybe"}
        assert sum(scene.ran) == 30


async def test_whether_a_method_may_run_twice_is_asked_of_a_server() -> None:
    async with cluster() as scene:
        for node in scene.nodes:
            node.work.gate.clear()
        calls = [scene.client.call("Work.get") for _ in range(12)]
        await scene.until(lambda: sum(scene.ran) == 12)
        scene.nodes[0].cut()
        for node in scene.nodes[1:]:
            node.work.gate.set()
        assert set(await asyncio.gather(*calls)) == {1, 2}
        assert await scene.client.is_idempotent("Work.get")
        assert not await scene.client.is_idempotent("Work.put")
        assert not await scene.client.is_idempotent("Work.nothing")


@pytest.mark.parametrize("said", [True, False])
async def test_the_caller_has_the_last_word_on_what_may_run_twice(said: bool) -> None:
    async with cluster(2) as scene:
        for node in scene.nodes:
            node.work.gate.clear()
        method = "Work.put" if said else "Work.get"
        view = scene.client.options(idempotent=said)
        calls = [asyncio.ensure_future(view.call(method)) for _ in range(8)]
        await scene.until(lambda: sum(scene.ran) == 8)
        scene.nodes[0].cut()
        scene.nodes[1].work.gate.set()
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert any(isinstance(each, fastrpc.ConnectionLost) for each in ended) is not said


async def test_interceptors_see_one_call_however_often_it_is_sent() -> None:
    seen: list[str] = []

    def watch(handler: Any) -> Any:
        async def watched(call: Any) -> Any:
            seen.append(call.method)
            return await handler(call)

        return watched

    async with cluster(2, interceptors=[watch]) as scene:
        for node in scene.nodes:
            node.work.gate.clear()
        stub = scene.client.stub(Work)
        calls = [asyncio.ensure_future(stub.get()) for _ in range(8)]
        await scene.until(lambda: sum(scene.ran) == 8)
        scene.nodes[0].cut()
        scene.nodes[1].work.gate.set()
        assert set(await asyncio.gather(*calls)) == {1}
        assert len(seen) == 8


async def test_failing_fast_is_failing_at_once() -> None:
    async with cluster(2, failure_mode="fail_fast") as scene:
        for node in scene.nodes:
            node.work.gate.clear()
        stub = scene.client.stub(Work)
        calls = [stub.get() for _ in range(8)]
        await scene.until(lambda: sum(scene.ran) == 8)
        scene.nodes[0].cut()
        scene.nodes[1].work.gate.set()
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert any(isinstance(each, fastrpc.ConnectionLost) for each in ended)
        assert sum(scene.ran) == 8


async def test_retrying_in_place_asks_the_same_again() -> None:
    async with cluster(2, failure_mode="retry", ejection=None) as scene:
        for node in scene.nodes:
            node.work.error = fastrpc.Unavailable("not yet", ran="no")
        call = asyncio.ensure_future(scene.client.call("Work.get"))
        await scene.until(lambda: sum(scene.ran) == 1)
        asked = scene.ran.index(1)
        await scene.until(lambda: sum(scene.ran) == 2)
        assert scene.ran[asked] == 2
        for node in scene.nodes:
            node.work.error = None
        assert await call == asked


async def test_no_more_attempts_than_allowed() -> None:
    async with cluster(5, attempts=2, ejection=None) as scene:
        for node in scene.nodes:
            node.work.error = fastrpc.Unavailable("no", ran="no")
        with pytest.raises(fastrpc.Unavailable, match="no"):
            await scene.client.call("Work.get")
        assert sum(scene.ran) == 2


async def test_the_budget_bounds_retries() -> None:
    async with cluster(3, retry_rate=0.0, retry_share=0.1, ejection=None) as scene:
        for node in scene.nodes:
            node.work.error = fastrpc.Unavailable("no", ran="no")
        found = await scene.spread(100)
        assert found == {"Unavailable": 100}
        assert sum(scene.ran) <= 112


async def test_an_errors_ran_is_that_of_all_attempts() -> None:
    async with cluster(2) as scene:
        scene.nodes[0].work.gate.clear()
        scene.nodes[1].work.error = fastrpc.Unavailable("no", ran="no")
        stub = scene.client.stub(Work)
        call = stub.get()
        await asyncio.sleep(0)
        while scene.ran[0] == 0:
            call.add_done_callback(lambda each: each.exception())
            call = stub.get()
            await asyncio.sleep(0.001)
        scene.nodes[0].cut()
        with pytest.raises(fastrpc.FastRPCError) as failed:
            await call
        assert failed.value.ran != "no"


async def test_pushback_is_obeyed() -> None:
    async with cluster(2, ejection=None) as scene:
        scene.nodes[0].work.error = fastrpc.Overloaded("full", ran="no", retry_after=30.0)
        assert "Overloaded" not in await scene.spread(20)
        ran = scene.ran[0]
        assert ran == 1
        assert set(await scene.spread(50)) == {1}
        assert scene.ran[0] == ran
        scene.nodes[1].work.error = fastrpc.Overloaded("full", ran="no", retry_after=30.0)
        # With nobody left who does not rest, all are asked; and no attempt waits 30 s.
        with pytest.raises(fastrpc.Overloaded):
            await scene.client.options(timeout=5.0).call("Work.get")


async def test_a_deadline_is_over_all_attempts() -> None:
    async with cluster(2, timeout=0.2) as scene:
        for node in scene.nodes:
            node.work.gate.clear()
        stub = scene.client.stub(Work)
        call = stub.get()
        await scene.until(lambda: sum(scene.ran) == 1)
        scene.nodes[scene.ran.index(1)].cut()
        with pytest.raises(fastrpc.DeadlineExceeded):
            await call


async def test_a_call_that_asks_whether_it_may_run_twice_keeps_its_deadline() -> None:
    async with cluster(2) as scene:
        for node in scene.nodes:
            node.work.gate.clear()

        async def never(**words: Any) -> Any:
            await asyncio.Event().wait()

        scene.client.describe = never  # type: ignore[assignment]
        started = time.monotonic()
        call = asyncio.ensure_future(scene.client.options(timeout=0.2).call("Work.get"))
        await scene.until(lambda: sum(scene.ran) == 1)
        scene.nodes[scene.ran.index(1)].cut()
        with pytest.raises(fastrpc.ConnectionLost):
            await call
        assert time.monotonic() - started < 0.9, "ASKING is 1 s"


async def test_the_budget_pays_only_for_what_is_sent() -> None:
    async with cluster(2, ejection=None) as scene:
        for node in scene.nodes:
            node.work.error = fastrpc.Unavailable("no", ran="no", retry_after=30.0)
        for _ in range(5):
            with pytest.raises(fastrpc.Unavailable):
                await scene.client.options(timeout=1.0, idempotent=True).call("Work.get")
        assert scene.client.stats().retries == sum(scene.ran) - 5


async def test_whoever_waits_to_try_again_is_told_of_the_end() -> None:
    async with cluster(1, ejection=None) as scene:
        scene.nodes[0].work.error = fastrpc.Unavailable("no", ran="no", retry_after=30.0)
        view = scene.client.options(idempotent=True)
        call = asyncio.ensure_future(view.exchange("Work.get"))
        await scene.until(lambda: sum(scene.ran) == 1)
        await asyncio.sleep(0.01)
        await scene.client.aclose()
        with pytest.raises(fastrpc.ConnectionLost, match="closed"):
            await call


# Hedging


async def test_a_second_instance_is_asked_when_the_first_takes_long() -> None:
    async with cluster(2, failure_mode="hedge", hedge_after=0.01) as scene:
        stub = scene.client.stub(Work)
        assert await stub.get() in (0, 1)
        for node in scene.nodes:
            node.work.ran = 0
        for slow, quick in ((0, 1), (1, 0)):
            scene.nodes[slow].work.gate.clear()
            scene.nodes[quick].work.gate.set()
            assert await stub.get() == quick
        scene.nodes[1].work.gate.clear()
        scene.nodes[0].work.gate.clear()
        call = asyncio.ensure_future(stub.get())
        ran = sum(scene.ran)
        await scene.until(lambda: sum(scene.ran) >= ran + 2)
        cancelled = [node.work.cancelled for node in scene.nodes]
        scene.nodes[1].work.gate.set()
        assert await call == 1
        await scene.until(lambda: scene.nodes[0].work.cancelled == cancelled[0] + 1)


async def test_what_must_not_run_twice_is_not_hedged() -> None:
    async with cluster(2, failure_mode="hedge", hedge_after=0.001) as scene:
        stub = scene.client.stub(Work)
        for node in scene.nodes:
            node.work.gate.clear()
        call = asyncio.ensure_future(stub.put())
        await scene.until(lambda: sum(scene.ran) == 1)
        await asyncio.sleep(0.02)
        for node in scene.nodes:
            node.work.gate.set()
        await call
        assert sum(scene.ran) == 1


async def test_a_hedge_whose_first_fails_waits_for_the_second() -> None:
    async with cluster(2, failure_mode="hedge", hedge_after=0.005, attempts=2) as scene:
        for node in scene.nodes:
            node.work.gate.clear()
        call = asyncio.ensure_future(scene.client.stub(Work).get())
        await scene.until(lambda: sum(scene.ran) == 2)
        scene.nodes[0].cut()
        scene.nodes[1].work.gate.set()
        assert await call == 1


async def test_a_race_that_is_cancelled_before_it_has_begun_gives_up() -> None:
    async with cluster(2, failure_mode="hedge", hedge_after=5.0) as scene:
        for node in scene.nodes:
            node.work.gate.clear()

        async def never(**words: Any) -> Any:
            await asyncio.Event().wait()

        scene.client.describe = never  # type: ignore[assignment]
        call = asyncio.ensure_future(scene.client.call("Work.get"))
        await scene.until(lambda: sum(scene.ran) == 1)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await scene.until(lambda: sum(node.work.cancelled for node in scene.nodes) == 1)


async def test_a_percentile_is_learnt() -> None:
    async with cluster(2, failure_mode="hedge", hedge_after="p50") as scene:
        route = scene.client._route
        first = route.hedge_delay("Work.get")
        assert sum((await scene.spread(30)).values()) == 30
        assert 0 < route.hedge_delay("Work.get") < first == route.hedge_delay("Work.put")


# Ejection


async def test_an_instance_that_fails_is_left_alone() -> None:
    ejection = EjectionOptions(first=100.0)
    async with cluster(3, ejection=ejection, balance="round_robin") as scene:
        scene.nodes[0].work.error = RuntimeError("broken")
        found = await scene.spread(200)
        assert found["RemoteError"] == 5
        member = scene.client.fleet.members["node-0"]
        assert member.state(time.monotonic()) is MemberState.EJECTED
        assert set(await scene.spread(50)) == {1, 2}


async def test_a_single_call_shows_whether_it_is_well() -> None:
    ejection = EjectionOptions(first=100.0)
    async with cluster(3, ejection=ejection, balance="round_robin") as scene:
        scene.nodes[0].work.error = RuntimeError("broken")
        await scene.spread(100)
        scene.nodes[0].work.error = None
        member, fleet = scene.client.fleet.members["node-0"], scene.client.fleet
        assert member.ejection is not None
        assert fleet._judge(member, member.ejection.until)
        fleet.arrange(time.monotonic())
        assert member.state(time.monotonic()) is MemberState.PROBED
        assert member.cap == 1
        found = await scene.spread(100)
        assert found[0] > 10
        await scene.until(lambda: member.cap == 0)
        assert member.state(time.monotonic()) is MemberState.READY


async def test_if_all_fail_all_are_asked() -> None:
    async with cluster(3, balance="round_robin") as scene:
        for node in scene.nodes:
            node.work.error = RuntimeError("broken")
        await scene.spread(100)
        before = scene.ran
        await scene.spread(100)
        assert all(now > then for now, then in zip(scene.ran, before, strict=True))


async def test_an_applications_own_errors_are_answers() -> None:
    async with cluster(2) as scene:
        scene.nodes[0].work.error = fastrpc.RpcError(404, "no such thing")
        await scene.spread(100)
        assert all(member.errors == 0 for member in scene.client.fleet.members.values())


async def test_a_broken_connection_is_one_fault() -> None:
    async with cluster(2) as scene:
        for node in scene.nodes:
            node.work.gate.clear()
        stub = scene.client.stub(Work)
        calls = [stub.get() for _ in range(12)]
        await scene.until(lambda: sum(scene.ran) == 12)
        scene.nodes[0].cut()
        scene.nodes[1].work.gate.set()
        await asyncio.gather(*calls)
        assert scene.client.fleet.members["node-0"].errors == 1


# Nobody there


async def test_nobody_listed_is_said() -> None:
    async with Scene() as scene:
        client: Any = connect_registry(MemoryRegistry(scene.store), "Work", connect_timeout=0.05)
        scene.client = client
        with pytest.raises(fastrpc.Unavailable, match="no instance is listed"):
            await client.call("Work.get")
        with pytest.raises(fastrpc.DeadlineExceeded, match="no instance is listed"):
            await client.options(timeout=0.01).call("Work.get")


async def test_a_registry_that_is_away_is_said() -> None:
    async with Scene() as scene:
        scene.store.is_down = True
        client: Any = connect_registry(MemoryRegistry(scene.store), "Work", connect_timeout=0.05)
        scene.client = client
        with pytest.raises(fastrpc.RegistryLost, match="down"):
            await client.call("Work.get")


async def test_nobody_who_answers_is_said() -> None:
    async with cluster(2) as scene:
        for node in scene.nodes:
            await node.die()
        await scene.until(lambda: not scene.client.lanes)
        with pytest.raises(fastrpc.ConnectFailed) as failed:
            await scene.client.call("Work.get")
        assert failed.value.ran == "no"


# Ends


async def test_closing_ends_everything() -> None:
    before = len(asyncio.all_tasks())
    async with Scene() as scene:
        await scene.grow(3)
        client = await scene.connect()
        for node in scene.nodes:
            node.work.gate.clear()
        stub = client.stub(Work)
        calls = [asyncio.ensure_future(stub.get()) for _ in range(10)]
        await scene.until(lambda: sum(scene.ran) == 10)
        scene.nodes[0].cut()
        await asyncio.sleep(0)
        await client.aclose()
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(each) for each in ended} == {fastrpc.ConnectionLost}
        with pytest.raises(fastrpc.ConnectionLost, match="closed"):
            await client.call("Work.get")
        await client.aclose()
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == before


async def test_cancelling_a_call_that_is_sent_again_ends_it() -> None:
    async with cluster(2) as scene:
        for node in scene.nodes:
            node.work.gate.clear()
        calls = [asyncio.ensure_future(scene.client.stub(Work).get()) for _ in range(6)]
        await scene.until(lambda: sum(scene.ran) == 6)
        scene.nodes[0].cut()
        await scene.until(lambda: scene.ran[1] == 6)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert all(call.cancelled() for call in calls)
        await scene.until(lambda: scene.nodes[1].work.cancelled == 6)


async def test_steps_of_a_call_that_fails_over_may_be_cancelled_anywhere() -> None:
    async with cluster(2, failure_mode="hedge", hedge_after=0.001) as scene:
        for turns in range(12):
            for node in scene.nodes:
                node.work.gate.clear()
            call = asyncio.ensure_future(scene.client.stub(Work).get())
            for _ in range(turns):
                await asyncio.sleep(0.0005)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            for node in scene.nodes:
                node.work.gate.set()
        await scene.until(lambda: all(len(lane.table) == 0 for lane in scene.client.lanes))
        assert sum((await scene.spread(10)).values()) == 10


# What can't be


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"balance": "best"}, "balance"),
        ({"balance": lambda: 5}, "Balancer"),
        ({"failure_mode": "pray"}, "failure_mode"),
        ({"attempts": 0}, "attempts"),
        ({"attempts": True}, "attempts"),
        ({"hedge_after": "p42"}, "hedge_after"),
        ({"hedge_after": 0}, "hedge_after"),
        ({"slow_start": -1}, "slow_start"),
        ({"subset": float("nan")}, "subset"),
        ({"ejection": 5}, "ejection"),
        ({"retry_share": -1.0}, "retry_share"),
        ({"retry_rate": "x"}, "retry_rate"),
        ({"subset": 1.5}, "subset"),
        ({"cache": 3}, "cache"),
        ({"zone": 3}, "zone"),
        ({"key": 5}, "key"),
        ({"key": "user"}, "consistent_hash"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
async def test_wrong_options_are_refused(options: dict[str, Any], word: str) -> None:
    with pytest.raises(fastrpc.ConfigError, match=word):
        connect_registry(MemoryRegistry(MemoryStore()), "Work", **options)


async def test_options_of_clusters_are_for_clusters() -> None:
    with pytest.raises(fastrpc.ConfigError, match="balance, zone: only for a service in a reg"):
        fastrpc.connect("tcp://127.0.0.1:1", balance="random", zone="a")
    with pytest.raises(fastrpc.ConfigError, match="which service"):
        fastrpc.connect("registry://127.0.0.1:1")
    with pytest.raises(fastrpc.ConfigError, match="has not begun"):
        connect_registry(MemoryRegistry(MemoryStore()), "Work").fleet  # type: ignore[attr-defined]  # noqa: B018


async def test_a_static_list_is_a_cluster() -> None:
    async with Scene() as scene:
        nodes = await scene.grow(2)
        target = "static:" + ",".join(node.server.targets[0] for node in nodes)
        async with fastrpc.connect(target, balance="round_robin") as client:
            found = {await client.call("Work.get") for _ in range(20)}
            while len(found) < 2:
                found.add(await client.call("Work.get"))
            assert found == {0, 1}


@pytest.mark.parametrize("key", ["key", "0", lambda method, args, kwargs: kwargs.get("key", args)])
async def test_calls_with_the_same_key_go_to_the_same_instance(key: Any) -> None:
    async with cluster(4, balance="consistent_hash", key=key) as scene:
        stub = scene.client.stub(Work)
        for number in range(20):
            assert len({await stub.get(number) for _ in range(5)}) == 1
        assert len({await stub.get(number) for number in range(60)}) > 1


async def test_streams_and_oneway_calls_go_by_the_key_too() -> None:
    async with cluster(4, balance="consistent_hash", key="0") as scene:
        found = set()
        for _ in range(12):
            found |= {x async for x in scene.client.stream("Work.numbers", 2)}
        assert len(found) == 1
        for _ in range(12):
            scene.client.notify("Work.note", "user")
        await scene.until(lambda: sum(scene.ran) == 12)
        assert sorted(scene.ran) == [0, 0, 0, 12]


async def test_a_key_may_be_in_the_metadata_or_in_the_options() -> None:
    async with cluster(4, balance="consistent_hash", key="metadata:tenant") as scene:
        view = scene.client.options(metadata={"tenant": "a"})
        (first,) = {await view.call("Work.get") for _ in range(20)}
        other = view.options(key="b")
        (second,) = {await other.call("Work.get", n) for n in range(20)}
        assert {await view.call("Work.get") for _ in range(5)} == {first}
        assert {await other.call("Work.get") for _ in range(5)} == {second}


async def test_the_own_zone_comes_first() -> None:
    async with Scene() as scene:
        await scene.grow(2, zone="here")
        await scene.grow(2, zone="there")
        await scene.connect(zone="here")
        assert set(await scene.spread(40)) == {0, 1}
        for node in scene.nodes[:2]:
            await node.die()
        await scene.until(lambda: len(scene.client.lanes) == 2)
        assert set(await scene.spread(40)) <= {2, 3}


async def test_a_subset_is_connected_to() -> None:
    async with Scene() as scene:
        await scene.grow(6)
        client: Any = connect_registry(MemoryRegistry(scene.store), "Work", subset=2)
        scene.client = client
        await client.call("Work.get")
        await scene.until(lambda: len(client.lanes) == 2)
        assert len(client.fleet.members) == 2


async def test_who_joins_later_begins_with_little() -> None:
    async with cluster(2, slow_start=1000.0) as scene:
        await scene.grow(1)
        await scene.until(lambda: len(scene.client.lanes) == 3)
        weights = {id: each.weight for id, each in scene.client.fleet.members.items()}
        assert weights["node-0"] == weights["node-1"] == 1.0
        assert weights["node-2"] < 0.2


async def test_an_instance_with_other_addresses_is_another() -> None:
    async with cluster(2) as scene:
        (new,) = await scene.grow(1)
        assert new.instance is not None
        await scene.registry.withdraw("Work", new.instance.id)
        await scene.nodes[0].list(addresses=tuple(new.server.targets))
        await scene.until(
            lambda: (
                scene.client.fleet.members["node-0"].instance.addresses[0] == new.server.targets[0]
            )
        )
        await scene.until(lambda: len(scene.client.lanes) == 2)
        assert set(await scene.spread(30)) == {1, 2}


async def test_a_second_address_is_tried() -> None:
    async with Scene() as scene:
        (node,) = await scene.grow(1)
        await node.list(addresses=("tcp://127.0.0.1:1", *node.server.targets))
        await scene.connect()
        assert await scene.client.call("Work.get") == 0
