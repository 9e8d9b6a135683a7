"""Stand between a client and a real server, and harm the bytes by script.

    async with FaultPipe(server.targets[0], backward=[Cut(after=100)]) as pipe:
        client = fastrpc.connect(pipe.target)

A script belongs to one direction: `forward` is client to server, `backward` the
other. It counts the bytes of that direction from the start of each connection, so
a test is repeatable to the byte. Which byte shares a read with which is up to
the kernel.

Rules of the room:
  * without faults the pipe only forwards, half-closes included;
  * a stalled direction is not read, so the sender feels it as it would a peer
    that stopped reading.
"""

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final

from fastrpc.errors import ConfigError, ConnectFailed
from fastrpc.transport import Listener, dial, listen

_READ: Final = 64 * 2**10


@dataclass(frozen=True, slots=True)
class Cut:
    """End the connection, on both sides, after so many bytes.

    With *reset* the peers see a reset instead of an ordinary end.
    """

    after: int
    reset: bool = False


@dataclass(frozen=True, slots=True)
class Split:
    """Forward in pieces of *size* bytes, each in a loop step of its own."""

    size: int = 1


@dataclass(frozen=True, slots=True)
class Flip:
    """Invert bit number *bit* (0 is the lowest) of the byte at offset *at*."""

    at: int
    bit: int = 0


@dataclass(frozen=True, slots=True)
class Stall:
    """Stop forwarding after so many bytes, until `FaultPipe.release`."""

    after: int


@dataclass(frozen=True, slots=True)
class Delay:
    """Hold every piece back for so many loop steps."""

    steps: int


Fault = Cut | Split | Flip | Stall | Delay
Script = Sequence[Fault] | Callable[[int], Sequence[Fault]]


def random_faults(seed: int, *, span: int = 4096) -> tuple[Fault, ...]:
    """Return one to three faults within the first *span* bytes, the same for a seed."""
    rng = random.Random(seed)
    makers: list[Callable[[], Fault]] = [
        lambda: Cut(rng.randrange(span), rng.random() < 0.5),
        lambda: Split(rng.choice((1, 2, 7, 19, 64))),
        lambda: Flip(rng.randrange(span), rng.randrange(8)),
        lambda: Stall(rng.randrange(span)),
        lambda: Delay(rng.randrange(1, 5)),
    ]
    return tuple(make() for make in rng.sample(makers, rng.randint(1, 3)))


