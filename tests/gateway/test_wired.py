"""Tongues on real connections of a server's: ends, floods, peers that read or write too slowly."""

import asyncio
import contextlib
import gc
import json
import logging
import os
import socket
import weakref
from collections.abc import AsyncIterator
from typing import Any

import msgpack
import pytest

import fastrpc
from fastrpc.gateway.wired import WiredVisitor
from fastrpc.session.watch import LINGER
from tests.gateway.party import Arith, request

pytestmark = pytest.mark.asyncio


class Peer:
    """The other end, by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def say(self, *messages: Any) -> None:
        self.writer.write(b"".join(json.dumps(one).encode() + b"\n" for one in messages))

    async def hear(self) -> Any:
        line = await self.reader.readline()
        return json.loads(line) if line else None

    async def ask(self, message: Any) -> Any:
        self.say(message)
        return await self.hear()


@contextlib.asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[tuple[fastrpc.Server, Arith, Any]]:
    """Serve, and give what connects to it."""
    server, arith = fastrpc.Server(**options), Arith()
    server.register(arith)
    await server.start("tcp://127.0.0.1:0")
    port = int(server.targets[0].rpartition(":")[2])
    peers: list[Peer] = []

    async def come(**more: Any) -> Peer:
        peers.append(Peer(*await asyncio.open_connection("127.0.0.1", port, **more)))
        return peers[-1]

    try:
        yield server, arith, come
    finally:
        for peer in peers:
            peer.writer.close()
        await server.aclose(grace=0)


async def visitor_of(server: fastrpc.Server) -> WiredVisitor:
    while True:
        for visitor in server._hall.admission.visitors:
            if isinstance(visitor, WiredVisitor):
                return visitor
        await asyncio.sleep(0)


async def test_both_tongues_come_in_by_the_same_port() -> None:
    async with serving() as (server, _, come):
        lines = await come()
        assert (await lines.ask(request("Arith.add", [1, 2])))["result"] == 3
        pack = await come()
        pack.writer.write(msgpack.packb([0, 1, "Arith.add", [1, 2]]))
        assert await pack.reader.readexactly(5) == b"\x94\x01\x01\xc0\x03"
        assert len(server.peers) == 2
        assert "WiredVisitor tcp://127.0.0.1:" in repr(await visitor_of(server))
    assert await lines.hear() is None
    assert await pack.reader.read() == b""


async def test_who_sends_no_more_still_has_its_answers() -> None:
    async with serving() as (_, arith, come):
        peer = await come()
        peer.say(request("Arith.wait", [], 1))
        peer.writer.write(json.dumps(request("Arith.add", [1, 2], 2)).encode())
        peer.writer.write_eof()
        assert (await peer.hear())["result"] == 3
        arith.gate.set()
        assert await peer.hear() == {"jsonrpc": "2.0", "id": 1, "result": "done"}
        assert await peer.hear() is None


async def test_who_is_gone_has_its_calls_cancelled() -> None:
    async with serving() as (server, arith, come):
        peer = await come()
        peer.say(request("Arith.wait", [], 1))
        await peer.ask(request("Arith.add", [1, 2], 2))
        pack = await come()
        pack.writer.write(msgpack.packb([0, 1, "Arith.wait", []]))
        pack.writer.write(msgpack.packb([0, 2, "Arith.add", [1, 2]]))
        await pack.reader.readexactly(5)
        for gone in (peer, pack):
            gone.writer.transport.abort()
        while arith.given_up < 2:  # only writing to a peer tells that it is gone
            for visitor in server._hall.admission.visitors:
                visitor.slow_tick(server._hall.clock(), False)
            await asyncio.sleep(0.001)
        while server.peers:
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("tongue", ["json", "msgpack"])
async def test_nothing_of_who_is_gone_waits_for_the_garbage_collector(tongue: str) -> None:
    async with serving() as (server, arith, come):
        gc.disable()
        try:
            peer = await come()
            if tongue == "json":  # a batch that is not whole, and holds what is
                peer.say([request("Arith.blob", [90_000], 1), request("Arith.wait", [], 2)])
                await peer.ask(request("Arith.add", [1, 2], 3))
            else:
                peer.writer.write(msgpack.packb([0, 1, "Arith.wait", []]))
                peer.writer.write(msgpack.packb([0, 2, "Arith.add", [1, 2]]))
                await peer.reader.readexactly(5)
            left = _parts_of(await visitor_of(server))
            peer.writer.transport.abort()
            while any(each() is not None for each in left) and server._hall.admission.visitors:
                for visitor in server._hall.admission.visitors:
                    visitor.slow_tick(server._hall.clock(), False)
                visitor = None
                await asyncio.sleep(0.001)
            for _ in range(20):
                await asyncio.sleep(0)
            assert [each() for each in left] == [None] * 3
            assert arith.given_up == 1
        finally:
            gc.enable()


def _parts_of(visitor: WiredVisitor) -> list[weakref.ref[Any]]:
    translation = visitor._translation
    assert translation is not None
    return [weakref.ref(each) for each in (visitor, translation.tongue, translation.bridge)]


@pytest.mark.parametrize("nonsense", [b"\x94\x05\x01\x01\x01", b"\x93\xc1", b"\x93"])
async def test_who_speaks_no_msgpack_rpc_is_left(
    nonsense: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving() as (_, _, come):
        peer = await come()
        peer.writer.write(msgpack.packb([0, 1, "Arith.add", [1, 2]]) + nonsense)
        peer.writer.write_eof()
        assert await peer.reader.read() == b"\x94\x01\x01\xc0\x03"
    assert "closing: " in caplog.text


async def test_a_line_that_has_no_end_is_told_and_then_left(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving(max_body=1000) as (_, _, come):
        peer = await come()
        assert (await peer.ask(request("Arith.add", [1, 2])))["result"] == 3
        with contextlib.suppress(ConnectionError):
            for _ in range(80):
                peer.writer.write(b" " * 2**20)
                await peer.writer.drain()
        assert (await peer.hear())["error"]["code"] == -32046
        # What is said to who is left comes with the end of the connection, or not at all.
        with contextlib.suppress(ConnectionError):
            last = await peer.hear()
            assert last is None or last["id"] is None
    assert "a line has more than" in caplog.text


@pytest.mark.slow
async def test_large_answers_do_not_pile_up_for_who_does_not_read() -> None:
    async with serving(max_unsent=200_000) as (server, _, come):
        peer = await come(limit=2**16)
        peer.reader._transport.pause_reading()  # type: ignore[attr-defined]
        peer.say(*(request("Arith.blob", [150_000], id) for id in range(400)))
        visitor = await visitor_of(server)
        while not visitor._translation or not visitor._translation.tongue.is_paused:
            await asyncio.sleep(0.001)
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert visitor.transport is not None
        assert visitor.transport.get_write_buffer_size() < 2_000_000  # of eighty millions
        peer.reader._transport.resume_reading()  # type: ignore[attr-defined]
        ids = []
        for _ in range(400):
            ids.append(json.loads(await _line(peer))["id"])
        assert ids == list(range(400))


async def _line(peer: Peer) -> bytes:
    """Return a line that may be longer than the reader's limit."""
    parts = []
    while True:
        try:
            parts.append(await peer.reader.readuntil(b"\n"))
            return b"".join(parts)
        except asyncio.LimitOverrunError as error:
            parts.append(await peer.reader.readexactly(error.consumed))


