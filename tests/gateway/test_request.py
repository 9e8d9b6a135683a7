"""Heads of requests: what is read of them, and what is refused."""

import h11
import pytest

from fastrpc.gateway.request import (
    MAX_ARGUMENTS,
    RefusedError,
    Request,
    decoded,
    find_head,
    read_head,
)
from fastrpc.server.http import HttpOptions
from fastrpc.wire import StatusCode

OPTIONS = HttpOptions()


def read(head: bytes, options: HttpOptions = OPTIONS) -> Request:
    return read_head(head, h11.Connection(h11.SERVER), options)


def refused(head: bytes, options: HttpOptions = OPTIONS) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        read(head, options)
    return caught.value


def test_a_head_is_read() -> None:
    request = read(
        b"POST /rpc/A.b?x=1&y HTTP/1.1\r\nHost: Example:80\r\nContent-Type: Text/JSON; charset=UTF-8"
        b"\r\nX-Two: a\r\nx-two: b\r\nContent-Length: 5\r\nConnection: Keep-Alive, Upgrade\r\n\r\n"
    )
    assert (request.method, request.path, request.query) == ("POST", "/rpc/A.b", "x=1&y")
    assert (request.media_type, request.charset) == ("text/json", "utf-8")
    assert request.headers["x-two"] == "a, b"
    assert (request.length, request.has_body, request.host) == (5, True, "Example:80")
    assert request.tokens("connection") == ["keep-alive", "upgrade"]
    assert request.version == "1.1"


