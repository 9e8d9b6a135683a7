"""A short run of the chaos, so that the long one stays runnable."""

import re
import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_ten_seconds_of_chaos_break_nothing() -> None:
    command = [sys.executable, "-m", "tests.soak.soak", "--minutes", "0.17", "--seed", "7"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing lost, nothing twice" in done.stdout
    told = re.match(r"([\d,]+) calls", done.stdout)
    assert told is not None
    assert int(told[1].replace(",", "")) > 10_000
    items = re.search(r"([\d,]+) items: .* lost, twice or astray: 0 ", done.stdout)
    assert items is not None
    assert int(items[1].replace(",", "")) > 100_000
