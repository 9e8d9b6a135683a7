"""The table of open calls: enter one, take it out, look for late ones."""

from types import SimpleNamespace

import pytest
from pytest_benchmark.fixture import BenchmarkFixture


class Waiter:
    """Stands in for a future."""

    def done(self) -> bool:
        """Nobody has given up."""
        return False


@pytest.mark.parametrize("open_calls", [0, 255])
def test_open_and_take(benchmark: BenchmarkFixture, twin: SimpleNamespace, open_calls: int) -> None:
    benchmark.group = f"enter a call and take it out, {open_calls} others open"
    table, waiter = twin.CallTable(), Waiter()
    for _ in range(open_calls):
        table.open(waiter)

    def enter_and_take() -> object:
        return table.take(table.open(waiter))

    assert benchmark(enter_and_take)


def test_oldest_first(benchmark: BenchmarkFixture, twin: SimpleNamespace) -> None:
    benchmark.group = "enter 256 calls, then take them out in their order"
    table, waiter = twin.CallTable(), Waiter()

    def fill_and_drain() -> int:
        for id in [table.open(waiter) for _ in range(256)]:
            table.take(id)
        return len(table)

    assert benchmark(fill_and_drain) == 0


def test_nothing_late(benchmark: BenchmarkFixture, twin: SimpleNamespace) -> None:
    benchmark.group = "look for late calls among 1,024, none late"
    table, waiter = twin.CallTable(), Waiter()
    for _ in range(1024):
        table.open(waiter, None, "Arith.add", 0.0, 30.0)
    assert benchmark(table.expire, 1.0) == []
