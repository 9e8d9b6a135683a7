"""Install npm packages for tests, and run programs of Node.

Packages go into folders under build/, once for each set of them; the JavaScript client
is built where it stands. Several workers may ask at once: the first does the work.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
CACHE = ROOT / "build" / "node"
CLIENT = ROOT / "clients" / "js"

_INSTALL_TIMEOUT = 240.0
_MADE_FROM = ("*.json", "*.mjs", "src/*", "test/*")


def node_modules(*specs: str) -> Path:
    """Return a folder in which the npm packages *specs* are installed.

    Scripts that are run there, or with `cwd` there, find them by their names.
    """
    _need("npm")
    folder = CACHE / hashlib.sha256("\n".join(sorted(specs)).encode()).hexdigest()[:16]
    with _locked(folder):
        if not (folder / "done").exists():
            (folder / "package.json").write_text('{"private": true, "type": "module"}\n')
            _npm(folder, "install", "--no-save", *specs)
            (folder / "done").touch()
    return folder


def js_client() -> Path:
    """Return the folder of the JavaScript client, built: `dist` and `build/test` are there."""
    _need("npm")
    with _locked(CACHE / "client"):
        lock, built = CLIENT / "package-lock.json", CACHE / "client" / "built"
        installed = CLIENT / "node_modules" / ".package-lock.json"
        if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
            _npm(CLIENT, "ci")
            os.utime(installed)
        state = _state_of(CLIENT)
        if not built.exists() or built.read_text() != state:
            _npm(CLIENT, "run", "build:test", options=())
            built.write_text(_state_of(CLIENT))
    return CLIENT


async def run_node(
    script: str | Path,
    *words: str,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    seconds: float = 60.0,
) -> str:
    """Run a program of Node and return what it printed.

    Args:
        script: The program: a file, or its text as an ES module.
        words: Its arguments.
        cwd: Where to run; text can import what is installed there.
        env: Environment variables beside ours.
        seconds: How long it may take.

    Raises:
        AssertionError: It failed, or took too long; with all it said.
    """
    _need("node")
    given = [str(script)] if isinstance(script, Path) else ["--input-type=module", "-e", script]
    process = await asyncio.create_subprocess_exec(
        "node", *given, *words, cwd=cwd, env={**os.environ, **(env or {})},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(seconds):
            output, _ = await process.communicate()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()
        raise
    text = output.decode(errors="replace")
    assert process.returncode == 0, text
    return text


async def run_node_json(script: str | Path, *words: str, **options: Any) -> Any:
    """Run a program of Node and return what its last line says as JSON."""
    text = await run_node(script, *words, **options)
    return json.loads(text.rstrip().rpartition("\n")[2])


def _need(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


def _npm(folder: Path, *words: str, options: Iterable[str] = ("--no-audit", "--no-fund")) -> None:
    done = subprocess.run(
        ["npm", "--silent", *words, *options],
        cwd=folder, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"npm {' '.join(words)}:\n{done.stdout}{done.stderr}"


def _state_of(folder: Path) -> str:
    """Return what changes with everything the build is made from."""
    state = hashlib.sha256()
    for file in sorted([path for pattern in _MADE_FROM for path in folder.glob(pattern)]):
        state.update(f"{file.name}\0".encode() + file.read_bytes())
    built = (folder / "dist" / "fastrpc.js").exists() and (folder / "build" / "test").exists()
    return state.hexdigest() if built else ""


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
