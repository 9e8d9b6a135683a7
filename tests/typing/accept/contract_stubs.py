# fmt: off
# ruff: noqa
"""What stubs of tests.typing.accept.contract.Shop take and give.

Written by `fastrpc stubs`; change the class instead, and write it again.
"""

from collections.abc import AsyncIterable, Awaitable, Iterable, Iterator
from datetime import datetime
from fastrpc import Stream
from tests.typing.accept.contract import Colour, Item, Page, Shop
from typing import Any, ClassVar, Literal

# A default that only the server knows; it is never sent.
_DEFAULT: Any = ...


class ShopAsync:
    """What is for sale."""
    __fastrpc__: ClassVar[type] = Shop

    def find(self, number: int) -> Awaitable[Item]:
        """Return one item."""
        raise NotImplementedError

    def order(self, name: str, count: int = 1) -> Awaitable[str]:
        raise NotImplementedError

    def search(
        self,
        text: str,
        *,
        limit: int = 10,
        colour: Colour = Colour.RED,
    ) -> Awaitable[Page[Item]]:
        raise NotImplementedError

    def stock(self, items: dict[str, list[Item]]) -> Awaitable[dict[str, int]]:
        raise NotImplementedError

    def mark(self, number: int, /, *tags: str, **weights: float) -> Awaitable[None]:
        raise NotImplementedError

    def since(
        self,
        moment: datetime = _DEFAULT,
        order: Literal['up', 'down'] = 'up',
        limit: int | None = None,
    ) -> Awaitable[tuple[Item, ...]]:
        raise NotImplementedError

    def watch(self, count: int) -> Stream[Item]:
        raise NotImplementedError

    def upload(self, parts: AsyncIterable[bytes]) -> Awaitable[int]:
        raise NotImplementedError


class ShopSync:
    """What is for sale."""
    __fastrpc__: ClassVar[type] = Shop

    def find(self, number: int) -> Item:
        """Return one item."""
        raise NotImplementedError

    def order(self, name: str, count: int = 1) -> str:
        raise NotImplementedError

    def search(
        self,
        text: str,
        *,
        limit: int = 10,
        colour: Colour = Colour.RED,
    ) -> Page[Item]:
        raise NotImplementedError

    def stock(self, items: dict[str, list[Item]]) -> dict[str, int]:
        raise NotImplementedError

    def mark(self, number: int, /, *tags: str, **weights: float) -> None:
        raise NotImplementedError

    def since(
        self,
        moment: datetime = _DEFAULT,
        order: Literal['up', 'down'] = 'up',
        limit: int | None = None,
    ) -> tuple[Item, ...]:
        raise NotImplementedError

    def watch(self, count: int) -> Iterator[Item]:
        raise NotImplementedError

    def upload(self, parts: Iterable[bytes]) -> int:
        raise NotImplementedError
