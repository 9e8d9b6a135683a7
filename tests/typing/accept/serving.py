"""A server takes plain objects and functions; traits keep the types of what they adorn."""

from typing import assert_type

import fastrpc


def length(text: str) -> int:
    return len(text)


class Files:
    @fastrpc.rpc(blocking=True, idempotent=True)
    def slow(self, path: str) -> bytes:
        return path.encode()

    @fastrpc.rpc
    def bare(self, path: str) -> int:
        return len(path)


async def main() -> None:
    server = fastrpc.Server()
    server.register(Files())
    server.register(Files(), name="Other")
    server.register(length, name="len")
    await server.start("tcp://127.0.0.1:0")
    assert_type(server.targets, list[str])
    await server.aclose(grace=1.0)


assert_type(Files().slow("x"), bytes)
assert_type(Files().bare("x"), int)
