"""A server with something to see: services of all kinds, and traffic on them."""

import asyncio
import contextlib
import random
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

import fastrpc


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


@dataclass
class Address:
    street: str
    city: str
    country: str = "SE"


@dataclass
class Item:
    sku: str
    amount: int = 1
    size: Size = Size.SMALL


@dataclass
class Order:
    """What somebody buys."""

    customer: str
    items: list[Item]
    ship_to: Address | None = None
    notes: dict[str, str] = field(default_factory=dict)


@dataclass
class Receipt:
    number: int
    lines: list[str]
    total: float


class Orders:
    """Orders of one shop: place them, look them up, follow them."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self._orders: dict[int, Order] = {}

    def place(self, order: Order, priority: Literal["normal", "express"] = "normal") -> Receipt:
        """Take an order and return its receipt.

        The number on the receipt is what `follow` wants to know. Express orders are
        packed first.
        """
        number = 1000 + len(self._orders)
        self._orders[number] = order
        if len(self._orders) > 1000:
            self._orders.clear()
        lines = [f"{item.amount} x {item.sku} ({item.size.value})" for item in order.items]
        return Receipt(number, lines, round(9.5 * sum(item.amount for item in order.items), 2))

    @fastrpc.rpc(idempotent=True)
    def price(self, sku: str, amount: int = 1) -> float:
        """Return what so many of an article cost."""
        if not sku:
            raise ValueError("an article has a name")
        return round(amount * (5 + sum(sku.encode()) % 45 / 10), 2)

    async def reserve(self, sku: str, seconds: float = 5.0) -> bool:
        """Hold an article back for a while."""
        await self._hold(sku, seconds)
        return True

    async def _hold(self, sku: str, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def follow(self, number: int, steps: int = 5) -> AsyncIterator[str]:
        """Tell where an order is, step by step."""
        for step in range(steps):
            yield f"order {number}: step {step + 1} of {steps}"
            await asyncio.sleep(0.01)

    async def total(self, amounts: AsyncIterator[float]) -> float:
        """Add up amounts as they come."""
        return sum([amount async for amount in amounts])

    @fastrpc.rpc(blocking=True)
    def export(self, path: str) -> int:
        """Write all orders to a file; it blocks, and so has a thread."""
        self.release.wait(30)
        return len(self._orders)


class Stock:
    """What is on the shelves."""

    def count(self, sku: str) -> int:
        """Return how many of an article there are."""
        return sum(sku.encode()) % 100

    async def move(self, sku: str, amount: int, *, shelf: int | None = None) -> None:
        """Put some of an article on another shelf."""
        await asyncio.sleep(random.lognormvariate(-6, 0.7))
        if amount < 1:
            raise fastrpc.RpcError(7, f"can't move {amount} of {sku}")


def server() -> tuple[fastrpc.Server, Orders]:
    """Return a server with both services."""
    made, orders = fastrpc.Server(), Orders()
    made.register(orders)
    made.register(Stock())
    return made, orders


async def traffic(target: str, seconds: float) -> None:
    """Make calls of all kinds for a while."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    order = Order("ann", [Item("tea", 2), Item("cup", 1, Size.LARGE)])
    async with fastrpc.connect(target) as client:
        while loop.time() < end:
            for n in range(random.randrange(4, 60)):
                await client.call("Orders.price", f"tea-{n}", n)
            await client.call("Orders.place", order)
            await client.call("Stock.count", "tea")
            moves = [client.call("Stock.move", "tea", n) for n in (1, 2, 3, 0 if n % 9 == 0 else 4)]
            await asyncio.gather(*moves, return_exceptions=True)
            with contextlib.suppress(fastrpc.FastRPCError):
                await client.call("Orders.price", "" if n % 11 == 0 else "cup")
            async with client.stream("Orders.follow", 7, 3) as stream:
                async for _ in stream:
                    pass
            await asyncio.sleep(0.01)
