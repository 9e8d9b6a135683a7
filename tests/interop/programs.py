"""Start programs that nobody here wrote, in the languages they are written in.

What they need is installed under build/ once. A program that was started is ended with the
test, whatever came of it.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.interop.node import ROOT, _locked

CACHE = ROOT / "build" / "peers"

_INSTALL_TIMEOUT = 240.0


def need(program: str) -> str:
    """Return where *program* is; skip the test if it is nowhere."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def free_port() -> int:
    """Return a port of this machine that nobody listens at."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def python_with(*specs: str) -> Path:
    """Return a Python of its own, with the packages *specs* installed."""
    folder = _folder("python", *specs)
    python = folder / "bin" / "python"
    with _locked(folder):
        if not (folder / "done").exists():
            _run([sys.executable, "-m", "venv", str(folder)])
            _run([str(python), "-m", "pip", "install", "--quiet", *specs])
            (folder / "done").touch()
    return python


def go_program(source: str) -> Path:
    """Return the program that Go makes of *source*."""
    go = need("go")
    folder = _folder("go", source)
    with _locked(folder):
        if not (folder / "program").exists():
            (folder / "main.go").write_text(source)
            own = {"GO111MODULE": "off", "GOCACHE": str(CACHE / "gocache"), "GOFLAGS": "-p=2"}
            _run([go, "build", "-o", "program", "main.go"], cwd=folder, env={**os.environ, **own})
    return folder / "program"


@contextlib.asynccontextmanager
async def running(*words: str | Path, port: int = 0, **options: Any) -> AsyncIterator[Any]:
    """Run a program as long as the block lasts; with *port*, from when it listens there on."""
    process = await asyncio.create_subprocess_exec(
        *map(str, words), stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, **options,
    )  # fmt: skip
    try:
        while port and not await _listens(port):
            assert process.returncode is None, await _said(process)
            await asyncio.sleep(0.02)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def finished(*words: str | Path, seconds: float = 20.0, **options: Any) -> str:
    """Run a program to its end and return what it said."""
    async with running(*words, **options) as process:
        async with asyncio.timeout(seconds):
            text = await _said(process)
            await process.wait()
        assert process.returncode == 0, text
        return text


async def told(*words: str | Path, **options: Any) -> Any:
    """Run a program to its end and return what its last line says as JSON."""
    text = await finished(*words, **options)
    return json.loads(text.rstrip().rpartition("\n")[2])


async def _said(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.read()).decode(errors="replace")


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


def _folder(*words: str) -> Path:
    return CACHE / hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]


def _run(words: list[str], **options: Any) -> None:
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT, check=False, **options
    )
    assert done.returncode == 0, f"{words}:\n{done.stdout}{done.stderr}"
