"""One connection over which HTTP is spoken: its requests, its time, its end."""

import asyncio
import contextlib
import logging
import socket
import ssl

import pytest

import fastrpc
from fastrpc.gateway.http import PIPELINE_MAX, HttpConnection
from fastrpc.server.http import HttpOptions
from tests.adversity.conftest import Clock, clock  # noqa: F401 - a fixture
from tests.gateway.asking import Arith, Asker, asked, get, post
from tests.server.serving import serving, until
from tests.transport import certs

CALM = logging.getLogger("tests.calm")


async def visitor_of(server: fastrpc.Server) -> HttpConnection:
    """Wait until somebody speaks HTTP; return who."""
    found = server._hall.admission
    await until(lambda: [each for each in found.visitors if isinstance(each, HttpConnection)])
    (visitor,) = found.visitors
    assert isinstance(visitor, HttpConnection)
    return visitor


ADD = post("/rpc/Arith.add", b"[1,2]")


@pytest.mark.asyncio
async def test_one_connection_takes_one_request_after_the_other() -> None:
    async with asked() as (server, _service, asker):
        for _ in range(3):
            response = await asker.ask(ADD)
            assert (response.status, response.body) == (200, b"3")
            assert "connection" not in response.headers
        assert server.stats().connections == 1
        assert server.stats().calls == 3
        assert len(server.peers) == 1, "one session is behind all of them"


@pytest.mark.asyncio
async def test_requests_sent_at_once_are_answered_in_their_order() -> None:
    async with asked() as (_, _service, asker):
        asker.send(ADD, get("/healthz"), post("/rpc/Arith.echo", b'["x"]'), get("/nowhere"), ADD)
        answers = [await asker.answer() for _ in range(5)]
        assert [each.status for each in answers] == [200, 200, 200, 404, 200]
        assert [each.body for each in answers][2:5:2] == [b'"x"', b"3"]


@pytest.mark.asyncio
async def test_every_byte_may_come_alone() -> None:
    async with asked() as (_, _, asker):
        asker.writer.transport.get_extra_info("socket").setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
        )
        for byte in post("/rpc/Arith.echo", b'["\xc3\xa9"]'):
            asker.send(bytes([byte]))
            await asyncio.sleep(0)
        assert (await asker.answer()).body == '"é"'.encode()


@pytest.mark.asyncio
@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_who_wants_it_closed_gets_it_closed(version: str) -> None:
    async with asked() as (_, _, asker):
        response = await asker.ask(post("/rpc/Arith.add", b"[1,2]", version=version,
                                        Connection="close"))  # fmt: skip
        assert (response.body, response.closes) == (b"3", True)
        assert await asker.closed() == b""


@pytest.mark.asyncio
async def test_the_last_of_so_many_requests_closes() -> None:
    async with asked(http=HttpOptions(max_requests=2)) as (_, _, asker):
        assert not (await asker.ask(ADD)).closes
        assert (await asker.ask(ADD)).closes
        assert await asker.closed() == b""


@pytest.mark.asyncio
async def test_who_hangs_up_takes_his_call_along() -> None:
    async with asked() as (server, service, asker):
        asker.send(post("/rpc/Arith.wait", b"[]"))
        await until(lambda: service.ran)
        asker.writer.close()
        await until(lambda: service.fate == "cancelled")
        await until(lambda: not server.stats().connections)


@pytest.mark.asyncio
async def test_who_is_cut_off_takes_his_call_along() -> None:
    async with asked() as (_, service, asker):
        asker.send(post("/rpc/Arith.wait", b"[]"))
        await until(lambda: service.ran)
        asker.writer.transport.abort()
        await until(lambda: service.fate == "cancelled")


@pytest.mark.asyncio
async def test_what_comes_behind_a_request_is_bounded() -> None:
    async with asked() as (server, service, asker):
        asker.send(post("/rpc/Arith.wait", b"[]"))
        await until(lambda: service.ran)
        visitor = await visitor_of(server)
        asker.send(get("/healthz") * 100_000)
        await until(lambda: not visitor._is_reading)
        assert len(visitor.early) < PIPELINE_MAX + 512 * 1024


@pytest.mark.asyncio
async def test_an_empty_line_between_requests_does_not_count() -> None:
    async with asked() as (_, _, asker):
        assert (await asker.ask(ADD)).body == b"3"
        assert (await asker.ask(b"\r\n", ADD)).body == b"3"


@pytest.mark.asyncio
async def test_a_whole_head_counts_as_a_greeting() -> None:
    async with asked() as (server, _, asker):
        await asker.ask(get("/healthz"))
        assert not server._hall.admission._pending


