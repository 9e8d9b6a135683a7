"""Peers that do too much of what is allowed: pings, cancels, answers, connections."""

import asyncio
import logging
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

import fastrpc
from fastrpc.frame import encode_frame
from fastrpc.protocol.guard import CANCEL_BURST, UNKNOWN_BURST
from fastrpc.server import admission
from fastrpc.wire import Kind
from tests.adversity.conftest import Clock
from tests.adversity.raw_peer import LIMITS, RawPeer, Victim, call, header, hello_frame, message
from tests.server.serving import serving, target_of, until, use_twin

CALM = logging.getLogger("tests.calm")


class Slow:
    """Handlers that wait, so that there is something to cancel."""

    def __init__(self) -> None:
        self.begun = self.ended = self.most = 0

    def add(self, a: int, b: int) -> int:
        return a + b

    async def wait(self) -> None:
        self.begun += 1
        self.most = max(self.most, self.begun - self.ended)
        try:
            await asyncio.Event().wait()
        finally:
            self.ended += 1


def wait(id: int) -> bytes:
    return call(id, b"Slow.wait", b"\x90")


def cancel(id: int) -> bytes:
    return encode_frame(Kind.CANCEL, id, status=42)


async def last_words(peer: RawPeer) -> tuple[int, str]:
    """Read to the end, which must be a GOAWAY; return its status and text."""
    last = (await peer.rest())[-1]
    assert last.kind == Kind.GOAWAY
    return last.status, message(last)


# ------------------------------------------------------------------------- pings


