"""`fastrpc call`: make one call from a shell."""

import time
from collections.abc import AsyncIterator

import click

from fastrpc.cli import loops, screen
from fastrpc.cli.options import (
    ARGUMENT_SETTINGS,
    ARGUMENTS_HELP,
    CLUSTER_HELP,
    TARGET_HELP,
    Words,
    call_arguments,
    cluster_options,
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
    CLUSTER_HELP,
)
EPILOG = epilog(
    "fastrpc call 127.0.0.1:7000 Arith.add 1 2",
    "fastrpc call 127.0.0.1:7000 Arith.add a=1 b=2",
    "fastrpc call 127.0.0.1:7000 Greeter.hello '\"Ada\"' --timeout 0.5",
    "fastrpc call 127.0.0.1:7000 Greeter.hello Ada --text",
    "fastrpc call 127.0.0.1:7000 Orders.follow 7 --stream",
    "fastrpc call unix:///run/shop.sock Files.put '\"logo\"' @logo.png",
    "echo '[1, 2]' | fastrpc call 127.0.0.1:7000 Arith.add --args-json - --json",
)


@click.command(help=HELP, epilog=EPILOG, context_settings=ARGUMENT_SETTINGS)
@target_argument
@cluster_options
@call_arguments
@connect_options
@click.option("--stream", is_flag=True, help="METHOD gives a stream: print a line per item.")
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
    stream: bool,
    as_json: bool,
) -> None:
    """Make one call and print its result, or the items of its stream."""

    async def make(arguments: Arguments) -> tuple[object, float]:
        async with connect(
            target,
            timeout=timeout,
            connect_timeout=connect_timeout,
            codec=codec,
            metadata=parse_pairs(metadata, "--metadata"),
        ) as client:
            started = time.perf_counter()
            positional, named = arguments.positional, arguments.keywords
            if stream:
                items = client.stream(method, *positional, **named)
                result: object = await _write_items(items)
            else:
                result = await client.call(method, *positional, **named)
            return result, time.perf_counter() - started

    with screen.failures_told(as_json=as_json):
        result, seconds = loops.run(make(parse_arguments(words, args_json=args_json, text=text)))
        if as_json:
            told = {"items": result} if stream else {"result": result}
            screen.write_json({**told, "seconds": round(seconds, 6)})
        elif stream:
            return
        else:
            screen.write_result(result)


async def _write_items(items: AsyncIterator[object]) -> int:
    """Print a line per item; return how many there were."""
    count = 0
    async for item in items:
        screen.write_json(item)
        count += 1
    return count
