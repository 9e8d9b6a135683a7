"""A cluster without an event loop: the same methods, over a loop in a thread."""

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest

import fastrpc
from fastrpc.client.options import ClientOptions
from fastrpc.cluster import Instance, MemoryRegistry, MemoryStore
from fastrpc.cluster.blocking import BlockingClusterClient, LoopThread
from fastrpc.cluster.client import ClusterClient, connect_registry
from tests.cluster.scene import Scene, Work


class Counts:
    """Counts the keys that it gets."""

    def many(self, keys: list[str]) -> int:
        return len(keys)


@pytest.fixture
def nodes() -> Iterator[list[Any]]:
    """Serve three instances in a loop of their own."""
    thread = LoopThread("servers")
    scene = Scene()
    try:
        nodes = thread.run(scene.grow(3))
        for node in nodes:
            node.server.register(Counts(), name="Counts")
        yield nodes
    finally:
        thread.run(scene.__aexit__(None, None, None))
        thread.close()


def static(nodes: list[Any]) -> str:
    return "static:" + ",".join(node.server.targets[0] for node in nodes)


@pytest.fixture
def client(nodes: list[Any]) -> Iterator[Any]:
    # In turn, so that a test that asks a few times has asked everybody.
    with fastrpc.connect_sync(static(nodes), timeout=5.0, balance="round_robin") as client:
        yield client


def test_it_does_what_blocking_clients_do(client: Any) -> None:
    assert isinstance(client, fastrpc.BlockingClient)
    assert isinstance(client, BlockingClusterClient)
    assert client.call("Work.add", 1, b=2) == 3
    stub = client.stub(Work)
    assert stub.add(4, 5) == 9
    assert {stub.get() for _ in range(6)} == {0, 1, 2}
    assert client.gather([("Work.add", 1, n) for n in range(5)]) == [1, 2, 3, 4, 5]
    assert client.exchange("Work.add", 1, 2).value == 3
    assert client.ping() > 0
    assert "Work" in str(client.describe())
    assert client.options(timeout=2.0, metadata={"a": "b"}).call("Work.add", 1, 1) == 2
    with pytest.raises(fastrpc.MethodNotFound):
        client.call("Work.nothing")
    assert client.stats().connected == 3
    assert "static:" in repr(client)


def test_all_instances_at_once(client: Any) -> None:
    assert set(client.options(broadcast="all").broadcast("Work.get").values()) == {0, 1, 2}
    assert client.broadcast("Work.get") in (0, 1, 2)
    everybody = client.options(broadcast="all")
    assert set(everybody.broadcast(client.stub(Work).get).values()) == {0, 1, 2}
    found = list(client.broadcast_each("Work.get"))
    assert sorted(each.value for each in found) == [0, 1, 2]
    assert len({each.id for each in found}) == 3
    assert {each.value for each in client.broadcast_each(client.stub(Work).get)} == {0, 1, 2}
    assert client.shard("Counts.many", ["a", "b", "c", "d"]) == 4


def test_leaving_a_broadcast_early_cancels_the_others(client: Any, nodes: list[Any]) -> None:
    for node in nodes[1:]:
        node.work.gate.clear()
    for each in client.broadcast_each("Work.get"):
        assert each.value == 0
        break
    while any(node.work.ran != node.work.cancelled for node in nodes[1:]):
        client.call("Work.add", 1, 1)
    assert nodes[1].work.ran <= 1, "it may be given up before it has begun"


def test_streams_go_to_an_instance(client: Any) -> None:
    found = set()
    for _ in range(30):
        with client.stream("Work.numbers", 3) as stream:
            items = list(stream)
        assert len(items) == 3
        found |= set(items)
    assert found <= {0, 1, 2}
    assert list(client.stub(Work).numbers(2)) != []


def test_streams_go_by_their_key(nodes: list[Any]) -> None:
    with fastrpc.connect_sync(static(nodes), balance="consistent_hash", key="0") as client:
        while client.stats().connected < len(nodes):
            client.call("Work.add", 1, 1)
        assert len({item for _ in range(12) for item in client.stream("Work.numbers", 2)}) == 1


def test_calls_without_a_reply(client: Any, nodes: list[Any]) -> None:
    client.notify("Work.note")
    while sum(node.work.ran for node in nodes) == 0:
        client.call("Work.add", 1, 1)


