"""Keep one connection without an event loop: one socket, one lane, any threads.

Whoever waits first reads for all and hands the reading on when its own reply
has come; there is no thread of ours.

Rules of the room:
  * the lane is touched only under the lock, the socket is read without it;
  * the reader may always run: nobody holds the lock while sending, or a server
    that waits for us to read would wait for ever;
  * a call that ran out of time leaves the connection usable.
"""

import contextlib
import logging
import os
import select
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, final

from fastrpc.errors import (
    ConnectFailed,
    ConnectionDraining,
    ConnectionLost,
    FastRPCError,
    FrameError,
    Overloaded,
    ProtocolError,
)
from fastrpc.frame import Frame, Lane, encode_frame
from fastrpc.protocol import Input, State, confirm, decode_option, encode_option, step
from fastrpc.session import fork, outcome
from fastrpc.session.side import Side
from fastrpc.wire import KIND_CRITICAL, PING_BODY_MAX, Kind, Serializer, StatusCode

#: A HELLO that asks not to be pinged: between calls nobody here can answer.
NEVER_MS: Final = 2**32 - 1
FRESH: Final = 0.05
_DONT_WAIT: Final = getattr(socket, "MSG_DONTWAIT", 0)


@final
class Waiter:
    """What a thread waits on; the lane sees it as a future."""

    __slots__ = ("_done", "_error", "_value", "turn")

    def __init__(self) -> None:
        self._done = False
        self._value: Any = None
        self._error: BaseException | None = None
        self.turn: threading.Event | None = None  # set: look again, or read for all

    def done(self) -> bool:
        """Return whether there is an outcome."""
        return self._done

    def set_result(self, value: Any) -> None:
        """End with a value."""
        self._value = value
        self._end()

    def set_exception(self, error: BaseException) -> None:
        """End with an error."""
        self._error = error
        self._end()

    def result(self) -> Any:
        """Return the value or raise the error."""
        if self._error is not None:
            raise self._error
        return self._value

    def _end(self) -> None:
        self._done = True
        if self.turn is not None:
            self.turn.set()


