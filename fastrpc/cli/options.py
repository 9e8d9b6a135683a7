"""Declare the options that several commands share, and connect with them.

Rules of the room:
  * an option means the same in every command, and is described once, here;
  * a setting not given is not passed on: the library's default counts.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

import fastrpc
from fastrpc.cli.exits import EXIT_HELP

F = TypeVar("F", bound=Callable[..., Any])

TARGET_HELP = """\
TARGET is where the server listens: tcp://127.0.0.1:7000 (or just 127.0.0.1:7000),
tcp://[::1]:7000, unix:///run/shop.sock, unix://@abstract, tls://rpc.example.com:7443,
ws://, wss://, http:// and https:// with a path, jsonrpc:// and msgpackrpc://."""

CLUSTER_HELP = """\
TARGET may also be a service in a registry: registry://127.0.0.1:7070/Shop,
etcd://10.0.0.5:2379/Shop, zookeeper://, redis://, file:///etc/instances.toml#Shop,
static:tcp://a:7000,tcp://b:7000, dns://shop.example.com:7000."""

ARGUMENTS_HELP = """\
ARGUMENTS are JSON: 1, 2.5, true, null, '"text"', '[1, 2]', '{"k": 1}'. A word
name=JSON is a keyword argument, @file stands for the bytes of a file (@- for
standard input)."""


def epilog(*lines: str, exits: str = EXIT_HELP) -> str:
    """Return the end of a help text: examples, and the exit codes."""
    examples = "\b\nExamples:\n" + "\n".join("  " + line for line in lines)
    return f"{examples}\n\n\b\n{exits}"


def paragraphs(*parts: str) -> str:
    """Return a help text of *parts*; those with line breaks keep them."""
    return "\n\n".join("\b\n" + part if "\n" in part else part for part in parts)


def target_argument(function: F) -> F:
    """Give a command its TARGET, and the options of the way there."""
    for name, metavar, text in reversed(_WAY):
        function = click.option(
            name, metavar=metavar, help=text, expose_value=False, callback=_note_way
        )(function)
    return click.argument("target", metavar="TARGET")(function)


_WAY = (
    ("--ca", "FILE", "Authorities to trust instead of the system's (PEM), for tls, wss, https."),
    ("--cert", "FILE", "Certificate to show to the server (PEM)."),
    ("--key", "FILE", "Its key, if it is not in the same file."),
    ("--proxy", "URL", "Forward proxy to go through, http://[user:password@]host:port."),
)
_TLS = ("ca", "cert", "key")


def cluster_options(function: F) -> F:
    """Give a command that calls a service in a registry what to choose instances by."""
    for name, metavar, text in reversed(_CHOICE):
        function = click.option(
            name, metavar=metavar, help=text, expose_value=False, callback=_note_way
        )(function)
    return function


_CHOICE = (
    ("--version", "NAME", "For a service in a registry: its version."),
    ("--group", "NAME", "For a service in a registry: its group."),
    ("--zone", "NAME", "For a service in a registry: where you are; instances there come first."),
    (
        "--balance",
        "NAME",
        "For a service in a registry: two_choices (default), random, round_robin, weighted, "
        "least_in_flight.",
    ),
    (
        "--failure-mode",
        "NAME",
        "For a service in a registry: fail_over (default), fail_fast, retry or hedge.",
    ),
)
_NOTED = "fastrpc.way"


def _note_way(context: click.Context, option: click.Parameter, value: str | None) -> None:
    # Beside the parameters of the commands: none of them looks at it, all hand it on.
    if value is not None and option.name is not None:
        context.meta.setdefault(_NOTED, {})[option.name] = value


def way_there() -> dict[str, Any]:
    """Return what the options of the way to TARGET say, as settings of a client."""
    context = click.get_current_context(silent=True)
    noted = dict(context.meta.get(_NOTED, {})) if context is not None else {}
    tls = {name: noted.pop(name) for name in _TLS if name in noted}
    return given(**noted, tls=fastrpc.TlsOptions(**tls) if tls else None)


def call_arguments(function: F) -> F:
    """Give a command METHOD, ARGUMENTS and the options that shape them."""
    for decorate in reversed(
        (
            click.argument("method", metavar="METHOD"),
            click.argument("words", metavar="[ARGUMENTS]...", nargs=-1, type=click.UNPROCESSED),
            click.option(
                "--args-json",
                metavar="JSON",
                help="All arguments at once: an array, or an object for keywords; - reads it "
                "from standard input.",
            ),
            click.option("--text", is_flag=True, help="Take words that are not JSON as text."),
        )
    ):
        function = decorate(function)
    return function


def connect_options(function: F) -> F:
    """Give a command the options of a connection."""
    for decorate in reversed(
        (
            click.option(
                "--timeout",
                type=click.FloatRange(min=0, min_open=True),
                metavar="SECONDS",
                help="Deadline of each call.",
            ),
            click.option(
                "--connect-timeout",
                type=click.FloatRange(min=0, min_open=True),
                metavar="SECONDS",
                help="How long to try to connect (default 3).",
            ),
            click.option(
                "--codec",
                metavar="NAME",
                help="How values are encoded: msgpack (default), json or raw.",
            ),
            metadata_option,
        )
    ):
        function = decorate(function)
    return function


def metadata_option(function: F) -> F:
    """Give a command what it sends beside the arguments."""
    return click.option(
        "-m",
        "--metadata",
        "metadata",
        multiple=True,
        metavar="KEY=VALUE",
        help="Metadata to send with each call; may be repeated.",
    )(function)


def bind_option(default: str) -> Callable[[F], F]:
    """Give a command that serves where it listens, at *default* if nobody says."""
    return click.option(
        "-b",
        "--bind",
        "targets",
        multiple=True,
        default=(default,),
        show_default=True,
        metavar="TARGET",
        help="Where to listen; may be repeated. Port 0 takes a free one.",
    )


log_option = click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="warning",
    show_default=True,
    help="What is logged to standard error.",
)


def certificate_options(function: F) -> F:
    """Give a command that serves its certificate; `certificate` makes use of them."""
    for name, text in reversed(
        (
            ("--cert", "Certificate chain (PEM): encrypt connections."),
            ("--key", "Its key, if it is not in the same file."),
            ("--client-ca", "Clients need a certificate of this authority."),
        )
    ):
        function = click.option(name, metavar="FILE", help=text)(function)
    return function


def certificate(
    cert: str | None, key: str | None, client_ca: str | None
) -> fastrpc.TlsOptions | None:
    """Return what `certificate_options` say, None if nothing."""
    if cert or key or client_ca:
        return fastrpc.TlsOptions(cert=cert, key=key, ca=client_ca)
    return None


def json_option(text: str) -> Callable[[F], F]:
    """Give a command `--json`, described by *text*."""
    return click.option("--json", "as_json", is_flag=True, help=text)


def given(**settings: object) -> dict[str, Any]:
    """Return the *settings* that have a value."""
    return {name: value for name, value in settings.items() if value is not None and value != {}}


def connect(target: str, **settings: object) -> fastrpc.Client:
    """Return a client for *target*; settings without a value are left out."""
    return fastrpc.connect(target, **way_there(), **given(**settings))


# Negative numbers look like options to the parser; with this they stay arguments.
ARGUMENT_SETTINGS: dict[str, Any] = {"ignore_unknown_options": True}

Words = Sequence[str]
