"""Start the two ends of a loopback call, each in a process of its own."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Way:
    """Which twin, event loop and transport both ends use; loop "blocking" is the client's."""

    twin: str
    loop: str
    scheme: str

    def __str__(self) -> str:
        return f"{self.twin}, {self.loop}, {self.scheme}"


Drive = Callable[[int, int, int], float]


def start(way: Way, role: str, target: str) -> subprocess.Popen[str]:
    """Start one end and wait until it says which twin it has."""
    loop = "uvloop" if role == "serve" and way.loop == "blocking" else way.loop
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment["FASTRPC_PURE"] = "1" if way.twin == "pure" else "0"
    end = subprocess.Popen(
        [sys.executable, "-m", "bench.loop.ends", role, loop, target],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=ROOT,
    )
    assert end.stdout is not None
    found = end.stdout.readline().strip()
    if found != way.twin:
        stop(end)
        raise RuntimeError(f"the {role} end has the twin {found or 'none'!r}, not {way.twin!r}")
    return end


def stop(end: subprocess.Popen[str]) -> None:
    """End a process and close its pipes."""
    end.kill()
    end.communicate()


def free_target(way: Way, folder: Path) -> str:
    """Return an address that is free."""
    if way.scheme == "unix":
        return f"unix://{folder}/{way.twin}-{way.loop}.sock"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def open_way(way: Way, folder: Path, running: ExitStack) -> Drive:
    """Start both ends of *way*, to be ended by *running*; return what makes calls on it."""
    target = free_target(way, folder)
    running.callback(stop, start(way, "serve", target))
    client = start(way, "call", target)
    running.callback(stop, client)

    def make_calls(size: int, in_flight: int, calls: int) -> float:
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(f"{size} {in_flight} {calls}\n")
        client.stdin.flush()
        return float(client.stdout.readline())

    return make_calls
