"""Look after workers: fork them, hear of their ends, pass signals on.

The plan decides; this is its hands. No event loop is ever made here, for a child that is
forked from a process with one inherits what it can't use.

Rules of the room:
  * every wait ends by a signal, a word of a worker, or the time that the plan named;
  * only processes that were forked here are waited for or sent signals;
  * whatever happens here, no worker is left behind: their lifeline ends with this process.
"""

import contextlib
import gc
import json
import logging
import math
import os
import select
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final, final

from fastrpc.errors import ConfigError, FastRPCError, TransportError
from fastrpc.server.server import Server
from fastrpc.server.workers.herald import Announcement
from fastrpc.server.workers.ledger import Ledger
from fastrpc.server.workers.plan import Cause, Ending, Order, OrderKind, Phase, Plan, WorkerState
from fastrpc.server.workers.sources import Sources
from fastrpc.server.workers.table import SeatState, WorkerTable
from fastrpc.server.workers.worker import Job, work
from fastrpc.transport import Bound, bind_shared

_log: Final = logging.getLogger("fastrpc.server.workers")

_HANDLED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_LOOK_EVERY: Final = 1.0  # at source files
_MOST_TOLD: Final = 4 * 2**20  # bytes of one line of a worker's
_LONGEST_FOLDER: Final = 80  # a socket's path has 107 bytes on Linux, 103 on macOS


def supervise(
    build: Callable[[], Server],
    targets: Sequence[str],
    *,
    workers: int,
    grace: float,
    start: Callable[..., Awaitable[None]],
    ready: Callable[[list[str]], object] | None = None,
    backlog: int = 1024,
    reloads: bool = False,
    announcement: Announcement | None = None,
) -> None:
    """Serve with several processes until SIGTERM or SIGINT; SIGHUP replaces them.

    Args:
        build: Returns what to serve; called in each worker, after the fork.
        targets: Where to listen.
        workers: How many processes.
        grace: Seconds that calls in flight get.
        start: Starts a server at targets, as `Server.start` does.
        ready: Called once with the real addresses, when the workers serve.
        backlog: Connections the kernel holds until they are accepted.
        reloads: Replace the workers, too, when source files of theirs change.
        announcement: What to tell a registry, if it is to be told anything.

    Raises:
        TransportError: An address can't be had, or no worker could be started.
        ConfigError: What is to be served can't be, or there can be no workers here.
    """
    longest = grace + (announcement.patience if announcement is not None else 0.0)
    plan = Plan(workers, longest, is_patient=reloads)
    if not hasattr(os, "fork"):
        raise ConfigError("workers need os.fork, which this system does not have")
    if threading.current_thread() is not threading.main_thread():
        raise ConfigError("workers can only be started from the main thread")
    bound: list[Bound] = []
    try:
        bound.extend(bind_shared(target, backlog=backlog) for target in targets)
        with _Supervisor(
            plan, build, start, bound, grace, ready, reloads=reloads, announcement=announcement
        ) as supervisor:
            supervisor.run()
    finally:
        for each in bound:
            each.close()


class _Child:
    """One worker's process, as the supervisor knows it."""

    __slots__ = ("buffer", "failure", "is_config", "number", "pid", "pipe")

    def __init__(self, pid: int, number: int, pipe: int) -> None:
        self.pid = pid
        self.number = number
        self.pipe = pipe
        self.buffer = b""
        self.failure = ""
        self.is_config = False


