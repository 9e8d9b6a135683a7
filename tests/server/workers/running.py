"""Run a server with workers in a process of its own, and look at it from outside."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import IO, Any

import fastrpc

ROOT = Path(__file__).parents[3]

PROGRAM = """
import asyncio, json, logging, os, sys, time
import fastrpc

logging.basicConfig(level="INFO", format="%(message)s")


class Work:
    def pid(self) -> int:
        return os.getpid()

    async def pause(self, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "done"


options = json.loads(sys.argv[1])
tls = fastrpc.TlsOptions(cert=options.pop("cert")) if "cert" in options else None
server = fastrpc.Server()
server.register(Work())
fastrpc.run(
    server,
    *sys.argv[2:],
    ready=lambda targets: print(json.dumps(targets), flush=True),
    tls=tls,
    **options,
)
print("returned", flush=True)
"""


class Served:
    """A supervisor and its workers."""

    def __init__(self, *targets: str, **options: Any) -> None:
        words = {"workers": 2, "grace": 5.0, **options}
        self.popen = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PROGRAM, json.dumps(words), *targets],
            cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert self.popen.stdout is not None
        assert self.popen.stderr is not None
        self.stdout: IO[str] = self.popen.stdout
        self.stderr: IO[str] = self.popen.stderr
        self.targets: list[str] = json.loads(self.stdout.readline())

    def until_said(self, words: str, times: int = 1) -> None:
        """Read what it logs until it says so."""
        while times:
            line = self.stderr.readline()
            assert line, f"it ended before it said {words!r}"
            times -= words in line

    def send(self, number: int) -> None:
        self.popen.send_signal(number)

    def get(self, path: str) -> bytes:
        """Get a page from whichever worker answers."""
        url = self.targets[0].replace("tcp://", "http://") + path
        with urllib.request.urlopen(url, timeout=10) as reply:
            body: bytes = reply.read()
        return body

    def facts(self) -> Any:
        return json.loads(self.get("/debug/rpc/facts.json"))

    def pids(self) -> set[int]:
        return {worker["pid"] for worker in self.facts()["workers"]}

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str, str]:
        """Stop it; return exit code and what it has printed since."""
        self.send(number)
        out, err = self.popen.communicate(timeout=20)
        return self.popen.returncode, out, err


def call(target: str, method: str = "Work.pid", *args: Any, **options: Any) -> Any:
    """Make one call on a connection of its own."""
    with fastrpc.connect_sync(target, timeout=10.0, **options) as client:
        return client.call(method, *args)


def is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


def wait_for(condition: Any, patience: float = 15.0) -> None:
    """Look again and again until *condition* holds."""
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.01)
