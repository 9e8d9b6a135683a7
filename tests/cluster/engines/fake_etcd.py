"""An etcd that says what a test wants: odd, late, hostile or wrong, over a real socket."""

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any

from aiohttp import web

#: What answers a question: a value for JSON, or a whole response.
Answer = Callable[[dict[str, Any]], Any]


class FakeEtcd:
    """Answers by path; a test changes `answers` as it likes.

    Args:
        tls: How to encrypt, if at all.

    Attributes:
        answers: What answers, by path such as "kv/range".
        asked: Paths and questions, in order.
        headers: Of the last question.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.headers: dict[str, str] = {}
        self.place = ""
        self._runner: web.AppRunner | None = None

    def count(self, path: str) -> int:
        """Return how often *path* was asked."""
        return sum(each == path for each, _ in self.asked)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path = request.path.removeprefix("/v3/")
        question = json.loads(await request.read())
        self.asked.append((path, question))
        self.headers = dict(request.headers)
        answer = self.answers[path](question)
        if isinstance(answer, Awaitable):
            answer = await answer
        if isinstance(answer, list):
            return await self._stream(request, answer)
        if isinstance(answer, web.StreamResponse):
            return answer
        return web.json_response(answer)

    async def _stream(self, request: web.Request, pieces: list[Any]) -> web.StreamResponse:
        """Send pieces as lines; bytes as they are; None keeps the stream open, work takes time."""
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in pieces:
            if piece is None:
                await asyncio.Event().wait()
            if callable(piece):
                await piece()
                continue
            is_raw = isinstance(piece, bytes)
            await response.write(piece if is_raw else json.dumps(piece).encode() + b"\n")
        return response

    async def __aenter__(self) -> "FakeEtcd":
        """Listen."""
        app = web.Application(client_max_size=2**24)
        app.router.add_post("/v3/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.place = f"{host}:{port}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        assert self._runner is not None
        await self._runner.cleanup()


def problem(code: int, text: str, status: int = 400) -> web.Response:
    """Return an answer that says no as the gateway does."""
    return web.json_response({"error": text, "message": text, "code": code}, status=status)
