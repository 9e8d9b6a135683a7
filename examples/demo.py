"""A tour in half a minute: three real instances, real records, real numbers, real losses.

    python examples/demo.py [--seconds 3] README.md [FILE...]

Starts a registry and three instances of examples/unicode_service.py, each in a process of
its own, finds them through the registry, and looks up every character of the files given.
Measures a call. Then it kills an instance and restarts all of them in turn, while calls go
on: none may fail.
"""

import argparse
import asyncio
import functools
import json
import signal
import subprocess
import sys
import time
import unicodedata
from collections import Counter
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.table import Table
from rich.text import Text
from unicode_service import Character, Unicode

import fastrpc
from fastrpc.cli import loops, report
from fastrpc.cli.load import Load, LoadOptions

HERE = Path(__file__).parent
INSTANCES = 3
IN_FLIGHT = 256
CALLERS = 32
MAX_CHARACTERS = 100_000


class Processes:
    """A registry and the instances that are listed there; all end with the block."""

    def __init__(self) -> None:
        self._running: list[subprocess.Popen[str]] = []
        self.instances: list[subprocess.Popen[str]] = []
        self.targets: list[str] = []
        self.registry = ""

    def __enter__(self) -> "Processes":
        _, target = self._start("registry", "--bind", "tcp://127.0.0.1:0")
        self.registry = target.replace("tcp://", "registry://")
        for number in range(INSTANCES):
            self.start(number)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._running:
            process.kill()
            process.communicate()

    def start(self, number: int) -> None:
        """Start an instance; it is listed when this returns."""
        service = str(HERE / "unicode_service.py:Unicode")
        words = ("serve", service, "--bind", "tcp://127.0.0.1:0", "--registry", self.registry)
        process, target = self._start(*words)
        self.instances[number:] = [process, *self.instances[number + 1 :]]
        self.targets[number:] = [target, *self.targets[number + 1 :]]

    def end(self, number: int, how: signal.Signals) -> None:
        """End an instance and wait until it is gone."""
        process = self.instances[number]
        process.send_signal(how)
        process.communicate()
        self._running.remove(process)

    def _start(self, *words: str) -> tuple["subprocess.Popen[str]", str]:
        command = [sys.executable, "-m", "fastrpc", *words, "--json"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._running.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"fastrpc {words[0]} did not start (exit code {process.wait()})")
        return process, json.loads(line)["targets"][0]


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


class Storm:
    """Calls that go on while instances come and go."""

    def __init__(self, console: Console, client: fastrpc.Client) -> None:
        self._console = console
        self._unicode = client.stub(Unicode)
        self._began = time.monotonic()
        self._is_over = False
        self.calls = 0
        self.failed: Counter[str] = Counter()

    async def _caller(self) -> None:
        while not self._is_over:
            try:
                await self._unicode.character("é")  # type: ignore[misc]
            except fastrpc.FastRPCError as error:
                self.failed[f"{type(error).__name__}: {error}"] += 1
            self.calls += 1

    def _say(self, text: str) -> None:
        since = time.monotonic() - self._began
        failed = sum(self.failed.values())
        line = f"  {since:5.1f} s  {self.calls:>9,} calls  {failed} failed   {text}"
        self._console.print(Text(line))

    async def blow(self, processes: Processes) -> None:
        """Kill one instance, start another in its place, then restart all in turn."""
        callers = [asyncio.create_task(self._caller()) for _ in range(CALLERS)]
        await asyncio.sleep(0.5)
        self._say(f"{INSTANCES} instances; each says goodbye 2 s before it ends")
        await asyncio.to_thread(processes.end, 0, signal.SIGKILL)
        self._say("one was killed with SIGKILL")
        await asyncio.to_thread(processes.start, 0)
        self._say("another stands in its place")
        for number in range(INSTANCES):
            await asyncio.to_thread(processes.end, number, signal.SIGTERM)
            await asyncio.to_thread(processes.start, number)
            self._say(f"restarted number {number + 1} of {INSTANCES}")
        await asyncio.sleep(0.5)
        self._is_over = True
        await asyncio.gather(*callers)


async def tour(console: Console, processes: Processes, text: str, measured: float) -> int:
    """Show one thing after the other; return how many calls have failed in the storm."""
    target = f"{processes.registry}/Unicode"
    async with fastrpc.connect(target, timeout=10.0) as client:
        unicode = client.stub(Unicode)
        about = await unicode.about()  # type: ignore[misc]
        console.print(
            f"{target} leads to {INSTANCES} instances, which serve Unicode {about.unicode_version}:"
            f" {about.characters:,} characters, {about.words:,} words"
        )
        page = processes.targets[0].replace("tcp://", "http://")
        console.print(f"look on while it lasts: {page}/debug/rpc")

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

        title = f"\n{CALLERS} callers, while an instance is killed and all are restarted"
        console.print(Text(title, style="bold"))
        storm = Storm(console, client)
        await storm.blow(processes)
        failed = sum(storm.failed.values())
        for error, times in storm.failed.most_common():
            console.print(Text(f"  {times} x {error}", style="red"))
        style = "bold red" if failed else "bold green"
        console.print(Text(f"\n{storm.calls:,} calls, {failed} failed", style=style))
        return failed


def main() -> int:
    parser = argparse.ArgumentParser(description="A tour of fastrpc in half a minute.")
    parser.add_argument("files", nargs="+", metavar="FILE", help="text to look up")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each measurement")
    options = parser.parse_args()
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    text = read(options.files, console)
    with Processes() as processes:
        failed = loops.run(tour(console, processes, text, options.seconds))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