class FaultLine:
    """The script of one direction at work; knows no sockets."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self._offset = 0
        self._flips = [fault for fault in faults if isinstance(fault, Flip)]
        self._size = min((fault.size for fault in faults if isinstance(fault, Split)), default=0)
        self._delay = [fault for fault in faults if isinstance(fault, Delay)]
        stops = [fault for fault in faults if isinstance(fault, (Cut, Stall))]
        self._stops = sorted(stops, key=lambda stop: stop.after)

    def feed(self, data: bytes) -> Iterator[bytes | Cut | Stall | Delay]:
        """Yield what to do with *data*, in order; nothing comes after a `Cut`."""
        yield from self._due()
        start = 0
        while start < len(data):
            end = min(len(data), start + self._size) if self._size else len(data)
            if self._stops:
                end = min(end, start + self._stops[0].after - self._offset)
            yield from self._delay
            yield self._corrupt(data[start:end])
            self._offset += end - start
            start = end
            yield from self._due()

    def _due(self) -> Iterator[Cut | Stall]:
        while self._stops and self._stops[0].after <= self._offset:
            yield self._stops.pop(0)

    def _corrupt(self, piece: bytes) -> bytes:
        harmed = bytearray(piece)
        for flip in self._flips:
            if 0 <= flip.at - self._offset < len(harmed):
                harmed[flip.at - self._offset] ^= 1 << flip.bit
        return bytes(harmed)


class _CutHereError(Exception):
    def __init__(self, cut: Cut) -> None:
        self.cut = cut


class FaultPipe:
    """A byte relay to *target* that follows a script in each direction.

    Use it with `async with`; `target` is then what to connect to. A script is a
    sequence of faults, or a function that returns one for the connection's number,
    counted from 0, so that a reconnect can find the way free.

    Args:
        target: The real server.
        forward: What happens to bytes from client to server.
        backward: What happens to bytes from server to client.
        at: Where the pipe listens.
        timeout: Seconds to wait for the real server to accept.
    """

    def __init__(
        self,
        target: str,
        *,
        forward: Script = (),
        backward: Script = (),
        at: str = "tcp://127.0.0.1:0",
        timeout: float = 3.0,
    ) -> None:
        self.target = ""
        #: How many clients have connected so far.
        self.connections = 0
        #: While true, clients are accepted and closed at once.
        self.refusing = False
        self._server = target
        self._forward = forward
        self._backward = backward
        self._at = at
        self._timeout = timeout
        self._listener: Listener | None = None
        self._released: asyncio.Event | None = None
        self._relays: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "FaultPipe":
        """Start listening."""
        self._released = asyncio.Event()
        self._listener = await listen(self._at, self._accept)
        self.target = self._listener.targets[0]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop listening and end every connection."""
        if self._listener is not None:
            self._listener.close()
            await self._listener.wait_closed()
        self.cut()
        if self._relays:
            await asyncio.wait(self._relays)

    @property
    def open_connections(self) -> int:
        """How many relays are running."""
        return len(self._relays)

    def release(self) -> None:
        """Let every stalled direction go on, and forget stalls yet to come."""
        if self._released is None:
            raise ConfigError("FaultPipe is used with `async with`")
        self._released.set()

    def cut(self) -> None:
        """End every connection now, on both sides."""
        for relay in self._relays:
            relay.cancel()

    def _accept(self) -> asyncio.BaseProtocol:
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(), self._start)

    def _start(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = self.connections
        self.connections += 1
        if self.refusing:
            writer.close()
            return
        relay = asyncio.get_running_loop().create_task(self._relay(number, reader, writer))
        self._relays.add(relay)
        relay.add_done_callback(lambda done: self._ended(done, writer))

    def _ended(self, relay: asyncio.Task[None], writer: asyncio.StreamWriter) -> None:
        self._relays.discard(relay)
        if not writer.transport.is_closing():  # it was cut before its first step
            writer.transport.abort()

    async def _relay(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writers = [writer]
        pumps: list[asyncio.Task[None]] = []
        try:
            with contextlib.suppress(ConnectFailed):
                far_reader, far_writer = await self._dial()
                writers.append(far_writer)
                for source, sink, script in (
                    (reader, far_writer, self._forward),
                    (far_reader, writer, self._backward),
                ):
                    line = FaultLine(script(number) if callable(script) else script)
                    pumps.append(asyncio.create_task(self._pump(source, sink, line)))
                await asyncio.wait(pumps, return_when=asyncio.FIRST_EXCEPTION)
        except asyncio.CancelledError:  # by `cut`: now, not when the rest is flushed
            for each in writers:
                each.transport.abort()
        finally:
            for pump in pumps:
                pump.cancel()
            try:
                if pumps:
                    await asyncio.wait(pumps)
            finally:  # whoever cancels this wait wants both sides closed all the same
                for each in writers:
                    _end(each, reset=any(_was_reset(pump) for pump in pumps))

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await dial(self._server, lambda: protocol, timeout=self._timeout)
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: FaultLine
    ) -> None:
        assert self._released is not None
        # A fault at offset 0 happens before anything was sent.
        data = b""
        while True:
            for step in line.feed(data):
                if isinstance(step, bytes):
                    writer.write(step)
                    await writer.drain()
                    await asyncio.sleep(0)
                elif isinstance(step, Delay):
                    for _ in range(step.steps):
                        await asyncio.sleep(0)
                elif isinstance(step, Stall):
                    await self._released.wait()
                else:
                    raise _CutHereError(step)
            data = await reader.read(_READ)
            if not data:
                break
        writer.write_eof()


def _was_reset(pump: asyncio.Task[None]) -> bool:
    error = None if not pump.done() or pump.cancelled() else pump.exception()
    return isinstance(error, ConnectionError) or (
        isinstance(error, _CutHereError) and error.cut.reset
    )


def _end(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    if not reset:
        writer.close()
        return
    sock = writer.transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            # No lingering: the kernel drops what is unsent and tells the peer so.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
