"""Run fastrpc and its peers in turn and write what came out.

    python -m bench.compare.run [--rounds 5] [--seconds 0.7] [--only NAME,NAME]
                                [--quick] [--strict] [--output FOLDER]

Each round runs every peer once, every second round in reverse order, so that
what disturbs the machine for a minute hits all alike. A peer's server is pinned
to the first core; its client first to the same one, then to the second.

Figures from a machine that has something else to do are worth nothing; the
load average at the start is noted in the report.
"""

import argparse
import datetime
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.compare import environment
from bench.compare.chart import draw
from bench.compare.goals import judge
from bench.compare.host import NOT_HERE
from bench.compare.load import Figures
from bench.compare.peers import MODULES, Entry
from bench.compare.results import ONE_CORE, TWO_CORES, Key, Results, write_json
from bench.compare.tables import goal_lines, write_report

STARTING = 20.0  # seconds a server may take until it listens
PER_LOAD = 20.0  # seconds a load may take beyond its measured time
IMPORT = (
    "import time; begin = time.perf_counter(); from fastrpc import connect;"
    " print(time.perf_counter() - begin)"
)


class Stopped(Exception):
    """An end of a peer gave up; the message says why."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asked for.

    Attributes:
        names: Peers to run, in order.
        rounds: How often each is run.
        seconds: Counted time of each load.
        cores: First the server's core, then the second client's.
    """

    names: Sequence[str]
    rounds: int
    seconds: float
    cores: Sequence[int]

    @property
    def placements(self) -> list[tuple[str, int]]:
        """Return the name of each table and the core its clients run on."""
        places = [(ONE_CORE, self.cores[0])]
        if len(self.cores) > 1:
            places.append((TWO_CORES, self.cores[1]))
        return places


def pinned(core: int, role: str, *words: object) -> list[str]:
    """Return the command that runs one end on *core*."""
    taskset = shutil.which("taskset")
    pin = [taskset, "-c", str(core)] if taskset else []
    host = [str(environment.PYTHON), "-m", "bench.compare.host", role]
    return [*pin, *host, *map(str, words)]


def surroundings(entry: Entry) -> dict[str, str]:
    """Return the environment of a peer's processes."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, "PYTHONPATH": str(environment.ROOT), **entry.environment}


def free_port() -> int:
    """Return a TCP port that nobody uses right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def read_reason(output: str) -> str:
    """Return why an end can't run here, from what it printed."""
    for line in output.splitlines():
        if line.startswith('{"not_here"'):
            return str(json.loads(line)["not_here"])
    return output.strip().splitlines()[-1] if output.strip() else "no word"


