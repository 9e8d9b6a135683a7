"""One request and its answer: bodies, their limits, and the form of answers."""

import logging
from email.utils import parsedate_to_datetime

import pytest

from fastrpc.gateway.exchange import FREE_CHUNKS
from tests.gateway.asking import asked, get, post

CALM = logging.getLogger("tests.calm")
CHUNKED = post("/rpc/Arith.echo", Transfer_Encoding="chunked")


@pytest.mark.asyncio
async def test_answers_say_what_they_are() -> None:
    async with asked() as (_, _, asker):
        headers = (await asker.ask(post("/rpc/Arith.add", b"[1,2]"))).headers
        assert parsedate_to_datetime(headers.pop("date"))
        assert headers == {
            "content-length": "1", "content-type": "application/json",
            "cache-control": "no-store", "x-content-type-options": "nosniff",
        }  # fmt: skip


@pytest.mark.asyncio
async def test_a_body_may_come_in_chunks() -> None:
    async with asked() as (_, _, asker):
        response = await asker.ask(
            CHUNKED, b'3\r\n["a\r\n1;x=y\r\nb\r\n2\r\n"]\r\n0\r\nX: y\r\n\r\n'
        )
        assert response.body == b'"ab"'
        assert (await asker.ask(get("/healthz"))).status == 200


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "body",
    [b"x\r\n", b"-1\r\n[]\r\n", b"3\r\n[1]XX0\r\n\r\n", b"3\n[1]\n0\n\n", b"%b\r\n" % (b"1" * 30),
     b"1\r\n" + b"[", b"0x3\r\n[1]\r\n0\r\n\r\n"],
)  # fmt: skip
async def test_chunks_that_make_no_sense(body: bytes) -> None:
    async with asked() as (_, service, asker):
        asker.send(CHUNKED, body, b"\n" * 100, b"1\r\n")
        response = await asker.answer()
        assert (response.status, response.closes) == (400, True)
        assert not service.ran


@pytest.mark.asyncio
async def test_a_declared_length_over_the_limit_is_refused_before_the_body_comes() -> None:
    async with asked(max_body=1000) as (_server, _, asker):
        response = await asker.ask(post("/rpc/Arith.echo", Content_Length=str(2**30)))
        assert (response.status, response.error["status"], response.closes) == (413, 46, True)
        assert "max_body" in response.error["message"]
        assert await asker.closed() == b""


@pytest.mark.asyncio
async def test_a_body_is_taken_up_to_the_limit_and_not_past_it() -> None:
    async with asked(max_body=1000) as (_server, _, asker):
        fits = b'["' + b"x" * 986 + b'"]'  # and the name counts, as in a frame
        assert len((await asker.ask(post("/rpc/Arith.echo", fits))).body) == 988
        assert (await asker.ask(post("/rpc/Arith.echo", b" " + fits))).status == 413
        parts = [b"%x\r\n%b\r\n" % (495, fits[at : at + 495]) for at in (0, 495)]
        assert (await asker.ask(CHUNKED, *parts, b"0\r\n\r\n")).status == 200
        asker.send(CHUNKED, *parts, b"b\r\n           \r\n")
        response = await asker.answer()
        assert (response.status, response.closes) == (413, True)


@pytest.mark.asyncio
async def test_many_tiny_chunks_are_refused() -> None:
    async with asked() as (_, _, asker):
        asker.send(CHUNKED, b"1\r\n \r\n" * (FREE_CHUNKS + 100))
        response = await asker.answer()
        assert (response.status, "chunks" in response.error["message"]) == (400, True)


@pytest.mark.asyncio
async def test_who_waits_for_a_word_before_the_body_gets_one() -> None:
    async with asked(max_body=1000) as (_server, _, asker):
        head = post("/rpc/Arith.echo", Content_Length="5", Expect="100-continue")
        assert (await asker.ask(head)).head == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert (await asker.ask(b'["a"]')).body == b'"a"'
        refused = await asker.ask(head.replace(b"Length: 5", b"Length: 5000"))
        assert refused.status == 413
    async with asked() as (_, _, asker):
        assert (await asker.ask(head.replace(b"100-continue", b"magic"))).status == 417


@pytest.mark.asyncio
async def test_who_sends_the_body_at_once_gets_no_such_word() -> None:
    async with asked() as (_, _, asker):
        response = await asker.ask(post("/rpc/Arith.echo", b'["a"]', version="1.0",
                                        Expect="100-continue"))  # fmt: skip
        assert (response.status, response.body) == (200, b'"a"')


@pytest.mark.asyncio
async def test_an_upload_does_not_destroy_the_answer() -> None:
    async with asked(max_body=1000, log=CALM) as (_, _, asker):
        asker.send(post("/rpc/Arith.echo", Content_Length="3000000"), bytes(3_000_000))
        response = await asker.answer()
        assert response.status == 413
        assert await asker.closed() == b""


@pytest.mark.asyncio
async def test_head_has_the_head_of_get_and_no_body() -> None:
    async with asked() as (_, service, asker):
        head = await asker.ask(get("/rpc/Arith.show?text=a", method="HEAD"))
        response = await asker.ask(get("/rpc/Arith.show?text=a"))
        assert (head.status, head.body) == (200, b"")
        assert head.headers["content-length"] == response.headers["content-length"]
        assert (await asker.ask(get("/nowhere", method="HEAD"))).status == 404
        assert (await asker.ask(get("/healthz", method="HEAD"))).status == 200
        assert service.ran == ["show", "show"]


@pytest.mark.asyncio
async def test_a_stream_to_an_old_client_ends_with_the_connection() -> None:
    async with asked() as (_, _, asker):
        response = await asker.ask(post("/rpc/Arith.count", b"[3]", version="1.0"))
        assert "transfer-encoding" not in response.headers
        assert response.body == b'0\n1\n2\n{"end":true}\n'


@pytest.mark.asyncio
async def test_items_of_one_turn_leave_in_one_chunk() -> None:
    async with asked() as (_, _, asker):
        asker.send(post("/rpc/Arith.count", b"[100]"))
        await asker.head()
        chunks = []
        while piece := await asker.chunk():
            chunks.append(piece)
        assert len(chunks) < 20
        assert b"".join(chunks).count(b"\n") == 101
