"""`fastrpc registry`: be the place where servers say where they are."""

import logging
from collections.abc import Sequence
from functools import partial

import click

from fastrpc.cli import screen
from fastrpc.cli.options import (
    bind_option,
    certificate,
    certificate_options,
    epilog,
    json_option,
    log_option,
    paragraphs,
)
from fastrpc.cluster.registrar.run import MEMORY, Registrar, run_registrar

DEFAULT_TARGET = "tcp://127.0.0.1:7070"

HELP = paragraphs(
    "Serve as a registry until SIGTERM or Ctrl-C: servers say there where they are, clients "
    "look there for servers.",
    "What is published is a lease: it is gone when its owner has not renewed it in time. With "
    "--data a restart forgets nothing, and every lease begins anew then. One file belongs to "
    "one process.",
    "Registry servers don't know each other. Run two or three and name all of them: servers "
    "publish to each, clients ask one after the other. Whoever can connect may publish: let "
    "it be reached by your own machines alone, or ask for certificates with --client-ca.",
)
EPILOG = epilog(
    "fastrpc registry",
    "fastrpc registry --bind tcp://0.0.0.0:7070 --data /var/lib/fastrpc/registry.db",
    "fastrpc registry --bind tls://0.0.0.0:7070 --cert chain.pem --key key.pem --client-ca ca.pem",
    "fastrpc registry --bind tcp://127.0.0.1:0 --json | jq -r '.targets[]'",
    exits="Exit codes: 0 stopped; 2 wrong usage, or a file that can't be used; "
    "5 an address can't be had.",
)


@click.command(help=HELP, epilog=EPILOG)
@bind_option(DEFAULT_TARGET)
@click.option(
    "--data",
    default=MEMORY,
    show_default=True,
    metavar="FILE",
    help="Where entries are kept; made if it isn't there.",
)
@click.option(
    "--max-ttl",
    "--ttl",
    "max_ttl",
    type=click.FloatRange(min=1, max=86_400),
    default=86_400.0,
    show_default=True,
    metavar="SECONDS",
    help="Longest lease; who asks for a longer one is refused.",
)
@log_option
@certificate_options
@json_option('Print one line when serving: {"event": "serving", "targets": [...], "pid": ...}.')
def registry(
    targets: Sequence[str],
    data: str,
    max_ttl: float,
    log_level: str,
    cert: str | None,
    key: str | None,
    client_ca: str | None,
    as_json: bool,
) -> None:
    """Serve until told to stop."""
    ready = partial(screen.show_targets, "registry", as_json=as_json)

    with screen.failures_told(as_json=as_json):
        logging.basicConfig(level=log_level.upper(), format=screen.LOG_FORMAT)
        tls = certificate(cert, key, client_ca)
        registrar = Registrar(data, max_ttl=max_ttl, tls=tls)
        run_registrar(registrar, *targets, ready=ready)
    if not as_json:
        screen.notes().print("stopped")
