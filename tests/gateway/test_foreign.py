"""Clients of `jsonrpc://` and `msgpackrpc://`, with servers that are played by the test."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import msgpack
import pytest

import fastrpc
from fastrpc.gateway.foreign import _WiredServer
from fastrpc.gateway.lines import JsonLines
from tests.gateway.party import Arith
from tests.server.serving import until

pytestmark = pytest.mark.asyncio

SCHEMES = ("jsonrpc", "msgpackrpc")


class Far:
    """A foreign server: it notes what comes, and says what the test wants."""

    def __init__(self) -> None:
        self.writers: list[asyncio.StreamWriter] = []
        self.seen = asyncio.Queue[bytes]()
        self.came = asyncio.Event()
        self.ended = asyncio.Event()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        self.came.set()
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(2**16):
                self.seen.put_nowait(data)
        self.ended.set()
        writer.close()

    def say(self, data: bytes) -> None:
        self.writers[-1].write(data)


@contextlib.asynccontextmanager
async def far(scheme: str, **options: Any) -> AsyncIterator[tuple[Far, fastrpc.Client]]:
    """Play a server, and give a client of it."""
    played = Far()
    server = await asyncio.start_server(played._serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = fastrpc.connect(f"{scheme}://127.0.0.1:{port}", **({"timeout": 5.0} | options))
    try:
        yield played, client
    finally:
        await client.aclose()
        for writer in played.writers:
            writer.close()
        server.close()
        if played.writers:
            await played.ended.wait()


def request_of(scheme: str) -> Callable[[bytes], tuple[Any, str, Any]]:
    """Return what reads id, method and params of a request."""
    if scheme == "jsonrpc":
        return lambda data: tuple(json.loads(data)[key] for key in ("id", "method", "params"))  # type: ignore[return-value]
    return lambda data: tuple(msgpack.unpackb(data)[1:])  # type: ignore[return-value]


def answer(scheme: str, id: Any, result: Any) -> bytes:
    if scheme == "jsonrpc":
        return json.dumps({"jsonrpc": "2.0", "id": id, "result": result}).encode() + b"\n"
    packed: bytes = msgpack.packb([1, id, None, result])
    return packed


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_is_an_ordinary_client(scheme: str) -> None:
    async with far(scheme) as (played, client), client:
        waiter = asyncio.ensure_future(_call(client, "sum", 1, 2))
        id, method, params = request_of(scheme)(await played.seen.get())
        assert (method, params) == ("sum", [1, 2])
        played.say(answer(scheme, id, 3))
        assert await waiter == 3
        assert await client.ping() >= 0.0  # answered on this side of the connection


async def _call(client: Any, *given: Any) -> Any:
    return await client.call(*given)


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_streams_are_refused(scheme: str) -> None:
    async with far(scheme) as (played, client), client:
        with pytest.raises(fastrpc.Unsupported, match="streams can't be opened"):
            async for _ in client.stream("items"):
                pass
        async with client.stream("items") as stream:
            with pytest.raises(fastrpc.Unsupported, match="streams can't be opened"):
                await stream.result()
        assert played.seen.empty()


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_calls_end_with_the_connection_and_the_next_dials_again(scheme: str) -> None:
    async with far(scheme) as (played, client), client:
        waiter = asyncio.ensure_future(_call(client, "sum"))
        await played.seen.get()
        played.came.clear()
        played.writers[-1].close()
        with pytest.raises(fastrpc.ConnectionLost) as caught:
            await waiter
        assert caught.value.ran == "maybe"
        waiter = asyncio.ensure_future(_call(client, "sum"))
        id, _, _ = request_of(scheme)(await played.seen.get())
        played.say(answer(scheme, id, 3))
        assert await waiter == 3


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_server_that_speaks_something_else_is_quoted(scheme: str) -> None:
    async with far(scheme) as (played, client), client:
        waiter = asyncio.ensure_future(_call(client, "sum"))
        await played.seen.get()
        played.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises(fastrpc.ConnectionLost, match=r"it says 'HTTP/1\.1 400 Bad Request"):
            await waiter


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_late_answer_is_dropped(scheme: str) -> None:
    async with far(scheme) as (played, client), client:
        with pytest.raises(fastrpc.DeadlineExceeded):
            await client.options(timeout=0.03).call("sum")
        id, _, _ = request_of(scheme)(await played.seen.get())
        played.say(answer(scheme, id, "late"))
        waiter = asyncio.ensure_future(_call(client, "sum"))
        id, _, _ = request_of(scheme)(await played.seen.get())
        played.say(answer(scheme, id, 3))
        assert await waiter == 3


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_nobody_there_is_a_failure_to_connect(scheme: str) -> None:
    async with far(scheme) as (_, client):
        port = client.target.rpartition(":")[2]
    with pytest.raises(fastrpc.ConnectFailed, match=f"{scheme}://127.0.0.1:{port}"):
        async with fastrpc.connect(f"{scheme}://127.0.0.1:{port}"):
            pass


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_server_that_does_not_read_can_not_hold_the_client(scheme: str) -> None:
    async with far(scheme, write_stall=0.05) as (played, client), client:
        await played.came.wait()
        played.writers[-1].transport.pause_reading()
        waiters = [asyncio.ensure_future(_call(client, "sum", "x" * 500_000)) for _ in range(30)]
        session = client._links[0].session
        assert session is not None
        await until(lambda: session.lane.paused)
        await client.aclose()
        assert all(
            isinstance(one, fastrpc.FastRPCError)
            for one in await asyncio.gather(*waiters, return_exceptions=True)
        )
        played.writers[-1].transport.resume_reading()


class Stuck(asyncio.Transport):
    """A connection to a server that does not read."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[str] = []
        self.aborted = asyncio.Event()

    def close(self) -> None:
        self.done.append("closed")

    def abort(self) -> None:
        self.done.append("aborted")
        self.aborted.set()


