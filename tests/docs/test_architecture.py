"""The page of the house shows the house as it is."""

import re
from pathlib import Path

import pytest

from docs import house
from tests.docs.pages import ROOT

PAGE = house.PAGE.read_text(encoding="utf-8")
PACKAGE = ROOT / "fastrpc"


def test_the_page_is_what_the_script_draws() -> None:
    assert house.draw(PAGE) == PAGE, "run: python -m docs.house"


def test_every_module_is_on_the_page() -> None:
    shown = set(re.findall(r"(?m)^\| (?:\d+ \| )?`([\w./]+)` \|", PAGE))
    for path in PACKAGE.rglob("*.py"):
        if path.parent == PACKAGE and path.name in ("__init__.py", "__main__.py"):
            continue
        room = path.relative_to(PACKAGE)
        inside = room.relative_to(room.parts[0]).as_posix() if len(room.parts) > 1 else room.name
        name = inside.removesuffix("__init__.py") or f"{room.parts[0]}/"
        assert name in shown, path


def test_storeys_have_the_numbers_that_people_use() -> None:
    at = {room: number for number, rooms in house.storeys() for room in rooms}
    assert [at[room] for room in ("errors", "wire", "_frame_py", "_lane_py", "_caller_py", "frame")] == [
        0, 1, 2, 2, 2, 3,
    ]  # fmt: skip
    assert [at[room] for room in ("codec", "session", "client", "server", "cli")] == [4, 5, 6, 6, 9]


def test_every_caption_is_one_line() -> None:
    for path in PACKAGE.rglob("*.py"):
        if path != PACKAGE / "__init__.py":
            assert 10 < len(house.caption(path)) <= 90, path


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`((?:\w+/)?\w+\.pyx?)`", PAGE))))
def test_files_named_on_the_page_exist(name: str) -> None:
    assert list(PACKAGE.rglob(name)) or (ROOT / name).exists()


def test_twins_come_in_pairs() -> None:
    pairs = re.findall(r"(?m)^\| \w+ \| `(\w+)\.py` \| `(\w+)\.pyx` \|", PAGE)
    assert {compiled for _, compiled in pairs} == {path.stem for path in PACKAGE.glob("*.pyx")}
    assert {pure for pure, _ in pairs} == set(house.TWINS)
    assert all(pure == f"{compiled}_py" for pure, compiled in pairs)


def test_a_change_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = tmp_path / "attic"
    room.mkdir()
    (room / "__init__.py").write_text('"""Keep | old things."""\n', encoding="utf-8")
    monkeypatch.setattr(house, "PACKAGE", tmp_path)
    monkeypatch.setattr(house, "layers", lambda: [["attic"], ["cellar"]])
    drawn = house.draw_storeys()
    assert "| 1 | `attic/` | Keep \\| old things |" in drawn
    assert drawn.endswith("Not built yet, but with a place in the contract: `cellar` (0).\n")
