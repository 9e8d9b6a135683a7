"""Keep the last list of a service in a file, for a start while no registry answers.

The first line says what the file is, each other line is an instance as registries have it.

Rules of the room:
  * whoever reads it finds a whole list or the one before, never a part of one;
  * a file that is damaged, too large, of another service or somebody else's is left alone,
    and told of in one line: a list of addresses is trusted with calls;
  * the disk is asked in a thread, and not more than once a second.
"""

import asyncio
import contextlib
import logging
import os
import stat
import tempfile
import zlib
from pathlib import Path
from typing import Final, final

import msgspec

from fastrpc.cluster.instance import (
    INSTANCE_MAX,
    INSTANCES_MAX,
    Instance,
    decode_instance,
    encode_instance,
)
from fastrpc.errors import CodecError

__all__ = ["SHELF_MAX", "Shelf", "read_shelf", "write_shelf"]

#: Longest file, in bytes; longer lists are not written.
SHELF_MAX: Final = 16 * 2**20

#: Least seconds between two writes.
EVERY: Final = 1.0

#: Longest wait for the disk at the end, in seconds.
_PATIENCE: Final = 2.0

_FORMAT: Final = "fastrpc instances 1"

_log = logging.getLogger("fastrpc.cluster")


class _Head(msgspec.Struct, frozen=True):
    """The first line."""

    format: str
    service: str
    count: int
    crc32: int


_HEAD: Final = msgspec.json.Decoder(_Head)


def write_shelf(path: str | Path, service: str, instances: tuple[Instance, ...]) -> None:
    """Put *instances* of *service* into the file at *path*, all or nothing. This blocks.

    Raises:
        OSError: It can't be written.
        CodecError: The list is too long.
    """
    lines = [encode_instance(each) + b"\n" for each in instances[:INSTANCES_MAX]]
    body = b"".join(lines)
    head = msgspec.json.encode(_Head(_FORMAT, service, len(lines), zlib.crc32(body))) + b"\n"
    if len(head) + len(body) > SHELF_MAX:
        raise CodecError(f"a list of {len(body)} bytes is over {SHELF_MAX}")
    path = Path(path)
    number, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(head + body)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # else the name may still be the old file's after a power cut
    finally:
        os.close(folder)


def read_shelf(path: str | Path, service: str) -> tuple[Instance, ...]:
    """Return the instances of *service* that were put into the file at *path*. This blocks.

    A line that is no instance any more, for a later version wrote it, is left out.

    Raises:
        OSError: There is no such file, or it can't be read.
        CodecError: It is damaged, or not ours; the message says how.
    """
    text = _read(path)
    first, _, body = text.partition(b"\n")
    try:
        head = _HEAD.decode(first[:INSTANCE_MAX])
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise CodecError("it is no list of instances") from None
    if head.format != _FORMAT:
        raise CodecError(f"it has another format: {head.format[:40]!r}")
    if head.service != service:
        raise CodecError(f"it is about another service: {head.service[:128]!r}")
    lines = body.splitlines()
    if len(lines) != head.count or zlib.crc32(body) != head.crc32:
        raise CodecError("it is damaged")
    found = []
    for line in lines[:INSTANCES_MAX]:
        with contextlib.suppress(CodecError):
            found.append(decode_instance(line))
    return tuple(found)


def _read(path: str | Path) -> bytes:
    # Without O_NONBLOCK a pipe in its place would hold the thread for ever.
    number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(number, "rb") as file:
        status = os.fstat(number)
        if not stat.S_ISREG(status.st_mode):
            raise CodecError("it is no plain file")
        if hasattr(os, "geteuid") and status.st_uid not in (os.geteuid(), 0):
            raise CodecError("it belongs to somebody else")
        # A group that holds its owner alone looks like any other: none is trusted.
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise CodecError("others than its owner may write to it")
        text = file.read(SHELF_MAX + 1)
    if len(text) > SHELF_MAX:
        raise CodecError(f"it is over {SHELF_MAX} bytes")
    return text


@final
class Shelf:
    """The file of one service, written and read beside an event loop.

    Args:
        path: Of the file; the folder must be there.
        service: Whose instances.
        log: Where to say what went wrong.
    """

    def __init__(
        self, path: str | Path, service: str, *, log: logging.Logger | None = None
    ) -> None:
        self.path = Path(path)
        self._service = service
        self._log = log or _log
        self._last: tuple[Instance, ...] = ()
        self._waiting: tuple[Instance, ...] | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._is_failing = False
        self.writes = 0

    async def read(self) -> tuple[Instance, ...]:
        """Return what is there; nothing if it can't be used."""
        try:
            found = await asyncio.to_thread(read_shelf, self.path, self._service)
        except FileNotFoundError:
            return ()
        except (OSError, CodecError) as error:
            self._log.warning("%s: not used: %s", self.path, error)
            return ()
        self._last = found
        return found

    def put(self, instances: tuple[Instance, ...]) -> None:
        """Write *instances* soon, unless they are there; an empty list is none worth keeping."""
        if not instances or self._closing.is_set():
            return
        if instances == (self._last if self._waiting is None else self._waiting):
            return
        self._waiting = instances
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._write())

    async def aclose(self) -> None:
        """Write what waits, and end."""
        self._closing.set()
        if self._task is None:
            return
        try:
            await asyncio.wait((self._task,), timeout=_PATIENCE)
        finally:
            self._task.cancel()

    async def _write(self) -> None:
        while self._waiting is not None:
            instances, self._waiting = self._waiting, None
            try:
                await asyncio.to_thread(write_shelf, self.path, self._service, instances)
            except Exception as error:
                if not self._is_failing:
                    self._log.warning("%s: can't be written: %s", self.path, error)
                self._is_failing = True
            else:
                self._is_failing = False
                self._last = instances
                self.writes += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY):
                    await self._closing.wait()
