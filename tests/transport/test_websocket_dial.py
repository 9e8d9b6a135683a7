"""Check the client's half of the handshake: what is asked, and answers of every kind."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from fastrpc.errors import ConnectFailed
from fastrpc.transport import dial, listen, parse_target
from fastrpc.transport.websocket import WebSocketPipe
from fastrpc.transport.websocket_dial import HEAD_MAX, WebSocketDial
from fastrpc.transport.websocket_handshake import decide
from tests.transport import websocket_raw as raw
from tests.transport.ends import Client, descriptors, turn_until
from tests.transport.websocket_raw import BINARY, put

pytestmark = pytest.mark.asyncio
Answer = Callable[[bytes], bytes]


def headers_of(request: bytes) -> list[tuple[bytes, bytes]]:
    lines = request.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    return [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]


def agreed(request: bytes) -> bytes:
    return decide("GET", "/", headers_of(request)).response


class Answering(asyncio.Protocol):
    """Gives one answer to one request."""

    transport: asyncio.Transport

    def __init__(self, answer: Answer, hangs_up: bool, step: int) -> None:
        self.asked = b""
        self.is_lost = False
        self._how = answer, hangs_up, step

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self.asked.endswith(b"\r\n\r\n"):
            return
        self.asked += data
        if self.asked.endswith(b"\r\n\r\n"):
            answer, hangs_up, step = self._how
            said = answer(self.asked)
            for part in raw.chop(said, step or len(said)):
                self.transport.write(part)
            if hangs_up:
                self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True


@contextlib.asynccontextmanager
async def answering(
    answer: Answer, *, hangs_up: bool = False, step: int = 0
) -> AsyncIterator[tuple[str, list[Answering]]]:
    """Serve one answer to each who asks; give host:port and the connections."""
    made: list[Answering] = []

    def make() -> Answering:
        made.append(Answering(answer, hangs_up, step))
        return made[-1]

    listener = await listen("tcp://127.0.0.1:0", make)
    try:
        yield listener.targets[0].removeprefix("tcp://"), made
        await turn_until(lambda: all(each.is_lost for each in made))
    finally:
        listener.close()
        await listener.wait_closed()


async def upgrade(
    place: str, path: str = "", origin: str | None = None
) -> tuple[asyncio.Transport, Client]:
    step = WebSocketDial(parse_target(f"ws://{place}{path}"), Client, origin=origin)
    host, _, port = place.rpartition(":")
    await asyncio.get_running_loop().create_connection(lambda: step, host, int(port))
    async with asyncio.timeout(5):
        transport, client = await step.done
    assert isinstance(client, Client)
    return transport, client


async def refused(place: str) -> str:
    with pytest.raises(ConnectFailed) as info:
        await upgrade(place)
    assert f"ws://{place}" in str(info.value)
    return str(info.value)


@pytest.mark.parametrize("step", [0, 1])
async def test_what_is_asked_and_bytes_that_came_early(step: int) -> None:
    early = put(BINARY, b"early", mask=None)
    async with answering(lambda request: agreed(request) + early, step=step) as (place, asked):
        transport, client = await upgrade(place, "/path/to%20it")
        assert isinstance(transport, WebSocketPipe)
        assert transport.get_protocol() is client
        await turn_until(lambda: client.received == b"early")
        transport.abort()
        await client.lost
    request = asked[0].asked
    assert request.startswith(b"GET /path/to%20it HTTP/1.1\r\n")
    headers = {name.lower(): value for name, value in headers_of(request)}
    assert headers[b"host"] == place.encode()
    assert headers[b"sec-websocket-protocol"] == b"fastrpc.1"
    assert headers[b"sec-websocket-version"] == b"13"
    assert b"origin" not in headers
    assert b"sec-websocket-extensions" not in headers


async def test_an_origin_is_said_if_asked_for() -> None:
    async with answering(agreed) as (place, asked):
        transport, client = await upgrade(place, origin=f"http://{place}")
        transport.abort()
        await client.lost
    assert (b"Origin", b"http://" + place.encode()) in headers_of(asked[0].asked)


STRANGE: list[tuple[Answer, str]] = [
    (lambda _: b"HTTP/1.1 403 Forbidden\r\n\r\n", "'HTTP/1.1 403 Forbidden'"),
    (lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "'HTTP/1.1 200 OK', 'hi'"),
    (lambda _: b"HTTP/1.0 302 Found\r\nLocation: /x\r\n\r\n", "302 Found"),
    (lambda _: decide("GET", "/", []).response, "426 Upgrade Required"),
    (lambda _: b"\xfaW\x00\x14" + b"\0" * 16, "no answer of HTTP's"),
    (lambda _: b"SSH-2.0-OpenSSH\r\n", "'SSH-2.0-OpenSSH"),
    (lambda _: b"HTTP/1.1 101\r\n\r\n", "no WebSocket"),
    (lambda _: b"HTTP/1.1 101 Ok\r\nUpgrade: websocket\r\n\r\n", "no WebSocket"),
    (lambda r: agreed(r).replace(b"Accept: ", b"Accept: x"), "Sec-WebSocket-Accept"),
    (lambda r: agreed(r).replace(b"Protocol: fastrpc.1", b"Protocol: jsonrpc"), "jsonrpc"),
    (lambda r: agreed(r).replace(b"Sec-WebSocket-Protocol: fastrpc.1\r\n", b""), "fastrpc.1"),
    (
        lambda r: agreed(r)[:-2] + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
        "no extensions",
    ),
    (lambda _: b"HTTP/1.1 101 Ok\r\nX: " + b"x" * HEAD_MAX, f"longer than {HEAD_MAX} bytes"),
    (lambda _: b"HTTP/1.1 101 Ok\r\nX: " + b"x" * HEAD_MAX + b"\r\n\r\n", f"than {HEAD_MAX}"),
]


@pytest.mark.parametrize(("answer", "words"), STRANGE)
async def test_every_other_answer_is_quoted(answer: Answer, words: str) -> None:
    async with answering(answer) as (place, _):
        assert words in await refused(place)


async def test_a_server_that_hangs_up() -> None:
    async with answering(lambda _: b"HTTP/1.1 10", hangs_up=True) as (place, _):
        assert "closed before it answered" in await refused(place)


async def test_a_protocol_that_can_not_be_made() -> None:
    def fail() -> Client:
        raise LookupError("raised by the test")

    early = put(BINARY, b"early", mask=None)
    async with answering(lambda request: agreed(request) + early) as (place, _):
        step = WebSocketDial(parse_target(f"ws://{place}"), fail)
        host, _, port = place.rpartition(":")
        await asyncio.get_running_loop().create_connection(lambda: step, host, int(port))
        with pytest.raises(LookupError):
            await step.done


async def test_cancel_at_every_loop_step_leaves_nothing_open() -> None:
    early = put(BINARY, b"early", mask=None)
    async with answering(lambda request: agreed(request) + early) as (place, made):
        (await dial(f"ws://{place}", Client, timeout=5))[0].abort()  # the loop opens its own
        await turn_until(lambda: all(each.is_lost for each in made))
        before, steps, finished = descriptors(), 0, False
        while not finished:
            clients: list[Client] = []

            def make(clients: list[Client] = clients) -> Client:
                clients.append(Client())
                return clients[-1]

            dialling = asyncio.ensure_future(dial(f"ws://{place}", make, timeout=5))
            for _ in range(steps):
                await asyncio.sleep(0)
            dialling.cancel()
            await asyncio.wait([dialling])
            finished = not dialling.cancelled()
            if finished:
                dialling.result()[0].abort()
            for client in clients:
                await client.lost
            await turn_until(lambda: descriptors() == before)
            steps += 1
            assert steps < 1000
        assert steps > 4, "the cancel never met a dial under way"


async def test_a_server_that_says_nothing_has_only_so_long() -> None:
    async with answering(lambda _: b"HTTP/1.1 1") as (place, _):
        with pytest.raises(ConnectFailed, match="no answer to the upgrade"):
            await dial(f"ws://{place}", Client, timeout=0.05)
