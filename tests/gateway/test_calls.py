"""Methods called by those who ask in HTTP."""

import asyncio
import json

import pytest

import fastrpc
from fastrpc.gateway.calls import ITEMS_AT_ONCE, META_OUT_MAX
from fastrpc.server.http import HttpOptions
from tests.adversity.conftest import Clock, clock  # noqa: F401 - a fixture
from tests.gateway.asking import Asker, asked, get, post
from tests.server.serving import serving, until

LINES = "application/x-ndjson"


@pytest.mark.asyncio
async def test_arguments_by_position_and_by_name() -> None:
    async with asked() as (_, _, asker):
        for body in (b"[1,2]", b'{"a":1,"b":2}', b'{"b":2,"*":[1]}', b" [1, 2]\n"):
            response = await asker.ask(post("/rpc/Arith.add", body))
            assert (response.status, response.body) == (200, b"3")
        assert (await asker.ask(post("/rpc/Arith.nothing", b""))).body == b"null"
        assert (await asker.ask(post("/rpc/Arith.nothing"))).body == b"null"
        assert (await asker.ask(post("/rpc/fastrpc.describe"))).json["services"][0][
            "name"
        ] == "Arith"


@pytest.mark.asyncio
async def test_bytes_are_text_in_base64_as_everywhere_in_json() -> None:
    async with asked() as (_, _, asker):
        assert (await asker.ask(post("/rpc/Arith.octets", b""))).body == b'"YWJj"'


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("path", "body", "http", "status"),
    [
        ("/rpc/Arith.add", b'[1,"x"]', 400, 40),
        ("/rpc/Arith.add", b"[1]", 400, 40),
        ("/rpc/Arith.add", b"5", 400, 40),
        ("/rpc/Arith.add", b"{", 400, 40),
        ("/rpc/Arith.add", b'["\xff"]', 400, 40),
        ("/rpc/Arith.add", b"[1,2] x", 400, 40),
        ("/rpc/Arith.add", b"[" * 5000, 413, 46),
        ("/rpc/Arith.nope", b"[]", 404, 44),
        ("/rpc/Arith.fail", b"[]", 500, 60),
        ("/rpc/Arith.crash", b"[]", 500, 50),
        ("/rpc/Arith.count", b'["x"]', 400, 40),
        ("/rpc/Arith.count", b"[3,0]", 500, 60),
        ("/rpc/Arith.both", b"[]", 501, 47),
        ("/rpc/Arith.total", b"[1]", 415, 47),
    ],
)
async def test_errors_are_json_with_a_status_that_fits(
    path: str, body: bytes, http: int, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with asked() as (_, _, asker):
        response = await asker.ask(post(path, body))
        assert (response.status, response.error["status"]) == (http, status), response
        assert response.error["ran"] == ("yes" if status in (50, 60) else "no")
        assert (await asker.ask(post("/rpc/Arith.nothing"))).status == 200, "the next one goes on"


@pytest.mark.asyncio
async def test_what_an_application_says_stays_in_the_body() -> None:
    async with asked() as (_, _, asker):
        response = await asker.ask(post("/rpc/Arith.fail"))
        assert response.error | {"ran": ""} == {
            "status": 60, "name": "application", "message": "no\r\nSet-Cookie: a=b",
            "type": "RpcError", "ran": "", "code": 7, "data": {"at": 1},
        }  # fmt: skip
        assert b"Set-Cookie" not in response.head


@pytest.mark.asyncio
async def test_who_is_told_to_come_back_later_is_told_when() -> None:
    class Busy:
        def now(self) -> None:
            raise fastrpc.Overloaded("busy", retry_after=1.2)

    def refuse(handler: fastrpc.Handler) -> fastrpc.Handler:
        async def refused(call: fastrpc.Call) -> fastrpc.Reply:
            raise fastrpc.Overloaded("busy", retry_after=1.2)

        return refused

    async with serving(Busy(), interceptors=[refuse]) as server:
        async with await Asker.connect(server.targets[0]) as asker:
            response = await asker.ask(post("/rpc/Busy.now"))
            assert (response.status, response.error["retry_ms"]) == (429, 1200)
            assert response.headers["retry-after"] == "2"


@pytest.mark.asyncio
async def test_headers_are_metadata() -> None:
    async with asked() as (_, _, asker):
        response = await asker.ask(
            post("/rpc/Arith.told", b"", Authorization="Bearer x", traceparent="00-1",
                 Fastrpc_Meta_Shop="7", Cookie="secret", fastrpc_meta_="nothing")
        )  # fmt: skip
        assert response.json == {"authorization": "Bearer x", "traceparent": "00-1", "shop": "7"}


@pytest.mark.asyncio
async def test_metadata_of_a_reply_is_headers_as_far_as_they_can_say_it() -> None:
    meta = [("shop", "7"), ("lines", "a\r\nSet-Cookie: b"), ("raw", b"\xff\0"), ("odd:key", "x"),
            ("space", " x"), ("large", "x" * META_OUT_MAX)]  # fmt: skip

    def add(handler: fastrpc.Handler) -> fastrpc.Handler:
        async def added(call: fastrpc.Call) -> fastrpc.Reply:
            reply = await handler(call)
            reply.metadata = fastrpc.Metadata(meta)
            return reply

        return added

    class Page:
        def one(self) -> int:
            return 1

        async def some(self) -> "AsyncIterator[int]":
            yield 1

    from collections.abc import AsyncIterator

    Page.some.__annotations__["return"] = AsyncIterator[int]
    async with serving(Page(), interceptors=[add]) as server:
        async with await Asker.connect(server.targets[0]) as asker:
            response = await asker.ask(post("/rpc/Page.one"))
            assert response.status == 200
            assert {n: v for n, v in response.headers.items() if "meta" in n} == {
                "fastrpc-meta-shop": "7"
            }
            response = await asker.ask(post("/rpc/Page.some"))
            assert response.body == b'1\n{"end":true,"metadata":{"shop":"7"}}\n'


@pytest.mark.asyncio
async def test_a_call_has_the_time_that_a_header_gives() -> None:
    async with asked() as (_, service, asker):
        response = await asker.ask(post("/rpc/Arith.wait", fastrpc_timeout="0.02"))
        assert (response.status, response.error["status"]) == (504, 51)
        assert service.fate == "cancelled"
        left = (await asker.ask(post("/rpc/Arith.left", fastrpc_timeout="60"))).json
        assert 50 < left <= 60
        assert (await asker.ask(post("/rpc/Arith.left"))).body == b"null"
        for wrong in ("0", "-1", "nan", "inf", "soon", ""):
            assert (await asker.ask(post("/rpc/Arith.left", fastrpc_timeout=wrong))).status == 400


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("kind", "http"),
    [
        ("", 200),
        ("application/x-www-form-urlencoded", 200),
        ("text/plain", 200),
        ("application/vnd.api+json; charset=UTF-8", 200),
        ("application/json; charset=latin-1", 415),
        ("multipart/form-data; boundary=x", 415),
        ("application/xml", 415),
        ("application/jsonx", 415),
    ],
)
async def test_types_of_a_body(kind: str, http: int) -> None:
    async with asked() as (_, _, asker):
        assert (await asker.ask(post("/rpc/Arith.add", b"[1,2]", content_type=kind))).status == http


