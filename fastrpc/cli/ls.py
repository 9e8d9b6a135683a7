"""`fastrpc ls`: which instances are there, and how are they?"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import click
from rich.console import Console
from rich.text import Text

from fastrpc.cli import loops, screen
from fastrpc.cli.asking import Asker, Health
from fastrpc.cli.columns import Cell, Column, lay_out
from fastrpc.cli.healthcells import is_busy, lag_cell, state_cell
from fastrpc.cli.options import (
    CLUSTER_HELP,
    TARGET_HELP,
    Words,
    epilog,
    given,
    json_option,
    metadata_option,
    paragraphs,
    target_argument,
    way_there,
)
from fastrpc.cli.places import ServiceRow, list_instances, list_services
from fastrpc.cli.values import parse_pairs
from fastrpc.cluster import Instance, InstanceState, Listing, is_cluster
from fastrpc.errors import FastRPCError

HELP = paragraphs(
    "List the services of a registry, or the instances of one service and how they are.",
    "Each instance is asked directly, past every balancer: what it says of its own state, calls "
    "in flight and how many may be, how late its event loop is. Of a target that is one server, "
    "that server is asked.",
    "Exit code 0 if the list could be had and at least one of those asked has answered; 3 if "
    "none has, or nobody is listed.",
    TARGET_HELP,
    CLUSTER_HELP,
)
EPILOG = epilog(
    "fastrpc ls registry://127.0.0.1:7070",
    "fastrpc ls registry://127.0.0.1:7070/Shop",
    "fastrpc ls file:///etc/shop/instances.toml#Shop --no-load",
    "fastrpc ls etcd://10.0.0.5/Shop --json | jq -r '.instances[].addresses[0]'",
    "fastrpc ls 127.0.0.1:7000",
)

T = TypeVar("T")

#: Instances that are asked at the same time.
AT_ONCE: Final = 100

#: What an instance that does not answer is said to be.
SILENT: Final = "does not answer"

_SERVICE_COLUMNS: Final = (
    Column("SERVICE", least=16),
    Column("INSTANCES", is_number=True),
    Column("UP", is_number=True, rank=1),
    Column("DRAINING", is_number=True),
    Column("DOWN", is_number=True),
    Column("UNREADABLE", is_number=True),
    Column("PROBLEM", least=20),
)
_COLUMNS: Final = (
    Column("INSTANCE", rank=4, least=16),
    Column("ADDRESS", least=27),
    Column("ZONE", rank=3, least=8),
    Column("VERSION", rank=5, least=8),
    Column("GROUP", rank=6, least=8),
    Column("WEIGHT", is_number=True, rank=7),
    Column("TAGS", rank=9, least=12),
    Column("LISTED"),
    Column("SAYS", least=15),
    Column("RUNNING", is_number=True),
    Column("LAG", is_number=True, rank=1),
    Column("REFUSED", is_number=True, rank=2),
    Column("UP FOR", is_number=True, rank=8),
)
_LISTED_STYLE: Final = {"up": "", "draining": "yellow", "down": "red"}


@click.command(help=HELP, epilog=EPILOG)
@target_argument
@click.option("--no-load", is_flag=True, help="Ask nobody: show only what is listed.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How long an instance has to answer.",
)
@metadata_option
@json_option('Print one line: {"services": [...]} or {"instances": [...]}.')
def ls(target: str, no_load: bool, timeout: float, metadata: Words, as_json: bool) -> None:
    """List services, or instances and how they are."""
    console = screen.results()
    with screen.failures_told(as_json=as_json):
        settings = {**way_there(), **given(metadata=parse_pairs(metadata, "--metadata"))}
        listing = in_order(loops.run(list_instances(target)))
        if listing is None:
            show_services(console, target, loops.run(list_services(target)), as_json=as_json)
            return
        answers: dict[str, Health | str] = {}
        if not no_load:
            answers, failures = loops.run(ask_all(listing.instances, settings, timeout))
            if failures and not is_cluster(target):
                raise failures[0]  # of one server, all there is to say
        if as_json:
            screen.write_json(to_dict(target, listing, answers))
        else:
            show(console, target, listing, answers)
    said = [each for each in answers.values() if isinstance(each, Health)]
    if not listing.instances or not (said or no_load):
        raise click.exceptions.Exit(3)


def in_order(listing: Listing | None) -> Listing | None:
    """Return *listing* with its instances in an order that is the same each time."""
    if listing is None:
        return None
    ordered = sorted(listing.instances, key=lambda each: (each.zone, each.addresses, each.id))
    return Listing(tuple(ordered), listing.skipped)


async def ask_all(
    instances: Sequence[Instance], settings: Mapping[str, Any], patience: float
) -> tuple[dict[str, Health | str], list[FastRPCError]]:
    """Return what each says, or why it doesn't, by id; and the errors there were."""
    room = asyncio.Semaphore(AT_ONCE)
    failures: list[FastRPCError] = []

    async def ask(instance: Instance) -> tuple[str, Health | str]:
        async with room:
            asker = Asker(instance, settings, patience)
            try:
                answer = await asker.ask()
            finally:
                await asker.aclose()
        if asker.failure is not None:
            failures.append(asker.failure)
        return instance.id, answer

    return dict(await asyncio.gather(*map(ask, instances))), failures