# Drain


@pytest.mark.asyncio
async def test_a_server_that_leaves_closes_what_is_idle() -> None:
    async with asked() as (server, _, asker):
        await asker.ask(ADD)
        await server.aclose(5.0)
        assert await asker.closed() == b""


@pytest.mark.asyncio
async def test_a_server_that_leaves_finishes_what_is_under_way() -> None:
    go = asyncio.Event()

    class Slow:
        async def wait(self) -> str:
            await go.wait()
            return "done"

    async with serving(Slow()) as server, await Asker.connect(server.targets[0]) as asker:
        asker.send(post("/rpc/Slow.wait", b"[]"), ADD)
        await until(lambda: server.stats().running)
        closing = asyncio.ensure_future(server.aclose(5.0))
        await until(lambda: server.stats().state.value == "draining")
        go.set()
        response = await asker.answer()
        assert (response.body, response.closes) == (b'"done"', True)
        assert await asker.closed() == b"", "the next one was not taken"
        asker.writer.close()
        await closing


@pytest.mark.asyncio
async def test_a_server_that_waits_no_longer_answers_what_it_cancels() -> None:
    async with asked() as (server, service, asker):
        asker.send(post("/rpc/Arith.wait", b"[]"))
        await until(lambda: service.ran)
        closing = asyncio.ensure_future(server.aclose(0.05))
        response = await asker.answer()
        assert response.status in (499, 503)
        assert response.error["ran"] == "maybe"
        asker.writer.close()
        await closing


@pytest.mark.asyncio
async def test_a_stream_that_a_leaving_server_ends_says_so() -> None:
    async with asked() as (server, _, asker):
        asker.send(post("/rpc/Arith.tick", b"[]"))
        await asker.head()
        assert await asker.chunk() == b"1\n"
        closing = asyncio.ensure_future(server.aclose(0.05))
        assert b'"error"' in await asker.chunk()
        assert await asker.chunk() == b""
        asker.writer.close()
        await closing


# Time


@pytest.mark.asyncio
async def test_a_head_has_its_time(clock: Clock) -> None:  # noqa: F811
    async with asked(log=CALM, hello_timeout=5.0) as (server, _, asker):
        asker.send(b"GET / HT")
        await clock.let_pass(server, 4.0)
        assert server.stats().connections == 1
        await clock.let_pass(server, 2.0)
        response = await asker.answer()
        assert (response.status, response.closes) == (408, True)
        assert "hello_timeout" in response.error["message"]


@pytest.mark.asyncio
async def test_a_second_head_has_its_time_from_its_first_byte(clock: Clock) -> None:  # noqa: F811
    async with asked(log=CALM, hello_timeout=5.0) as (server, _, asker):
        await asker.ask(ADD)
        await clock.let_pass(server, 30.0)
        asker.send(b"G")
        visitor = await visitor_of(server)
        await until(lambda: visitor.early)
        await clock.let_pass(server, 4.0)
        assert server.stats().connections == 1
        await clock.let_pass(server, 2.0)
        assert (await asker.answer()).status == 408


@pytest.mark.asyncio
async def test_an_idle_connection_is_closed_without_a_word(clock: Clock) -> None:  # noqa: F811
    async with asked(http=HttpOptions(keep_alive=10.0)) as (server, _, asker):
        await asker.ask(ADD)
        await clock.let_pass(server, 9.0)
        assert (await asker.ask(ADD)).body == b"3"
        await clock.let_pass(server, 11.0)
        assert await asker.closed() == b""


@pytest.mark.asyncio
async def test_a_body_has_its_time(clock: Clock) -> None:  # noqa: F811
    async with asked(log=CALM, frame_timeout=5.0) as (server, _, asker):
        asker.send(post("/rpc/Arith.echo", Content_Length="100"), b'["')
        visitor = await visitor_of(server)
        await until(lambda: visitor._stage.name == "BODY")
        await clock.let_pass(server, 6.0)
        assert (await asker.answer()).status == 408
        assert await asker.closed() == b""


@pytest.mark.asyncio
async def test_a_large_body_that_comes_fast_enough_may_take_longer(clock: Clock) -> None:  # noqa: F811
    async with asked(log=CALM, frame_timeout=5.0, frame_rate=100.0) as (server, _, asker):
        asker.send(post("/rpc/Arith.echo", Content_Length="2004"), b'["')
        visitor = await visitor_of(server)
        for number in range(1, 3):
            await clock.look(server)
            asker.send(b"x" * 1000)
            await until(lambda n=number: visitor._bytes_in > n * 1000)
            clock.now += 6.0
            await clock.look(server)
        assert (await asker.ask(b'"]')).status == 200


