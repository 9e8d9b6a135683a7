"""Speak with Redis: one step at a time, on a connection that is never in doubt.

`RedisLink` runs scripts, `RedisHints` listens to channels. Both find a server among
several hosts. None of it knows what an instance is.

Rules of the room:
  * a script that was sent is answered before the next one goes, whether or not somebody
    still waits for it: so what one owner asks happens in the order in which it was asked;
  * a connection that broke off in the middle of anything is closed, never used again:
    no reply can reach another question;
  * whatever is asked has its time, connecting included.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Sequence
from typing import Any, Final, final

from redis.asyncio import Connection, SSLConnection
from redis.exceptions import (
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    RedisError,
    ResponseError,
)

from fastrpc.cluster.target import ClusterTarget
from fastrpc.errors import RegistryLost
from fastrpc.transport import join_host

__all__ = ["PATIENCE", "RedisHints", "RedisLink", "Script"]

#: Seconds for one host to take a connection and let us in, and for an answer, all in all.
CONNECT_PATIENCE: Final = 2.0
PATIENCE: Final = 4.0

#: Seconds until listening is tried again.
LISTEN_AGAIN: Final = 1.0

#: Refusals after which the connection is as good as before.
_PLAIN: Final = (ResponseError, NoPermissionError, OutOfMemoryError)


@final
class Script:
    """What Redis does in one step.

    Args:
        text: In Lua.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        # The name that Redis gives it; nothing to do with keeping a secret.
        self.name = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


@final
class _Hosts:
    """The hosts of a target, the one to try next first."""

    def __init__(self, target: ClusterTarget) -> None:
        self._target = target
        self._next = 0
        #: The host that was tried last.
        self.where = join_host(*target.hosts[0])

    def skip(self) -> None:
        """Begin with another host the next time."""
        self._next = (self._next + 1) % len(self._target.hosts)

    async def connect(self) -> Any:
        """Return a connection to the first host that lets us in."""
        for left in reversed(range(len(self._target.hosts))):
            connection = self._make()
            try:
                async with asyncio.timeout(CONNECT_PATIENCE):
                    await connection.connect()
                    # Who is not let in is told so in plain words, before anything else: with
                    # more than ten words in the first question Redis says something odd.
                    await connection.send_command("PING")
                    with contextlib.suppress(NoPermissionError):
                        await connection.read_response(disable_decoding=True)
                return connection
            except BaseException as error:
                await _close(connection)
                self.skip()
                if not left or not isinstance(error, RedisError | OSError | ValueError):
                    raise
        raise AssertionError("a target without hosts")

    def _make(self) -> Any:
        target = self._target
        host, port = target.hosts[self._next]
        self.where = join_host(host, port)
        make = SSLConnection if target.is_secure else Connection
        return make(
            host=host,
            port=port,
            username=target.user or None,
            password=target.password or None,
            # Time is kept here, once for all; the library's own would use wait_for.
            socket_timeout=None,
            socket_connect_timeout=CONNECT_PATIENCE,
            socket_keepalive=True,
            protocol=2,
        )


async def _close(connection: Any) -> None:
    with contextlib.suppress(RedisError, OSError):
        await connection.disconnect(nowait=True)


@final
class RedisLink:
    """Run scripts, one after the other.

    Args:
        target: Where; the next host is tried when one is down.
    """

    def __init__(self, target: ClusterTarget) -> None:
        self._hosts = _Hosts(target)
        self._connection: Any = None
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_closed = False

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[str | bytes]) -> Any:
        """Return what *script* returns.

        Who is cancelled here has not undone it: it is run to its end.

        Raises:
            RegistryLost: It can't be known whether it was run; its cause says why.
        """
        if self._is_closed:
            raise RegistryLost("this registry is closed")
        task = asyncio.create_task(self._run(script, keys, args))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if self._is_closed and task.cancelled():
                raise RegistryLost("this registry is closed") from None
            raise

    async def aclose(self) -> None:
        """Break off what is going on, and close the connection."""
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._drop()

    async def _run(self, script: Script, keys: Sequence[str], args: Sequence[str | bytes]) -> Any:
        try:
            async with asyncio.timeout(PATIENCE), self._lock:
                return await self._ask(script, [str(len(keys)), *keys, *args])
        except TimeoutError as error:
            raise RegistryLost(f"redis at {self._hosts.where}: no answer") from error
        except (RedisError, OSError, ValueError) as error:
            raise RegistryLost(f"redis at {self._hosts.where}: {error}") from error

    async def _ask(self, script: Script, words: Sequence[str | bytes]) -> Any:
        try:
            if self._connection is None:
                self._connection = await self._hosts.connect()
            try:
                return await self._exchange("EVALSHA", script.name, *words)
            except NoScriptError:
                return await self._exchange("EVAL", script.text, *words)
        except BaseException as error:
            # A replica refuses to write, a server that starts refuses everything: both are
            # to be left for another host, like one that is down.
            if type(error) not in _PLAIN:
                if self._connection is not None:
                    self._hosts.skip()
                await self._drop()
            raise

    async def _exchange(self, *words: str | bytes) -> Any:
        await self._connection.send_command(*words)
        return await self._connection.read_response(disable_decoding=True)

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await _close(connection)


@final
class RedisHints:
    """Wake who waits for news of a channel, when there may be some.

    A hint may be lost, and comes too often; nobody may rely on more than that.

    Args:
        target: Where.
    """

    def __init__(self, target: ClusterTarget) -> None:
        self._hosts = _Hosts(target)
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._connection: Any = None
        self._task: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()

    async def add(self, channel: str, woken: asyncio.Event) -> None:
        """Set *woken* from now on, whenever something may be new."""
        is_new = channel not in self._waiting
        self._waiting.setdefault(channel, set()).add(woken)
        if self._task is None:
            self._task = asyncio.create_task(self._listen())
        elif is_new and self._connection is not None:
            # If it fails, the listener finds out, and tells Redis everything anew.
            with contextlib.suppress(RedisError, OSError):
                await self._connection.send_command("SUBSCRIBE", channel)

    def discard(self, channel: str, woken: asyncio.Event) -> None:
        """Don't set it any more."""
        waiting = self._waiting.get(channel, set())
        waiting.discard(woken)
        if not waiting:
            self._waiting.pop(channel, None)
        if not self._waiting and self._task is not None:
            task, self._task = self._task, None
            task.cancel()
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def aclose(self) -> None:
        """Wake everybody, and listen no more."""
        for channel, waiting in list(self._waiting.items()):
            for woken in list(waiting):
                woken.set()
                self.discard(channel, woken)
        if self._ending:
            await asyncio.wait(self._ending)

    async def _listen(self) -> None:
        while True:
            with contextlib.suppress(RedisError, OSError, ValueError):
                await self._listen_once()
            self._hosts.skip()
            await asyncio.sleep(LISTEN_AGAIN)

    async def _listen_once(self) -> None:
        connection = await self._hosts.connect()
        self._connection = connection
        try:
            await connection.send_command("SUBSCRIBE", *self._waiting)
            while True:
                # The answer to SUBSCRIBE wakes as well: something may have been missed.
                _, channel, *_ = await connection.read_response(disable_decoding=True)
                for woken in self._waiting.get(channel.decode("utf-8", "replace"), ()):
                    woken.set()
        finally:
            self._connection = None
            await _close(connection)
