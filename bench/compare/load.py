"""Put load on a peer and say how fast it was.

One loop for everybody, so that no peer is flattered by a better driver. There
is a form for coroutines, one for blocking callers in threads and one for
greenlets; all three count whole calls, decoded reply included.

Each measurement is: warm up, count calls for a while without looking at the
clock more than needed, then time single calls for a shorter while. The two are
apart because taking the time of every call would slow a fast peer more than a
slow one.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.values import BLOB, SMALL

WARM_UP = 0.25  # share of the counted time
TIMED = 0.25


@dataclass(frozen=True, slots=True)
class Load:
    """One line of the result tables.

    Attributes:
        row: What the line is called; the peer's name if empty.
        in_flight: Calls kept open at once.
        call: Which of the peer's calls, for peers that have several.
        size: Bytes of payload, if the payload is plain bytes.
    """

    in_flight: int
    row: str = ""
    call: str = "echo"
    size: int = 0

    @property
    def payload(self) -> Any:
        """What is sent, and must come back equal, unless the peer needs another form of it."""
        return BLOB if self.size else SMALL


@dataclass(frozen=True, slots=True)
class Figures:
    """What one measurement gave.

    Attributes:
        rate: Calls per second.
        p50: Microseconds within which half of the timed calls ended.
        p99: The same for 99 of 100.
        p999: The same for 999 of 1,000.
        cpu: Microseconds of processor time per call, client and server; None if unknown.
    """

    rate: float
    p50: float | None = None
    p99: float | None = None
    p999: float | None = None
    cpu: float | None = None


@dataclass(slots=True)
class Tally:
    """Calls counted, seconds taken, and how long single calls took."""

    calls: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    times: list[float] = field(default_factory=list)

    def figures(self) -> Figures:
        """Work out rates and percentiles."""
        self.times.sort()
        p50, p99, p999 = (
            percentile(self.times, share) * 1e6 if self.times else None
            for share in (0.5, 0.99, 0.999)
        )
        cpu = self.cpu / self.calls * 1e6 if self.cpu and self.calls else None
        return Figures(self.calls / self.seconds, p50, p99, p999, cpu)


class Clock:
    """Read the processor time that both ends have used.

    Args:
        server: Process number of the server, 0 if its time can't be known.
    """

    def __init__(self, server: int = 0) -> None:
        # Linux makes the clock id of another process from its number; the time
        # read so is exact, unlike the 10 ms ticks of /proc/PID/stat.
        self._server = (~server << 3) | 2 if server else 0

    def cpu(self) -> float:
        """Return seconds of processor time so far, 0.0 if they can't be read."""
        if not self._server:
            return 0.0
        try:
            return time.process_time() + time.clock_gettime(self._server)
        except OSError:
            return 0.0


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the value within which *share* of *ordered* lies, of which there is one at least."""
    return ordered[min(len(ordered) - 1, math.ceil(len(ordered) * share) - 1)]


def as_row(load: Load, figures: Figures) -> dict[str, Any]:
    """Return one result as plain data."""
    return {"row": load.row, "in_flight": load.in_flight, "size": load.size, **asdict(figures)}


async def load_async(
    call: Callable[[Any], Awaitable[Any]],
    payload: Any,
    in_flight: int,
    seconds: float,
    clock: Clock,
) -> Figures:
    """Keep *in_flight* calls open in as many tasks and count them."""
    now = time.perf_counter
    tally = Tally()

    async def repeat(end: float) -> int:
        calls = 0
        while now() < end:
            await call(payload)
            calls += 1
        return calls

    async def timed(end: float) -> None:
        keep = tally.times.append
        while (start := now()) < end:
            await call(payload)
            keep(now() - start)

    async def together(job: Callable[[float], Awaitable[Any]], length: float) -> list[Any]:
        end = now() + length
        return await asyncio.gather(*[job(end) for _ in range(in_flight)])

    await together(repeat, seconds * WARM_UP)
    start, used = now(), clock.cpu()
    tally.calls = sum(await together(repeat, seconds))
    tally.seconds, tally.cpu = now() - start, clock.cpu() - used
    await together(timed, seconds * TIMED)
    return tally.figures()


def load_blocking(
    calls: Sequence[Callable[[Any], Any]],
    payload: Any,
    seconds: float,
    clock: Clock,
    together: Callable[[Sequence[Callable[[], None]]], None],
) -> Figures:
    """Run each of *calls* in a worker of its own and count them.

    Args:
        calls: One caller for each worker.
        payload: What to send.
        seconds: How long to count.
        clock: Tells the processor time.
        together: Runs jobs side by side and waits for all of them.
    """
    now = time.perf_counter
    counts, times = [0] * len(calls), [list[float]() for _ in calls]

    def repeat(index: int, end: float) -> None:
        call, done = calls[index], 0
        while now() < end:
            call(payload)
            done += 1
        counts[index] = done

    def timed(index: int, end: float) -> None:
        call, keep = calls[index], times[index].append
        while (start := now()) < end:
            call(payload)
            keep(now() - start)

    def run(job: Callable[[int, float], None], length: float) -> None:
        end = now() + length
        together([lambda i=i: job(i, end) for i in range(len(calls))])  # type: ignore[misc]

    run(repeat, seconds * WARM_UP)
    start, used = now(), clock.cpu()
    run(repeat, seconds)
    tally = Tally(sum(counts), now() - start, clock.cpu() - used)
    run(timed, seconds * TIMED)
    tally.times = [one for many in times for one in many]
    return tally.figures()
