"""Words and calls the house does without."""

import ast
import re
from pathlib import Path

import pytest

from tests.arch.source import MODULES, PYX, name_of

CALLS = {
    # On 3.11 it can swallow a cancellation, later it drops the result instead.
    ("asyncio", "wait_for"),
    # Blocks the loop, or waits for luck.
    ("time", "sleep"),
    # Binds to whatever loop is around; asyncio.get_running_loop() is what is meant.
    ("asyncio", "get_event_loop"),
}
NAMES = re.compile(r"(utils?|helpers?|common|misc|base_\w+)")


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=name_of(path))


def used(tree: ast.Module) -> list[tuple[str, str]]:
    """List module.name pairs, however the name was imported."""
    pairs: list[tuple[str, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            pairs.append((node.value.id, node.attr))
        elif isinstance(node, ast.ImportFrom):
            pairs += [(node.module or "", alias.name) for alias in node.names]
    return pairs


def top_level_imports(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add((node.module or "").partition(".")[0])
    return names


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_forbidden_call(path: Path) -> None:
    assert sorted(CALLS.intersection(used(tree_of(path)))) == []


@pytest.mark.parametrize("path", PYX, ids=name_of)
def test_no_forbidden_call_in_the_compiled_twin(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert [name for module, name in CALLS if f"{module}.{name}" in text] == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_name_that_says_nothing(path: Path) -> None:
    assert not NAMES.fullmatch(path.stem)
    classes = [node.name for node in ast.walk(tree_of(path)) if isinstance(node, ast.ClassDef)]
    assert [name for name in classes if name.endswith("Manager")] == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_pickle_is_opened_only_when_asked_for(path: Path) -> None:
    assert "pickle" not in top_level_imports(tree_of(path))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_the_chooser_opens_a_compiled_twin(path: Path) -> None:
    """import-linter does not see compiled modules."""
    names = {f"fastrpc.{source.stem}" for source in PYX}
    opened = [
        node.module
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ImportFrom) and node.module in names
    ] + [
        alias.name
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        if alias.name in names or f"{getattr(node, 'module', '')}.{alias.name}" in names
    ]
    assert path.name == "frame.py" or opened == []


@pytest.mark.parametrize(
    "source",
    [
        "import asyncio\nasyncio.wait_for(x, 1)",
        "from asyncio import wait_for",
        "def f():\n    import time\n    time.sleep(1)",
    ],
)
def test_the_search_sees_each_form(source: str) -> None:
    assert CALLS.intersection(used(ast.parse(source)))
