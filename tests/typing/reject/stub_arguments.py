"""Arguments that don't fit a stub's method are errors before anything is sent."""

import fastrpc


class Arith:
    async def mul(self, a: int, b: int) -> int:
        return a * b

    def add(self, a: int, b: int) -> int:
        return a + b


async def main() -> None:
    async with fastrpc.connect("tcp://127.0.0.1:7000") as client:
        arith = client.stub(Arith)
        await arith.mul("1", 2)  # error
        await arith.mul(1)  # error
        await arith.mul(1, 2, 3)  # error
        await arith.mul(1, c=2)  # error
        await arith.div(1, 2)  # error
        text: str = await arith.mul(1, 2)  # error
        print(text)


def blocking() -> None:
    with fastrpc.connect_sync("tcp://127.0.0.1:7000") as client:
        arith = client.stub(Arith)
        arith.add("1", 2)  # error
        text: str = arith.add(1, 2)  # error
        print(text)