@pytest.mark.slow
@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_items_wait_for_who_does_not_read() -> None:
    async with serving() as (server, _, come):
        peer = await come()
        peer.reader._transport.pause_reading()  # type: ignore[attr-defined]
        peer.say(request("Arith.count", [200_000], "s"))
        visitor = await visitor_of(server)
        while not visitor._translation or not visitor._translation.tongue.is_paused:
            await asyncio.sleep(0.001)
        assert visitor.transport is not None
        assert visitor.transport.get_write_buffer_size() < 4_000_000
        peer.reader._transport.resume_reading()  # type: ignore[attr-defined]
        for number in range(200_000):
            line = await peer.reader.readline()
            if number % 50_000 == 0:
                assert json.loads(line)["params"] == {"id": "s", "item": number}
        assert await peer.hear() == {"jsonrpc": "2.0", "id": "s", "result": None}


async def test_a_message_that_comes_byte_by_byte_for_ever_ends_the_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving(frame_timeout=5.0) as (server, _, come):
        peer = await come()
        await peer.ask(request("Arith.add", [1, 2]))
        visitor = await visitor_of(server)
        now = server._hall.clock()
        visitor.slow_tick(now + 1, False)
        visitor.slow_tick(now + 100, False)  # nothing is under way: it may be silent
        peer.writer.write(b'{"jsonrpc"')
        while not visitor._translation or not visitor._translation.tongue.is_waiting:
            await asyncio.sleep(0.001)
        for second in range(101, 106):
            visitor.slow_tick(now + second, False)
        assert visitor.transport is not None
        assert not visitor.transport.is_closing()
        visitor.slow_tick(now + 107.5, False)
        assert await peer.hear() is None
    assert "a message takes longer than 5 s" in caplog.text


