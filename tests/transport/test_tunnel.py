"""Check tunnels through a forward proxy that is anything but helpful: T25 and F36."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from fastrpc.errors import ConfigError, ConnectFailed, ProxyError
from fastrpc.transport import Target, dial, dial_blocking, listen
from tests.transport import certs
from tests.transport.ends import Client, Echo, sockets, turn_until
from tests.transport.middle import Front, proxying

YES = b"HTTP/1.1 200 Connection established\r\nVia: stub\r\n\r\n"
EARLY = b"early bytes of the far end\r\n\r\n"
SECRET = "http://alice:hunter2@127.0.0.1"


class Stub:
    """A proxy in a thread that says what it is told, to one client after the other.

    Args:
        play: Does it: gets the socket, after the request was read.
    """

    def __init__(self, play: Callable[[socket.socket], None]) -> None:
        self._play = play
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.asked: list[bytes] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listening.accept()
                with sock, contextlib.suppress(OSError):
                    head = b""
                    while b"\r\n\r\n" not in head and (data := sock.recv(65536)):
                        head += data
                    self.asked.append(head)
                    self._play(sock)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(10)
        assert not self._thread.is_alive()


@contextlib.contextmanager
def stub(play: Callable[[socket.socket], None]) -> Iterator[Stub]:
    proxy = Stub(play)
    try:
        yield proxy
    finally:
        proxy.close()


def says(answer: bytes) -> Callable[[socket.socket], None]:
    """Say *answer*, and wait until the client goes."""

    def play(sock: socket.socket) -> None:
        sock.sendall(answer)
        sock.recv(65536)

    return play


def drips(answer: bytes, pause: float) -> Callable[[socket.socket], None]:
    def play(sock: socket.socket) -> None:
        for at in range(len(answer)):
            sock.sendall(answer[at : at + 1])
            time.sleep(pause)

    return play


def floods(sock: socket.socket) -> None:
    """Send headers for ever; a gigabyte if nobody stops it."""
    sock.sendall(b"HTTP/1.1 200 OK\r\n")
    for _ in range(2**14):
        sock.sendall(b"X-More: " + b"x" * 65526 + b"\r\n")


#: What the proxy does, and what the caller is told.
REFUSALS: dict[str, tuple[Callable[[socket.socket], None], str, int]] = {
    "closes": (lambda sock: None, "closed before it answered", 0),
    "half_an_answer": (lambda sock: sock.sendall(YES[:20]), "closed before it answered", 0),
    "407": (says(b"HTTP/1.1 407 Who?\r\n\r\n"), "wants a user and a password (407 Who?)", 407),
    "403": (says(b"HTTP/1.1 403 No\r\n\r\n"), "refuses the tunnel (403 No)", 403),
    "502": (says(b"HTTP/1.0 502 Bad Gateway\r\n\r\n"), "refuses the tunnel (502 Bad", 502),
    "redirect": (
        says(b"HTTP/1.1 301 Moved\r\nLocation: http://evil/\r\n\r\n"),
        "answers with a redirect (301 Moved), which is not followed",
        301,
    ),
    "no_http": (says(b"SSH-2.0-x\r\n\r\n"), "it says 'SSH-2.0-x', which is no HTTP", 0),
    "floods": (floods, "the head of its answer is over 8192 bytes", 0),
    "upgrades": (says(b"HTTP/1.1 101 x\r\nUpgrade: y\r\n\r\n"), "which is no HTTP", 0),
}


async def failure(proxy: str, *, blocking: bool, seconds: float = 5.0, target: str = "") -> Any:
    """Return why there is no connection through *proxy*."""
    target = target or "tcp://far.test:7000"
    try:
        if blocking:
            sock = await asyncio.to_thread(dial_blocking, target, seconds, proxy=proxy)
            sock.close()
        else:
            (await dial(target, Client, timeout=seconds, proxy=proxy))[0].abort()
    except ConnectFailed as error:
        return error
    raise AssertionError("it was let through")


@pytest.mark.asyncio
@pytest.mark.parametrize("blocking", [False, True])
@pytest.mark.parametrize("case", REFUSALS)
async def test_whatever_a_proxy_says_is_a_typed_error(case: str, blocking: bool) -> None:
    play, words, status = REFUSALS[case]
    with stub(play) as proxy:
        before = sockets()
        error = await failure(proxy.url.replace("http://127.0.0.1", SECRET), blocking=blocking)
        assert isinstance(error, ProxyError)
        assert error.http_status == status
        assert words.replace("wants a", "does not accept the").replace(
            "and a p", "and the p"
        ) in str(error), error  # fmt: skip
        assert f"can't connect to tcp://far.test:7000 by the proxy {proxy.url} (" in str(error)
        assert "hunter2" not in str(error)
        assert "alice" not in repr(error)
        await turn_until(lambda: sockets() <= before)
        (asked,) = proxy.asked
    lines = asked.decode().split("\r\n")
    assert lines[:2] == ["CONNECT far.test:7000 HTTP/1.1", "Host: far.test:7000"]
    assert "Proxy-Authorization: Basic YWxpY2U6aHVudGVyMg==" in lines


@pytest.mark.asyncio
@pytest.mark.parametrize("blocking", [False, True])
async def test_without_credentials_407_asks_for_them(blocking: bool) -> None:
    with stub(says(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")) as proxy:
        error = await failure(proxy.url, blocking=blocking)
        assert "wants a user and a password (407" in str(error)
        assert b"Proxy-Authorization" not in proxy.asked[0]


@pytest.mark.asyncio
@pytest.mark.parametrize("blocking", [False, True])
@pytest.mark.parametrize(
    "play", [drips(YES, 0.02), lambda sock: sock.recv(9)], ids=["drip", "deaf"]
)
async def test_a_slow_proxy_costs_no_more_than_the_time_to_connect(
    play: Callable[[socket.socket], None], blocking: bool
) -> None:
    with stub(play) as proxy:
        started = time.monotonic()
        error = await failure(proxy.url, blocking=blocking, seconds=0.2)
        assert time.monotonic() - started < 3.0
        assert isinstance(error, ProxyError)
        assert "no answer from the proxy" in str(error)


@pytest.mark.asyncio
@pytest.mark.parametrize("blocking", [False, True])
async def test_a_proxy_that_is_not_there(blocking: bool) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        error = await failure(f"http://127.0.0.1:{sock.getsockname()[1]}", blocking=blocking)
    assert isinstance(error, ProxyError)
    assert "ECONNREFUSED" in str(error)


@pytest.mark.asyncio
@pytest.mark.parametrize("blocking", [False, True])
async def test_a_proxy_that_closes_after_its_yes(blocking: bool) -> None:
    with stub(lambda sock: sock.sendall(YES)) as proxy:
        error = await failure(proxy.url, blocking=blocking, target="tls://far.test:7000")
        assert not isinstance(error, ProxyError)
        assert "in the middle of the" in str(error) or "closed by the peer" in str(error), error


@pytest.mark.asyncio
@pytest.mark.parametrize("host", ["far\r\nX: y", "far\0", "far away"])
async def test_a_host_that_would_be_a_header_is_asked_of_nobody(host: str) -> None:
    with stub(says(YES)) as proxy:
        for blocking in (False, True):
            with pytest.raises(ConfigError, match="no host name"):
                await failure(
                    proxy.url,
                    blocking=blocking,
                    target=Target("tcp", host=host, port=1),  # type: ignore[arg-type]
                )
        assert not any(proxy.asked)


class Early(Client):
    """A client that waits for all that comes early."""

    def data_received(self, data: bytes) -> None:
        self.received += data
        if self.received.endswith(b"!") and not self.got.done():
            self.got.set_result(self.received)


@pytest.mark.asyncio
@pytest.mark.parametrize("blocking", [False, True])
async def test_an_answer_cut_anywhere_and_no_early_byte_is_lost(blocking: bool) -> None:
    whole = b"HTTP/1.1 100 Wait\r\n\r\n" + YES + EARLY + b"!"
    pause = threading.Event()
    cuts = iter(range(1, len(whole)))

    def play(sock: socket.socket) -> None:
        cut = next(cuts)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(whole[:cut])
        pause.wait(0.001)
        sock.sendall(whole[cut:])
        sock.recv(1)

    with stub(play) as proxy:
        for _ in range(1, len(whole)):
            if blocking:
                sock = await asyncio.to_thread(
                    dial_blocking, "tcp://far.test:1", 5.0, proxy=proxy.url
                )
                found = b""
                while not found.endswith(b"!"):
                    found += sock.recv(65536)
                sock.close()
            else:
                transport, client = await dial(
                    "tcp://far.test:1", Early, timeout=5, proxy=proxy.url
                )
                found = await client.got
                transport.abort()
                await client.lost
            assert found == EARLY + b"!"


@contextlib.asynccontextmanager
async def listening(scheme: str) -> AsyncIterator[str]:
    tls = certs.server_tls() if scheme == "tls" else None
    listener = await listen(f"{scheme}://127.0.0.1:0", Echo, tls=tls)
    try:
        yield listener.targets[0]
    finally:
        listener.close()
        await listener.wait_closed()


@pytest.mark.asyncio
@pytest.mark.parametrize("scheme", ["tcp", "tls"])
async def test_through_a_proxy_that_works(scheme: str) -> None:
    asked: list[bytes] = []
    async with listening(scheme) as target, proxying(asked) as proxy:
        tls = certs.client_options() if scheme == "tls" else None
        transport, client = await dial(target, Client, timeout=5, tls=tls, proxy=proxy)
        transport.write(b"there and back")
        assert await client.got == b"there and back"
        transport.close()
        await client.lost

        def blocking() -> bytes:
            sock = dial_blocking(target, 5.0, tls=tls, proxy=proxy)
            try:
                sock.sendall(b"there and back")
                return sock.recv(100)
            finally:
                sock.close()

        assert await asyncio.to_thread(blocking) == b"there and back"
    place = target.partition("//")[2].encode()
    assert [head.split(b" HTTP")[0] for head in asked] == [b"CONNECT " + place] * 2


@pytest.mark.asyncio
@pytest.mark.parametrize("scheme", ["tcp", "tls", "https"])
async def test_cancelled_at_any_step_it_leaves_nothing(scheme: str) -> None:
    begun: list[Client] = []

    class Noted(Client):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            begun.append(self)

        def eof_received(self) -> None:
            pass

    before = sockets()
    tls = None if scheme == "tcp" else certs.server_tls()
    serve = (lambda: Front(Echo)) if scheme == "https" else Echo
    listener = await listen(f"{scheme}://127.0.0.1:0", serve, tls=tls)
    options = certs.client_options() if tls is not None else None
    async with proxying() as proxy:
        steps, was_cancelled = 0, True
        while was_cancelled:
            dialling = asyncio.create_task(
                dial(listener.targets[0], Noted, timeout=5, tls=options, proxy=proxy)
            )
            for _ in range(steps):
                if not dialling.done():
                    await asyncio.sleep(0)
            dialling.cancel()
            await asyncio.wait([dialling])
            was_cancelled = dialling.cancelled()
            if not was_cancelled:
                dialling.result()[0].abort()
            steps += 1
        assert steps > 8, "there were awaits to cancel at"
    listener.close()
    await listener.wait_closed()
    await turn_until(lambda: sockets() == before)
    await turn_until(lambda: all(client.lost.done() for client in begun))
