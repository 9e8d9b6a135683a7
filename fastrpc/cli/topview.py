"""Draw what `fastrpc top` shows: a view of a server or a cluster as lines of text.

Rules of the room:
  * pure: a view and a size in, lines out; no more of them than there is room for;
  * what is unknown is shown as nothing, so that 0 means 0.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from rich.text import Text

from fastrpc.cli.columns import Cell, Column, Row, cut, lay_out
from fastrpc.cli.healthcells import is_busy, lag_cell, state_cell
from fastrpc.cli.rates import (
    Figures,
    InstanceRow,
    View,
    sorted_instances,
    sorted_methods,
)
from fastrpc.cli.report import duration
from fastrpc.cli.screen import visible
from fastrpc.cluster import is_cluster

#: What each key sorts by.
SORT_KEYS: Final = {"c": "calls", "e": "errors", "p": "p99", "f": "running", "n": "name"}
QUIT_KEYS: Final = "qQ\x03\x04"

_SORT_WORDS: Final = {"running": "in flight"}
_METHODS: Final = (
    Column("METHOD", least=20),
    Column("CALLS/S", is_number=True, is_always=True, most_often=8),
    Column("ERRORS/S", is_number=True, is_always=True),
    Column("IN FLIGHT", is_number=True, is_always=True),
    Column("P50", is_number=True, is_always=True, most_often=7),
    Column("P99", is_number=True, is_always=True, most_often=7),
)
_INSTANCES: Final = (
    Column("INSTANCE", rank=5, least=24),
    Column("ADDRESS", least=27),
    Column("ZONE", rank=4, least=8),
    Column("VERSION", rank=6, least=8),
    Column("LISTED", rank=3),
    Column("SAYS", least=15, most_often=8),
    Column("CALLS/S", is_number=True, is_always=True),
    Column("ERRORS/S", is_number=True, is_always=True),
    Column("IN FLIGHT", is_number=True, is_always=True),
    Column("P50", is_number=True, is_always=True, rank=2, most_often=7),
    Column("P99", is_number=True, is_always=True, rank=1, most_often=7),
    Column("LAG", is_number=True, is_always=True, most_often=7),
)
_GRAPH: Final = " ▁▂▃▄▅▆▇█"


@final
@dataclass(frozen=True, slots=True)
class Frame:
    """How to draw.

    Attributes:
        target: What is looked at.
        sort: What rows are sorted by.
        width: Cells of a line, None for as many as it takes.
        height: Lines there are, None for as many as it takes.
        interval: Seconds between answers.
        has_keys: Whether keys are heard.
        past: Calls a second of the last intervals, for a graph; nothing for none.
    """

    target: str
    sort: str
    width: int | None = None
    height: int | None = None
    interval: float = 1.0
    has_keys: bool = False
    past: Sequence[float] = ()


def draw(view: View, frame: Frame) -> list[Text]:
    """Return the lines of *view*."""
    head = _head(view, frame)
    foot = [Text(), _keys(frame.sort)] if frame.has_keys else []
    methods = [_method_row(name, each) for name, each in sorted_methods(view, frame.sort)]
    instances = [_instance_row(each) for each in sorted_instances(view, frame.sort)]
    # Each table has an empty line before it and a line with its heads.
    room = None if frame.height is None else frame.height - len(head) - len(foot) - 4
    most_methods, most_instances = _share(len(methods), len(instances), room)
    lines = [*head, Text(), *_table(_METHODS, methods, most_methods, frame.width)]
    if not methods:
        lines.append(Text("  no method was called yet" if view.answered else "", style="dim"))
    columns: Sequence[Column] = _INSTANCES
    if not is_cluster(frame.target):  # an id that was made up says nothing
        columns, instances = columns[1:], [row[1:] for row in instances]
    lines += [Text(), *_table(columns, instances, most_instances, frame.width, view.more)]
    if frame.height is not None:
        free = frame.height - len(lines) - len(foot)
        lines = lines[: frame.height - len(foot)] + [Text()] * free
    lines += foot
    if frame.width is not None:
        for line in lines:
            line.truncate(frame.width, overflow="ellipsis")
    return lines


def _head(view: View, frame: Frame) -> list[Text]:
    total, silent = view.total, len(view.instances) - view.answered
    line, target = Text(no_wrap=True), visible(frame.target)
    line.append(cut(target, frame.width // 2) if frame.width else target, style="bold")
    count = len(view.instances) + view.more
    line.append(f"   {count:,} instance{'s' * (count != 1)}")
    if silent:
        line.append(f", {silent:,} {'do' if silent > 1 else 'does'} not answer", style="bold red")
    if view.more:
        line.append(f", {len(view.instances):,} of them followed", style="yellow")
    clock = Text(time.strftime("%H:%M:%S", time.localtime(view.at)), style="dim")
    if frame.interval != 1:
        clock.append(f", every {frame.interval:g} s")
    lines = [_aligned(line, clock, frame.width)]
    line = Text(no_wrap=True)
    line.append(f"{rate(total.calls)} calls/s", style="bold green")
    line.append("   ")
    failing = total.errors > 0
    line.append(f"{rate(total.errors)} errors/s", style="bold red" if failing else "")
    line.append(f"   {total.running:,} in flight")
    for percent in (50, 99):
        if (seconds := total.percentile(percent)) is not None:
            line.append(f"   p{percent} {duration(seconds)}")
    free = (frame.width or 0) - line.cell_len - 3
    graph = Text(sparkline(frame.past[-free:]) if free > 0 else "", style="green")
    lines.append(_aligned(line, graph, frame.width))
    if view.problem:
        text = f"the registry can't be asked, what is known stays: {visible(view.problem)}"
        lines.append(Text(text, style="yellow", no_wrap=True))
    return lines


def _aligned(left: Text, right: Text, width: int | None) -> Text:
    """Return both on one line, *right* at its end, if there is an end and room."""
    if width is None:
        return left
    free = width - left.cell_len - right.cell_len
    return left.append(" " * free).append_text(right) if free >= 2 else left


def sparkline(values: Sequence[float]) -> str:
    """Return a graph one line high, from 0 to the largest of *values*."""
    most = max(values, default=0.0)
    if most <= 0:
        return ""
    return "".join(_GRAPH[-(-int(8 * 1000 * value / most) // 1000)] for value in values)


def _share(methods: int, instances: int, room: int | None) -> tuple[int, int]:
    """Return how many lines each of two tables gets: at least half, if it needs so many."""
    if room is None:
        return methods, instances
    half = room // 2
    if methods <= half:
        return methods, max(room - max(methods, 1), 1)
    return max(room - instances, half, 1), max(min(instances, room - half), 1)


def _table(
    columns: Sequence[Column], rows: Sequence[Row], most: int, width: int | None, more: int = 0
) -> list[Text]:
    """Return *rows*, or as many as there is room for and how many are not shown."""
    is_over = len(rows) > most or (more and len(rows) >= most)
    count = max(most - 1, 1) if is_over else len(rows)
    lines = lay_out(columns, rows[:count], width)
    hidden = len(rows) - count + more
    return [*lines, Text(f"… {hidden:,} more", style="dim")] if hidden else lines


def _method_row(name: str, figures: Figures) -> Row:
    return [
        Cell(name, "bold"),
        *_rates(figures),
        Cell(f"{figures.running:,}"),
        *_percentiles(figures),
    ]


def _instance_row(row: InstanceRow) -> Row:
    instance, health, figures = row.instance, row.health, row.figures
    listed = instance.state.value
    known = [
        Cell(instance.id),
        Cell(visible(instance.addresses[0]), "bold"),
        Cell(instance.zone),
        Cell(instance.version),
        Cell("" if listed == "up" else listed, "yellow"),
    ]
    if health is None:
        says = Cell("does not answer", "bold red") if row.problem else Cell("…", "dim")
        return [*known, says, *[Cell()] * 6]
    says = Cell(row.problem, "yellow") if row.problem else state_cell(health)
    busy = "bold yellow" if is_busy(health) else ""
    return [
        *known,
        says,
        *(_rates(figures) if figures is not None else [Cell(), Cell()]),
        Cell(f"{health.running:,}/{health.limit:,}", busy),
        *(_percentiles(figures) if figures is not None else [Cell(), Cell()]),
        lag_cell(health.lag),
    ]


def rate(per_second: float) -> str:
    """Return a rate with as many digits as a figure that changes every second is good for."""
    if per_second == 0 or per_second >= 10:
        return f"{per_second:,.0f}"
    return f"{per_second:.1f}" if per_second >= 0.095 else f"{per_second:.1g}"


def _rates(figures: Figures) -> list[Cell]:
    calls = Cell(rate(figures.calls), "" if figures.calls else "dim")
    failing = "bold red" if figures.errors else "dim"
    return [calls, Cell(rate(figures.errors), failing)]


def _percentiles(figures: Figures) -> list[Cell]:
    found = [figures.percentile(percent) for percent in (50, 99)]
    return [Cell(duration(each) if each is not None else "") for each in found]


def _keys(sort: str) -> Text:
    line = Text(no_wrap=True)
    line.append("q", style="bold").append(" quit   sort by", style="dim")
    for key, what in SORT_KEYS.items():
        line.append(f"   {key}", style="bold").append(" ")
        line.append(_SORT_WORDS.get(what, what), style="reverse" if what == sort else "dim")
    return line


def to_dict(target: str, view: View) -> dict[str, Any]:
    """Return what `--json` prints of a view."""
    return {
        "at": round(view.at, 3),
        "target": target,
        **_told(view.total),
        "methods": [{"name": name, **_told(each)} for name, each in sorted_methods(view, "calls")],
        "instances": [_instance_told(each) for each in sorted_instances(view, "name")],
        "not_followed": view.more,
        "registry_error": view.problem,
    }


def _told(figures: Figures) -> dict[str, Any]:
    told: dict[str, Any] = {
        "calls_per_second": round(figures.calls, 3),
        "errors_per_second": round(figures.errors, 3),
        "running": figures.running,
    }
    for percent in (50, 99):
        seconds = figures.percentile(percent)
        told[f"p{percent}"] = None if seconds is None else float(f"{seconds:.4g}")
    return told


def _instance_told(row: InstanceRow) -> dict[str, Any]:
    instance, health = row.instance, row.health
    told: dict[str, Any] = {
        "id": instance.id,
        "address": instance.addresses[0],
        "zone": instance.zone,
        "version": instance.version,
        "listed": instance.state.value,
        "state": health.state if health is not None else None,
        "problem": row.problem,
    }
    if health is not None:
        told |= {
            "running": health.running,
            "limit": health.limit,
            "lag": round(health.lag, 6),
            "refused": health.refused,
            "overloaded": health.overloaded,
        }
    return told | (_told(row.figures) if row.figures is not None else {})