@pytest.mark.asyncio
async def test_pings_without_end_cost_next_to_nothing(
    twin: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_twin(monkeypatch, twin)
    pings = encode_frame(Kind.CALL, 1, heartbeat=True) * 1000
    async with serving(Victim(), log=CALM) as server:
        peer = await RawPeer.greeted(server.targets[0])
        peer.writer.transport.pause_reading()
        for _ in range(100):
            peer.send(pings)
        await asyncio.sleep(0)
        peer.writer.transport.resume_reading()
        assert await last_words(peer) == (71, "pings come faster than agreed")
        assert len(peer.seen) < 1000
        await peer.aclose()


@pytest.mark.asyncio
async def test_any_ping_is_welcome_where_the_interval_is_short() -> None:
    async with serving(Victim(), log=CALM, ping_interval=1e-6) as server:
        async with await RawPeer.greeted(server.targets[0]) as peer:
            for token in range(20):
                assert await peer.until_pong(token) == []


# ----------------------------------------------------------------------- cancels


@pytest.mark.asyncio
async def test_cancels_at_the_burst_and_one_past_it(
    twin: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_twin(monkeypatch, twin)
    async with serving(Slow(), log=CALM, max_calls=8) as server:
        async with await RawPeer.greeted(server.targets[0]) as peer:
            peer.send(*(cancel(id) for id in range(CANCEL_BURST + 8)))
            assert await peer.until_pong(1) == []
            peer.send(*(cancel(id) for id in range(1000)))  # some more come at any speed
            assert await last_words(peer) == (71, "too many calls are cancelled")


@pytest.mark.asyncio
async def test_call_and_cancel_over_and_over(
    twin: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_twin(monkeypatch, twin)
    service = Slow()
    async with serving(service, log=CALM, max_calls=8) as server:
        honest = await RawPeer.greeted(server.targets[0])
        async with honest, await RawPeer.greeted(server.targets[0]) as peer:
            for first in range(1, 4000, 100):
                peer.send(*(wait(id) + cancel(id) for id in range(first, first + 100)))
                await asyncio.sleep(0)
            status, text = await last_words(peer)
            assert (status, text) == (71, "too many calls are cancelled")
            assert service.most <= 8
            assert server.stats().calls < 2 * (CANCEL_BURST + 8) + 200
            honest.send(call(1, b"Slow.add"))
            assert (await honest.reply(1)).payload == b"\x05"


@pytest.mark.asyncio
async def test_who_lets_most_calls_end_may_cancel_as_often_as_he_likes() -> None:
    async with serving(Slow(), log=CALM, max_calls=8) as server:
        async with await RawPeer.greeted(server.targets[0]) as peer:
            for id in range(1, 3000, 2):
                peer.send(call(id, b"Slow.add"), wait(id + 1), cancel(id + 1))
                if id % 200 == 1:
                    await peer.reply(id)
            assert await peer.until_pong(1)
            await until(lambda: server.stats().running == 0)


@pytest.mark.asyncio
async def test_a_cancel_that_comes_before_the_handler_begins_frees_its_place(
    twin: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    # CALL and CANCEL in one read: the task is there, but has not had its first step.
    use_twin(monkeypatch, twin)
    async with serving(Slow(), log=CALM, max_calls=1, ping_interval=1e-6) as server:
        async with await RawPeer.greeted(server.targets[0]) as peer:
            for id in range(1, 20):
                peer.send(wait(id) + cancel(id))
                assert await peer.until_pong(id) == []
                await until(lambda: server.stats().running == 0)
            peer.send(wait(50))
            await until(lambda: server.stats().running == 1)


@pytest.mark.asyncio
async def test_a_cancelled_handler_keeps_its_place_until_it_ends() -> None:
    class Stubborn:
        """Takes its time to leave."""

        def __init__(self) -> None:
            self.leave = asyncio.Event()

        async def wait(self) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await self.leave.wait()

    service = Stubborn()
    async with serving(service, log=CALM, max_calls=2) as server:
        async with await RawPeer.greeted(server.targets[0]) as peer:
            name = b"Stubborn.wait"
            peer.send(call(1, name, b"\x90"), call(2, name, b"\x90"))
            await until(lambda: server.stats().running == 2)
            peer.send(cancel(1), cancel(2), call(3, name, b"\x90"))
            assert (await peer.reply(3)).status == 52
            service.leave.set()
            await until(lambda: server.stats().running == 0)
            peer.send(call(4, name, b"\x90"))
            await until(lambda: server.stats().running == 1)


# ----------------------------------------------------------------- strange replies


@pytest.mark.asyncio
async def test_strange_replies_at_the_limit_and_past_it(
    clock: Clock, twin: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_twin(monkeypatch, twin)
    strange = encode_frame(Kind.CALL, 9, reply=True, payload=b"\x01")
    async with serving(Victim(), log=CALM) as server:
        async with await RawPeer.greeted(server.targets[0]) as peer:
            peer.send(strange * UNKNOWN_BURST)
            (session,) = server._hall.sessions
            await until(lambda: session.lane.unknown + session.lane.late == UNKNOWN_BURST)
            await clock.look(server)
            assert await peer.until_pong(1) == []
            peer.send(strange * 100)
            assert await last_words(peer) == (71, "too many replies to unknown calls")


# ------------------------------------------------------------------------ memory


@pytest.mark.slow
@pytest.mark.asyncio
async def test_sizes_that_lie_take_no_memory(
    twin: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_twin(monkeypatch, twin)
    async with serving(Victim(), log=CALM) as server:  # max_body 16 MiB
        peers = [await RawPeer.greeted(server.targets[0]) for _ in range(100)]
        before = psutil.Process().memory_info().rss
        for peer in peers:
            peer.send(header(16 * 2**20) + bytes(100))
        await until(lambda: all(s.lane.waiting for s in server._hall.sessions))
        grown = psutil.Process().memory_info().rss - before
        for peer in peers:
            await peer.aclose()
    assert grown < 16 * 2**20, f"{grown} bytes for 100 lies"


# ----------------------------------------------------------------------- the log


@pytest.mark.asyncio
async def test_one_line_a_second_whatever_a_peer_does(caplog: pytest.LogCaptureFixture) -> None:
    bad = [b"garbage" * 5, hello_frame(b"{}"), hello_frame() + call(0), bytes(64)]
    async with serving(Victim(), **LIMITS) as server:
        started = time.monotonic()
        for number in range(100):
            async with await RawPeer.connect(server.targets[0]) as peer:
                peer.send(bad[number % len(bad)])
                await peer.rest()
        spent = time.monotonic() - started
    lines = [record.getMessage() for record in caplog.records if record.name == "fastrpc.server"]
    assert 1 <= len(lines) <= 1 + spent
    assert all("closing: " in line for line in lines)


@pytest.mark.asyncio
async def test_no_line_repeats_what_the_peer_sent(caplog: pytest.LogCaptureFixture) -> None:
    secret = b"hunter2-hunter2"
    bad = [
        hello_frame(b'{"magic":64087,"versions":[1],"auth":["%s"]}' % secret),
        hello_frame() + call(1, payload=b"\x92\x01\xaf" + secret),
    ]
    for data in bad:  # a server each, so that every line is said
        async with serving(Victim(), **LIMITS) as server:
            async with await RawPeer.connect(server.targets[0]) as peer:
                peer.send(data)
                peer.writer.write_eof()
                await peer.rest()
                assert secret not in peer.seen
    assert secret.decode() not in caplog.text


# ------------------------------------------------------------------- connections


async def _crowd(server: fastrpc.Server, count: int, *, greet: bool) -> list[RawPeer]:
    connect = RawPeer.greeted if greet else RawPeer.connect
    return [await connect(server.targets[0]) for _ in range(count)]


async def _still_there(peers: list[RawPeer]) -> list[bool]:
    await asyncio.sleep(0.02)
    return [not peer.reader.at_eof() for peer in peers]


@pytest.mark.asyncio
@pytest.mark.parametrize("scheme", ["tcp", "unix", "mem"])
async def test_connections_at_the_cap_and_past_it(scheme: str, tmp_path: Path) -> None:
    target = target_of(scheme, tmp_path)
    async with serving(Victim(), target, log=CALM, max_connections=3) as server:
        peers = await _crowd(server, 3, greet=True)
        late = await RawPeer.connect(server.targets[0])
        assert await late.rest() == []
        assert await _still_there(peers) == [True, True, True]
        assert server.stats().turned_away == 1
        await peers[0].aclose()
        await until(lambda: server.stats().connections == 2)
        peers[0] = await RawPeer.greeted(server.targets[0])
        for peer in [*peers, late]:
            await peer.aclose()


@pytest.mark.asyncio
async def test_the_silent_make_room_for_those_who_speak() -> None:
    async with serving(Victim(), log=CALM, max_connections=3) as server:
        silent = await _crowd(server, 3, greet=False)
        await until(lambda: server.stats().connections == 3)
        honest = await _crowd(server, 2, greet=True)
        assert await _still_there(silent) == [False, False, True]
        assert await _still_there(honest) == [True, True]
        for peer in [*silent, *honest]:
            await peer.aclose()


@pytest.mark.asyncio
async def test_the_silent_at_their_cap_and_past_it() -> None:
    async with serving(Victim(), log=CALM, max_pending=4) as server:
        honest = await _crowd(server, 6, greet=True)
        silent = await _crowd(server, 4, greet=False)
        await until(lambda: server.stats().connections == 10)
        assert await _still_there(silent) == [True] * 4
        silent += await _crowd(server, 20, greet=False)
        await until(lambda: server.stats().accepted == 30)
        assert await _still_there(silent) == [False] * 20 + [True] * 4
        assert await _still_there(honest) == [True] * 6
        assert server.stats().turned_away == 20
        for peer in [*silent, *honest]:
            await peer.aclose()


@pytest.mark.asyncio
async def test_one_host_at_its_cap_and_past_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "_LOCAL", ("unix", "mem"))  # loopback is remote here
    async with serving(Victim(), log=CALM, max_per_host=3) as server:
        peers = await _crowd(server, 3, greet=True)
        late = await RawPeer.connect(server.targets[0])
        assert await late.rest() == []
        assert await _still_there(peers) == [True] * 3
        await peers[0].aclose()
        await until(lambda: server.stats().connections == 2)
        peers[0] = await RawPeer.greeted(server.targets[0])
        for peer in [*peers, late]:
            await peer.aclose()
