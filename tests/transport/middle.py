"""What stands between a client and a server in tests: a proxy, and an HTTP front, in this loop."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastrpc.transport import parse_target
from fastrpc.transport.upgrade import feed


class Front(asyncio.Protocol):
    """Speaks HTTP until it is asked for an upgrade; then *make*'s protocol has the rest.

    Args:
        make: Makes that.
        answer: What to say; `early` bytes may stand behind it.
    """

    ANSWER = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: fastrpc\r\n\r\n"

    def __init__(self, make: Callable[[], asyncio.BaseProtocol], answer: bytes = ANSWER) -> None:
        self._make = make
        self._answer = answer
        self.asked = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self.asked += data
        head, end, early = self.asked.partition(b"\r\n\r\n")
        if end:
            assert b"\r\nUpgrade: fastrpc" in head, head
            self._transport.write(self._answer)
            protocol = self._make()
            self._transport.set_protocol(protocol)
            protocol.connection_made(self._transport)
            feed(protocol, early)


@contextlib.asynccontextmanager
async def proxying(asked: list[bytes] | None = None) -> AsyncIterator[str]:
    """Be a forward proxy that opens tunnels to this machine; gives its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there: asyncio.StreamWriter | None = None
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if asked is not None:
                asked.append(head)
            place = parse_target(f"tcp://{head.split()[1].decode()}")
            back, there = await asyncio.open_connection(place.host, place.port)
            writer.write(b"HTTP/1.0 200 Connection established\r\n\r\n")
            await asyncio.gather(copy(reader, there), copy(back, writer))
        except (OSError, EOFError):
            pass
        finally:
            for each in (writer, there):
                if each is not None:
                    each.close()

    async def copy(source: asyncio.StreamReader, drain: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                drain.write(data)
                await drain.drain()
            drain.write_eof()
        except OSError:
            drain.transport.abort()
            raise

    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await server.wait_closed()
