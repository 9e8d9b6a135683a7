"""Slow, silent and cut-off peers over WebSocket: the limits of the session hold as over TCP."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator

import pytest

import fastrpc
from fastrpc.frame import FrameDecoder
from fastrpc.testing import Cut, FaultPipe
from tests.adversity.conftest import Clock
from tests.adversity.flows import WHOLE, Flows, connect, run
from tests.adversity.raw_peer import call, header, hello_frame
from tests.adversity.test_stalls import (
    CALM,
    MIB,
    Gauge,
    Large,
    most_for_the_deaf,
    session_of,
    taken,
)
from tests.gateway.test_websocket import request
from tests.interop.styles import rest_of, settle, settled
from tests.server.serving import serving, until
from tests.transport import websocket_raw as raw
from tests.transport.websocket_ends import connected
from tests.transport.websocket_raw import BINARY, PING, PONG, TEXT, put

pytestmark = pytest.mark.asyncio
WS = "ws://127.0.0.1:0"


class Texts(Large):
    """Results that JSON knows."""

    def text(self, size: int) -> str:
        return "x" * size


@contextlib.asynccontextmanager
async def upgraded(
    server: fastrpc.Server, *said: bytes
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Speak WebSocket with *server*, one message for each of *said* so far."""
    place = server.targets[0].removeprefix("ws://")
    async with connected(place) as (reader, writer):
        writer.write(request(place, "fastrpc.1"))
        await reader.readuntil(b"\r\n\r\n")
        for data in said:
            writer.write(put(BINARY, data))
        yield reader, writer


# T9


