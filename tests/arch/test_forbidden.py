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
# What must not be compared with `==` or looked for with `in`: how long that takes tells how much
# of it was right. Digests of contents that are no secret are not called so.
SECRETS = re.compile(r"(\w+_)?(secret|token|digest|password|signature|credential|mac)s?")
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


def secrets_compared(tree: ast.Module) -> list[str]:
    """List what is compared with an operator although its name says that it is a secret."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Compare):
            continue
        if not any(isinstance(op, ast.Eq | ast.NotEq | ast.In | ast.NotIn) for op in node.ops):
            continue
        for side in (node.left, *node.comparators):
            name = getattr(side, "id", getattr(side, "attr", ""))
            if SECRETS.fullmatch(name.lower().strip("_")):
                found.append(f"{name} in line {node.lineno}")
    return found


# Numbers that pings carry, and parts of a text: tokens of another kind.
NO_SECRETS = (
    "fastrpc/session/control.py", "fastrpc/session/blocking.py", "fastrpc/codec/json_limits.py",
)  # fmt: skip


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_secret_is_compared_with_an_operator(path: Path) -> None:
    if path.as_posix().endswith(NO_SECRETS):
        return
    assert secrets_compared(tree_of(path)) == []


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("token == given", 1),
        ("given != self._secret", 1),
        ("a_digest in known", 1),
        ("x == y and password != ''", 1),
        ("hmac.compare_digest(token, given)", 0),
        ("len(token) > 5", 0),
        ("if token is None: pass", 0),
    ],
)
def test_the_search_sees_secrets(source: str, count: int) -> None:
    assert len(secrets_compared(ast.parse(source))) == count


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
