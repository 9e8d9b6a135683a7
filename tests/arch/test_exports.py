"""Public names exist, have one home, and the error tree is what its docstring says."""

import importlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import fastrpc
from fastrpc import errors
from tests.arch.source import MODULES, dotted, name_of

LINE = re.compile(
    r"^(?P<indent> *)\* `(?P<name>[A-Z]\w+)`(?: \(an? `(?P<also>\w+)`\))?", re.MULTILINE
)
ALIAS = type(Callable[[int], int])  # names of shapes have no docstring
IMPORTABLE = [path for path in MODULES if path.name != "__main__.py"]


def load(path: Path) -> ModuleType:
    return importlib.import_module(dotted(path))


@pytest.mark.parametrize("path", IMPORTABLE, ids=name_of)
def test_every_listed_name_exists_once(path: Path) -> None:
    module = load(path)
    names = list(getattr(module, "__all__", []))
    assert len(names) == len(set(names)), "a name is listed twice"
    assert [name for name in names if not hasattr(module, name)] == []


@pytest.mark.parametrize("path", IMPORTABLE, ids=name_of)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    first = (inspect.getdoc(load(path)) or "").partition("\n")[0]
    assert 0 < len(first) <= 90, first


def test_the_front_door_lists_all_it_shows() -> None:
    public = set(fastrpc.__all__)
    assert {"Server", "connect", "connect_sync", "run", "rpc", "__version__"} <= public
    loose = {
        name
        for name, value in vars(fastrpc).items()
        if not name.startswith("_") and name not in public and not inspect.ismodule(value)
    }
    assert loose == set(), "imported at the front door but not listed in __all__"


def test_every_public_thing_has_a_docstring() -> None:
    things = [(name, getattr(fastrpc, name)) for name in fastrpc.__all__]
    told = [(name, thing) for name, thing in things if not isinstance(thing, ALIAS)]
    bare = [name for name, thing in told if callable(thing) and not inspect.getdoc(thing)]
    assert bare == []


def test_every_public_method_has_a_docstring() -> None:
    bare = [
        f"{name}.{attribute}"
        for name in fastrpc.__all__
        if inspect.isclass(thing := getattr(fastrpc, name))
        for attribute, value in vars(thing).items()
        if not attribute.startswith("_")
        and (callable(value) or isinstance(value, property))
        and not inspect.getdoc(value)
    ]
    assert bare == []


def told_tree() -> dict[str, tuple[str | None, str | None]]:
    """Read the docstring: class -> (parent, a built-in it also is)."""
    tree: dict[str, tuple[str | None, str | None]] = {}
    above: list[str] = []
    for match in LINE.finditer(inspect.cleandoc(errors.__doc__ or "")):
        depth = len(match["indent"]) // 4
        del above[depth:]
        tree[match["name"]] = (above[-1] if above else None, match["also"])
        above.append(match["name"])
    return tree


def real_tree() -> dict[str, tuple[str | None, str | None]]:
    """Look at the classes: the same."""
    tree: dict[str, tuple[str | None, str | None]] = {}
    for name, thing in vars(errors).items():
        if not (inspect.isclass(thing) and issubclass(thing, errors.FastRPCError)):
            continue
        ours = [base for base in thing.__bases__ if base.__module__ == errors.__name__]
        others = [base for base in thing.__bases__ if base.__module__ == "builtins"]
        if thing is errors.FastRPCError:
            others = []
        assert len(ours) <= 1, f"{name} has two parents in the tree"
        assert len(others) <= 1, f"{name} is two built-ins"
        tree[name] = (ours[0].__name__ if ours else None, others[0].__name__ if others else None)
    return tree


def test_the_error_tree_is_what_the_docstring_says() -> None:
    assert told_tree() == real_tree()


def test_every_error_goes_through_the_front_door() -> None:
    assert set(real_tree()) <= set(fastrpc.__all__)
    assert all(getattr(fastrpc, name) is getattr(errors, name) for name in real_tree())
