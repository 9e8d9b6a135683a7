"""Encrypt one blocking socket that threads share.

`ssl.SSLSocket` is for one thread: who waits to read in it keeps the others from sending. Here
the encrypting is apart from the waiting: nobody holds the lock while waiting for the kernel.

Rules of the room:
  * what has been decrypted is kept until somebody says that it was taken, so an exception
    out of a signal handler loses nothing;
  * one that hits in the midst of decrypting ends the connection, for nobody knows where the
    stream stands;
  * a sent byte is counted once the kernel has what it became.
"""

import contextlib
import errno
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any, Final, final

from fastrpc.transport.poll import watch
from fastrpc.transport.tls import explain_tls

_READ: Final = 65_536  # asked of the kernel at once
_SEAL: Final = 65_536  # encrypted at once
_DONT_WAIT: Final = getattr(socket, "MSG_DONTWAIT", 0)


@final
class TlsSocket:
    """The client's end of one encrypted connection.

    Args:
        sock: Connected and blocking; it belongs to this from now on.
        context: What to encrypt with.
        server_name: What the server's certificate must be for.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, server_name: str) -> None:
        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._end = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)
        self._lock = threading.Lock()
        self._is_readable = watch(sock, read=True)
        self._is_writable = watch(sock, write=True)
        self._raw: list[bytes] = []  # read, and not yet given to be decrypted
        self._plain = b""  # decrypted, and not yet taken
        self._sealed = memoryview(b"")  # encrypted, and not yet sent
        self._owed = 0  # bytes given to be sent that are in it and have not been counted
        self._is_torn = self._has_ended = False
        self._error: OSError | None = None

    def shake_hands(self, deadline: float) -> None:
        """Begin to encrypt, until *deadline* of `time.monotonic`.

        Raises:
            OSError: It failed; `TimeoutError` if it was too late.
        """
        while True:
            is_done = True
            try:
                self._end.do_handshake()
            except ssl.SSLWantReadError:
                is_done = False
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    self._sock.send(self._outgoing.read())  # why, for the server's log
                raise
            self._sock.settimeout(until(deadline))
            self._sock.sendall(self._outgoing.read())
            if is_done:
                return
            self._sock.settimeout(until(deadline))
            data = self._sock.recv(_READ)
            if not data:
                raise ConnectionError("closed in the middle of the TLS handshake")
            self._incoming.write(data)

    def fileno(self) -> int:
        """Return the number of the descriptor."""
        return self._sock.fileno()

    def settimeout(self, seconds: float | None) -> None:
        """Let `recv` and `sendall` wait so long; None for ever."""
        self._sock.settimeout(seconds)

    def close(self) -> None:
        """Close the descriptor."""
        self._sock.close()

    def shutdown(self, how: int) -> None:
        """End the connection, and say so if that can be done at once."""
        # A thread in a signal handler may hold the lock itself: then nobody is told.
        if self._lock.acquire(blocking=False):
            try:
                with contextlib.suppress(ssl.SSLWantReadError):
                    self._end.unwrap()
                self._seal()
                self._push(_DONT_WAIT)
            except OSError:
                pass
            finally:
                self._lock.release()
        self._sock.shutdown(how)

    # Out

    def send(self, data: Any, flags: int) -> int:
        """Encrypt and send what goes at once, and return how much of *data* that was.

        What was begun stands at the beginning of *data* the next time.

        Raises:
            BlockingIOError: Nothing goes.
            OSError: The connection broke.
        """
        with self._lock:
            sent = self._push(flags)
            if not self._owed and not self._sealed:
                self._owed = self._end.write(memoryview(data)[:_SEAL])
                self._seal()
                sent = self._push(flags)
            # The last byte is counted when all has gone: who counted all would not come again.
            count = max(min(sent, self._owed - 1), 0) if self._sealed else self._owed
            self._owed -= count
        if not count:
            raise BlockingIOError(errno.EAGAIN, "the peer reads too slowly")
        return count

    def sendall(self, data: bytes) -> None:
        """Encrypt and send all of *data*, while nobody else sends."""
        self._end.write(data)
        self._sock.sendall(self._outgoing.read())

    def _seal(self) -> None:
        """Move what was encrypted to what is to be sent. Needs the lock."""
        if self._outgoing.pending:
            self._sealed = memoryview(bytes(self._sealed) + self._outgoing.read())

    def _push(self, flags: int) -> int:
        """Send of it what goes at once, and return how much. Needs the lock."""
        size = len(self._sealed)
        with contextlib.suppress(BlockingIOError):
            while self._sealed and (flags or self._is_writable(0.0)):
                piece = self._sealed if flags else self._sealed[:16_384]
                self._sealed = self._sealed[self._sock.send(piece, flags) :]
        return size - len(self._sealed)

    # In

    def readable(self, seconds: float) -> bool:
        """Wait for bytes, an end or an error, and return whether there is one."""
        try:
            return self._error is not None or self._fill(seconds)
        except OSError as error:
            if error.errno is None:
                raise  # not the kernel's, but out of a signal handler
            self._error = error  # for who reads
            return True

    def recv_into(self, buffer: Any) -> int:
        """Wait for bytes, copy them into *buffer*, and return how many; 0 at the end.

        The next call gives the same ones, unless `taken` was called.
        """
        if self._error is not None:
            raise self._error
        self._fill(None)
        count = min(len(buffer), len(self._plain))
        memoryview(buffer).cast("B")[:count] = self._plain[:count]
        return count

    def taken(self, count: int) -> None:
        """Note that so many bytes of the last read have arrived."""
        self._plain = self._plain[count:]

    def noting(self, deliver: Callable[[int], None]) -> Callable[[int], None]:
        """Return *deliver* after a note that its bytes have arrived."""

        def noted(count: int) -> None:
            self.taken(count)
            deliver(count)

        return noted

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Return up to *size* bytes, while nobody else reads; MSG_PEEK leaves them there."""
        self._fill(None)
        data = self._plain[:size]
        if not flags & socket.MSG_PEEK:
            self.taken(len(data))
        return data

    def _fill(self, seconds: float | None) -> bool:
        """Wait until something is decrypted, or the stream has ended; False if it was too long."""
        end = time.monotonic() + seconds if seconds is not None else 0.0
        while not self._decrypt():
            if seconds is not None and not self._is_readable(max(end - time.monotonic(), 0.0)):
                return False
            # recv and the note of its bytes in one call: see `frame.ByteStream.read`.
            self._raw.extend(map(self._sock.recv, (_READ,)))
        return True

    def _decrypt(self) -> bool:
        """Decrypt what has been read; tell whether there is something to take, or an end."""
        if self._plain or self._has_ended:
            return True
        with self._lock:
            if self._is_torn:
                raise OSError(errno.EIO, "interrupted while reading")
            self._is_torn = True
            for data in self._raw:
                if data:
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            self._raw.clear()
            try:
                self._plain = self._end.read(_READ)
                self._has_ended = not self._plain
            except ssl.SSLWantReadError:
                pass
            except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
                self._has_ended = True  # frames have a size: what was cut off is noticed
            except ssl.SSLError as error:
                raise OSError(errno.EPROTO, explain_tls(error)) from error
            self._seal()  # answers to what asks for one, such as new keys
            with contextlib.suppress(OSError):  # who sends next is told
                self._push(_DONT_WAIT)
            self._is_torn = False
        return bool(self._plain) or self._has_ended


def until(deadline: float) -> float:
    """Return the seconds until *deadline*.

    Raises:
        TimeoutError: There are none.
    """
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds
