"""Be one worker: serve on the shared sockets, say when it is ready, drain when told.

This runs in a child of the supervisor, from right after the fork to its end, and never
returns to what the parent was doing.

Rules of the room:
  * whatever happens here ends this process, with a word to the supervisor where there is one;
  * who has lost the supervisor drains, and is gone soon after the grace, come what may.
"""

import asyncio
import atexit
import contextlib
import json
import logging
import os
import shutil
import signal
import sys
import sysconfig
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn, final

from fastrpc.errors import ConfigError, FastRPCError
from fastrpc.server.runner import run_alone, serve_until_told
from fastrpc.server.server import Server
from fastrpc.server.workers.herald import Announcement, Herald
from fastrpc.server.workers.plan import MARGIN
from fastrpc.server.workers.siblings import Siblings
from fastrpc.server.workers.table import Turns, WorkerTable
from fastrpc.transport import Bound

#: How often to look whether those have come in who were accepted before the end was told.
_LOOKS: Final = 25
_LOOK: Final = 0.01  # seconds

#: Seconds between two looks at which modules were imported since.
_MODULES_EVERY: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What all workers of a server have to do.

    Attributes:
        build: Returns what to serve; called in the worker.
        start: Starts a server at targets, as `Server.start` does.
        bound: The sockets of each target.
        grace: Seconds that calls in flight get.
        table: Where all workers are.
        folder: Where their private sockets are.
        secret: What they know and nobody else does.
        tells_files: Whether the supervisor wants to know what was imported.
        announcement: What to tell a registry, if it is to be told anything.
    """

    build: Callable[[], Server]
    start: Callable[..., Awaitable[None]]
    bound: Sequence[Bound]
    grace: float
    table: WorkerTable
    folder: Path
    secret: bytes
    tells_files: bool = False
    announcement: Announcement | None = None

    @property
    def patience(self) -> float:
        """How long the end of a worker may take, in seconds."""
        return self.grace + (self.announcement.patience if self.announcement else 0.0)


@final
class Reports:
    """The way from a worker to the supervisor: a pipe, and a line of JSON for each word.

    Args:
        pipe: Its end to write to.
    """

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._files: set[str] = set()

    def ready(self, targets: Sequence[str]) -> None:
        """Tell that this one serves."""
        self._tell({"ready": list(targets)})

    def failed(self, why: str, *, is_config: bool) -> None:
        """Tell why this one ends."""
        self._tell({"failed": why, "is_config": is_config})

    def files(self, error: BaseException | None = None) -> None:
        """Tell which files of the application were imported since the last time.

        Args:
            error: What ended it: a module that has failed is not among the imported ones.
        """
        fresh = application_files(_blamed(error)) - self._files
        if fresh:
            self._files |= fresh
            self._tell({"files": sorted(fresh)})

    def _tell(self, word: dict[str, Any]) -> None:
        data = json.dumps(word).encode() + b"\n"
        with contextlib.suppress(OSError):  # nobody is there any more: the lifeline knows
            while data:
                data = data[os.write(self._pipe, data) :]


def work(job: Job, seat: int, number: int, *, reports: int, lifeline: int) -> NoReturn:
    """Serve until told to stop, and end the process.

    Args:
        job: What to do.
        seat: Where this worker sits.
        number: Its own.
        reports: A pipe to the supervisor.
        lifeline: A pipe that ends when the supervisor does.
    """
    # What the parent wanted to be done at its end is the parent's.
    atexit._clear()
    told = Reports(reports)
    supervisor = os.getppid()
    code = 1
    ended_by: BaseException | None = None
    try:
        threading.Thread(
            target=_outlive, args=(lifeline, job.patience), name="fastrpc-lifeline", daemon=True
        ).start()
        server = job.build()
        run_alone(lambda: _serve(job, server, seat, number, told))
        code = 0
    except FastRPCError as error:
        told.failed(str(error), is_config=isinstance(error, ConfigError))
    except SystemExit as error:
        told.failed(f"SystemExit: {error.code}", is_config=False)
    except BaseException as error:
        ended_by = error
        traceback.print_exc()
        told.failed(f"{type(error).__name__}: {error}", is_config=False)
    finally:
        if ended_by is not None and job.tells_files:
            told.files(ended_by)
        _leave(job, told, code, is_orphan=os.getppid() != supervisor)


def _leave(job: Job, told: Reports, code: int, *, is_orphan: bool) -> NoReturn:
    try:
        if is_orphan and not any(job.folder.glob("*.sock")):
            shutil.rmtree(job.folder, ignore_errors=True)  # the last one puts out the light
        atexit._run_exitfuncs()
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
    finally:
        os._exit(code)


async def _serve(job: Job, server: Server, seat: int, number: int, told: Reports) -> None:
    entrances = server._entrances
    admission = server.hall.admission
    entrances.inherit(job.bound, Turns(job.table, seat, lambda: len(admission)))
    siblings = Siblings(server, job.table, seat, number, job.folder, job.secret)
    looking: asyncio.Task[None] | None = None
    herald = Herald(server, job.announcement, job.folder, number, job.table)

    async def begin() -> None:
        await job.start(server, *[str(bound.target) for bound in job.bound])
        await herald.open()

    async def leaving() -> None:
        """Leave newcomers to the others, and let those come in who are on the way."""
        await herald.leave()
        entrances.stop_accepting()
        for _ in range(_LOOKS):
            await asyncio.sleep(_LOOK)
            if not (admission.arriving or entrances.arriving):
                return

    def ready() -> None:
        told.ready(server.targets)

    try:
        await siblings.open()
        if job.tells_files:
            looking = asyncio.ensure_future(_tell_files(told))
        await serve_until_told(
            server,
            begin,
            job.grace,
            ready,
            stops=(signal.SIGTERM,),
            leaving=leaving,
        )
    finally:
        if looking is not None:
            looking.cancel()
        await herald.close()
        await siblings.close()


async def _tell_files(told: Reports) -> None:
    while True:
        told.files()
        await asyncio.sleep(_MODULES_EVERY)


def _outlive(lifeline: int, grace: float) -> None:
    """Drain this process when the supervisor is gone, and end it if it will not."""
    with contextlib.suppress(OSError):
        os.read(lifeline, 1)
    logging.getLogger("fastrpc.server.workers").warning("the supervisor is gone: draining")
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(grace + MARGIN)
    os.kill(os.getpid(), signal.SIGKILL)


def _blamed(error: BaseException | None) -> list[str]:
    """Return the files that an error comes from."""
    if error is None:
        return []
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        files.append(error.filename)
    return files


def application_files(more: Iterable[str] = ()) -> set[str]:
    """Return the source files of imported modules, but for installed ones and Python's own.

    Args:
        more: Files that may be of the application, too.
    """
    paths = sysconfig.get_paths()
    installed = tuple(
        os.path.join(paths[name], "") for name in ("stdlib", "platstdlib", "purelib", "platlib")
    )
    own = os.path.join(str(Path(__file__).parents[2]), "")
    found = set()
    imported = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    for file in (*imported, *more):
        if isinstance(file, str) and file.endswith(".py"):
            path = os.path.abspath(file)
            if not path.startswith((*installed, own)):
                found.add(path)
    return found
