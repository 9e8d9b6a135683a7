"""What foreign programs call, and a server that has it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import fastrpc
from fastrpc import Peer, RpcError


class Arith:
    """Sums, and a few things beside them."""

    def __init__(self) -> None:
        self.noted: list[Any] = []

    def add(self, a: int, b: int) -> int:
        return a + b

    async def later(self, a: int, b: int) -> int:
        await asyncio.sleep(0)
        return a + b

    def echo(self, value: Any) -> Any:
        return value

    def note(self, value: Any) -> None:
        self.noted.append(value)

    def notes(self) -> list[Any]:
        return self.noted

    def fail(self, text: str) -> None:
        raise RpcError(1001, text, {"why": "asked for"})

    async def count(self, n: int) -> AsyncIterator[int]:
        for number in range(n):
            yield number

    async def ask(self, peer: Peer, name: str, value: Any) -> Any:
        return await peer.call(name, value)

    def tell(self, peer: Peer, name: str, value: Any) -> None:
        peer.notify(name, value)


class Mine:
    """What a client lets the server call."""

    def up(self, number: int) -> int:
        return number + 1


@contextlib.asynccontextmanager
async def serving(*others: Any, **options: Any) -> AsyncIterator[tuple[int, Arith, fastrpc.Server]]:
    """Serve `Arith` and *others* at a port of its own."""
    arith = Arith()
    server = fastrpc.Server(**options)
    for service in (arith, *others):
        server.register(service)
    await server.start("tcp://127.0.0.1:0")
    try:
        yield int(server.targets[0].rpartition(":")[2]), arith, server
    finally:
        await server.aclose(grace=0.5)
