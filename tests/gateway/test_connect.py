"""Connections that begin as HTTP and go on as something else."""

import asyncio
import contextlib
import json
import logging

import pytest

import fastrpc
from fastrpc.frame import Frame, FrameDecoder
from fastrpc.gateway.connect import CONNECTED, SWITCHED
from fastrpc.server.http import HttpOptions
from fastrpc.wire import Kind
from tests.adversity.conftest import Clock, clock  # noqa: F401 - a fixture
from tests.adversity.raw_peer import call, hello_frame, pack
from tests.gateway.asking import PATIENCE, Arith, Asker, asked, get, post
from tests.server.serving import serving, until

CALM = logging.getLogger("tests.calm")
UPGRADE = get("/", Connection="Upgrade", Upgrade="fastrpc")
ADD = call(1, b"Arith.add", pack([1, 2]))


def websocket(subprotocol: str) -> bytes:
    """Return a request to speak WebSocket."""
    return get("/", Connection="Upgrade", Upgrade="websocket", Sec_WebSocket_Version="13",
               Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==",
               Sec_WebSocket_Protocol=subprotocol)  # fmt: skip


async def frames(asker: Asker, count: int) -> list[Frame]:
    """Read so many frames."""
    decoder, found = FrameDecoder(), []
    async with asyncio.timeout(PATIENCE):
        while len(found) < count:
            data = await asker.reader.read(65536)
            assert data, found
            found += decoder.feed(data)
    return found


@pytest.mark.asyncio
@pytest.mark.parametrize("early", [True, False], ids=["early", "later"])
async def test_upgrade_leads_to_the_binary_protocol(early: bool) -> None:
    async with asked() as (server, _, asker):
        asker.send(UPGRADE, hello_frame() + ADD if early else b"")
        assert (await asker.head()).head == SWITCHED
        if not early:
            asker.send(hello_frame(), ADD)
        said, reply = await frames(asker, 2)
        assert (said.kind, said.status, reply.payload) == (Kind.HELLO, 0, b"\x03")
        assert server.stats().connections == 1
        assert [type(each).__name__ for each in server._hall.admission.visitors] == ["Session"]


