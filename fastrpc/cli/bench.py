"""`fastrpc bench`: put load on one method and show what it takes."""

import asyncio
import functools
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click
from rich.text import Text

import fastrpc
from fastrpc.cli import loops, report, screen
from fastrpc.cli.exits import ExitCode
from fastrpc.cli.load import Load, LoadOptions, LoadResult, Watch
from fastrpc.cli.load_blocking import ThreadLoad
from fastrpc.cli.options import (
    ARGUMENT_SETTINGS,
    ARGUMENTS_HELP,
    CLUSTER_HELP,
    TARGET_HELP,
    Words,
    call_arguments,
    cluster_options,
    connect,
    connect_options,
    epilog,
    given,
    json_option,
    paragraphs,
    target_argument,
    way_there,
)
from fastrpc.cli.values import Arguments, parse_arguments, parse_pairs
from fastrpc.errors import ConfigError

HELP = paragraphs(
    "Call METHOD again and again, and show calls per second and latencies.",
    "Without --rate the loop is closed: each of the calls in flight is followed by the "
    "next when it ends. That finds the most a server can do. With --rate it is open: "
    "calls are due at fixed moments and each latency counts from the moment the call was "
    "due, so a server that stalls can't hide it (no coordinated omission). That finds what "
    "callers feel.",
    "One call is made first; if it fails the bench doesn't start. Ctrl-C ends it early and "
    "shows what was measured.",
    ARGUMENTS_HELP,
    TARGET_HELP,
    CLUSTER_HELP,
)
EPILOG = epilog(
    "fastrpc bench 127.0.0.1:7000 Arith.add 1 2",
    "fastrpc bench 127.0.0.1:7000 Arith.add 1 2 --concurrency 1 --duration 5",
    "fastrpc bench 127.0.0.1:7000 Arith.add 1 2 --rate 20000",
    "fastrpc bench 127.0.0.1:7000 Arith.add 1 2 --blocking --concurrency 4",
    "fastrpc bench 127.0.0.1:7000 Arith.add 1 2 --json | jq .calls_per_second",
)

_JSON_PERCENTILES = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """One bench, as asked for."""

    target: str
    method: str
    arguments: Arguments
    settings: dict[str, Any]
    connections: int
    blocking: bool
    load: LoadOptions

    def words(self) -> list[str]:
        """Return what is done, in two lines."""
        load = self.load
        limit = f"{load.concurrency} in flight"
        if self.blocking:
            limit = f"{load.concurrency} blocking client{'s' * (load.concurrency > 1)}"
        elif self.connections > 1:
            limit += f", {self.connections} connections"
        if load.rate is None:
            how = f"closed loop, {limit}"
        else:
            how = (
                f"open loop, {load.rate:,g} calls/s due, at most {limit}; latencies count from "
                "the moment a call was due (no coordinated omission)"
            )
        return [f"{self.method}({self.arguments}) on {self.target}", how]


@click.command(help=HELP, epilog=EPILOG, context_settings=ARGUMENT_SETTINGS)
@target_argument
@cluster_options
@call_arguments
@click.option(
    "-c",
    "--concurrency",
    type=click.IntRange(min=1),
    help="Calls in flight; with --rate the most there may be (default 256; 1 with --blocking).",
)
@click.option(
    "-d",
    "--duration",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to measure.",
)
@click.option(
    "--warmup",
    type=click.FloatRange(min=0),
    default=0.5,
    show_default=True,
    metavar="SECONDS",
    help="How long to load before measuring.",
)
@click.option(
    "-r",
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    metavar="PER_SECOND",
    help="Calls due per second (open loop).",
)
@click.option(
    "--connections",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Connections the calls are spread over.",
)
@click.option(
    "--blocking",
    is_flag=True,
    help="Use the blocking client: a thread and a connection per call in flight.",
)
@connect_options
@json_option("Print one line of JSON.")
def bench(
    target: str,
    method: str,
    words: Words,
    args_json: str | None,
    text: bool,
    concurrency: int | None,
    duration: float,
    warmup: float,
    rate: float | None,
    connections: int,
    blocking: bool,
    timeout: float | None,
    connect_timeout: float | None,
    codec: str | None,
    metadata: Words,
    as_json: bool,
) -> None:
    """Measure one method."""
    with screen.failures_told(as_json=as_json):
        if blocking and connections > 1:
            raise ConfigError("--blocking has one connection per thread; use --concurrency")
        asked = Bench(
            target=target,
            method=method,
            arguments=parse_arguments(words, args_json=args_json, text=text),
            settings=given(
                timeout=timeout,
                connect_timeout=connect_timeout,
                codec=codec,
                metadata=parse_pairs(metadata, "--metadata"),
            ),
            connections=connections,
            blocking=blocking,
            load=LoadOptions(
                concurrency=concurrency or (1 if blocking else 256),
                duration=duration,
                warmup=warmup,
                rate=rate,
            ),
        )
        result = _run_and_show(asked, as_json=as_json)
    if not result.latency.count:
        raise click.exceptions.Exit(ExitCode.CALL)


