"""`fastrpc describe`: show what a server offers."""

import inspect
import re
from collections.abc import Mapping
from typing import Any

import click
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from fastrpc.call.document import CONTRACT_KEYS, only
from fastrpc.call.reading import read_document
from fastrpc.cli import loops, screen
from fastrpc.cli.loading import build_server
from fastrpc.cli.options import (
    CLUSTER_HELP,
    TARGET_HELP,
    Words,
    cluster_options,
    connect,
    connect_options,
    epilog,
    json_option,
    paragraphs,
    target_argument,
)
from fastrpc.cli.typescript import write_types
from fastrpc.cli.values import parse_pairs, to_json

HELP = paragraphs(
    "Show the services of a server: methods, signatures, docs.",
    "With METHOD only what matches it: a service (Arith) or a method (Arith.add).",
    TARGET_HELP,
    CLUSTER_HELP,
)
# What every server has, for tools like this one; people look for their own.
_OWN = "fastrpc."
# MODULE, MODULE:NAME or FILE.py:NAME, and no HOST:PORT.
_SPEC = re.compile(r"(?!.*://)(?!.*:[0-9]+$).+")

EPILOG = epilog(
    "fastrpc describe 127.0.0.1:7000",
    "fastrpc describe 127.0.0.1:7000 Arith.add",
    "fastrpc describe 127.0.0.1:7000 --json | jq '.services[].methods[].name'",
    "fastrpc describe 127.0.0.1:7000 --schema > contract.json",
    "fastrpc describe 127.0.0.1:7000 --ts > arith.ts",
    "fastrpc describe shop.orders:Orders --ts > orders.ts",
)


@click.command(help=HELP, epilog=EPILOG)
@target_argument
@cluster_options
@click.argument("name", metavar="[METHOD]", required=False, default="")
@connect_options
@click.option(
    "--schema",
    "with_schema",
    is_flag=True,
    help="Print the contract as JSON, with JSON Schemas of arguments and results.",
)
@click.option(
    "--ts",
    "with_types",
    is_flag=True,
    help="Print the types in TypeScript; TARGET may also be MODULE:NAME, as for `fastrpc serve`.",
)
@json_option("Print one line of JSON.")
def describe(
    target: str,
    name: str,
    timeout: float | None,
    connect_timeout: float | None,
    codec: str | None,
    metadata: Words,
    with_schema: bool,
    with_types: bool,
    as_json: bool,
) -> None:
    """Show what a server offers."""
    if with_types and (with_schema or as_json):
        raise click.UsageError("--ts goes without --schema and --json")

    async def ask() -> dict[str, Any]:
        async with connect(
            target,
            timeout=timeout,
            connect_timeout=connect_timeout,
            codec=codec,
            metadata=parse_pairs(metadata, "--metadata"),
        ) as client:
            return await client.describe(schema=with_schema or with_types)

    with screen.failures_told(as_json=as_json):
        if with_types and _SPEC.fullmatch(target):
            answer = build_server(target).describe(schema=True)
        else:
            answer = loops.run(ask())
        if with_types:
            told = contract(answer, name)
            click.echo(write_types(told if name else _without_ours(told)), nl=False)
        elif with_schema:
            told = contract(answer, name)
            click.echo(to_json(told, indent=None if as_json else 2))
        elif as_json:
            told = select(answer, name)
            screen.write_json(told)
        else:
            told = select(answer, name)
            show(screen.results(), target, told)
    if name and not told["services"]:
        screen.notes().print(Text(f"nothing there is called {name!r}"))
        raise click.exceptions.Exit(5)


def _without_ours(told: Mapping[str, Any]) -> dict[str, Any]:
    services = [s for s in told["services"] if not s["name"].startswith(_OWN)]
    return {**told, "services": services}


def select(told: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return *told* with only the service or the method called *name*."""
    if not name:
        return dict(told)
    services = []
    for service in told["services"]:
        methods = [m for m in service["methods"] if name in (service["name"], m["name"])]
        if methods:
            services.append({**service, "methods": methods})
    return {**told, "services": services}


def contract(told: Mapping[str, Any], name: str = "") -> dict[str, Any]:
    """Return the contract in what a server *told*, or the part of it called *name*.

    Raises:
        ConfigError: There is none.
    """
    # Agent and limits belong to the server, not to its services.
    return only(read_document({key: told.get(key) for key in CONTRACT_KEYS}), name)


def show(console: Console, target: str, told: Mapping[str, Any]) -> None:
    """Print the tree of services and methods."""
    agent = screen.visible(f"  {told.get('agent', '')}")
    head = Text.assemble((target, "bold"), (agent, "dim"))
    tree = Tree(head, guide_style="dim")
    services = [s for s in told["services"] if not s["name"].startswith(_OWN)]
    for service in services:
        methods = service["methods"]
        if [method["name"] for method in methods] == [service["name"]]:
            tree.add(_method_text(methods[0]))  # a function: a service of its own
            continue
        branch = tree.add(_titled(service, service.get("doc")))
        for method in methods:
            branch.add(_method_text(method))
        for type_ in service.get("types", ()):
            branch.add(_type_text(type_))
    if not services:
        tree.add(Text("no services", style="dim"))
    console.print(tree)


def _titled(service: Mapping[str, Any], doc: str | None) -> Text:
    text = Text(screen.visible(service["name"]), style="bold green")
    for what in ("version", "group"):
        if service.get(what):
            text.append(f"  {what} {screen.visible(str(service[what]))}", style="not bold dim")
    _append_doc(text, doc)
    return text


def _append_doc(text: Text, doc: str | None) -> None:
    if doc:
        text.append("\n" + screen.visible(inspect.cleandoc(doc)), style="not bold default")


def _method_text(method: Mapping[str, Any]) -> Text:
    signature = screen.visible(method["signature"])
    name, paren, rest = signature.partition("(")
    text = Text(name, style="bold")
    text.append(paren + rest, style="not bold cyan")
    for trait in _traits(method):
        text.append(f"  {trait}", style="not bold magenta")
    _append_doc(text, method.get("doc"))
    return text


def _type_text(type_: Mapping[str, Any]) -> Text:
    """Return a record with its fields, or an enumeration with its values."""
    text = Text(screen.visible(type_["name"]), style="bold")
    fields = [
        f"{field['name']}: {field['type']}" + ("" if field["required"] else " = ...")
        for field in type_.get("fields", ())
    ]
    words = f"({', '.join(fields)})" if fields else ""
    if "values" in type_:
        words = ": " + " | ".join(map(repr, type_["values"]))
    elif "type" in type_:
        words = f" = {type_['type']}"
    text.append(screen.visible(words), style="not bold yellow")
    return text


def _traits(method: Mapping[str, Any]) -> list[str]:
    """Return what a caller should know beyond the signature."""
    traits = [mode for mode in ("thread", "stream") if method.get("mode") == mode]
    traits += ["idempotent"] * bool(method.get("idempotent"))
    traits += ["shielded"] * (method.get("cancel") == "shield")
    return traits + [f"cost {method['cost']}"] * (method.get("cost", 1) != 1)
