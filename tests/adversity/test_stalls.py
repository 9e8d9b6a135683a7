"""Peers that take their time: silent ones, dripping ones, and ones that never read."""

import asyncio
import logging
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import fastrpc
from fastrpc.frame import encode_frame
from fastrpc.session import Session, watch
from fastrpc.transport import dial
from fastrpc.wire import Kind
from tests.adversity.conftest import Clock
from tests.adversity.raw_peer import RawPeer, call, header, hello_frame, pack
from tests.server.serving import serving, target_of, until, use_twin

CALM = logging.getLogger("tests.calm")
MIB = 2**20


class Large:
    """Results that take long to read."""

    def add(self, a: int, b: int) -> int:
        return a + b

    def block(self, size: int) -> bytes:
        return bytes(size)

    async def later(self, size: int) -> bytes:
        await asyncio.sleep(0)
        return bytes(size)

    async def refuse(self, size: int) -> bytes:
        await asyncio.sleep(0)
        raise fastrpc.RpcError(1, "no", data=bytes(size))


def ask(id: int, method: bytes, size: int) -> bytes:
    return call(id, method, pack([size]))


def session_of(server: fastrpc.Server) -> Session:
    """Return the server's end of the one connection there is."""
    (session,) = server._hall.sessions
    return session


def taken(server: fastrpc.Server) -> int:
    """Return how many bytes the one session has got, 0 if there is none yet."""
    return sum(session.lane.bytes_in for session in server._hall.sessions)


