"""Half handshakes cost a server a bounded amount, and keep nobody out. The whole number: see
`half_hellos`, whose figures stand in docs/guide/tls.md.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_half_handshakes_are_bounded(loop: str) -> None:
    """T4."""
    options = ["--uvloop"] if loop == "uvloop" else []
    done = subprocess.run(
        [sys.executable, "tests/leak/half_hellos.py", "--clients", "800", *options],
        cwd=ROOT, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["handshakes"] == 128, "as many as may"
    assert 100 <= found["waiting"] <= 256, "as many as came while the first were waited for"
    assert found["grown_mib"] <= 64
    assert found["good_client"] < 8, "before the time of those in front of it is up"
    assert found["afterwards"] < 2
