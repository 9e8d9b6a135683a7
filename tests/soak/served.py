"""The service under chaos; a process of its own that may be killed at any moment.

Every run of a handler is counted in a file mapped into memory, which outlives
the process: the driver reads there what really ran.
"""

import asyncio
import mmap
import sys
import zlib
from pathlib import Path

import fastrpc
from tests.soak.flows import Counts, Flows


def proof(key: int, nonce: int) -> int:
    """Return what only the right answer to this call can hold."""
    return zlib.crc32(b"%d/%d" % (key, nonce))


class Soak:
    """Answer with a proof, count every run."""

    def __init__(self, runs: mmap.mmap) -> None:
        self._runs = runs

    def quick(self, key: int, nonce: int, load: bytes = b"") -> tuple[int, int, int]:
        self._runs[key] += 1
        return key, proof(key, nonce), len(load)

    async def slow(self, key: int, nonce: int, seconds: float) -> tuple[int, int, int]:
        self._runs[key] += 1
        await asyncio.sleep(seconds)
        return key, proof(key, nonce), 0

    @fastrpc.rpc(blocking=True)
    def thread(self, key: int, nonce: int) -> tuple[int, int, int]:
        self._runs[key] += 1
        return key, proof(key, nonce), 0

    async def tasks(self) -> int:
        return len(asyncio.all_tasks())


def main() -> None:
    target, path = sys.argv[1:]
    with (
        Path(path).open("r+b") as file,
        mmap.mmap(file.fileno(), 0) as runs,
        Path(path).with_suffix(".counts").open("r+b") as counted,
        mmap.mmap(counted.fileno(), 0) as counts,
    ):
        server = fastrpc.Server(max_pending=1024)
        server.register(Soak(runs))
        server.register(Flows(Counts(counts)))
        fastrpc.run(server, target, grace=5.0)


if __name__ == "__main__":
    main()
