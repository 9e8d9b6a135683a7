"""What the JavaScript client is tried against: a service of every kind, and a way to it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import numpy
import numpy.typing

import fastrpc


class Color(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    """A place."""

    x: int
    y: int = 0
    color: Color = Color.RED
    tags: list[str] = field(default_factory=list)


class Arith:
    """Small sums, streams, and everything else that a client may meet."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.ended: list[str] = []

    def add(self, a: int, b: int = 2) -> int:
        """Return a + b."""
        return a + b

    def echo(self, value: object) -> object:
        return value

    def only_named(self, *, left: int, right: int = 1) -> list[int]:
        return [left, right]

    def rest(self, first: str, *others: int, **named: str) -> list[object]:
        return [first, list(others), named]

    def move(self, point: Point, by: int) -> Point:
        return Point(point.x + by, point.y, point.color, [*point.tags, "moved"])

    def later(self, moment: datetime) -> datetime:
        return moment + timedelta(hours=1)

    def typed(self, day: date, amount: Decimal, key: UUID, data: bytes) -> list[str]:
        return [day.isoformat(), str(amount), str(key), data.hex()]

    def keys(self, values: dict[int, str]) -> dict[int, str]:
        return {key + 1: value for key, value in values.items()}

    def doubled(self, array: numpy.typing.NDArray[numpy.float64]) -> Any:
        return array * 2

    def grid(self) -> Any:
        return numpy.arange(6, dtype=">i4").reshape(2, 3)

    def octets(self, count: int) -> bytes:
        return bytes(range(256)) * (count // 256)

    def refuse(self) -> None:
        raise fastrpc.RpcError(402, "not enough", data={"balance": 3})

    def bug(self) -> None:
        raise ZeroDivisionError("by zero")

    def forbidden(self) -> None:
        raise fastrpc.PermissionDenied("not you")

    async def slow(self, name: str, seconds: float = 60.0) -> str:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.ended.append(name)
            raise
        return name

    async def until_ended(self, name: str) -> bool:
        """Return when the handler called *name* has been stopped."""
        while name not in self.ended:
            await asyncio.sleep(0.005)
        return True

    async def note(self, text: str) -> None:
        self.notes.append(text)

    async def noted(self, count: int) -> list[str]:
        """Return the notes as soon as there are *count*."""
        while len(self.notes) < count:
            await asyncio.sleep(0.005)
        return self.notes

    def greet(self, call: fastrpc.Call = fastrpc.GIVEN) -> str:
        call.reply_metadata = {"language": "en", "back": call.metadata.get("raw", b"")}
        return f"Hello {call.metadata.text('user')}"

    async def is_hurried(self, call: fastrpc.Call = fastrpc.GIVEN) -> bool:
        return call.deadline > 0

    # Streams

    async def count(self, until: int) -> AsyncIterator[int]:
        """Count from 0."""
        for number in range(until):
            yield number

    async def blobs(self, count: int, size: int) -> AsyncIterator[bytes]:
        for number in range(count):
            yield bytes([number % 256]) * size

    async def forever(self, name: str) -> AsyncIterator[int]:
        try:
            number = 0
            while True:
                yield number
                number += 1
        finally:
            self.ended.append(name)

    async def fragile(self) -> AsyncIterator[int]:
        yield 1
        raise fastrpc.RpcError(7, "no more ink")

    async def total(self, items: AsyncIterator[int]) -> int:
        return sum([item async for item in items])

    async def first(self, items: AsyncIterator[int]) -> int:
        async for item in items:
            return item
        raise fastrpc.RpcError(1, "there was none")

    async def sizes(self, items: AsyncIterator[bytes]) -> int:
        return sum([len(item) async for item in items])

    async def running(self, items: AsyncIterator[int], start: int = 0) -> AsyncIterator[int]:
        async for item in items:
            start += item
            yield start

    # Push

    async def call_back(
        self, method: str, args: list[Any], peer: fastrpc.Peer = fastrpc.GIVEN
    ) -> Any:
        """Call the caller, and tell what came of it."""
        try:
            return [await peer.options(timeout=5.0).call(method, *args)]
        except fastrpc.RemoteError as error:
            return {
                "type": error.type,
                "code": error.code,
                "text": error.message,
                "data": error.data,
            }
        except fastrpc.CallError as error:
            return {"status": error.status, "text": error.message, "ran": error.ran}

    async def call_back_by_name(self, method: str, peer: fastrpc.Peer = fastrpc.GIVEN) -> Any:
        return await peer.call(method, 1, b=2)

    async def give_up(self, method: str, peer: fastrpc.Peer = fastrpc.GIVEN) -> str:
        """Call the caller, and do not wait for it."""
        try:
            await peer.options(timeout=0.05).call(method)
        except fastrpc.DeadlineExceeded:
            return "late"
        return "in time"

    async def push(self, count: int, peer: fastrpc.Peer = fastrpc.GIVEN) -> None:
        for number in range(count):
            peer.notify("Screen.show", f"line {number}")

    async def stream_back(
        self, method: str, items: list[int], peer: fastrpc.Peer = fastrpc.GIVEN
    ) -> list[Any]:
        """Open a stream at the caller, send what is to be sent, and return what comes."""
        async with peer.stream(method, 3) as stream:
            await stream.feed(items)
            return [item async for item in stream]

    async def sum_back(self, method: str, peer: fastrpc.Peer = fastrpc.GIVEN) -> Any:
        async with peer.stream(method) as stream:
            await stream.feed(range(100))
            return await stream.result()

    async def leave_back(self, method: str, peer: fastrpc.Peer = fastrpc.GIVEN) -> list[int]:
        """Read three items of the caller's stream, and leave."""
        taken: list[int] = []
        async for item in peer.stream(method):
            taken.append(item)
            if len(taken) == 3:
                break
        return taken


def shout(text: str) -> str:
    """Return the text in capitals."""
    return text.upper()


NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def make_server(**options: Any) -> fastrpc.Server:
    """Return a server with all of it."""
    server = fastrpc.Server(**options)
    server.register(Arith())
    server.register(shout)
    return server
