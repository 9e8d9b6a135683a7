"""Run programs of others on free ports, out of temporary folders, and end them.

with running(["tinyproxy", "-d", "-c", str(config)], ready=port) as process:
    ...
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

PATIENCE = 20.0  # seconds for a program to begin, and to end


def free_port() -> int:
    """Return a port of this machine that nobody listens at, for a moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def answers(port: int) -> bool:
    """Tell whether somebody listens at a port of this machine."""
    with socket.socket() as sock:
        sock.settimeout(1.0)
        return sock.connect_ex(("127.0.0.1", port)) == 0


def need(program: str) -> str:
    """Return where *program* is; without it the test is skipped."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


@contextlib.contextmanager
def running(
    args: Sequence[str],
    ready: int | Callable[[], object],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program as long as the block lasts, with all that it starts.

    Args:
        args: The program and its arguments.
        ready: The port where it answers once it is ready, or what tells that it is.
        cwd: Where to run.
        env: Environment variables beside ours.

    Raises:
        AssertionError: It ended, or did not become ready; with all it said.
    """
    is_ready = ready if callable(ready) else lambda: answers(ready)
    process = subprocess.Popen(
        [need(args[0]), *args[1:]], cwd=cwd, env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip
    try:
        end = time.monotonic() + PATIENCE
        while not is_ready():
            if process.poll() is not None or time.monotonic() > end:
                kill(process)
                raise AssertionError(f"{args[0]} is not ready: {output(process)}")
            time.sleep(0.01)
        yield process
    finally:
        kill(process)
        if process.stdout is not None:
            process.stdout.close()


def kill(process: "subprocess.Popen[bytes]") -> None:
    """End a program and what it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(2.0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(PATIENCE)


def output(process: "subprocess.Popen[bytes]") -> str:
    """Return what a program that has ended said."""
    assert process.stdout is not None
    return process.stdout.read().decode(errors="replace")
