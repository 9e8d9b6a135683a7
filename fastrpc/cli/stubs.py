"""`fastrpc stubs`: write the exact types of stubs for type checkers."""

from pathlib import Path

import click

from fastrpc.cli import screen
from fastrpc.cli.loading import load_object
from fastrpc.cli.options import epilog, paragraphs
from fastrpc.cli.stubtext import write_stubs
from fastrpc.errors import ConfigError

HELP = paragraphs(
    "Write stub classes of the class MODULE:NAME, with exact types for each kind of client.",
    "NAMEAsync is what an asyncio client gives, NAMESync what a blocking one gives: "
    "client.stub(NAMEAsync). Without --async and --sync both are written.",
)
EPILOG = epilog(
    "fastrpc stubs shop.orders:Orders -o shop/orders_stubs.py",
    "fastrpc stubs shop.orders:Orders --async",
    exits="Exit codes: 0 written; 2 wrong usage, or a type that can't be imported.",
)


@click.command(help=HELP, epilog=EPILOG)
@click.argument("spec", metavar="MODULE:NAME")
@click.option("--async", "wants_async", is_flag=True, help="Only for asyncio clients.")
@click.option("--sync", "wants_sync", is_flag=True, help="Only for blocking clients.")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Write to this file: NAME.py, or NAME.pyi for type checkers only.",
)
def stubs(spec: str, wants_async: bool, wants_sync: bool, output: str | None) -> None:
    """Write stub classes."""
    with screen.failures_told():
        service = load_object(spec)
        if not isinstance(service, type):
            raise ConfigError(f"{spec!r} is no class; stubs are written of classes")
        both = wants_async == wants_sync
        kinds = ["Async"] * (wants_async or both) + ["Sync"] * (wants_sync or both)
        interface = output is not None and output.endswith(".pyi")
        text = write_stubs(service, kinds, interface=interface)
        if output is None:
            click.echo(text, nl=False)
            return
        try:
            Path(output).write_text(text, encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{output}: {error.strerror or error}") from None
