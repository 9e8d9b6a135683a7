"""Ask a server over HTTP as bytes, and read what it answers without a library."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Self

import fastrpc
from tests.server.serving import serving

PATIENCE = 10.0


class Arith:
    """Small sums."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.fate = ""

    def add(self, a: int, b: int) -> int:
        """Add two numbers."""
        self.ran.append("add")
        return a + b

    @fastrpc.rpc(idempotent=True)
    async def show(self, text: str, n: int = 1, more: list[int] | None = None) -> str:
        self.ran.append("show")
        return f"{text!r} {n} {more}"

    async def wait(self) -> int:
        """Wait until somebody gives up."""
        self.ran.append("wait")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.fate = "cancelled"
            raise
        return 1

    @fastrpc.rpc(idempotent=True)
    async def count(self, n: int, fail_at: int = -1) -> AsyncIterator[int]:
        """Count up."""
        try:
            for i in range(n):
                if i == fail_at:
                    raise fastrpc.RpcError(7, "enough", {"at": i})
                self.ran.append(str(i))
                yield i
        finally:
            self.fate = "closed"

    async def flood(self) -> AsyncIterator[str]:
        """Give large items without end."""
        while True:
            self.ran.append("item")
            yield "x" * 10_000

    async def tick(self) -> AsyncIterator[int]:
        """Give one item, and then nothing for ever."""
        yield 1
        await asyncio.Event().wait()

    async def silent(self) -> AsyncIterator[int]:
        """Give nothing for ever."""
        await asyncio.Event().wait()
        yield 1

    async def total(self, items: AsyncIterator[int], times: int = 1) -> int:
        """Add up."""
        return times * sum([item async for item in items])

    async def first(self, items: AsyncIterator[int]) -> int:
        """Take one item only."""
        async for item in items:
            return item
        return -1

    async def both(self, items: AsyncIterator[int]) -> AsyncIterator[int]:
        async for item in items:
            yield item

    def octets(self) -> bytes:
        return b"abc"

    def nothing(self) -> None:
        return None

    def echo(self, value: Any = None) -> Any:
        return value

    def fail(self) -> None:
        raise fastrpc.RpcError(7, "no\r\nSet-Cookie: a=b", {"at": 1})

    def crash(self) -> None:
        raise KeyError("secret")

    async def told(self, call: fastrpc.Call = fastrpc.GIVEN) -> dict[str, str]:
        """Tell the metadata."""
        return {key: call.metadata.text(key) for key in call.metadata}

    async def left(self, call: fastrpc.Call = fastrpc.GIVEN) -> float | None:
        return call.left(time.monotonic()) if call.deadline else None

    async def push(self, peer: fastrpc.Peer = fastrpc.GIVEN) -> str:
        try:
            await peer.call("Page.title")
        except fastrpc.MethodNotFound as error:
            return str(error)
        return "?"


@dataclass
class Response:
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    head: bytes = field(default=b"", repr=False)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = self.json["error"]
        return error

    @property
    def closes(self) -> bool:
        return self.headers.get("connection") == "close"


class Asker:
    """A connection that says anything."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, target: str, **options: Any) -> Self:
        if target.startswith("unix://"):
            streams = await asyncio.open_unix_connection(target.removeprefix("unix://"))
        else:
            host, _, port = target.partition("://")[2].rpartition(":")
            streams = await asyncio.open_connection(host.strip("[]"), int(port), **options)
        return cls(*streams)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.writer.transport.abort()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    def send(self, *data: bytes) -> None:
        self.writer.write(b"".join(data))

    async def ask(self, *data: bytes, method: bytes = b"") -> Response:
        """Send bytes, and read one answer."""
        self.send(*data)
        return await self.answer(has_body=not data[0].startswith(b"HEAD"))

    async def head(self) -> Response:
        """Read the head of an answer."""
        async with asyncio.timeout(PATIENCE):
            raw = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = raw.decode("latin-1").split("\r\n")[:-2]
        headers = {}
        for line in lines:
            name, _, value = line.partition(": ")
            assert name.lower() not in headers, f"{name} comes twice"
            headers[name.lower()] = value
        assert first.startswith("HTTP/1."), first
        return Response(int(first.split(" ")[1]), headers, head=raw)

    async def answer(self, *, has_body: bool = True) -> Response:
        """Read a whole answer."""
        found = await self.head()
        async with asyncio.timeout(PATIENCE):
            if not has_body or found.status in (100, 101, 204):
                return found
            if found.headers.get("transfer-encoding") == "chunked":
                while piece := await self.chunk():
                    found.body += piece
            elif "content-length" in found.headers:
                found.body = await self.reader.readexactly(int(found.headers["content-length"]))
            else:
                found.body = await self.reader.read()
        return found

    async def chunk(self) -> bytes:
        """Read a chunk; the last one is empty."""
        async with asyncio.timeout(PATIENCE):
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            piece = await self.reader.readexactly(size)
            assert await self.reader.readexactly(2) == b"\r\n"
        return piece

    async def closed(self) -> bytes:
        """Return what comes until the server ends the connection."""
        async with asyncio.timeout(PATIENCE):
            return await self.reader.read()


def post(
    path: str, body: bytes | None = None, *, version: str = "1.1", host: str = "localhost",
    **headers: str,
) -> bytes:  # fmt: skip
    """Return a POST with a JSON body; the name of a header has _ for -."""
    kind = headers.pop("content_type", "application/json")
    head = [f"POST {path} HTTP/{version}"]
    head += [f"Host: {host}"] if host else []
    head += [f"Content-Type: {kind}"] if kind else []
    head += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body is not None:
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join(head).encode() + b"\r\n\r\n" + (body or b"")


def get(
    path: str, *, method: str = "GET", version: str = "1.1", host: str = "localhost",
    **headers: str,
) -> bytes:  # fmt: skip
    """Return a GET."""
    head = [f"{method} {path} HTTP/{version}"]
    head += [f"Host: {host}"] if host else []
    head += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(head).encode() + b"\r\n\r\n"


@contextlib.asynccontextmanager
async def asked(
    *targets: str, service: Arith | None = None, **options: Any
) -> AsyncIterator[tuple[fastrpc.Server, Arith, Asker]]:
    """Serve, and connect."""
    served = service or Arith()
    async with serving(served, *targets, **options) as server:
        async with await Asker.connect(server.targets[0]) as asker:
            yield server, served, asker
