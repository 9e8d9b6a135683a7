import asyncio
import contextlib
import re
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import fastrpc
from fastrpc.client import link as link_module
from fastrpc.client.link import LinkState
from fastrpc.frame import encode_frame
from fastrpc.policy import Backoff
from fastrpc.wire import Kind, StatusCode
from tests.client.scripted import PATIENCE, WRONG, Peer, closing, scripted, silent
from tests.client.served import (
    SCHEMES,
    Elsewhere,
    Work,
    address,
    free_port,
    serving,
    sessions_of,
    sockets,
    turn_until,
)


@pytest.fixture(params=SCHEMES)
def target(request: pytest.FixtureRequest) -> Iterator[str]:
    with address(request.param) as target:
        yield target.replace(":0", f":{free_port()}")


@contextlib.asynccontextmanager
async def client_of(target: str, **options: Any) -> AsyncIterator[fastrpc.Client]:
    client = fastrpc.connect(target, **options)
    try:
        yield client
    finally:
        await client.aclose()


# Reconnecting


@pytest.mark.asyncio
async def test_a_client_comes_back_by_itself_after_a_restart(target: str) -> None:
    async with client_of(target) as client:
        for round in range(3):
            async with serving(target) as (_, work):
                if round:
                    await turn_until(lambda: client.lanes)
                call = client.call("Work.wait", "x")
                assert await client.call("Work.add", 1, round) == round + 1
                await turn_until(lambda work=work: work.runs == ["x"])
            with pytest.raises((fastrpc.ConnectionLost, fastrpc.Cancelled)) as lost:
                await call
            assert lost.value.ran == "maybe"
            await turn_until(lambda: not client.lanes)


@pytest.mark.asyncio
async def test_while_the_server_is_away_calls_fail_with_what_the_next_attempt_says() -> None:
    target = f"tcp://127.0.0.1:{free_port()}"
    async with client_of(target) as client:
        errors = await asyncio.gather(
            *(client.call("Work.add", n) for n in range(10)), return_exceptions=True
        )
        assert [type(error) for error in errors] == [fastrpc.ConnectFailed] * 10
        assert len({id(error) for error in errors}) == 10, "tracebacks would be shared"
        assert {error.ran for error in errors} == {"no"}  # type: ignore[union-attr]
        again = client.call("Work.add", 1, 2)
        async with serving(target):
            assert await again == 3  # it waited for the next attempt


