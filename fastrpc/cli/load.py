"""Put load on a call and measure what it takes.

Two questions, two ways to ask. *Closed loop*: how many calls per second can be
had with so many in flight? Each of them starts the next when it ends. *Open
loop*: how long do callers wait at a given rate? Calls are due at fixed moments,
and each latency counts from the moment the call was due. If it were counted from
the moment it was sent, a server that stalls would also stall the measuring, and
the waiting would be missing from the result (coordinated omission).

Rules of the room:
  * only successful calls are in the latencies, the others are counted by type;
  * a call still open at the end is waited for, and told if it never ends;
  * what happens per call is as little as can be.
"""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from fastrpc.cli.latency import Histogram, Recorder
from fastrpc.errors import ConfigError

Call = Callable[[], Awaitable[object]]

_clock = time.perf_counter

# How often the run looks at itself, and how often it is shown.
_TICK = 0.01
_SHOW = 0.5
# A failed call costs nothing, so a dead server would be asked a million times a second.
_AFTER_ERROR = 0.01
# Timers of the loops are coarse; the rest of the way to a due moment is polled.
_COARSE = 0.001
# Calls sent late in a row before the replies get their turn.
_BURST = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """How to load; times in seconds.

    Attributes:
        concurrency: Calls in flight; with a rate the most that may be.
        duration: How long to measure.
        warmup: How long to load before measuring.
        rate: Calls per second of an open loop; None for a closed loop.
        grace: How long to wait for calls that are still open at the end.
    """

    concurrency: int = 256
    duration: float = 10.0
    warmup: float = 0.5
    rate: float | None = None
    grace: float = 5.0

    def __post_init__(self) -> None:
        """Refuse a load that is none."""
        if self.concurrency < 1:
            raise ConfigError(f"concurrency must be at least 1, got {self.concurrency}")
        if self.duration <= 0 or self.warmup < 0 or self.grace < 0:
            raise ConfigError("duration must be above 0, warm-up and grace not below 0")
        if self.rate is not None and self.rate <= 0:
            raise ConfigError(f"rate must be above 0, got {self.rate}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How a run stands: what a live line shows."""

    elapsed: float
    calls: int
    calls_per_second: float
    p50: float
    p99: float
    errors: int


Watch = Callable[[Progress], None]


@dataclass(slots=True, kw_only=True)
class LoadResult:
    """What a run found.

    Attributes:
        seconds: Length of the measured window.
        calls_per_second: Successful calls that ended in it, per second.
        latency: Of all successful calls that were sent in it.
        errors: Failed calls by class.
        first_error: The text of the first, for people.
        unfinished: Calls that had not ended when the grace was over.
        unsent: With a rate, calls that were due and could not be sent, because
            `concurrency` calls were in flight already.
    """

    seconds: float
    calls_per_second: float
    latency: Histogram
    errors: Counter[str] = field(default_factory=Counter)
    first_error: str = ""
    unfinished: int = 0
    unsent: int = 0


class Meter:
    """What one run has counted; shared by everything that sends for it."""

    def __init__(self, options: LoadOptions) -> None:
        self.options = options
        self.recorder = Recorder()
        self.errors: Counter[str] = Counter()
        self.first_error = ""
        self.start = 0.0
        self.end = 0.0
        self.last_due = 0.0
        self.in_window = 0
        self.stopped = asyncio.Event()

    def begin(self) -> None:
        """Set the window: it opens when the warm-up is over."""
        self.start = _clock() + self.options.warmup
        self.end = self.start + self.options.duration

    def clear(self) -> None:
        """Open the window: forget the warm-up."""
        self.recorder.clear()
        self.errors.clear()
        self.start = _clock()
        self.end = self.start + self.options.duration

    def close(self) -> None:
        """Close the window now."""
        now = _clock()
        self.last_due = min(self.end, now)
        self.end = now
        self.in_window = len(self.recorder)

    def fail(self, error: BaseException) -> None:
        """Count a call that failed."""
        self.errors[type(error).__name__] += 1
        self.first_error = self.first_error or str(error)

    async def keep_time(self, watch: Watch | None) -> None:
        """Return when the window is over; show it to *watch* meanwhile."""
        await self._stopped_within(self.start - _clock())
        self.clear()
        shown, shown_calls = self.start, 0
        while (now := _clock()) < self.end:
            if await self._stopped_within(min(_TICK, self.end - now)):
                break
            self.recorder.trim()
            if watch is not None and now - shown >= _SHOW:
                calls = len(self.recorder)
                watch(self.progress(now, (calls - shown_calls) / (now - shown)))
                shown, shown_calls = now, calls
        self.close()

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self.stopped.wait()
        except TimeoutError:
            return False
        return True

    def progress(self, now: float, calls_per_second: float) -> Progress:
        """Tell how the run stands; percentiles of the latest calls only."""
        recent = self.recorder.recent()
        return Progress(
            elapsed=now - self.start,
            calls=len(self.recorder),
            calls_per_second=calls_per_second,
            p50=recent.percentile(50),
            p99=recent.percentile(99),
            errors=self.errors.total(),
        )

    def result(self, *, unfinished: int = 0, unsent: int = 0) -> LoadResult:
        """Return what the run found."""
        seconds = self.end - self.start
        return LoadResult(
            seconds=seconds,
            calls_per_second=self.in_window / seconds if seconds > 0 else 0.0,
            latency=self.recorder.histogram(),
            errors=self.errors,
            first_error=self.first_error,
            unfinished=unfinished,
            unsent=unsent,
        )


class Load:
    """One run of load on *call*.

    Args:
        call: Starts the call to be measured.
        options: How to load.
        watch: Is shown the progress twice a second.
    """

    def __init__(self, call: Call, options: LoadOptions, watch: Watch | None = None) -> None:
        self._call = call
        self._options = options
        self._watch = watch
        self._meter = Meter(options)

    def stop(self) -> None:
        """End the run early; what was measured so far is the result."""
        self._meter.stopped.set()

    async def run(self) -> LoadResult:
        """Load until the window is over, and return what was found."""
        if self._options.rate is not None:
            return await _OpenLoop(self._call, self._meter, self._options.rate).run(self._watch)
        return await self._run_closed()

    async def _run_closed(self) -> LoadResult:
        meter = self._meter
        meter.begin()
        workers = [
            asyncio.create_task(_send_in_turn(self._call, meter))
            for _ in range(self._options.concurrency)
        ]
        try:
            await meter.keep_time(self._watch)
            _, late = await asyncio.wait(workers, timeout=self._options.grace)
            return meter.result(unfinished=len(late))
        finally:
            await _end_all(workers)


async def _send_in_turn(call: Call, meter: Meter) -> None:
    record = meter.recorder.record
    start = _clock()
    while start < meter.end:
        try:
            await call()
        except Exception as error:
            meter.fail(error)
            await asyncio.sleep(_AFTER_ERROR)
            start = _clock()
            continue
        now = _clock()
        record(now - start)
        start = now


async def _end_all(tasks: "list[asyncio.Task[None]]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class _OpenLoop:
    """Calls at fixed moments, whether the earlier ones have ended or not."""

    def __init__(self, call: Call, meter: Meter, rate: float) -> None:
        self._call = call
        self._meter = meter
        self._rate = rate
        self._most = meter.options.concurrency
        self._open: set[asyncio.Future[object]] = set()
        self._room = asyncio.Event()
        self._begun = 0.0
        self._sent = 0
        self._coarse = _COARSE if _cores() > 1 else 0.0

    async def run(self, watch: Watch | None) -> LoadResult:
        meter = self._meter
        meter.begin()
        pacer = asyncio.create_task(self._send_when_due())
        try:
            await meter.keep_time(watch)
            await _end_all([pacer])
            due = int((meter.last_due - self._begun) * self._rate)
            if self._open:
                await asyncio.wait(self._open, timeout=meter.options.grace)
            unsent = max(0, due - self._sent)
            return meter.result(unfinished=len(self._open), unsent=unsent)
        finally:
            pacer.cancel()
            for future in self._open:
                future.cancel()

    async def _send_when_due(self) -> None:
        self._begun = _clock()
        while (due := self._begun + self._sent / self._rate) < self._meter.end:
            await self._wait_until(due)
            while len(self._open) >= self._most:
                self._room.clear()
                await self._room.wait()
            self._send(due)
            self._sent += 1
            if self._sent % _BURST == 0:
                await asyncio.sleep(0)

    async def _wait_until(self, due: float) -> None:
        while (left := due - _clock()) > 0:  # noqa: ASYNC110 - a clock, no event
            await asyncio.sleep(max(0.0, left - self._coarse))

    def _send(self, due: float) -> None:
        try:
            future = asyncio.ensure_future(self._call())
        except Exception as error:
            self._meter.fail(error)
            return
        self._open.add(future)
        future.add_done_callback(lambda done: self._ended(done, due))

    def _ended(self, future: "asyncio.Future[object]", due: float) -> None:
        self._open.discard(future)
        self._room.set()
        if future.cancelled():
            return
        error = future.exception()
        if error is None:
            self._meter.recorder.record(_clock() - due)
        else:
            self._meter.fail(error)


def _cores() -> int:
    """Return how many cores this process may use.

    On a single one, polling for a due moment would take the server's time.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
