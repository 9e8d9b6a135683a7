"""Accept connections on one listening socket, whatever the event loop.

The loops' own servers are not used. Out of file descriptors, asyncio leaves new
clients hanging in the backlog and comes back a second later; uvloop closes the
whole listener without a word if it finds no spare descriptor. Here both shed the
newcomers at once and go on.

Rules of the room:
  * one unusable connection never ends the listening;
  * a flood gets a bounded part of a loop step;
  * after `close` no protocol is made.
"""

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Callable
from typing import Final, Protocol, final

from fastrpc.transport.fork import own
from fastrpc.transport.threshold import Threshold

#: Connections accepted in one loop step; more wait for the next.
ACCEPTS_PER_STEP: Final = 64

#: Pause after the kernel had no memory, or no spare descriptor was left.
ACCEPT_RETRY: Final = 0.05

#: Pause for another process to take its turn at a socket that several share.
TURN: Final = 0.005

_NO_DESCRIPTOR: Final = frozenset({errno.EMFILE, errno.ENFILE})
_NO_MEMORY: Final = frozenset({errno.ENOBUFS, errno.ENOMEM})


class Turns(Protocol):
    """Says who of several processes that share a socket accepts next."""

    def is_mine(self, on_the_way: int) -> bool:
        """Say whether this one may; asked again soon, and then it is not no for ever.

        Args:
            on_the_way: Connections that were accepted and are not open yet.
        """
        ...

    def took(self) -> None:
        """Note that this one has accepted a connection."""
        ...


@final
class Acceptor:
    """Accepts on *sock*, which it owns, until closed.

    One descriptor is kept in reserve. When the process has no other left, it is
    given up for a moment to accept each waiting client and close it, so that the
    client knows; the connections that are open go on.

    Args:
        loop: Where to run.
        sock: Listening and non-blocking.
        protocol_factory: Makes the protocol of a connection.
        threshold: Where connections go that may have to encrypt; None for a plain listener.
        allow_plain: With a threshold: whether connections may come as they are, too.
        turns: Where others accept on the same socket: whose turn it is.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        threshold: Threshold | None = None,
        *,
        allow_plain: bool = True,
        turns: Turns | None = None,
    ) -> None:
        self._turns = turns
        self._loop = loop
        self._sock = sock
        self._protocol_factory = protocol_factory
        self._threshold = threshold
        self._allow_plain = allow_plain
        self._is_open = True
        self._reserve: int | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._starting: set[asyncio.Task[object]] = set()
        self._refill()
        loop.add_reader(sock, self._on_readable)

    def close(self) -> None:
        """Stop accepting and close the socket; connections stay."""
        if not self._is_open:
            return
        self._is_open = False
        if self._retry is not None:
            self._retry.cancel()
        self._loop.remove_reader(self._sock)
        self._sock.close()
        if self._reserve is not None:
            os.close(self._reserve)
            self._reserve = None

    async def wait_closed(self) -> None:
        """Wait until accepted sockets have become transports."""
        if self._starting:
            await asyncio.wait(self._starting)

    def _on_readable(self) -> None:
        turns = self._turns
        for _ in range(ACCEPTS_PER_STEP):
            if turns is not None and not turns.is_mine(self.arriving):
                self._pause(TURN)
                return
            try:
                sock, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _NO_DESCRIPTOR:
                    self._shed()
                    return
                if error.errno in _NO_MEMORY:
                    self._pause()
                    return
                # Linux hands on what already went wrong with that one connection.
                continue
            if turns is not None:
                turns.took()
            self._start(sock)
            if not self._is_open:
                return

    @property
    def arriving(self) -> int:
        """How many were accepted here and are not open yet."""
        threshold = self._threshold
        waiting = threshold.waiting + threshold.handshakes if threshold is not None else 0
        return len(self._starting) + waiting

    def _start(self, sock: socket.socket) -> None:
        own(sock).setblocking(False)
        if self._threshold is None:
            self._connect(sock)
        else:
            self._threshold.take(sock, self._connect if self._allow_plain else None)

    def _connect(self, sock: socket.socket) -> None:
        try:
            protocol = self._protocol_factory()
        except Exception as error:
            sock.close()
            context = {"message": "no protocol for an accepted connection", "exception": error}
            self._loop.call_exception_handler(context)
            return
        starting = self._loop.connect_accepted_socket(lambda: protocol, sock)
        task: asyncio.Task[object] = self._loop.create_task(starting)
        self._starting.add(task)
        task.add_done_callback(lambda done: self._started(done, sock))

    def _started(self, task: asyncio.Task[object], sock: socket.socket) -> None:
        self._starting.discard(task)
        if task.cancelled() or task.exception() is not None:
            sock.close()  # it was gone before it began; the next one is fine

    def _refill(self) -> None:
        if self._reserve is None:
            with contextlib.suppress(OSError):
                self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _shed(self) -> None:
        """Accept and close the clients that wait, with the reserve descriptor."""
        if self._reserve is None:
            self._refill()
        if self._reserve is None:
            self._pause()
            return
        os.close(self._reserve)
        self._reserve = None
        with contextlib.suppress(OSError):
            for _ in range(ACCEPTS_PER_STEP):
                self._sock.accept()[0].close()
        self._refill()

    def _pause(self, seconds: float = ACCEPT_RETRY) -> None:
        # The socket stays readable, so waiting on it would spin.
        self._loop.remove_reader(self._sock)
        self._retry = self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        self._retry = None
        self._refill()
        self._loop.add_reader(self._sock, self._on_readable)
