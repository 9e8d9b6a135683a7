"""A session stays usable whatever kazoo's threads and the peer do."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fastrpc.cluster import parse_cluster
from fastrpc.cluster.registries.zksession import ZkSession
from fastrpc.errors import RegistryLost

pytestmark = pytest.mark.slow


class Fake:
    """As much of a ZooKeeper as lets a client in; it answers nothing but that.

    Attributes:
        granted: Milliseconds of a session; 0 says that it is over.
        greeting: What it says instead, if anything.
    """

    def __init__(self) -> None:
        self.granted = 1234
        self.greeting = b""
        self.sessions = 0
        self.port = 0
        self.writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.add(writer)
        try:
            await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
            self.sessions += 1
            answer = (0).to_bytes(4, "big") + self.granted.to_bytes(4, "big")
            answer += self.sessions.to_bytes(8, "big") + (16).to_bytes(4, "big") + b"p" * 16
            writer.write(self.greeting or len(answer).to_bytes(4, "big") + answer)
            while await reader.read(65536):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.writers.discard(writer)
            writer.close()


@asynccontextmanager
async def faked() -> AsyncIterator[Fake]:
    fake = Fake()
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    fake.port = server.sockets[0].getsockname()[1]
    try:
        yield fake
    finally:
        server.close()
        for writer in list(fake.writers):
            writer.close()
        while fake.writers:
            await asyncio.sleep(0.001)


@asynccontextmanager
async def opened(port: int) -> AsyncIterator[ZkSession]:
    breaks: list[None] = []
    session = ZkSession(
        parse_cluster(f"zookeeper://127.0.0.1:{port}"), 3, lambda: breaks.append(None)
    )
    before = threading.active_count()
    try:
        yield session
    finally:
        await session.aclose()
        await session.aclose()
        assert breaks  # the end is one, too
    while threading.active_count() > before:
        await asyncio.sleep(0.001)


async def until_up(session: ZkSession) -> Any:
    return await session._connected()


def any_question(client: Any) -> Any:
    return client.exists_async("/any")


@pytest.mark.asyncio
async def test_granted_time_is_noted_before_anything_is_asked() -> None:
    async with faked() as fake, opened(fake.port) as session:
        assert session.timeout == 3
        await until_up(session)
        assert (session.timeout, session.id) == (1.234, 1)


@pytest.mark.asyncio
async def test_no_answer_and_no_connection_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastrpc.cluster.registries.zksession.PATIENCE", 0.1)
    monkeypatch.setattr("fastrpc.cluster.registries.zksession.END_PATIENCE", 0.1)
    async with faked() as fake, opened(fake.port) as session:
        await until_up(session)
        with pytest.raises(RegistryLost, match="no answer in 0.1 s"):
            await session.ask(any_question)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        async with opened(nobody.getsockname()[1]) as session:
            with pytest.raises(RegistryLost, match="no connection in 0.1 s: .*refused"):
                await session.ask(any_question)


@pytest.mark.asyncio
async def test_what_is_no_zookeeper_is_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastrpc.cluster.registries.zksession.PATIENCE", 0.1)
    monkeypatch.setattr("fastrpc.cluster.registries.zksession.END_PATIENCE", 0.1)
    for greeting in (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\0\0\1x", b"\xff\xff\xff\xff"):
        async with faked() as fake, opened(fake.port) as session:
            fake.greeting = greeting
            with pytest.raises(RegistryLost, match="no connection"):
                await session.ask(any_question)


@pytest.mark.asyncio
async def test_client_beyond_help_is_replaced(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastrpc.cluster.registries.zksession.AGAIN", 0.01)
    async with faked() as fake, opened(fake.port) as session:
        client = await until_up(session)

        def fail(*args: Any, **options: Any) -> Any:
            raise RuntimeError("a bug of kazoo's")

        client.handler.select = fail
        for writer in list(fake.writers):
            writer.write(b"\0" * 16)  # so that it looks
        await session.losses.wait(0)
        assert await until_up(session) is not client
        assert session.id == 2
        assert "a bug of kazoo's" in caplog.text


@pytest.mark.asyncio
async def test_question_that_is_none_takes_no_room() -> None:
    async with faked() as fake, opened(fake.port) as session:
        for _ in range(200):
            with pytest.raises(ZeroDivisionError):
                await session.ask(lambda client: 1 // 0)
        await until_up(session)
        assert session._room._value == 64


@pytest.mark.asyncio
async def test_cancelled_question_keeps_its_room_until_kazoo_is_done() -> None:
    async with faked() as fake, opened(fake.port) as session:
        await until_up(session)
        asked = asyncio.ensure_future(session.ask(any_question))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        asked.cancel()
        await asyncio.wait([asked])
        assert session._room._value == 63
        for writer in list(fake.writers):
            writer.close()
        while session._room._value < 64:
            await asyncio.sleep(0.001)
