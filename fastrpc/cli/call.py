"""`fastrpc call`: make one call from a shell."""

import time

import click

from fastrpc.cli import loops, screen
from fastrpc.cli.options import (
    ARGUMENT_SETTINGS,
    ARGUMENTS_HELP,
    TARGET_HELP,
    Words,
    call_arguments,
    connect,
    connect_options,
    epilog,
    json_option,
    paragraphs,
    target_argument,
)
from fastrpc.cli.values import Arguments, parse_arguments, parse_pairs

HELP = paragraphs(
    "Call METHOD and print what it returns, as JSON.",
    ARGUMENTS_HELP,
    "Bytes that a method returns go to a pipe or file unchanged.",
    TARGET_HELP,
)
EPILOG = epilog(
    "fastrpc call 127.0.0.1:7000 Arith.add 1 2",
    "fastrpc call 127.0.0.1:7000 Arith.add a=1 b=2",
    "fastrpc call 127.0.0.1:7000 Greeter.hello '\"Ada\"' --timeout 0.5",
    "fastrpc call 127.0.0.1:7000 Greeter.hello Ada --text",
    "fastrpc call unix:///run/shop.sock Files.put '\"logo\"' @logo.png",
    "echo '[1, 2]' | fastrpc call 127.0.0.1:7000 Arith.add --args-json - --json",
)


@click.command(help=HELP, epilog=EPILOG, context_settings=ARGUMENT_SETTINGS)
@target_argument
@call_arguments
@connect_options
@json_option('Print one line: {"result": ..., "seconds": ...} or {"error": {...}}.')
def call(
    target: str,
    method: str,
    words: Words,
    args_json: str | None,
    text: bool,
    timeout: float | None,
    connect_timeout: float | None,
    codec: str | None,
    metadata: Words,
    as_json: bool,
) -> None:
    """Make one call and print its result."""

    async def make(arguments: Arguments) -> tuple[object, float]:
        async with connect(
            target,
            timeout=timeout,
            connect_timeout=connect_timeout,
            codec=codec,
            metadata=parse_pairs(metadata, "--metadata"),
        ) as client:
            started = time.perf_counter()
            result = await client.call(method, *arguments.positional, **arguments.keywords)
            return result, time.perf_counter() - started

    with screen.failures_told(as_json=as_json):
        result, seconds = loops.run(make(parse_arguments(words, args_json=args_json, text=text)))
        if as_json:
            screen.write_json({"result": result, "seconds": round(seconds, 6)})
        else:
            screen.write_result(result)
