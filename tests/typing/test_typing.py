"""What type checkers see of the public face, on files that must pass and must fail.

A line that ends in `# error` must be an error to mypy and to pyright alike; every other line
must be clean in both. So `accept/` shows what users write, and `reject/` what must be caught.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ACCEPT = sorted((HERE / "accept").glob("*.py"))
REJECT = sorted((HERE / "reject").glob("*.py"))
BIN = Path(sys.executable).parent

Spot = tuple[str, int]


def marked(paths: list[Path]) -> set[Spot]:
    """List the lines that say they are wrong."""
    return {
        (path.name, number)
        for path in paths
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if line.endswith("# error")
    }


def run(*command: str | Path) -> str:
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=110
    )
    assert result.returncode in (0, 1), result.stdout + result.stderr
    return result.stdout


def by_mypy(paths: list[Path]) -> dict[Spot, str]:
    found: dict[Spot, str] = {}
    names = [path.relative_to(ROOT).as_posix() for path in paths]
    # Files may import each other by their place in the project.
    options = ("--strict", "--explicit-package-bases", "--output", "json")
    for line in run(BIN / "mypy", *options, *names).splitlines():
        said = json.loads(line)
        if said["severity"] == "error":
            found[Path(said["file"]).name, said["line"]] = said["message"]
    return found


def by_pyright(paths: list[Path]) -> dict[Spot, str]:
    found: dict[Spot, str] = {}
    names = [path.relative_to(ROOT).as_posix() for path in paths]
    for said in json.loads(run(BIN / "pyright", "--outputjson", *names))["generalDiagnostics"]:
        if said["severity"] == "error":
            line = said["range"]["start"]["line"] + 1
            found[Path(said["file"]).name, line] = said["message"]
    return found


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("checker", [by_mypy, by_pyright])
def test_the_checker_sees_what_the_files_say(checker: object) -> None:
    assert callable(checker)
    found: dict[Spot, str] = checker([*ACCEPT, *REJECT])
    wanted = marked([*ACCEPT, *REJECT])
    assert {spot: text for spot, text in found.items() if spot not in wanted} == {}
    assert wanted - set(found) == set(), "not noticed"


def test_the_files_are_of_their_kind() -> None:
    assert ACCEPT
    assert REJECT
    assert marked(ACCEPT) == set()
    assert all(marked([path]) for path in REJECT)
    names = [path.name for path in [*ACCEPT, *REJECT]]
    assert len(names) == len(set(names)), "spots are told apart by file name"
