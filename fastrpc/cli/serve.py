"""`fastrpc serve`: serve a module, a class, a function or a ready server."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypedDict

import click

import fastrpc
from fastrpc.cli import screen
from fastrpc.cli.loading import build_server
from fastrpc.cli.options import (
    bind_option,
    certificate,
    certificate_options,
    epilog,
    json_option,
    log_option,
    paragraphs,
)
from fastrpc.server import DOORS
from fastrpc.server.workers import Announcement, make_announcement, supervise
from fastrpc.transport import Plain

if TYPE_CHECKING:
    from fastrpc.server.announcing import AnnounceKeywords

DEFAULT_TARGET = "tcp://127.0.0.1:7000"

HELP = paragraphs(
    "Serve what MODULE:NAME names, until SIGTERM or Ctrl-C.",
    "NAME may be a fastrpc.Server, a class that needs no arguments, an object or a function. "
    "A module without NAME is asked for a server called 'server'; if it has none, its public "
    "functions are served. --debug-token, --origin and --host are for those: a ready server has "
    "options of its own. MODULE is imported from the current folder or the Python path; it "
    "may also be a file, path/to/module.py.",
    "On SIGTERM and SIGINT no more calls are taken, open ones are finished, and the exit code "
    "is 0.",
    "With --workers each process imports MODULE by itself. One that dies is started again, and "
    "SIGHUP replaces all, one after the other and without a failed call: the new ones read the "
    "code that is there then. With --reload that happens when a source file changes.",
)
EPILOG = epilog(
    "fastrpc serve shop.orders:server",
    "fastrpc serve shop.orders:Orders --bind tcp://0.0.0.0:7000 --bind unix:///run/shop.sock",
    "fastrpc serve examples/arith.py:Arith",
    "fastrpc serve math:sqrt",
    "fastrpc serve shop.orders:make_server --factory",
    "fastrpc serve shop.orders --bind tls://0.0.0.0:7443 --cert chain.pem --key key.pem",
    "fastrpc serve shop.orders --workers 4",
    "fastrpc serve shop.orders --reload",
    "fastrpc serve shop.orders --bind tcp://0.0.0.0:7000 --registry etcd://10.0.0.5:2379",
    "fastrpc serve shop.orders --bind tcp://127.0.0.1:0 --json | jq -r '.targets[]'",
    exits="Exit codes: 0 drained and stopped; 2 wrong usage; 5 an address can't be had, or no\n"
    "worker could be started.",
)


@click.command(help=HELP, epilog=EPILOG)
@click.argument("spec", metavar="MODULE:NAME")
@bind_option(DEFAULT_TARGET)
@click.option(
    "-w",
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes that share the port.",
)
@click.option(
    "--reload",
    "reloads",
    is_flag=True,
    help="Replace the workers when source files of theirs change: for development.",
)
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long open calls may take to finish at the end.",
)
@log_option
@click.option(
    "--door",
    "doors",
    multiple=True,
    type=click.Choice(DOORS),
    help="What is spoken there; may be repeated. By default everything, but metrics and debug "
    "only where nobody comes from another machine.",
)
@certificate_options
@click.option("--plain", is_flag=True, help="With --cert: let unencrypted connections in, too.")
@click.option(
    "--debug-token",
    envvar="FASTRPC_DEBUG_TOKEN",
    metavar="TOKEN",
    help="Who asks for the debug page has to know it. Better in FASTRPC_DEBUG_TOKEN: a command "
    "line can be read by everyone on this machine.",
)
@click.option(
    "--origin",
    "origins",
    multiple=True,
    metavar="ORIGIN",
    help="A site whose pages may call, such as https://app.example.com; may be repeated.",
)
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="A name that HTTP requests may have for this server; may be repeated.",
)
@click.option(
    "--registry",
    metavar="TARGET",
    help="Announce the services in this registry, such as etcd://10.0.0.5:2379; they are "
    "withdrawn before the end.",
)
@click.option(
    "--advertise",
    metavar="HOST",
    help="With --registry: the name or address of this machine for others, or a whole target. "
    "Without, the address with which it goes to the registry.",
)
@click.option("--zone", default="", metavar="NAME", help="With --registry: where this server is.")
@click.option("--factory", is_flag=True, help="Call NAME and serve what it returns.")
@json_option('Print one line when serving: {"event": "serving", "targets": [...], "pid": ...}.')
def serve(
    spec: str,
    targets: Sequence[str],
    workers: int,
    reloads: bool,
    grace: float,
    log_level: str,
    doors: Sequence[str],
    cert: str | None,
    key: str | None,
    client_ca: str | None,
    plain: bool,
    debug_token: str | None,
    origins: Sequence[str],
    hosts: Sequence[str],
    registry: str | None,
    advertise: str | None,
    zone: str,
    factory: bool,
    as_json: bool,
) -> None:
    """Serve until told to stop."""
    if registry is None and (advertise or zone):
        raise click.UsageError("--advertise and --zone are for a --registry")

    ready = partial(screen.show_targets, "serving", as_json=as_json)

    with screen.failures_told(as_json=as_json):
        http = None
        if debug_token or origins or hosts:
            http = fastrpc.HttpOptions(debug_token=debug_token or "", origins=origins, hosts=hosts)
        build = partial(_build, spec, factory=factory, http=http, log_level=log_level)
        tls = certificate(cert, key, client_ca)
        listening: _Listening = {
            "doors": doors or None, "tls": tls, "plain": "allow" if plain else None,
        }  # fmt: skip
        told: AnnounceKeywords = {"advertise": advertise, "zone": zone}
        if workers == 1 and not reloads:
            fastrpc.run(
                build(), *targets, grace=grace, ready=ready, registry=registry, announce=told,
                **listening,
            )  # fmt: skip
        else:
            announcement = None if registry is None else make_announcement(registry, told)
            _supervise(
                build, targets, workers, grace, ready, listening, log_level, announcement,
                reloads=reloads,
            )  # fmt: skip
    if not as_json:
        screen.notes().print("stopped")


class _Listening(TypedDict):
    doors: Sequence[str] | None
    tls: fastrpc.TlsOptions | None
    plain: Plain | None


def _build(
    spec: str, *, factory: bool, http: fastrpc.HttpOptions | None, log_level: str
) -> fastrpc.Server:
    server = build_server(spec, factory=factory, http=http)
    # Does nothing where the module has set up logging itself.
    logging.basicConfig(level=log_level.upper(), format=screen.LOG_FORMAT)
    return server


def _supervise(
    build: Callable[[], fastrpc.Server],
    targets: Sequence[str],
    workers: int,
    grace: float,
    ready: Callable[[Sequence[str]], None],
    listening: _Listening,
    log_level: str,
    announcement: Announcement | None,
    *,
    reloads: bool,
) -> None:
    """Serve with workers, each of which imports what it serves."""
    # The supervisor's own lines only: what is logged in a worker, and how, is the module's.
    log = logging.getLogger("fastrpc.server.workers")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(screen.LOG_FORMAT))
    log.addHandler(handler)
    log.propagate = False
    # Who saves a file wants to see that it was noticed.
    level = min(getattr(logging, log_level.upper()), logging.INFO if reloads else logging.ERROR)
    log.setLevel(level)

    def forget() -> None:
        log.removeHandler(handler)
        log.propagate = True
        log.setLevel(logging.NOTSET)

    def build_in_worker() -> fastrpc.Server:
        forget()
        return build()

    try:
        supervise(
            build_in_worker,
            targets,
            workers=workers,
            grace=grace,
            start=partial(fastrpc.Server.start, **listening),
            ready=ready,
            reloads=reloads,
            announcement=announcement,
        )
    finally:
        forget()
