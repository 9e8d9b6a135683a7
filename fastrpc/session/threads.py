"""Run blocking handlers in threads that never keep the process alive.

The executors of `concurrent.futures` are joined when the interpreter ends, so a
handler that never returns would keep a server from stopping. These threads are
daemons: what still runs when the process ends is cut off.

Rules of the room:
  * used from the loop's thread only, but for the work itself;
  * a thread is started when all others are busy, up to the limit, and then kept.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, final

Outcome = tuple[Any, BaseException | None]
_Job = tuple["asyncio.Future[Outcome]", Callable[[], Outcome]]


@final
class Threads:
    """A bounded set of daemon threads.

    Args:
        loop: Where results are told.
        most: Most threads.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, most: int) -> None:
        self._loop = loop
        self._most = most
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._started = 0
        self._unfinished = 0

    def run(self, work: Callable[[], Outcome]) -> "asyncio.Future[Outcome]":
        """Run *work*, which must not raise, and return a future of what it returns."""
        done: asyncio.Future[Outcome] = self._loop.create_future()
        self._unfinished += 1
        self._jobs.put((done, work))
        if self._started < min(self._unfinished, self._most):
            self._started += 1
            name = f"fastrpc-handler-{self._started}"
            threading.Thread(target=self._serve, name=name, daemon=True).start()
        return done

    def close(self) -> None:
        """Forget what was not begun, and let each thread end after what it does."""
        with contextlib.suppress(Empty):
            while (job := self._jobs.get_nowait()) is not None:
                job[0].cancel()
        for _ in range(self._started):
            self._jobs.put(None)
        self._started = self._most  # no more are started

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            done, work = job
            outcome = work()
            # The loop may be gone by now; then nobody waits any more.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._finish, done, outcome)
            del job, done, work, outcome  # an idle thread holds nothing of its last call

    def _finish(self, done: "asyncio.Future[Outcome]", outcome: Outcome) -> None:
        self._unfinished -= 1
        if not done.done():
            done.set_result(outcome)
