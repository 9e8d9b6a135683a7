"""Compare the instructions of a call with the committed counts.

    python -m bench.callgrind.gate             fails if a count grew by more than 5 %
    python -m bench.callgrind.gate --update    writes the counts of this Python and machine

Each scenario runs twice under valgrind, with few and with many repetitions; the
difference, divided by the calls between them, has no start-up in it. The same
program gives the same count to within a fraction of a percent, so a growth of 5 %
is somebody's doing: new work in the lane, or another Python, compiler or codec.
What those were when the counts were taken stands beside them.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from bench.callgrind.scenarios import BATCH, SCENARIOS
from bench.twins import TWINS

ROOT: Final = Path(__file__).resolve().parents[2]
COUNTS: Final = Path(__file__).with_name("counts.json")
FEW, MANY = 20, 80
ALLOWED: Final = 0.05
COLLECTED: Final = re.compile(r"Collected : (\d+)")


class Unable(Exception):
    """The counts can't be taken or compared; the message says why and what to do."""


def key() -> str:
    """Return what counts are kept under: they depend on Python's version and the machine's kind."""
    version = ".".join(platform.python_version_tuple()[:2])
    return f"{sys.implementation.name}-{version}-{platform.machine()}"


def surroundings() -> dict[str, str]:
    """Return what else the counts depend on."""
    found = {"python": platform.python_version(), "compiler": platform.python_compiler()}
    for name in ("msgspec", "Cython"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "none"
    return found


def command(twin: str, scenario: str, repeats: int) -> list[str]:
    """Return the command that runs a scenario, without valgrind."""
    return [sys.executable, "-m", "bench.callgrind.scenarios", twin, scenario, str(repeats)]


def run(words: Sequence[str]) -> str:
    """Run a command in an environment that is always the same; return what it said."""
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": str(ROOT),
        "LC_ALL": "C.UTF-8",
    }
    done = subprocess.run(
        words, env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Unable(f"{' '.join(words)} failed:\n{done.stderr.strip()}")
    return done.stderr


def instructions(twin: str, scenario: str, repeats: int) -> int:
    """Return how many instructions a run takes, start-up included."""
    setarch = shutil.which("setarch")  # the same addresses in every run
    fixed = [setarch, "--addr-no-randomize"] if setarch else []
    valgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    told = run([*fixed, *valgrind, *command(twin, scenario, repeats)])
    found = COLLECTED.search(told)
    if found is None:
        raise Unable(f"valgrind told no count:\n{told.strip()}")
    return int(found[1])


def sources() -> dict[str, float]:
    """Return when each file of the library was last changed."""
    files = (ROOT / "fastrpc").rglob("*")
    return {str(file): file.stat().st_mtime for file in files if file.suffix in (".py", ".so")}


def count(twins: Sequence[str], scenarios: Sequence[str]) -> dict[str, int]:
    """Return the instructions of one call for each twin and scenario."""
    if shutil.which("valgrind") is None:
        raise Unable("valgrind is not installed (Debian, Ubuntu: apt install valgrind)")
    for twin in twins:
        run(command(twin, scenarios[0], 1))  # says early what is missing, and leaves .pyc files
    before = sources()
    jobs = [(twin, scenario) for twin in twins for scenario in scenarios]

    def per_call(job: tuple[str, str]) -> int:
        few, many = (instructions(*job, repeats) for repeats in (FEW, MANY))
        return round((many - few) / (MANY - FEW) / BATCH)

    # A busy machine does not change the counts, so use all of it.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        counts = list(pool.map(per_call, jobs))
    if sources() != before:  # the runs had different start-ups: nothing cancels out
        raise Unable("files of fastrpc changed while their instructions were counted; try again")
    return {f"{twin} {scenario}": n for (twin, scenario), n in zip(jobs, counts, strict=True)}


def recorded(path: Path) -> dict[str, Any]:
    """Return the committed counts of all Pythons and machines."""
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def compare(before: Mapping[str, int], now: Mapping[str, int]) -> list[tuple[str, str]]:
    """Return for each count a line of the table and a word: "ok", "MORE", "less" or "new"."""
    lines = []
    for name, value in now.items():
        old = before.get(name)
        if old is None:
            lines.append((f"{name:24} {'-':>9} {value:9,}          new", "new"))
            continue
        change = value / old - 1
        word = "MORE" if change > ALLOWED else "less" if change < -ALLOWED else "ok"
        lines.append((f"{name:24} {old:9,} {value:9,} {change:+8.1%}  {word}", word))
    return lines


def judge(path: Path, now: Mapping[str, int]) -> int:
    """Print how *now* compares with the committed counts; return the exit status."""
    entry = recorded(path).get(key())
    if entry is None:
        known = ", ".join(sorted(recorded(path))) or "none"
        raise Unable(
            f"no counts are recorded for {key()} (there are: {known}).\n"
            "Take them on a commit known to be good and commit the file:\n"
            "    python -m bench.callgrind.gate --update"
        )
    print(f"instructions per call, {key()}\n{'':24} {'recorded':>9} {'now':>9} {'change':>8}")
    lines = compare(entry["counts"], now)
    for line, _ in lines:
        print(line)
    words = [word for _, word in lines]
    if "new" in words:
        print("A scenario has no recorded count: record it with --update.")
        return 1
    if "MORE" not in words:
        if "less" in words:
            print("Fewer instructions: keep the gain by recording it with --update.")
        return 0
    was, here = entry["surroundings"], surroundings()
    print(f"More than {ALLOWED:.0%} over the recorded counts.")
    changed = [name for name in here if was.get(name) != here[name]]
    others = [f"{name} {was.get(name)} -> {here[name]}" for name in changed]
    if others:
        print(f"Not all of it need be fastrpc's doing; other than then: {'; '.join(others)}.")
    print("If the work is worth it, record the new counts with --update and say why in the commit.")
    return 1


def update(path: Path, now: Mapping[str, int]) -> None:
    """Record *now*, leaving what belongs to other Pythons, machines and scenarios."""
    found = recorded(path)
    counts = {**found.get(key(), {}).get("counts", {}), **now}
    known = [f"{twin} {scenario}" for twin in TWINS for scenario in SCENARIOS]
    found[key()] = {
        "surroundings": surroundings(),
        "counts": {name: counts[name] for name in known if name in counts},
    }
    path.write_text(json.dumps(dict(sorted(found.items())), indent=1) + "\n")
    for name, value in now.items():
        print(f"{name:24} {value:9,}")
    print(f"recorded for {key()} in {path.name}")


def main(arguments: Sequence[str]) -> int:
    """Count, then compare or record; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.callgrind.gate")
    parser.add_argument("--update", action="store_true", help="record instead of comparing")
    parser.add_argument("--twin", choices=TWINS, action="append", help="only this twin")
    parser.add_argument("--only", choices=SCENARIOS, action="append", help="only this scenario")
    parser.add_argument("--counts", type=Path, default=COUNTS, help="the recorded counts")
    given = parser.parse_args(arguments)
    try:
        now = count(given.twin or list(TWINS), given.only or list(SCENARIOS))
        if given.update:
            update(given.counts, now)
            return 0
        return judge(given.counts, now)
    except Unable as why:
        print(why, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
