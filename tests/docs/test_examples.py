"""Every example on every page runs, and does what the page says. How: see `play`."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, name_of, pages, runnable

PAGES = [page for page in pages() if runnable(page.read_text(encoding="utf-8"))]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_examples_of_the_page_run(page: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "tests.docs.play", str(page)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=280)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with what it left in the background
            raise
    assert (process.returncode, err) == (0, ""), f"{out}{err}"
