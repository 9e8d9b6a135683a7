"""Check what stands behind a WebSocket that was let in: a session, or a translator and one."""

import asyncio
import contextlib
import gc
import json
import logging
import ssl
import weakref
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

import fastrpc
from fastrpc.gateway.websocket import TextVisitor, open_websocket
from fastrpc.transport import listen, peer_of
from tests.server.serving import serving, use_twin
from tests.transport import certs
from tests.transport import websocket_raw as raw
from tests.transport.websocket_ends import connected
from tests.transport.websocket_raw import BINARY, CLOSE, PING, PONG, TEXT, close, put

if TYPE_CHECKING:
    from fastrpc.transport.websocket_handshake import Decision

pytestmark = pytest.mark.asyncio

KEY = "dGhlIHNhbXBsZSBub25jZQ=="


class Work:
    """What is served."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()
        self.begun = asyncio.Event()

    def add(self, a: int, b: int) -> int:
        return a + b

    def blob(self, size: int) -> str:
        return "x" * size

    async def count(self, n: int) -> AsyncIterator[int]:
        for number in range(n):
            yield number

    async def wait(self) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def back(self, peer: fastrpc.Peer = fastrpc.GIVEN) -> int:
        answer: int = await peer.call("Back.twice", 21)
        return answer


class Back:
    """What the server calls at a client."""

    def twice(self, n: int) -> int:
        return 2 * n


class Door(asyncio.Protocol):
    """The least of an HTTP door: it reads one head, and asks for WebSocket."""

    def __init__(self, hall: Any, origins: tuple[str, ...]) -> None:
        self._hall = hall
        self._origins = origins
        self._seen = b""
        self.peer = ""
        self.decision: Decision | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.peer = peer_of(transport)
        self._hall.arrive(self)

    def data_received(self, data: bytes) -> None:
        self._seen += data
        head, end, early = self._seen.partition(b"\r\n\r\n")
        if not end:
            return
        first, *lines = head.split(b"\r\n")
        method, target, _ = first.decode().split(" ")
        headers = [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]
        self.decision = open_websocket(
            self._hall, self, self._transport, method, target, headers, early,
            origins=self._origins,
        )  # fmt: skip
        if not self.decision.subprotocol:
            self._transport.write(self.decision.response)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._hall.depart(self)

    def leave(self) -> None:
        pass

    def abort(self, cause: Exception) -> None:
        self._transport.abort()


@contextlib.asynccontextmanager
async def door(
    work: Any, *, origins: tuple[str, ...] = (), **options: Any
) -> AsyncIterator[tuple[fastrpc.Server, str]]:
    """Serve *work* behind a door; give the server and host:port."""
    async with serving(work, **options) as server:
        listener = await listen("tcp://127.0.0.1:0", lambda: Door(server._hall, origins))
        try:
            yield server, listener.targets[0].removeprefix("tcp://")
        finally:
            listener.close()
            await listener.wait_closed()


def request(place: str, subprotocol: str, *more: str) -> bytes:
    lines = [
        "GET /rpc HTTP/1.1",
        f"Host: {place}",
        "Upgrade: websocket",
        "Connection: keep-alive, Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Protocol: {subprotocol}",
        *more,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


class Text:
    """A JSON-RPC peer over a raw WebSocket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def say(self, *messages: Any) -> None:
        for message in messages:
            self.writer.write(put(TEXT, json.dumps(message).encode()))

    def ask(self, id: int, method: str, *params: Any) -> None:
        self.say({"jsonrpc": "2.0", "id": id, "method": method, "params": params})

    async def hear(self) -> Any:
        frame = await raw.get(self.reader)
        assert frame.opcode == TEXT, frame
        return json.loads(frame.payload)


@contextlib.asynccontextmanager
async def talking(place: str, *, early: bytes = b"") -> AsyncIterator[Text]:
    """Speak JSON-RPC with who is at *place*."""
    async with asyncio.timeout(10), connected(place) as (reader, writer):
        writer.write(request(place, "jsonrpc") + early)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        yield Text(reader, writer)


