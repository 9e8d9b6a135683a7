"""One instance of the cluster under chaos; a process that may be killed at any moment.

    python -m tests.soak.member REGISTRY RUNS NUMBER [LEAVE_WAIT]

As `served` does, it counts every run in a file mapped into memory.
"""

import asyncio
import mmap
import signal
import sys
from pathlib import Path

import uvloop

import fastrpc
from tests.soak.served import proof


class Member:
    """Answer with a proof, count every run."""

    def __init__(self, runs: mmap.mmap) -> None:
        self._runs = runs

    @fastrpc.rpc(idempotent=True)
    def get(self, key: int, nonce: int, load: bytes = b"") -> tuple[int, int, int]:
        """Be run as often as it takes."""
        self._runs[key] = min(self._runs[key] + 1, 255)
        return key, proof(key, nonce), len(load)

    def put(self, key: int, nonce: int, load: bytes = b"") -> tuple[int, int, int]:
        """Be run once."""
        self._runs[key] = min(self._runs[key] + 1, 255)
        return key, proof(key, nonce), len(load)

    async def slow_put(self, key: int, nonce: int, seconds: float) -> tuple[int, int, int]:
        """Be run once, and take some time."""
        self._runs[key] = min(self._runs[key] + 1, 255)
        await asyncio.sleep(seconds)
        return key, proof(key, nonce), 0


async def serve(registry: str, runs: mmap.mmap, leave_wait: float) -> None:
    """Serve until SIGTERM."""
    server = fastrpc.Server(max_pending=1024)
    server.register(Member(runs))
    await server.start("tcp://127.0.0.1:0")
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await server.announce(registry, ttl=3.0, leave_wait=leave_wait)
    print("ready", flush=True)
    await stop.wait()
    await server.aclose(grace=10.0)


def main() -> None:
    registry, path, _ = sys.argv[1:4]
    leave_wait = float(sys.argv[4]) if len(sys.argv) > 4 else 2.0
    with Path(path).open("r+b") as file, mmap.mmap(file.fileno(), 0) as runs:
        uvloop.run(serve(registry, runs, leave_wait))


if __name__ == "__main__":
    main()
