"""Keep one connection without an event loop: one socket, one lane, any threads.

There is no thread of ours: who waits reads, for all who wait (`pipe`, `frame.Exchange`).

Rules of the room:
  * the lane is touched only under the lock, which nobody holds while waiting;
  * a call that ran out of time leaves the connection usable;
  * when the connection ends, everything open ends with it, at once and with a reason;
  * what the garbage collector runs never waits for the lock: its own thread may hold it.
"""

import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, final

from fastrpc.errors import (
    ConnectFailed,
    ConnectionDraining,
    ConnectionLost,
    DeadlineExceeded,
    FastRPCError,
    FrameError,
    ProtocolError,
)
from fastrpc.frame import Exchange, Frame, Lane, LoopShare, Waiter, encode_frame
from fastrpc.protocol import Input, Option, State, step
from fastrpc.session import outcome
from fastrpc.session.blocking_control import BlockingControl
from fastrpc.session.blocking_room import BlockingRoom
from fastrpc.session.blocking_stream import BlockingCore
from fastrpc.session.pipe import SharedPipe
from fastrpc.session.side import Side
from fastrpc.transport import TlsSocket
from fastrpc.wire import Kind, StatusCode


def blocking_share() -> LoopShare:
    """Return what the lane of a blocking connection needs in place of a loop's share.

    Each connection needs its own: threads may read several at once.
    """
    always = True.__bool__  # asked with each call, and no Python function is as cheap
    return LoopShare(Waiter, _schedule_nothing, time.monotonic, always, 0, None)


def _schedule_nothing(callback: Any) -> None:
    """Leave it to the caller: who calls flushes."""


