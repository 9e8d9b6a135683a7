"""Echo of 16 B to 1 MiB, 1 to 1,024 in flight, over each way that fastrpc has.

A round makes a number of calls, the same for every way, in another process; the
pipe to that process takes far less time than they do. Calls per second stand under
"extra_info" of the JSON.
"""

from collections.abc import Callable, Iterator

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.loop.ways import Drive, Way

SIZES = {16: "16 B", 2**10: "1 KiB", 2**16: "64 KiB", 2**20: "1 MiB"}
IN_FLIGHT = (1, 16, 256, 1024)
MOST_AT_ONCE = 16 * 2**20  # bytes in flight: more only measures the memory
ROUNDS = 5

MAIN = Way("compiled", "uvloop", "tcp")
OTHERS = [
    Way("compiled", "uvloop", "unix"),
    Way("compiled", "asyncio", "tcp"),
    Way("compiled", "asyncio", "unix"),
    Way("pure", "uvloop", "tcp"),
    Way("pure", "uvloop", "unix"),
    Way("pure", "asyncio", "tcp"),
    Way("pure", "asyncio", "unix"),
]
BLOCKING = [
    Way(twin, "blocking", scheme) for twin in ("compiled", "pure") for scheme in ("tcp", "unix")
]


def calls_of(size: int, in_flight: int) -> int:
    """Return how many calls a round makes: some 20 ms of work, and each worker's share whole."""
    work = 400 if in_flight == 1 else 4096
    return max(in_flight, 20, work // max(1, size // 2**13)) // in_flight * in_flight


def cases() -> Iterator[tuple[Way, int, int]]:
    """Yield everything on the main way, the corners on the others."""
    for size in SIZES:
        for in_flight in IN_FLIGHT:
            if size * in_flight <= MOST_AT_ONCE:
                yield MAIN, size, in_flight
    for way in OTHERS:
        for size, in_flight in ((16, 1), (16, 256), (2**16, 16), (2**20, 1)):
            yield way, size, in_flight
    for way in BLOCKING:
        for size in SIZES:
            yield way, size, 1


@pytest.mark.parametrize(
    ("way", "size", "in_flight"),
    list(cases()),
    ids=lambda value: str(value),
)
def test_echo(
    benchmark: BenchmarkFixture, drive: Callable[[Way], Drive], way: Way, size: int, in_flight: int
) -> None:
    calls = calls_of(size, in_flight)
    benchmark.group = f"{calls} calls with {SIZES[size]}, {in_flight} in flight"
    make_calls = drive(way)
    took = benchmark.pedantic(
        make_calls, args=(size, in_flight, calls), rounds=ROUNDS, warmup_rounds=1
    )
    assert took > 0
    if benchmark.stats is not None:  # None with --benchmark-disable
        rate = calls / benchmark.stats.stats.median
        benchmark.extra_info |= {"calls": calls, "calls_per_second": rate}
