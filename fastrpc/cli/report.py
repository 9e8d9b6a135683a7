"""Show latencies to people: durations, percentiles, a histogram, a live line.

Rules of the room:
  * pure functions give rows and texts; only the last ones know rich;
  * three digits are enough, and the unit stands with every number.
"""

import bisect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fastrpc.cli.latency import Histogram
from fastrpc.cli.load import LoadResult, Progress, Watch
from fastrpc.cli.screen import has_blocks

PERCENTILES = (50.0, 90.0, 99.0, 99.9)

_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
_E24: tuple[float, ...] = (1.0, 1.1, 1.2, 1.3, 1.5, 1.6, 1.8, 2.0, 2.2, 2.4, 2.7, 3.0)
_E24 += (3.3, 3.6, 3.9, 4.3, 4.7, 5.1, 5.6, 6.2, 6.8, 7.5, 8.2, 9.1)
# Steps per decade, evenly spaced by ratio, from fine to coarse; the first that needs
# few enough rows is used.
_STEPS = (
    _E24,
    (1.0, 1.2, 1.5, 1.8, 2.2, 2.7, 3.3, 3.9, 4.7, 5.6, 6.8, 8.2),
    (1.0, 1.5, 2.2, 3.3, 4.7, 6.8),
    (1.0, 2.0, 5.0),
    (1.0,),
)
_EIGHTHS = " ▏▎▍▌▋▊▉"
_MAX_ROWS = 14
_BAR = 40
_INDENT = (0, 0, 0, 2)


@dataclass(frozen=True, slots=True)
class Row:
    """One bar of a histogram: *count* durations from *low* up to *high*."""

    low: float
    high: float
    count: int


def duration(seconds: float) -> str:
    """Return *seconds* with three digits and the unit that fits."""
    fitting = ((size, unit) for size, unit in _UNITS if seconds >= size * 0.9995)
    size, unit = next(fitting, _UNITS[-1])
    value = seconds / size
    digits = 0 if value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:.{digits}f} {unit}"


def _edge(seconds: float) -> str:
    """Return a bound of a row without digits that say nothing."""
    text, _, unit = duration(seconds).partition(" ")
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} {unit}"


def rate(per_second: float) -> str:
    """Return a rate with no more digits than it is good for."""
    return f"{per_second:,.0f}" if per_second >= 100 else f"{per_second:.3g}"


def percent(part: int, whole: int) -> str:
    """Return *part* of *whole* in percent, never rounded to nothing."""
    share = 100 * part / whole if whole else 0.0
    if part and share < 0.01:
        return "<0.01 %"
    return f"{share:.2f} %" if share < 10 else f"{share:.1f} %"


def histogram_rows(histogram: Histogram, max_rows: int = _MAX_ROWS) -> list[Row]:
    """Return the rows to draw: log-spaced, at most *max_rows*.

    The bulk, without the fastest and the slowest thousandth, gets steps as fine
    as fit. Those become one row on either side, so that a straggler doesn't
    flatten the picture.
    """
    if not histogram.count:
        return []
    low, high = (max(histogram.percentile(p), 1e-9) for p in (0.1, 99.9))
    edges = _edges(low, high, max_rows - 2)
    counts = [0] * (len(edges) + 1)
    for middle, count in histogram.buckets():
        counts[bisect.bisect_right(edges, middle)] += count
    bounds = [min(histogram.min, edges[0]), *edges, max(histogram.max, edges[-1])]
    rows = [Row(*row) for row in zip(bounds, bounds[1:], counts, strict=False)]
    return rows[0 if counts[0] else 1 : None if counts[-1] else -1]


def _edges(low: float, high: float, most: int) -> list[float]:
    """Return rising bounds around *low* to *high*, at most *most* intervals."""
    edges: list[float] = []
    for steps in _STEPS:
        edges = [edge for edge in _scale(steps) if edge > low / 10]
        first = max(i for i, edge in enumerate(edges) if edge <= low)
        last = next(i for i, edge in enumerate(edges) if edge > high)
        edges = edges[first : last + 1]
        if len(edges) - 1 <= most:
            break
    return edges


