"""What a stub class does not take or give is an error, on both kinds of client."""

import fastrpc
from tests.typing.accept.contract_stubs import ShopAsync, ShopSync


async def with_loop() -> None:
    async with fastrpc.connect("tcp://127.0.0.1:7000") as client:
        shop = client.stub(ShopAsync)
        print(shop.find(1).cents)  # error
        await shop.find("1")  # error
        await shop.find()  # error
        await shop.order("lamp", 1, 2)  # error
        await shop.order(count=1)  # error
        await shop.search("lamp", 1)  # error
        await shop.search("lamp", colour="red")  # error
        await shop.stock({"a": [1]})  # error
        await shop.since(order="sideways")  # error
        await shop.mark(number=1)  # error
        await shop.mark(1, 2)  # error
        await shop.mark(1, x="heavy")  # error
        await shop.upload([b"x"])  # error
        await shop.watch(3)  # error
        for item in shop.watch(3):  # error
            print(item)
        number: int = await shop.order("lamp")  # error
        await shop.sell()  # error
        print(number)


def without_loop() -> None:
    with fastrpc.connect_sync("tcp://127.0.0.1:7000") as client:
        shop = client.stub(ShopSync)
        shop.find("1")  # error
        shop.order("lamp", 1, 2)  # error
        shop.search("lamp", 1)  # error
        number: int = shop.order("lamp")  # error
        shop.upload([1])  # error
        shop.mark(number=1)  # error
        shop.sell()  # error
        print(number)
