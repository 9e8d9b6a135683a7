"""Draw the results: bars on a logarithmic scale, as SVG."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.compare.results import ONE_CORE, Key, Results

try:
    from matplotlib import rcParams
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter
except ModuleNotFoundError:  # drawing is an extra
    Figure = None  # type: ignore[assignment,misc]

OURS, LIMIT, OTHER = "#c8462c", "#9aa7b4", "#3f6c91"
INK, PAPER, GRID = "#22303c", "#ffffff", "#e3e8ec"


def draw(results: Results, path: Path) -> bool:
    """Write the chart to *path*; return whether that was possible."""
    if Figure is None:
        return False
    rcParams["svg.hashsalt"] = "fastrpc"  # the same results give the same file
    lone = [key for key in results.keys(ONE_CORE, big=False) if key.in_flight == 1]
    deep = [key for key in results.keys(ONE_CORE, big=False) if key.in_flight > 1]
    panels = [
        (lone, "One at a time, both ends on one core", "microseconds per call (shorter is better)"),
        (deep, "Many in flight, both ends on one core", "calls per second (longer is better)"),
    ]
    panels = [panel for panel in panels if panel[0]]
    if not panels:
        return True
    heights = [len(keys) + 1.5 for keys, _, _ in panels]
    figure = Figure(figsize=(10, 0.36 * sum(heights) + 1.0), facecolor=PAPER, layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, (keys, title, unit) in zip(axes, panels, strict=True):
        _panel(axis, results, keys, lone=keys is lone)
        axis.set_title(title, loc="left", color=INK, fontsize=12, fontweight="bold")
        axis.set_xlabel(unit, color=INK)
    figure.supxlabel(_caption(results), color=INK, fontsize=9)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    return True


def _caption(results: Results) -> str:
    about = results.about
    return (
        f"red: fastrpc; grey: limits without any RPC; in brackets: calls in flight;"
        f" whiskers: least and greatest of {about['rounds']} rounds\n"
        f"{about['machine']}, {about['python']}, {about['when']}"
    )


def _panel(axis: Any, results: Results, keys: Sequence[Key], *, lone: bool) -> None:
    """Draw one bar for each key, fastest on top, with least and greatest as a whisker."""
    keys = sorted(keys, key=lambda key: results.rates(key).middle)
    for place, key in enumerate(keys):
        _bar(axis, results, key, place, lone=lone)
    axis.set_yticks(range(len(keys)), [_label(key) for key in keys])
    for text, key in zip(axis.get_yticklabels(), keys, strict=True):
        text.set_color(_colour(key) if _colour(key) == OURS else INK)
    axis.set_xscale("log")
    left, right = axis.get_xlim()
    axis.set_xlim(left * 0.8, right * 1.9)  # room for the numbers
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_ylim(-0.6, len(keys) - 0.4)
    axis.grid(axis="x", color=GRID, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.tick_params(colors=INK, length=0)
    for side in axis.spines.values():
        side.set_visible(False)


def _bar(axis: Any, results: Results, key: Key, place: int, *, lone: bool) -> None:
    rate = results.rates(key)
    low, middle, high = (rate.low, rate.middle, rate.high)
    if lone:
        low, middle, high = (1e6 / rate.high, 1e6 / rate.middle, 1e6 / rate.low)
    spread = [[middle - low], [high - middle]]
    axis.barh(
        place, middle, height=0.62, color=_colour(key), xerr=spread,
        error_kw={"ecolor": INK, "elinewidth": 1, "capsize": 2},
    )  # fmt: skip
    axis.annotate(
        f"{middle:,.1f}" if lone and middle < 100 else f"{middle:,.0f}",
        (high, place), xytext=(5, 0), textcoords="offset points",
        va="center", color=INK, fontsize=9,
    )  # fmt: skip


def _label(key: Key) -> str:
    return key.row if key.in_flight == 1 else f"{key.row} ({key.in_flight})"


def _colour(key: Key) -> str:
    if key.row.startswith("fastrpc"):
        return OURS
    return LIMIT if "no RPC" in key.row else OTHER