def _run_and_show(asked: Bench, *, as_json: bool) -> LoadResult:
    console = screen.results()
    notes = screen.notes()
    if not as_json:
        what, how = asked.words()
        console.print(Text(what, style="bold"), soft_wrap=True)
        console.print(Text(how, style="dim"), soft_wrap=True)
        console.file.flush()
    with report.live_line(notes, asked.load.duration) as watch:
        result = _run_blocking(asked, watch) if asked.blocking else loops.run(_run(asked, watch))
    if as_json:
        screen.write_json(to_dict(asked, result))
    else:
        console.print()
        report.show_result(console, result)
    return result


async def _run(asked: Bench, watch: Watch | None) -> LoadResult:
    async with connect(asked.target, connections=asked.connections, **asked.settings) as client:
        call = functools.partial(
            client.call, asked.method, *asked.arguments.positional, **asked.arguments.keywords
        )
        await call()
        load = Load(call, asked.load, watch)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, load.stop)
        try:
            return await load.run()
        finally:
            loop.remove_signal_handler(signal.SIGINT)


def _run_blocking(asked: Bench, watch: Watch | None) -> LoadResult:
    way = way_there()  # here: its threads know of no command

    @contextmanager
    def connect_one() -> Iterator[Callable[[], object]]:
        with fastrpc.connect_sync(asked.target, **way, **asked.settings) as client:
            yield functools.partial(
                client.call, asked.method, *asked.arguments.positional, **asked.arguments.keywords
            )

    with connect_one() as call:
        call()
    load = ThreadLoad(connect_one, asked.load, watch)
    before = signal.signal(signal.SIGINT, lambda *_: load.stop())
    try:
        return load.run()
    finally:
        signal.signal(signal.SIGINT, before)


def to_dict(asked: Bench, result: LoadResult) -> dict[str, object]:
    """Return what `--json` prints; times in seconds."""
    latency = result.latency
    return {
        "target": asked.target,
        "method": asked.method,
        "mode": "closed" if asked.load.rate is None else "open",
        "rate": asked.load.rate,
        "concurrency": asked.load.concurrency,
        "connections": asked.load.concurrency if asked.blocking else asked.connections,
        "blocking": asked.blocking,
        "loop": None if asked.blocking else loops.LOOP,
        "seconds": round(result.seconds, 3),
        "calls": latency.count,
        "calls_per_second": round(result.calls_per_second, 1),
        "errors": dict(result.errors),
        "first_error": result.first_error or None,
        "unfinished": result.unfinished,
        "unsent": result.unsent,
        "latency_from": "due" if asked.load.rate is not None else "sent",
        "latency": {
            "min": _rounded(latency.min if latency.count else 0.0),
            "mean": _rounded(latency.mean),
            **{f"p{p:g}": _rounded(latency.percentile(p)) for p in _JSON_PERCENTILES},
            "max": _rounded(latency.max),
        },
        "histogram": [
            {"from": _rounded(row.low), "to": _rounded(row.high), "count": row.count}
            for row in report.histogram_rows(latency)
        ],
    }


def _rounded(seconds: float) -> float:
    return float(f"{seconds:.4g}")
