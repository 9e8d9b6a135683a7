"""Be in a session with ZooKeeper, from an event loop.

kazoo speaks the protocol in threads of its own. Here its results become something to
await, its state changes come to the loop, and what it does without a limit gets one.

Rules of the room:
  * no thread of kazoo's is waited for by the loop, and none touches anything of ours
    but through `call_soon_threadsafe`;
  * while nobody is connected nothing is asked: kazoo wakes its thread through a pipe, and
    a full one would block the loop;
  * a session that is lost is told once, and another one begins by itself.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
import threading
from collections.abc import Callable
from functools import partial
from math import inf
from typing import Any, Final, final

from kazoo.client import KazooClient, KazooState  # type: ignore[import-untyped]
from kazoo.exceptions import (  # type: ignore[import-untyped]
    BadVersionError,
    KazooException,
    NoAuthError,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
)
from kazoo.handlers.threading import SequentialThreadingHandler  # type: ignore[import-untyped]
from kazoo.retry import KazooRetry  # type: ignore[import-untyped]
from kazoo.security import make_acl, make_digest_acl  # type: ignore[import-untyped]

from fastrpc.cluster.registry import Losses
from fastrpc.cluster.target import ClusterTarget
from fastrpc.errors import RegistryLost
from fastrpc.transport import join_host

__all__ = ["ANSWERS", "ZkSession"]

#: Seconds to wait for a connection and an answer, together.
PATIENCE: Final = 5.0

#: Seconds for one host to take a connection.
CONNECT_PATIENCE: Final = 3.0

#: Longest wait between tries to connect.
AGAIN: Final = 1.0

#: Seconds for a session to be ended politely, and then impolitely.
END_PATIENCE: Final = 2.0

#: Most questions at once. A few hundred would fill kazoo's pipe.
ROOM: Final = 64

#: Errors that are answers: everything else means that nobody knows.
ANSWERS: Final[tuple[type[Exception], ...]] = (
    BadVersionError,
    NoAuthError,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
)

_log: Final = logging.getLogger(__name__)


@final
class _Socket:
    """A socket that tells which session time the server's first answer grants.

    kazoo reads it and keeps it to itself. It stands behind the length of the answer and
    the version of the protocol, four bytes each.
    """

    def __init__(self, sock: Any, note: Callable[[float], None]) -> None:
        self._sock = sock
        self._note = note
        self._head = b""

    def recv(self, size: int) -> bytes:
        data: bytes = self._sock.recv(size)
        if len(self._head) < 12:
            self._head += data[:12]
            if len(self._head) >= 12:
                self._note(int.from_bytes(self._head[8:12], "big", signed=True) / 1000)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


@final
class _Handler(SequentialThreadingHandler):  # type: ignore[misc]
    """kazoo's threads and sockets, kept within bounds.

    Args:
        note: Is told the time of a session when one is granted.
        on_end: Called when a thread has ended, whatever the reason.

    Attributes:
        why: Why there is no connection, if the last try failed.
    """

    def __init__(self, note: Callable[[float], None], on_end: Callable[[], None]) -> None:
        super().__init__()
        self.why = ""
        self._note = note
        self._on_end = on_end
        self._socket: _Socket | None = None

    def create_connection(
        self,
        address: tuple[str, int],
        hostname: str | None = None,
        timeout: float | None = None,
        use_ssl: bool = False,
        **options: object,
    ) -> _Socket:
        """Connect, in less than the time of a session: another host may be better."""
        sock: socket.socket | None = None
        try:
            sock = socket.create_connection(address, min(timeout or inf, CONNECT_PATIENCE))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if use_ssl:
                # kazoo's own way leaves the socket open when the peer is not trusted.
                sock = ssl.create_default_context().wrap_socket(sock, server_hostname=hostname)
        except OSError as error:
            self.why = f": {error}"
            if sock is not None:
                sock.close()
            raise
        self.why = ""
        self._socket = _Socket(sock, self._note)
        return self._socket

    def spawn(self, func: Callable[..., object], *args: Any, **options: Any) -> threading.Thread:
        """Start a thread; what it raises is logged and not printed."""

        def work() -> None:
            try:
                func(*args, **options)
            except Exception:
                _log.exception("a thread of kazoo's ended")
            finally:
                self._on_end()

        thread: threading.Thread = super().spawn(work)
        return thread

    def cut(self) -> None:
        """Break the connection off, so that whoever reads there wakes up."""
        if self._socket is not None:
            with contextlib.suppress(OSError):  # it may be closed already
                self._socket.shutdown(socket.SHUT_RDWR)


@final
class ZkSession:
    """A session that is begun anew when it is lost.

    Args:
        target: Where.
        timeout: Seconds of a session; the server may grant another time.
        on_break: Called when the connection is lost, before anything else is noticed.

    Attributes:
        timeout: What was granted.
        id: Of the session, 0 if there was none yet.
        losses: Counts the sessions that were lost.
    """

    def __init__(self, target: ClusterTarget, timeout: float, on_break: Callable[[], None]) -> None:
        self.timeout = timeout
        self.id = 0
        self.losses = Losses()
        self._target = target
        self._asked = timeout
        self._on_break = on_break
        self._client: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_up = asyncio.Event()
        self._room = asyncio.Semaphore(ROOM)
        self._is_closed = False

    @property
    def is_closed(self) -> bool:
        """Whether it was ended for good."""
        return self._is_closed

    async def ask(self, question: Callable[[Any], Any]) -> Any:
        """Return the answer to what *question* asks of kazoo's client.

        Raises:
            RegistryLost: Nobody knows the answer, nor whether anything was done.
            KazooException: One of `ANSWERS`.
        """
        try:
            async with asyncio.timeout(PATIENCE):
                reply = await self._send(question)
                return await asyncio.shield(reply)
        except TimeoutError:
            what = "answer" if self._is_up.is_set() else "connection"
            why = "" if self._client is None else self._client.handler.why
            raise RegistryLost(f"{self._target}: no {what} in {PATIENCE} s{why}") from None
        except ANSWERS:
            raise
        except KazooException as error:
            raise RegistryLost(f"{self._target}: {type(error).__name__}") from error

    def tell(self, callback: Callable[..., object], *args: object) -> None:
        """Call something on the loop, from any thread."""
        assert self._loop is not None
        # If the loop is closed, nobody is there to be told.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *args)

    async def aclose(self) -> None:
        """End the session, so that what belongs to it is gone at once."""
        if self._is_closed:
            return
        self._is_closed = True
        client, self._client = self._client, None
        self._is_up.set()  # who waits for a connection is to see that there is none
        self._on_break()
        if client is None:
            return
        ended = asyncio.Event()
        self._dispose(client, ended)
        for _ in range(2):
            try:
                async with asyncio.timeout(END_PATIENCE):
                    await ended.wait()
                    return
            except TimeoutError:
                client.handler.cut()
        _log.warning("%s: kazoo's threads go on until their time is over", self._target)

    async def _send(self, question: Callable[[Any], Any]) -> "asyncio.Future[Any]":
        await self._room.acquire()
        try:
            client = await self._connected()
            assert self._loop is not None
            reply: asyncio.Future[Any] = self._loop.create_future()
            result = question(client)
        except BaseException:
            self._room.release()
            raise
        # The room is free again when kazoo is done, not when somebody has given up.
        result.rawlink(lambda result: self.tell(self._settle, reply, result))
        return reply

    def _settle(self, reply: "asyncio.Future[Any]", result: Any) -> None:
        if reply.done():
            return
        self._room.release()
        if result.exception is not None:
            reply.set_exception(result.exception)
            reply.exception()  # nobody may be there any more to look at it
        else:
            reply.set_result(result.value)

    async def _connected(self) -> Any:
        while True:
            if self._is_closed:
                raise RegistryLost("this registry is closed")
            if self._client is None:
                self._begin()
            await self._is_up.wait()
            if self._client is not None and self._is_up.is_set():
                return self._client

    def _begin(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._is_up.clear()
        target = self._target
        # Both run in kazoo's threads.
        handler = _Handler(partial(self.tell, self._grant), lambda: self.tell(ended))
        login: dict[str, Any] = {}
        if target.user:
            login["auth_data"] = [("digest", f"{target.user}:{target.password}")]
            ours = make_digest_acl(target.user, target.password, all=True)
            login["default_acl"] = [ours, make_acl("world", "anyone", read=True)]
        client = KazooClient(
            hosts=",".join(join_host(*host) for host in target.hosts),
            timeout=self._asked,
            handler=handler,
            connection_retry=KazooRetry(max_tries=-1, delay=0.1, max_delay=AGAIN),
            use_ssl=target.is_secure,
            **login,
        )

        def ended() -> None:
            # Its threads end when it is told to, or when it is beyond help.
            if client is self._client:
                self._client = None
                self._lose()
                self._dispose(client)
                # Who waits begins anew, but not again and again without a pause.
                asyncio.get_running_loop().call_later(AGAIN, wake)

        def wake() -> None:
            if self._client is None:
                self._is_up.set()

        def listen(state: str) -> None:
            known = client.client_id
            self.tell(self._take, client, state, known[0] if known else 0)

        client.add_listener(listen)
        self._client = client
        client.start_async()

    def _take(self, client: Any, state: str, id: int) -> None:
        """Note the state of the connection."""
        if client is not self._client:
            return
        if state == KazooState.CONNECTED:
            if id:
                self.id = id
                self._is_up.set()
        elif state == KazooState.SUSPENDED:
            self._is_up.clear()
            self._on_break()
        else:
            self._lose()

    def _grant(self, seconds: float) -> None:
        if seconds > 0:  # else it says that the session is over
            self.timeout = seconds

    def _lose(self) -> None:
        self._is_up.clear()
        self._on_break()
        if self.id:
            self.id = 0
            self.losses.note()

    def _dispose(self, client: Any, ended: asyncio.Event | None = None) -> None:
        """End a client's session and threads, in a thread: it may take its time."""

        def work() -> None:
            try:
                client.stop()
                client.close()
            except Exception:
                _log.warning("kazoo does not end as it should", exc_info=True)
            if ended is not None:
                self.tell(ended.set)

        threading.Thread(target=work, name="fastrpc-zookeeper-end", daemon=True).start()
