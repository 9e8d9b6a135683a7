"""The first bytes decide, and a closed door answers in its own tongue."""

import asyncio
import json
import logging
import ssl

import msgpack
import pytest

import fastrpc
from fastrpc.server.doors import BY_FIRST_BYTE, DOORS, TONGUES, usual_doors
from fastrpc.transport import parse_target
from tests.adversity.raw_peer import PATIENCE, RawPeer, Victim, call, hello_frame
from tests.server.serving import serving, until

CALM = logging.getLogger("tests.calm")


async def told(target: str, data: bytes) -> bytes:
    async with await RawPeer.connect(target) as peer:
        peer.send(data)
        async with asyncio.timeout(PATIENCE):
            return await peer.reader.read()


def test_no_two_tongues_begin_alike() -> None:
    assert len(BY_FIRST_BYTE) == sum(len(tongue.first) for tongue in TONGUES)


def test_every_door_is_spoken_at() -> None:
    assert frozenset().union(*(tongue.doors for tongue in TONGUES)) == set(DOORS)


@pytest.mark.parametrize(
    ("target", "has", "lacks"),
    [
        ("tcp://127.0.0.1:1", set(DOORS), set()),
        ("unix:///x", set(DOORS), set()),
        ("tcp://0.0.0.0:1", {"fastrpc", "http", "jsonrpc"}, {"metrics", "debug"}),
        ("tls://10.1.2.3:1", {"fastrpc", "websocket"}, {"metrics", "debug"}),
        ("ws://localhost:1", {"websocket", "jsonrpc"}, {"fastrpc", "http", "debug"}),
        ("wss://10.1.2.3:1", {"websocket", "jsonrpc"}, {"fastrpc", "http", "msgpackrpc"}),
        ("http://localhost:1", {"http", "upgrade", "debug"}, {"fastrpc", "msgpackrpc"}),
        ("jsonrpc://localhost:1", {"jsonrpc"}, {"fastrpc", "http"}),
    ],
)
def test_usual_doors(target: str, has: set[str], lacks: set[str]) -> None:
    parsed = parse_target(target)
    doors = usual_doors(parsed.scheme, is_private=parsed.is_private)
    assert has <= doors
    assert not lacks & doors


@pytest.mark.parametrize(
    ("doors", "says"),
    [(("ftp",), "'ftp'"), ((), "none"), ("http", "several names"), (("http", 3), "got 3")],
)
def test_doors_that_are_none(doors: object, says: str) -> None:
    with pytest.raises(fastrpc.ConfigError, match=says):
        fastrpc.Server(doors=doors)  # type: ignore[arg-type]


@pytest.mark.asyncio
async def test_doors_are_opened_by_listener() -> None:
    async with serving(Victim(), log=CALM, doors=("fastrpc",)) as server:
        await server.start("mem://doors-of-their-own", doors=("http",))
        async with await RawPeer.greeted(server.targets[0]) as peer:
            peer.send(call(1))
            assert (await peer.reply(1)).status == 0
        refusal = await told(server.targets[1], hello_frame())
        assert b"does not speak the fastrpc binary protocol" in refusal
        with pytest.raises(fastrpc.FastRPCError, match="does not speak the fastrpc binary"):
            async with fastrpc.connect(server.targets[1]) as client:
                await client.call("Victim.add", 1, 2)


@pytest.mark.asyncio
async def test_closed_doors_answer_in_their_own_tongue() -> None:
    async with serving(Victim(), log=CALM, doors=("fastrpc",)) as server:
        target = server.targets[0]
        assert (await told(target, b"GET / HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
        answer = json.loads(await told(target, b'{"jsonrpc":"2.0","id":1,"method":"x"}\n'))
        assert (answer["id"], answer["error"]["code"]) == (None, -32047)
        for number in (0, 127, 200, 60_000, 2**32 - 1):
            asked = msgpack.packb([0, number, "x", []])
            kind, id, error, result = msgpack.unpackb(await told(target, asked))
            assert (kind, id, result) == (1, number, None)
            assert error == [0, "this port does not speak msgpack-rpc"]
        assert msgpack.unpackb(await told(target, b"\x94\x00"))[1] == 0, "half of a request"
        await until(lambda: server.stats().connections == 0)


@pytest.mark.asyncio
async def test_tls_without_a_certificate_gets_an_alert() -> None:
    async with serving(Victim(), log=CALM) as server:
        host, port = server.targets[0].removeprefix("tcp://").split(":")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with pytest.raises((ssl.SSLError, ConnectionError), match="(?i)handshake.?failure"):
            await asyncio.open_connection(host, int(port), ssl=context)


@pytest.mark.asyncio
async def test_hello_may_come_in_any_pieces() -> None:
    async with serving(Victim(), log=CALM) as server:
        async with await RawPeer.connect(server.targets[0]) as peer:
            await peer.drip(hello_frame() + call(1), 1)
            assert (await peer.reply(1)).status == 0
        await until(lambda: server.stats().connections == 0)


@pytest.mark.asyncio
async def test_who_says_nothing_and_leaves_is_forgotten() -> None:
    async with serving(Victim(), log=CALM) as server:
        async with await RawPeer.connect(server.targets[0]) as peer:
            await until(lambda: server.stats().connections == 1)
            assert server.stats().accepted == 1
            assert not server._hall.sessions, "a session is made when it is asked for"
            peer.writer.write_eof()
            async with asyncio.timeout(PATIENCE):
                assert await peer.reader.read() == b""
        await until(lambda: server.stats().connections == 0)
