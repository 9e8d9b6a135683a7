"""Whole calls through two lanes joined by memory: all of fastrpc's work, no socket."""

import asyncio
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.pair import Pair
from bench.values import BLOB, SMALL, Small

VALUES: dict[str, Any] = {"a dataclass": Small(**SMALL), "1 MiB of bytes": BLOB}
WHATS = ["a dict", "a coroutine", "a deadline", *VALUES]


def call_of(pair: Pair, what: str) -> Callable[[], Any]:
    """Return what starts one call of that kind."""
    value = VALUES.get(what, SMALL)
    if what == "a dataclass":
        return partial(pair.typed(pair.caller()), value)
    caller = pair.caller(timeout=30.0 if what == "a deadline" else 0.0)
    return partial(caller.call, "Echo.later" if what == "a coroutine" else "Echo.echo", value)


@pytest.mark.parametrize("in_flight", [1, 64])
@pytest.mark.parametrize("what", WHATS)
def test_calls(
    benchmark: BenchmarkFixture, twin: SimpleNamespace, what: str, in_flight: int
) -> None:
    if what == "1 MiB of bytes":
        in_flight = min(in_flight, 4)
    benchmark.group = f"call with {what}, {in_flight} in flight"

    async def main() -> Any:
        pair = Pair(twin)
        return benchmark(pair.calls, call_of(pair, what), in_flight)

    assert asyncio.run(main()) == VALUES.get(what, SMALL)
