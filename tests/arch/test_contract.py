"""The import contract holds, and it would notice if it did not."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.arch.source import PACKAGE, ROOT

LINT = Path(sys.executable).with_name("lint-imports")


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LINT, "--no-cache"], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """Copy the library so that a test can spoil it."""
    ignore = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(PACKAGE, tmp_path / "fastrpc", ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.slow
def test_every_import_points_down() -> None:
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("wire", "import fastrpc.frame"),
        ("frame", "import fastrpc.protocol"),
        ("client", "import fastrpc.server"),
        ("codec", "import fastrpc.transport"),
        ("session", "import fastrpc._frame_py"),
        (
            "transport",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import fastrpc.cli",
        ),
    ],
)
def test_an_arrow_that_points_up_is_noticed(house: Path, module: str, line: str) -> None:
    room = house / "fastrpc" / module
    path = room / "__init__.py" if room.is_dir() else room.with_suffix(".py")
    path.write_text(path.read_text(encoding="utf-8") + f"\n{line}\n", encoding="utf-8")
    result = lint(house)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "BROKEN" in result.stdout


@pytest.mark.slow
def test_a_room_without_a_storey_is_noticed(house: Path) -> None:
    (house / "fastrpc" / "attic.py").write_text('"""Nothing."""\n', encoding="utf-8")
    result = lint(house)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "attic" in result.stdout
