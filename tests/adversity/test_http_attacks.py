"""What an open HTTP door has to stand. Numbers are the rows of the list of attacks."""

import asyncio
import contextlib
import logging
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrpc
from fastrpc.gateway.http import PIPELINE_MAX, HttpConnection
from fastrpc.server.http import HttpOptions
from tests.adversity.conftest import Clock
from tests.gateway.asking import PATIENCE, Arith, Asker, get, post
from tests.server.serving import serving, until

CALM = logging.getLogger("tests.calm")
ADD = post("/rpc/Arith.add", b"[1,2]")


async def assert_serves(server: fastrpc.Server) -> None:
    """Let somebody else call, who has nothing to do with it."""
    async with await Asker.connect(server.targets[0]) as good:
        assert (await good.ask(ADD)).body == b"3"


@contextlib.asynccontextmanager
async def crowd(server: fastrpc.Server, size: int) -> AsyncIterator[list[Asker]]:
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(await Asker.connect(server.targets[0]))
            for _ in range(size)
        ]


def visitors(server: fastrpc.Server) -> list[HttpConnection]:
    return [each for each in server._hall.admission.visitors if isinstance(each, HttpConnection)]


# T2, T3: slow and silent


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "drop",
    [b"GET / HTTP/1.1\r\nX: ", post("/rpc/Arith.echo", Content_Length="9999") + b"["],
    ids=["head", "body"],
)
async def test_slow_peers_are_cut_off_and_harm_nobody(drop: bytes, clock: Clock) -> None:
    async with (
        serving(Arith(), log=CALM, hello_timeout=5.0, frame_timeout=5.0, frame_rate=10.0) as server,
        crowd(server, 50) as slow,
    ):
        for each in slow:
            each.send(drop)
        await until(lambda: len(visitors(server)) == 50)
        for _ in range(8):
            for each in slow:
                each.send(b"x")  # a byte a second
            await clock.let_pass(server, 1.0)
        await assert_serves(server)
        answers = await asyncio.gather(*(each.answer() for each in slow))
        assert {each.status for each in answers} == {408}


@pytest.mark.asyncio
async def test_heads_that_are_never_whole_count_as_silent() -> None:
    async with serving(Arith(), log=CALM, max_pending=10) as server, crowd(server, 40) as slow:
        for each in slow:
            each.send(b"GET / HTTP/1.1\r\n")
        await until(lambda: server.stats().turned_away >= 30)
        assert server.stats().connections <= 11
        await assert_serves(server)


# T9: who reads nothing


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["text/event-stream", "*/*"])
async def test_readers_that_read_nothing_cost_a_bounded_amount(kind: str) -> None:
    async with serving(Arith(), log=CALM, window=64 * 1024) as server, crowd(server, 10) as slow:
        for each in slow:
            each.writer.transport.pause_reading()
            each.send(post("/rpc/Arith.flood", Accept=kind))
        await until(lambda: len([v for v in visitors(server) if v.is_paused]) == 10)
        tracemalloc.start()
        try:
            for _ in range(50):
                await asyncio.sleep(0)
            await assert_serves(server)
            grown, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert grown < 10 * 2 * 64 * 1024, "it waits, and does not pile up"
        for visitor in visitors(server):
            assert visitor.transport.get_write_buffer_size() < 1024 * 1024


@pytest.mark.asyncio
async def test_all_of_them_together_hold_only_so_much() -> None:
    async with (
        serving(Arith(), log=CALM, max_unsent_total=300_000, window=2**20) as server,
        crowd(server, 8) as slow,
    ):
        for each in slow:
            each.writer.transport.pause_reading()
            each.send(post("/rpc/Arith.flood"))
        await until(lambda: server.stats().connections < 8)
        await assert_serves(server)


