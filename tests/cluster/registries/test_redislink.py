"""The link asks one thing at a time, and no answer reaches another question."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fastrpc.cluster import parse_cluster
from fastrpc.cluster.registries.redislink import RedisHints, RedisLink, Script
from fastrpc.errors import RegistryLost

ECHO = Script("return ARGV[1]")


class Fake:
    """As much of a Redis as a link needs: it answers with the last word it was sent.

    Attributes:
        gate: Closed, it does not answer.
        asked: The last words.
        garbage: What it answers instead, if anything.
    """

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked: list[bytes] = []
        self.garbage = b""
        self.connections = 0
        self.port = 0
        self.writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.add(writer)
        try:
            while line := await reader.readline():
                words = []
                for _ in range(int(line[1:])):
                    size = int((await reader.readline())[1:])
                    words.append((await reader.readexactly(size + 2))[:-2])
                if words[0] in (b"PING", b"CLIENT"):
                    writer.write(b"+PONG\r\n")
                    continue
                self.asked.append(words[-1])
                await self.gate.wait()
                writer.write(self.garbage or b"$%d\r\n%s\r\n" % (len(words[-1]), words[-1]))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.writers.discard(writer)
            writer.close()

    async def until_asked(self, count: int) -> None:
        while len(self.asked) < count:
            await asyncio.sleep(0)


@asynccontextmanager
async def faked() -> AsyncIterator[Fake]:
    fake = Fake()
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    fake.port = server.sockets[0].getsockname()[1]
    try:
        yield fake
    finally:
        fake.gate.set()
        server.close()
        for writer in list(fake.writers):
            writer.close()
        while fake.writers:
            await asyncio.sleep(0)


@asynccontextmanager
async def linked(*ports: int) -> AsyncIterator[RedisLink]:
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    link = RedisLink(parse_cluster(f"redis://{hosts}"))
    try:
        yield link
    finally:
        await link.aclose()


async def ask(link: RedisLink, word: str) -> Any:
    return await link.run(ECHO, [], [word])


@pytest.mark.asyncio
async def test_cancelled_question_is_asked_to_its_end_and_answers_nobody_else() -> None:
    async with faked() as fake, linked(fake.port) as link:
        assert await ask(link, "first") == b"first"
        fake.gate.clear()
        one, two = (asyncio.ensure_future(ask(link, word)) for word in ("one", "two"))
        await fake.until_asked(2)
        one.cancel()
        await asyncio.wait([one])
        assert one.cancelled()
        fake.gate.set()
        assert await two == b"two"
        assert fake.asked == [b"first", b"one", b"two"]
        assert fake.connections == 1


@pytest.mark.asyncio
async def test_no_answer_is_told_and_the_connection_is_not_used_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fastrpc.cluster.registries.redislink.PATIENCE", 0.1)
    async with faked() as fake, linked(fake.port) as link:
        assert await ask(link, "first") == b"first"
        fake.gate.clear()
        with pytest.raises(RegistryLost, match=f"127.0.0.1:{fake.port}: no answer"):
            await ask(link, "late")
        fake.gate.set()
        assert await ask(link, "next") == b"next"
        assert fake.connections == 2


@pytest.mark.asyncio
@pytest.mark.parametrize("answer", [b"?\r\n", b"*x\r\n", b"HTTP/1.1 400 no\r\n", b"x" * 100_000])
async def test_garbage_is_a_loss(answer: bytes) -> None:
    async with faked() as fake, linked(fake.port) as link:
        fake.garbage = answer + b"\r\n"
        with pytest.raises(RegistryLost, match="redis at"):
            await ask(link, "any")
        fake.garbage = b""
        assert await ask(link, "next") == b"next"


@pytest.mark.asyncio
async def test_host_that_has_let_go_is_tried_last() -> None:
    async with faked() as one, faked() as two, linked(one.port, two.port) as link:
        assert await ask(link, "a") == b"a"
        for writer in list(one.writers):
            writer.close()
        with pytest.raises(RegistryLost, match=f":{one.port}: "):
            await ask(link, "b")
        assert await ask(link, "c") == b"c"
        assert two.asked == [b"c"]


@pytest.mark.asyncio
async def test_closing_ends_what_is_asked() -> None:
    async with faked() as fake, linked(fake.port) as link:
        fake.gate.clear()
        asked = asyncio.ensure_future(ask(link, "any"))
        await fake.until_asked(1)
        await link.aclose()
        await link.aclose()
        with pytest.raises(RegistryLost, match="closed"):
            await asked
        with pytest.raises(RegistryLost, match="closed"):
            await ask(link, "more")


@pytest.mark.asyncio
async def test_listening_ends_with_the_last_who_waits() -> None:
    async with faked() as fake:
        fake.garbage = b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$0\r\n\r\n"
        hints = RedisHints(parse_cluster(f"redis://127.0.0.1:{fake.port}"))
        one, two = asyncio.Event(), asyncio.Event()
        await hints.add("c", one)
        await one.wait()
        await hints.add("d", two)  # on the same connection
        await fake.until_asked(2)
        assert fake.asked == [b"c", b"d"]
        assert not two.is_set()
        hints.discard("c", one)
        hints.discard("d", two)
        while fake.writers:
            await asyncio.sleep(0)
        assert fake.connections == 1
        await hints.aclose()
