"""Prove that an installed wheel works: compiled twin on, one call over TCP each way.

Run by ci/wheel.sh in a clean venv, from an empty directory.
"""

import asyncio
import sys

import fastrpc
from fastrpc.frame import COMPILED


class Arith:
    """Small sums."""

    def add(self, a: int, b: int) -> int:
        """Add two numbers."""
        return a + b


async def main() -> None:
    """Serve, call from the same loop, and call from a thread without a loop."""
    server = fastrpc.Server()
    server.register(Arith())
    await server.start("tcp://127.0.0.1:0")
    target = server.targets[0]

    def blocking() -> object:
        with fastrpc.connect_sync(target) as client:
            return client.call("Arith.add", 3, 4)

    try:
        async with fastrpc.connect(target) as client:
            assert await client.call("Arith.add", 1, 2) == 3
        assert await asyncio.to_thread(blocking) == 7
    finally:
        await server.aclose(grace=1.0)


assert COMPILED, "the pure twin is running: the wheel holds no compiled one"
assert "site-packages" in fastrpc.__file__, fastrpc.__file__
asyncio.run(main())
print(f"smoke: Python {sys.version.split()[0]}, {fastrpc.__file__}: ok")