@pytest.mark.asyncio
@pytest.mark.slow
async def test_a_killed_server_is_found_again() -> None:
    with Elsewhere() as server:
        async with fastrpc.connect(server.target) as client:
            first = await client.call("Work.pid")
            open_calls = [client.call("Work.wait", "x") for _ in range(50)]
            assert await client.call("Work.add", 1, 2) == 3
            server.kill()
            for call in open_calls:
                with pytest.raises(fastrpc.ConnectionLost, match=r"Work\.wait") as lost:
                    await call
                assert lost.value.ran == "maybe"
            with pytest.raises(fastrpc.ConnectFailed) as failed:
                await client.call("Work.add", 1, 2)
            assert failed.value.ran == "no"
            server.start()
            assert await client.options(timeout=5).call("Work.pid") != first


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Note what waits are planned, and make them a hundredth of that."""
    noted: list[float] = []
    plain = Backoff.next

    def shortened(backoff: Backoff) -> float:
        noted.append(plain(backoff))
        return noted[-1] / 100

    monkeypatch.setattr(Backoff, "next", shortened)
    return noted


def only_hello(peer: Peer) -> None:
    peer.hello()


@pytest.mark.asyncio
@pytest.mark.parametrize("play", [closing, only_hello], ids=["closes", "opens only to close"])
async def test_attempts_are_spaced_out(
    play: Any, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "STEADY", 1e9)
    with scripted(play) as server:
        async with client_of(server.target) as client:
            started = time.monotonic()
            with pytest.raises(fastrpc.TransportError):
                await client.call("Work.add", 1)
            await turn_until(lambda: server.connections >= 5)
            assert len(waits) >= 4
            for number, wait in enumerate(waits[:4]):
                assert abs(wait / (0.1 * 1.6**number) - 1.0) <= 0.2 + 1e-9
            assert time.monotonic() - started >= sum(waits[:4]) / 100


@pytest.mark.asyncio
async def test_after_a_steady_connection_the_first_attempt_comes_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link_module, "STEADY", 0.0)
    ended = threading.Event()

    def play(peer: Peer) -> None:
        peer.hello()
        call = peer.read_call()
        if peer.number == 20:
            ended.set()
        peer.reply(call)

    with scripted(play) as server:
        async with client_of(server.target) as client:
            await client._connected()
            (link,) = client._links
            waits: list[float] = []
            plain = link.begin

            def begin(pause: float = 0.0) -> None:
                waits.append(pause)
                plain(pause)

            monkeypatch.setattr(link, "begin", begin)
            while not ended.is_set():
                with contextlib.suppress(fastrpc.TransportError):
                    await client.call("x")
            assert len(waits) >= 20
            assert set(waits) == {0.0}


@pytest.mark.asyncio
async def test_waits_grow_to_a_cap_and_calls_fail_at_once_while_the_next_is_far_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = f"tcp://127.0.0.1:{free_port()}"
    plain = Backoff.next
    monkeypatch.setattr(Backoff, "next", lambda backoff: 1000.0)
    async with client_of(target, connect_timeout=20.0) as client:
        with pytest.raises(fastrpc.ConnectFailed):
            await client.call("x")
        (link,) = client._links
        assert 900 < link.next_attempt() < 1001
        with pytest.raises(fastrpc.ConnectFailed, match=target):
            await client.call("x")  # or it would wait for 1000 s
        assert link.attempts == 1
        longest = max(plain(link._backoff) for _ in range(50))
        assert longest <= link_module.RETRY_CAP * 1.2


# Whatever happens to those who wait


@pytest.mark.asyncio
async def test_a_deadline_is_kept_while_connecting() -> None:
    with scripted(silent) as server:
        async with client_of(server.target, connect_timeout=20) as client:
            started = time.monotonic()
            with pytest.raises(fastrpc.DeadlineExceeded) as late:
                await client.options(timeout=0.15).call("Work.add", 1, 2)
            assert time.monotonic() - started >= 0.15
            error = late.value
            assert (error.ran, error.method, error.attempts) == ("no", "Work.add", 1)
            assert error.address == server.target
            assert error.stages.connecting > 0.14
            assert error.stages.wire is None
            assert re.search(r": connecting \d{3,}\.\d ms, ", str(error))
            assert server.target in str(error)


@pytest.mark.asyncio
async def test_one_who_gives_up_takes_nobody_along() -> None:
    async with serving() as (server, _), client_of(server.targets[0]) as client:
        calls = [asyncio.ensure_future(client.call("Work.add", n, 0)) for n in range(10)]
        await asyncio.sleep(0)
        calls[0].cancel()
        calls[7].cancel()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [r for r in results if not isinstance(r, BaseException)] == [
            1, 2, 3, 4, 5, 6, 8, 9,
        ]  # fmt: skip
        assert [isinstance(r, asyncio.CancelledError) for r in results].count(True) == 2


@pytest.mark.asyncio
async def test_a_link_survives_that_somebody_cancels_its_task() -> None:
    with scripted(silent) as away:
        async with client_of(away.target, connect_timeout=20) as client:
            call = client.call("x")
            await turn_until(lambda: away.connections == 1)
            (link,) = client._links
            assert link._task is not None
            link._task.cancel()
            with pytest.raises(fastrpc.ConnectFailed, match="was cancelled"):
                await call
            assert link.state is LinkState.DOWN
            second = asyncio.ensure_future(client.call("x"))
            await turn_until(lambda: away.connections == 2)
            second.cancel()


@pytest.mark.asyncio
async def test_a_fault_in_dialling_is_told_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*args: object, **options: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(link_module, "dial", broken)
    async with client_of("tcp://127.0.0.1:1") as client:
        with pytest.raises(fastrpc.ConnectFailed, match="ZeroDivisionError: a bug"):
            await client.call("x")
    assert "internal error" in caplog.text


# Several links


@pytest.mark.asyncio
async def test_the_first_connection_that_is_up_serves_all_who_wait() -> None:
    """One that hangs keeps nobody from the others."""

    def play(peer: Peer) -> None:
        if peer.number == 0:
            peer.until_end()
        peer.hello()
        while True:
            peer.reply(peer.read_call())

    with scripted(play) as server:
        async with client_of(server.target, connections=2, connect_timeout=20) as client:
            assert await client.options(timeout=5).call("x") is None


@pytest.mark.asyncio
async def test_a_call_fails_only_when_all_attempts_have() -> None:
    def play(peer: Peer) -> None:
        if peer.number == 2:
            peer.hello()
            while True:
                peer.reply(peer.read_call())

    with scripted(play) as server:
        async with client_of(server.target, connections=3) as client:
            assert await client.options(timeout=5).call("x") is None


@pytest.mark.asyncio
async def test_one_of_several_connections_that_ends_comes_back() -> None:
    async with serving() as (server, work), client_of(server.targets[0], connections=3) as client:
        await client.call("Work.add", 1)
        await turn_until(lambda: len(client.lanes) == 3)
        calls = [client.call("Work.wait", str(n)) for n in range(9)]
        await turn_until(lambda: len(work.runs) == 9)
        sessions_of(server)[1].abort(fastrpc.ConnectionLost("cut"))
        await turn_until(lambda: len(client.lanes) == 2)
        for n in range(30):
            assert await client.call("Work.add", n, n) == 2 * n
        await turn_until(lambda: len(client.lanes) == 3)
        work.gate.set()
        results = await asyncio.gather(*calls, return_exceptions=True)
        lost = [result for result in results if isinstance(result, Exception)]
        assert len(lost) == 3
        assert {type(error) for error in lost} == {fastrpc.ConnectionLost}


# Draining


@pytest.mark.asyncio
async def test_a_drain_moves_new_calls_without_an_error(target: str) -> None:
    async with client_of(target) as client:
        old = fastrpc.Server()
        first = Work()
        old.register(first)
        await old.start(target)
        kept = client.call("Work.wait", "kept")
        await turn_until(lambda: first.runs == ["kept"])
        stop = False
        done = 0

        async def caller() -> None:
            nonlocal done
            while not stop:
                assert await client.call("Work.add", done, 1) > 0
                done += 1

        callers = [asyncio.create_task(caller()) for _ in range(20)]
        await turn_until(lambda: done > 100)
        old._entrances.close()  # the address is free for the new one
        async with serving(target) as (_, second):
            leaving = asyncio.create_task(old.aclose(grace=20))
            await turn_until(lambda: len(client.lanes) == 1 and client._links[0]._draining)
            so_far = done
            await turn_until(lambda: done > so_far + 200)
            client.notify("Work.note", "new")
            await turn_until(lambda: second.runs == ["new"])
            first.gate.set()
            assert await kept == "kept"
            await leaving
            stop = True
            await asyncio.gather(*callers)
            assert not client._links[0]._draining


@pytest.mark.asyncio
async def test_calls_a_goaway_leaves_out_were_surely_not_run() -> None:
    def play(peer: Peer) -> None:
        peer.hello()
        if peer.number == 0:
            calls = [peer.read_call() for _ in range(3)]
            peer.goaway(calls[0].id)
            peer.reply(calls[0])
        else:
            peer.reply(peer.read_call())
        peer.until_end()

    with scripted(play) as server:
        async with client_of(server.target) as client:
            await client._connected()
            taken, second, third = (client.call("x") for _ in range(3))
            for call in (second, third):
                with pytest.raises(fastrpc.ConnectionDraining) as refused:
                    await call
                assert refused.value.ran == "no"
            assert await taken is None
            assert await client.call("x") is None
            assert server.connections == 2


@pytest.mark.asyncio
async def test_the_end_of_an_old_connection_does_not_fail_the_new_attempt() -> None:
    """The attempt is told of its own connection only."""
    dialled = threading.Event()

    def play(peer: Peer) -> None:
        if peer.number == 0:
            peer.hello()
            peer.read_call()
            peer.goaway(1)
            assert dialled.wait(10)
            peer.reset()
        else:
            answer = peer.answer()
            dialled.set()
            while server.alive > 1:
                threading.Event().wait(0.001)
            peer.write(answer)
            peer.reply(peer.read_call())
            peer.until_end()

    with scripted(play) as server:
        async with client_of(server.target) as client:
            first = client.call("x")
            second: Any = None
            await turn_until(lambda: client._links and client._links[0]._draining)
            second = client.call("x")
            with pytest.raises(fastrpc.ConnectionLost):
                await first
            assert await second is None
            assert client._links[0].attempts == 2


@pytest.mark.asyncio
@pytest.mark.parametrize("then", ["goaway", "end", "goaway and end"])
async def test_a_farewell_right_behind_hello_is_seen(then: str) -> None:
    """In one read: nothing may be taken for open that is not."""

    def play(peer: Peer) -> None:
        if peer.number == 0:
            data = peer.answer()
            if "goaway" in then:
                data += b"\xfa\x57\x00\x14\x01\x00\x35\x07" + bytes(12)
            peer.write(data)
            if "end" in then:
                return
        else:
            peer.hello()
            peer.reply(peer.read_call())
        peer.until_end()

    with scripted(play) as server:
        async with client_of(server.target, timeout=5) as client:
            for _ in range(20):
                try:
                    assert await client.call("x") is None
                    break
                except fastrpc.TransportError:
                    continue
            else:
                raise AssertionError("never came back")
            assert server.connections == 2


# Servers that are none


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", WRONG)
async def test_what_a_wrong_server_does_is_told_with_its_address(kind: str) -> None:
    play, name, words = WRONG[kind]
    before = sockets()
    with scripted(play) as server:
        with pytest.raises(getattr(fastrpc, name), match=words) as failed:
            patience = PATIENCE if kind == "silent" else 20.0
            async with fastrpc.connect(server.target, connect_timeout=patience):
                raise AssertionError
        assert failed.value.ran == "no"
        if name != "ProtocolError" or kind == "http":
            assert server.target in str(failed.value)
    await turn_until(lambda: len(asyncio.all_tasks()) == 1)
    await turn_until(lambda: sockets() <= before)


@pytest.mark.asyncio
async def test_protocol_errors_close_the_connection_and_the_client_comes_back() -> None:
    def play(peer: Peer) -> None:
        peer.hello()
        call = peer.read_call()
        if peer.number == 0:
            peer.write(b"garbage, not a frame at all")
        else:
            peer.reply(call)
        peer.until_end()

    with scripted(play) as server:
        async with client_of(server.target) as client:
            with pytest.raises(fastrpc.ConnectionLost, match="no fastrpc server") as lost:
                await client.call("x")
            assert lost.value.ran == "maybe"
            assert await client.options(timeout=5).call("x") is None


@pytest.mark.asyncio
async def test_late_unknown_and_double_replies_reach_nobody() -> None:
    def play(peer: Peer) -> None:
        peer.hello()
        first = peer.read_call()
        second = peer.read_call()
        peer.reply(second, b"\x02")
        peer.reply(second, b"\x63")  # twice
        peer.frame(Kind.CALL, 999, reply=True, serializer=1, payload=b"\x63")  # never asked
        peer.reply(first, b"\x01")
        cancelled = peer.read()
        while cancelled.kind != Kind.CANCEL:
            cancelled = peer.read()
        peer.frame(Kind.CALL, cancelled.id, reply=True, serializer=1, payload=b"\x63")
        peer.reply(peer.read_call(), b"\x04")
        peer.until_end()

    with scripted(play) as server:
        async with client_of(server.target) as client:
            await client._connected()
            first, second = client.call("x"), client.call("x")
            assert await second == 2
            assert await first == 1
            third = asyncio.ensure_future(client.call("x"))
            await asyncio.sleep(0)
            third.cancel()
            await turn_until(lambda: client.lanes[0].given_up == 1)
            assert await client.call("x") == 4
            lane = client.lanes[0]
            assert (lane.unknown, lane.late) == (1, 2)


@pytest.mark.asyncio
async def test_a_flood_goaway_names_the_reason() -> None:
    def play(peer: Peer) -> None:
        peer.hello()
        peer.read_call()
        peer.goaway(0, StatusCode.FLOOD, serializer=1, payload=b"\x81\xa7message\xa4slow")
        peer.until_end()

    with scripted(play) as server:
        async with client_of(server.target) as client:
            with pytest.raises(fastrpc.ConnectionLost, match="status 71: slow") as refused:
                await client.call("x")
            assert refused.value.ran == "no"


@pytest.mark.asyncio
async def test_a_wrong_hello_is_told_although_the_server_keeps_the_connection() -> None:
    stay = threading.Event()

    def play(peer: Peer) -> None:
        peer.hello(nonce="of another connection")
        stay.wait(30)

    with scripted(play) as server:
        try:
            with pytest.raises(fastrpc.ProtocolError):
                async with fastrpc.connect(server.target, connect_timeout=60.0):
                    pass
        finally:
            stay.set()


@pytest.mark.asyncio
async def test_a_second_hello_ends_what_is_open_although_the_server_stays() -> None:
    stay = threading.Event()

    def play(peer: Peer) -> None:
        hello = peer.answer()
        peer.write(hello)
        peer.read_call()
        peer.write(hello)
        stay.wait(30)

    with scripted(play) as server:
        try:
            async with fastrpc.connect(server.target, timeout=60.0) as client:
                with pytest.raises(fastrpc.FastRPCError):
                    await client.call("Work.add", 1, 2)
                assert client._links[0].session is None
        finally:
            stay.set()


@pytest.mark.asyncio
async def test_a_server_that_leaves_with_its_hello() -> None:
    def play(peer: Peer) -> None:
        peer.write(peer.answer() + encode_frame(Kind.GOAWAY, 0, status=StatusCode.UNAVAILABLE))
        peer.until_end()

    with scripted(play) as server:
        with pytest.raises(fastrpc.ConnectFailed, match="shutting down"):
            async with fastrpc.connect(server.target):
                pass