def to_dict(
    target: str, listing: Listing, answers: Mapping[str, Health | str]
) -> dict[str, object]:
    """Return what `--json` prints of instances."""
    return {
        "target": target,
        "skipped": listing.skipped,
        "instances": [_told(each, answers.get(each.id)) for each in listing.instances],
    }


def _told(instance: Instance, answer: Health | str | None) -> dict[str, object]:
    told: dict[str, object] = {
        "id": instance.id,
        "addresses": instance.addresses,
        "weight": instance.weight,
        "zone": instance.zone,
        "version": instance.version,
        "group": instance.group,
        "tags": dict(instance.tags),
        "state": instance.state.value,
    }
    if isinstance(answer, Health):
        told["health"] = {
            "state": answer.state,
            "running": answer.running,
            "limit": answer.limit,
            "lag": round(answer.lag, 6),
            "refused": answer.refused,
            "overloaded": answer.overloaded,
            "uptime": round(answer.uptime, 3),
        }
    elif answer is not None:
        told["health"], told["problem"] = None, answer
    return told


def show(
    console: Console, target: str, listing: Listing, answers: Mapping[str, Health | str]
) -> None:
    """Print the instances, one line for each, and a line about all of them."""
    if not listing.instances:
        screen.notes().print(Text(f"{target}: no instance is listed{_skipped(listing.skipped)}"))
        return
    rows = [_row(each, answers.get(each.id)) for each in listing.instances]
    columns: Sequence[Column] = _COLUMNS
    if not is_cluster(target):  # nobody lists it: what would be said of that is made up
        columns, rows = _own(columns), [_own(row) for row in rows]
    screen.write_lines(console, lay_out(columns, rows, screen.width_of(console)))
    if is_cluster(target):
        silent = sum(isinstance(each, str) for each in answers.values())
        line = Text(f"{len(rows):,} instance{'s' * (len(rows) != 1)}", style="dim")
        if answers:
            line.append(f", {len(answers) - silent:,} answered")
        if silent:
            line.append(f", {silent:,} did not", style="not dim red")
        line.append(_skipped(listing.skipped), style="not dim yellow")
        console.print(line, soft_wrap=True)
    problems = [(each, answers[each.id]) for each in listing.instances if each.id in answers]
    for instance, problem in [each for each in problems if isinstance(each[1], str)][:_PROBLEMS]:
        where = screen.visible(instance.addresses[0])
        text = f"{problem}" if where in f"{problem}" else f"{where}: {problem}"
        screen.notes().print(Text(text, style="red"), soft_wrap=True)


#: Instances that don't answer whose reasons are told.
_PROBLEMS: Final = 10


def _own(whole: Sequence[T]) -> list[T]:
    """Return of a whole row what a server says of itself, behind its address."""
    return [whole[1], *whole[8:]]


def _skipped(count: int) -> str:
    return f", {count:,} entr{'ies' if count > 1 else 'y'} can't be read" if count else ""


def _row(instance: Instance, answer: Health | str | None) -> list[Cell]:
    listed = instance.state.value
    others = len(instance.addresses) - 1
    cells = [
        Cell(instance.id),
        Cell(screen.visible(instance.addresses[0]) + (f" +{others}" if others else ""), "bold"),
        Cell(instance.zone),
        Cell(instance.version),
        Cell(instance.group),
        Cell(f"{instance.weight:g}" if instance.weight != 1 else ""),
        Cell(" ".join(screen.visible(f"{key}={value}") for key, value in instance.tags)),
        Cell(listed, _LISTED_STYLE[listed]),
    ]
    if isinstance(answer, str):
        return [*cells, Cell(SILENT, "bold red"), *[Cell()] * 4]
    if answer is None:
        return [*cells, *[Cell()] * 5]
    return [
        *cells,
        state_cell(answer),
        Cell(f"{answer.running:,}/{answer.limit:,}", "yellow" if is_busy(answer) else ""),
        lag_cell(answer.lag),
        Cell(f"{answer.refused:,}", "yellow" if answer.refused else ""),
        Cell(_ago(answer.uptime)),
    ]


def _ago(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.0f} s" if seconds else ""


def show_services(
    console: Console, target: str, found: Sequence[ServiceRow], *, as_json: bool
) -> None:
    """Print the services of a registry, one line for each."""
    if as_json:
        screen.write_json({"target": target, "services": found})
        return
    if not found:
        screen.notes().print(Text(f"{target}: no service is listed"))
        return
    rows = [
        [
            Cell(screen.visible(each.name), "bold"),
            Cell("" if each.problem else f"{each.instances:,}"),
            *(_some(each.states.get(state.value, 0), state.value) for state in InstanceState),
            _some(each.skipped, "down"),
            Cell(screen.visible(each.problem), "red"),
        ]
        for each in found
    ]
    screen.write_lines(console, lay_out(_SERVICE_COLUMNS, rows, screen.width_of(console)))


def _some(count: int, state: str) -> Cell:
    return Cell(f"{count:,}" if count else "", _LISTED_STYLE[state])
