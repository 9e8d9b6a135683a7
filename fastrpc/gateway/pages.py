"""Let pages answer, and be the two pages that say how the server is.

A page is asked in a task of its own, and may take its time.

Rules of the room:
  * a task ends before its connection is counted out;
  * what a page raises is logged, and the asker is told that it failed.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, final

from fastrpc.gateway import problems
from fastrpc.gateway.convert import json_of
from fastrpc.gateway.exchange import Answer, Exchange
from fastrpc.server.pages import PagePlace, PageRequest, PageResponse
from fastrpc.wire import StatusCode

_FAILED: Final = "the page failed; the server's log says why"


@final
class PageAnswer(Answer):
    """Let a page answer.

    Args:
        exchange: What is answered.
        place: Which page.
        path: What is below the page's own.
    """

    def __init__(self, exchange: Exchange, place: PagePlace, path: str) -> None:
        self.max_body = place.max_body
        self._exchange = exchange
        self._place = place
        self._path = path
        self._query = dict(exchange.request.arguments())
        self._task: asyncio.Task[None] | None = None

    def ask(self, body: bytes) -> None:
        """Ask the page."""
        loop = self._exchange.hall.side.ticker.loop
        self._task = loop.create_task(self._run(body))

    def lost(self) -> None:
        """Let the page go."""
        if self._task is not None:
            self._task.cancel()

    def linger(self, done: Callable[[], None]) -> bool:
        """Return whether the page has not ended yet."""
        if self._task is None or self._task.done():
            return False
        self._task.add_done_callback(lambda task: done())
        return True

    async def _run(self, body: bytes) -> None:
        exchange = self._exchange
        try:
            page = self._place.load()
            told = await page(self._request(body))
            exchange.respond(told.status, told.body, told.content_type, told.headers)
        except asyncio.CancelledError:
            exchange.cut()
            raise
        except Exception as exc:
            text = f"the page {self._place.prefix} raised {type(exc).__name__}"
            side = exchange.hall.side
            side.complain(logging.ERROR, exchange.connection.peer, text, exc, self._place.prefix)
            if exchange.is_begun:
                exchange.cut()
            else:
                exchange.tell(problems.failure(StatusCode.SERVER_ERROR, _FAILED, "maybe"))

    def _request(self, body: bytes) -> PageRequest:
        exchange = self._exchange
        request = exchange.request
        return PageRequest(
            method="GET" if request.method == "HEAD" else request.method,
            path=self._path,
            query=self._query,
            headers=request.headers,
            body=body,
            peer=exchange.connection.peer,
            hall=exchange.hall,
            prefix=request.path[: len(request.path) - len(self._path)],
        )


async def alive(request: PageRequest) -> PageResponse:
    """Say that the process lives: always yes."""
    return _state(200, "alive")


async def ready(request: PageRequest) -> PageResponse:
    """Say whether the server wants calls: no while it leaves or drains."""
    if request.hall.is_closing or request.hall.is_leaving:
        return _state(503, "draining")
    return _state(200, "ready")


def _state(http: int, word: str) -> PageResponse:
    body = json_of({"status": word})
    return PageResponse(status=http, content_type=problems.JSON, body=body)
