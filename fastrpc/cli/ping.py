"""`fastrpc ping`: is a server there, and how far away?"""

import asyncio
import itertools
import statistics
import time
from collections.abc import Callable

import click
from rich.text import Text

from fastrpc.cli import loops, screen
from fastrpc.cli.options import (
    CLUSTER_HELP,
    TARGET_HELP,
    cluster_options,
    connect,
    epilog,
    json_option,
    paragraphs,
    target_argument,
)
from fastrpc.cli.report import duration
from fastrpc.errors import DeadlineExceeded

HELP = paragraphs(
    "Send heartbeats and print how long each took.",
    "They are answered below the handlers, so a busy server still answers. Exit code 0 "
    "if at least one was answered. Of a service in a registry one instance is asked; "
    "`fastrpc ls` asks all.",
    TARGET_HELP,
    CLUSTER_HELP,
)
EPILOG = epilog(
    "fastrpc ping 127.0.0.1:7000",
    "fastrpc ping 127.0.0.1:7000 -c 0          # until Ctrl-C",
    "fastrpc ping 127.0.0.1:7000 -c 1 --json",
)


@click.command(help=HELP, epilog=EPILOG)
@target_argument
@cluster_options
@click.option("-c", "--count", default=4, show_default=True, help="How many; 0 for no end.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.01),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between them. Servers end connections that ping faster than they allow, "
    "once a second by default.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=3.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for a connection and for each answer.",
)
@json_option("Print one line of JSON at the end instead.")
def ping(target: str, count: int, interval: float, timeout: float, as_json: bool) -> None:
    """Send heartbeats and print how long each took."""
    console = screen.results()
    times: list[float] = []
    lost = 0

    def tell(number: int, answer: float | None) -> None:
        nonlocal lost
        if answer is None:
            lost += 1
        else:
            times.append(answer)
        if not as_json:
            words = f"no answer within {timeout:g} s" if answer is None else duration(answer)
            line = Text(f"pong {number} from {target}: ")
            console.print(line.append(words, style="bold green" if answer else "bold red"))

    with screen.failures_told(as_json=as_json):
        try:
            loops.run(_ping(target, count, interval, timeout, tell))
        except KeyboardInterrupt:
            if not times:
                raise
    if as_json:
        screen.write_json({"target": target, **summary(times, lost)})
    elif times:
        told = summary(times, lost)
        console.print(
            Text(
                f"{len(times)} answered, {lost} not; "
                f"min {duration(min(times))}, median {duration(statistics.median(times))}, "
                f"max {duration(max(times))}",
                style="dim" if told["lost"] == 0 else "",
            )
        )
    if not times:
        raise click.exceptions.Exit(4)


async def _ping(
    target: str,
    count: int,
    interval: float,
    patience: float,
    tell: Callable[[int, float | None], None],
) -> None:
    async with connect(target, connect_timeout=patience) as client:
        due = time.monotonic()
        for number in itertools.count(1):
            try:
                answer: float | None = await client.ping()
            except DeadlineExceeded:
                answer = None
            tell(number, answer)
            if number == count:
                return
            due += interval
            await asyncio.sleep(max(0.0, due - time.monotonic()))


def summary(times: list[float], lost: int) -> dict[str, object]:
    """Return what `--json` prints: counts, and times in seconds."""
    if not times:
        return {"answered": 0, "lost": lost}
    return {
        "answered": len(times),
        "lost": lost,
        "min": round(min(times), 6),
        "median": round(statistics.median(times), 6),
        "max": round(max(times), 6),
        "times": [round(value, 6) for value in times],
    }
