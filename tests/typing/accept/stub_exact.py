"""Stub classes are exact for plain and async methods, on both kinds of client."""

import asyncio
import datetime
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import assert_type

import fastrpc
from fastrpc import Stream
from tests.typing.accept.contract import Colour, Item, Page
from tests.typing.accept.contract_stubs import ShopAsync, ShopSync


async def parts() -> AsyncIterator[bytes]:
    yield b"x"


async def with_loop() -> None:
    async with fastrpc.connect("tcp://127.0.0.1:7000") as client:
        shop = client.stub(ShopAsync)
        waiting: Awaitable[Item] = shop.find(1)
        assert_type(await waiting, Item)
        assert_type(await shop.find(1), Item)
        assert_type(await shop.order("lamp"), str)
        assert_type(await shop.order("lamp", count=2), str)
        assert_type(await shop.search("lamp", limit=1, colour=Colour.BLUE), Page[Item])
        assert_type((await shop.search("lamp")).entries, list[Item])
        assert_type(await shop.stock({"a": [Item("x")]}), dict[str, int])
        assert_type(await shop.since(datetime.datetime.max, "down"), tuple[Item, ...])
        assert_type(await shop.upload(parts()), int)
        await shop.mark(1, "a", "b", x=1.5)
        found, ordered = await asyncio.gather(shop.find(1), shop.order("x"))
        assert_type(found, Item)
        assert_type(ordered, str)
        async for item in shop.watch(3):
            assert_type(item, Item)
        async with shop.watch(3) as stream:
            assert_type(stream, Stream[Item])
            async for item in stream:
                assert_type(item.cents, int)
        view = client.options(timeout=1.0).stub(ShopAsync)
        assert_type(view, ShopAsync)


def without_loop() -> None:
    with fastrpc.connect_sync("tcp://127.0.0.1:7000") as client:
        shop = client.stub(ShopSync)
        assert_type(shop.find(1), Item)
        assert_type(shop.order("lamp"), str)
        assert_type(shop.search("lamp", limit=1), Page[Item])
        assert_type(shop.stock({}), dict[str, int])
        assert_type(shop.since(limit=3), tuple[Item, ...])
        assert_type(shop.upload([b"a", b"b"]), int)
        assert_type(shop.watch(3), Iterator[Item])
        for item in shop.watch(3):
            assert_type(item, Item)
        shop.mark(1, "a", x=1.5)
