"""Pages: asked in tasks of their own, and let go with who asks."""

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from fastrpc.server import pages
from fastrpc.server.http import HttpOptions
from fastrpc.server.pages import PAGES, PagePlace, PageRequest, PageResponse
from tests.adversity.conftest import Clock, clock  # noqa: F401 - a fixture
from tests.gateway.asking import asked, get, post
from tests.server.serving import until

CALM = logging.getLogger("tests.calm")


@dataclass
class Book:
    """Pages for tests, and what became of them."""

    asked: list[PageRequest] = field(default_factory=list)
    fate: str = ""

    async def page(self, request: PageRequest) -> PageResponse:
        self.asked.append(request)
        match request.path:
            case "/slow":
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    self.fate = "cancelled"
                    raise
            case "/raise":
                raise KeyError("secret")
            case "/header":
                return PageResponse(headers=(("X", "a\r\nSet-Cookie: b"),))
            case "/large":
                return PageResponse(body=bytes(2**25))
            case "/breaks":
                return PageResponse(body="no bytes")  # type: ignore[arg-type]
        return PageResponse(status=201, body=b"<p>", headers=(("X-A", "b"),))


@pytest.fixture
def book(monkeypatch: pytest.MonkeyPatch) -> Book:
    book = Book()
    module = SimpleNamespace(page=book.page)
    monkeypatch.setattr(pages, "importlib", SimpleNamespace(import_module=lambda name: module))
    monkeypatch.setitem(PAGES, "/book", PagePlace("/book", "health", "x:page", ("GET", "POST")))
    return book


@pytest.mark.asyncio
async def test_a_page_sees_the_request(book: Book) -> None:
    async with asked() as (server, _, asker):
        response = await asker.ask(post("/book/a%20b/c?x=1&y=%C3%A9&x=2", b"body", X_Two="z"))
        assert (response.status, response.body, response.headers["x-a"]) == (201, b"<p>", "b")
        assert response.headers["content-type"].startswith("text/html")
        (request,) = book.asked
        assert (request.method, request.path, request.prefix) == ("POST", "/a%20b/c", "/book")
        assert (request.query, request.body) == ({"x": "2", "y": "\xe9"}, b"body")
        assert request.headers["x-two"] == "z"
        assert request.hall is server._hall
        assert request.peer.startswith("tcp://127.0.0.1:")


@pytest.mark.asyncio
async def test_head_has_no_body_and_other_methods_no_answer(book: Book) -> None:
    async with asked() as (_, _, asker):
        head = await asker.ask(get("/book", method="HEAD"))
        assert (head.status, head.headers["content-length"]) == (201, "3")
        assert book.asked[-1].method == "GET"
        response = await asker.ask(get("/book"))
        assert (response.status, response.body) == (201, b"<p>")
        assert (await asker.ask(get("/book", method="PUT"))).status == 405


@pytest.mark.asyncio
async def test_a_page_takes_a_body_up_to_its_limit_and_not_past_it(book: Book) -> None:
    most = PAGES["/book"].max_body
    assert most == 8192
    chunked = post("/book", Transfer_Encoding="chunked")
    for size, status in ((most, 201), (most + 1, 413)):
        async with asked() as (_, _, asker):
            asker.send(post("/book", bytes(size)))
            response = await asker.answer()
            assert response.status == status
        async with asked() as (_, _, asker):
            asker.send(chunked, b"%x\r\n%b\r\n0\r\n\r\n" % (size, bytes(size)))
            assert (await asker.answer()).status == status
    assert [len(each.body) for each in book.asked] == [most, most]
    assert response.error["message"].endswith("max_body of /book is 8192")


@pytest.mark.asyncio
async def test_the_limit_of_the_server_holds_for_pages_too(book: Book) -> None:
    async with asked(max_body=1000) as (_, _, asker):
        assert (await asker.ask(post("/book", bytes(1000)))).status == 201
        response = await asker.ask(post("/book", bytes(1001)))
        assert (response.status, "max_body is 1000" in response.error["message"]) == (413, True)


@pytest.mark.asyncio
async def test_nothing_large_is_taken_from_who_has_shown_no_token() -> None:
    async with asked(http=HttpOptions(debug_token="a-token-of-24-characters")) as (_, _, asker):
        assert (await asker.ask(post("/debug/rpc/cancel", bytes(8192)))).status == 401
        response = await asker.ask(post("/debug/rpc/cancel", Content_Length="8193"))
        assert (response.status, response.closes) == (413, True), "told before the body comes"


@pytest.mark.asyncio
async def test_a_page_is_let_go_with_its_asker(book: Book) -> None:
    async with asked() as (server, _, asker):
        asker.send(get("/book/slow"))
        await until(lambda: book.asked)
        asker.writer.close()
        await until(lambda: book.fate == "cancelled" and not server.stats().connections)


@pytest.mark.asyncio
async def test_a_page_does_not_outlive_the_server(book: Book) -> None:
    async with asked() as (_, _, asker):
        asker.send(get("/book/slow"))
        await until(lambda: book.asked)
    assert book.fate == "cancelled"


@pytest.mark.asyncio
async def test_what_a_page_raises_is_logged_and_not_told(
    book: Book, caplog: pytest.LogCaptureFixture
) -> None:
    async with asked() as (_, _, asker):
        response = await asker.ask(get("/book/raise"))
        assert (response.status, b"secret" in response.body) == (500, False)
        assert "the page /book raised KeyError" in caplog.text
        assert (await asker.ask(get("/book"))).status == 201


@pytest.mark.asyncio
async def test_a_header_that_would_be_two_is_none(book: Book) -> None:
    async with asked(log=CALM) as (_, _, asker):
        response = await asker.ask(get("/book/header"))
        assert (response.status, b"Set-Cookie" in response.head) == (500, False)


@pytest.mark.asyncio
async def test_an_answer_that_breaks_can_not_pass_for_whole(book: Book) -> None:
    async with asked(log=CALM) as (server, _, asker):
        asker.send(get("/book/breaks"))
        told = b""
        with contextlib.suppress(ConnectionResetError):
            told = await asker.closed()
        assert not told.endswith(b"0\r\n\r\n")
        await until(lambda: not server.stats().connections)


@pytest.mark.asyncio
async def test_the_server_says_that_it_lives_and_is_ready() -> None:
    async with asked() as (_, _, asker):
        assert (await asker.ask(get("/healthz"))).json == {"status": "alive"}
        assert (await asker.ask(get("/readyz"))).json == {"status": "ready"}


@pytest.mark.asyncio
async def test_a_page_that_nobody_reads_is_cut_off(book: Book, clock: Clock) -> None:  # noqa: F811
    async with asked(log=CALM, write_stall=5.0) as (server, _, asker):
        asker.writer.transport.pause_reading()
        asker.send(get("/book/large"))
        await until(lambda: book.asked)
        for _ in range(3):
            await clock.let_pass(server, 6.0)
        await until(lambda: not server.stats().connections)