# Binary


async def test_every_style_of_call_over_a_binary_one(
    twin: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_twin(monkeypatch, twin)
    async with contextlib.AsyncExitStack() as stack:
        server, place = await stack.enter_async_context(door(Work(), max_body=4 * 2**20))
        client = fastrpc.connect(f"ws://{place}/rpc", max_body=4 * 2**20)
        client.register(Back())
        await stack.enter_async_context(client)
        assert await client.call("Work.add", 1, 2) == 3
        assert [n async for n in client.stream("Work.count", 1000)] == list(range(1000))
        assert len(await client.call("Work.blob", 3_000_000)) == 3_000_000
        assert await client.call("Work.back") == 42
        sums = await asyncio.gather(*[client.call("Work.add", n, n) for n in range(500)])
        assert sums == [2 * n for n in range(500)]
        assert server.stats().connections == 1
        assert len(server.peers) == 1


async def test_calls_that_come_with_the_request() -> None:
    """A foreign client may send behind its request; the bytes are kept."""
    async with door(Work()) as (_, place), connected(place) as (reader, writer):
        writer.write(request(place, "fastrpc.1") + put(PING, b"early") + close(1000))
        await reader.readuntil(b"\r\n\r\n")
        found = await raw.rest(reader)
        assert [frame.opcode for frame in found] == [PONG, CLOSE]


async def test_a_client_that_goes_takes_its_calls_along() -> None:
    work = Work()
    async with door(work) as (server, place):
        async with fastrpc.connect(f"ws://{place}") as client:
            calling = asyncio.ensure_future(client.call("Work.wait"))
            await work.begun.wait()
            client.lanes[0].owner._transport.abort()
            with pytest.raises(fastrpc.ConnectionLost):
                await calling
        async with asyncio.timeout(5):
            await work.cancelled.wait()
            while server.stats().connections:
                await asyncio.sleep(0.001)


async def test_nothing_of_who_is_gone_waits_for_the_garbage_collector() -> None:
    work = Work()
    async with door(work) as (server, place):
        gc.disable()
        try:
            async with talking(place) as peer:
                peer.ask(1, "Work.wait")
                await work.begun.wait()
                left = _parts_of(server)
                peer.writer.transport.abort()
                while server.stats().connections:
                    await asyncio.sleep(0.001)
            for _ in range(20):
                await asyncio.sleep(0)
            assert [each() for each in left] == [None] * 4
        finally:
            gc.enable()


def _parts_of(server: fastrpc.Server) -> list[weakref.ref[Any]]:
    (visitor,) = server._hall.admission.visitors
    assert isinstance(visitor, TextVisitor)
    translation = visitor._translation
    assert translation is not None
    parts = (visitor, visitor.end, translation.tongue, translation.bridge)
    return [weakref.ref(each) for each in parts]


async def test_a_server_that_stops_tells_a_binary_client() -> None:
    async with door(Work()) as (server, place):
        async with fastrpc.connect(f"ws://{place}", connect_timeout=2.0) as client:
            assert await client.call("Work.add", 1, 2) == 3
            session = client.lanes[0].owner
            await server.aclose(5)
            await session.gone()
            assert "closed" in str(session.cause)


async def test_a_fault_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    for subprotocol in ("fastrpc.1", "jsonrpc"):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "fastrpc.server"):
            async with door(Work()) as (_, place), connected(place) as (reader, writer):
                writer.write(request(place, subprotocol) + put(BINARY, b"x", rsv=3))
                await reader.readuntil(b"\r\n\r\n")
                assert (await raw.rest(reader))[-1].code == 1002
        (record,) = [each for each in caplog.records if each.levelno >= logging.WARNING]
        assert "1002: reserved bits" in record.getMessage()


# Who is refused


