"""Every example on every page runs, and does what the page says. How: see `play`."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, name_of, pages, runnable

PAGES = [page for page in pages() if runnable(page.read_text(encoding="utf-8"))]


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_examples_of_the_page_run(page: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.docs.play", str(page)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), f"{done.stdout}{done.stderr}"
