"""Write the results as Markdown tables."""

from collections.abc import Iterator, Sequence

from bench.compare.goals import Verdict
from bench.compare.results import ONE_CORE, TWO_CORES, Key, Results

ALIGN_NUMBERS = " | ".join(["---:"] * 6)


def write_report(results: Results, verdicts: Sequence[Verdict]) -> str:
    """Return the whole report."""
    lines = [
        "# fastrpc beside other programs",
        "",
        "Written by `python -m bench.compare.run` (`make bench-peers`); what is measured and how"
        " to read it is in bench/README.md.",
        "",
        *_about(results),
        "",
        "## Goals",
        "",
        "Ratios of rates within this run, both ends on one core, median of the rounds"
        " (least to greatest).",
        "",
        *goal_lines(verdicts),
        "",
    ]
    for placement in (ONE_CORE, TWO_CORES):
        for big in (False, True):
            lines += _table(results, placement, big=big)
    not_installed = results.about.get("not_installed", {})
    for title, notes in (
        ("Not run", results.not_run),
        ("Not installed", not_installed),
        ("Failed", results.failed),
    ):
        if notes:
            lines += [f"## {title}", "", *(f"* {name}: {why}" for name, why in notes.items()), ""]
    return "\n".join(lines)


def goal_lines(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Yield the table of goals."""
    yield "| goal | wanted | found | |"
    yield "|---|---:|---:|---|"
    for verdict in verdicts:
        found = "-"
        if (spread := verdict.found) is not None:
            found = f"{_short(spread.middle)}{verdict.unit}"
            found += f" ({_short(spread.low)}-{_short(spread.high)})"
        yield f"| {verdict.text} | {verdict.wanted} | {found} | {verdict.word} |"


def _about(results: Results) -> Iterator[str]:
    about = results.about
    yield f"* {about['when']}, {about['machine']}"
    yield f"* {about['python']}, {about['system']}; load before the run {about['load']:.2f}"
    yield (
        f"* {about['rounds']} interleaved rounds of {about['seconds']:g} s for each line;"
        " medians, least and greatest in brackets"
    )
    names = ("uvloop", "msgspec", "msgpack", "grpcio", "thriftpy2", "picows", "pycapnp", "nats-py")
    known = about.get("versions", {})
    yield "* " + ", ".join(f"{name} {known[name]}" for name in names if name in known)
    yield (
        "* small value: `{id: 12345, name: 'alice', tags: ['a', 'b'], score: 1.5}`,"
        " encoded and decoded on both sides"
    )


def _table(results: Results, placement: str, *, big: bool) -> Iterator[str]:
    keys = list(results.keys(placement, big=big))
    if not keys:
        return
    what = "1 MiB of bytes each way" if big else "small value"
    yield f"## {placement.capitalize()}, {what}"
    yield ""
    head = "GiB/s each way" if big else "us per call"
    yield f"| | in flight | calls/s | {head} | p50 us | p99 us | CPU us per call |"
    yield f"|---| {ALIGN_NUMBERS} |"
    for key in sorted(keys, key=lambda key: key.in_flight > 1):
        yield _line(results, key)
    yield ""


def _line(results: Results, key: Key) -> str:
    rate = results.rates(key)
    per_call = rate.middle * key.size / 2**30 if key.size else 1e6 / rate.middle
    cells = [
        key.row,
        str(key.in_flight),
        f"{rate.middle:,.0f} ({rate.low:,.0f}-{rate.high:,.0f})",
        _short(per_call),
        *(_known(results.middle(key, name)) for name in ("p50", "p99", "cpu")),
    ]
    return f"| {' | '.join(cells)} |"


def _known(value: float | None) -> str:
    return "-" if value is None else _short(value)


def _short(value: float) -> str:
    """Return *value* with about three digits."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
