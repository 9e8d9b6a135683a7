"""Look at the first byte of accepted connections, and let those in that shall encrypt.

A listener with a certificate must know which connections begin a handshake before anything
is read from them: the loops start TLS on a socket, and give back no byte that came earlier.
So the byte is peeked at and stays where it is.

Rules of the room:
  * who says nothing, or waits in line, costs a socket and a timer; there is a most of them;
  * handshakes cost far more, so only so many are under way at once;
  * what does not begin a handshake is refused unread where all must encrypt.
"""

import asyncio
import contextlib
import contextvars
import socket
from collections.abc import Callable
from typing import Any, Final, final

from fastrpc.transport.address import join_host
from fastrpc.transport.first import HTTP_FIRST, TLS_HELLO, bad_request
from fastrpc.transport.lastwords import LastWords, last_words
from fastrpc.transport.resolve import explain
from fastrpc.transport.tls import SHUTDOWN_TIMEOUT, ServerTls

_SPEAK_TLS: Final = bad_request("This port speaks TLS: use https:// or tls:// to reach it.")
_DISCARD: Final = 65_536

#: Seconds that a handshake gets while others wait in line; half-done ones make room then.
HURRIED: Final = 2.0

Connected = tuple[asyncio.BaseTransport, asyncio.BaseProtocol]
ConnectPlain = Callable[[socket.socket], None]


@final
class _Waiting:
    """A connection that has not begun a handshake."""

    __slots__ = ("connect_plain", "sock", "timer")

    timer: asyncio.TimerHandle

    def __init__(self, sock: socket.socket, connect_plain: ConnectPlain | None) -> None:
        self.sock = sock
        self.connect_plain = connect_plain


@final
class _Handshake:
    """One that is under way."""

    __slots__ = ("address", "begun", "is_cut", "sock", "words")

    def __init__(self, sock: socket.socket, now: float) -> None:
        self.sock = sock
        self.begun = now
        self.words = LastWords(sock)
        self.address = _address(sock)
        self.is_cut = False

    def cut(self) -> None:
        """End it: the loop, who owns the socket, sees the end and closes it."""
        self.is_cut = True
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)