@contextmanager
def serving(name: str, port: int, folder: Path, core: int) -> Iterator[int]:
    """Run a peer's server, wait until it listens, and end it with all its children."""
    log = folder / f"{name}.log"
    with log.open("wb") as out:
        server = subprocess.Popen(
            pinned(core, "serve", name, port, folder),
            stdout=out,
            stderr=subprocess.STDOUT,
            env=surroundings(MODULES[name]),
            cwd=environment.ROOT,
            start_new_session=True,
        )
    try:
        wait_until_listening(server, port, log)
        yield server.pid
    finally:
        # A session of its own: whatever the server started ends with it.
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def wait_until_listening(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Return once *port* answers; raise `Stopped` if the server ends before."""
    give_up = time.monotonic() + STARTING
    while time.monotonic() < give_up:
        if server.poll() is not None:
            raise Stopped(read_reason(log.read_text(errors="replace")))
        try:
            socket.create_connection(("127.0.0.1", port), 0.5).close()
            return
        except OSError:
            time.sleep(0.02)
    raise Stopped(f"the server did not listen within {STARTING:g} s")


def call_all(
    name: str, port: int, folder: Path, core: int, seconds: float, server: int
) -> list[dict[str, Any]]:
    """Run a peer's client on *core* and return what it told of each load."""
    client = subprocess.run(
        pinned(core, "client", name, port, folder, seconds, server),
        capture_output=True,
        text=True,
        env=surroundings(MODULES[name]),
        cwd=environment.ROOT,
        timeout=10 * (seconds * 2 + PER_LOAD),
        check=False,
    )
    if client.returncode == NOT_HERE:
        raise Stopped(read_reason(client.stdout))
    rows = [json.loads(line) for line in client.stdout.splitlines() if line.startswith('{"row"')]
    if client.returncode and not rows:
        raise Stopped(read_reason(client.stderr))
    return rows


def measure(results: Results, name: str, number: int, folder: Path, options: Options) -> None:
    """Run one peer for one round, on each placement."""
    entry, port = MODULES[name], free_port()
    with serving(name, port, folder, options.cores[0]) as server:
        for placement, core in options.placements:
            for told in call_all(name, port, folder, core, options.seconds, server):
                row = told.pop("row") or entry.title
                key = Key(row, told.pop("in_flight"), told.pop("size"), placement)
                if "error" in told:
                    results.failed[f"{key.row}, {key.in_flight} in flight"] = told["error"]
                else:
                    results.add(key, number, Figures(**told))


def time_import(results: Results) -> None:
    """Note how long a new process needs to import fastrpc."""
    done = subprocess.run(
        [str(environment.PYTHON), "-c", IMPORT],
        capture_output=True,
        text=True,
        env=surroundings(MODULES["fastrpc"]),
        cwd=environment.ROOT,
        check=False,
    )
    if done.returncode == 0:
        results.import_ms.append(float(done.stdout) * 1000)


def describe(options: Options, missing: dict[str, str]) -> dict[str, Any]:
    """Return machine, options and versions, for whoever reads the figures later."""
    return {
        "when": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{processor()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load": os.getloadavg()[0],
        "rounds": options.rounds,
        "seconds": options.seconds,
        "versions": environment.versions(),
        "not_installed": missing,
    }


def processor() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def run(options: Options, results: Results) -> None:
    """Run all rounds; a peer that can't run or breaks is noted and left out from then on."""
    names = list(options.names)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for number in range(options.rounds):
            if "fastrpc" in names:
                time_import(results)
            for name in list(names) if number % 2 == 0 else list(reversed(names)):
                print(f"round {number + 1}/{options.rounds}: {name}", flush=True)
                try:
                    measure(results, name, number, Path(folder), options)
                except (Stopped, subprocess.TimeoutExpired) as error:
                    print(f"  {error}", flush=True)
                    names.remove(name)
                    where = results.failed if number else results.not_run
                    where[MODULES[name].title] = str(error)


def parse(arguments: Sequence[str]) -> tuple[Options, Path, bool]:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.compare.run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.7, help="counted time of each load")
    parser.add_argument("--only", default="", help=f"some of: {', '.join(MODULES)}")
    parser.add_argument("--quick", action="store_true", help="2 rounds of 0.2 s: does it work?")
    parser.add_argument("--strict", action="store_true", help="status 1 if a goal is missed")
    parser.add_argument("--cores", default="0,1", help="server's core, second client's core")
    parser.add_argument("--output", type=Path, default=environment.ROOT / "bench" / "results")
    given = parser.parse_args(arguments)
    names = given.only.split(",") if given.only else list(MODULES)
    if unknown := [name for name in names if name not in MODULES]:
        parser.error(f"no such peer: {', '.join(unknown)}; there are {', '.join(MODULES)}")
    cores = [int(core) for core in given.cores.split(",")][: len(os.sched_getaffinity(0))]
    if given.rounds < 1:
        parser.error("--rounds must be at least 1")
    rounds, seconds = (2, 0.2) if given.quick else (given.rounds, given.seconds)
    return Options(names, rounds, seconds, cores), given.output, given.strict


def main(arguments: Sequence[str]) -> int:
    """Measure and write the results; return the exit status."""
    options, output, strict = parse(arguments)
    missing = environment.prepare()
    results = Results(about=describe(options, missing))
    started = time.monotonic()
    run(options, results)
    verdicts = list(judge(results))
    output.mkdir(parents=True, exist_ok=True)
    write_json(results.plain(), output / "compare.json")
    (output / "compare.md").write_text(write_report(results, verdicts))
    drawn = draw(results, output / "compare.svg")
    print(*goal_lines(verdicts), sep="\n")
    for notes in (results.not_run, results.failed):
        for name, why in notes.items():
            print(f"not measured: {name}: {why}")
    if not drawn:
        print("no chart: matplotlib is not installed")
    print(f"{time.monotonic() - started:.0f} s; see {output / 'compare.md'}")
    short = any(verdict.word != "ok" for verdict in verdicts)
    return 1 if strict and short else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
