"""Share one socket between threads: all may send, one reads, any may end it.

It is apart from the blocking session so that it knows bytes only.

Rules of the room:
  * nobody holds the lock while waiting, and nobody waits while holding `_sending`;
  * who can't send reads meanwhile: else two sides that both only send would wait
    for each other;
  * the socket is closed when nobody uses it: a number closed under a thread could
    be another connection's by the time that thread reads or writes;
  * an exception that hits between the kernel and the books ends the connection,
    for nobody knows where the stream stands; one that hits elsewhere (see `turn`)
    leaves it to the others.
"""

import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Final, final

from fastrpc.session.turn import Turns, Waiter

_DONT_WAIT: Final = getattr(socket, "MSG_DONTWAIT", 0)
_LOOK: Final = 0.0


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
        is_over: Whether the stream has ended.
        why: It has ended.
    """

    def __init__(
        self,
        sock: socket.socket,
        lock: threading.Lock,
        get_buffer: Callable[[int], Any],
        deliver: Callable[[int], None],
        lost: Callable[[str], None],
        stall: float,
    ) -> None:
        self._sock = sock
        self._lock = lock
        self._get_buffer = get_buffer
        self._deliver = deliver
        self._lost = lost
        self._stall = stall
        self._turns = Turns()
        self._sending = threading.Lock()
        self._is_torn = False  # while it can't be told what of the stream went out
        self.is_over = False
        self.why = "closed here"  # it ended
        self._out: list[bytes | memoryview] = []
        self._arrived: list[int] = []
        self._readable = _watch(sock, read=True)
        self._queued = self._sent = 0  # bytes, since the start

    def drop(self) -> None:
        """Close the dead socket that a forked child has in place of the parent's."""
        self._sock.close()

    def end(self) -> None:
        """End the stream; who reads, sends or waits finds out. Needs the lock."""
        if not self.is_over:
            self.is_over = True  # first: whatever comes in between, all will see this
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
            self._close_unused()

    def _close_unused(self) -> None:
        if self.is_over and self._turns.leader is None and not self._sending.locked():
            self._sock.close()

    def _fail(self, why: str) -> None:
        with self._lock:
            if not self.is_over:
                self.why = why
                self.end()
                self._lost(why)

    # Out

    def queue(self, data: bytes) -> None:
        """Put *data* behind what is still to be sent. Needs the lock."""
        self._out.append(data)
        self._queued += len(data)

    def queue_all(self, parts: list[bytes]) -> None:
        """Do the same with several pieces."""
        for part in parts:
            self.queue(part)

    def send(self, deadline: float) -> None:
        """Send what is queued now, or what the peer takes until *deadline* (0 for none).

        What is left goes out with whatever is sent next.
        """
        if not self._out:  # gone already with what another thread sent
            return
        mark = self._queued
        self.flush()
        if self._sent >= mark:
            return
        seen, moved = self._sent, time.monotonic()
        while self._sent < mark and not self.is_over:
            now = time.monotonic()
            if deadline and now >= deadline:
                return
            if self._sent != seen:
                seen, moved = self._sent, now
            elif now - moved >= self._stall:
                self._fail(f"has read 0 bytes in {now - moved:.0f} s (write_stall)")
                return
            end = moved + self._stall
            self._wait_writable(min(deadline, end) - now if deadline else end - now)
            self.flush()

    def _wait_writable(self, seconds: float) -> None:
        sender = Waiter()
        try:
            with self._lock:
                if self.is_over:
                    return
                reads = self._turns.lead(sender)
            _watch(self._sock, read=reads, write=True)(seconds)
            if reads and self._readable(_LOOK):
                self._take()
        finally:
            sender.has_left = True
            self._leave(sender)

    def flush(self) -> None:
        """Send as much of what is queued as the socket takes at once."""
        if not self._out:
            return
        try:
            with self._sending:
                broken = ""
                try:
                    if not self._is_torn:
                        broken = self._write()
                finally:
                    if self._is_torn:  # who sent last was interrupted, or we are
                        broken = "interrupted while sending"
                    if broken:
                        self._fail(broken)
        finally:
            if self.is_over:
                self._close_if_unused()

    def _write(self) -> str:
        """Send what the socket takes; return what is wrong with it."""
        with self._lock:
            if self.is_over or not self._out:
                return ""
            self._is_torn = True
            out, self._out = self._out, []
        broken = ""
        data = memoryview(out[0] if len(out) == 1 else b"".join(out))
        size = len(data)
        try:
            while data:
                data = data[self._sock.send(data, _DONT_WAIT) :]
        except BlockingIOError:
            pass
        except OSError as exc:
            broken = str(exc)
        with self._lock:
            self._sent += size - len(data)
            if data:
                self._out.insert(0, data)
            self._is_torn = False
        return broken

    # In

    def wait(self, waiter: Waiter, deadline: float) -> None:
        """Wait until *waiter* is done: read for all, or let another.

        It is not done when the time was up or the stream has ended.
        """
        try:
            while not waiter.done() and not self.is_over:
                with self._lock:
                    leads = self._turns.lead(waiter)
                    if not leads:
                        self._turns.follow(waiter)
                while leads and not waiter.done() and self.read(deadline):
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
            while leads and self._readable(_LOOK) and self._take():
                pass
        finally:
            looker.has_left = True
            self._leave(looker)
        self.flush()

    def read(self, deadline: float) -> bool:
        """Wait for bytes and take them; False if none came in time, or never will.

        Only for who leads.
        """
        if deadline and not self._readable(max(deadline - time.monotonic(), 0.0)):
            return False
        if not self._take():
            return False
        if self._out:
            self.flush()
        return True

    def _take(self) -> bool:
        """Take one piece, waiting for it; False if the stream has ended."""
        arrived = self._arrived
        if arrived:  # who read last was interrupted before the lane had it all
            self._fail("interrupted while reading")
            return False
        try:
            # recv and the note of its count in one call: an exception out of a signal
            # handler comes before the bytes were taken, or after they were noted.
            arrived.extend(map(self._sock.recv_into, (self._get_buffer(-1),)))
        except OSError as exc:
            self._fail(str(exc))
        finally:
            if arrived:
                self._digest(arrived[0])
        return not self.is_over

    def _digest(self, count: int) -> None:
        if not count:
            self._fail("the connection was closed by the peer")
            return
        is_whole = False
        try:
            with self._lock:
                self._deliver(count)
                is_whole = True
        finally:
            if not is_whole:
                self._fail("interrupted while reading")
        self._arrived.clear()

    def _leave(self, waiter: Waiter) -> None:
        with self._lock:
            self._turns.leave(waiter)
            self._close_unused()

    def _close_if_unused(self) -> None:
        with self._lock:
            self._close_unused()


def _watch(
    sock: socket.socket, *, read: bool = False, write: bool = False
) -> Callable[[float], bool]:
    """Return what waits so many seconds for *sock* and tells whether it is ready."""
    if not hasattr(select, "poll"):
        return lambda seconds: any(select.select([sock] * read, [sock] * write, [], seconds))
    poll = select.poll()
    poll.register(sock, select.POLLIN * read | select.POLLOUT * write)
    return lambda seconds: bool(poll.poll(seconds * 1000))