@final
class _Supervisor:
    def __init__(
        self,
        plan: Plan,
        build: Callable[[], Server],
        start: Callable[..., Awaitable[None]],
        bound: list[Bound],
        grace: float,
        ready: Callable[[list[str]], object] | None,
        *,
        reloads: bool,
        announcement: Announcement | None = None,
    ) -> None:
        self._plan = plan
        self._bound = bound
        self._ready = ready
        self._targets: list[str] = []
        self._children: dict[int, _Child] = {}
        self._numbers = 0
        self._restarts = 0
        self._failure: FastRPCError | None = None
        self._sources = Sources() if reloads else None
        self._look_at = math.inf
        self._was_reloading = False
        self._folder = _private_folder()
        self._ledger = Ledger(self._folder)
        now = time.monotonic()
        self._table = WorkerTable(plan.seats, len(plan.places), now)
        self._job = Job(
            build=build,
            start=start,
            bound=bound,
            grace=grace,
            table=self._table,
            folder=self._folder,
            secret=os.urandom(32),
            tells_files=reloads,
            announcement=announcement,
        )

    # The process around it

    def __enter__(self) -> "_Supervisor":
        self._wake, self._wake_end = os.pipe()
        self._lifeline, self._lifeline_end = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._wake_end, False)
        self._before = {number: signal.signal(number, _noted) for number in _HANDLED}
        self._wakeup_before = signal.set_wakeup_fd(self._wake_end, warn_on_full_buffer=False)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._end_all()
        finally:
            signal.set_wakeup_fd(self._wakeup_before)
            for number, handler in self._before.items():
                signal.signal(number, handler)
            for pipe in (self._wake, self._wake_end, self._lifeline, self._lifeline_end):
                os.close(pipe)
            self._table.close()
            shutil.rmtree(self._folder, ignore_errors=True)

    def run(self) -> None:
        """Keep the workers until a signal says stop, or none could be started."""
        plan = self._plan
        if self._sources is not None:
            self._look_at = time.monotonic() + _LOOK_EVERY
        self._obey(plan.begin(time.monotonic()))
        self._loop()
        if plan.has_failed:
            raise self._failure or TransportError("no worker could be started")

    def _loop(self) -> None:
        plan = self._plan
        while plan.phase is not Phase.ENDED:
            for number in self._wait():
                self._on_signal(number)
            self._reap()
            self._look()
            self._obey(plan.tick(time.monotonic()))
            self._tell_reload()
            self._tell_ready()

    def _end_all(self) -> None:
        """See that no worker is left, at once; there is none if all went well."""
        for _ in range(2):  # the second says: at once
            if self._plan.phase is not Phase.IDLE:
                self._obey(self._plan.stop(time.monotonic()))
        try:
            if self._children:
                self._loop()
        finally:
            for child in self._children.values():  # the loop itself has failed
                with contextlib.suppress(OSError):
                    os.kill(child.pid, signal.SIGKILL)
                    os.waitpid(child.pid, 0)

    # What happens

    def _wait(self) -> bytes:
        """Wait until something happens; return the numbers of signals that came."""
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        by_pipe = {child.pipe: seat for seat, child in self._children.items() if child.pipe >= 0}
        for pipe in by_pipe:
            poll.register(pipe, select.POLLIN)
        until = min(self._plan.next_at(), self._look_at)
        wait = max(until - time.monotonic(), 0.0) if until != math.inf else None
        events = poll.poll(None if wait is None else math.ceil(wait * 1000))
        signals = b""
        for pipe, _ in events:
            if pipe == self._wake:
                with contextlib.suppress(BlockingIOError):
                    signals = os.read(self._wake, 4096)
            else:
                self._hear(by_pipe[pipe])
        return signals

    def _on_signal(self, number: int) -> None:
        now = time.monotonic()
        if number in (signal.SIGTERM, signal.SIGINT):
            self._table.set_ending()
            self._stop_listening()
            self._obey(self._plan.stop(now))
        elif number == signal.SIGHUP:
            self._reload("SIGHUP")

    def _reload(self, why: str) -> None:
        _log.info("%s: replacing the workers, one after the other", why)
        self._was_reloading = True
        self._obey(self._plan.reload(time.monotonic()))

    def _tell_reload(self) -> None:
        if self._was_reloading and not self._plan.is_reloading:
            self._was_reloading = False
            if self._plan.phase is Phase.RUNNING:
                _log.info("reload: done")

    def _look(self) -> None:
        """Look whether source files have changed."""
        if self._sources is None or time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + _LOOK_EVERY
        if self._plan.phase is Phase.RUNNING and (changed := self._sources.changed()):
            self._reload("changed: " + ", ".join(map(_shown, changed)))

    def _stop_listening(self) -> None:
        """Let nobody connect who would find nobody there."""
        for bound in self._bound:
            bound.close()

    # Orders

    def _obey(self, orders: list[Order]) -> None:
        for order in orders:
            if order.kind is OrderKind.START:
                self._start(order.seat, order.cause)
            elif order.seat in self._children:
                self._command(order)

    def _command(self, order: Order) -> None:
        child = self._children[order.seat]
        if order.kind is OrderKind.KILL:
            worker = self._plan.worker(order.seat)
            place = worker.place if worker is not None else 0
            _log.warning("worker %d (pid %d) takes too long: killed", place, child.pid)
            os.kill(child.pid, signal.SIGKILL)
            return
        self._table.set_state(order.seat, SeatState.DRAINING)
        os.kill(child.pid, signal.SIGTERM)  # nobody else reaps it, so the pid is still its own

    def _start(self, seat: int, cause: Cause) -> None:
        worker = self._plan.worker(seat)
        assert worker is not None
        if worker.state is not WorkerState.STARTING:  # another could not be, so all was given up
            self._gone(seat, "not started")
            return
        place = self._plan.places[worker.place]
        self._numbers += 1
        self._table.enter(seat, place=worker.place, number=self._numbers, restarts=place.restarts)
        try:
            child = self._fork(seat)
        except OSError as error:
            self._gone(seat, f"can't be forked: {error}")
            return
        self._children[seat] = child
        self._table.set_pid(seat, child.pid)
        _log.info("worker %d: started (%s), pid %d", worker.place, cause.value, child.pid)

    def _fork(self, seat: int) -> _Child:
        number = self._numbers
        pipe, pipe_end = os.pipe()
        # A signal that came between the fork and the child's own handlers would be lost.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
        try:
            pid = os.fork()
        except OSError:
            os.close(pipe)
            os.close(pipe_end)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            raise
        if not pid:
            try:
                os.close(pipe)
                self._become_child(mask)
                work(self._job, seat, number, reports=pipe_end, lifeline=self._lifeline)
            finally:
                os._exit(70)  # not reached, unless that itself has failed
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(pipe_end)
        os.set_blocking(pipe, False)
        return _Child(pid, number, pipe)

    def _become_child(self, mask: set[signal.Signals | int]) -> None:
        """Let go of what is the supervisor's."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # until it serves there is nothing to drain
        # A terminal sends these to all; the supervisor alone decides what follows.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for pipe in (self._wake, self._wake_end, self._lifeline_end):
            os.close(pipe)
        for child in self._children.values():
            if child.pipe >= 0:
                os.close(child.pipe)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        gc.freeze()  # what is shared stays shared: the collector does not write to it

    # What workers say, and how they end

    def _hear(self, seat: int) -> None:
        child = self._children[seat]
        while child.pipe >= 0:
            try:
                data = os.read(child.pipe, 65536)
            except BlockingIOError:
                return
            child.buffer += data
            *lines, child.buffer = child.buffer.split(b"\n")
            for line in lines:
                self._take(seat, child, json.loads(line))
            if not data or len(child.buffer) > _MOST_TOLD:
                os.close(child.pipe)
                child.pipe = -1

    def _take(self, seat: int, child: _Child, word: dict[str, Any]) -> None:
        if "ready" in word:
            self._serves(seat, child, word["ready"])
        elif "failed" in word:
            child.failure, child.is_config = word["failed"], word["is_config"]
        elif "files" in word and self._sources is not None:
            self._sources.watch(word["files"])

    def _serves(self, seat: int, child: _Child, targets: list[str]) -> None:
        worker = self._plan.worker(seat)
        if worker is None or worker.state is not WorkerState.STARTING:
            return
        self._table.set_state(seat, SeatState.SERVING)
        _log.info("worker %d: serving, pid %d", worker.place, child.pid)
        self._obey(self._plan.ready(seat, time.monotonic()))
        self._targets = targets

    def _tell_ready(self) -> None:
        """Say once that it is served, when no worker of the first ones is still to come.

        Those who connect then are spread over all.
        """
        if self._ready is None or not self._targets:
            return
        states = {worker.state for worker in self._plan.workers}
        if WorkerState.SERVING in states and WorkerState.STARTING not in states:
            ready, self._ready = self._ready, None
            ready(self._targets)

    def _reap(self) -> None:
        for seat, child in list(self._children.items()):
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                self._hear(seat)  # its last words
                self._gone(seat, child.failure or _how(os.waitstatus_to_exitcode(status)))

    def _gone(self, seat: int, how: str) -> None:
        child = self._children.pop(seat, None)
        worker = self._plan.worker(seat)
        assert worker is not None
        is_config = False
        if child is not None:
            is_config = child.is_config
            if child.pipe >= 0:
                os.close(child.pipe)
            with contextlib.suppress(OSError):
                (self._folder / f"{seat}.sock").unlink(missing_ok=True)
            self._ledger.add_gone(seat, child.number)
        now = time.monotonic()
        ending, orders = self._plan.ended(seat, now, is_hopeless=is_config)
        place = self._plan.places[worker.place]
        if ending in (Ending.CRASHED, Ending.NEVER_READY, Ending.GAVE_UP):
            self._restarts += 1
            self._table.set_restarts(self._restarts)
        pid = f"pid {child.pid}" if child is not None else "no process"
        text = _ENDINGS[ending]
        if ending in (Ending.CRASHED, Ending.NEVER_READY):
            wait = place.retry_at - now
            again = f"restarted in {wait:.1f} s" if wait != math.inf else "waiting for a change"
            _log.warning("worker %d (%s) %s: %s; %s", worker.place, pid, text, how, again)
        elif ending is Ending.GAVE_UP:
            kind = ConfigError if is_config else TransportError
            self._failure = kind(how if is_config else f"no worker could be started: {how}")
            self._stop_listening()
        elif ending is Ending.RELOAD_FAILED:
            _log.error("worker %d (%s) %s: %s", worker.place, pid, text, how)
            self._was_reloading = self._plan.is_reloading
        else:
            _log.info("worker %d (%s) %s: %s", worker.place, pid, text, how)
        # Only now: until its figures are with those of the gone, its seat is taken.
        self._table.set_state(seat, SeatState.FREE)
        self._obey(orders)


_ENDINGS: Final = {
    Ending.AS_TOLD: "has left",
    Ending.CRASHED: "ended by itself",
    Ending.NEVER_READY: "ended before it was ready",
    Ending.RELOAD_FAILED: "ended before it was ready, so the old workers go on serving",
    Ending.GAVE_UP: "could not be started",
}


def _noted(number: int, frame: FrameType | None) -> None:
    """Do nothing: the number is in the pipe, and the wait is over."""


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def _shown(file: str) -> str:
    with contextlib.suppress(ValueError, OSError):
        return str(Path(file).relative_to(Path.cwd()))
    return file


def _private_folder() -> Path:
    folder = tempfile.mkdtemp(prefix="fastrpc-")  # 0700, whatever the umask
    if len(os.fsencode(folder)) > _LONGEST_FOLDER:
        os.rmdir(folder)
        folder = tempfile.mkdtemp(prefix="fastrpc-", dir="/tmp")
    return Path(folder)