def test_a_body_may_have_no_declared_length() -> None:
    chunked = read(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert (chunked.length, chunked.has_body) == (None, True)
    assert not read(b"GET / HTTP/1.0\r\n\r\n").has_body


def test_a_target_may_name_us_in_full() -> None:
    request = read(b"GET http://A:1/rpc?x=1 HTTP/1.1\r\nHost: a:1\r\n\r\n")
    assert (request.path, request.query) == ("/rpc", "x=1")
    assert read(b"GET http://a?x HTTP/1.1\r\nHost: a\r\n\r\n").path == "/"
    assert read(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").path == "*"


def test_a_path_is_not_decoded() -> None:
    assert read(b"GET /%64ebug/rpc HTTP/1.0\r\n\r\n").path == "/%64ebug/rpc"
    assert decoded("A%2Eb%C3%A9", "x") == "A.b\xe9"
    with pytest.raises(RefusedError, match="x is no UTF-8"):
        decoded("%ff", "x")


@pytest.mark.parametrize(
    ("target", "http"),
    [("http://evil/", 421), ("ftp://a/", 400), ("rpc", 400), ("*", 400), ("https://a@b/", 421)],
)
def test_this_is_no_proxy(target: str, http: int) -> None:
    assert refused(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode()).http == http


@pytest.mark.parametrize("target", [b"example.com:443", b"127.0.0.1:22", b"[::1]:80"])
def test_connect_takes_no_host(target: bytes) -> None:
    error = refused(b"CONNECT %b HTTP/1.1\r\nHost: x\r\n\r\n" % target)
    assert (error.http, "no proxy" in error.text) == (405, True)


#: Heads that two readers could understand differently, or that nobody needs.
SMUGGLED = {
    "two lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    "the same length twice": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
    b"Content-Length: 5\r\n\r\n",
    "a list of lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\n",
    "length with a sign": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n",
    "negative length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
    "length in hex": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\n",
    "length with underscore": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1_0\r\n\r\n",
    "endless length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %b\r\n\r\n" % (b"9" * 30),
    "length and chunked": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n",
    "chunked and length": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
    b"Content-Length: 5\r\n\r\n",
    "chunked twice": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n",
    "chunked and another": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    "unknown coding": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
    "chunked in 1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "space before the colon": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\n",
    "tab before the colon": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\t: chunked\r\n\r\n",
    "space before a name": b"POST / HTTP/1.1\r\n Host: a\r\n\r\n",
    "a folded header": b"POST / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
    "a folded coding": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n",
    "CR alone": b"GET / HTTP/1.1\r\nHost: a\r\nX: b\rTransfer-Encoding: chunked\r\n\r\n",
    "LF alone": b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
    "only LF": b"GET / HTTP/1.1\nHost: a\n\n",
    "NUL": b"GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
    "a control character": b"GET / HTTP/1.1\r\nHost: a\r\nX: \x0b\r\n\r\n",
    "DEL": b"GET / HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "two origins": b"GET / HTTP/1.1\r\nHost: a\r\nOrigin: http://a\r\nOrigin: http://b\r\n\r\n",
    "no name": b"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
    "no colon": b"GET / HTTP/1.1\r\nHost: a\r\nb\r\n\r\n",
    "two spaces": b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    "no version": b"GET /\r\nHost: a\r\n\r\n",
    "space in the target": b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    "version in lower case": b"GET / http/1.1\r\nHost: a\r\n\r\n",
    "an empty head": b"\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("head", SMUGGLED.values(), ids=SMUGGLED)
def test_what_is_ambiguous_is_refused(head: bytes) -> None:
    assert refused(head).http in (400, 501)


def test_other_versions_are_not_spoken() -> None:
    assert refused(b"PRI * HTTP/2.0\r\n\r\n").http in (400, 505)
    assert refused(b"GET / HTTP/1.2\r\nHost: a\r\n\r\n").http == 505


def test_only_connect_may_end_lines_in_lf() -> None:
    assert read(b"CONNECT /_goRPC_ HTTP/1.0\n\n").path == "/_goRPC_"


@pytest.mark.parametrize("ending", [b"\r\n", b"\n"])
def test_the_end_of_a_head_is_found_however_it_comes(ending: bytes) -> None:
    whole = ending.join([b"GET / HTTP/1.1", b"Host: a", b"", b"BODY"])
    end = whole.index(b"BODY")
    data = bytearray()
    seen = 0
    for size in range(1, len(whole) + 1):
        data = bytearray(whole[:size])
        found = find_head(data, seen, OPTIONS)
        assert found == (end if size >= end else 0)
        seen = 0 if found else size


def test_limits_of_a_head() -> None:
    options = HttpOptions(max_head=500, max_headers=3, max_target=100)
    fits = b"GET /%b HTTP/1.1\r\nHost: a\r\nX: b\r\nY: c\r\n\r\n" % (b"x" * 99)
    assert find_head(bytearray(fits), 0, options) == len(fits)
    assert len(read(fits, options).path) == 100
    assert refused(fits.replace(b"/x", b"/xx"), options).http == 414
    assert refused(fits.replace(b"Y:", b"Z: d\r\nY:"), options).http == 431
    for target, http in ((b"x" * 90, 431), (b"x" * 200, 414)):
        head = b"GET /%b HTTP/1.1\r\n" % target + b"A: %b\r\n\r\n" % (b"y" * 500)
        for end in (len(head), len(head) - 2):  # whole, and not yet
            with pytest.raises(RefusedError) as caught:
                find_head(bytearray(head[:end]), 0, options)
            assert (caught.value.http, caught.value.status) == (http, StatusCode.TOO_LARGE)
    at_most = b"GET / HTTP/1.1\r\nHost: a\r\nX: "
    at_most += b"y" * (500 - len(at_most) - 4) + b"\r\n\r\n"
    assert find_head(bytearray(at_most), 0, options) == 500
    with pytest.raises(RefusedError, match="max_head"):
        find_head(bytearray(at_most.replace(b"yy", b"yyy")), 0, options)


def test_a_query_is_read() -> None:
    def arguments(query: str) -> list[tuple[str, str]]:
        return Request("GET", "", "/", query, {}, []).arguments()

    assert arguments("") == []
    assert arguments("a=1&b=%C3%A9+x&a=&c==") == [
        ("a", "1"),
        ("b", "\xe9 x"),
        ("a", ""),
        ("c", "="),
    ]
    for query in ("a", "a=%ff", "&".join(["a=1"] * (MAX_ARGUMENTS + 1))):
        with pytest.raises(RefusedError, match="query"):
            arguments(query)


def test_what_is_accepted() -> None:
    def accepts(text: str) -> bool:
        return Request("GET", "", "/", "", {"accept": text}, []).accepts("text/event-stream")

    assert accepts("text/event-stream")
    assert accepts("text/html, Text/Event-Stream;q=0.9")
    assert not accepts("*/*")
    assert not accepts("")