@pytest.mark.asyncio
async def test_who_reads_nothing_is_cut_off(clock: Clock) -> None:  # noqa: F811
    async with asked(log=CALM, write_stall=5.0) as (server, _service, asker):
        asker.reader._limit = 1  # type: ignore[attr-defined]
        asker.send(post("/rpc/Arith.flood", b"[]"))
        visitor = await visitor_of(server)
        await until(lambda: visitor.is_paused)
        await clock.let_pass(server, 6.0)
        await clock.let_pass(server, 6.0)
        await until(lambda: not server.stats().connections)
        assert server.stats().running == 0


@pytest.mark.asyncio
async def test_a_closed_connection_is_given_up_when_the_peer_stays(clock: Clock) -> None:  # noqa: F811
    async with asked() as (server, _, asker):
        response = await asker.ask(get("/healthz", Connection="close"))
        assert response.closes
        assert server.stats().connections == 1, "its end is still to come"
        await clock.let_pass(server, 1.5)
        await clock.let_pass(server, 1.5)
        await until(lambda: not server.stats().connections)


# Who is let in


@pytest.mark.asyncio
async def test_a_server_that_is_full_turns_away_whoever_has_said_nothing() -> None:
    async with asked(max_connections=2, log=CALM) as (server, _, asker):
        await asker.ask(ADD)
        async with await Asker.connect(server.targets[0]) as silent:
            await until(lambda: server.stats().connections == 2)
            async with await Asker.connect(server.targets[0]) as third:
                assert (await third.ask(ADD)).body == b"3"
                with contextlib.suppress(ConnectionResetError):
                    assert await silent.closed() == b""
        assert (await asker.ask(ADD)).body == b"3"


@pytest.mark.asyncio
async def test_a_unix_socket_serves_http(tmp_path: "object") -> None:
    async with asked(f"unix://{tmp_path}/s") as (_server, _, asker):
        assert (await asker.ask(ADD)).body == b"3"


@pytest.mark.asyncio
@pytest.mark.usefixtures("both_twins")
async def test_both_twins_serve_http() -> None:
    async with asked() as (_, _, asker):
        assert (await asker.ask(ADD)).body == b"3"
        assert (await asker.ask(post("/rpc/Arith.count", b"[2]"))).body == b'0\n1\n{"end":true}\n'
        assert (await asker.ask(post("/rpc/Arith.add", b"[1]"))).status == 400


@pytest.mark.asyncio
async def test_interceptors_and_limits_are_those_of_every_connection() -> None:
    seen: list[str] = []

    def note(handler: fastrpc.Handler) -> fastrpc.Handler:
        async def noted(call: fastrpc.Call) -> fastrpc.Reply:
            seen.append(call.method)
            return await handler(call)

        return noted

    async with serving(Arith(), interceptors=[note], max_running=1) as server:
        async with await Asker.connect(server.targets[0]) as first:
            async with await Asker.connect(server.targets[0]) as second:
                first.send(post("/rpc/Arith.wait", b"[]"))
                await until(lambda: server.stats().running == 1)
                response = await second.ask(post("/rpc/Arith.wait", b"[]"))
                assert (response.status, response.error["ran"]) == (429, "no")
    assert seen[0] == "Arith.wait"


# Inside TLS


@pytest.mark.asyncio
async def test_http_inside_tls() -> None:
    tls = fastrpc.TlsOptions(cert=certs.server_cert())
    async with serving(Arith(), "tls://127.0.0.1:0", tls=tls, max_body=10_000) as server:
        context = ssl.create_default_context(cafile=certs.ca())

        async def connect() -> Asker:
            return await Asker.connect(server.targets[0], ssl=context)

        async with await connect() as asker:
            assert (await asker.ask(ADD)).body == b"3"
            response = await asker.ask(post("/rpc/Arith.count", b"[3]", Connection="close"))
            assert response.body.endswith(b'{"end":true}\n')
            assert await asker.closed() == b""
        async with await connect() as asker:
            old = await asker.ask(post("/rpc/Arith.count", b"[3]", version="1.0"))
            assert old.body.endswith(b'{"end":true}\n'), "the end of the connection is its end"
        async with await connect() as asker:
            asker.send(post("/rpc/Arith.echo", Content_Length="3000000"), bytes(1_000_000))
            assert (await asker.answer()).status == 413
        async with await connect() as asker:
            asker.send(get("/", Connection="Upgrade", Upgrade="fastrpc"))
            assert (await asker.head()).status == 101