@pytest.mark.asyncio
async def test_a_flood_of_requests_whose_answers_nobody_reads() -> None:
    async with serving(Arith(), log=CALM) as server, await_asker(server) as flood:
        flood.writer.transport.pause_reading()
        text = b'["%b"]' % (b"x" * 100_000)
        flood.send(post("/rpc/Arith.echo", text) * 200)
        await until(lambda: any(each.is_paused for each in visitors(server)))
        calls = -1
        while calls != server.stats().calls:
            calls = server.stats().calls
            await asyncio.sleep(0.02)
        assert calls < 150, "the next is not begun before the last is read"
        (visitor,) = visitors(server)
        assert len(visitor.early) < PIPELINE_MAX + 512 * 1024
        await assert_serves(server)
        flood.writer.transport.resume_reading()
        answers = [await flood.answer() for _ in range(200)]
        assert {(each.status, len(each.body)) for each in answers} == {(200, 100_002)}


@contextlib.asynccontextmanager
async def await_asker(server: fastrpc.Server) -> AsyncIterator[Asker]:
    async with await Asker.connect(server.targets[0]) as asker:
        yield asker


@pytest.mark.asyncio
async def test_a_flood_of_small_requests_lets_others_in_between() -> None:
    async with serving(Arith(), log=CALM) as server, await_asker(server) as flood:
        flood.send(get("/nowhere") * 3000)
        async with await Asker.connect(server.targets[0]) as good:
            for _ in range(20):
                assert (await good.ask(ADD)).body == b"3"
            assert (await flood.answer()).status == 404


# T10, T11: bombs


@pytest.mark.asyncio
async def test_a_body_of_a_gigabyte_is_refused_unread() -> None:
    async with serving(Arith(), log=CALM) as server, await_asker(server) as asker:
        for length in (2**30, 2**63, 10**19):
            async with await_asker(server) as asker:
                response = await asker.ask(post("/rpc/Arith.echo", Content_Length=str(length)))
                assert (response.status, response.closes) == (413, True)
        await assert_serves(server)


@pytest.mark.asyncio
async def test_a_body_without_end_is_cut_at_the_limit() -> None:
    async with serving(Arith(), log=CALM, max_body=100_000) as server:
        async with await_asker(server) as asker:
            asker.send(post("/rpc/Arith.echo", Transfer_Encoding="chunked"))
            chunk = b"2000\r\n" + b" " * 0x2000 + b"\r\n"
            with contextlib.suppress(ConnectionError):
                for _ in range(200):
                    asker.send(chunk)
                    await asker.writer.drain()
            assert (await asker.answer()).status == 413


@pytest.mark.asyncio
async def test_a_line_without_end_is_cut_at_the_limit() -> None:
    async with serving(Arith(), log=CALM, max_body=100_000) as server:
        async with await_asker(server) as asker:
            asker.send(post("/rpc/Arith.total", content_type="application/x-ndjson",
                            Content_Length=str(10**9)))  # fmt: skip
            asker.send(b" " * 200_000)
            assert (await asker.answer()).status == 413
            await until(lambda: not server.stats().running)


# T25: as a proxy, and headers that are more than one


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "request_",
    [
        b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n",
        b"CONNECT http://127.0.0.1:%d/ HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n",
        b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: localhost:%d\r\n\r\n",
        b"GET //127.0.0.1:%d/ HTTP/1.1\r\nHost: localhost:%d\r\n\r\n",
    ],
)
async def test_nobody_gets_through_to_elsewhere(request_: bytes) -> None:
    reached = 0

    def inner(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal reached
        reached += 1
        writer.close()

    elsewhere = await asyncio.start_server(inner, "127.0.0.1", 0)
    port = elsewhere.sockets[0].getsockname()[1]
    async with elsewhere, serving(Arith(), log=CALM) as server, await_asker(server) as asker:
        response = await asker.ask(request_ % (port, port))
        assert response.status in (400, 404, 405, 421)
        await assert_serves(server)
    assert not reached


# T27: headers without end


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("head", "http"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 64 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 100_000, 431),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 2**20, 431),
        (b"GET /" + b"y" * 2**20, 414),
        (b"GET /%b HTTP/1.1\r\nHost: localhost\r\n\r\n" % (b"y" * 4096), 414),
        (b"G" * 2**20, 414),
    ],
    ids=["64", "100000", "long", "path", "path 4096", "method"],
)
async def test_a_head_without_end_is_refused_and_others_go_on(head: bytes, http: int) -> None:
    async with serving(Arith(), log=CALM) as server, await_asker(server) as other:
        assert (await other.ask(ADD)).body == b"3"
        async with await_asker(server) as asker:
            response = await asker.ask(head)
            assert (response.status, response.closes) == (http, True)
        assert (await other.ask(ADD)).body == b"3"


