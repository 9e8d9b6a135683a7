"""Check whom the WebSocket handshake lets in, and what the others are told (T26)."""

import base64
import hashlib
from typing import Any

import pytest

from fastrpc.transport.websocket_handshake import Decision, decide
from tests.transport.test_origin import ORIGINS

# The example of RFC 6455, section 1.3.
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

USUAL = {
    "Host": "server.example:7000",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY.decode(),
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Protocol": "fastrpc.1",
}


def ask(method: str = "GET", *, origins: Any = (), **changes: str | None) -> Decision:
    """Decide about a usual request with some headers changed, or left out for None."""
    given = {name.replace("_", "-").lower(): value for name, value in changes.items()}
    headers = {name.lower(): value for name, value in USUAL.items()} | given
    as_came = [
        (name.encode(), value.encode()) for name, value in headers.items() if value is not None
    ]
    return decide(method, "/", as_came, origins=origins)


def status_of(found: Decision) -> int:
    """Return the status of the answer."""
    return int(found.response.split(b" ", 2)[1])


def test_the_example_of_the_standard_is_let_in() -> None:
    assert base64.b64encode(
        hashlib.sha1(KEY + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    ) == (ACCEPT)
    found = ask()
    assert (found.subprotocol, status_of(found)) == ("fastrpc.1", 101)
    head = found.response.split(b"\r\n")
    assert head[0] == b"HTTP/1.1 101 Switching Protocols"
    assert b"Sec-WebSocket-Accept: " + ACCEPT in head
    assert b"Sec-WebSocket-Protocol: fastrpc.1" in head
    assert found.response.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [("jsonrpc", "jsonrpc"), ("chat, jsonrpc", "jsonrpc"), ("jsonrpc,fastrpc.1", "fastrpc.1")],
)
def test_the_best_known_subprotocol_is_chosen(offered: str, chosen: str) -> None:
    assert ask(sec_websocket_protocol=offered).subprotocol == chosen


@pytest.mark.parametrize("offered", [None, "chat", "FASTRPC.1", "fastrpc"])
def test_without_a_known_subprotocol_it_is_told_which_there_are(offered: str | None) -> None:
    found = ask(sec_websocket_protocol=offered)
    assert (found.subprotocol, status_of(found)) == ("", 400)
    assert b"fastrpc.1 or jsonrpc" in found.response.partition(b"\r\n\r\n")[2]


REFUSALS: list[tuple[dict[str, str | None], int, bytes]] = [
    ({"sec_websocket_version": "8"}, 426, b"Sec-WebSocket-Version: 13"),
    ({"sec_websocket_version": None}, 400, b"Sec-WebSocket-Version"),
    ({"sec_websocket_key": None}, 400, b"Sec-WebSocket-Key"),
    ({"sec_websocket_key": "short"}, 400, b"Sec-WebSocket-Key"),
    ({"sec_websocket_key": "dG9vIHNob3J0"}, 400, b"Sec-WebSocket-Key"),
    ({"upgrade": "h2c"}, 426, b"Upgrade: websocket"),
    ({"connection": "close"}, 426, b"Connection"),
    ({"sec_websocket_protocol": "a b"}, 400, b"Sec-WebSocket-Protocol"),
    ({"upgrade": "\x00"}, 400, b""),
    ({"origin": "https://evil.example"}, 403, b"evil.example"),
]


@pytest.mark.parametrize(("changes", "status", "words"), REFUSALS)
def test_others_are_refused_in_words(
    changes: dict[str, str | None], status: int, words: bytes
) -> None:
    found = ask(**changes)
    assert (found.subprotocol, status_of(found)) == ("", status)
    assert found.response.startswith(b"HTTP/1.1 %d " % status)
    assert words in found.response
    head, _, body = found.response.partition(b"\r\n\r\n")
    assert b"content-length: %d" % len(body) in head.lower(), "no end to the answer"
    assert b"connection: close" in head.lower()


def test_another_method_is_refused() -> None:
    assert status_of(ask("POST")) == 405


def test_headers_twice_are_refused() -> None:
    usual = [(name.encode(), value.encode()) for name, value in USUAL.items()]
    for name in (b"Sec-WebSocket-Key", b"Origin"):
        twice = [*usual, (name, b"https://server.example:7000"), (name, KEY)]
        assert status_of(decide("GET", "/", twice)) == 400


def test_extensions_are_not_agreed_on() -> None:
    found = ask(sec_websocket_extensions="permessage-deflate; client_max_window_bits")
    assert found.subprotocol == "fastrpc.1"
    assert b"extensions" not in found.response.lower()


@pytest.mark.parametrize(("origin", "host", "origins", "allowed"), ORIGINS)
def test_which_pages_may_connect(
    origin: str, host: str, origins: tuple[str, ...], allowed: bool
) -> None:
    found = ask(origin=origin, host=host, origins=origins)
    assert status_of(found) == (101 if allowed else 403)


def test_who_is_no_browser_has_no_origin_and_is_let_in() -> None:
    assert status_of(ask(origin=None)) == 101


def test_a_page_is_refused_before_its_subprotocol_is_looked_at() -> None:
    found = ask(origin="https://evil.example", sec_websocket_protocol=None)
    assert status_of(found) == 403
