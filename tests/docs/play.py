"""Play the examples of one page, in order, as a reader would: python -m tests.docs.play PAGE

* ```python: all blocks share one module and one event loop; `await` works at the top.
  What follows `# -> ` must be what that place prints, `...` stands for anything.
* ```python with `# name.py` as its first line: saved as that file, and run as a program
  of its own unless a console block names it.
* ```console: lines with `$ ` are commands, the lines below them what they print, as above;
  a line `...` stands for any number of lines, no lines for no promise. A command that
  ends in `&` stays in the background until `kill %1` or the end of the page. A command
  fails only if `$ echo $?` comes next.

Everything happens in a folder of its own. `/tmp/` is that folder, and ports 7000 to 7099
are free ones, so that pages can be played side by side.
"""

import ast
import asyncio
import contextlib
import inspect
import io
import logging
import os
import re
import signal
import socket
import sys
import tempfile
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.docs.pages import Block, name_of, runnable

PATIENCE = 240.0  # for one block, on a machine that has other work
_PROMISE = re.compile(r"# -> ?(.*)$", re.MULTILINE)
_PORT = re.compile(r"(?<=:)70\d\d\b")


class PlayError(Exception):
    """An example does not do what the page says."""


@dataclass(frozen=True, slots=True)
class Command:
    """One line of a console block, and the lines below it."""

    words: str
    promised: list[str]


def commands(text: str) -> list[Command]:
    """Return the commands of a console block."""
    found: list[Command] = []
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("$ "):
            found.append(Command(line[2:].strip(), []))
        elif not found:
            raise PlayError(f"a console block must begin with a command, not {line!r}")
        else:
            found[-1].promised.append(line)
    return found


def promises(text: str) -> list[str]:
    """Return what a block of Python says that it prints."""
    return [text.rstrip() for text in _PROMISE.findall(text)]


def _matches(promise: str, line: str) -> bool:
    pattern = ".*".join(map(re.escape, " ".join(promise.split()).split("...")))
    return re.fullmatch(pattern, " ".join(line.split())) is not None


def check_prints(promised: list[str], printed: str) -> None:
    """Find every promised line among the printed ones, in order."""
    lines = iter(printed.splitlines())
    for promise in promised:
        if not any(_matches(promise, line) for line in lines):
            raise PlayError(f"promised is\n  {promise}\nbut printed was\n{printed}")


def check_output(promised: list[str], output: str) -> None:
    """Compare all lines of a command's output with the promised ones."""
    lines, rest = output.splitlines(), list(promised)
    while rest:
        promise = rest.pop(0)
        if promise.strip() == "...":
            while lines and not (rest and _matches(rest[0], lines[0])):
                lines.pop(0)
        elif not lines or not _matches(promise, lines.pop(0)):
            raise PlayError(f"promised is\n  {promise}\nbut the output was\n{output}")
    if promised and lines:
        raise PlayError(f"more than promised: {lines}\nall of it:\n{output}")


