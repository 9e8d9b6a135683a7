"""The first bytes decide, and a closed door answers in its own tongue."""

import asyncio
import json
import logging
import ssl

import msgpack
import pytest

import fastrpc
from tests.adversity.raw_peer import PATIENCE, RawPeer, Victim, call, hello_frame
from tests.server.serving import serving, until

CALM = logging.getLogger("tests.calm")


async def told(target: str, data: bytes) -> bytes:
    async with await RawPeer.connect(target) as peer:
        peer.send(data)
        async with asyncio.timeout(PATIENCE):
            return await peer.reader.read()


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
