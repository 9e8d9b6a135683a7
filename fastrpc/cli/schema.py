"""`fastrpc schema`: write the contract of a service, and compare two of them."""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fastrpc.call import Change, compare, read_document
from fastrpc.cli import loops, screen
from fastrpc.cli.describe import contract
from fastrpc.cli.exits import ExitCode
from fastrpc.cli.loading import build_server
from fastrpc.cli.options import (
    Words,
    connect,
    epilog,
    json_option,
    metadata_option,
    paragraphs,
)
from fastrpc.cli.values import parse_pairs, to_json
from fastrpc.errors import ConfigError

HELP = paragraphs(
    "Write the contract of services as JSON, or compare two contracts.",
    "A contract is what callers rely on: methods, parameters, types and traits, with JSON "
    "Schemas of arguments and results.",
)
EXITS = (
    "Exit codes: 0 nothing that breaks callers; 2 wrong usage; 3 no connection; 5 a server\n"
    "failed; 6 a change breaks callers."
)
EPILOG = epilog(
    "fastrpc schema dump shop.orders:Orders > contract.json",
    "fastrpc schema diff contract.json shop.orders:Orders",
    exits=EXITS,
)
DUMP_HELP = paragraphs(
    "Write the contract of what MODULE:NAME names, without serving it.",
    "MODULE:NAME is what `fastrpc serve` takes.",
)
DIFF_HELP = paragraphs(
    "Tell what changed from OLD to NEW, and what of it breaks callers.",
    "Each is a file that `schema dump` wrote (NAME.json, or - for standard input), MODULE:NAME "
    "as `fastrpc serve` takes it, or where a server listens.",
)

#: Largest file that is read, in bytes.
MAX_FILE: Final = 64 * 2**20

_TIMEOUT: Final = 10.0
_TARGET: Final = re.compile(r".*://.*|(\[[^]]*\]|[^:/\\]+):\d+")
_SHOWN: Final = 200


@click.group(help=HELP, epilog=EPILOG)
def schema() -> None:
    """Work with contracts."""


@schema.command(
    help=DUMP_HELP, epilog=epilog("fastrpc schema dump shop.orders:Orders", exits=EXITS)
)
@click.argument("spec", metavar="MODULE:NAME")
@click.option("--factory", is_flag=True, help="Call NAME and describe what it returns.")
@json_option("Print one line of JSON.")
def dump(spec: str, factory: bool, as_json: bool) -> None:
    """Write the contract of a service."""
    with screen.failures_told(as_json=as_json):
        told = contract(build_server(spec, factory=factory).describe(schema=True))
        click.echo(to_json(told, indent=None if as_json else 2))


@schema.command(
    help=DIFF_HELP,
    epilog=epilog(
        "fastrpc schema diff contract.json shop.orders:Orders",
        "fastrpc schema diff 10.0.0.5:7000 shop.orders:Orders",
        "git show main:contract.json | fastrpc schema diff - contract.json --json",
        exits=EXITS,
    ),
)
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@metadata_option
@json_option('Print one line: {"breaking": 1, "harmless": 2, "changes": [...]}.')
def diff(old: str, new: str, metadata: Words, as_json: bool) -> None:
    """Compare two contracts."""
    with screen.failures_told(as_json=as_json):
        pairs = parse_pairs(metadata, "--metadata")
        changes = compare(load(old, pairs), load(new, pairs))
        breaking = sum(change.breaking for change in changes)
        if as_json:
            told = [change.describe() for change in changes]
            harmless = len(changes) - breaking
            screen.write_json({"breaking": breaking, "harmless": harmless, "changes": told})
        else:
            show(screen.results(), changes)
    if breaking:
        raise click.exceptions.Exit(ExitCode.BREAKING)


def load(source: str, metadata: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the contract that *source* names: a file, a server, or MODULE:NAME.

    Args:
        source: Which one.
        metadata: Sent to a server, such as a token.

    Raises:
        ConfigError: There is none, or it can't be read.
        FastRPCError: The server can't be asked.
    """
    if source == "-" or source.endswith(".json"):
        return _read(source)
    if _TARGET.fullmatch(source):
        return contract(loops.run(_ask(source, metadata)))
    return contract(build_server(source).describe(schema=True))


async def _ask(target: str, metadata: Mapping[str, str] | None) -> dict[str, Any]:
    async with connect(target, timeout=_TIMEOUT, metadata=metadata) as client:
        return await client.describe(schema=True)


def _read(name: str) -> dict[str, Any]:
    try:
        with sys.stdin.buffer if name == "-" else Path(name).open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise ConfigError(f"{name}: {error.strerror or error}") from None
    if len(data) > MAX_FILE:
        raise ConfigError(f"{name}: a contract has at most {MAX_FILE} bytes")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise ConfigError(f"{name} is not JSON, or nested too deeply") from None
    try:
        return read_document(value)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None


def show(console: Console, changes: Sequence[Change]) -> None:
    """Print the changes as a table, those that break first."""
    if not changes:
        console.print("no changes")
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("verdict", "method", "where", "what", "why"):
        table.add_column(title, overflow="fold")
    for change in sorted(changes, key=lambda change: not change.breaking):
        verdict = Text("breaking", "bold red") if change.breaking else Text("harmless", "green")
        table.add_row(
            verdict,
            Text(_shown(change.method), "bold"),
            _shown(change.where),
            _shown(change.text),
            Text(change.why, "dim"),
        )
    console.print(table)
    breaking = sum(change.breaking for change in changes)
    console.print(f"{breaking} breaking, {len(changes) - breaking} harmless")


def _shown(text: str) -> str:
    text = screen.visible(text)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
