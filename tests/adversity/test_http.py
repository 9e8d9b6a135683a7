"""A browser at a port without HTTP is told, in its own tongue, that it is wrong here.

What an open door has to stand is in test_http_attacks.
"""

import asyncio
import logging

import pytest

from tests.adversity.raw_peer import PATIENCE, RawPeer, Victim, call
from tests.server.serving import serving

CALM = logging.getLogger("tests.calm")
CLOSED = ("fastrpc",)
METHODS = ("GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE", "PATCH", "CONNECT", "TRACE")


async def answer_to(target: str, request: bytes, size: int = 0) -> bytes:
    """Send an HTTP request, in pieces if *size* says so, and return all that comes back."""
    async with await RawPeer.connect(target) as peer:
        if size:
            await peer.drip(request, size)
        else:
            peer.send(request)
        async with asyncio.timeout(PATIENCE):
            return await peer.reader.read()


def assert_is_a_clean_400(told: bytes) -> None:
    head, _, body = told.partition(b"\r\n\r\n")
    lines = head.decode("ascii").split("\r\n")
    assert lines[0] == "HTTP/1.1 400 Bad Request"
    fields = dict(line.split(": ", 1) for line in lines[1:])
    assert fields["Connection"] == "close"
    assert int(fields["Content-Length"]) == len(body), "something follows the answer"
    assert b"no HTTP" in body


@pytest.mark.asyncio
async def test_every_method_gets_400() -> None:
    async with serving(Victim(), log=CALM, doors=CLOSED) as server:
        for method in METHODS:
            request = f"{method} /some/page HTTP/1.1\r\nHost: example\r\n\r\n".encode()
            assert_is_a_clean_400(await answer_to(server.targets[0], request))


@pytest.mark.asyncio
@pytest.mark.parametrize("size", [1, 7])
async def test_a_request_line_in_pieces(size: int) -> None:
    request = b"GET / HTTP/1.1\r\nHost: example\r\nUser-Agent: slow\r\n\r\n"
    async with serving(Victim(), log=CALM, doors=CLOSED) as server:
        assert_is_a_clean_400(await answer_to(server.targets[0], request, size))


@pytest.mark.asyncio
async def test_an_upload_does_not_destroy_the_answer() -> None:
    # The server stops listening to what is said at the second byte. Were it to close
    # then, the rest of the upload would be answered with a reset.
    request = b"POST / HTTP/1.1\r\nContent-Length: 3000000\r\n\r\n" + bytes(3_000_000)
    async with serving(Victim(), log=CALM, doors=CLOSED) as server:
        assert_is_a_clean_400(await answer_to(server.targets[0], request, size=50_000))


@pytest.mark.asyncio
async def test_http_after_hello_is_no_http() -> None:
    async with serving(Victim(), log=CALM, doors=CLOSED) as server:
        async with await RawPeer.greeted(server.targets[0]) as peer:
            peer.send(call(1), b"GET / HTTP/1.1\r\n\r\n")
            assert [frame.kind for frame in await peer.rest()] == [0, 7]
            assert b"HTTP" not in peer.seen.partition(b"not a frame")[0]
