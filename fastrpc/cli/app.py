"""Gather the commands under one name."""

import logging
import sys

import click

from fastrpc.cli.bench import bench
from fastrpc.cli.call import call
from fastrpc.cli.describe import describe
from fastrpc.cli.dump import dump
from fastrpc.cli.ls import ls
from fastrpc.cli.options import epilog
from fastrpc.cli.ping import ping
from fastrpc.cli.registry import registry
from fastrpc.cli.schema import schema
from fastrpc.cli.serve import serve
from fastrpc.cli.stubs import stubs
from fastrpc.cli.top import top
from fastrpc.version import __version__

EPILOG = epilog(
    "fastrpc serve shop.orders:server --bind tcp://0.0.0.0:7000",
    "fastrpc describe 127.0.0.1:7000",
    "fastrpc call 127.0.0.1:7000 Arith.add 1 2",
    "fastrpc bench 127.0.0.1:7000 Arith.add 1 2 --duration 5",
)


class _InOrder(click.Group):
    """A group that lists its commands as they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in their order."""
        return list(self.commands)


@click.group(
    cls=_InOrder,
    help="Serve, call and measure Python methods over the network.",
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="fastrpc", message="%(prog)s %(version)s")
def main() -> None:
    """Run the command given."""
    # What the library would log where nobody has set up logging, the commands tell themselves.
    log, handler = logging.getLogger("fastrpc"), logging.NullHandler()
    log.addHandler(handler)
    click.get_current_context().call_on_close(lambda: log.removeHandler(handler))
    # A screen that lacks a character shows a question mark, not a traceback.
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")


for _command in (serve, registry, ls, top, call, describe, schema, stubs, ping, bench, dump):
    main.add_command(_command)