@final
class BlockingSession:
    """One connection of a blocking client.

    Args:
        sock: Connected, blocking; it belongs to the session from now on.
        side: The client's share.
        address: Target, for messages.
        serializer: Number of the codec that calls are sent with.
    """

    def __init__(self, sock: socket.socket, side: Side, address: str, serializer: int) -> None:
        self._sock = sock
        self._side = side
        self._address = address
        self._lane = Lane(self, side.share, side.limits.max_hello)
        self._lane.attach(self._queue, self._queue_all)
        self._lane.serializer = serializer
        self._out: list[bytes] = []
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._reading = threading.Lock()
        self._followers: dict[Waiter, None] = {}
        self._pings: dict[int, Waiter] = {}
        self._timeout: float | None = None
        self._nonce = os.urandom(16).hex()
        self.state = step(State.CONNECTING, Input.CONNECTED)
        self.cause: Exception | None = None
        self.fresh_until = 0.0  # until then, nothing can have come that nobody read

    # What the client asks for

    def greet(self, timeout: float) -> None:
        """Exchange HELLO.

        Raises:
            ConnectFailed: The peer closed, or said nothing in time.
            FastRPCError: It refused, or is no fastrpc server.
        """
        clock = self._side.share.clock
        option = replace(self._side.option, nonce=self._nonce, ping_ms=NEVER_MS)
        payload = encode_option(option, False)
        hello = encode_frame(Kind.HELLO, 0, serializer=Serializer.JSON, payload=payload)
        deadline = clock() + timeout
        self._send([hello], timeout)
        while self.state is State.HELLO:
            if not self._read(deadline) and self.state is State.HELLO and clock() >= deadline:
                self.close()
                raise ConnectFailed(
                    f"{self._address}: connected, but no HELLO within {timeout:g} s;"
                    " is it a fastrpc server?"
                )
        if self.state is not State.OPEN:
            cause = self.cause
            if isinstance(cause, FastRPCError) and cause.status != StatusCode.NETWORK:
                raise cause
            raise ConnectFailed(f"{self._address}: closed before HELLO was answered: {cause}")

    @property
    def is_usable(self) -> bool:
        """Whether calls may be sent."""
        return self.state is State.OPEN

    def call(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any] | None,
        timeout: float,
        metadata: bytes,
        decode: Callable[[bytes], Any] | None,
    ) -> Any:
        """Send a call and wait for its result."""
        lane, share = self._lane, self._side.share
        with self._sending:
            with self._lock:
                if self.state is not State.OPEN:
                    raise ConnectionDraining(f"{name}: {self._address} takes no more calls")
                if len(lane.table) >= lane.peer_calls:
                    text = f"{name}: {lane.peer_calls} calls are open, the server takes no more"
                    raise Overloaded(text, ran="no", method=name)
                waiter: Waiter = lane.call(name, args, kwargs, timeout, metadata, decode)
                lane.flush()
                out, self._out = self._out, []
            self._send(out, timeout)
        deadline = share.clock() + timeout if timeout else 0.0
        try:
            self._wait(waiter, deadline)
        except BaseException:
            with self._lock:
                waiter.set_exception(ConnectionLost("given up"))  # so that the sweep tells the server
            self._sweep()
            raise
        if not waiter.done():  # the sweep's clock and ours may differ by a tick
            raise outcome.late(name, deadline - timeout, deadline, share.clock(), self._address)
        return waiter.result()

    def notify(
        self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None, metadata: bytes
    ) -> None:
        """Send a oneway call."""
        with self._sending:
            with self._lock:
                if self.state is not State.OPEN:
                    raise ConnectionDraining(f"{name}: {self._address} takes no more calls")
                self._lane.notify(name, args, kwargs, metadata)
                self._lane.flush()
                out, self._out = self._out, []
            self._send(out, 0.0)

    def ping(self, timeout: float) -> float:
        """Return the seconds until the answer to a ping.

        Raises:
            TimeoutError: None came within *timeout*.
        """
        clock = self._side.share.clock
        waiter, started = Waiter(), clock()
        with self._sending:
            with self._lock:
                token = int(started * 1e9)
                self._pings[token] = waiter
            self._send([encode_frame(Kind.CALL, token, heartbeat=True)], timeout)
        self._wait(waiter, started + timeout)
        if not waiter.done():
            raise TimeoutError(f"{self._address}: no answer to a ping within {timeout:g} s")
        waiter.result()
        return clock() - started

    def look(self) -> None:
        """Take what came while nobody read: pings, GOAWAY, the end."""
        if not self._reading.acquire(blocking=False):
            return
        try:
            while self.state is not State.CLOSED and self._read(0.0, peek=True):
                pass
        finally:
            self._stop_reading()
        self._flush()

    def close(self) -> None:
        """Close; calls that other threads wait for fail."""
        self._lost(ConnectionLost(f"{self._address}: closed here", "maybe"))

    def sever(self) -> None:
        """Take this process's end off the socket, in the child of a fork."""
        fork.bury(self._sock)

    # Waiting and reading

    def _wait(self, waiter: Waiter, deadline: float) -> None:
        while not waiter.done():
            if self._reading.acquire(blocking=False):
                try:
                    while not waiter.done() and self._read(deadline):
                        pass
                finally:
                    self._stop_reading()
            elif not self._follow(waiter, deadline):
                continue
            if self.state is State.CLOSED and not waiter.done():
                waiter.set_exception(ConnectionLost(str(self.cause), "maybe"))
            elif not waiter.done() and deadline:
                self._sweep()
                if self._side.share.clock() > deadline:
                    break
        self.fresh_until = self._side.share.clock() + FRESH

    def _follow(self, waiter: Waiter, deadline: float) -> bool:
        """Wait until the reader has something for us or hands the reading on."""
        if waiter.turn is None:
            waiter.turn = threading.Event()
        self._followers[waiter] = None
        try:
            # The reader may have left before it could see us in the list.
            if not self._reading.locked() or waiter.done():
                return False
            left = deadline - self._side.share.clock() if deadline else None
            if left is None or left > 0:
                waiter.turn.wait(left)
            waiter.turn.clear()
        finally:
            self._followers.pop(waiter, None)
        return True

    def _stop_reading(self) -> None:
        """Let another thread read; the last to read a dead socket closes it."""
        if self.state is State.CLOSED:
            self._sock.close()
        self._reading.release()
        for follower in list(self._followers):
            if follower.turn is not None and not follower.done():
                follower.turn.set()
                return

    def _read(self, deadline: float, peek: bool = False) -> bool:
        """Take one piece from the socket; False if there was none in time."""
        left: float | None = 0.0 if peek else None
        if deadline and not peek:
            left = deadline - self._side.share.clock()
            if left <= 0:
                return False
        try:
            if left != self._timeout:
                self._sock.settimeout(left)
                self._timeout = left
            count = self._sock.recv_into(self._lane.get_buffer(-1))
        except (TimeoutError, BlockingIOError):
            return False
        except OSError as exc:
            self._lost(ConnectionLost(f"{self._address}: {exc}", "maybe"))
            return False
        if not count:
            self._lost(ConnectionLost(f"{self._address}: the connection was closed by the peer", "maybe"))
            return False
        with self._lock:
            self._lane.buffer_updated(count)
            owed = bool(self._out)
        if owed:
            self._flush()
        return True

    def _flush(self) -> None:
        """Send what the lane queued by itself; whoever sends already takes it along."""
        if self._sending.acquire(blocking=False):
            try:
                with self._lock:
                    out, self._out = self._out, []
                if out:
                    self._send(out, 1.0)
            finally:
                self._sending.release()

    def _sweep(self) -> None:
        """End calls whose time is up, and tell the server of those given up."""
        now = self._side.share.clock()
        with self._lock:
            for waiter, _, name, started, deadline in self._lane.sweep(now):
                waiter.set_exception(outcome.late(name, started, deadline, now, self._address))
            self._lane.flush()
        self._flush()

    def _send(self, out: list[bytes], timeout: float) -> None:
        """Send all of *out*; the socket's timeout belongs to the reader, so poll by hand."""
        if not out:
            return
        data = memoryview(out[0] if len(out) == 1 else b"".join(out))
        try:
            while data:
                try:
                    data = data[self._sock.send(data, _DONT_WAIT) :]
                except (BlockingIOError, TimeoutError):
                    _wait_writable(self._sock, timeout or self._side.limits.write_stall)
        except OSError as exc:  # a frame half sent: nothing more may follow it
            self._lost(ConnectionLost(f"{self._address}: {exc}", "maybe"))

    def _lost(self, cause: Exception) -> None:
        with self._lock:
            self._end(cause)

    def _end(self, cause: Exception) -> None:
        if self.state is State.CLOSED:
            return
        self.state = step(self.state, Input.LOST)
        self.cause = self.cause or cause
        for _, slot in self._lane.detach():
            slot[0].set_exception(ConnectionLost(f"{slot[2]}: {self.cause}", "maybe"))
        for waiter in self._pings.values():
            waiter.set_exception(ConnectionLost(str(self.cause)))
        self._pings.clear()
        # Wakes a thread that reads, and that one closes: a number closed under a
        # reader could be another connection's by the time it reads.
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        if self._reading.acquire(blocking=False):
            self._sock.close()
            self._reading.release()

    def _queue(self, data: bytes) -> None:
        self._out.append(data)

    def _queue_all(self, parts: list[bytes]) -> None:
        self._out += parts

    # What the lane calls, under the lock

    def frames(self, frames: list[Frame]) -> None:
        """Take the frames that are no plain replies."""
        for frame in frames:
            if frame.kind == Kind.HELLO:
                self._welcome(frame)
            elif frame.kind == Kind.GOAWAY:
                self._goaway(frame)
            elif frame.kind == Kind.CALL:
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
        self.cause = self.cause or exc
        self._end(exc)

    def answered(self, slot: outcome.Slot, frame: Frame) -> None:
        """End a call with a reply that is no plain value."""
        if frame.status == StatusCode.OK:
            slot[0].set_exception(outcome.unreadable(slot, frame, self._lane.max_body))
            return
        if frame.status == StatusCode.NOT_FOUND:
            self._lane.forget(slot[2])
        decode = self._side.decoders[Serializer.MSGPACK]
        slot[0].set_exception(outcome.refusal(slot, frame, decode, self._address))

    def undecodable(self, slot: outcome.Slot, frame: Frame, exc: Exception) -> None:
        """End a call whose reply can't be read."""
        slot[0].set_exception(outcome.undecodable(slot, exc))

    def tick(self) -> None:
        """Nothing to start: who waits looks at the clock."""

    def room(self) -> None:
        """Nobody queues here."""

    def _special(self, frame: Frame) -> None:
        if frame.heartbeat and not frame.reply:
            body = frame.payload[:PING_BODY_MAX]
            self._lane.send(
                encode_frame(Kind.CALL, frame.id, heartbeat=True, reply=True, payload=body)
            )
            self._lane.flush()
        elif frame.heartbeat:
            waiter = self._pings.pop(frame.id, None)
            if waiter is not None:
                waiter.set_result(None)
        elif frame.reply:
            slot = self._lane.table.take(frame.id)
            if slot is not None and frame.status:
                self.answered(slot, frame)
            elif slot is not None:
                slot[0].set_exception(outcome.unreadable(slot, frame, self._lane.max_body))
        elif not frame.oneway:
            self._lane.reply(frame.id, 0, b"", int(StatusCode.NOT_FOUND))
            self._lane.flush()

    def _welcome(self, frame: Frame) -> None:
        if self.state is not State.HELLO:
            self.state = step(self.state, Input.HELLO)
        if frame.status:
            self.cause = outcome.turned_down(self._address, frame)
            self.state = step(self.state, Input.REFUSED)
            return
        if frame.serializer != Serializer.JSON or frame.bits or frame.id or not frame.reply:
            raise ProtocolError("HELLO must be plain JSON with id 0")
        option = replace(self._side.option, nonce=self._nonce, ping_ms=NEVER_MS)
        answer = confirm(option, decode_option(frame.payload, True))
        self.state = step(self.state, Input.HELLO)
        self._side.agree(self._lane, answer, answer)
        self._lane.ready = True

    def _goaway(self, frame: Frame) -> None:
        self.state = step(self.state, Input.GOAWAY)
        gone = outcome.going(self._address, frame, self._side.decoders[Serializer.MSGPACK])
        for _, slot in self._lane.table.drain(frame.id):
            slot[0].set_exception(gone)
        if not self._lane.table:
            self._end(gone)


def _wait_writable(sock: socket.socket, timeout: float) -> None:
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    if not poll.poll(timeout * 1000):
        raise TimeoutError(f"the peer has read nothing for {timeout:g} s")