async def test_what_is_closed_is_cut_when_the_server_does_not_read() -> None:
    side = SimpleNamespace(limits=SimpleNamespace(write_stall=0.01))
    session: Any = SimpleNamespace(side=side)
    stuck = Stuck()
    _WiredServer(session, JsonLines).part(stuck)
    assert stuck.done == ["closed"]
    async with asyncio.timeout(5):
        await stuck.aborted.wait()


async def test_what_is_gone_is_not_cut() -> None:
    side = SimpleNamespace(limits=SimpleNamespace(write_stall=0.01))
    session: Any = SimpleNamespace(side=side)
    stuck, wired = Stuck(), _WiredServer(session, JsonLines)
    wired.part(stuck)
    wired.connection_lost(None)
    assert wired._end is not None
    assert wired._end.cancelled()


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_blocking_clients_say_that_they_need_a_loop(scheme: str) -> None:
    with pytest.raises(fastrpc.ConfigError, match="needs an event loop"):
        fastrpc.connect_sync(f"{scheme}://127.0.0.1:1")


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_both_ends_are_ours_and_call_each_other(scheme: str) -> None:
    server, arith = fastrpc.Server(), Arith()
    server.register(arith)
    await server.start(f"{scheme}://127.0.0.1:0")

    class Mine:
        def double(self, number: int) -> int:
            return number * 2

    client = fastrpc.connect(server.targets[0], timeout=5.0)
    client.register(Mine())
    async with client:
        assert await client.call("Arith.add", 1, 2) == 3
        assert await client.call("Arith.ask", "Mine.double", 21) == 42
        (peer,) = server.peers
        asked = [peer.call("Mine.double", number) for number in range(50)]
        assert await asyncio.gather(*asked) == list(range(0, 100, 2))
        with pytest.raises(fastrpc.RpcError, match="negative") as caught:
            await client.call("Arith.fail", "negative")
        if scheme == "jsonrpc":
            assert (caught.value.code, caught.value.data) == (1001, {"seen": [1, 2]})
            assert await client.call("Arith.subtract", minuend=5, subtrahend=1) == 4
        client.notify("Arith.note", [1])
        assert await client.call("Arith.echo", {"a": [None]}) == {"a": [None]}
        assert arith.noted == [[1]]
    await server.aclose(grace=0)
