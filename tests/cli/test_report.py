import io
import random
from array import array
from collections import Counter

import pytest
from rich.console import Console

from fastrpc.cli.latency import Histogram
from fastrpc.cli.load import LoadResult, Progress
from fastrpc.cli.report import (
    bar,
    duration,
    histogram_rows,
    live_line,
    live_text,
    percent,
    show_result,
)


def filled(values: list[float]) -> Histogram:
    histogram = Histogram()
    histogram.add(array("f", values))
    return histogram


def lognormal(count: int = 20_000) -> list[float]:
    rng = random.Random(7)
    return [rng.lognormvariate(-7.5, 0.3) for _ in range(count)]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.00 µs"),
        (2.5e-7, "0.25 µs"),
        (1.234e-6, "1.23 µs"),
        (9.999e-6, "10.0 µs"),
        (5.81e-4, "581 µs"),
        (9.996e-4, "1.00 ms"),
        (1.234e-3, "1.23 ms"),
        (0.01234, "12.3 ms"),
        (0.1234, "123 ms"),
        (0.9999, "1.00 s"),
        (75.04, "75.0 s"),
        (3600, "3600 s"),
    ],
)
def test_durations_have_three_digits_and_a_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 0, "0.00 %"),
        (0, 5, "0.00 %"),
        (1, 1_000_000, "<0.01 %"),
        (1, 300, "0.33 %"),
        (1, 3, "33.3 %"),
        (3, 3, "100.0 %"),
    ],
)
def test_shares(part: int, whole: int, text: str) -> None:
    assert percent(part, whole) == text


def test_bars_grow_and_never_vanish() -> None:
    assert bar(0, 10) == ""
    assert bar(1e-6, 10) == "▏"
    assert bar(0.5, 10) == "█████"
    assert bar(0.55, 10) == "█████▌"
    assert bar(1, 10) == "█" * 10
    assert bar(1e-6, 10, blocks=False) == "#"
    assert bar(0.5, 10, blocks=False) == "#####"


@pytest.mark.parametrize(
    "values",
    [
        lognormal(),
        [0.001],
        [0.001] * 50,
        [0.0],
        [10.0**n for n in range(-7, 4)],
        [*lognormal(), 12.5],
    ],
    ids=["bulk", "one", "same", "zero", "decades", "straggler"],
)
def test_rows_hold_everything_in_order(values: list[float]) -> None:
    rows = histogram_rows(filled(values), max_rows=14)
    assert 1 <= len(rows) <= 14
    assert sum(row.count for row in rows) == len(values)
    assert all(row.low < row.high or row.count for row in rows)
    assert [row.low for row in rows] == sorted(row.low for row in rows)
    # The bucket's middle decides, so the ends may be off by its width.
    assert rows[0].low <= max(min(values), 1e-9) * 1.004
    assert rows[-1].high >= max(values) * 0.996


def test_no_calls_no_rows() -> None:
    assert histogram_rows(Histogram()) == []


def test_a_straggler_does_not_flatten_the_bulk() -> None:
    rows = histogram_rows(filled([*lognormal(), 12.5]))
    assert rows[-1].high == pytest.approx(12.5)
    assert len([row for row in rows if row.count > 200]) >= 5


def shown(result: LoadResult, *, encoding: str = "utf-8") -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace", write_through=True)
    show_result(Console(file=file, width=100, highlight=False, markup=False), result)
    file.seek(0)
    return file.read()


def test_a_result_for_people() -> None:
    text = shown(LoadResult(seconds=2.0, calls_per_second=10_000.4, latency=filled(lognormal())))
    assert "10,000 calls/s   20,000 calls in 2.0 s, 0 failed" in text
    assert "p50" in text
    assert "p99.9" in text
    assert "█" in text
    assert "never ended" not in text


def test_everything_that_went_wrong_is_told() -> None:
    text = shown(
        LoadResult(
            seconds=1.0,
            calls_per_second=1.0,
            latency=filled([0.5]),
            errors=Counter({"Overloaded": 1200, "ConnectionLost": 3}),
            first_error="too much to do",
            unfinished=4,
            unsent=5,
        )
    )
    assert "1,203 failed" in text
    assert "1,200 x Overloaded" in text
    assert "3 x ConnectionLost" in text
    assert "first: too much to do" in text
    assert "4 calls never ended" in text
    assert "5 due calls were not sent" in text


def test_no_calls_no_tables() -> None:
    text = shown(LoadResult(seconds=1.0, calls_per_second=0.0, latency=Histogram()))
    assert "0 calls/s" in text
    assert "p50" not in text


def test_a_screen_without_blocks_gets_hashes() -> None:
    result = LoadResult(seconds=1.0, calls_per_second=1.0, latency=filled(lognormal()))
    assert "####" in shown(result, encoding="ascii")


PROGRESS = Progress(elapsed=2.5, calls=100, calls_per_second=12345.0, p50=1e-4, p99=2e-3, errors=0)


def test_the_live_line() -> None:
    text = live_text(PROGRESS, 10).plain
    assert "2.5/10 s" in text
    assert "12,345 calls/s" in text
    assert "p50   100 µs  p99  2.00 ms" in text
    assert "failed" not in text


def test_the_live_line_shows_on_a_terminal_only_and_goes_away() -> None:
    screen, pipe = io.StringIO(), io.StringIO()
    with live_line(Console(file=pipe), 10) as watch:
        assert watch is None
    with live_line(Console(file=screen, force_terminal=True, width=100), 10) as watch:
        assert watch is not None
        watch(PROGRESS)
    assert pipe.getvalue() == ""
    assert "12,345 calls/s" in screen.getvalue()
    assert screen.getvalue().endswith("\x1b[2K")
