"""A service as its author writes it: plain and async methods side by side."""

import datetime
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, Literal, TypeVar

import fastrpc

T = TypeVar("T")


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Item:
    name: str
    cents: int = 0
    tags: list[str] = field(default_factory=list[str])


@dataclass
class Page(Generic[T]):
    entries: list[T]
    following: int | None = None


class Shop:
    """What is for sale.

    And at which price.
    """

    def find(self, number: int) -> Item:
        """Return one item."""
        return Item(str(number))

    async def order(self, name: str, count: int = 1) -> str:
        return f"{count} {name}"

    @fastrpc.rpc(name="look-up", idempotent=True)
    def search(self, text: str, *, limit: int = 10, colour: Colour = Colour.RED) -> Page[Item]:
        return Page([Item(text)] * limit)

    async def stock(self, items: dict[str, list[Item]]) -> dict[str, int]:
        return {key: len(value) for key, value in items.items()}

    def mark(self, number: int, /, *tags: str, **weights: float) -> None: ...

    async def since(
        self,
        moment: datetime.datetime = datetime.datetime(2026, 1, 1),
        order: Literal["up", "down"] = "up",
        limit: int | None = None,
    ) -> tuple[Item, ...]:
        return ()

    async def watch(self, count: int) -> AsyncIterator[Item]:
        for number in range(count):
            yield Item(str(number))

    async def upload(self, parts: AsyncIterator[bytes]) -> int:
        return sum([len(part) async for part in parts])
