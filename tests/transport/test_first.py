"""What a first byte says: the listener and the doorway agree on it."""

from email.parser import BytesParser

from fastrpc.server.doors import BY_FIRST_BYTE
from fastrpc.transport.first import HTTP_FIRST, TLS_HELLO, bad_request


def test_the_doorway_takes_them_for_the_same() -> None:
    assert BY_FIRST_BYTE[TLS_HELLO[0]].name == "TLS"
    assert {byte for byte, tongue in BY_FIRST_BYTE.items() if tongue.name == "HTTP"} == set(
        HTTP_FIRST
    )


def test_every_method_begins_so() -> None:
    for method in (b"GET", b"POST", b"CONNECT", b"OPTIONS", b"PATCH", b"TRACE", b"PROPFIND"):
        assert method[:1] in HTTP_FIRST
    for other in (b"g", b"{", b"\x16", b"\xfa", b" "):
        assert other not in HTTP_FIRST


def test_a_refusal_is_a_whole_answer() -> None:
    head, _, body = bad_request("Not here: ü.").partition(b"\r\n\r\n")
    status, _, rest = head.partition(b"\r\n")
    headers = BytesParser().parsebytes(rest)
    assert status == b"HTTP/1.1 400 Bad Request"
    assert int(headers["Content-Length"]) == len(body)
    assert headers["Connection"] == "close"
    assert headers.get_content_charset() == "utf-8"
    assert body.decode() == "Not here: ü.\r\n"
