"""The class of the README, served and called in one program.

    python examples/arith.py                          # run it
    fastrpc serve examples/arith.py:Arith             # or serve it to others
    fastrpc call 127.0.0.1:7000 Arith.add 1 2

Any annotated class will do: no base class, no schema file, no generated code.
"""

import asyncio

import fastrpc


class Arith:
    """Small sums."""

    def add(self, a: int, b: int) -> int:
        """Return a + b."""
        return a + b

    async def mul(self, a: int, b: int) -> int:
        """Return a * b, from a coroutine."""
        return a * b


async def main() -> None:
    server = fastrpc.Server()
    server.register(Arith())
    await server.start("tcp://127.0.0.1:0")
    target = server.targets[0]
    print("serving on a free port")

    async with fastrpc.connect(target) as client:
        print("by name:    ", await client.call("Arith.add", 1, 2))
        print("by keyword: ", await client.call("Arith.add", a=1, b=2))

        arith = client.stub(Arith)  # typed: a checker sees add(a: int, b: int) -> int
        print("by stub:    ", await arith.mul(6, 7))

        sums = await asyncio.gather(*[client.call("Arith.add", n, n) for n in range(1000)])
        print("1000 at once:", sum(sums))

    await server.aclose()


if __name__ == "__main__":
    asyncio.run(main())
