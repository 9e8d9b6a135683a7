"""Keep the entries of a registry server in a SQLite file, so that a restart forgets nothing.

The file is written in a thread of its own, in batches: whatever has changed while one was
written is the next. Only the last word on each entry waits, so what waits is bounded by
what there is.

It is safe from a process that is killed. From a machine that loses power the last moments
may be missing (WAL, synchronous=NORMAL): owners state their entries again anyway.

Rules of the room:
  * one process to a file: a second one is refused;
  * what could not be written waits and is tried again, and who asks is told;
  * a file that is taken away, or full at the end, is told in the log; nothing stops for it;
  * nothing of SQLite is touched in another thread than the store's.
"""

import asyncio
import logging
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar, final

from fastrpc.cluster.registrar.leases import Row
from fastrpc.errors import ConfigError, FastRPCError

__all__ = ["MEMORY", "Key", "Store", "StoreFailed"]

#: Path of a store that forgets everything when it is closed.
MEMORY: Final = ":memory:"

#: What the file must say of itself: whose it is, and how it is laid out.
_OURS: Final = 0x66727063
_VERSION: Final = 1

#: Seconds between tries of a batch that could not be written.
_RETRY: Final = 1.0

_SCHEMA: Final = """\
create table if not exists entry (
    place text not null, id text not null, text blob not null, owner text not null,
    ttl real not null, primary key (place, id)
) without rowid"""
_PUT: Final = "insert or replace into entry (text, owner, ttl, place, id) values (?, ?, ?, ?, ?)"
_REMOVE: Final = "delete from entry where place = ? and id = ?"

_log: Final = logging.getLogger("fastrpc.registry")

T = TypeVar("T")

#: Place and id of an entry.
Key = tuple[str, str]


class StoreFailed(FastRPCError):
    """The file can't be written now."""


