"""Compare two result files and print a table.

    python -m bench.report BEFORE.json AFTER.json [--least 3] [--only TEXT]

Reads what pytest-benchmark writes (`pytest bench --benchmark-json=...`), what the
comparison with the peers writes (bench/results/compare.json), and the counts of
bench/callgrind. Both files must be of the same kind, and, but for the counts,
from the same machine under the same load: nothing else compares.
"""

import argparse
import json
import math
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Value:
    """A figure of one file: smaller is better; *low* and *high* are its spread."""

    middle: float
    low: float
    high: float
    unit: str = "us"


class Unreadable(Exception):
    """A file is none of the kinds known; the message says which."""


def read(path: Path) -> tuple[str, dict[str, Value]]:
    """Return the kind of a result file and its figures by name."""
    try:
        data = json.loads(path.read_text())
    except ValueError as error:
        raise Unreadable(f"{path} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise Unreadable(f"{path} holds no results")
    if "benchmarks" in data:
        return "times of pytest-benchmark", dict(from_pytest(data))
    if data.get("kind") == "compare":
        return "rates beside peers", dict(from_compare(data))
    if data and all(isinstance(entry, dict) and "counts" in entry for entry in data.values()):
        return "instruction counts", dict(from_counts(data))
    raise Unreadable(f"{path} is not from pytest-benchmark, bench.compare or bench.callgrind")


def from_pytest(data: Mapping[str, Any]) -> Iterator[tuple[str, Value]]:
    """Yield the time of each benchmark."""
    for one in data["benchmarks"]:
        stats = one["stats"]
        middle, low, high = (stats[name] * 1e6 for name in ("median", "q1", "q3"))
        yield one["fullname"].removeprefix("bench/"), Value(middle, low, high)


def from_compare(data: Mapping[str, Any]) -> Iterator[tuple[str, Value]]:
    """Yield the time per call of each row."""
    for one in data["series"]:
        times = [1e6 / figures["rate"] for figures in one["rounds"]]
        name = f"{one['row']}, {one['in_flight']} in flight, {one['placement']}"
        if one["size"]:
            name += f", {one['size']} B"
        yield name, Value(statistics.median(times), min(times), max(times))


def from_counts(data: Mapping[str, Any]) -> Iterator[tuple[str, Value]]:
    """Yield the instructions of each scenario."""
    for key, entry in data.items():
        for name, count in entry["counts"].items():
            yield f"{name} ({key})", Value(count, count, count, "instructions")


def verdict(before: Value, after: Value, least: float) -> str:
    """Say whether a change is more than noise: spreads apart, and at least *least* percent."""
    change = after.middle / before.middle - 1
    apart = after.low > before.high or after.high < before.low
    if not apart or abs(change) * 100 < least:
        return ""
    return "slower" if change > 0 else "faster"


def table(
    before: Mapping[str, Value], after: Mapping[str, Value], least: float, only: str
) -> Iterator[str]:
    """Yield the lines of the table, and a summary."""
    names = [name for name in before if name in after and only in name]
    width = max((len(name) for name in names), default=0)
    yield f"{'':{width}} {'before':>12} {'after':>12} {'change':>8}"
    changes = []
    for name in names:
        old, new = before[name], after[name]
        changes.append(new.middle / old.middle)
        yield (
            f"{name:{width}} {number(old)} {number(new)} {changes[-1] - 1:+8.1%}"
            f"  {verdict(old, new, least)}".rstrip()
        )
    if changes:
        mean = math.exp(statistics.fmean(map(math.log, changes)))
        yield f"{len(changes)} figures, geometric mean of the changes {mean - 1:+.1%}"
    for word, lost in (("before", set(before) - set(after)), ("after", set(after) - set(before))):
        for name in sorted(name for name in lost if only in name):
            yield f"only {word}: {name}"


def number(value: Value) -> str:
    """Return a figure with its unit, twelve columns wide."""
    if value.unit != "us":
        return f"{value.middle:12,.0f}"
    if value.middle >= 10_000:
        return f"{value.middle / 1000:9,.1f} ms"
    return f"{value.middle:9,.2f} us"


def main(arguments: Sequence[str]) -> int:
    """Print the comparison; return 1 if the files can't be compared."""
    parser = argparse.ArgumentParser(prog="python -m bench.report")
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--least", type=float, default=3.0, help="percent that count as a change")
    parser.add_argument("--only", default="", help="only figures with this text in their name")
    given = parser.parse_args(arguments)
    try:
        (kind, before), (other, after) = read(given.before), read(given.after)
    except (OSError, Unreadable) as error:
        print(error, file=sys.stderr)
        return 1
    if kind != other:
        print(f"{given.before} holds {kind}, {given.after} {other}", file=sys.stderr)
        return 1
    print(*table(before, after, given.least, given.only), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