@pytest.mark.parametrize("first", [b"\n", b" \r\n"])
async def test_who_sends_no_whole_message_has_said_nothing(
    first: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(hello_timeout=5.0, frame_timeout=30.0) as (server, _, come):
        silent = await come()
        silent.writer.write(first)
        visitor = await visitor_of(server)
        while not visitor._bytes_in:
            await asyncio.sleep(0.001)
        assert visitor in server._hall.admission._pending
        visitor.slow_tick(visitor.since + 4.9, False)
        visitor.slow_tick(visitor.since + 90, True)  # the loop was blocked: that proves nothing
        assert visitor.transport is not None
        silent.writer.write(b'{"jsonrpc": "2.0",')  # on its way: now it has frame_timeout
        while visitor._translation is None or not visitor._translation.tongue.is_waiting:
            await asyncio.sleep(0.001)
        visitor.slow_tick(visitor.since + 6, False)
        assert visitor in server._hall.admission._pending
        silent.writer.write(b'"method":"Arith.add","params":[1,2],"id":1}\n')
        assert (await silent.hear())["result"] == 3
        assert visitor not in server._hall.admission._pending
        visitor.slow_tick(visitor.since + 99, False)  # it may be silent for ever now
        assert visitor.transport is not None
        assert "no message" not in caplog.text


async def test_who_sends_one_byte_is_left_after_hello_timeout(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving(hello_timeout=5.0) as (server, _, come):
        peer = await come()
        peer.writer.write(b"\n")
        visitor = await visitor_of(server)
        while not visitor._bytes_in:
            await asyncio.sleep(0.001)
        visitor.slow_tick(visitor.since + 5.1, False)
        with contextlib.suppress(ConnectionError):
            assert await peer.hear() is None
        while server._hall.admission.visitors:
            await asyncio.sleep(0)
    assert "closing: no message within 5 s" in caplog.text


async def test_the_kernel_looks_after_who_says_nothing() -> None:
    async with serving(idle_ping=7.0, ping_timeout=12.0) as (server, _, come):
        await (await come()).ask(request("Arith.add", [1, 2]))
        visitor = await visitor_of(server)
        assert visitor.transport is not None
        fd = os.dup(visitor.transport.get_extra_info("socket").fileno())
        with socket.socket(fileno=fd) as sock:
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            names = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            assert [sock.getsockopt(socket.IPPROTO_TCP, name) for name in names] == [7, 3, 4]


async def test_a_server_that_leaves_lets_calls_end() -> None:
    async with serving() as (server, arith, come):
        peer = await come()
        peer.say(request("Arith.wait", [], 1))
        assert (await peer.ask(request("Arith.add", [1, 2], 2)))["result"] == 3
        closing = asyncio.ensure_future(server.aclose(grace=5))
        while not server._hall.is_closing:
            await asyncio.sleep(0)
        arith.gate.set()
        assert await peer.hear() == {"jsonrpc": "2.0", "id": 1, "result": "done"}
        assert await peer.hear() is None
        peer.writer.close()
        await closing


async def test_who_comes_too_late_is_turned_away(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with serving(max_connections=1) as (_, _, come):
        first = await come()
        await first.ask(request("Arith.add", [1, 2]))
        second = await come()
        second.say(request("Arith.add", [1, 2]))
        with contextlib.suppress(ConnectionError):
            assert await second.hear() is None
        assert (await first.ask(request("Arith.add", [1, 2])))["result"] == 3


async def test_calls_a_peer_and_dismisses_it() -> None:
    async with serving() as (server, _, come):
        peer = await come()
        await peer.ask(request("Arith.add", [1, 2]))
        (known,) = server.peers
        asked = asyncio.ensure_future(_call(known))
        question = await peer.hear()
        assert question["params"] == [21]
        peer.say({"jsonrpc": "2.0", "id": question["id"], "result": 42})
        assert await asked == 42
        known.dismiss("enough")
        goodbye = await peer.hear()
        assert (goodbye["id"], goodbye["error"]["message"]) == (None, "enough")
        assert goodbye["error"]["code"] == -32045
        assert await peer.hear() is None


async def _call(peer: Any) -> Any:
    return await peer.call("double", 21)


async def test_who_does_not_close_its_end_is_left_after_a_while() -> None:
    async with serving() as (server, _, come):
        peer = await come()
        await peer.ask(request("Arith.add", [1, 2]))
        visitor = await visitor_of(server)
        server.peers[0].dismiss("enough")
        await peer.hear()
        assert await peer.hear() is None  # our end of it is closed
        now = server._hall.clock()
        visitor.slow_tick(now, False)
        visitor.slow_tick(now + LINGER, False)
        visitor.slow_tick(now + 100, True)  # the loop was blocked: that proves nothing
        assert visitor.transport is not None
        assert not visitor.transport.is_closing()
        visitor.slow_tick(now + 101.1, False)
        while visitor.transport is not None:
            await asyncio.sleep(0)


async def test_who_reads_its_last_words_slowly_has_time_and_who_does_not_read_has_not() -> None:
    async with serving(write_stall=10.0) as (server, _, come):
        peer = await come()
        await peer.ask(request("Arith.add", [1, 2]))
        visitor = await visitor_of(server)
        peer.reader._transport.pause_reading()
        peer.say(*(request("Arith.blob", [900_000], id) for id in range(20)))
        assert visitor.transport is not None
        while not visitor.transport.get_write_buffer_size():
            await asyncio.sleep(0.001)
        server.peers[0].dismiss("enough")
        while visitor._translation is None or visitor._translation.is_open:
            await asyncio.sleep(0.001)
        now = server._hall.clock()
        for second in (0, 5, 10):
            visitor.slow_tick(now + second, False)
        assert not visitor.transport.is_closing()
        visitor.slow_tick(now + 10.1, False)
        while visitor.transport is not None:
            await asyncio.sleep(0)
