"""Join a client's lane and a server's lane by memory: calls without a socket or a loop.

What is left is what the lanes themselves do: encode, number, frame, split, match,
decode, run the handler. Bytes go through the lanes' read buffers as they would
behind a transport.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

from bench.values import Small
from fastrpc.codec import default_codecs
from fastrpc.session.firststep import FirstSteps
from fastrpc.wire import BODY_MAX, SERIALIZERS, Kind, Serializer

WINDOW = 2**18  # of a stream, as sessions have it


def echo(value: Any) -> Any:
    """Return *value*."""
    return value


async def later(value: Any) -> Any:
    """Return *value* from a coroutine that never waits."""
    return value


class Owner:
    """Stands in for a session; what is neither plain nor credit is an error here."""

    outlet: Any = None
    running: Sequence[Any] = ()

    def frames(self, frames: list[Any]) -> None:
        """Take the credit of the one stream."""
        for frame in frames:
            assert frame.kind == Kind.CREDIT, frame
            self.outlet.grant(frame.arg)

    def tick(self) -> None:
        """Ignore that calls are open; nothing here comes late."""

    def broken(self, error: Exception) -> None:
        """Show what broke the lane."""
        raise error

    def undecodable(self, slot: Any, frame: Any, error: Exception) -> None:
        """Show why a reply was not understood."""
        raise error

    def bind(self, method: Any, frame: Any, error: Exception | None) -> None:
        """Show why arguments were not understood."""
        raise error or AssertionError(f"no decoder for {frame!r}")

    def raised(self, method: Any, frame: Any, error: BaseException) -> None:
        """Show what the handler raised."""
        raise error


class Pair:
    """Two lanes of one twin, wired to each other, methods bound, hands shaken.

    Use it inside a running event loop: the lanes insist on one.

    Args:
        twin: What `open_twin` returned.
    """

    def __init__(self, twin: SimpleNamespace) -> None:
        self._pending: list[Callable[[], None]] = []
        self._written: list[tuple[Any, bytes]] = []
        self._twin = twin
        self.client, self.server = self._lane(), self._lane()
        self.client.attach(*self._pipe(self.server))
        self.server.attach(*self._pipe(self.client))
        self.server.router = self._methods()

    def caller(self, timeout: float = 0.0, metadata: bytes = b"") -> Any:
        """Return what a client's view puts its calls through."""
        return self._twin.Caller([self.client], _no_room, timeout, metadata)

    def picking(self) -> Any:
        """Return what a view of a cluster puts its calls through, of two members."""
        twin, two = self._twin, self._twin.TwoChoices(1)
        two.update([twin.MemberFields([self.client], 10.0) for _ in range(2)], 0.0)
        return twin.ClusterCaller(
            two, _no_room, lambda picked, error: False, None, None, 0.0, b"", None, time.monotonic
        )

    def typed(self, caller: Any) -> Any:
        """Return the stub's `typed` method."""
        codec = default_codecs().get("msgpack")
        return self._twin.BoundCall(caller, "Echo.typed", codec.decoder(Small))

    def turn(self) -> None:
        """Flush what is to leave in this turn, and carry it over until nothing moves."""
        while self._pending or self._written:
            while self._pending:
                self._pending.pop()()
            written, self._written = self._written, []
            for lane, data in written:
                _deliver(lane, data)

    def calls(self, call: Callable[[], Any], in_flight: int) -> Any:
        """Make *in_flight* calls in one turn and return the last result."""
        waiters = [call() for _ in range(in_flight)]
        self.turn()
        return waiters[-1].result()

    def _lane(self) -> Any:
        loop = asyncio.get_running_loop()
        share = self._twin.LoopShare(
            loop.create_future,
            self._pending.append,
            time.monotonic,
            loop.is_running,
            threading.get_ident(),
            loop,
        )
        lane = self._twin.Lane(Owner(), share, BODY_MAX)
        lane.encoders = _places(lambda codec: codec.encode, "msgpack", "raw")
        lane.decoders = _places(lambda codec: codec.decode, "msgpack", "raw")
        lane.peer_body, lane.peer_calls = BODY_MAX, 2**20
        lane.raw = lane.opened = lane.ready = True
        return lane

    def _pipe(self, lane: Any) -> tuple[Callable[[bytes], None], Callable[[Sequence[bytes]], None]]:
        """Return the `write` and `writelines` of a transport that leads to *lane*."""

        def write(data: bytes) -> None:
            self._written.append((lane, data))

        def writelines(parts: Sequence[bytes]) -> None:
            self._written += [(lane, part) for part in parts]

        return write, writelines

    def _methods(self) -> dict[bytes, Any]:
        untyped = _places(lambda codec: codec.arguments([Any], 1, None), "msgpack", "raw")
        typed = _places(lambda codec: codec.arguments([Small], 1, None), "msgpack")
        return {
            b"Echo.echo": self._twin.Method(b"Echo.echo", 0, echo, untyped),
            b"Echo.later": self._twin.Method(b"Echo.later", 1, later, untyped),
            b"Echo.typed": self._twin.Method(b"Echo.typed", 0, echo, typed),
        }


