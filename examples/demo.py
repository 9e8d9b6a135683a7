"""A tour in twenty seconds: a real server, real records, real numbers.

    python examples/demo.py [--seconds 3] README.md [FILE...]

Starts examples/unicode_service.py in a process of its own, looks up every
character of the files given, and then measures the same call: with 256 in
flight, and one at a time.
"""

import argparse
import asyncio
import functools
import json
import subprocess
import sys
import time
import unicodedata
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text
from unicode_service import Character, Unicode

import fastrpc
from fastrpc.cli import loops, report
from fastrpc.cli.load import Load, LoadOptions

HERE = Path(__file__).parent
IN_FLIGHT = 256
MAX_CHARACTERS = 100_000


@contextmanager
def service() -> Iterator[str]:
    """Serve the Unicode database on a free port until the block ends; give the target."""
    command = [sys.executable, "-m", "fastrpc", "serve", str(HERE / "unicode_service.py:Unicode")]
    command += ["--bind", "tcp://127.0.0.1:0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise SystemExit(f"the service did not start (exit code {process.wait()})")
            yield json.loads(line)["targets"][0]
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()


def read(names: list[str], console: Console) -> str:
    """Return the text of the files, cut to what a demo has time for."""
    text = "".join(Path(name).read_text(encoding="utf-8", errors="replace") for name in names)
    if len(text) > MAX_CHARACTERS:
        console.print(f"(only the first {MAX_CHARACTERS:,} of {len(text):,} characters)")
    return text[:MAX_CHARACTERS]


async def look_up(unicode: Unicode, text: str) -> list[Character]:
    """Look up every character of *text*, with many calls in flight, in order."""
    found: list[Character | None] = [None] * len(text)
    places = iter(enumerate(text))

    async def worker() -> None:
        for place, char in places:
            found[place] = await unicode.character(char)  # type: ignore[misc]

    await asyncio.gather(*[worker() for _ in range(IN_FLIGHT)])
    return [character for character in found if character is not None]


def show_characters(console: Console, characters: list[Character]) -> None:
    """Print the characters worth looking at: beyond ASCII first, then the rarest."""
    counts = Counter(characters)
    special = sorted(counts, key=lambda c: (c.char.isascii(), counts[c], -ord(c.char)))[:8]
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for head in ("", "code", "name", "category", "bytes", "times"):
        table.add_column(head, justify="right" if head == "times" else "left")
    for character in special:
        printable = unicodedata.category(character.char)[0] not in "CZM"
        table.add_row(
            Text(character.char if printable else "·", style="bold yellow"),
            character.code,
            Text(character.name, style="bold"),
            character.category,
            character.utf8.hex(" "),
            f"{counts[character]:,}",
        )
    console.print(table)


async def measure(console: Console, client: fastrpc.Client, in_flight: int, seconds: float) -> None:
    """Print what one method takes with so many calls in flight."""
    title = f"{in_flight} in flight" if in_flight > 1 else "one at a time"
    console.print(Text(f"\nUnicode.character('é'), {title}, {seconds:g} s", style="bold"))
    call = functools.partial(client.call, "Unicode.character", "é")
    options = LoadOptions(concurrency=in_flight, duration=seconds, warmup=0.3)
    with report.live_line(console, seconds) as watch:
        result = await Load(call, options, watch).run()
    report.show_result(console, result)


async def tour(console: Console, target: str, text: str, measured: float) -> None:
    """Show one thing after the other."""
    async with fastrpc.connect(target) as client:
        unicode = client.stub(Unicode)
        about = await unicode.about()  # type: ignore[misc]
        console.print(
            f"{target} serves Unicode {about.unicode_version}: {about.characters:,} characters, "
            f"{about.words:,} words, indexed in {about.built_in} s"
        )

        started = time.perf_counter()
        characters = await look_up(unicode, text)
        seconds = time.perf_counter() - started
        console.print(
            f"looked up {len(characters):,} characters, one call each, in {seconds:.2f} s; "
            f"{len(set(characters))} different ones, some of the rarer:\n"
        )
        show_characters(console, characters)

        found = await unicode.search("chess kn*", limit=6)  # type: ignore[misc]
        console.print(f"\nsearch 'chess kn*': {found.total} characters, such as")
        for character in found.characters:
            console.print(Text(f"  {character.char}  {character.code}  {character.name}"))

        try:
            await unicode.named("SNOWMAN ON HOLIDAY")  # type: ignore[misc]
        except fastrpc.RpcError as error:
            console.print(f"an error of the service: code {error.code}, {error.message}")

        await measure(console, client, IN_FLIGHT, measured)
        await measure(console, client, 1, measured)


def main() -> None:
    parser = argparse.ArgumentParser(description="A tour of fastrpc in twenty seconds.")
    parser.add_argument("files", nargs="+", metavar="FILE", help="text to look up")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each measurement")
    options = parser.parse_args()
    console = Console(highlight=False, markup=False, emoji=False)
    text = read(options.files, console)
    with service() as target:
        loops.run(tour(console, target, text, options.seconds))
    console.print("\nthe service has drained and stopped")


if __name__ == "__main__":
    main()
