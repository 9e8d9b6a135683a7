"""Watch both ends of a connection: what `check_transport` stands on.

Rules of the room:
  * an end notes every callback that comes out of turn, and the bench tells at the
    end, whatever the check was about;
  * nothing is polled: whoever waits is woken by a callback.
"""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final, Protocol

from fastrpc.transport import Listener


def expect(condition: object, words: str) -> None:
    """Raise AssertionError with *words* unless *condition* holds."""
    # Not `assert`: the checks hold under `python -O`, too.
    if not condition:
        raise AssertionError(words)


#: Seconds after which a check that waits has failed.
PATIENCE: Final = 10.0


class Dial(Protocol):
    """The shape of `fastrpc.transport.dial`."""

    def __call__(
        self, target: str, protocol_factory: Callable[[], Any], *, timeout: float
    ) -> Awaitable[tuple[asyncio.Transport, Any]]:
        """Connect to *target*."""


class Listen(Protocol):
    """The shape of `fastrpc.transport.listen`."""

    def __call__(
        self, target: str, protocol_factory: Callable[[], asyncio.BaseProtocol]
    ) -> Awaitable[Listener]:
        """Listen at *target*."""


class Watch:
    """What one end of a connection saw; notes callbacks that come out of turn."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.received = bytearray()
        self.reads = 0
        self.ended = False
        self.lost: list[BaseException | None] = []
        self.paused = False
        self.pauses = 0
        self.stay_open = False
        self.on_read: Callable[[], None] | None = None
        self.problems: list[str] = []
        self._changed: asyncio.Future[None] | None = None

    def connection_made(self, transport: Any) -> None:
        """Keep the transport."""
        self._expect_open("connection_made", made=False)
        self.transport = transport
        self._note()

    def connection_lost(self, error: BaseException | None) -> None:
        """Keep the reason."""
        self._expect_open("connection_lost")
        self.lost.append(error)
        self._note()

    def eof_received(self) -> bool:
        """Note the peer's end; keep this side open if `stay_open`."""
        self._expect_open("eof_received")
        if self.ended:
            self.problems.append("eof_received twice")
        self.ended = True
        self._note()
        return self.stay_open

    def pause_writing(self) -> None:
        """Note that the peer reads too little."""
        self._expect_open("pause_writing")
        if self.paused:
            self.problems.append("pause_writing twice")
        self.paused = True
        self.pauses += 1
        self._note()

    def resume_writing(self) -> None:
        """Note that the peer has read."""
        if not self.paused:
            self.problems.append("resume_writing without pause_writing")
        self.paused = False
        self._note()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until *condition* holds; it is looked at after every callback."""
        while not condition():
            self._changed = asyncio.get_running_loop().create_future()
            await self._changed

    async def until_received(self, count: int) -> None:
        """Wait for *count* bytes in all."""
        await self.until(lambda: len(self.received) >= count)

    async def until_lost(self) -> None:
        """Wait for `connection_lost`."""
        await self.until(lambda: self.lost)

    def _read(self, data: bytes | bytearray | memoryview) -> None:
        self._expect_open("data")
        if self.ended:
            self.problems.append("data after eof_received")
        self.received += data
        self.reads += 1
        self._note()
        if self.on_read is not None:
            self.on_read()

    def _expect_open(self, callback: str, *, made: bool = True) -> None:
        if made != (self.transport is not None):
            self.problems.append(f"{callback} out of turn with connection_made")
        if self.lost:
            self.problems.append(f"{callback} after connection_lost")

    def _note(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)


class Plain(Watch, asyncio.Protocol):
    """An end that is given bytes."""

    def data_received(self, data: bytes) -> None:
        """Keep *data*."""
        if type(data) is not bytes:
            self.problems.append(f"data_received got {type(data).__name__}, not bytes")
        self._read(data)


class Buffered(Watch, asyncio.BufferedProtocol):
    """An end that lends a small buffer to be filled."""

    def __init__(self) -> None:
        super().__init__()
        self._buffer = bytearray(1000)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Lend the buffer."""
        return memoryview(self._buffer)

    def buffer_updated(self, nbytes: int) -> None:
        """Keep the first *nbytes* of the buffer."""
        if not 0 < nbytes <= len(self._buffer):
            self.problems.append(f"buffer_updated({nbytes}) for {len(self._buffer)} bytes")
        self._read(self._buffer[:nbytes])


class Bench:
    """A listener, and connections to it whose two ends are both at hand."""

    def __init__(self, target: str, dial: Dial, listen: Listen) -> None:
        self._target = target
        self._dial = dial
        self._listen = listen
        self._greeted: asyncio.Queue[Watch] = asyncio.Queue()
        self._kind: type[Watch] = Plain
        self._watches: list[Watch] = []
        self.listener: Listener

    async def __aenter__(self) -> "Bench":
        """Start listening."""
        self.listener = await self._listen(self._target, self._accept)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End everything; raise if an end saw callbacks out of turn."""
        self.listener.close()
        await self.listener.wait_closed()
        open_ends = [watch for watch in self.made() if not watch.lost]
        for watch in open_ends:
            watch.transport.abort()
        if error is None:  # else the wait could be for ever, and hide the error
            for watch in open_ends:
                await watch.until_lost()
            problems = [problem for watch in self._watches for problem in watch.problems]
            expect(not problems, "; ".join(problems))

    async def dial(self) -> Watch:
        """Connect and return the client's end."""
        transport, watch = await self._dial(self.listener.targets[0], self._new, timeout=PATIENCE)
        expect(watch.transport is transport, "dial returned before connection_made")
        result: Watch = watch
        return result

    async def connect(self, kind: type[Watch] = Plain) -> tuple[Watch, Watch]:
        """Connect and return the client's and the server's end."""
        self._kind = kind
        client = await self.dial()
        client.transport.write(b"#")
        server = await self._greeted.get()
        server.on_read = None
        server.received.clear()
        server.reads = 0
        return client, server

    async def settle(self) -> None:
        """Let time pass in which anything under way would have arrived."""
        client, server = await self.connect()
        for count in range(1, 6):
            client.transport.write(b"?")
            await server.until_received(count)
            server.transport.write(b"!")
            await client.until_received(count)
        client.transport.abort()
        await server.until_lost()

    def made(self) -> list[Watch]:
        """Return every end that was connected, open or not."""
        return [watch for watch in self._watches if watch.transport is not None]

    def _new(self) -> Watch:
        watch = self._kind()
        self._watches.append(watch)
        return watch

    def _accept(self) -> asyncio.BaseProtocol:
        watch = self._new()
        # A client greets first, so that ends are paired whatever else is under way.
        watch.on_read = lambda: self._greeted.put_nowait(watch)
        return watch  # type: ignore[return-value]