@pytest.mark.asyncio
@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "identity, gzip"])
async def test_a_compressed_body_is_not_taken(coding: str) -> None:
    async with asked() as (_, service, asker):
        for body, kind in ((b"[1,2]", "application/json"), (b"[1,2]", ""), (b"1", LINES)):
            path = "/rpc/Arith.total" if kind == LINES else "/rpc/Arith.add"
            response = await asker.ask(post(path, body, content_type=kind, Content_Encoding=coding))
            assert (response.status, response.error["status"]) == (415, 47)
        assert not service.ran


@pytest.mark.asyncio
async def test_a_handler_can_not_call_who_asks_in_http() -> None:
    async with asked() as (_, _, asker):
        assert "HTTP" in (await asker.ask(post("/rpc/Arith.push"))).json


# Items that come back


@pytest.mark.asyncio
async def test_items_are_lines_and_the_last_line_says_that_it_is_the_last() -> None:
    async with asked() as (_, service, asker):
        response = await asker.ask(post("/rpc/Arith.count", b'{"n":3}'))
        assert response.headers["content-type"] == LINES
        assert response.headers["x-accel-buffering"] == "no"
        assert response.body == b'0\n1\n2\n{"end":true}\n'
        assert service.fate == "closed"
        response = await asker.ask(post("/rpc/Arith.count", b"[3,2]"))
        *items, last = response.body.splitlines()
        assert (response.status, items) == (200, [b"0", b"1"])
        assert json.loads(last)["error"]["code"] == 7