@final
class Threshold:
    """Takes accepted sockets of one listener and makes connections of them.

    Args:
        loop: Where to run.
        tls: What to encrypt with, and the limits.
        protocol_factory: Makes the protocol of a connection; called after the handshake.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tls: ServerTls,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
    ) -> None:
        self._loop = loop
        self._tls = tls
        self._protocol_factory = protocol_factory
        self._waiting: dict[_Waiting, None] = {}
        self._line: dict[_Waiting, None] = {}  # those of them whose handshake may begin
        self._handshakes: dict[asyncio.Task[Any], _Handshake] = {}
        self._hurry: asyncio.TimerHandle | None = None
        self._is_open = True

    @property
    def waiting(self) -> int:
        """Connections that have not begun a handshake."""
        return len(self._waiting)

    @property
    def handshakes(self) -> int:
        """Handshakes under way."""
        return len(self._handshakes)

    def take(self, sock: socket.socket, connect_plain: ConnectPlain | None) -> None:
        """Wait for the first byte of *sock*, which is ours from now on.

        Args:
            sock: Non-blocking.
            connect_plain: Makes a connection of it as it is, if it does not encrypt; None
                refuses it then.
        """
        options = self._tls.options
        if len(self._waiting) >= options.max_waiting:
            self._drop(next(iter(self._waiting)), "more connections wait than max_waiting")
        waiting = _Waiting(sock, connect_plain)
        waiting.timer = self._loop.call_later(options.handshake_timeout, self._late, waiting)
        self._waiting[waiting] = None
        self._loop.add_reader(sock, self._peek, waiting)

    def close(self) -> None:
        """Close all that is on its way in."""
        self._is_open = False
        for waiting in list(self._waiting):
            self._drop(waiting, "")
        for handshake in self._handshakes.values():
            handshake.cut()
        if self._hurry is not None:
            self._hurry.cancel()

    async def wait_closed(self) -> None:
        """Wait until no handshake is under way."""
        if self._handshakes:
            await asyncio.wait(list(self._handshakes))

    def _peek(self, waiting: _Waiting) -> None:
        try:
            first = waiting.sock.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._drop(waiting, explain(error))
            return
        if first == TLS_HELLO:
            # It stays readable: in line, nobody looks.
            self._loop.remove_reader(waiting.sock)
            self._line[waiting] = None
            self._next()
        elif not first:
            self._drop(waiting, "")
        elif waiting.connect_plain is not None:
            self._leave(waiting)
            waiting.connect_plain(waiting.sock)
        else:
            if first in HTTP_FIRST:
                self._answer_http(waiting.sock)
            self._drop(waiting, "it does not speak TLS")

    def _answer_http(self, sock: socket.socket) -> None:
        """Say what is wrong to somebody who seems to speak HTTP."""
        with contextlib.suppress(OSError):
            sock.send(_SPEAK_TLS)
            sock.shutdown(socket.SHUT_WR)
            sock.recv(_DISCARD)  # closed with something unread, the answer would be lost

    def _late(self, waiting: _Waiting) -> None:
        seconds = self._tls.options.handshake_timeout
        self._drop(waiting, f"no handshake began in {seconds:g} s (handshake_timeout)")

    def _drop(self, waiting: _Waiting, why: str) -> None:
        if why:
            self._refused(_address(waiting.sock), why)
        self._leave(waiting)
        waiting.sock.close()

    def _leave(self, waiting: _Waiting) -> None:
        waiting.timer.cancel()
        self._loop.remove_reader(waiting.sock)
        del self._waiting[waiting]
        self._line.pop(waiting, None)

    def _refused(self, address: str, why: str) -> None:
        if self._tls.on_refused is not None:
            self._tls.on_refused(address, why)

    # Handshakes

    def _next(self) -> None:
        """Begin the handshakes that may."""
        while self._line and len(self._handshakes) < self._tls.options.max_handshakes:
            # The newest: in a flood, those who came before have waited too long already.
            waiting = next(reversed(self._line))
            self._leave(waiting)
            self._shake_hands(waiting.sock)
        if self._line and self._hurry is None:
            self._make_room()

    def _make_room(self) -> None:
        """Cut the handshakes that take long, as long as others wait in line."""
        self._hurry = None
        if not self._line or not self._handshakes:
            return
        now = self._loop.time()
        for handshake in self._handshakes.values():  # the oldest first
            if now - handshake.begun < HURRIED:
                self._hurry = self._loop.call_at(handshake.begun + HURRIED, self._make_room)
                return
            handshake.cut()

    def _shake_hands(self, sock: socket.socket) -> None:
        handshake = _Handshake(sock, self._loop.time())
        context = contextvars.copy_context()
        context.run(last_words.set, handshake.words)
        begins = Begins(self._loop, self._make)
        connecting = self._loop.connect_accepted_socket(
            lambda: begins,
            sock,
            ssl=self._tls.context(self._loop.time()),
            ssl_handshake_timeout=self._tls.options.handshake_timeout,
            ssl_shutdown_timeout=SHUTDOWN_TIMEOUT,
        )
        task = self._loop.create_task(connecting, context=context)
        self._handshakes[task] = handshake
        task.add_done_callback(self._shaken)

    def _make(self) -> asyncio.BaseProtocol | None:
        return self._protocol_factory() if self._is_open else None

    def _shaken(self, task: "asyncio.Task[Connected]") -> None:
        handshake = self._handshakes.pop(task)
        handshake.words.sock = None
        if task.cancelled():
            handshake.sock.close()
        elif (error := task.exception()) is not None:
            if self._is_open:
                why = "it takes long, and others wait" if handshake.is_cut else _why(error)
                self._refused(handshake.address, why)
            handshake.sock.close()
            # Its frames and it hold each other, and with them 256 KiB of asyncio's buffers
            # until the garbage collector comes; in a flood that is a lot.
            error.with_traceback(None)
        if self._is_open:
            self._next()


def _address(sock: socket.socket) -> str:
    try:
        return join_host(*sock.getpeername()[:2])
    except OSError:
        return "somebody who is gone"


def _why(error: BaseException) -> str:
    if isinstance(error, OSError) and (error.errno is not None or str(error)):
        return explain(error)
    if isinstance(error, ConnectionError):
        return "closed in the middle of the handshake"
    return f"{type(error).__name__}: {error}"


@final
class Begins(asyncio.Protocol):
    """Stands on a connection until its handshake is done; then the real one is made."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        make: Callable[[], asyncio.BaseProtocol | None],
    ) -> None:
        self._loop = loop
        self._make = make

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Make way."""
        try:
            protocol = self._make()
        except Exception as error:
            context = {"message": "no protocol for an accepted connection", "exception": error}
            self._loop.call_exception_handler(context)
            protocol = None
        if protocol is None:
            transport.abort()  # type: ignore[attr-defined]
            return
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
