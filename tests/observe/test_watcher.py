"""What a snapshot tells of a server, its methods, connections and calls."""

import asyncio
import random
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import fastrpc
from fastrpc.frame import Durations
from fastrpc.observe import Facts, snapshot, watcher
from fastrpc.observe.facts import MethodFacts
from fastrpc.observe.watcher import coarser, watcher_of
from tests.server.serving import serving, until, use_twin


class Work:
    """Work of all kinds."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.release = threading.Event()

    def add(self, a: int, b: int) -> int:
        return a + b

    async def inline(self) -> int:
        return 1

    async def task(self) -> int:
        await asyncio.sleep(0)
        return 1

    @fastrpc.rpc(blocking=True)
    def thread(self) -> int:
        return 1

    async def items(self, n: int) -> AsyncIterator[int]:
        for i in range(n):
            yield i

    def asks(self, call: fastrpc.Call) -> str:
        return call.method

    def fail(self) -> None:
        raise ValueError("on purpose")

    def odd(self) -> object:
        return object()

    async def fail_late(self) -> None:
        await asyncio.sleep(0)
        raise fastrpc.RpcError(7, "on purpose")

    async def wait(self) -> None:
        await self.gate.wait()

    @fastrpc.rpc(cancel="shield")
    async def shielded(self) -> None:
        await self.gate.wait()

    @fastrpc.rpc(blocking=True)
    def block(self) -> None:
        self.release.wait(20)


def method(facts: Facts, name: str) -> MethodFacts:
    return next(each for each in facts.methods if each.name == f"Work.{name}")


@pytest.mark.asyncio
async def test_calls_are_counted_and_timed_whatever_way_they_go(
    twin: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_twin(monkeypatch, twin)
    async with serving(Work()) as server, fastrpc.connect(server.targets[0]) as client:
        for _ in range(17):
            await client.call("Work.add", 1, 2)
        for _ in range(3):
            await client.call("Work.add", a=1, b=2)  # by name: another way
            await client.call("Work.inline")
            await client.call("Work.task")
            await client.call("Work.thread")
            await client.call("Work.asks")
            async with client.stream("Work.items", 3) as stream:
                assert [item async for item in stream] == [0, 1, 2]
        facts = snapshot(server)
    counted = {each.name[5:]: (each.calls, each.timed, each.is_sampled) for each in facts.methods}
    assert counted == {
        "add": (20, 2, True), "inline": (3, 1, True), "task": (3, 3, False),
        "thread": (3, 3, False), "asks": (3, 1, True), "items": (3, 3, False),
    }  # fmt: skip
    for each in facts.methods:
        assert 0 < each.p50 <= each.p90 <= each.p99 <= each.max <= each.total
        assert sum(count for _, _, count in each.buckets) == each.timed
        assert (each.failures, each.running) == ({}, 0)


@pytest.mark.asyncio
@pytest.mark.parametrize("waits", [False, True])
async def test_behind_interceptors_it_is_the_same(waits: bool) -> None:
    def around(handler: fastrpc.Handler) -> fastrpc.Handler:
        async def passed(call: fastrpc.Call) -> fastrpc.Reply:
            if waits:
                await asyncio.sleep(0)
            return await handler(call)

        return passed

    async with serving(Work(), interceptors=[around]) as server:
        async with fastrpc.connect(server.targets[0]) as client:
            for _ in range(33):
                await client.call("Work.add", 1, 2)
            for _ in range(3):
                await client.call("Work.task")
            facts = snapshot(server)
    assert (method(facts, "add").calls, method(facts, "add").timed) == (33, 3)
    assert (method(facts, "task").calls, method(facts, "task").timed) == (3, 3)


@pytest.mark.asyncio
async def test_what_goes_wrong_is_counted_by_its_status() -> None:
    service = Work()
    async with serving(service, max_calls=4) as server:
        async with fastrpc.connect(server.targets[0]) as client:

            async def fails(name: str, *args: Any, **options: Any) -> None:
                with pytest.raises(fastrpc.FastRPCError):
                    await client.options(**options).call(f"Work.{name}", *args)

            for _ in range(2):
                await fails("fail")
            await fails("odd")
            await fails("fail_late")
            await fails("add", "one", 2)
            await fails("wait", timeout=0.05)
            await fails("nothing")
            given_up = asyncio.ensure_future(client.call("Work.wait"))
            await until(lambda: method(snapshot(server), "wait").running == 1)
            given_up.cancel()
            await until(lambda: method(snapshot(server), "wait").running == 0)
            facts = snapshot(server)
    assert method(facts, "fail").failures == {"server_error": 2}
    assert method(facts, "odd").failures == {"result_unsendable": 1}
    assert method(facts, "fail_late").failures == {"application": 1}
    assert method(facts, "add").failures == {"bad_request": 1}
    # Who comes first at a deadline, server or client, is a matter of luck.
    waited = method(facts, "wait").failures
    assert waited["cancelled"] + waited.get("deadline", 0) == 2
    assert facts.server.refused == 2  # the arguments, and what is not there


@pytest.mark.asyncio
async def test_a_call_in_flight_is_told_and_can_be_stopped() -> None:
    service = Work()
    async with serving(service) as server:
        async with fastrpc.connect(server.targets[0]) as client:
            calls = {
                name: asyncio.ensure_future(client.options(timeout=60.0).call(f"Work.{name}"))
                for name in ("wait", "shielded", "block")
            }
            await until(lambda: len(snapshot(server).calls) == 3)
            facts = {call.method[5:]: call for call in snapshot(server).calls}
            for name, call in facts.items():
                assert 0 <= call.age < 30
                assert call.left is not None
                assert 25 < call.left <= 60
                assert call.id
                assert call.state == ("in a thread" if name == "block" else "runs")
            looker = watcher_of(server.hall)
            answers = server.hall.side.answers
            assert answers is not None
            for call in facts.values():
                session = looker.session_of(call.connection)
                assert session is not None
                assert answers.stop_call(session, call.number, "enough") is True
                assert answers.stop_call(session, call.number, "enough") is False
            for name, future in calls.items():
                with pytest.raises(fastrpc.Cancelled, match=f"Work.{name}: enough"):
                    await future
            await until(lambda: [c.state for c in snapshot(server).calls] == ["given up"])
            service.release.set()  # a thread can't be stopped
            await until(lambda: not snapshot(server).calls)
            told = snapshot(server)
            assert method(told, "wait").failures == {"cancelled": 1}
            session = looker.session_of(facts["wait"].connection)
            assert session is not None
            assert answers.stop_call(session, 10_000, "enough") is False
        await until(lambda: looker.session_of(facts["wait"].connection) is None)


@pytest.mark.asyncio
async def test_a_shielded_call_outlives_its_connection_and_is_told_without() -> None:
    service = Work()
    async with serving(service) as server:
        async with fastrpc.connect(server.targets[0]) as client:
            call = asyncio.ensure_future(client.call("Work.shielded"))
            await until(lambda: len(snapshot(server).calls) == 1)
        with pytest.raises(fastrpc.ConnectionLost):
            await call
        await until(lambda: not snapshot(server).connections)
        (told,) = snapshot(server).calls
        assert (told.connection, told.peer, told.state) == (0, "", "given up")
        assert told.stack
        service.gate.set()
        await until(lambda: not snapshot(server).calls)


@pytest.mark.asyncio
async def test_connections_are_told_and_keep_their_numbers() -> None:
    async with serving(Work()) as server:
        async with fastrpc.connect(server.targets[0]) as first:
            await first.call("Work.add", 1, 2)
            (one,) = snapshot(server).connections
            async with fastrpc.connect(server.targets[0]) as second:
                await second.call("Work.add", 1, 2)
                both = snapshot(server)
                assert [each.number for each in both.connections] == [one.number, one.number + 1]
        await until(lambda: not snapshot(server).connections)
        facts = snapshot(server)
    assert one.peer.startswith("tcp://127.0.0.1:")
    assert (one.door, one.state, one.calls, one.running, one.tls) == ("fastrpc", "open", 1, 0, "")
    assert one.agent.startswith("fastrpc/")
    assert one.codecs == ("raw", "msgpack", "json")
    assert one.age >= 0
    assert one.bytes_in > 0
    assert one.bytes_out > 0
    assert both.doors == {"fastrpc": 2}
    assert (facts.doors, facts.server.accepted, facts.server.calls) == ({}, 2, 2)
    # What was counted stays counted when connections go.
    assert facts.server.bytes_in >= sum(each.bytes_in for each in both.connections)
    assert facts.server.bytes_out >= sum(each.bytes_out for each in both.connections)


async def asked(writer: asyncio.StreamWriter, path: str, body: bytes) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    await writer.drain()


@pytest.mark.asyncio
async def test_clients_with_the_same_address_have_rows_of_their_own(tmp_path: Path) -> None:
    service = Work()
    async with serving(service, f"unix://{tmp_path}/it.sock") as server:
        ends = [await asyncio.open_unix_connection(str(tmp_path / "it.sock")) for _ in range(3)]
        for _, writer in ends:
            writer.write(b'{"jsonrpc":"2.0","id":1,"method":"Work.wait"}\n')
        await until(lambda: server.stats().running == 3)
        facts = snapshot(server)
        rows = {each.number: each for each in facts.connections}
        told = [(each.door, each.state, each.running) for each in facts.connections]
        assert (len(rows), told) == (3, [("jsonrpc", "open", 1)] * 3)
        assert {call.connection for call in facts.calls} == set(rows)
        assert facts.server.bytes_in == sum(each.bytes_in for each in facts.connections) > 0
        service.gate.set()
        for _, writer in ends:
            writer.close()


@pytest.mark.asyncio
async def test_all_sessions_of_an_http_connection_have_rows() -> None:
    service = Work()
    other = fastrpc.Server()
    other.register(Work())
    async with serving(service) as server:
        server.mount("/other", other)
        port = int(server.targets[0].rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await asked(writer, "/other/rpc/Work.add", b"[1,2]")
        assert b"200" in await reader.readuntil(b"\r\n\r\n3")
        (one,) = snapshot(server).connections  # whose only session is another server's
        assert (one.door, one.state, one.calls) == ("http", "", 0)
        assert (server.stats().sessions, server.stats().connections) == (0, 1)
        assert one.age >= 0
        assert one.bytes_in > len("POST /other/rpc/Work.add")
        assert one.bytes_out > len("HTTP/1.1 200 OK")
        (there,) = snapshot(other).connections
        assert (there.door, there.state, there.calls) == ("mounted", "open", 1)
        await asked(writer, "/rpc/Work.add", b"[1,2]")
        await reader.readuntil(b"\r\n\r\n3")
        await asked(writer, "/jsonrpc", b'{"jsonrpc":"2.0","id":1,"method":"Work.wait"}')
        await until(lambda: server.stats().running == 1)
        facts = snapshot(server)
        told = [(each.door, each.state, each.running) for each in facts.connections]
        assert told == [("http", "open", 0), ("http", "open", 1)]
        assert [call.connection for call in facts.calls] == [facts.connections[1].number]
        assert (facts.doors, facts.server.connections) == ({"http": 1}, 1)
        assert (server.stats().sessions, server.stats().connections) == (2, 1)
        assert (other.stats().sessions, other.stats().connections) == (1, 0)
        service.gate.set()
        writer.close()


@pytest.mark.asyncio
async def test_the_server_is_told() -> None:
    async with serving(Work(), max_running=7, handler_timeout=9.0) as server:
        facts = snapshot(server)
        assert facts.server.places == {
            server.targets[0]: (
                "fastrpc", "upgrade", "websocket", "http", "jsonrpc", "msgpackrpc", "health",
                "metrics", "debug",
            )
        }  # fmt: skip
        assert facts.server.state == "serving"
        assert facts.server.uptime >= 0
        assert (facts.limits["max_running"], facts.limits["handler_timeout"]) == (7, 9.0)
        assert facts.limits["max_body"] == server.limits.max_body
        assert facts.limits["max_connections"] > 0
        await server.start("tcp://127.0.0.1:0", doors=["fastrpc"])
        assert list(snapshot(server).server.places.values())[1] == ("fastrpc",)


@pytest.mark.asyncio
async def test_lists_are_cut_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MOST_METHODS", "MOST_CONNECTIONS", "MOST_CALLS"):
        monkeypatch.setattr(watcher, name, 1)
    service = Work()
    async with serving(service) as server:
        async with (
            fastrpc.connect(server.targets[0]) as one,
            fastrpc.connect(server.targets[0]) as two,
        ):
            calls = [asyncio.ensure_future(each.call("Work.wait")) for each in (one, two, two)]
            await one.call("Work.add", 1, 2)
            await until(lambda: snapshot(server).server.running == 3)
            facts = snapshot(server)
            service.gate.set()
            await asyncio.gather(*calls)
    assert (len(facts.methods), len(facts.connections), len(facts.calls)) == (1, 1, 1)
    assert facts.cut == {"methods": 1, "connections": 1, "calls": 2}


@pytest.mark.asyncio
async def test_looking_once_leaves_no_timer_and_watching_does_until_the_end() -> None:
    async with serving(Work()) as server:
        looker = watcher_of(server.hall)
        snapshot(server)
        assert not looker.sampler.is_running
        assert looker.look(watches=True).lag.worst == (0.0,)
        assert looker.sampler.is_running
        assert watcher_of(server.hall) is looker
    await until(lambda: not looker.sampler.is_running)


def test_long_texts_are_cut() -> None:
    assert watcher.clipped("x" * 200) == "x" * 200
    assert watcher.clipped("x" * 201) == "x" * 199 + "…"


def test_coarser_buckets_hold_the_same() -> None:
    rng = random.Random(5)
    durations = Durations()
    for _ in range(1000):
        durations.add(rng.lognormvariate(-7, 2))
    fine = durations.buckets()
    coarse = coarser(fine, 4)
    assert sum(count for _, _, count in coarse) == 1000
    assert len(coarse) < len(fine)
    for lower, upper, count in coarse:
        assert upper / lower <= 1.25
        assert count == sum(n for low, high, n in fine if lower <= low and high <= upper)
    assert coarser([], 4) == []