@final
class Store:
    """The file of a registry server. Opened where it is made, which waits for the disk.

    Args:
        path: Of the file, which is made if it isn't there; ":memory:" for none.

    Raises:
        ConfigError: It can't be opened, is something else, or another process has it.
    """

    def __init__(self, path: str = MEMORY) -> None:
        self._path = path
        self._waiting: dict[Key, Row | None] = {}
        self._writing: dict[Key, Row | None] = {}
        self._task: asyncio.Task[None] | None = None
        self._ended: asyncio.Future[Exception | None] | None = None
        self._is_closed = False
        self._file: tuple[int, int] | None = None  # which one was opened; None if none is kept
        self._thread = ThreadPoolExecutor(1, "fastrpc-registry")
        try:
            self._base: sqlite3.Connection = self._aside(self._open)
        except BaseException as error:
            self._thread.shutdown()
            if isinstance(error, sqlite3.Error):
                raise ConfigError(f"registry file {path}: {error}") from None
            raise

    @property
    def waiting(self) -> int:
        """How many entries are not yet written."""
        return len(self._waiting) + len(self._writing)

    def load(self) -> list[tuple[str, str, Row]]:
        """Return what is kept: place, id and the rest. Waits for the disk.

        Raises:
            ConfigError: The file is broken.
        """
        try:
            return self._aside(self._load)
        except (sqlite3.Error, TypeError, ValueError) as error:
            raise ConfigError(f"registry file {self._path}: {error}") from None

    def put(self, key: Key, row: Row) -> None:
        """Keep an entry, soon."""
        self._note(key, row)

    def remove(self, key: Key) -> None:
        """Keep it no more, soon."""
        self._note(key, None)

    def is_waiting(self, key: Key) -> bool:
        """Tell whether the last word on an entry is still to be written."""
        return key in self._waiting or key in self._writing

    def take_back(self, key: Key, before: Row | None) -> None:
        """Leave an entry as it was before: what was to be written could not be."""
        if before is None or key in self._writing:
            self._note(key, before)  # the file may have it, or get it now
        else:
            self._waiting.pop(key, None)

    async def settle(self, key: Key) -> None:
        """Return when the last word on an entry is written.

        Raises:
            StoreFailed: It could not be; it is tried again.
        """
        while self.is_waiting(key):
            assert self._ended is not None
            error = await asyncio.shield(self._ended)
            if error is not None:
                raise StoreFailed(f"the registry can't write its file: {error}")

    def close(self) -> None:
        """Write what waits, and let go of the file. Waits for the disk; twice is fine."""
        if self._is_closed:
            return
        self._is_closed = True
        left = {**self._writing, **self._waiting}
        self._waiting = {}
        try:
            if left:
                self._aside(lambda: self._write(left))
        except sqlite3.Error as error:
            text = "registry file %s: %d changes could not be kept: %s"
            _log.error(text, self._path, len(left), error)
        finally:
            try:
                self._aside(self._base.close)
            except sqlite3.Error as error:
                _log.error("registry file %s: %s", self._path, error)
            self._thread.shutdown()

    # On the loop

    def _note(self, key: Key, row: Row | None) -> None:
        if self._is_closed:
            return  # a handler that would not end; its owner states it elsewhere
        self._waiting[key] = row
        if self._task is None or self._task.done():
            loop = asyncio.get_running_loop()
            self._ended = loop.create_future()
            self._task = loop.create_task(self._pump(loop))

    async def _pump(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting:
            batch = self._writing = self._waiting
            self._waiting = {}
            failure: Exception | None = None
            try:
                await loop.run_in_executor(self._thread, self._write, batch)
            except sqlite3.Error as error:
                failure = error
                self._waiting = {**batch, **self._waiting}
            except BaseException:  # cancelled: written or not, the end writes it once more
                self._waiting = {**batch, **self._waiting}
                raise
            finally:
                self._writing = {}
                self._tell(loop, failure)
            if failure is not None:
                await asyncio.sleep(_RETRY)

    def _tell(self, loop: asyncio.AbstractEventLoop, failure: Exception | None) -> None:
        ended, self._ended = self._ended, loop.create_future()
        if ended is not None and not ended.done():
            ended.set_result(failure)

    # In the thread

    def _aside(self, do: Callable[[], T]) -> T:
        return self._thread.submit(do).result()

    def _open(self) -> sqlite3.Connection:
        base = sqlite3.connect(self._path, timeout=0.0, isolation_level=None)
        try:
            # The lock is the process's until it ends, however it ends.
            base.execute("pragma locking_mode = exclusive")
            base.execute("begin exclusive")
            (owner,) = base.execute("pragma application_id").fetchone()
            (version,) = base.execute("pragma user_version").fetchone()
            (tables,) = base.execute("select count(*) from sqlite_schema").fetchone()
            if tables and (owner != _OURS or version != _VERSION):
                raise ConfigError(f"registry file {self._path}: it is no file of this version's")
            base.execute(_SCHEMA)
            base.execute(f"pragma application_id = {_OURS}")
            base.execute(f"pragma user_version = {_VERSION}")
            base.execute("commit")
            base.execute("pragma journal_mode = wal")
            base.execute("pragma synchronous = normal")
            if self._path != MEMORY:
                self._file = _identity(self._path)
        except BaseException:
            base.close()
            raise
        return base

    def _load(self) -> list[tuple[str, str, Row]]:
        found: list[Any] = self._base.execute(
            "select place, id, text, owner, ttl from entry"
        ).fetchall()
        return [(place, id, Row(bytes(text), owner, ttl)) for place, id, text, owner, ttl in found]

    def _write(self, batch: dict[Key, Row | None]) -> None:
        if self._file is not None and _identity(self._path) != self._file:
            self._file = None  # told once
            _log.error("registry file %s is gone: a restart will forget all entries", self._path)
        self._base.execute("begin")
        try:
            gone = [key for key, row in batch.items() if row is None]
            kept = [(*row, *key) for key, row in batch.items() if row is not None]
            self._base.executemany(_REMOVE, gone)
            self._base.executemany(_PUT, kept)
            self._base.execute("commit")
        except BaseException:
            if self._base.in_transaction:
                self._base.execute("rollback")
            raise


def _identity(path: str) -> tuple[int, int] | None:
    """Return which file is at *path*; None if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
