"""Check the client's half of `Upgrade: fastrpc`: from the loop and blocking, cut anywhere."""

import asyncio
import contextlib
import threading
from typing import Any

import pytest

from fastrpc.errors import ConfigError, ConnectFailed
from fastrpc.testing.watch import Buffered, Plain
from fastrpc.transport import dial, dial_blocking, listen
from fastrpc.transport.upgrade import feed
from tests.transport import certs
from tests.transport.ends import Echo, sockets, turn_until
from tests.transport.middle import Front
from tests.transport.test_tunnel import drips, floods, says, stub

EARLY = b"HELLO of a server in a hurry\r\n\r\n"
YES = Front.ANSWER


class Hears(Plain):
    """Keeps what comes; `heard` waits for so much of it."""

    async def heard(self, count: int) -> bytes:
        await self.until_received(count)
        return bytes(self.received)


class HearsBuffered(Buffered):
    """Does the same, through its own buffer."""

    heard = Hears.heard


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", [Hears, HearsBuffered])
async def test_an_answer_cut_anywhere_and_no_early_byte_is_lost(kind: type[Any]) -> None:
    whole = YES + EARLY
    cuts = iter(range(1, len(whole)))
    pause = threading.Event()

    def play(sock: Any) -> None:
        cut = next(cuts)
        sock.sendall(whole[:cut])
        pause.wait(0.001)
        sock.sendall(whole[cut:])
        sock.recv(1)

    with stub(play) as server:
        for _ in range(1, len(whole)):
            transport, protocol = await dial(f"{server.url}/rpc", kind, timeout=5)
            assert await protocol.heard(len(EARLY)) == EARLY
            assert protocol.transport is transport
            transport.abort()
            await protocol.until_lost()
            assert not protocol.problems
        assert server.asked[0].startswith(b"GET /rpc HTTP/1.1\r\n")


@pytest.mark.parametrize("size", [1, 20, len(YES), len(YES) + 1, len(YES + EARLY)])
def test_blocking_it_leaves_early_bytes_where_they_are(size: int) -> None:
    def play(sock: Any) -> None:
        for at in range(0, len(YES + EARLY), size):
            sock.sendall((YES + EARLY)[at : at + size])
        sock.recv(1)

    with stub(play) as server:
        sock = dial_blocking(server.url, 5.0)
        found = b""
        while len(found) < len(EARLY):
            found += sock.recv(65536)
        assert found == EARLY
        sock.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("blocking", [False, True])
async def test_inside_tls_no_early_byte_is_lost_either(blocking: bool) -> None:
    listener = await listen(
        "https://127.0.0.1:0", lambda: Front(Echo, YES + EARLY), tls=certs.server_tls()
    )
    target, options = listener.targets[0], certs.client_options()
    if blocking:

        def read() -> bytes:
            sock = dial_blocking(target, 5.0, tls=options)
            found = b""
            with contextlib.closing(sock):
                while len(found) < len(EARLY):
                    found += sock.recv(7)
            return found

        assert await asyncio.to_thread(read) == EARLY
    else:
        transport, protocol = await dial(target, Hears, timeout=5, tls=options)
        assert await protocol.heard(len(EARLY)) == EARLY
        transport.abort()
        await protocol.until_lost()
    listener.close()
    await listener.wait_closed()


REFUSALS: dict[str, tuple[Any, str]] = {
    "closes": (lambda sock: None, "closed before it answered"),
    "half": (lambda sock: sock.sendall(YES[:30]), "closed before it answered"),
    "200": (says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"), "answers 200 OK, and not 101"),
    "404": (says(b"HTTP/1.1 404 Not Found\r\n\r\n"), "answers 404 Not Found"),
    "redirect": (says(b"HTTP/1.1 308 x\r\nLocation: /y\r\n\r\n"), "redirect (308 x)"),
    "websocket": (says(YES.replace(b"fastrpc", b"websocket")), "upgrades to 'websocket'"),
    "no_http": (says(b"\xfaW\x01\x00" + bytes(28) + b"\n\n"), "which is no HTTP"),
    "floods": (floods, "over 8192 bytes"),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("blocking", [False, True])
@pytest.mark.parametrize("case", REFUSALS)
async def test_whatever_it_answers_is_a_typed_error(case: str, blocking: bool) -> None:
    play, words = REFUSALS[case]
    made: list[Hears] = []
    with stub(play) as server:
        before = sockets()
        with pytest.raises(ConnectFailed) as raised:
            if blocking:
                (await asyncio.to_thread(dial_blocking, server.url, 5.0)).close()
            else:
                await dial(server.url, lambda: made.append(Hears()) or made[-1], timeout=5)
        assert words in str(raised.value), raised.value
        assert f"can't connect to {server.url} (" in str(raised.value)
        assert made == [], "the protocol is made once the peer has agreed"
        await turn_until(lambda: sockets() <= before)


@pytest.mark.asyncio
@pytest.mark.parametrize("blocking", [False, True])
async def test_a_slow_answer_costs_no_more_than_the_time_to_connect(blocking: bool) -> None:
    with stub(drips(YES, 0.02)) as server:
        before = sockets()
        with pytest.raises(ConnectFailed, match="no answer to the upgrade"):
            if blocking:
                (await asyncio.to_thread(dial_blocking, server.url, 0.1)).close()
            else:
                await dial(server.url, Hears, timeout=0.1)
        await turn_until(lambda: sockets() <= before)


@pytest.mark.asyncio
async def test_a_factory_that_raises_is_the_callers_own_error() -> None:
    def make() -> Hears:
        raise OSError("mine")

    with stub(says(YES)) as server:
        before = sockets()
        with pytest.raises(OSError, match="^mine$"):
            await dial(server.url, make, timeout=5)
        await turn_until(lambda: sockets() <= before)


def test_without_a_loop_there_is_no_websocket() -> None:
    for target in ("ws://127.0.0.1:1", "wss://127.0.0.1:1"):
        with pytest.raises(ConfigError, match="needs an event loop"):
            dial_blocking(target, 1.0)


def test_bytes_reach_protocols_of_either_kind() -> None:
    for kind in (Plain, Buffered):
        protocol = kind()
        protocol.transport = object()
        feed(protocol, b"")
        assert protocol.reads == 0
        feed(protocol, bytes(range(256)) * 10)
        assert protocol.received == bytes(range(256)) * 10
