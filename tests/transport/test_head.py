"""Check the reader of answers: cut anywhere, and not a byte more than the head."""

import pytest

from fastrpc.errors import ConfigError
from fastrpc.transport import Target
from fastrpc.transport.head import (
    HEAD_MAX,
    HEADERS_MAX,
    BadAnswer,
    HeadReader,
    ask_upgrade,
    refused_upgrade,
)

PLACE = Target("http", host="example.org", port=80, path="/rpc")
YES = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: FastRPC\r\nConnection: upgrade\r\n\r\n"
EARLY = b"\xfaW\x01\x00 and\n\n more\r\n\r\n"


def fed(data: bytes, size: int) -> tuple[HeadReader, bytes]:
    """Feed *data* in pieces, as a socket that is peeked at; return what was left."""
    reader = ask_upgrade(PLACE)
    rest = data
    while rest and reader.answer is None:
        rest = rest[reader.take(rest[:size]) :]
    return reader, rest


def test_the_request_is_an_upgrade() -> None:
    lines = ask_upgrade(PLACE).request.decode().split("\r\n")
    assert lines[0] == "GET /rpc HTTP/1.1"
    assert {"Host: example.org:80", "Connection: Upgrade", "Upgrade: fastrpc"} <= set(lines)
    assert lines[-2:] == ["", ""]


@pytest.mark.parametrize("size", range(1, len(YES) + len(EARLY) + 1))
def test_an_answer_cut_anywhere_and_nothing_of_what_follows(size: int) -> None:
    reader, rest = fed(YES + EARLY, size)
    assert reader.answer is not None
    assert refused_upgrade(reader.answer) == ""
    assert rest == EARLY


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_answers_on_the_way_are_passed_over(size: int) -> None:
    reader, rest = fed(b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" * 3 + YES + EARLY, size)
    assert reader.answer is not None
    assert (reader.answer.status, rest) == (101, EARLY)


@pytest.mark.parametrize("size", [1, 100, 65536])
def test_bare_line_feeds_and_old_http(size: int) -> None:
    reader = HeadReader("CONNECT", "a:1", "a:1", [])
    data, rest = b"HTTP/1.0 200 OK\nVia: x\n\nrest", b""
    rest = data
    while reader.answer is None:
        rest = rest[reader.take(rest[:size]) :]
    assert (str(reader.answer), rest) == ("200 OK", b"rest")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "it says 'SSH-2.0-OpenSSH_9.2', which is no HTTP"),
        (b"\r\n\r\n", "which is no HTTP"),
        (b"HTTP/1.1 101 x\r\nno colon\r\n\r\n", "which is no HTTP"),
        (b"HTTP/1.1 101 x\r\nX: " + b"y" * HEAD_MAX, "over 8192 bytes"),
        (b"x" * (HEAD_MAX + 1), "over 8192 bytes"),
        (b"HTTP/1.1 100 Go on\r\n\r\n" * 400, "over 8192 bytes"),
        (b"HTTP/1.1 101 x\r\n" + b"X: y\r\n" * (HEADERS_MAX + 1) + b"\r\n", "over 64 headers"),
    ],
)
@pytest.mark.parametrize("size", [1, 1000, 65536])
def test_what_is_no_answer(data: bytes, words: str, size: int) -> None:
    with pytest.raises(BadAnswer, match=words.replace("(", r"\(")):
        fed(data, size)


def test_a_head_at_the_limits_is_taken() -> None:
    start = b"HTTP/1.1 101 x\r\n" + b"X: y\r\n" * (HEADERS_MAX - 1) + b"Y: "
    head = start + b"z" * (HEAD_MAX - len(start) - 4) + b"\r\n\r\n"
    assert len(head) == HEAD_MAX
    reader, rest = fed(head + b"!", 65536)
    assert reader.answer is not None
    assert rest == b"!"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (YES, ""),
        (YES.replace(b"FastRPC", b"websocket"), "upgrades to 'websocket', not to fastrpc"),
        (YES.replace(b"Upgrade: FastRPC\r\n", b""), "upgrades to '', not to fastrpc"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://a\r\n\r\n", r"redirect \(302 Found\), which"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "answers 200 OK, and not 101"),
        (b"HTTP/1.1 404 N\x9bot F\xf6und\r\n\r\n", "answers 404 Not Föund"),
    ],
)
def test_what_is_no_agreement(answer: bytes, words: str) -> None:
    reader, _ = fed(answer, 65536)
    assert reader.answer is not None
    import re

    assert re.search(words, refused_upgrade(reader.answer))
    assert bool(refused_upgrade(reader.answer)) is bool(words)


@pytest.mark.parametrize("host", ["a\r\nX-Evil: 1", "a\nb", "a\0b", "a b"])
def test_a_host_makes_no_header(host: str) -> None:
    with pytest.raises(ConfigError, match="is no host name"):
        ask_upgrade(Target("http", host=host, port=80, path="/"))


def test_names_beyond_ascii() -> None:
    request = ask_upgrade(Target("http", host="bücher.example", port=80, path="/")).request
    assert b"Host: xn--bcher-kva.example:80\r\n" in request
    with pytest.raises(ConfigError, match="is no host name"):
        ask_upgrade(Target("http", host="ü" * 70, port=80, path="/"))
