"""Write for people on a terminal and for programs in a pipe.

Rules of the room:
  * results go to standard output, everything else to standard error;
  * colours only on a terminal, and never with NO_COLOR (rich sees to both);
  * a console is made per command, for the streams of that moment.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import click
from rich.console import Console
from rich.text import Text

from fastrpc.cli.exits import exit_code
from fastrpc.cli.values import to_json
from fastrpc.errors import CallError, DeadlineExceeded, FastRPCError, Internal, RemoteError

# Without a terminal there is no width to wrap at; programs cut lines themselves.
_PIPE_WIDTH = 400

#: Of lines of the log.
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def results() -> Console:
    """Return the console for results, on standard output."""
    return _console(stderr=False)


def notes() -> Console:
    """Return the console for progress and errors, on standard error."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _PIPE_WIDTH
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def has_blocks(console: Console) -> bool:
    """Tell whether *console* can show block characters and the like."""
    return console.encoding.startswith("utf")


def visible(text: str) -> str:
    """Return *text* with control characters written out.

    Names, docs and errors come from the other side of the network, and a
    terminal obeys what they contain.
    """
    return "".join(
        char if char.isprintable() or char in "\n\t" else ascii(char)[1:-1] for char in text
    )


def width_of(console: Console) -> int | None:
    """Return how many cells a line may have: None for a pipe, which gets all there is."""
    return console.width if console.is_terminal else None


def write_lines(console: Console, lines: Iterable[Text]) -> None:
    """Write lines that are laid out already: they are not wrapped."""
    whole = Text("\n").join(lines)  # printing each by itself takes twice as long
    console.print(whole, soft_wrap=True)


def write_json(value: object) -> None:
    """Write *value* as one line of JSON to standard output, at once."""
    click.echo(to_json(value))
    sys.stdout.flush()


def show_targets(what: str, targets: Sequence[str], *, as_json: bool) -> None:
    """Tell where somebody serves now.

    Args:
        what: Who does, in a word for people.
        targets: The real addresses.
        as_json: Tell it to a program.
    """
    if as_json:
        write_json({"event": "serving", "targets": list(targets), "pid": os.getpid()})
        return
    console = results()
    for target in targets:
        console.print(Text.assemble(f"{what} on ", (target, "bold green")), soft_wrap=True)
    console.file.flush()


def write_result(value: object) -> None:
    """Write what a call returned: JSON in colours, or bytes as they are.

    Bytes go to a pipe unchanged, so that `fastrpc call ... > file` works; a
    terminal gets them as a Python literal.
    """
    console = results()
    if isinstance(value, bytes | bytearray | memoryview):
        if console.is_terminal:
            console.print(Text(repr(bytes(value))), soft_wrap=True)
        else:
            click.echo(bytes(value), nl=False)
        return
    if console.is_terminal:
        console.print_json(to_json(value), indent=2, ensure_ascii=not has_blocks(console))
    else:
        click.echo(to_json(value, indent=2))


def describe_error(error: FastRPCError) -> dict[str, object]:
    """Return *error* as the JSON object that `--json` writes."""
    told: dict[str, object] = {
        "type": type(error).__name__,
        # Code and remote class have keys of their own.
        "message": error.message if isinstance(error, RemoteError) else str(error),
        "status": int(error.status),
        "ran": error.ran,
    }
    if isinstance(error, CallError) and error.retry_after is not None:
        told["retry_after"] = error.retry_after
    if isinstance(error, RemoteError | Internal) and error.call_id:  # the server's log has it
        told["call_id"] = error.call_id
    if isinstance(error, RemoteError):
        told |= {"remote_type": error.type, "code": error.code, "data": error.data}
        if error.trace:
            told["trace"] = error.trace
    if isinstance(error, DeadlineExceeded):
        told["stages"] = error.stages
        told["attempts"] = error.attempts
    return told


def write_error(error: FastRPCError) -> None:
    """Write *error* to standard error, in the words it brings."""
    console = notes()
    name = type(error).__name__
    head = Text.assemble(("error: ", "bold red"), (name, "bold"), visible(f": {error}"))
    console.print(head, soft_wrap=True)
    if isinstance(error, RemoteError):
        if error.data is not None:
            console.print(Text(f"  data: {to_json(error.data)}"), soft_wrap=True)
        if error.trace:
            console.print(Text(visible(error.trace.rstrip()), style="dim"), soft_wrap=True)


@contextmanager
def failures_told(*, as_json: bool = False) -> Iterator[None]:
    """Turn errors of the library into words or JSON and an exit code."""
    try:
        yield
    except FastRPCError as error:
        if as_json:
            write_json({"error": describe_error(error)})
        else:
            write_error(error)
        raise click.exceptions.Exit(exit_code(error)) from None
    except KeyboardInterrupt as error:
        raise click.exceptions.Exit(exit_code(error)) from None