@pytest.mark.parametrize("subprotocol", ["fastrpc.1", "jsonrpc"])
async def test_a_page_of_another_site_is_refused(subprotocol: str) -> None:
    """T26: cross-site use from a browser."""
    async with door(Work(), origins=("https://ours.example",)) as (server, place):
        for origin, status in (
            ("https://evil.example", 403),
            ("null", 403),
            ("https://ours.example", 101),
            (f"http://{place}", 101),
        ):
            async with connected(place) as (reader, writer):
                writer.write(request(place, subprotocol, f"Origin: {origin}"))
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 %d " % status), origin
                if status == 403:
                    assert b"may not connect" in await reader.read()
        async with asyncio.timeout(5):
            while server.stats().connections:
                await asyncio.sleep(0.001)
        assert server.stats().calls == 0


async def test_a_client_is_told_why_it_was_refused() -> None:
    async with serving(Work()) as server:
        listener = await listen("tcp://127.0.0.1:0", lambda: Refusing(server._hall, ()))
        target = listener.targets[0].replace("tcp", "ws")
        with pytest.raises(fastrpc.ConnectFailed, match=r"403 Forbidden.*go away"):
            async with fastrpc.connect(target, connect_timeout=0.5):
                pass
        listener.close()
        await listener.wait_closed()


class Refusing(Door):
    """Refuses everybody."""

    def data_received(self, data: bytes) -> None:
        text = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 7\r\n\r\ngo away"
        self._transport.write(text)


# Text


async def test_calls_batches_notifications_and_errors_as_text() -> None:
    async with door(Work()) as (server, place), talking(place) as peer:
        peer.ask(1, "Work.add", 1, 2)
        assert await peer.hear() == {"jsonrpc": "2.0", "id": 1, "result": 3}
        peer.say({"jsonrpc": "2.0", "method": "Work.add", "params": [1, 2]})
        peer.say(
            [{"jsonrpc": "2.0", "id": n, "method": "Work.add", "params": [n, n]} for n in (2, 3)]
        )
        assert {each["result"] for each in await peer.hear()} == {4, 6}
        peer.ask(4, "Work.none")
        assert (await peer.hear())["error"]["code"] == -32601
        peer.writer.write(put(TEXT, b"{nonsense"))
        assert (await peer.hear())["error"]["code"] == -32700
        assert server.stats().connections == 1
        assert isinstance(server._hall.admission.visitors[0], TextVisitor)
        assert "TextVisitor" in repr(server._hall.admission.visitors[0])
        peer.writer.write(close(1000))
        assert [frame.code for frame in await raw.rest(peer.reader)] == [1000]


async def test_items_come_as_notifications() -> None:
    async with door(Work()) as (_, place), talking(place) as peer:
        peer.ask(7, "Work.count", 3)
        heard = [await peer.hear() for _ in range(4)]
        assert [each["method"] for each in heard[:3]] == ["rpc.item"] * 3
        assert heard[3]["id"] == 7


async def test_the_server_calls_a_text_peer() -> None:
    async with door(Work()) as (_, place), talking(place) as peer:
        peer.ask(1, "Work.back")
        asked = await peer.hear()
        assert (asked["method"], asked["params"]) == ("Back.twice", [21])
        peer.say({"jsonrpc": "2.0", "id": asked["id"], "result": 42})
        assert await peer.hear() == {"jsonrpc": "2.0", "id": 1, "result": 42}


async def test_a_text_that_comes_with_the_request() -> None:
    early = put(TEXT, b'{"jsonrpc": "2.0", "id": 1, "method": "Work.add", "params": [1, 2]}')
    async with door(Work()) as (_, place), talking(place, early=early) as peer:
        assert (await peer.hear())["result"] == 3


async def test_bytes_are_no_text_and_a_text_may_be_too_long() -> None:
    async with door(Work(), max_body=1000) as (_, place):
        for wrong, code in ((put(BINARY, b"x"), 1003), (put(TEXT, b"x" * 100_000), 1009)):
            async with talking(place) as peer:
                peer.writer.write(wrong)
                assert [frame.code for frame in await raw.rest(peer.reader)] == [code]


async def test_a_peer_that_goes_takes_its_calls_along() -> None:
    work = Work()
    async with door(work) as (server, place):
        async with talking(place) as peer:
            peer.ask(1, "Work.wait")
            await work.begun.wait()
        async with asyncio.timeout(5):
            await work.cancelled.wait()
            while server.stats().connections:
                await asyncio.sleep(0.001)


