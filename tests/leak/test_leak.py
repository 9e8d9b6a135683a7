"""Nothing is left of a call, however it went: blocks, descriptors and tasks stay flat.

FASTRPC_LEAK_ROUNDS (default 150) says how often each scenario is played in each of its windows.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.leak.scenarios import LEAKS, SCENARIOS

ROOT = Path(__file__).parents[2]
ROUNDS = int(os.environ.get("FASTRPC_LEAK_ROUNDS", "150"))
TWINS = ["pure"] if os.environ.get("FASTRPC_EXT") == "off" else ["compiled", "pure"]
WAYS = [(twin, loop) for twin in TWINS for loop in ("asyncio", "uvloop")]

#: Caches, free lists and the tests' own peers; a leak grows with the rounds.
ALLOWED = 60


def play(twin: str, *words: str) -> dict[str, Any]:
    """Run the script and return what it found."""
    env = {**os.environ, "FASTRPC_PURE": "1" if twin == "pure" else "0"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.leak.scenarios", *words],
        cwd=ROOT, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["compiled"] is (twin == "compiled")
    return told["results"]  # type: ignore[no-any-return]


def is_flat(left: dict[str, int]) -> bool:
    return (
        left["blocks"] <= ALLOWED + left["rounds"] // 4
        and left["descriptors"] <= 0
        and left["tasks"] <= 0
    )


@pytest.fixture(scope="module", params=WAYS, ids="-".join)
def results(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Play all scenarios on one twin and one loop, in a process of their own."""
    twin, loop = request.param
    return play(twin, "--loop", loop, "--rounds", str(ROUNDS), *SCENARIOS)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", SCENARIOS)
def test_nothing_is_left(name: str, results: dict[str, Any]) -> None:
    assert is_flat(results[name]), results[name]


@pytest.mark.parametrize("name", LEAKS)
def test_a_leak_would_be_seen(name: str) -> None:
    results = play(TWINS[0], "--rounds", "100", name)
    assert not is_flat(results[name]), results[name]
