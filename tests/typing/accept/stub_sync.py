"""A blocking stub has the methods of its class, with their types."""

from typing import assert_type

import fastrpc


class Arith:
    def add(self, a: int, b: int) -> int:
        return a + b

    def names(self, count: int, *, prefix: str = "") -> list[str]:
        return [f"{prefix}{i}" for i in range(count)]


def main() -> None:
    with fastrpc.connect_sync("tcp://127.0.0.1:7000") as client:
        arith = client.stub(Arith)
        assert_type(arith, Arith)
        assert_type(arith.add(1, 2), int)
        assert_type(arith.names(3, prefix="x"), list[str])
        client.notify("Arith.add", 1, 2)
