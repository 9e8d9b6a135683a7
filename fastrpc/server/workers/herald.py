"""Announce the server of all workers from one of them: together they are one instance.

Whoever holds a lock announces. The lock is let go of with its process, however that ends,
and then another worker takes it, and states the same entry as its own.

Rules of the room:
  * one id for all, for as long as the supervisor lives;
  * who holds the lock announces: who can't, lets go of it, and tries again later;
  * who is replaced hands over: it states nothing more, and lets go of its registry when the
    next one has stated the entry, so that it never leaves the list;
  * when all of them go, the one that announces says goodbye, and the others take calls
    until that is known.
"""

import asyncio
import contextlib
import logging
import os
import re
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Final, final

from fastrpc.errors import ConfigError
from fastrpc.policy import Backoff
from fastrpc.server.announcing import FAREWELL, AnnounceKeywords, read_announce
from fastrpc.server.server import Server
from fastrpc.server.workers.table import WorkerTable

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # where there is no fork either, and so no workers
    fcntl = None

#: Seconds between two looks at who announces.
LOOK_EVERY: Final = 0.1

#: Longest wait for the next one to have stated the entry, in seconds.
HANDOVER: Final = 3.0

#: First and longest planned wait of one that could not announce, in seconds.
TRY_AGAIN: Final = 1.0
TRY_AGAIN_MAX: Final = 30.0

_LOCK: Final = "herald.lock"

_log = logging.getLogger("fastrpc.server.workers")


@final
@dataclass(frozen=True, slots=True)
class Announcement:
    """What the workers of a server announce.

    Attributes:
        registry: Target of the registry.
        options: As for `Server.announce`.
        id: Of the instance.
        parent: The supervisor's process.
        leave_wait: Seconds for which calls are taken after the farewell.
    """

    registry: str
    options: AnnounceKeywords
    id: str
    parent: int
    leave_wait: float

    @property
    def patience(self) -> float:
        """How much longer the end may take for it, in seconds."""
        return FAREWELL + HANDOVER + self.leave_wait


def make_announcement(registry: object, options: AnnounceKeywords) -> Announcement:
    """Return what this process's workers announce.

    Raises:
        ConfigError: An option is wrong, or *registry* is nothing that each worker could open.
    """
    if not isinstance(registry, str):
        raise ConfigError("with several workers the registry must be a target, such as etcd://host")
    chosen = read_announce(options)
    host = re.sub(r"[^A-Za-z0-9._~-]+", "-", socket.gethostname()).strip("-")[:80] or "server"
    id = chosen.id or f"{host}-{os.getpid()}-{secrets.token_hex(6)}"
    return Announcement(registry, options, id, os.getpid(), chosen.leave_wait)


@final
class Herald:
    """One worker's part in it.

    Args:
        server: Which serves here.
        announcement: What to announce; None for nothing, and then nothing is done here.
        folder: Where the workers meet.
        number: This worker's own.
        table: Says whether all of them are going.
    """

    def __init__(
        self,
        server: Server,
        announcement: Announcement | None,
        folder: Path,
        number: int,
        table: WorkerTable,
    ) -> None:
        self._server = server
        self._announcement = announcement
        self._folder = folder
        self._table = table
        self._name = str(number).encode()
        self._file = -1
        self._task: asyncio.Task[None] | None = None
        self.is_herald = False

    async def open(self) -> None:
        """Announce, unless another does; then be ready to.

        Raises:
            ConfigError: The server can't be announced so.
        """
        told = self._announcement
        if told is None:
            return
        self._file = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if self._take():
            try:
                await self._announce(told)
            except BaseException:
                self._let_go()
                raise
        else:
            self._task = asyncio.get_running_loop().create_task(self._wait(told))

    async def leave(self) -> None:
        """Make ready to drain: hand over, or take calls until a farewell is known."""
        told = self._announcement
        if told is None:
            return
        if self._task is not None and self.is_herald:  # since a moment ago: it can't be undone
            await asyncio.wait((self._task,), timeout=HANDOVER)
        await self._stop()
        if os.getppid() != told.parent or self._table.is_ending:
            if not self.is_herald:
                await self._follow(told)
        elif self.is_herald:
            await self._hand_over()

    async def _follow(self, told: Announcement) -> None:
        """Leave it to the herald to say goodbye, unless that has died just now."""
        if self._take():
            with contextlib.suppress(Exception):  # the end comes all the same
                await self._announce(told)  # who says goodbye has to have said hello
        else:
            await asyncio.sleep(told.leave_wait)

    async def close(self) -> None:
        """Let go of everything."""
        await self._stop()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _take(self) -> bool:
        assert fcntl is not None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        self.is_herald = True
        return True

    def _let_go(self) -> None:
        assert fcntl is not None
        self.is_herald = False
        fcntl.flock(self._file, fcntl.LOCK_UN)

    async def _wait(self, told: Announcement) -> None:
        backoff = Backoff(first=TRY_AGAIN, cap=TRY_AGAIN_MAX)
        while True:
            while not self._take():  # noqa: ASYNC110 - another process's lock tells nobody
                await asyncio.sleep(LOOK_EVERY)
            try:
                return await self._announce(told)
            except Exception as error:  # whatever it is, a sibling may do better
                self._let_go()
                text = "the server can't be announced by this worker, which will try again: %s"
                _log.error(text, str(error) or type(error).__name__)
            await asyncio.sleep(backoff.next())

    async def _announce(self, told: Announcement) -> None:
        options: AnnounceKeywords = {**told.options, "id": told.id}
        await self._server.announce(told.registry, **options)
        with contextlib.suppress(OSError):  # then the other one waits in vain, not for long
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, self._name, 0)  # whoever handed over may let go now

    async def _hand_over(self) -> None:
        self.is_herald = False
        await self._server._announcing.rest()
        self._let_go()
        for _ in range(int(HANDOVER / LOOK_EVERY)):
            if os.pread(self._file, 64, 0) != self._name:
                return
            await asyncio.sleep(LOOK_EVERY)

    async def _stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait((task,))
