"""Items of a stream through two lanes joined by memory: pump, credit, frames, reader; no socket."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.pair import Flow, Pair
from bench.values import SMALL

VALUES: dict[str, Any] = {"an int": 7, "a dict": SMALL}
IN_A_TURN = 64


@pytest.mark.parametrize("what", VALUES)
def test_items(benchmark: BenchmarkFixture, twin: SimpleNamespace, what: str) -> None:
    benchmark.group = f"{IN_A_TURN} items of a stream, each {what}"

    async def main() -> Any:
        return benchmark(Flow(Pair(twin), twin).items, VALUES[what], IN_A_TURN)

    assert asyncio.run(main()) == VALUES[what]
