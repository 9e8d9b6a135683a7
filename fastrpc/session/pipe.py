"""Share one socket between threads: all may send, one reads, any may end it.

It is apart from the blocking session so that it knows bytes only. The bytes move in
`frame.ByteStream`; here are the waits, and the end.

Rules of the room:
  * nobody holds the lock while waiting: what is sent under it is sent without;
  * who can't send reads meanwhile: else two sides that both only send would wait
    for each other;
  * the socket is closed when nobody reads it: a number closed under a thread could
    be another connection's by the time that thread reads.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Final, final

from fastrpc.frame import ByteStream, Waiter
from fastrpc.transport import TlsSocket, watch

_DONT_WAIT: Final = getattr(socket, "MSG_DONTWAIT", 0)
_PIECE: Final = 16384  # sent at once where a send can't be told not to wait
_LOOK: Final = 0.0  # seconds


@final
class SharedPipe:
    """A connected, blocking socket; it belongs to the pipe from now on.

    Args:
        sock: The socket.
        lock: Lock of the owner; held when *deliver* and *lost* are called.
        get_buffer: Returns the memory that the next bytes should go to.
        deliver: Takes so many bytes that were put there.
        lost: Told once why the stream has ended.
        stall: Seconds that the peer may read nothing while there are bytes for it.

    Attributes:
        stream: Its bytes, and whose turn it is to read.
        why: It ended.
    """

    def __init__(
        self,
        sock: socket.socket | TlsSocket,
        lock: threading.Lock,
        get_buffer: Callable[[int], Any],
        deliver: Callable[[int], None],
        lost: Callable[[str], None],
        stall: float,
    ) -> None:
        self._sock = sock
        self._lock = lock
        self._lost = lost
        self._stall = stall
        self._readable = watch(sock, read=True)
        send = sock.send if _DONT_WAIT else self._send_piece
        if isinstance(sock, TlsSocket):  # it may hold bytes that the kernel has no more
            self._readable, send, deliver = sock.readable, sock.send, sock.noting(deliver)
        self.stream = ByteStream(
            lock, send, _DONT_WAIT, sock.recv_into, self._readable, time.monotonic, get_buffer,
            deliver, self.broken,
        )  # fmt: skip
        self._turns = self.stream.turns
        self.why = "closed here"

    @property
    def is_over(self) -> bool:
        """Whether the stream has ended."""
        return self.stream.is_over

    @property
    def unsent(self) -> int:
        """Bytes that are still to be sent."""
        return sum(map(len, self.stream.unsent))

    @property
    def queue(self) -> Callable[[bytes], None]:
        """Puts bytes behind what is still to be sent. Needs the lock."""
        return self.stream.unsent.append

    @property
    def queue_all(self) -> Callable[[list[bytes]], None]:
        """Does the same with several pieces."""
        return self.stream.unsent.extend

    def drop(self) -> None:
        """Close the dead socket that a forked child has in place of the parent's."""
        self.stream.is_over = True
        self._sock.close()

    def end(self) -> None:
        """End the stream; who reads, sends or waits finds out. Needs the lock."""
        if not self.is_over:
            self.stream.is_over = True  # first: whatever comes in between, all will see this
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
            self._close_unused()

    def _close_unused(self) -> None:
        if self.is_over and self._turns.leader is None:
            self._sock.close()

    def broken(self, why: str) -> None:
        """End a stream that can't go on, and tell the owner. Needs the lock."""
        if not self.is_over:
            self.why = why
            self.end()
            self._lost(why)

    # Out

    def send(self, deadline: float) -> None:
        """Send what is queued now, or what the peer takes until *deadline* (0 for none).

        What is left goes out with whatever is sent next.
        """
        stream = self.stream
        with self._lock:
            mark = stream.sent + sum(map(len, stream.unsent))
            stream.write()
        seen, moved = stream.sent, time.monotonic()
        while stream.sent < mark and not stream.is_over:
            now = time.monotonic()
            if deadline and now >= deadline:
                return
            if stream.sent != seen:
                seen, moved = stream.sent, now
            elif now - moved >= self._stall:
                stream.fail(f"has read 0 bytes in {now - moved:.0f} s (write_stall)")
                return
            end = moved + self._stall
            self._wait_writable(min(deadline, end) - now if deadline else end - now)
            stream.flush()

    def _wait_writable(self, seconds: float) -> None:
        sender = Waiter()
        try:
            with self._lock:
                if self.is_over:
                    return
                reads = self._turns.lead(sender)
                ready = watch(self._sock, read=reads, write=True)
            ready(seconds)
            if reads and self._readable(_LOOK):
                self.stream.read(0.0)
        finally:
            sender.has_left = True
            self._leave(sender)

    def _send_piece(self, data: bytes | memoryview, flags: int) -> int:
        """Send without waiting where a send can't be told so."""
        is_writable = watch(self._sock, write=True)(_LOOK)
        return self._sock.send(data[:_PIECE], flags) if is_writable else 0

    # In

    def wait(self, waiter: Waiter, deadline: float) -> None:
        """Wait until *waiter* is done: read for all, or let another.

        It is not done when the time was up or the stream has ended.
        """
        turns = self._turns
        waiter.has_left = False
        try:
            while not waiter.is_done and not self.is_over:
                with self._lock:
                    leads = turns.lead(waiter)
                    if not leads:
                        turns.follow(waiter)
                while leads and not waiter.done() and self.stream.read(deadline):
                    pass
                if not leads:
                    waiter.sleep(deadline - time.monotonic() if deadline else None)
                if deadline and time.monotonic() >= deadline:
                    return
        finally:
            waiter.has_left = True
            self._leave(waiter)

    def look(self) -> None:
        """Take what came while nobody read."""
        looker = Waiter()
        try:
            with self._lock:
                leads = not self.is_over and self._turns.lead(looker)
            while leads and self._readable(_LOOK) and self.stream.read(0.0):
                pass
        finally:
            looker.has_left = True
            self._leave(looker)
        self.stream.flush()

    def release(self) -> None:
        """Close the socket if the stream has ended and nobody reads."""
        with self._lock:
            self._close_unused()

    def _leave(self, waiter: Waiter) -> None:
        with self._lock:
            self._turns.leave(waiter)
            self._close_unused()