async def test_a_server_that_stops_says_so_in_its_close() -> None:
    async with door(Work()) as (server, place), talking(place) as peer:
        peer.ask(1, "Work.add", 1, 2)
        await peer.hear()
        stopping = asyncio.ensure_future(server.aclose(5))
        said = await raw.get(peer.reader)
        assert (said.opcode, said.code) == (CLOSE, 1001)
        peer.writer.write(close(1001))
        assert await raw.rest(peer.reader) == []
        await stopping


async def test_a_server_that_stops_at_once_hangs_up() -> None:
    async with door(Work()) as (server, place), talking(place) as peer:
        peer.ask(1, "Work.add", 1, 2)
        await peer.hear()
        (visitor,) = server._hall.admission.visitors
        visitor.abort(fastrpc.ConnectionLost("enough"))
        assert await raw.rest(peer.reader) == []


async def test_who_comes_while_the_server_stops_is_turned_away() -> None:
    async with door(Work()) as (server, place):
        server._hall.is_closing = True
        async with connected(place) as (reader, writer):
            writer.write(request(place, "jsonrpc"))
            assert await raw.rest(reader) == []


async def test_a_reader_that_does_not_read_is_waited_for_and_loses_nothing() -> None:
    """T9, text: what is not read stops the reading of more."""
    async with door(Work(), write_stall=30.0) as (server, place), talking(place) as peer:
        peer.reader._transport.pause_reading()  # type: ignore[attr-defined]
        count, size = 40, 500_000
        for id in range(count):
            peer.ask(id, "Work.blob", size)
        (session,) = server._hall.sessions
        async with asyncio.timeout(10):
            while not session.lane.paused:
                await asyncio.sleep(0.001)
        held = session.unsent()
        limit = session.side.limits.max_unsent
        assert held < limit + 2 * size
        peer.reader._transport.resume_reading()  # type: ignore[attr-defined]
        heard = sorted([(await peer.hear())["id"] for _ in range(count)])
        assert heard == list(range(count))


async def test_a_text_that_comes_byte_by_byte_for_ever_ends_the_connection() -> None:
    async with door(Work(), frame_timeout=5.0) as (server, place), talking(place) as peer:
        (visitor,) = server._hall.admission.visitors
        assert isinstance(visitor, TextVisitor)
        peer.writer.write(put(TEXT, b"x" * 100)[:50])
        while not visitor.end.is_waiting:
            await asyncio.sleep(0.001)
        now = server._hall.clock()
        for second in (0, 1, 7):
            visitor.slow_tick(now + second, False)
        (last,) = await raw.rest(peer.reader)
        assert (last.code, last.payload[2:]) == (1008, b"a message takes longer than 5 s")


# Encrypted


async def test_over_tls() -> None:
    """A fault too: over TLS no direction ends alone, and the words arrive all the same."""
    tls = fastrpc.TlsOptions(cert=certs.server_cert())
    async with serving(Work(), "wss://127.0.0.1:0", tls=tls) as server:
        target = server.targets[0]
        assert target.startswith("wss://")
        async with fastrpc.connect(target, tls=fastrpc.TlsOptions(ca=certs.ca())) as client:
            assert await client.call("Work.add", 1, 2) == 3
            assert len(await client.call("Work.blob", 3_000_000)) == 3_000_000
            sums = await asyncio.gather(*[client.call("Work.add", n, n) for n in range(300)])
            assert sums == [2 * n for n in range(300)]
        place = target.removeprefix("wss://")
        host, _, port = place.rpartition(":")
        trusted = ssl.create_default_context(cafile=certs.ca())
        reader, writer = await asyncio.open_connection(host, int(port), ssl=trusted)
        writer.write(request(place, "jsonrpc") + put(TEXT, b"\xff") + put(TEXT, b"x" * 500_000))
        await reader.readuntil(b"\r\n\r\n")
        assert (await raw.get(reader)).code == 1007
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