def test_threads_share_it(client: Any) -> None:
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(client.call("Work.add", 1, 1)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [2] * 8


def test_a_deadline(client: Any, nodes: list[Any]) -> None:
    for node in nodes:
        node.work.gate.clear()
    with pytest.raises(fastrpc.DeadlineExceeded):
        client.options(timeout=0.05).call("Work.get")


def test_after_the_end(nodes: list[Any]) -> None:
    before = threading.active_count()
    client = fastrpc.connect_sync(static(nodes))
    assert client.call("Work.add", 1, 1) == 2
    client.close()
    client.close()
    with pytest.raises(fastrpc.ConnectionLost, match="closed"):
        client.call("Work.add", 1, 1)
    assert threading.active_count() == before


def test_nobody_there() -> None:
    with (
        pytest.raises(fastrpc.ConnectFailed),
        fastrpc.connect_sync("static:tcp://127.0.0.1:1", connect_timeout=0.5),
    ):
        pass


def test_a_child_has_connections_of_its_own(client: Any) -> None:
    assert client.call("Work.add", 1, 1) == 2
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if client.call("Work.add", 2, 2) == 4 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert client.call("Work.add", 3, 3) == 6


def test_interceptors_are_refused() -> None:
    with pytest.raises(fastrpc.ConfigError, match="interceptors"):
        fastrpc.connect_sync("static:tcp://127.0.0.1:1", interceptors=[lambda handler: handler])


def test_closing_ends_the_calls_of_other_threads(nodes: list[Any]) -> None:
    for node in nodes:
        node.work.error = fastrpc.Overloaded("full", retry_after=60.0)
    client = fastrpc.connect_sync(static(nodes[:1]))
    seen: list[Exception] = []

    def call() -> None:
        try:
            client.options(idempotent=True).call("Work.get")  # sleeps here for 60 s
        except Exception as exc:
            seen.append(exc)

    caller = threading.Thread(target=call, daemon=True)
    caller.start()
    while not nodes[0].work.ran:
        client.call("Work.add", 1, 1)
    client.close()
    caller.join(10.0)
    assert [type(each) for each in seen] == [fastrpc.ConnectionLost]
    assert "closed" in str(seen[0])


def test_closing_the_thread_ends_all_that_runs_there() -> None:
    thread, ended = LoopThread("a loop"), threading.Event()
    begun = threading.Event()

    async def wait() -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.set()

    def call() -> None:
        with pytest.raises(fastrpc.ConnectionLost, match="a loop: closed here"):
            thread.run(wait())
        seen.append("closed")

    seen: list[str] = []
    caller = threading.Thread(target=call, daemon=True)
    caller.start()
    assert begun.wait(10.0)
    thread.close()
    caller.join(10.0)
    assert seen == ["closed"]
    assert ended.is_set()


def test_a_task_that_does_not_end_holds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastrpc.cluster.blocking.PATIENCE", 0.02)
    thread, begun = LoopThread("a loop"), threading.Event()

    async def wait() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.Event().wait()

    def call() -> None:
        with pytest.raises(fastrpc.ConnectionLost, match="closed here"):
            thread.run(wait())

    caller = threading.Thread(target=call, daemon=True)
    caller.start()
    assert begun.wait(10.0)
    thread.close()
    caller.join(10.0)
    assert not caller.is_alive()


def test_a_closed_thread_runs_nothing() -> None:
    thread = LoopThread("a loop")
    thread.close()
    before = threading.active_count()
    with pytest.raises(fastrpc.ConnectionLost, match="closed here") as failed:
        thread.run(asyncio.sleep(0))
    assert failed.value.ran == "no"
    assert threading.active_count() == before


def test_a_client_that_can_not_connect_leaves_no_thread() -> None:
    before = threading.active_count()
    with (
        pytest.raises(fastrpc.ConnectFailed),
        fastrpc.connect_sync("static:tcp://127.0.0.1:1", connect_timeout=0.5),
    ):
        pass
    assert threading.active_count() == before


def test_streams_go_where_calls_go(nodes: list[Any]) -> None:
    refusing = socket.create_server(("127.0.0.1", 0))
    dead = f"tcp://127.0.0.1:{refusing.getsockname()[1]}"
    refusing.close()
    instance = Instance(id="odd", addresses=(dead, nodes[0].server.targets[0]))
    made = connect_registry(Listed(instance), "Work")
    with BlockingClusterClient(cast("ClusterClient", made), ClientOptions()) as client:
        assert client.call("Work.add", 1, 1) == 2
        assert list(client.stream("Work.numbers", 2)) == [0, 0]


class Listed(MemoryRegistry):
    """A registry that knows one instance."""

    def __init__(self, instance: Instance) -> None:
        store = MemoryStore()
        super().__init__(store)
        asyncio.run(MemoryRegistry(store).publish("Work", instance))


def open_all(client: Any) -> None:
    """Open a stream at every instance."""
    while len(client._direct) + len(client._leaving) < 3:
        list(client.stream("Work.numbers", 1))


def test_the_socket_used_last_is_kept(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    open_all(client)
    first, second, third = client._direct
    kept = dict(client._direct)
    with client._directly(first).client.stream("Work.numbers", 1) as stream:
        list(stream)
    assert list(client._direct) == [second, third, first]
    monkeypatch.setattr("fastrpc.cluster.blocking.STREAMS_MAX", 1)
    members = list(client.loops_client.fleet.members.values())
    kept[second].opening = 1
    client._let_go(members, first)
    assert list(client._direct) == [first]
    assert kept[third].client._is_closed
    assert client._leaving == [kept[second]]  # somebody opens a stream there
    assert not kept[second].client._is_closed
    kept[second].opening = 0
    reading = kept[second].client.stream("Work.numbers", 10**9)
    next(reading)
    client._let_go(members, first)
    assert not kept[second].client._is_closed
    reading.close()
    client._let_go(members, first)
    assert kept[second].client._is_closed
    assert client._leaving == []


def test_who_is_not_listed_any_more_is_parted_with(client: Any) -> None:
    open_all(client)
    kept = dict(client._direct)
    gone = next(iter(kept))
    members = [
        each
        for each in client.loops_client.fleet.members.values()
        if each.instance.addresses[0] != gone
    ]
    client._let_go(members, next(reversed(kept)))
    assert gone not in client._direct
    assert kept[gone].client._is_closed
    assert len(client._direct) == 2