@pytest.mark.asyncio
async def test_63_headers_and_the_host_are_taken() -> None:
    async with serving(Arith(), log=CALM) as server, await_asker(server) as asker:
        head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 63 + b"\r\n"
        assert (await asker.ask(head)).status == 200


# Smuggled requests: what stands in the body of one is never another


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "head",
    [
        b"POST /rpc/Arith.echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n",
        b"POST /rpc/Arith.echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
        b"Content-Length: 3\r\n\r\n",
        b"POST /rpc/Arith.echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding : chunked\r\n\r\n",
        b"POST /rpc/Arith.echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: \x0bchunked"
        b"\r\n\r\n",
        b"POST /rpc/Arith.echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n"
        b"Content-Length: 44\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
    ],
)
async def test_nothing_is_smuggled_in(head: bytes) -> None:
    service = Arith()
    async with serving(service, log=CALM) as server, await_asker(server) as asker:
        response = await asker.ask(head, b"0\r\n\r\n", ADD)
        assert (response.status, response.closes) == (400, True)
        assert await asker.closed() == b"", "nothing behind it was taken for a request"
        assert not service.ran


# Anything at all


PIECES = (
    b"GET ", b"POST ", b"CONNECT ", b"/", b"/rpc/Arith.add", b"/rpc/Arith.count", b" HTTP/1.1\r\n",
    b" HTTP/1.0\r\n", b"\r\n", b"\r\n\r\n", b"\n", b"Host: localhost\r\n", b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n",
    b"Content-Type: application/x-ndjson\r\n", b"Connection: close\r\n", b"Connection: Upgrade\r\n",
    b"Upgrade: fastrpc\r\n", b"Upgrade: websocket\r\n", b"Origin: null\r\n", b"[1,2]", b"5\r\n",
    b"0\r\n", b"{", b"\xfa\x57", b"\0", b"X" * 300, b": ", ADD,
)  # fmt: skip


@settings(max_examples=60)
@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=14), st.integers(0, 3))
def test_whatever_is_said_the_server_goes_on(pieces: list[bytes], cut: int) -> None:
    raised: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, told: raised.append(told))
        async with serving(Arith(), log=CALM) as server:
            async with await_asker(server) as asker:
                said = b"".join(pieces)
                for part in (said[: len(said) * cut // 4], said[len(said) * cut // 4 :]):
                    asker.send(b"G" * (not part[:1].isalpha() and part is said), part)
                    await asyncio.sleep(0)
                asker.writer.write_eof()
                with contextlib.suppress(ConnectionError):
                    async with asyncio.timeout(PATIENCE):
                        await asker.reader.read()
            await assert_serves(server)

    asyncio.run(main())
    assert not raised


@pytest.mark.asyncio
async def test_a_request_may_be_cut_at_any_byte() -> None:
    request = post("/rpc/Arith.total", b"1\n2\n", content_type="application/x-ndjson")
    async with serving(Arith(), log=CALM) as server:
        for size in range(1, len(request), 3):
            async with await_asker(server) as asker:
                asker.send(request[:size])
        await until(lambda: not server.stats().connections and not server.stats().running)
        await assert_serves(server)


@pytest.mark.asyncio
async def test_a_flood_of_bad_requests_writes_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(Arith(), http=HttpOptions()) as server:
        for _ in range(100):
            async with await_asker(server) as asker:
                assert (await asker.ask(b"GET x HTTP/1.1\r\nHost: a\r\n\r\n")).status == 400
    assert len(caplog.records) < 10
