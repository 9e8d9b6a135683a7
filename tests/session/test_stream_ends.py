"""However a stream ends, both sides know, and nobody sends or waits afterwards."""

import asyncio
import gc
import logging
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

import fastrpc
from fastrpc.frame import encode_frame
from fastrpc.wire import Kind
from tests.client.served import sessions_of, turn_until
from tests.server.serving import serving
from tests.session.rig import MSGPACK, Rig

CALM = logging.getLogger("tests.calm")
CALM.setLevel(logging.CRITICAL)
pytestmark = pytest.mark.asyncio


class Flow:
    """Streams that can't, or won't, be stopped."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.gate = asyncio.Event()

    def add(self, a: int, b: int) -> int:
        return a + b

    async def echo(self, items: AsyncIterator[int]) -> AsyncIterator[int]:
        async for item in items:
            yield item

    async def count(self, most: int) -> AsyncIterator[int]:
        for number in range(most):
            yield number
            if number % 10 == 0:
                await asyncio.sleep(0)

    @fastrpc.rpc(cancel="shield")
    async def total(self, items: AsyncIterator[int]) -> int:
        try:
            return sum([item async for item in items])
        except fastrpc.FastRPCError as exc:
            self.ended.append(f"{type(exc).__name__}: {exc}")
            raise

    @fastrpc.rpc(cancel="shield")
    async def chunks(self, most: int) -> AsyncIterator[bytes]:
        try:
            for _ in range(most):
                yield bytes(1000)
        finally:
            self.ended.append("closed")

    async def stubborn(self) -> AsyncIterator[int]:
        yield 0
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.ended.append("cancelled")
        await self.gate.wait()
        for number in range(50):
            yield number
        self.ended.append("not reached")

    async def back(self, peer: fastrpc.Peer = fastrpc.GIVEN) -> int:
        await self.gate.wait()
        got: int = await peer.call("Back.twice", 21)
        return got


class Back:
    def twice(self, n: int) -> int:
        return 2 * n


async def failing() -> AsyncIterator[int]:
    yield 1
    yield 2
    raise LookupError("the source broke")


async def test_a_source_that_fails_is_no_ordinary_end() -> None:
    async with serving(Flow(), log=CALM) as server, fastrpc.connect(server.targets[0]) as client:
        got = []
        with pytest.raises(LookupError, match="the source broke"):
            async for item in client.stub(Flow).echo(failing()):
                got.append(item)
        assert got == [1, 2][: len(got)]
        await turn_until(lambda: not server.stats().running)


async def test_who_reads_a_stream_that_is_cancelled_is_told() -> None:
    async with serving(Flow(), log=CALM) as server, fastrpc.connect(server.targets[0]) as client:
        stream = client.stream("Flow.count", 10**9)
        got: list[int] = []

        async def read() -> None:
            async for item in stream:
                got.append(item)

        reading = asyncio.ensure_future(read())
        await turn_until(lambda: len(got) > 5)
        stream.cancel()
        with pytest.raises(fastrpc.Cancelled, match=r"Flow\.count: given up here"):
            await reading
        assert got == list(range(len(got)))
        with pytest.raises(fastrpc.Cancelled):
            await stream.result()


async def test_a_shielded_handler_is_told_that_no_more_items_come() -> None:
    flow = Flow()
    async with serving(flow, log=CALM) as server, fastrpc.connect(server.targets[0]) as client:
        async with client.stream("Flow.total") as stream:
            await stream.send(1)
            await turn_until(lambda: server.stats().running)
        await turn_until(lambda: not server.stats().running)
        assert flow.ended == ["Cancelled: Flow.total: the call is over"]


async def test_a_shielded_handler_is_told_that_the_connection_is_gone() -> None:
    flow = Flow()
    async with serving(flow, log=CALM) as server, fastrpc.connect(server.targets[0]) as client:
        async with client.stream("Flow.total") as stream:
            await stream.send(1)
            await turn_until(lambda: server.stats().running)
            for session in sessions_of(server):
                session.abort(fastrpc.ConnectionLost("cut"))
            await turn_until(lambda: flow.ended)
        assert flow.ended == ["ConnectionLost: Flow.total: cut"]


async def test_a_shielded_generator_ends_when_nobody_takes_its_items() -> None:
    flow = Flow()
    async with serving(flow, log=CALM) as server, fastrpc.connect(server.targets[0]) as client:
        async for _ in client.stream("Flow.chunks", 10**6):
            break
        await turn_until(lambda: flow.ended == ["closed"])
        await turn_until(lambda: not server.stats().running)


async def test_nothing_is_sent_after_the_end_although_the_handler_goes_on() -> None:
    flow = Flow()
    async with serving(flow, log=CALM) as server, fastrpc.connect(server.targets[0]) as client:
        with pytest.raises(fastrpc.DeadlineExceeded):
            async for _ in client.options(timeout=0.02).stream("Flow.stubborn"):
                pass
        await turn_until(lambda: flow.ended == ["cancelled"])
        (session,) = sessions_of(server)
        assert await client.call("Flow.add", 1, 2) == 3
        sent = session.lane.bytes_out
        flow.gate.set()
        await turn_until(lambda: not server.stats().running)
        assert (session.lane.bytes_out, session.lane.unsent) == (sent, 0)
        assert flow.ended == ["cancelled"]


@pytest.mark.slow
async def test_to_leave_streams_half_way_is_no_abuse() -> None:
    async with serving(Flow(), log=CALM, max_calls=16) as server:
        async with fastrpc.connect(server.targets[0]) as client:
            (lane,) = client.lanes
            for _ in range(1200):
                async for _ in client.stream("Flow.count", 1000):
                    break
            assert client.lanes == [lane], "the connection was cut"


async def test_to_open_streams_only_to_cancel_them_is() -> None:
    async with serving(Flow(), log=CALM, max_calls=16) as server:
        async with fastrpc.connect(server.targets[0]) as client:
            await client.call("Flow.add", 1, 2)
            (lane,) = client.lanes
            for _ in range(1100):
                stream = client.stream("Flow.count", 1000)
                aiter(stream)
                stream.cancel()
            await turn_until(lambda: lane not in client.lanes)


async def test_a_stream_that_another_thread_drops_is_given_up_by_the_loop() -> None:
    async with serving(Flow(), log=CALM) as server, fastrpc.connect(server.targets[0]) as client:
        holder: list[Any] = [client.stream("Flow.count", 10**9)]
        await anext(aiter(holder[0]))
        (lane,) = client.lanes
        session = lane.owner
        started = []

        def drop() -> None:
            started.append(threading.get_ident())
            holder.clear()

        await asyncio.to_thread(drop)
        assert started != [threading.get_ident()]
        await turn_until(lambda: not session.streams.own)
        await turn_until(lambda: not server.stats().running)


async def test_a_stream_may_outlive_its_loop() -> None:
    server = fastrpc.Server(log=CALM)
    server.register(Flow())
    await server.start("tcp://127.0.0.1:0")
    kept: list[Any] = []
    target = server.targets[0]

    def elsewhere() -> None:
        async def leave() -> None:
            client = fastrpc.connect(target)
            stream = client.stream("Flow.count", 10**9)
            await anext(aiter(stream))
            kept.extend((client, stream))

        asyncio.run(leave())

    await asyncio.to_thread(elsewhere)

    def forget() -> None:
        kept.clear()
        gc.collect()

    with pytest.warns(ResourceWarning):  # the transport that nobody closed
        forget()
    await server.aclose(0)


async def test_while_a_server_drains_its_handlers_may_call_their_clients() -> None:
    flow = Flow()
    async with serving(flow, log=CALM) as server:
        client = fastrpc.connect(server.targets[0])
        client.register(Back())
        async with client:
            call = asyncio.ensure_future(client.call("Flow.back"))
            await turn_until(lambda: server.stats().running)
            closing = asyncio.ensure_future(server.aclose(grace=10))
            await turn_until(lambda: not client.lanes)  # it has heard of it
            flow.gate.set()
            assert await call == 42
            await closing


async def test_a_client_that_leaves_is_called_no_more() -> None:
    """A GOAWAY of the client's own: only a peer that is no fastrpc client says it."""
    async with serving(Flow(), log=CALM) as server:
        client = fastrpc.connect(server.targets[0])
        client.register(Back())
        async with client:
            (lane,) = client.lanes
            (peer,) = server.peers
            assert await peer.call("Back.twice", 1) == 2
            lane.owner.drain()
            await turn_until(lambda: not peer.is_open)
            with pytest.raises(fastrpc.ConnectionDraining):
                await peer.call("Back.twice", 1)


