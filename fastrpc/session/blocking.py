"""Keep one connection without an event loop: one socket, one lane, any threads.

There is no thread of ours: who waits reads, for all who wait (`pipe`, `frame.Exchange`).

Rules of the room:
  * the lane is touched only under the lock, which nobody holds while waiting;
  * a call that ran out of time leaves the connection usable;
  * when the connection ends, everything open ends with it, at once and with a reason.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, final

from fastrpc.errors import (
    ConnectFailed,
    ConnectionDraining,
    ConnectionLost,
    DeadlineExceeded,
    FastRPCError,
    FrameError,
    ProtocolError,
)
from fastrpc.frame import Exchange, Frame, Lane, LoopShare, Turns, Waiter, encode_frame
from fastrpc.protocol import Input, State, confirm, decode_option, encode_option, step
from fastrpc.session import outcome
from fastrpc.session.pipe import SharedPipe
from fastrpc.session.side import Side
from fastrpc.wire import KIND_CRITICAL, PING_BODY_MAX, Kind, Serializer, StatusCode

#: A HELLO that asks not to be pinged: between calls nobody here can answer.
NEVER_MS: Final = 2**32 - 1


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
        state: Where it stands.
        cause: Why it ended, once it has.
        ping_interval: Seconds that the server wants between two pings.
    """

    def __init__(self, sock: socket.socket, side: Side, address: str, serializer: int) -> None:
        self._side = side
        self._clock = side.share.clock
        self._address = address
        self._lock = threading.Lock()
        self._line = Turns()  # of threads that wait for room
        self._lane = lane = Lane(self, side.share, side.limits.max_hello)
        self._pipe = SharedPipe(
            sock,
            self._lock,
            lane.get_buffer,
            lane.buffer_updated,
            lambda why: self._end(ConnectionLost(f"{address}: {why}", "maybe")),
            side.limits.write_stall,
        )
        lane.attach(self._pipe.queue, self._pipe.queue_all)
        self._exchange = Exchange(self._pipe.stream, lane, self._line, self._clock, self._given_up)
        self.at_once = self._exchange.call
        lane.serializer = serializer
        self._payloads = side.plain
        self._pings: dict[int, Waiter] = {}
        self._nonce = os.urandom(16).hex()
        self.state = step(State.CONNECTING, Input.CONNECTED)
        self.cause: Exception | None = None
        self.ping_interval = 0.0

    # What the client asks for

    def greet(self, timeout: float) -> None:
        """Exchange HELLO.

        Raises:
            ConnectFailed: The peer closed, or said nothing in time.
            FastRPCError: It refused, or is no fastrpc server.
        """
        deadline = self._clock() + timeout
        option = replace(self._side.option, nonce=self._nonce, ping_ms=NEVER_MS)
        payload = encode_option(option, False)
        self._pipe.queue(encode_frame(Kind.HELLO, 0, serializer=Serializer.JSON, payload=payload))
        self._pipe.send(deadline)
        while self.state is State.HELLO and self._pipe.stream.read(deadline):
            pass
        if self.state is State.HELLO:
            self.close()
            raise ConnectFailed(
                f"{self._address}: connected, but no HELLO within {round(timeout, 1):g} s;"
                " is it a fastrpc server?"
            )
        if self.state is not State.OPEN and self.cause is not None:
            cause = self.cause
            if isinstance(cause, FastRPCError) and not isinstance(cause, ConnectionLost):
                raise cause
            raise ConnectFailed(f"{self._address}: closed before HELLO was answered: {cause}")

    @property
    def is_usable(self) -> bool:
        """Whether calls may be sent."""
        return self.state is State.OPEN and not self._pipe.is_over

    @property
    def is_over(self) -> bool:
        """Whether the connection has ended."""
        return self._pipe.is_over

    def finish(
        self,
        waiter: Waiter | None,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any] | None,
        timeout: float,
        metadata: bytes,
        decode: Callable[[bytes], Any] | None,
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
        """
        queued = 0.0
        try:
            if waiter is None:
                started = self._clock()
                rest = (metadata, decode)
                waiter, queued = self._stand_in_line(name, args, kwargs, timeout, *rest)
                waiter.deadline = started + timeout if timeout else 0.0
            if self._pipe.stream.unsent and not waiter.is_done:
                self._pipe.send(waiter.deadline)
            self._pipe.wait(waiter, waiter.deadline)
            if not waiter.is_done:
                self._sweep()
                self._settle(waiter, name, waiter.deadline - timeout, waiter.deadline)
            if waiter.error is None:
                self._exchange.refresh()
            return waiter.result()
        except DeadlineExceeded as exc:
            if not queued or waiter is None or not waiter.deadline:
                raise
            now = self._clock()
            raise outcome.late(
                name, now - exc.stages.total - queued, waiter.deadline, now, self._address,
                handler=exc.stages.handler, queued=queued,
            ) from None  # fmt: skip
        finally:
            if waiter is not None:
                self._leave(waiter)

    def notify(
        self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None, metadata: bytes
    ) -> None:
        """Send a oneway call."""
        with self._lock:
            self._check_open(name)
            self._lane.notify(name, args, kwargs, metadata)
            self._lane.flush()
        self._pipe.send(0.0)

    def ping(self, timeout: float) -> float:
        """Return the seconds until the answer to a ping.

        Raises:
            DeadlineExceeded: None came within *timeout*.
        """
        waiter, started = Waiter(), self._clock()
        deadline = started + timeout
        with self._lock:
            self._check_open("ping")
            token = int(started * 1e9)
            while token in self._pings:
                token += 1
            self._pings[token] = waiter
            self._pipe.queue(encode_frame(Kind.CALL, token, heartbeat=True))
        try:
            self._pipe.send(deadline)
            self._pipe.wait(waiter, deadline)
        finally:
            with self._lock:
                self._pings.pop(token, None)
        now = self._clock()
        self._settle(waiter, "ping", started, deadline)
        waiter.result()
        return now - started

    def look(self) -> None:
        """Take what came while nobody read: GOAWAY, or the end."""
        self._pipe.look()
        if self.is_usable:
            self._exchange.refresh()

    def close(self) -> None:
        """Close; calls that other threads wait for fail, and the server is told so."""
        cause = ConnectionLost(f"{self._address}: closed here", "maybe")
        with self._lock:
            for id, slot in self._lane.table.drain():
                slot[0].set_exception(outcome.lost(cause, slot[2]))
                self._pipe.queue(encode_frame(Kind.CANCEL, id, status=StatusCode.CANCELLED))
        self._pipe.stream.flush()
        with self._lock:
            self._end(cause, Input.CLOSE)

    def drop(self) -> None:
        """Forget the connection, which is the parent's, in the child of a fork."""
        self._pipe.drop()

    # Inside

    def _settle(self, waiter: Waiter, name: str, started: float, deadline: float) -> None:
        """Give a wait that is over an outcome if it has none."""
        with self._lock:
            if self._pipe.is_over:
                self._end(ConnectionLost(f"{self._address}: {self._pipe.why}", "maybe"))
                waiter.set_exception(outcome.lost(self.cause or ConnectionLost("gone"), name))
            now = self._clock()
            waiter.set_exception(outcome.late(name, started, deadline, now, self._address))

    def _check_open(self, name: str) -> None:
        if self._pipe.is_over:
            self._end(ConnectionLost(f"{self._address}: {self._pipe.why}", "maybe"))
        if self.state is State.CLOSED:
            raise ConnectionLost(f"{name}: not sent: {self.cause}", "no")
        if self.state is not State.OPEN:
            raise ConnectionDraining(f"{name}: {self._address} takes no more calls")

    def _stand_in_line(
        self, name: str, args: Any, kwargs: Any, timeout: float, *rest: Any
    ) -> tuple[Waiter, float]:
        """Send a call once the server takes another; return its waiter and how long that took."""
        place, lane, clock = Waiter(), self._lane, self._clock
        started, queued = clock(), 0.0
        try:
            while True:
                if timeout and queued >= timeout:
                    raise outcome.late(
                        name, started, started + timeout, started + queued, self._address,
                        queued=queued, sent=False,
                    )  # fmt: skip
                left = timeout - queued if timeout else 0.0
                with self._lock:
                    self._check_open(name)
                    has_room = len(lane.table) < lane.peer_calls
                    if has_room and self._line.lead(place, in_order=True):
                        return self._exchange.enter(name, args, kwargs, left, *rest), queued
                    self._line.follow(place)
                place.sleep(left or None)
                queued = clock() - started
        finally:
            place.has_left = True
            with self._lock:
                self._line.leave(place)

    def _leave(self, waiter: Waiter) -> None:
        """Make room for the next after a call, and end a connection that drains."""
        if not waiter.is_done:  # an exception from outside: let the sweep tell the server
            with self._lock:
                waiter.set_exception(ConnectionLost("given up"))
            self._sweep()
        with self._lock:
            self._line.leave(waiter)  # it never stood there: wakes the next
            if self.state is State.DRAINING and not self._lane.table:
                self._end(ConnectionLost(f"{self._address} is shutting down", "maybe"))

    def _given_up(self) -> None:
        self._sweep()
        self._pipe.release()

    def _sweep(self) -> None:
        """End calls whose time is up, and tell the server of those given up."""
        now = self._clock()
        with self._lock:
            for waiter, _, name, started, deadline in self._lane.sweep(now):
                waiter.set_exception(outcome.late(name, started, deadline, now, self._address))
            self._lane.flush()
        self._pipe.stream.flush()

    def _end(self, cause: Exception, event: Input = Input.LOST) -> None:
        """Fail everything that is open. Needs the lock."""
        if self.state is State.CLOSED:
            return
        self._pipe.end()
        self._exchange.fresh_until = 0.0
        self.cause = cause
        self.state = step(self.state, event)
        for _, slot in self._lane.detach():
            slot[0].set_exception(outcome.lost(cause, slot[2]))
        for waiter in self._pings.values():
            waiter.set_exception(outcome.lost(cause, "ping"))
        self._line.wake_all()

    # What the lane calls, under the lock

    def frames(self, frames: list[Frame]) -> None:
        """Take the frames that are no plain replies."""
        for frame in frames:
            if self.state is State.CLOSED:
                return
            if frame.kind == Kind.HELLO:
                self._welcome(frame)
            elif frame.kind == Kind.GOAWAY:
                self._goaway(frame)
            else:
                self.state = step(self.state, Input.FRAME)
                if frame.kind == Kind.CALL:
                    self._special(frame)
                elif frame.kind in KIND_CRITICAL:
                    raise ProtocolError(f"kind {frame.kind} is not known to version 1")

    def broken(self, exc: Exception) -> None:
        """End a connection whose input makes no sense."""
        if isinstance(exc, FrameError) and exc.at == "magic":
            shown = exc.seen.split(b"\r\n")[0][:64].decode("latin-1")
            exc = ProtocolError(f"{self._address} is no fastrpc server; it says {shown!r}")
        elif not isinstance(exc, FastRPCError):
            self._side.complain(logging.ERROR, self._address, "closing: internal error", exc)
        self._end(exc, Input.FAILED)

    def answered(self, slot: outcome.Slot, frame: Frame) -> None:
        """End a call with a reply that is no plain value."""
        if frame.status == StatusCode.NOT_FOUND:
            self._lane.forget(slot[2])
        call = outcome.call_id(self._nonce, frame.id)
        side, payloads = self._side, self._payloads
        outcome.settle(slot, frame, self._lane, side, payloads, self._address, call)

    def undecodable(self, slot: outcome.Slot, frame: Frame, exc: Exception) -> None:
        """End a call whose reply can't be read."""
        slot[0].set_exception(outcome.undecodable(slot, exc))

    def inline(self, serializer: int, value: Any) -> bytes:
        """Return *value* encoded with nothing beside it."""
        return self._side.inline(serializer, value)

    def tick(self) -> None:
        """Start nothing: who waits looks at the clock."""

    def room(self) -> None:
        """Tell nobody: who leaves does."""

    def _special(self, frame: Frame) -> None:
        if frame.heartbeat and not frame.reply:
            body = frame.payload[:PING_BODY_MAX]
            pong = encode_frame(Kind.CALL, frame.id, heartbeat=True, reply=True, payload=body)
            self._pipe.queue(pong)
        elif frame.heartbeat:
            waiter = self._pings.get(frame.id)
            if waiter is not None:
                waiter.set_result(None)
        elif frame.reply:
            slot = self._lane.table.take(frame.id)
            if slot is not None:
                self.answered(slot, frame)
        elif not frame.oneway:
            self._lane.reply(frame.id, 0, b"", int(StatusCode.NOT_FOUND))
            self._lane.flush()

    def _welcome(self, frame: Frame) -> None:
        if self.state is not State.HELLO:
            step(self.state, Input.HELLO)  # raises: a second one
        if frame.status:
            self._end(outcome.turned_down(self._address, frame), Input.REFUSED)
            return
        if frame.serializer != Serializer.JSON or frame.bits or frame.id or not frame.reply:
            raise ProtocolError("HELLO must be plain JSON with id 0")
        option = replace(self._side.option, nonce=self._nonce, ping_ms=NEVER_MS)
        answer = confirm(option, decode_option(frame.payload, True))
        self.state = step(self.state, Input.HELLO)
        self.ping_interval = answer.ping_ms / 1000
        self._payloads = self._side.agree(self._lane, answer, answer)
        self._lane.ready = True

    def _goaway(self, frame: Frame) -> None:
        decode = self._side.decoders[Serializer.MSGPACK]
        for _, slot in self._lane.table.drain(frame.id):
            slot[0].set_exception(outcome.going(self._address, frame, decode))  # one for each
        if self.state is State.HELLO or not self._lane.table:
            self._end(outcome.going(self._address, frame, decode))
        else:
            self._lane.ready = False
            self._exchange.fresh_until = 0.0
            self.state = step(self.state, Input.GOAWAY)