@pytest.mark.asyncio
async def test_items_are_events_for_who_asks_for_them() -> None:
    async with asked() as (_, _, asker):
        response = await asker.ask(get("/rpc/Arith.count?n=2", Accept="text/event-stream"))
        assert response.headers["content-type"] == "text/event-stream"
        assert response.body == b"data: 0\n\ndata: 1\n\nevent: end\ndata: {}\n\n"
        response = await asker.ask(
            get("/rpc/Arith.count?n=2&fail_at=1", Accept="text/event-stream")
        )
        first, last = response.body.split(b"\n\n")[:2]
        assert (first, last.split(b"\n")[0]) == (b"data: 0", b"event: error")
        assert json.loads(last.split(b"data: ")[1])["error"]["data"] == {"at": 1}


@pytest.mark.asyncio
async def test_each_item_goes_out_when_it_comes() -> None:
    async with asked() as (_, _, asker):
        asker.send(post("/rpc/Arith.tick"))
        await asker.head()
        assert await asker.chunk() == b"1\n"


@pytest.mark.asyncio
async def test_who_hangs_up_ends_the_stream() -> None:
    async with asked() as (server, _service, asker):
        asker.send(post("/rpc/Arith.flood"))
        await asker.head()
        asker.writer.close()
        await until(lambda: not server.stats().running)