@pytest.mark.asyncio
async def test_upgrade_after_calls_lets_their_session_go() -> None:
    async with asked() as (server, _, asker):
        assert (await asker.ask(post("/rpc/Arith.add", b"[1,2]"))).body == b"3"
        asker.send(UPGRADE, hello_frame())
        assert (await asker.head()).status == 101
        await frames(asker, 1)
        assert len(server.peers) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("request_", "http"),
    [
        (get("/", method="POST", Connection="Upgrade", Upgrade="fastrpc"), 400),
        (get("/", version="1.0", Connection="Upgrade", Upgrade="fastrpc"), 400),
        (get("/", Connection="Upgrade", Upgrade="fastrpc", Content_Length="1"), 400),
        (get("/", Upgrade="fastrpc"), 404),
        (get("/", Connection="Upgrade", Upgrade="h2c"), 404),
        (get("/", Connection="Upgrade", Upgrade="websocket"), 400),
        (get("/", Connection="Upgrade", Upgrade="fastrpc", Origin="http://evil.example"), 403),
        (get("example.com:80", method="CONNECT"), 405),
        (get("/x", method="CONNECT", Content_Length="5"), 400),
    ],
)
async def test_what_can_not_go_on_stays_http(request_: bytes, http: int) -> None:
    async with asked() as (_, _, asker):
        response = await asker.ask(request_, b"x" if b"Length: 1" in request_ else b"")
        assert response.status == http
        assert b"Switching" not in response.head


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "head",
    [
        b"CONNECT /_goRPC_ HTTP/1.0\n\n",
        b"CONNECT /_goRPC_ HTTP/1.0\r\n\r\n",
        b"CONNECT /x/y HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
@pytest.mark.parametrize("early", [True, False], ids=["early", "later"])
async def test_connect_leads_to_what_is_no_http(head: bytes, early: bool) -> None:
    async with asked() as (server, _, asker):
        asker.send(head, hello_frame() + ADD if early else b"")
        assert (await asker.head()).head == CONNECTED
        if not early:
            asker.send(hello_frame(), ADD)
        _, reply = await frames(asker, 2)
        assert reply.payload == b"\x03"
        assert server.stats().connections == 1


@pytest.mark.asyncio
async def test_json_rpc_behind_connect_as_go_speaks_it() -> None:
    async with asked() as (_, _, asker):
        asker.send(b"CONNECT /_goRPC_ HTTP/1.0\n\n")
        await asker.head()
        asker.send(b'{"method":"Arith.add","params":[1,2],"id":0}\n')
        async with asyncio.timeout(PATIENCE):
            answer = json.loads(await asker.reader.readline())
        assert (answer["id"], answer["result"]) == (0, 3)


@pytest.mark.asyncio
async def test_http_is_not_spoken_behind_connect() -> None:
    async with asked() as (_server, _, asker):
        asker.send(b"CONNECT /x HTTP/1.0\r\n\r\n", get("/healthz"))
        assert (await asker.head()).head == CONNECTED
        refused = await asker.answer()
        assert (refused.status, refused.headers["connection"]) == (400, "close")


@pytest.mark.asyncio
async def test_a_connection_that_goes_on_is_counted_once_and_stands_in_no_line_again() -> None:
    async with asked(max_connections=2, max_pending=1) as (server, _, asker):
        asker.send(b"CONNECT /x HTTP/1.0\r\n\r\n")
        await asker.head()
        (visitor,) = server._hall.admission.visitors
        assert type(visitor).__name__ == "Doorway"
        async with await Asker.connect(server.targets[0]) as second:  # nobody else is silent
            assert (await second.ask(get("/healthz"))).status == 200
            asker.send(hello_frame(), ADD)
            assert (await frames(asker, 2))[1].payload == b"\x03"
            stats = server.stats()
            assert (stats.accepted, stats.connections, stats.turned_away) == (2, 2, 0)
        asker.writer.close()
        await until(lambda: not server.stats().connections)


@pytest.mark.asyncio
async def test_who_says_nothing_behind_connect_has_no_more_time_than_others(clock: Clock) -> None:  # noqa: F811
    async with asked(log=CALM, hello_timeout=5.0) as (server, _, asker):
        asker.send(b"CONNECT /x HTTP/1.0\r\n\r\n")
        await asker.head()
        await clock.let_pass(server, 4.0)
        assert server.stats().connections == 1
        await clock.let_pass(server, 2.0)
        await until(lambda: not server.stats().connections)
        with contextlib.suppress(ConnectionResetError):
            assert await asker.closed() == b""


@pytest.mark.asyncio
async def test_closed_doors_are_closed_here_too() -> None:
    async with serving(Arith(), doors=("http",)) as server:
        for request in (UPGRADE, b"CONNECT /x HTTP/1.0\r\n\r\n",
                        get("/", Connection="Upgrade", Upgrade="websocket")):  # fmt: skip
            async with await Asker.connect(server.targets[0]) as asker:
                response = await asker.ask(request)
                assert (response.status, "door" in response.error["message"]) == (403, True)


@pytest.mark.asyncio
async def test_other_paths_lead_to_other_servers_here_too() -> None:
    inner = fastrpc.Server()
    inner.register(Arith(), name="Inner")
    async with asked() as (server, _, asker):
        server.mount("/inner", inner)
        asker.send(get("/inner", Connection="Upgrade", Upgrade="fastrpc"), hello_frame(),
                   call(1, b"Inner.add", pack([1, 2])))  # fmt: skip
        assert (await asker.head()).status == 101
        assert (await frames(asker, 2))[1].payload == b"\x03"
        assert (inner.stats().connections, server.stats().connections) == (1, 0)
        async with await Asker.connect(server.targets[0]) as second:
            second.send(b"CONNECT /inner/x HTTP/1.0\n\n", hello_frame(), ADD)
            assert (await second.head()).head == CONNECTED
            assert (await frames(second, 2))[1].status == 44, "the inner one has no Arith"
            assert (inner.stats().connections, server.stats().connections) == (2, 0)
    assert inner.stats().connections == 0


@pytest.mark.asyncio
async def test_a_websocket_is_let_in_and_an_early_message_kept() -> None:
    text = b'{"jsonrpc":"2.0","id":1,"method":"Arith.add","params":[1,2]}'
    frame = b"\x81" + bytes([0x80 | len(text)]) + b"\0\0\0\0" + text
    request = websocket("jsonrpc")
    async with asked() as (server, _, asker):
        response = await asker.ask(request, frame)
        assert response.status == 101
        assert response.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        async with asyncio.timeout(PATIENCE):
            head = await asker.reader.readexactly(2)
            assert json.loads(await asker.reader.readexactly(head[1]))["result"] == 3
        assert server.stats().connections == 1
    async with asked(http=HttpOptions(origins=("https://a.example",))) as (_, _, asker):
        assert (
            await asker.ask(request.replace(b"Host", b"Origin: https://a.example\r\nHost"))
        ).status == 101


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("doors", "chosen"),
    [
        (("websocket", "jsonrpc"), {"fastrpc.1": "fastrpc.1", "jsonrpc": "jsonrpc"}),
        (("websocket",), {"fastrpc.1": "fastrpc.1", "jsonrpc,fastrpc.1": "fastrpc.1", "jsonrpc": ""}),
        (("jsonrpc", "http"), {"fastrpc.1": "", "jsonrpc": ""}),
    ],
)  # fmt: skip
async def test_texts_need_the_door_of_json_rpc_as_well(
    doors: tuple[str, ...], chosen: dict[str, str]
) -> None:
    async with serving(Arith(), doors=doors) as server:
        for wanted, spoken in chosen.items():
            async with await Asker.connect(server.targets[0]) as asker:
                response = await asker.ask(websocket(wanted))
                assert response.headers.get("sec-websocket-protocol", "") == spoken
                if not spoken:
                    is_open = "websocket" in doors
                    assert response.status == (400 if is_open else 403)
                    assert not is_open or b"must name fastrpc.1 (" in response.body


@pytest.mark.asyncio
async def test_a_listener_for_websocket_takes_both_subprotocols_and_json_rpc() -> None:
    line = b'{"jsonrpc":"2.0","id":1,"method":"Arith.add","params":[1,2]}\n'
    async with serving(Arith(), "ws://127.0.0.1:0") as server:
        (target,) = server.targets
        for wanted in ("fastrpc.1", "jsonrpc"):
            async with await Asker.connect(target) as asker:
                assert (await asker.ask(websocket(wanted))).status == 101
        async with await Asker.connect(target) as asker:
            asker.send(line)
            async with asyncio.timeout(PATIENCE):
                assert json.loads(await asker.reader.readline())["result"] == 3
        async with await Asker.connect(target) as asker:
            assert (await asker.ask(post("/jsonrpc", line))).json["result"] == 3
            assert (await asker.ask(post("/rpc/Arith.add", b"[1,2]"))).status == 404


@pytest.mark.asyncio
async def test_a_server_that_leaves_lets_nobody_go_on() -> None:
    inner = fastrpc.Server()
    inner.register(Arith())
    async with asked() as (server, _, asker):
        server.mount("/inner", inner)
        await inner.aclose(0.0)
        assert (await asker.ask(UPGRADE.replace(b"GET /", b"GET /inner"))).status == 503
