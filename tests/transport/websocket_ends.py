"""Pipes over WebSocket for tests: real ones below, without the handshake of HTTP."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

from fastrpc.transport import Listener, dial, listen
from fastrpc.transport.websocket import WebSocketPipe
from fastrpc.transport.websocket_text import WebSocketText


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


class EchoPipe(asyncio.Protocol):
    """Sends back what comes over a pipe; notes how it ended."""

    def __init__(self) -> None:
        self.lost: list[Exception | None] = []
        self.ended = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def eof_received(self) -> None:
        self.ended += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)


class EchoText(asyncio.Protocol):
    """Sends back each text; notes how it ended. A protocol only until it is connected."""

    def __init__(self, **options: Any) -> None:
        self.lost: list[Exception | None] = []
        self.end: WebSocketText
        self._options = options

    def connection_made(self, transport: Any) -> None:
        self.end = WebSocketText(
            transport,
            on_message=lambda text: self.end.send(text),
            on_lost=self.lost.append,
            **self._options,
        )
        transport.set_protocol(self.end)


@contextlib.asynccontextmanager
async def echoing(kind: str, **options: Any) -> AsyncIterator[tuple[str, list[Any]]]:
    """Serve an echo of texts or of bytes; give host:port, and the ends made so far.

    Every end has to be told once that it is over.
    """
    ends: list[Any] = []

    def make_text() -> EchoText:
        ends.append(EchoText(**options))
        return cast("EchoText", ends[-1])

    def make_pipe() -> EchoPipe:
        ends.append(EchoPipe())
        return cast("EchoPipe", ends[-1])

    if kind == "text":
        listener = await listen("tcp://127.0.0.1:0", make_text)
    else:
        listener = await listen_pipe("tcp://127.0.0.1:0", make_pipe, **options)
    try:
        yield listener.targets[0].removeprefix("tcp://"), ends
        async with asyncio.timeout(10):
            while any(not end.lost for end in ends):
                await asyncio.sleep(0.001)
    finally:
        listener.close()
        await listener.wait_closed()
    assert [len(end.lost) for end in ends] == [1] * len(ends)


@contextlib.asynccontextmanager
async def connected(
    place: str,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect to host:port."""
    host, _, port = place.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=2**25)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