def _scale(steps: Sequence[float]) -> Iterator[float]:
    for decade in range(-10, 8):
        for step in steps:
            yield step * 10.0**decade


def bar(share: float, width: int, *, blocks: bool = True) -> str:
    """Return a bar of *share* (0 to 1) of *width*; never empty if share isn't 0."""
    if share <= 0:
        return ""
    if not blocks:
        return "#" * max(1, round(share * width))
    eighths = max(1, round(share * width * 8))
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def percentile_table(latency: Histogram) -> Table:
    """Return a table of one line: the percentiles, the largest and the mean."""
    table = Table.grid(padding=(0, 3))
    heads = [f"p{p:g}" for p in PERCENTILES] + ["max", "mean"]
    values = [latency.percentile(p) for p in PERCENTILES] + [latency.max, latency.mean]
    for _ in heads:
        table.add_column(justify="right")
    table.add_row(*[Text(head, style="dim") for head in heads])
    table.add_row(*[Text(duration(value), style="bold") for value in values])
    return table


def histogram_table(latency: Histogram, console: Console) -> Table:
    """Return *latency* drawn as bars."""
    rows = histogram_rows(latency)
    largest = max((row.count for row in rows), default=1)
    blocks = has_blocks(console)
    table = Table.grid(padding=(0, 1))
    for _ in range(3):
        table.add_column(justify="right")
    table.add_column(justify="left")
    table.add_column(justify="right")
    for row in rows:
        table.add_row(
            Text(_edge(row.low), style="dim"),
            Text("-", style="dim"),
            Text(_edge(row.high), style="dim"),
            Text(bar(row.count / largest, _BAR, blocks=blocks).ljust(_BAR), style="cyan"),
            percent(row.count, latency.count),
        )
    return table


def show_result(console: Console, result: LoadResult) -> None:
    """Print what a run found: rate, errors, percentiles, histogram."""
    line = Text("  ")
    line.append(f"{rate(result.calls_per_second)} calls/s", style="bold green")
    line.append(f"   {result.latency.count:,} calls in {result.seconds:.1f} s, ")
    failed = result.errors.total()
    line.append(f"{failed:,} failed", style="bold red" if failed else "")
    console.print(line)
    for name, count in result.errors.most_common():
        console.print(Text(f"  {count:,} x {name}", style="red"))
    if result.first_error:
        console.print(Text(f"  first: {result.first_error}", style="red"), soft_wrap=True)
    if result.unfinished:
        console.print(Text(f"  {result.unfinished:,} calls never ended", style="red"))
    if result.unsent:
        text = f"  the rate could not be held: {result.unsent:,} due calls were not sent"
        console.print(Text(text, style="yellow"))
    if result.latency.count:
        console.print()
        console.print(Padding(percentile_table(result.latency), _INDENT, expand=False))
        console.print()
        console.print(Padding(histogram_table(result.latency, console), _INDENT, expand=False))


def live_text(progress: Progress, duration_s: float) -> Text:
    """Return the line that is shown while a run lasts."""
    share = min(1.0, progress.elapsed / duration_s)
    line = Text("  ")
    line.append(bar(share, 20).ljust(20), style="cyan")
    line.append(f" {progress.elapsed:4.1f}/{duration_s:g} s  ")
    line.append(f"{progress.calls_per_second:>10,.0f} calls/s", style="bold green")
    line.append(f"  p50 {duration(progress.p50):>8}  p99 {duration(progress.p99):>8}")
    if progress.errors:
        line.append(f"  {progress.errors:,} failed", style="bold red")
    return line


@contextmanager
def live_line(console: Console, duration_s: float) -> Iterator[Watch | None]:
    """Give something to show progress with; None if nobody looks.

    The line is redrawn by hand, twice a second: a thread that redraws would take
    the interpreter from the calls at bad moments.
    """
    if not console.is_terminal:
        yield None
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield lambda progress: live.update(live_text(progress, duration_s), refresh=True)
