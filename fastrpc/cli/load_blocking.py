"""Put load on the blocking client: one thread and one connection per caller.

The same two loops as in `load`, with threads in place of tasks. Threads of one
process share the interpreter, so this says what a blocking program gets, not
what a server can do.

Rules of the room:
  * a recorder belongs to one thread; only `len` of it is read by others.
"""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager

from fastrpc.cli.latency import Histogram, Recorder
from fastrpc.cli.load import LoadOptions, LoadResult, Progress, Watch

Connect = Callable[[], AbstractContextManager[Callable[[], object]]]

_clock = time.perf_counter

_SHOW = 0.5
_AFTER_ERROR = 0.01
_TRIM_EVERY = 2**16


class _Caller:
    """One thread's calls and what became of them."""

    def __init__(self) -> None:
        self.recorder = Recorder()
        self.errors: Counter[str] = Counter()
        self.first_error = ""
        self.broken: BaseException | None = None


class ThreadLoad:
    """One run of load through blocking calls.

    Args:
        connect: Opens a connection and gives the call to be measured.
        options: How to load; `concurrency` is the number of threads.
        watch: Is shown the progress twice a second.
    """

    def __init__(self, connect: Connect, options: LoadOptions, watch: Watch | None = None) -> None:
        self._connect = connect
        self._options = options
        self._watch = watch
        self._stop = threading.Event()
        self._tickets = itertools.count()
        self._opened = 0.0
        self._end = 0.0

    def stop(self) -> None:
        """End the run early; what was measured so far is the result."""
        self._stop.set()

    def run(self) -> LoadResult:
        """Load until the window is over, and return what was found."""
        options = self._options
        callers = [_Caller() for _ in range(options.concurrency)]
        ready = threading.Barrier(len(callers) + 1, self._set_window)
        threads = [
            threading.Thread(target=self._work, args=(caller, ready), daemon=True)
            for caller in callers
        ]
        for thread in threads:
            thread.start()
        try:
            ready.wait()
            self._keep_time(callers)
        except threading.BrokenBarrierError:
            pass  # a caller has no connection; it says why
        finally:
            self._stop.set()
            in_window = sum(len(caller.recorder) for caller in callers)
            end = min(_clock(), self._end)
            late = _join(threads, options.grace)
        for caller in callers:
            if caller.broken is not None:
                raise caller.broken
        return self._result(callers, in_window, max(0.0, end - self._opened), late)

    def _set_window(self) -> None:
        self._opened = _clock() + self._options.warmup
        self._end = self._opened + self._options.duration

    def _keep_time(self, callers: list[_Caller]) -> None:
        shown, shown_calls = self._opened, 0
        while (now := _clock()) < self._end:
            if self._stop.wait(min(_SHOW, self._end - now)):
                return
            now = _clock()
            if self._watch is None or now < self._opened + _SHOW:
                continue
            calls = sum(len(caller.recorder) for caller in callers)
            recent = callers[0].recorder.recent()
            self._watch(
                Progress(
                    elapsed=now - self._opened,
                    calls=calls,
                    calls_per_second=(calls - shown_calls) / (now - shown),
                    p50=recent.percentile(50),
                    p99=recent.percentile(99),
                    errors=sum(caller.errors.total() for caller in callers),
                )
            )
            shown, shown_calls = now, calls

    def _work(self, caller: _Caller, ready: threading.Barrier) -> None:
        try:
            with self._connect() as call:
                ready.wait()
                self._send_in_turn(call, caller)
        except threading.BrokenBarrierError:
            return
        except BaseException as error:
            caller.broken = error
            self._stop.set()
            ready.abort()

    def _send_in_turn(self, call: Callable[[], object], caller: _Caller) -> None:
        record, opened, rate = caller.recorder.record, self._opened, self._options.rate
        begun = opened - self._options.warmup
        start = _clock()
        while start < self._end and not self._stop.is_set():
            if rate is not None:
                start = begun + next(self._tickets) / rate
                if (left := start - _clock()) > 0 and self._stop.wait(left):
                    return
            try:
                call()
            except Exception as error:
                caller.errors[type(error).__name__] += 1
                caller.first_error = caller.first_error or str(error)
                self._stop.wait(_AFTER_ERROR)
                start = _clock()
                continue
            now = _clock()
            if start >= opened:
                record(now - start)
                if len(caller.recorder) % _TRIM_EVERY == 0:
                    caller.recorder.trim()
            start = now

    def _result(
        self, callers: list[_Caller], in_window: int, seconds: float, late: int
    ) -> LoadResult:
        latency = Histogram()
        errors: Counter[str] = Counter()
        for caller in callers:
            latency.merge(caller.recorder.histogram())
            errors.update(caller.errors)
        due = int((seconds + self._options.warmup) * (self._options.rate or 0.0))
        return LoadResult(
            seconds=seconds,
            calls_per_second=in_window / seconds if seconds > 0 else 0.0,
            latency=latency,
            errors=errors,
            first_error=next((c.first_error for c in callers if c.first_error), ""),
            unfinished=late,
            unsent=max(0, due - next(self._tickets)) if self._options.rate else 0,
        )


def _join(threads: list[threading.Thread], grace: float) -> int:
    """Wait up to *grace* for *threads*, and return how many are still at work."""
    until = _clock() + grace
    for thread in threads:
        thread.join(max(0.0, until - _clock()))
    return sum(thread.is_alive() for thread in threads)
