"""Pipes over WebSocket for tests: real ones below, without the handshake of HTTP."""

import asyncio
from collections.abc import Callable
from typing import Any

from fastrpc.transport import Listener, dial, listen
from fastrpc.transport.websocket import WebSocketPipe


class Below(asyncio.Protocol):
    """Puts a pipe between a connection and the protocol that a test makes."""

    def __init__(self, factory: Callable[[], Any], is_client: bool, **options: Any) -> None:
        self.inner = factory()
        self._is_client = is_client
        self._options = options
        self.pipe: WebSocketPipe

    def connection_made(self, transport: Any) -> None:
        self.pipe = WebSocketPipe(transport, is_client=self._is_client, **self._options)
        self.pipe.set_protocol(self.inner)
        transport.set_protocol(self.pipe)
        self.inner.connection_made(self.pipe)


async def dial_pipe(
    target: str,
    protocol_factory: Callable[[], Any],
    *,
    timeout: float,  # noqa: ASYNC109 - the shape of `fastrpc.transport.dial`
    **options: Any,
) -> tuple[WebSocketPipe, Any]:
    """Dial *target* and speak WebSocket at once."""
    _, below = await dial(target, lambda: Below(protocol_factory, True, **options), timeout=timeout)
    return below.pipe, below.inner


async def listen_pipe(target: str, protocol_factory: Callable[[], Any], **options: Any) -> Listener:
    """Listen at *target* for those who speak WebSocket at once."""
    return await listen(target, lambda: Below(protocol_factory, False, **options))
