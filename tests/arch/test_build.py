"""The build switches mean what they say, and the twin under test is the one asked for."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec

import pytest

import fastrpc
from fastrpc.frame import COMPILED
from tests.arch.source import PYX, ROOT

EXT = os.environ.get("FASTRPC_EXT", "")


def setup_py(**switches: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FASTRPC_")}
    return subprocess.run(
        [sys.executable, "setup.py", "--version"],
        cwd=ROOT,
        env=environment | switches,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_compiled_twin_is_on_unless_it_is_off() -> None:
    forced_pure = os.environ.get("FASTRPC_PURE", "0") not in ("", "0")
    assert COMPILED is (EXT != "off" and not forced_pure)


def test_off_leaves_no_compiled_twin_to_import() -> None:
    found = [find_spec(f"fastrpc.{path.stem}") is not None for path in PYX]
    assert found
    assert set(found) == {EXT != "off"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FASTRPC_EXT", "0"),
        ("FASTRPC_EXT", ""),
        ("FASTRPC_EXT", "Require"),
        ("FASTRPC_TRACE", "yes"),
        ("FASTRPC_DEBUG", "true"),
        ("FASTRPC_SANITIZE", "2"),
    ],
)
def test_a_switch_that_is_not_understood_stops_the_build(name: str, value: str) -> None:
    result = setup_py(**{name: value})
    assert result.returncode != 0
    assert f"{name} must be one of" in result.stderr


@pytest.mark.slow
def test_off_says_so_in_one_line_and_knows_its_version() -> None:
    result = setup_py(FASTRPC_EXT="off")
    assert result.returncode == 0, result.stderr
    said, version = result.stdout.splitlines()
    assert said == "fastrpc build: pure Python (FASTRPC_EXT=off)"
    assert version == fastrpc.__version__


def test_the_changelog_knows_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## {re.escape(fastrpc.__version__)}\b", text, re.MULTILINE)