@dataclass
class Stage:
    """Where a page is played: its folder, its ports, and what runs in the background."""

    folder: str
    ports: dict[str, str] = field(default_factory=dict)
    background: list[asyncio.subprocess.Process] = field(default_factory=list)
    status: int = 0

    def set(self, text: str) -> str:
        """Return *text* with the real folder and the real ports in it."""
        text = text.replace("/tmp/", f"{self.folder}/")
        return _PORT.sub(lambda found: self._port(found[0]), text)

    def _port(self, shown: str) -> str:
        if shown not in self.ports:
            with socket.socket() as sock:
                sock.bind(("127.0.0.1", 0))
                self.ports[shown] = str(sock.getsockname()[1])
        return self.ports[shown]

    def keep(self, block: Block) -> None:
        """Save a block that is a file."""
        Path(self.folder, block.file).write_text(self.set(block.text), encoding="utf-8")

    async def console(self, block: Block) -> None:
        """Type the commands of a block."""
        todo = commands(self.set(block.text))
        for place, command in enumerate(todo):
            following = todo[place + 1].words if place + 1 < len(todo) else ""
            if command.words.startswith("kill %"):
                await self._kill(command)
            elif command.words.endswith("&"):
                await self._start(command)
            else:
                await self._type(command, may_fail=following == "echo $?")

    async def _type(self, command: Command, *, may_fail: bool) -> None:
        process = await self._spawn(f"(exit {self.status})\n{command.words}")
        output, _ = await process.communicate()
        status = process.returncode
        assert status is not None
        if status and not may_fail:
            raise PlayError(f"$ {command.words}\nended with {status}:\n{output.decode()}")
        self.status = status
        with _named(command):
            check_output(command.promised, output.decode())

    async def _start(self, command: Command) -> None:
        process = await self._spawn("exec " + command.words.removesuffix("&"))
        self.background.append(process)
        assert process.stdout is not None
        lines = [await process.stdout.readline() for _ in command.promised or [""]]
        output = b"".join(lines).decode()
        if not output:
            raise PlayError(f"$ {command.words}\nended with {await process.wait()}")
        with _named(command):
            check_output(command.promised, output)

    async def _kill(self, command: Command) -> None:
        process = self.background.pop(int(command.words.removeprefix("kill %")) - 1)
        with _named(command):
            check_output(command.promised, await _stopped(process))

    async def run(self, name: str) -> str:
        """Run a file of the folder and return what it prints."""
        process = await self._spawn(f"exec python {name}")
        output, _ = await process.communicate()
        if process.returncode:
            raise PlayError(f"{name} ended with {process.returncode}:\n{output.decode()}")
        return output.decode()

    async def end(self) -> None:
        """Stop what still runs; it must stop in good order."""
        for process in self.background:
            await _stopped(process)

    async def kill(self) -> None:
        """Leave nothing behind, whatever went wrong."""
        for process in self.background:
            if process.returncode is None:
                process.kill()
                await process.communicate()

    async def _spawn(self, words: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            "sh", "-c", words, cwd=self.folder, env=_environment(),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip


async def _stopped(process: asyncio.subprocess.Process) -> str:
    process.send_signal(signal.SIGTERM)
    output, _ = await process.communicate()
    if process.returncode:
        raise PlayError(f"a background command ended with {process.returncode}: {output.decode()}")
    return output.decode()


@contextlib.contextmanager
def _named(command: Command) -> Iterator[None]:
    try:
        yield
    except PlayError as exc:
        raise PlayError(f"$ {command.words}\n{exc}") from None


def _environment() -> dict[str, str]:
    bin_folder = os.path.dirname(sys.executable)
    return os.environ | {
        "PATH": f"{bin_folder}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "PYTHONWARNINGS": "error::ResourceWarning,error::RuntimeWarning",
        "COLUMNS": "100",
    }


async def _python(block: Block, module: types.ModuleType, page: str, stage: Stage) -> str:
    """Run a block in the page's module and return what it prints."""
    text = "\n" * (block.line - 1) + stage.set(block.text)  # so that tracebacks tell the line
    code = compile(text, page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        made = eval(code, module.__dict__)
        if code.co_flags & inspect.CO_COROUTINE:
            await made
    return printed.getvalue()


async def play(page: str, text: str) -> None:
    """Play the page *text*; raise if an example fails or something is left running."""
    todo = runnable(text)
    shell = "".join(block.text for block in todo if block.language == "console")
    # Types are looked up by module, and pickled by name, so there has to be one.
    module = types.ModuleType("page")
    sys.modules["page"] = module
    with tempfile.TemporaryDirectory(prefix="page") as folder:
        os.chdir(folder)
        sys.path.insert(0, folder)
        stage = Stage(folder)
        try:
            for block in todo:
                try:
                    async with asyncio.timeout(PATIENCE):
                        await _play(block, module, page, stage, shell)
                except Exception as exc:
                    exc.add_note(f"in the example at {page}:{block.line}")
                    raise
            await stage.end()
        finally:
            await stage.kill()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if left:
        raise PlayError(f"{page} leaves something running: {left}")


async def _play(
    block: Block, module: types.ModuleType, page: str, stage: Stage, shell: str
) -> None:
    if block.language == "console":
        await stage.console(block)
        return
    if block.file:
        stage.keep(block)
        if block.file in shell:
            return
        printed = await stage.run(block.file)
    else:
        printed = await _python(block, module, page, stage)
    check_prints([stage.set(promise) for promise in promises(block.text)], printed)


if __name__ == "__main__":
    # What servers log about failing handlers is not for this screen.
    logging.getLogger().addHandler(logging.NullHandler())
    path = Path(sys.argv[1]).resolve()
    asyncio.run(play(name_of(path), path.read_text(encoding="utf-8")))
