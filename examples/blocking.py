"""Blocking code on both sides: a handler that blocks, a client without a loop.

    python examples/blocking.py

The handler reads a file, so it is marked `blocking` and runs in a thread while
the server goes on answering others. The client is plain Python: a socket, no
event loop, no thread of its own.
"""

import asyncio
import hashlib
import threading
from pathlib import Path

import fastrpc


class Files:
    """Reads files of one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        """Return the names of the Python files."""
        return sorted(path.name for path in self._folder.glob("*.py"))

    @fastrpc.rpc(blocking=True, idempotent=True)
    def digest(self, name: str) -> str:
        """Return the SHA-256 of a file."""
        path = self._folder / Path(name).name  # a name, never a way out of the folder
        if not path.is_file():
            raise fastrpc.RpcError(404, f"there is no file {name!r}")
        return hashlib.sha256(path.read_bytes()).hexdigest()


class Background:
    """A server in a thread, for a program that is otherwise blocking."""

    def __init__(self, *services: object) -> None:
        self._services = services
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    async def _serve(self) -> None:
        server = fastrpc.Server()
        for service in self._services:
            server.register(service)
        await server.start("tcp://127.0.0.1:0")
        self.target = server.targets[0]
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        self._ready.set()
        await self._end.wait()
        await server.aclose()

    def __enter__(self) -> "Background":
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()


def main() -> None:
    files = Files(Path(__file__).parent)
    with Background(files) as server, fastrpc.connect_sync(server.target, timeout=5) as client:
        stub = client.stub(Files)
        for name in stub.names():
            print(stub.digest(name)[:16], name)
        try:
            stub.digest("missing.py")
        except fastrpc.RpcError as error:
            print("refused:", error.code, error.message)


if __name__ == "__main__":
    main()
