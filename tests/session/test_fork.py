import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastrpc.session import fork
from tests.client.served import Elsewhere
from tests.session.fork_scenes import LOOPS, SCENES

ROOT = Path(__file__).parents[2]

#: Python 3.12 warns of every fork beside threads; that it works is what is shown.
QUIET = ["-W", "error", "-W", "ignore:This process:DeprecationWarning"]


@pytest.fixture(scope="module")
def target() -> Iterator[str]:
    with Elsewhere() as server:
        yield server.target


@pytest.mark.slow
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("scene", SCENES)
def test_scene(target: str, scene: str, loop: str) -> None:
    words = [sys.executable, *QUIET, "-m", "tests.session.fork_scenes", scene, target, loop]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=25)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_owners_are_told_and_not_kept() -> None:
    class Owner:
        told = 0

        def after_fork(self) -> None:
            self.told += 1

    owner = Owner()
    fork.register(owner)
    number = os.fork()
    if not number:
        os._exit(owner.told)
    assert os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) == 1
    assert owner.told == 0
    seen = weakref.ref(owner)
    del owner
    gc.collect()
    assert seen() is None