@final
class BlockingSession:
    """One connection of a blocking client.

    Args:
        sock: Connected, blocking; it belongs to the session from now on.
        side: The client's share, with a `blocking_share` for this connection alone.
        address: Target, for messages.
        serializer: Number of the codec that calls are sent with.

    Attributes:
        at_once: `Exchange.call` of this connection: the fast way; `finish` does the rest.
        lock: Held whenever lane, state or streams are touched.
        line: Threads that wait for the server to take another call.
        streams: Those that are open, by id.
        state: Where it stands.
        cause: Why it ended, once it has.
        ping_interval: Seconds that the server wants between two pings.
        peer_window: Credit for each stream that we send on.
        serializers: Numbers of the codecs that were agreed on.
    """

    def __init__(
        self, sock: socket.socket | TlsSocket, side: Side, address: str, serializer: int
    ) -> None:
        self.side = side
        self.address = address
        self.lock = threading.Lock()
        self.lane = lane = Lane(self, side.share, side.limits.max_hello)
        self.pipe = SharedPipe(
            sock,
            self.lock,
            lane.get_buffer,
            lane.buffer_updated,
            lambda why: self.end(ConnectionLost(f"{address}: {why}", "maybe")),
            side.limits.write_stall,
        )
        lane.attach(self.pipe.queue, self.pipe.queue_all)
        lane.serializer = serializer
        self.payloads = side.plain
        self._clock = side.share.clock
        self.line = BlockingRoom(self)
        self._exchange = Exchange(
            self.pipe.stream, lane, self.line.turns, self._clock, self._given_up
        )
        self.at_once = self._exchange.call
        self._nonce = os.urandom(16).hex()
        self._control = BlockingControl(side.option, self._nonce)
        self._orphans: deque[BlockingCore] = (
            deque()
        )  # nobody holds them, and the server is not told
        self.streams: dict[int, BlockingCore] = {}
        self.state = step(State.CONNECTING, Input.CONNECTED)
        self.cause: Exception | None = None
        self.ping_interval = 0.0
        self.peer_window = 0
        self.serializers: frozenset[int] = frozenset()

    # What the client asks for

    def greet(self, timeout: float) -> None:
        """Exchange HELLO.

        Raises:
            ConnectFailed: The peer closed, or said nothing in time.
            FastRPCError: It refused, or is no fastrpc server.
        """
        deadline = self._clock() + timeout
        self.pipe.queue(self._control.greeting())
        self.pipe.send(deadline)
        while self.state is State.HELLO and self.pipe.stream.read(deadline):
            pass
        if self.state is State.HELLO:
            self.close()
            raise ConnectFailed(
                f"{self.address}: connected, but no HELLO within {round(timeout, 1):g} s;"
                " is it a fastrpc server?"
            )
        if self.state is not State.OPEN and self.cause is not None:
            cause = self.cause
            if isinstance(cause, FastRPCError) and not isinstance(cause, ConnectionLost):
                raise cause
            raise ConnectFailed(f"{self.address}: closed before HELLO was answered: {cause}")

    @property
    def is_usable(self) -> bool:
        """Whether calls may be sent."""
        return self.state is State.OPEN and not self.pipe.is_over

    @property
    def is_over(self) -> bool:
        """Whether the connection has ended."""
        return self.pipe.is_over

    def finish(
        self,
        waiter: Waiter | None,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any] | None,
        timeout: float,
        metadata: bytes,
        decode: Callable[[bytes], Any] | None,
        enter: Callable[[float], Waiter] | None = None,
    ) -> Any:
        """Wait for the result of a call, or for room for it first, with other threads about.

        Args:
            waiter: What `at_once` returned; None if the call has not been sent.
            name: As the next ones: see `Lane.call`.
            args: Positional arguments.
            kwargs: Arguments by name.
            timeout: Seconds until the deadline, 0 for none.
            metadata: Packed metadata.
            decode: Decoder of the result.
            enter: Sends the call under the lock, with what is left of its time, if not
                the usual way.
        """
        queued = 0.0
        try:
            if waiter is None:
                started = self._clock()
                usual = self._exchange.enter
                entered, queued = self.line.enter(
                    name,
                    timeout,
                    enter or (lambda left: usual(name, args, kwargs, left, metadata, decode)),
                )
                waiter = entered
                waiter.deadline = started + timeout if timeout else 0.0
            self.complete(waiter, name, timeout)
            if waiter.error is None:
                self._exchange.refresh()
            return waiter.result()
        except DeadlineExceeded as exc:
            if not queued or waiter is None or not waiter.deadline:
                raise
            now = self._clock()
            raise outcome.late(
                name, now - exc.stages.total - queued, waiter.deadline, now, self.address,
                handler=exc.stages.handler, queued=queued,
            ) from None  # fmt: skip
        finally:
            if waiter is not None:
                self.leave(waiter)

    def open(self, core: BlockingCore, timeout: float) -> None:
        """Open a stream once the server takes another."""
        try:
            self.line.enter(core.method, timeout, lambda left: core.open(self, left))
            self.pipe.send(core.deadline)
        except FastRPCError:
            raise  # nothing was sent
        except BaseException:
            core.give_up()
            raise

    def notify(
        self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None, metadata: bytes
    ) -> None:
        """Send a oneway call."""
        with self.lock:
            self.check_open(name)
            self.lane.notify(name, args, kwargs, metadata)
            self.flush()
        self.pipe.send(0.0)

    def ping(self, timeout: float) -> float:
        """Return the seconds until the answer to a ping.

        Raises:
            DeadlineExceeded: None came within *timeout*.
        """
        started = self._clock()
        deadline = started + timeout
        with self.lock:
            self.check_open("ping")
            number, waiter, frame = self._control.ping(started)
            self.pipe.queue(frame)
        try:
            self.pipe.send(deadline)
            self.pipe.wait(waiter, deadline)
        finally:
            with self.lock:
                self._control.forget_ping(number)
        now = self._clock()
        self._settle(waiter, "ping", started, deadline)
        waiter.result()
        return now - started

    def look(self) -> None:
        """Take what came while nobody read: GOAWAY, or the end."""
        self.pipe.look()
        self.tidy()
        if self.is_usable:
            self._exchange.refresh()

    def close(self) -> None:
        """Close; calls that other threads wait for fail, and the server is told so."""
        cause = ConnectionLost(f"{self.address}: closed here", "maybe")
        with self.lock:
            for id, slot in self.lane.table.drain():
                slot[0].set_exception(outcome.lost(cause, slot[2]))
                self.lane.send(encode_frame(Kind.CANCEL, id, status=StatusCode.CANCELLED))
            self.flush()
        with self.lock:
            self.end(cause, Input.CLOSE)

    def drop(self) -> None:
        """Forget the connection, which is the parent's, in the child of a fork."""
        self.pipe.drop()
        self.lock = threading.Lock()  # who holds the old one may be in the parent only
        cause = ConnectionLost(f"{self.address}: the connection is the parent process's", "maybe")
        for _, slot in self.lane.table.drain():
            slot[0].set_exception(outcome.lost(cause, slot[2]))

    # What batches and streams need

    def start(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any] | None,
        timeout: float,
        metadata: bytes,
        decode: Callable[[bytes], Any] | None,
        waiter: Any,
        bits: int,
    ) -> int:
        """Do what `Lane.start` does, whatever hits meanwhile. Needs the lock."""
        is_whole = False
        try:
            id = self.lane.start(name, args, kwargs, timeout, metadata, decode, waiter, bits)
            is_whole = True
        except (FastRPCError, TypeError):
            is_whole = True  # nothing was sent
            raise
        finally:
            if not is_whole:  # out of a signal handler: the lane may be in the midst of it
                self.pipe.broken("interrupted while sending")
        self.flush()
        return id

    def flush(self) -> None:
        """Write what is queued, as far as it goes at once. Needs the lock."""
        is_whole = False
        try:
            self.lane.flush()
            is_whole = True
        finally:
            if not is_whole:  # as above
                self.pipe.broken("interrupted while sending")
        self.pipe.stream.write()

    def complete(self, waiter: Waiter, name: str, timeout: float) -> None:
        """Wait until *waiter* has an outcome; it gets one if its time is up."""
        if self.pipe.stream.unsent and not waiter.is_done:
            self.pipe.send(waiter.deadline)
        self.pipe.wait(waiter, waiter.deadline)
        if not waiter.is_done:
            self.sweep()
            self._settle(waiter, name, waiter.deadline - timeout, waiter.deadline)

    def check_open(self, name: str) -> None:
        """Raise if no call can be sent. Needs the lock."""
        if self.pipe.is_over:
            self._note_end()
        if self.state is State.CLOSED:
            raise ConnectionLost(f"{name}: not sent: {self.cause}", "no")
        if self.state is not State.OPEN:
            raise ConnectionDraining(f"{name}: {self.address} takes no more calls")

    def leave(self, waiter: Waiter) -> None:
        """Make room for the next after a call, and end a connection that drains."""
        if not waiter.is_done:  # an exception from outside: let the sweep tell the server
            with self.lock:
                waiter.set_exception(ConnectionLost("given up"))
            self.sweep()
        self.tidy()

    def sweep(self) -> None:
        """End calls whose time is up, and tell the server of those given up."""
        now = self._clock()
        with self.lock:
            for waiter, _, name, started, deadline in self.lane.sweep(now):
                waiter.set_exception(outcome.late(name, started, deadline, now, self.address))
            self.flush()
            if self.pipe.is_over:
                self._note_end()

    def tidy(self) -> None:
        """Do what is due when calls and streams have ended."""
        with self.lock:
            self._tidy()

    def abandon(self, core: BlockingCore) -> None:
        """Give up a stream that nobody holds any more; for `__del__`, so it waits for nobody."""
        self._orphans.append(core)
        self.lane.crowded = True  # if the lock is taken: the next read calls `room`
        taken: list[bool] = []
        try:
            # Taken and noted in one call: a signal handler may raise between any two.
            taken.extend(map(self.lock.acquire, (False,)))
            if taken[0]:
                self._tidy()
        finally:
            if taken and taken[0]:
                self.lock.release()

    # Inside

    def _settle(self, waiter: Waiter, name: str, started: float, deadline: float) -> None:
        """Give a wait that is over an outcome if it has none."""
        with self.lock:
            if self.pipe.is_over:
                self._note_end()
                waiter.set_exception(outcome.lost(self.cause or ConnectionLost("gone"), name))
            now = self._clock()
            waiter.set_exception(outcome.late(name, started, deadline, now, self.address))

    def _note_end(self) -> None:
        self.end(ConnectionLost(f"{self.address}: {self.pipe.why}", "maybe"))

    def _given_up(self) -> None:
        self.sweep()
        self.pipe.release()

    def _tidy(self) -> None:
        self.lane.crowded = False  # first: who is abandoned from here on sets it again
        while self._orphans:
            self._orphans.popleft().drop()
        if self.lane.unsent:
            self.flush()
        self.line.wake()
        if self.state is State.DRAINING and not self.lane.table:
            self.end(ConnectionLost(f"{self.address} is shutting down", "maybe"))
        try:
            self._control.check_strikes(self)
        except ProtocolError as exc:
            self.broken(exc)

    # What the lane and the control frames call, under the lock

    def end(self, cause: Exception, event: Input = Input.LOST) -> None:
        """Fail everything that is open."""
        if self.state is State.CLOSED:
            return
        self.pipe.end()
        self._exchange.fresh_until = 0.0
        self.cause = cause
        self.state = step(self.state, event)
        for _, slot in self.lane.detach():
            slot[0].set_exception(outcome.lost(cause, slot[2]))
        self._control.end(cause)
        self.line.turns.wake_all()

    def agree(self, answer: Option) -> None:
        """Put in force what both sides accept."""
        self.ping_interval = answer.ping_ms / 1000
        self.peer_window = answer.window
        self.serializers = frozenset(answer.codecs.values())
        self.payloads = self.side.agree(self.lane, answer, answer)
        self.lane.ready = True

    def take_no_more(self) -> None:
        """Let what is open end, and nothing begin: the server drains."""
        self.lane.ready = False
        self._exchange.fresh_until = 0.0
        self.state = step(self.state, Input.GOAWAY)

    def frames(self, frames: list[Frame]) -> None:
        """Take the frames that are no plain replies."""
        for frame in frames:
            if self.state is State.CLOSED:
                return
            self._control.take(self, frame)

    def broken(self, exc: Exception) -> None:
        """End a connection whose input makes no sense."""
        if isinstance(exc, FrameError) and exc.at == "magic":
            shown = exc.seen.split(b"\r\n")[0][:64].decode("latin-1")
            exc = ProtocolError(f"{self.address} is no fastrpc server; it says {shown!r}")
        elif not isinstance(exc, FastRPCError):
            self.side.complain(logging.ERROR, self.address, "closing: internal error", exc)
        self.end(exc, Input.FAILED)

    def answered(self, slot: outcome.Slot, frame: Frame) -> None:
        """End a call with a reply that is no plain value."""
        if frame.status == StatusCode.NOT_FOUND:
            self.lane.forget(slot[2])
        call = self.call_id(frame.id)
        outcome.settle(slot, frame, self.lane, self.side, self.payloads, self.address, call)

    def call_id(self, id: int) -> str:
        """Return what the logs of both sides call a call."""
        return outcome.call_id(self._nonce, id)

    def undecodable(self, slot: outcome.Slot, frame: Frame, exc: Exception) -> None:
        """End a call whose reply can't be read."""
        slot[0].set_exception(outcome.undecodable(slot, exc))

    def inline(self, serializer: int, value: Any) -> bytes:
        """Return *value* encoded with nothing beside it."""
        return self.side.inline(serializer, value)

    def tick(self) -> None:
        """Start nothing: who waits looks at the clock."""

    def room(self) -> None:
        """Do what the end of a stream leaves to do; who leaves after a call does so anyway."""
        self._tidy()