class Chain:
    """Calls of Echo.echo through an interceptor on both sides, one that does nothing.

    Args:
        pair: The lanes.
        twin: What `open_twin` returned.
    """

    def __init__(self, pair: Pair, twin: SimpleNamespace) -> None:
        async def handle(call: Any) -> Any:
            return await twin.innermost(call)

        inherited = ContextVar("inherited", default=0.0)
        sender = twin.Sender(
            [pair.client], _no_room, None, _no_room, twin.ReplyFields, time.monotonic
        )
        self._caller = twin.ChainCaller(
            handle, sender, twin.CallFields, 0.0, b"", inherited, time.monotonic
        )
        self._pair = pair
        self._loop = asyncio.get_running_loop()
        at_once = twin.AtOnce(echo, False, twin.ReplyFields, inherited, time.monotonic)
        pair.server.router[b"Echo.echo"].through = twin.Through(
            "Echo.echo", handle, at_once,
            twin.CallFields, FirstSteps(self._loop), (), 1, 1, _no_room, False, inherited,
        )  # fmt: skip

    def calls(self, value: Any, count: int) -> Any:
        """Await *count* calls that are made in one turn and return the last result."""
        waiting = [self._caller.call("Echo.echo", value).__await__() for _ in range(count)]
        for step in waiting:
            step.send(None)
        self._caller._begin()  # the loop's next turn
        current = asyncio.current_task()
        assert current is not None
        asyncio.tasks._leave_task(self._loop, current)  # bytes come outside of any task
        try:
            self._pair.turn()
        finally:
            asyncio.tasks._enter_task(self._loop, current)
        return [_last(step) for step in waiting][-1]


def _last(step: Any) -> Any:
    """Take the last step of something and return its result."""
    try:
        step.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("its reply has not come")


class Flow:
    """A stream from the server's lane to the client's: a pump at one end, a reader at the other.

    Args:
        pair: The lanes.
        twin: What `open_twin` returned.
    """

    def __init__(self, pair: Pair, twin: SimpleNamespace) -> None:
        serializer = int(Serializer.MSGPACK)
        self._pair = pair
        self._outlet = twin.Outlet(pair.server, 1, False, WINDOW, serializer)
        pair.server.owner.outlet = self._outlet
        inlet = twin.Inlet(
            pair.client, 1, True, WINDOW, serializer, default_codecs().get("msgpack").decode,
            _no_room, _no_room,
        )  # fmt: skip
        self._reader = twin.ItemReader(inlet)

    def items(self, value: Any, count: int) -> Any:
        """Send *value* so many times in one turn, read all of them and return the last."""
        _run(self._outlet.pump(_repeated(value, count)))
        self._pair.turn()
        return _run(self._read(count))

    async def _read(self, count: int) -> Any:
        async for item in self._reader:
            count -= 1
            if not count:
                return item


async def _repeated(value: Any, count: int) -> AsyncIterator[Any]:
    for _ in range(count):
        yield value


def _run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that waits for nothing but its next turn."""
    try:
        while True:
            waits = coroutine.send(None)
            assert waits is None, "it waits for credit, or for an item"
    except StopIteration as stop:
        return stop.value


def _places(part: Callable[[Any], Any], *names: str) -> list[Any]:
    """Return a list with one part of each named codec at its serializer number."""
    places: list[Any] = [None] * SERIALIZERS
    codecs = default_codecs()
    for name in names:
        codec = codecs.get(name)
        places[codec.serializer] = part(codec)
    return places


def _deliver(lane: Any, data: bytes) -> None:
    """Put *data* where *lane* wants to read it."""
    at, size = 0, len(data)
    while at < size:
        room = lane.get_buffer(-1)
        step = min(len(room), size - at)
        room[:step] = data[at : at + step]
        at += step
        lane.buffer_updated(step)


def _no_room(*call: Any) -> Any:
    raise AssertionError(f"the fast lane did not take {call!r}")