class Gauge:
    """Note the most bytes that a session ever had waiting for its peer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.most = 0
        plain = Session.hand_over

        def hand_over(session: Session) -> None:
            plain(session)
            self.most = max(self.most, session.unsent())

        monkeypatch.setattr(Session, "hand_over", hand_over)


# ------------------------------------------------------------------- says nothing


@pytest.mark.asyncio
@pytest.mark.parametrize("scheme", ["tcp", "unix", "mem"])
@pytest.mark.parametrize(
    "said", [b"", hello_frame()[:1], hello_frame()[:30]], ids=["nothing", "a byte", "half a hello"]
)
async def test_no_hello_in_time(scheme: str, said: bytes, clock: Clock, tmp_path: Path) -> None:
    target = target_of(scheme, tmp_path)
    async with serving(Large(), target, log=CALM, hello_timeout=60.0) as server:
        async with await RawPeer.connect(server.targets[0]) as peer:
            peer.send(said)
            await until(lambda: server.stats().connections == 1)
            await clock.let_pass(server, 60.0)
            assert server.stats().connections == 1
            await clock.let_pass(server, 0.1)
            assert await peer.rest() == []


@pytest.mark.asyncio
async def test_hello_byte_by_byte_does_not_stretch_the_time(clock: Clock) -> None:
    async with serving(Large(), log=CALM, hello_timeout=60.0) as server:
        async with await RawPeer.connect(server.targets[0]) as peer:
            await until(lambda: server.stats().connections == 1)
            sent = 0
            while server.stats().connections:
                peer.send(hello_frame()[sent : sent + 1])
                sent += 1
                await until(lambda sent=sent: taken(server) == sent)
                await clock.let_pass(server, 1.0)
            assert sent == 61 < len(hello_frame())
            assert await peer.rest() == []


@pytest.mark.asyncio
async def test_a_peer_that_has_said_hello_may_be_silent_for_long(clock: Clock) -> None:
    limits = {"hello_timeout": 60.0, "idle_ping": 3600.0}
    async with serving(Large(), log=CALM, **limits) as server:
        async with await RawPeer.greeted(server.targets[0]) as peer:
            await clock.let_pass(server, 3000.0)
            peer.send(call(1, b"Large.add"))
            assert (await peer.reply(1)).payload == b"\x05"


@pytest.mark.asyncio
async def test_a_silent_peer_is_pinged_and_then_given_up(clock: Clock) -> None:
    limits = {"idle_ping": 30.0, "ping_timeout": 60.0}
    async with serving(Large(), log=CALM, **limits) as server:
        async with await RawPeer.greeted(server.targets[0], ping_ms=1) as peer:
            session = session_of(server)
            await clock.let_pass(server, 30.0)
            greeting = session.lane.bytes_out
            await clock.let_pass(server, 0.1)
            assert session.lane.bytes_out > greeting
            await clock.let_pass(server, 60.0)
            assert server.stats().connections == 1
            await clock.let_pass(server, 0.1)
            frames = await peer.rest()
            assert [(frame.kind, frame.heartbeat) for frame in frames] == [(Kind.CALL, True)]


@pytest.mark.asyncio
async def test_a_peer_that_answers_pings_stays(clock: Clock) -> None:
    limits = {"idle_ping": 20.0, "ping_timeout": 40.0}
    async with serving(Large(), log=CALM, **limits) as server:
        async with await RawPeer.greeted(server.targets[0], ping_ms=1) as peer:
            session = session_of(server)
            for _ in range(5):
                await clock.let_pass(server, 20.1)
                ping = await peer.frame()
                assert ping is not None
                await clock.let_pass(server, 40.0)
                pong = encode_frame(Kind.CALL, ping.id, heartbeat=True, reply=True)
                heard = session.lane.bytes_in + len(pong)
                peer.send(pong)
                await until(lambda heard=heard: session.lane.bytes_in == heard)
                await clock.look(server)
            assert server.stats().connections == 1


@pytest.mark.asyncio
async def test_no_ping_comes_faster_than_the_peer_allows(clock: Clock) -> None:
    async with serving(Large(), log=CALM, idle_ping=10.0) as server:
        async with await RawPeer.greeted(server.targets[0], ping_ms=60_000) as peer:
            await clock.let_pass(server, 60.0)
            assert await peer.until_pong(1) == []
            await clock.let_pass(server, 60.1)
            assert await peer.until_pong(2) != []


# ------------------------------------------------------------------- half a frame


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "part",
    [call(1, b"Large.add")[:5], call(1, b"Large.add")[:30], header(60_000) + bytes(10_000)],
    ids=["of the header", "of the body", "of a large body"],
)
async def test_half_a_frame_is_waited_for_only_so_long(
    part: bytes, clock: Clock, twin: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_twin(monkeypatch, twin)
    limits = {"frame_timeout": 80.0, "idle_ping": 3600.0}
    async with serving(Large(), log=CALM, **limits) as server:
        async with await RawPeer.greeted(server.targets[0]) as peer:
            await _arrived(server, peer, part)
            async with await RawPeer.greeted(server.targets[0]) as honest:
                await clock.let_pass(server, 80.0)
                assert server.stats().connections == 2
                await clock.let_pass(server, 0.1)
                assert await peer.rest() == []
                honest.send(call(1, b"Large.add"))
                assert (await honest.reply(1)).payload == b"\x05"


async def _arrived(server: fastrpc.Server, peer: RawPeer, data: bytes) -> None:
    """Send *data* as the one peer there is, and wait until the server has it."""
    session = session_of(server)
    heard = session.lane.bytes_in + len(data)
    peer.send(data)
    await until(lambda: session.lane.bytes_in == heard)


@pytest.mark.asyncio
async def test_a_large_frame_at_a_good_rate_may_take_longer(clock: Clock) -> None:
    limits = {"frame_timeout": 10.0, "frame_rate": 1000.0, "idle_ping": 3600.0}
    frame = call(1, b"Large.add") + call(2, b"Large.block", b"\x91\xc5\xff\xff" + bytes(65_535))
    async with serving(Large(), log=CALM, **limits) as server:
        async with await RawPeer.greeted(server.targets[0]) as peer:
            for at in range(0, len(frame), 2500):  # 1250 bytes a second
                await _arrived(server, peer, frame[at : at + 2500])
                await clock.let_pass(server, 2.0)
            assert (await peer.reply(2)).status == 40


@pytest.mark.asyncio
async def test_the_same_frame_at_a_poor_rate_may_not(clock: Clock) -> None:
    limits = {"frame_timeout": 10.0, "frame_rate": 1000.0, "idle_ping": 3600.0}
    async with serving(Large(), log=CALM, **limits) as server:
        async with await RawPeer.greeted(server.targets[0]) as peer:
            await _arrived(server, peer, header(60_000))
            pieces = 0
            while server.stats().connections:
                await _arrived(server, peer, bytes(900))
                await clock.let_pass(server, 1.0)
                pieces += 1
            assert 10 <= pieces <= 12
            assert await peer.rest() == []


# ------------------------------------------------------------------- never reads


async def most_for_the_deaf(target: str, method: bytes, monkeypatch: pytest.MonkeyPatch) -> int:
    """Ask a server for 40 MiB and read nothing; return the most that waited to be read.

    The server cuts such a peer off, and a peer beside it notices nothing.
    """
    gauge = Gauge(monkeypatch)
    limits = {"write_stall": 0.15, "max_unsent": 2 * MIB}
    async with serving(Large(), target, log=CALM, **limits) as server:
        async with await RawPeer.greeted(server.targets[0]) as honest:
            peer = await RawPeer.greeted(server.targets[0])
            peer.writer.transport.pause_reading()
            peer.send(*(ask(id, method, MIB) for id in range(1, 41)))
            await until(lambda: server.stats().connections == 1)
            honest.send(call(1, b"Large.add"))
            assert (await honest.reply(1)).payload == b"\x05"
            peer.writer.transport.abort()
        await until(lambda: server.stats().running == 0)
    return gauge.most


@pytest.mark.asyncio
@pytest.mark.parametrize("scheme", ["tcp", "unix", "mem"])
@pytest.mark.parametrize("method", [b"Large.block", b"Large.later"], ids=["sync", "async"])
async def test_who_never_reads_is_cut_off(
    scheme: str, method: bytes, quick_ticks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = await most_for_the_deaf(target_of(scheme, tmp_path), method, monkeypatch)
    assert most <= 2 * MIB + MIB + 64 * 1024 + 100


@pytest.mark.asyncio
@pytest.mark.parametrize("scheme", ["tcp", "mem"])
async def test_who_reads_gets_everything_however_much_is_ready_at_once(
    scheme: str, tmp_path: Path, twin: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_twin(monkeypatch, twin)
    gauge = Gauge(monkeypatch)
    target = target_of(scheme, tmp_path)
    async with serving(Large(), target, log=CALM, max_unsent=2 * MIB) as server:
        async with fastrpc.connect(server.targets[0]) as client:
            calls = [client.call("Large.later", MIB) for _ in range(48)]
            results = await asyncio.gather(*calls)
    assert [len(result) for result in results] == [MIB] * 48
    assert gauge.most <= 3 * MIB + 64 * 1024 + 100


@pytest.mark.asyncio
async def test_results_wait_at_max_unsent_and_not_before() -> None:
    async with serving(Large(), log=CALM, max_unsent=MIB) as server:
        async with await RawPeer.greeted(server.targets[0]) as peer:
            peer.writer.transport.pause_reading()
            peer.send(*(ask(id, b"Large.later", MIB) for id in range(1, 21)))
            await until(lambda: server.stats().calls == 20)
            session = session_of(server)
            await until(lambda: session.is_full)
            assert MIB <= session.unsent() <= 2 * MIB + 64 * 1024
            held = sorted(session.running)
            assert 0 < len(held) == server.stats().running < 20
            # What is read makes room; what was cancelled while it waited is not sent.
            session.side.answers.give_up(session, held[-1])  # type: ignore[union-attr]
            peer.writer.transport.resume_reading()
            replies = [frame.id for frame in await peer.until_pong(1)]
            got = [*replies, *[(await peer.frame()).id for _ in range(19 - len(replies))]]  # type: ignore[union-attr]
            assert sorted([*got, held[-1]]) == list(range(1, 21))


@pytest.mark.asyncio
async def test_errors_are_small_to_who_does_not_read(
    quick_ticks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    gauge = Gauge(monkeypatch)
    limits = {"write_stall": 0.1, "max_unsent": MIB}
    async with serving(Large(), log=CALM, **limits) as server:
        peer = await RawPeer.greeted(server.targets[0])
        peer.writer.transport.pause_reading()
        peer.send(*(ask(id, b"Large.refuse", MIB) for id in range(1, 41)))
        await until(lambda: not server.stats().connections)
        peer.writer.transport.abort()
    assert gauge.most <= 2 * MIB + 64 * 1024 + 40 * 100


class Sipping(asyncio.BufferedProtocol):
    """Reads a few bytes, and then for a while nothing."""

    def __init__(self) -> None:
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def get_buffer(self, sizehint: int) -> bytearray:
        return bytearray(10)

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.pause_reading()


@pytest.mark.asyncio
async def test_reading_a_sip_now_and_then_is_not_reading(quick_ticks: None, tmp_path: Path) -> None:
    limits = {"write_stall": 0.1, "frame_rate": 1e5}
    async with serving(Large(), target_of("mem", tmp_path), log=CALM, **limits) as server:
        transport, _ = await dial(server.targets[0], Sipping, timeout=1)
        transport.write(hello_frame() + b"".join(ask(id, b"Large.block", MIB) for id in (1, 2, 3)))
        await until(lambda: server.stats().calls)
        unread = session_of(server).unsent()
        while server.stats().connections:
            before = session_of(server).unsent()
            transport.resume_reading()
            await asyncio.sleep(0.005)
            assert not server.stats().connections or session_of(server).unsent() < before
        assert unread


@pytest.mark.asyncio
async def test_closing_does_not_wait_for_who_does_not_read(quick_ticks: None) -> None:
    # The GOAWAY, and the answers before it, are for somebody who will not have them.
    limits = {"write_stall": 0.1}
    async with serving(Large(), log=CALM, **limits) as server:
        peer = await RawPeer.greeted(server.targets[0])
        peer.writer.transport.pause_reading()
        peer.send(*(ask(id, b"Large.block", MIB) for id in range(1, 9)), b"garbage")
        await until(lambda: server.stats().calls > 3)
        await until(lambda: not server.stats().connections)
        peer.writer.transport.abort()


@pytest.mark.asyncio
async def test_a_closed_connection_does_not_linger(
    quick_ticks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The peer never ends its own side.
    monkeypatch.setattr(watch, "LINGER", 0.05)
    async with serving(Large(), log=CALM) as server:
        peer = await RawPeer.greeted(server.targets[0])
        started = time.monotonic()
        peer.send(b"garbage" * 9)
        await until(lambda: not server.stats().connections)
        assert time.monotonic() - started >= 0.05
        await peer.aclose()
