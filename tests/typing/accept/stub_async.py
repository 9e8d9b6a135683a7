"""An asyncio stub has the methods of its class, with their types."""

from typing import assert_type

import fastrpc


class Arith:
    async def mul(self, a: int, b: int) -> int:
        return a * b

    @fastrpc.rpc(idempotent=True)
    async def find(self, key: str) -> bytes | None:
        return None


async def main() -> None:
    async with fastrpc.connect("tcp://127.0.0.1:7000", timeout=1.5) as client:
        arith = client.stub(Arith)
        assert_type(await arith.mul(1, 2), int)
        assert_type(await arith.find("k"), bytes | None)
        view = client.options(timeout=0.5, metadata={"trace": "x"})
        await view.call("Arith.mul", 1, b=2)
        client.notify("Arith.mul", 1, 2)
        assert_type(await client.ping(), float)
