"""Streams that are left half-way leave nothing; a slow reader costs a window and no more.

FASTRPC_STREAMS (default 2000) says how many are left, FASTRPC_STREAM_MIB (default 32) how much is
streamed to somebody slow; `make streams` raises both, and prints the figures.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fastrpc.wire import Limits
from tests.leak.streams import ITEM, MIB

ROOT = Path(__file__).parents[2]
STREAMS = int(os.environ.get("FASTRPC_STREAMS", "2000"))
SIZE = int(os.environ.get("FASTRPC_STREAM_MIB", "32"))
TWINS = ["pure"] if os.environ.get("FASTRPC_EXT") == "off" else ["compiled", "pure"]
WAYS = [(twin, loop) for twin in TWINS for loop in ("asyncio", "uvloop")]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.parametrize(("twin", "loop"), WAYS),
]


def play(twin: str, loop: str, what: str, count: int) -> dict[str, Any]:
    """Run the script, print and return what it found."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.leak.streams", "--loop", loop, what, str(count)],
        cwd=ROOT, env={**os.environ, "FASTRPC_PURE": "1" if twin == "pure" else "0"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["compiled"] is (twin == "compiled")
    print(f"\n{twin}, {loop}: {told}")
    return told


def test_nothing_is_left_of_streams_that_are_left(twin: str, loop: str) -> None:
    told = play(twin, loop, "dropped", STREAMS)
    assert told["left"] == {}
    assert told["alive"] == 0
    assert told["tasks"] == 0
    assert told["same connection"], "to leave streams was taken for an attack"
    assert told["rss"] < 4 * MIB


def test_a_sender_is_as_far_ahead_as_the_window_lets_it(twin: str, loop: str) -> None:
    told = play(twin, loop, "slow", SIZE)
    window = Limits().window
    for way in ("down", "up"):
        found = told[way]
        assert found["items"] == SIZE * MIB // ITEM
        # One item may go beyond the credit, one more is what the sender holds in its hand.
        assert window <= found["ahead"] <= window + 2 * ITEM
        assert found["traced"] < 3 * (window + 2 * ITEM)
        assert found["rss"] < 16 * MIB
