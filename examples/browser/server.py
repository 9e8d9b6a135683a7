"""A chat and a search among all characters, for pages in browsers.

    (cd clients/js && npm ci && npm run build)    # once: makes fastrpc.js
    python examples/browser/server.py             # then open the address that it prints

The page (index.html, app.js) calls this server over a WebSocket: plain calls, a stream
that it may leave half-way, and lines of the chat that the server pushes.
"""

import asyncio
import contextlib
import sys
import threading
from collections.abc import AsyncIterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

import chat  # noqa: E402  the examples next door
import unicode_service  # noqa: E402

import fastrpc  # noqa: E402

CLIENT = HERE.parents[1] / "clients" / "js" / "dist" / "fastrpc.js"


class Parade:
    """Characters that march by."""

    def __init__(self) -> None:
        self.marching = 0
        self.still = asyncio.Event()

    async def march(
        self, first: int, pause: float = 0.1
    ) -> AsyncIterator[unicode_service.Character]:
        """Send the character with the number *first* and those behind it, one by one."""
        self.marching += 1
        self.still.clear()
        try:
            for code in range(first, sys.maxunicode + 1):
                if unicode_service.is_served(chr(code)):
                    yield unicode_service.describe(code)
                    await asyncio.sleep(pause)
        finally:
            self.marching -= 1
            self.still.set()


class PageHandler(SimpleHTTPRequestHandler):
    """Give out the page's files and the client's."""

    def translate_path(self, path: str) -> str:
        name = path.partition("?")[0].strip("/") or "index.html"
        allowed = {"index.html": HERE, "app.js": HERE, "fastrpc.js": CLIENT.parent}
        return str(allowed.get(name, HERE / "none") / name)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextlib.asynccontextmanager
async def serving(server: fastrpc.Server, page_port: int = 0, port: int = 0) -> AsyncIterator[str]:
    """Serve *server* to pages of ours, and give the page's address."""
    pages = ThreadingHTTPServer(("127.0.0.1", page_port), PageHandler)
    thread = threading.Thread(target=partial(pages.serve_forever, poll_interval=0.05))
    thread.start()
    try:
        await server.start(f"ws://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{pages.server_port}/?server={server.targets[0]}"
    finally:
        await server.aclose(grace=0)
        await asyncio.to_thread(pages.shutdown)
        thread.join()
        pages.server_close()


def make_server(parade: Parade, page_origins: tuple[str, ...]) -> fastrpc.Server:
    """Return what serves the pages of these origins, such as "http://127.0.0.1:8000"."""
    server = fastrpc.Server(http=fastrpc.HttpOptions(origins=page_origins))
    server.register(chat.Room())
    server.register(unicode_service.Unicode())
    server.register(parade)
    return server


async def main() -> None:
    server = make_server(Parade(), ("http://127.0.0.1:8000", "http://localhost:8000"))
    async with serving(server, 8000, 7000) as page:
        print("open", page)
        await asyncio.Event().wait()


if __name__ == "__main__":
    if not CLIENT.exists():
        sys.exit(f"{CLIENT} is not there yet: (cd clients/js && npm ci && npm run build)")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
