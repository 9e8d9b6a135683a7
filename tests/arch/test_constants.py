"""The numbers of the wire stand in `wire`; the compiled twin's C copies are the same."""

import importlib
import re
from pathlib import Path

import pytest

from fastrpc import _lane_py, wire
from fastrpc.session import routes
from tests.arch.source import PYX, name_of

ENUMERATOR = re.compile(r"^    ([A-Z][A-Z0-9_]*) = (\w+)", re.MULTILINE)
LARGE = re.compile(r"^cdef \w+ ([A-Z][A-Z0-9_]*) = (\d+)$", re.MULTILINE)
NUMBERS = {name: value for name, value in vars(wire).items() if isinstance(value, int)}


#: Callers and picks know no bytes, and so none of their numbers.
WITH_NUMBERS = [path for path in PYX if path.name not in ("_caller.pyx", "_pick.pyx")]


def copies(path: Path) -> dict[str, int]:
    """Read the C enumerators of a .pyx from its text, and the numbers that are too large for one."""
    text = path.read_text(encoding="utf-8")
    return {
        match[1]: int(match[2], 0) for match in [*ENUMERATOR.finditer(text), *LARGE.finditer(text)]
    }


@pytest.mark.parametrize("path", WITH_NUMBERS, ids=name_of)
def test_copies_in_the_text_are_those_of_wire(path: Path) -> None:
    found = {name: value for name, value in copies(path).items() if name in NUMBERS}
    assert found, "no copy found: has the form of the enum changed?"
    assert found == {name: NUMBERS[name] for name in found}


@pytest.mark.parametrize("path", PYX, ids=name_of)
def test_kinds_and_serializers_are_those_of_wire(path: Path) -> None:
    """They have no names of their own in `wire`: they are members of an enumeration."""
    names = {f"KIND_{kind.name}": kind for kind in wire.Kind} | {
        name: wire.Serializer[name] for name in ("RAW", "MSGPACK")
    }
    names["OVERLOADED"] = wire.StatusCode.OVERLOADED
    found = {name: value for name, value in copies(path).items() if name in names}
    assert found == {name: names[name] for name in found}
    assert found or path.name in ("_frame.pyx", "_caller.pyx", "_chain.pyx", "_pick.pyx")


@pytest.mark.parametrize("path", PYX, ids=name_of)
def test_copies_of_the_pure_twin_are_those_it_has(path: Path) -> None:
    """Numbers that are no matter of the wire are shared by the twins all the same."""
    pure = vars(importlib.import_module(f"fastrpc.{path.stem}_py"))
    shared = {name: value for name, value in copies(path).items() if name in pure}
    assert shared == {name: pure[name] for name in shared}


def test_one_call_in_so_many_is_timed_wherever_it_goes() -> None:
    """A session times the calls that its lane hands up, and both count alike."""
    lane = next(path for path in PYX if path.name == "_lane.pyx")
    assert copies(lane)["SAMPLED"] == _lane_py.SAMPLED == routes.SAMPLED


@pytest.mark.compiled
@pytest.mark.parametrize("path", WITH_NUMBERS, ids=name_of)
def test_what_was_compiled_is_what_wire_says(path: Path) -> None:
    told = importlib.import_module(f"fastrpc.{path.stem}").constants()
    assert told == {name: getattr(wire, name) for name in told}
    assert set(copies(path)) & set(NUMBERS) <= set(told), "a copy that constants() keeps back"