@pytest.mark.asyncio
async def test_a_slow_reader_slows_the_handler_down() -> None:
    async with asked(window=50_000) as (server, service, asker):
        asker.writer.transport.pause_reading()
        asker.send(post("/rpc/Arith.flood"))
        await until(lambda: _is_paused(server))
        for _ in range(2000):  # a handler that nothing holds gives an item in each turn, at least
            await asyncio.sleep(0)
        given = len(service.ran)
        taken = given * 10_000
        assert taken < 12 * 2**20, "the kernel's buffers, the window, and no more"
        asker.writer.transport.resume_reading()
        await asker.head()
        for _ in range(given // 2):
            await asker.chunk()
        await until(lambda: len(service.ran) > given)


def _is_paused(server: fastrpc.Server) -> bool:
    return any(getattr(each, "is_paused", False) for each in server._hall.admission.visitors)


@pytest.mark.asyncio
async def test_more_than_the_window_comes_through() -> None:
    async with asked(window=2000) as (_, _, asker):
        response = await asker.ask(post("/rpc/Arith.count", b"[2000]"))
        assert response.body.count(b"\n") == 2001


# Items that go there


@pytest.mark.asyncio
async def test_lines_of_a_body_are_items() -> None:
    async with asked() as (_, _, asker):
        for body in (b"1\n2\n3\n", b"1\r\n2\r\n\r\n3", b"\n\n1\n 5 "):
            response = await asker.ask(post("/rpc/Arith.total", body, content_type=LINES))
            assert response.body == b"6"
        assert (await asker.ask(post("/rpc/Arith.total", b"", content_type=LINES))).body == b"0"
        response = await asker.ask(post("/rpc/Arith.total?times=2", b"4", content_type=LINES))
        assert response.body == b"8"
        wrong = await asker.ask(post("/rpc/Arith.total", b'1\n"x"\n', content_type=LINES))
        assert wrong.status == 400


@pytest.mark.asyncio
async def test_lines_may_come_in_any_pieces_and_take_their_time() -> None:
    async with asked() as (_, _, asker):
        asker.send(post("/rpc/Arith.total", content_type=LINES, Transfer_Encoding="chunked"))
        for byte in b"10\n20\n3":
            asker.send(b"1\r\n%c\r\n" % byte)
            await asyncio.sleep(0)
        assert (await asker.ask(b"0\r\n\r\n")).body == b"33"
        assert (await asker.ask(post("/rpc/Arith.nothing"))).status == 200


@pytest.mark.asyncio
async def test_more_items_than_the_window_and_than_one_turn_takes() -> None:
    async with asked(window=4000) as (_, _, asker):
        body = b"1\n" * (20 * ITEMS_AT_ONCE)
        response = await asker.ask(post("/rpc/Arith.total", body, content_type=LINES))
        assert response.json == 20 * ITEMS_AT_ONCE


@pytest.mark.asyncio
async def test_a_body_of_lines_may_be_longer_than_any_item() -> None:
    async with asked(max_body=1000) as (_, _, asker):
        body = b"1\n" * 2000
        assert (await asker.ask(post("/rpc/Arith.total", body, content_type=LINES))).json == 2000
        response = await asker.ask(
            post("/rpc/Arith.total", b"1\n" + b"1" * 1001, content_type=LINES)
        )
        assert (response.status, response.closes) == (413, True)


@pytest.mark.asyncio
async def test_a_handler_that_has_enough_answers_before_the_body_has_ended() -> None:
    async with asked() as (_, _, asker):
        head = post("/rpc/Arith.first", content_type=LINES, Transfer_Encoding="chunked")
        response = await asker.ask(head, b"2\r\n5\n\r\n")
        assert (response.body, response.closes) == (b"5", True)
        asker.send(b"2\r\n6\n\r\n" * 1000)
        assert await asker.closed() == b""


@pytest.mark.asyncio
async def test_a_body_of_lines_that_is_cut_off_is_no_end() -> None:
    async with asked() as (server, _service, asker):
        asker.send(post("/rpc/Arith.total", content_type=LINES, Transfer_Encoding="chunked"))
        asker.send(b"2\r\n5\n\r\n")
        await until(lambda: server.stats().running)
        asker.writer.close()
        await until(lambda: not server.stats().running)


# Silence


@pytest.mark.asyncio
@pytest.mark.parametrize(("kind", "life"), [("text/event-stream", b":\n\n"), ("*/*", b"\n")])
async def test_a_silent_stream_says_that_it_lives(kind: str, life: bytes, clock: Clock) -> None:  # noqa: F811
    async with asked(http=HttpOptions(silence=10.0)) as (server, _, asker):
        asker.send(post("/rpc/Arith.silent", Accept=kind))
        await until(lambda: server.stats().running)
        await clock.let_pass(server, 2.0)
        assert (await asker.head()).status == 200, "who waits for the head is told there is one"
        await clock.let_pass(server, 9.0)
        assert await asker.chunk() == life
        await clock.let_pass(server, 9.0)
        await clock.let_pass(server, 2.0)
        assert await asker.chunk() == life


@pytest.mark.asyncio
async def test_a_call_that_takes_its_time_has_no_head_before_its_result(clock: Clock) -> None:  # noqa: F811
    async with asked() as (server, service, asker):
        asker.send(post("/rpc/Arith.wait", fastrpc_timeout="50"))
        await until(lambda: service.ran)
        await clock.let_pass(server, 40.0)
        assert not asker.reader._buffer  # type: ignore[attr-defined]
