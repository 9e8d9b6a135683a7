"""Stopping: who is told, who may finish, and how long it takes."""

import asyncio
import logging
import threading
import time
from typing import Any

import pytest

import fastrpc
from fastrpc.frame import encode_frame
from fastrpc.server import server as server_module
from fastrpc.wire import ID_MAX, Kind
from tests.adversity.raw_peer import RawPeer, call, hello_frame, message, pack
from tests.server.serving import Waiting, assert_nothing_left, serving, until

CALM = logging.getLogger("tests.calm")
pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("both_twins")]


class Work(Waiting):
    """Handlers to be in the middle of."""

    def __init__(self) -> None:
        super().__init__()
        self.free = threading.Event()
        self.ended = 0

    async def wait(self) -> str:
        try:
            return await super().wait()
        finally:
            self.ended += 1

    async def clean_up(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            self.ended += 1

    async def stubborn(self) -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if self.go_on.is_set():
                    raise

    @fastrpc.rpc(blocking=True)
    def thread(self) -> None:
        self.free.wait(10)


@pytest.fixture
def quick_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give handlers and peers a tenth of the time to leave."""
    monkeypatch.setattr(server_module, "_ENDING", 0.1)
    monkeypatch.setattr(server_module, "_LEAVING", 0.05)


def wait(id: int) -> bytes:
    return call(id, b"Work.wait", b"\x90")


async def started(service: Any, **options: Any) -> fastrpc.Server:
    server = fastrpc.Server(log=CALM, **options)
    server.register(service)
    await server.start("tcp://127.0.0.1:0")
    return server


async def test_goaway_comes_in_two_steps_and_what_is_under_way_is_still_taken() -> None:
    service = Work()
    server = await started(service)
    async with await RawPeer.greeted(server.targets[0]) as peer:
        peer.send(wait(1))
        await until(lambda: server.stats().running == 1)
        closing = asyncio.ensure_future(server.aclose(grace=5.0))
        soon = await peer.frame()
        assert soon is not None
        assert (soon.kind, soon.status, soon.id) == (Kind.GOAWAY, 53, ID_MAX)
        peer.send(wait(2))  # was on its way when the first word came
        then = await peer.frame()
        assert then is not None
        assert (then.kind, then.status, then.id) == (Kind.GOAWAY, 53, 2)
        peer.send(wait(3), call(4), encode_frame(Kind.CANCEL, 9, status=42))
        for id in (3, 4):
            refused = await peer.reply(id)
            assert (refused.status, message(refused)) == (53, "the server is shutting down")
        assert await peer.until_pong(5) == []
        assert not closing.done()
        service.go_on.set()
        assert [(frame.id, frame.status) for frame in await peer.rest()] == [(1, 0), (2, 0)]
        await peer.aclose()
    await closing
    assert service.ended == 2
    assert_nothing_left(server)


async def test_idle_connections_are_closed_at_once() -> None:
    server = await started(Work())
    peers = [await RawPeer.greeted(server.targets[0]) for _ in range(5)]
    closing = asyncio.ensure_future(server.aclose(grace=600.0))
    for peer in peers:
        assert [frame.kind for frame in await peer.rest()] == [Kind.GOAWAY, Kind.GOAWAY]
        await peer.aclose()
    await closing
    assert_nothing_left(server)


async def test_who_has_not_said_hello_is_closed_without_a_word() -> None:
    server = await started(Work())
    peers = [await RawPeer.connect(server.targets[0]) for _ in range(3)]
    peers[1].send(hello_frame()[:10])
    await until(lambda: server.stats().connections == 3)
    await server.aclose(grace=600.0)
    for peer in peers:
        assert await peer.rest() == []
        await peer.aclose()
    assert_nothing_left(server)


async def test_handlers_that_do_not_end_are_stopped_when_the_grace_is_over() -> None:
    service = Work()
    server = await started(service)
    async with await RawPeer.greeted(server.targets[0]) as peer:
        peer.send(wait(1), call(2, b"Work.clean_up", b"\x90"))
        await until(lambda: server.stats().running == 2)
        began = time.monotonic()
        closing = asyncio.ensure_future(server.aclose(grace=0.1))
        replies = [frame for frame in await peer.rest() if frame.kind == Kind.CALL]
        assert [(frame.id, frame.status) for frame in replies] == [(1, 42), (2, 42)]
        assert message(replies[0]) == "Work.wait: the server is shutting down"
        await peer.aclose()
        await closing
        assert time.monotonic() - began >= 0.1
    assert service.ended == 2  # the one that cleans up was left the time to do so
    assert_nothing_left(server)


async def test_a_stubborn_handler_does_not_keep_the_server(
    caplog: pytest.LogCaptureFixture, quick_ending: None
) -> None:
    service = Work()
    server = fastrpc.Server()
    server.register(service)
    await server.start("tcp://127.0.0.1:0")
    async with await RawPeer.greeted(server.targets[0]) as peer:
        peer.send(call(1, b"Work.stubborn", b"\x90"), call(2, b"Work.thread", b"\x90"))
        await until(lambda: server.stats().running == 2)
        closing = asyncio.ensure_future(server.aclose(grace=0.05))
        assert {(f.id, f.status) for f in await peer.rest() if f.kind == Kind.CALL} == {
            (1, 42),
            (2, 42),
        }
        await closing
    assert "although they were cancelled: 2" in caplog.text
    assert server.stats().running == 1  # the thread's place is given up, the task's can't be
    service.go_on.set()
    service.free.set()
    assert server._answers is not None
    for task in server._answers.tasks:
        task.cancel()
    await until(lambda: not server.stats().running)
    assert_nothing_left(server)


async def test_grace_0_stops_at_once() -> None:
    service = Work()
    server = await started(service)
    async with await RawPeer.greeted(server.targets[0]) as peer:
        peer.send(wait(1))
        await until(lambda: server.stats().running == 1)
        closing = asyncio.ensure_future(server.aclose(grace=0.0))
        assert [(f.id, f.status) for f in await peer.rest() if f.kind == Kind.CALL] == [(1, 42)]
        await peer.aclose()
        await closing
    assert_nothing_left(server)


async def test_a_peer_that_does_not_hang_up_is_hung_up_on(quick_ending: None) -> None:
    server = await started(Work())
    peer = await RawPeer.greeted(server.targets[0])
    peer.writer.transport.pause_reading()
    await server.aclose(grace=0.0)
    assert_nothing_left(server)
    peer.writer.transport.abort()


async def test_results_that_wait_for_a_slow_reader_get_the_rest_of_the_grace() -> None:
    class Large:
        """Much to read."""

        def block(self) -> bytes:
            return bytes(12 * 2**20)

    server = await started(Large())
    async with await RawPeer.greeted(server.targets[0]) as peer:
        peer.writer.transport.pause_reading()
        peer.send(call(1, b"Large.block", b"\x90"))
        await until(lambda: server.stats().calls == 1)
        closing = asyncio.ensure_future(server.aclose(grace=20.0))
        await asyncio.sleep(0.1)
        assert not closing.done()
        peer.writer.transport.resume_reading()
        reply = await peer.reply(1)
        assert len(reply.payload) >= 12 * 2**20
    await closing
    assert_nothing_left(server)


async def test_closing_twice_and_from_two_places() -> None:
    service = Work()
    server = await started(service)
    async with await RawPeer.greeted(server.targets[0]) as peer:
        peer.send(wait(1))
        await until(lambda: server.stats().running == 1)
        both = [asyncio.ensure_future(server.aclose(grace=0.05)) for _ in range(2)]
        await peer.rest()
        await peer.aclose()
        await asyncio.gather(*both)
    await server.aclose()
    assert_nothing_left(server)
    with pytest.raises(fastrpc.ConfigError, match="closed"):
        await server.start("tcp://127.0.0.1:0")


async def test_a_close_that_is_cancelled_closes_at_once() -> None:
    service = Work()
    server = await started(service)
    async with await RawPeer.greeted(server.targets[0]) as peer:
        peer.send(wait(1))
        await until(lambda: server.stats().running == 1)
        closing = asyncio.ensure_future(server.aclose(grace=600.0))
        for _ in range(2):  # both words of it: it waits for the handler now
            assert await peer.frame() is not None
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        await until(lambda: service.ended == 1)
        assert repr(server).startswith("<Server closed")
    await until(lambda: not server.stats().running)
    assert_nothing_left(server)


async def test_a_handler_may_close_its_own_server() -> None:
    class Suicidal:
        """Ends it all."""

        async def stop(self) -> None:
            await self.server.aclose(grace=0.05)

        server: Any = None

    service = Suicidal()
    service.server = server = await started(service)
    async with await RawPeer.greeted(server.targets[0]) as peer:
        peer.send(call(1, b"Suicidal.stop", pack([])))
        replies = [frame for frame in await peer.rest() if frame.kind == Kind.CALL]
        assert [(frame.id, frame.status) for frame in replies] == [(1, 42)]
        await peer.aclose()
    await server.serve_forever()
    await until(lambda: not server.stats().running)
    assert_nothing_left(server)


async def test_clients_go_elsewhere_and_lose_nothing() -> None:
    class Named:
        """Says who answers."""

        def __init__(self, name: str) -> None:
            self.name = name

        async def who(self) -> str:
            await asyncio.sleep(0.001)
            return self.name

    first = await started(Named("first"))
    target = first.targets[0]
    async with fastrpc.connect(target, timeout=20.0) as client:
        names: list[str] = []

        async def ask() -> None:
            for _ in range(60):
                names.append(await client.call("Named.who"))

        asking = [asyncio.ensure_future(ask()) for _ in range(4)]
        await until(lambda: len(names) > 20)
        second = fastrpc.Server(log=CALM)
        second.register(Named("second"))
        first._entrances.close()  # so that the address is free for the second
        await second.start(target)
        closing = asyncio.ensure_future(first.aclose(grace=20.0))
        done, _ = await asyncio.wait(asking, timeout=10.0)
        assert len(done) == 4
        for task in done:
            task.result()
        await closing
    await second.aclose(grace=0.0)
    assert names[0] == "first"
    assert names[-1] == "second"
    assert len(names) == 240
    assert_nothing_left(first)
    assert_nothing_left(second)


async def test_handlers_on_lost_connections_are_waited_for(quick_ticks: None) -> None:
    service = Work()
    async with serving(service, log=CALM) as server:
        peer = await RawPeer.greeted(server.targets[0], ping_ms=1)
        peer.send(call(1, b"Work.clean_up", b"\x90"))
        await until(lambda: server.stats().running == 1)
        peer.writer.transport.abort()
        await until(lambda: not server.stats().connections)
    assert service.ended == 1


class Shielded:
    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.begun = asyncio.Event()
        self.log: list[str] = []

    @fastrpc.rpc(cancel="shield")
    async def book(self) -> None:
        self.begun.set()
        try:
            await self.go_on.wait()
            self.log.append("booked")
        except asyncio.CancelledError:
            await asyncio.sleep(0.12)  # more than what comes after the last cancel
            self.log.append("undone")
            raise


async def given_up(service: Shielded, server: fastrpc.Server, *, leave: bool) -> fastrpc.Client:
    """Call, give up, and perhaps hang up; return when the server knows."""
    client = fastrpc.connect(server.targets[0])
    task = asyncio.ensure_future(client.call("Shielded.book"))
    await service.begun.wait()
    task.cancel()
    if leave:
        await client.aclose()
        await until(lambda: not server.stats().connections)
    else:
        await client.ping()
    return client


@pytest.mark.usefixtures("quick_ticks")
@pytest.mark.parametrize("leave", [False, True], ids=["connected", "gone"])
async def test_a_shielded_handler_has_the_grace_though_its_caller_gave_up(leave: bool) -> None:
    service = Shielded()
    server = await started(service)
    client = await given_up(service, server, leave=leave)
    closing = asyncio.ensure_future(server.aclose(grace=10))
    await asyncio.sleep(0.06)  # past the moment when calls under way are taken
    service.go_on.set()
    await closing
    assert service.log == ["booked"]
    await client.aclose()


@pytest.mark.usefixtures("quick_ticks")
@pytest.mark.parametrize("leave", [False, True], ids=["connected", "gone"])
async def test_a_shielded_handler_is_stopped_when_the_grace_is_over(leave: bool) -> None:
    service = Shielded()
    server = await started(service)
    client = await given_up(service, server, leave=leave)
    await server.aclose(grace=0.01)
    assert service.log == ["undone"]
    await client.aclose()
