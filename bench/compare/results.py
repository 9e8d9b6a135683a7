"""Keep what was measured, and turn it into medians, spreads and JSON."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from bench.compare.load import Figures

ONE_CORE = "one core"
TWO_CORES = "two cores"


@dataclass(frozen=True, slots=True)
class Key:
    """Which series of measurements: a row of the tables under one load."""

    row: str
    in_flight: int
    size: int = 0
    placement: str = ONE_CORE


@dataclass(frozen=True, slots=True)
class Spread:
    """Several values of one thing, in short."""

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Return median, least and greatest of *values*."""
        found = list(values)
        return cls(median(found), min(found), max(found))


@dataclass(slots=True)
class Results:
    """Every figure of a run, by series and round.

    Attributes:
        about: Machine, options and versions.
        series: For each series its figures by number of the round.
        not_run: Title of a peer, and why it can't run here.
        failed: Row of a peer, and what went wrong with it.
        import_ms: How long `import fastrpc` took, round by round.
    """

    about: dict[str, Any] = field(default_factory=dict)
    series: dict[Key, dict[int, Figures]] = field(default_factory=dict)
    not_run: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    import_ms: list[float] = field(default_factory=list)

    def add(self, key: Key, number: int, figures: Figures) -> None:
        """Note the figures of one round."""
        self.series.setdefault(key, {})[number] = figures

    def keys(self, placement: str, *, big: bool) -> Iterator[Key]:
        """Yield the series of one placement, with plain bytes or with the small value."""
        for key in self.series:
            if key.placement == placement and bool(key.size) == big:
                yield key

    def rates(self, key: Key) -> Spread:
        """Return calls per second of a series."""
        return Spread.of(one.rate for one in self.series[key].values())

    def middle(self, key: Key, name: str) -> float | None:
        """Return the median of another figure of a series, None if it has none."""
        values = [getattr(one, name) for one in self.series[key].values()]
        known = [value for value in values if value is not None]
        return median(known) if known else None

    def ratios(self, above: Key, below: Key) -> Spread | None:
        """Return how the rates of two series compare, round by round; None if one is missing.

        Pairing by round takes out what slows the whole machine for a while.
        """
        over, under = self.series.get(above, {}), self.series.get(below, {})
        pairs = [over[number].rate / under[number].rate for number in over if number in under]
        return Spread.of(pairs) if pairs else None

    def plain(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "kind": "compare",
            "about": self.about,
            "series": [
                {**asdict(key), "rounds": [asdict(one) for one in by_round.values()]}
                for key, by_round in self.series.items()
            ],
            "import_ms": self.import_ms,
            "not_run": self.not_run,
            "failed": self.failed,
        }


def write_json(data: Mapping[str, Any], path: Path) -> None:
    """Write *data* so that two runs can be compared line by line."""
    path.write_text(json.dumps(data, indent=1) + "\n")