@pytest.mark.parametrize("method", [b"Large.block", b"Large.later"], ids=["sync", "async"])
async def test_who_never_reads_is_cut_off(
    method: bytes, quick_ticks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = await most_for_the_deaf(WS, method, monkeypatch)
    assert most <= 2 * MIB + MIB + 64 * 1024 + 1000


async def test_who_reads_gets_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    gauge = Gauge(monkeypatch)
    async with serving(Large(), WS, log=CALM, max_unsent=2 * MIB) as server:
        async with fastrpc.connect(server.targets[0]) as client:
            results = await asyncio.gather(*[client.call("Large.later", MIB) for _ in range(24)])
    assert [len(result) for result in results] == [MIB] * 24
    assert gauge.most <= 3 * MIB + 64 * 1024 + 1000


# Silence


async def test_an_upgrade_without_hello_has_its_time(clock: Clock) -> None:
    async with serving(Large(), WS, log=CALM, hello_timeout=60.0) as server:
        async with upgraded(server) as (reader, writer):
            await until(lambda: len(server._hall.sessions) == 1)
            await clock.let_pass(server, 30.0)
            writer.write(put(BINARY, hello_frame())[:20])  # a part of it changes nothing
            await until(lambda: taken(server) > 0)
            await clock.let_pass(server, 30.0)
            assert server.stats().connections == 1
            await clock.let_pass(server, 0.1)
            assert await raw.rest(reader) == []


async def test_crumbs_of_a_header_are_no_sign_of_life(clock: Clock) -> None:
    limits = {"idle_ping": 30.0, "ping_timeout": 60.0}
    async with serving(Large(), WS, log=CALM, **limits) as server:
        async with upgraded(server, hello_frame()) as (_, writer):
            await until(lambda: bool(server.peers))
            await clock.let_pass(server, 30.0)
            sent = 0
            for byte in raw.chop(put(BINARY, b"x" * 70_000)[:10], 1):
                if not server.stats().connections:
                    break
                writer.write(byte)
                sent += 1
                await clock.let_pass(server, 15.0)
            assert 4 <= sent <= 6, "a ping was not answered for 60 s"


async def test_a_large_message_is_a_sign_of_life_while_it_comes(clock: Clock) -> None:
    limits = {
        "idle_ping": 10.0, "ping_timeout": 10.0, "frame_timeout": 10.0, "frame_rate": 1000.0,
    }  # fmt: skip
    async with serving(Large(), WS, log=CALM, **limits) as server:
        frame = call(1, b"Large.add") + call(2, b"Large.block", b"\x91\xc5\xff\xff" + bytes(65_535))
        async with upgraded(server, hello_frame()) as (reader, writer):
            await until(lambda: bool(server.peers))
            session = session_of(server)
            message = put(BINARY, frame)
            for at in range(0, len(message), 2500):
                heard = session.lane.bytes_in
                writer.write(message[at : at + 2500])
                await until(lambda heard=heard: session.lane.bytes_in > heard)
                await clock.let_pass(server, 2.0)  # 50 s in all
            decoder, ids = FrameDecoder(), list[int]()
            async with asyncio.timeout(5):
                while 2 not in ids:
                    ids += [each.id for each in decoder.feed((await raw.get(reader)).payload)]
            assert server.stats().connections == 1


async def test_a_large_message_at_a_poor_rate_is_not_waited_for(clock: Clock) -> None:
    limits = {"frame_timeout": 10.0, "frame_rate": 1000.0, "idle_ping": 3600.0}
    async with serving(Large(), WS, log=CALM, **limits) as server:
        async with upgraded(server, hello_frame()) as (_, writer):
            await until(lambda: bool(server.peers))
            session = session_of(server)
            message, at = put(BINARY, header(60_000) + bytes(60_000)), 0
            while server.stats().connections:
                heard = session.lane.bytes_in
                writer.write(message[at : at + 900])
                await until(lambda heard=heard: session.lane.bytes_in > heard)
                at += 900
                await clock.let_pass(server, 1.0)
            assert 10 * 900 <= at <= 13 * 900


# Texts: the session behind them sees whole ones only, so their end is looked after itself


@contextlib.asynccontextmanager
async def texts(
    server: fastrpc.Server,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Speak JSON-RPC with *server*."""
    place = server.targets[0].removeprefix("ws://")
    async with connected(place) as (reader, writer):
        writer.write(request(place, "jsonrpc"))
        await reader.readuntil(b"\r\n\r\n")
        yield reader, writer


ADD = b'{"jsonrpc": "2.0", "id": 1, "method": "Large.add", "params": [2, 3]}'


async def test_a_silent_text_peer_is_pinged_and_then_given_up(clock: Clock) -> None:
    limits = {"idle_ping": 30.0, "ping_timeout": 60.0}
    async with serving(Large(), WS, log=CALM, **limits) as server:
        async with texts(server) as (reader, writer):
            for _ in range(3):
                await clock.let_pass(server, 30.1)
                assert (await raw.get(reader)).opcode == PING
                await clock.let_pass(server, 59.0)
                (visitor,) = server._hall.admission.visitors
                heard = visitor.end.bytes_in  # type: ignore[attr-defined]
                writer.write(put(PONG))
                await until(lambda heard=heard, end=visitor.end: end.bytes_in > heard)  # type: ignore[attr-defined]
                await clock.look(server)
            await clock.let_pass(server, 30.1)
            assert (await raw.get(reader)).opcode == PING
            await clock.let_pass(server, 60.1)
            (said,) = await raw.rest(reader)
            assert said.code == 1008
            assert b"silent for 90 s" in said.payload


async def test_a_text_that_never_ends_is_not_waited_for(clock: Clock) -> None:
    limits = {"frame_timeout": 10.0, "frame_rate": 1000.0, "idle_ping": 3600.0}
    async with serving(Large(), WS, log=CALM, **limits) as server:
        async with texts(server) as (reader, writer):
            writer.write(put(TEXT, ADD))
            assert b'"result":5' in (await raw.get(reader)).payload.replace(b" ", b"")
            (visitor,) = server._hall.admission.visitors
            end = visitor.end  # type: ignore[attr-defined]
            message, at = put(TEXT, b"x" * 60_000), 0
            while end._state.value == "open":
                heard = end.bytes_in
                writer.write(message[at : at + 900])
                await until(lambda heard=heard: end.bytes_in > heard)
                at += 900
                await clock.let_pass(server, 1.0)
            assert 10 * 900 <= at <= 13 * 900
            assert (await raw.rest(reader))[-1].code == 1008


async def test_who_never_reads_texts_is_cut_off(
    quick_ticks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T9, as JSON."""
    gauge = Gauge(monkeypatch)
    limits = {"write_stall": 0.15, "max_unsent": 2 * MIB}
    ask_text = '{"jsonrpc": "2.0", "id": %d, "method": "Texts.text", "params": [%d]}'
    async with serving(Texts(), WS, log=CALM, **limits) as server:
        async with texts(server) as (reader, writer):
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            for id in range(40):
                writer.write(put(TEXT, (ask_text % (id, MIB)).encode()))
            await until(lambda: server.stats().calls > 0)
            await until(lambda: not server.stats().connections)
    assert gauge.most <= 2 * MIB + 2 * MIB + 64 * 1024 + 1000


# Memory


async def test_a_message_that_is_announced_takes_no_memory_before_it_comes() -> None:
    async with serving(Large(), WS, log=CALM) as server, upgraded(server) as (_, writer):
        writer.write(put(BINARY, b"", width=8)[:2] + (2**24).to_bytes(8) + b"mask" + b"\xf0\x6b")
        await until(lambda: taken(server) == 2)
        (session,) = server._hall.sessions
        pipe = session._transport
        assert not pipe._reader.waits  # type: ignore[union-attr]
        assert len(pipe._reader._data) == 0  # type: ignore[union-attr]


# Cuts


@pytest.mark.slow
@pytest.mark.parametrize("how", ["ended", "reset"])
@pytest.mark.parametrize("style", ["unary", "both ways"])
async def test_a_cut_anywhere(style: str, how: str) -> None:
    """In the handshake, in HELLO, in a frame's header or between: what arrived is right."""
    flows = Flows()
    async with serving(flows, WS, log=CALM) as server:
        tcp = server.targets[0].replace("ws", "tcp")
        for direction in ("forward", "backward"):
            script = [Cut(at, how == "reset") for at in range(150, 1400, 37)]
            ends = set()
            async with FaultPipe(
                tcp,
                **{direction: lambda number, script=script: script[number : number + 1]},  # type: ignore[arg-type]
            ) as pipe:
                for _ in script:
                    target = pipe.target.replace("tcp", "ws")
                    try:
                        async with connect(target, connect_timeout=3.0) as client:
                            (session,) = [lane.owner for lane in client.lanes]
                            ends.add((await run(style, client)).end)
                            assert await settle(functools.partial(rest_of, session), 5.0) == {}
                    except fastrpc.ConnectFailed:
                        ends.add("ConnectFailed")
            assert ends == {WHOLE, "ConnectionLost", "ConnectFailed"}
        assert await settled([server]) == {}
        for each in flows.taken:
            each.check()