async def test_two_ends_that_send_more_than_either_reads_do_not_wait_for_each_other() -> None:
    class Both:
        async def swap(self, items: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            for _ in range(200):  # before it has read any
                yield bytes(20_000)
            total = 0
            async for item in items:
                total += len(item)
            yield b"%d" % total

    async def source() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield bytes(20_000)

    window = 64 * 2**20
    for target in ("mem://two-ends", "tcp://127.0.0.1:0"):
        async with serving(Both(), target, log=CALM, window=window) as server:
            client = fastrpc.connect(server.targets[0], window=window)
            client.register(Back())  # so both ends answer calls
            async with client, asyncio.timeout(5):
                got = [item async for item in client.stub(Both).swap(source())]
                assert sum(map(len, got[:-1])) == 4_000_000
                assert got[-1] == b"4000000"


async def test_a_client_reads_on_only_as_far_as_its_answers_may_wait() -> None:
    rig = Rig(Back(), client=True, max_unsent=100_000).greet()

    def twice(*ids: int) -> bytes:
        return b"".join(
            encode_frame(Kind.CALL, id, name=b"Back.twice", serializer=MSGPACK, payload=b"\x91\x05")
            for id in ids
        )

    rig.session.pause_writing()
    rig.transport.unread = 70_000
    rig.read(twice(1, 2, 3))
    assert [frame.id for frame in rig.frames()] == [1, 2, 3]
    assert rig.transport.is_reading()
    rig.transport.unread = 100_000
    rig.read(twice(4, 5, 6))
    assert [frame.id for frame in rig.frames()] == [4], "one is answered, and then no more"
    assert not rig.transport.is_reading()
    rig.transport.unread = 0
    rig.session.resume_writing()
    assert [frame.id for frame in rig.frames()] == [5, 6]
    assert rig.transport.is_reading()
    rig.session.close()
    rig.lose()


async def test_the_end_that_accepted_stops_reading_at_once() -> None:
    rig = Rig(Back()).greet()
    rig.session.pause_writing()
    assert not rig.transport.is_reading()
    rig.session.resume_writing()
    assert rig.transport.is_reading()
    rig.session.close()
    rig.lose()
