"""Both twins show the world the same: names, parameters, words, and what can't be done."""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from types import SimpleNamespace
from typing import Any

import pytest

from fastrpc import wire
from tests.frame.rig import Rig, arguments
from tests.frame.twins import MODULES, both, open_twin

PURE = open_twin("pure")
CLASSES = [name for name in vars(PURE) if isinstance(getattr(PURE, name), type)]
FUNCTIONS = [
    "advance", "begin", "check_metadata", "check_msgpack", "checked", "drive", "encode_frame",
    "encode_pieces", "innermost", "release_bodies", "scattered", "writable",
]  # fmt: skip
ROOT = Path(__file__).parents[2] / "fastrpc"
#: What `Call`, `Reply` and `Member` stand on.
BASES = ("CallFields", "ReplyFields", "MemberFields")

#: How to make one of each: arguments for the constructor.
MADE: dict[str, Any] = {
    "Frame": lambda twin: (1, 2),
    "FrameDecoder": lambda twin: (),
    "CallTable": lambda twin: (),
    "LoopShare": lambda twin: (None, None, None, None, 0, None),
    "Durations": lambda twin: (),
    "Method": lambda twin: (b"m", 0, print, arguments()),
    "Lane": lambda twin: (None, Rig(twin).share, 100),
    "Inlet": lambda twin: (made(twin, "Lane"), 1, True, 100, 1, print, print, print),
    "ItemReader": lambda twin: (made(twin, "Inlet"),),
    "Outlet": lambda twin: (made(twin, "Lane"), 1, True, 100, 1),
    "Caller": lambda twin: ([], print),
    "BoundCall": lambda twin: (twin.Caller([], print), "m"),
    "CallFields": lambda twin: ("m", (), {}),
    "ReplyFields": lambda twin: (),
    "Done": lambda twin: (5,),
    "Sent": lambda twin: (None, twin.ReplyFields),
    "Sender": lambda twin: ([], print, None, print, twin.ReplyFields, print),
    "Pending": lambda twin: (None, "m"),
    "AtOnce": lambda twin: (print, False, twin.ReplyFields, None, print),
    "ChainCaller": lambda twin: (
        print,
        made(twin, "Sender"),
        twin.CallFields,
        0.0,
        b"",
        None,
        print,
    ),
    "Through": lambda twin: (
        "m",
        print,
        print,
        twin.CallFields,
        SimpleNamespace(loop=None),
        [],
        1,
        1,
        print,
        False,
        None,
    ),
    "MemberFields": lambda twin: ([], 10.0),
    "TwoChoices": lambda twin: (),
    "InFlight": lambda twin: ([made(twin, "MemberFields")],),
    "Bounded": lambda twin: (made(twin, "InFlight"), {"m": 0}, [1.0], 1.25),
    "Line": lambda twin: (made(twin, "InFlight"), [2.0], 0),
    "Rota": lambda twin: ([1.0], [0.0]),
    "ClusterCaller": lambda twin: (
        twin.TwoChoices(),
        print,
        print,
        None,
        None,
        0.0,
        b"",
        None,
        print,
    ),
    "ClusterCall": lambda twin: (made(twin, "ClusterCaller"), "m"),
    "Picked": lambda twin: (
        made(twin, "ClusterCaller"),
        made(twin, "MemberFields"),
        "m",
        (),
        None,
        None,
        0.0,
        None,
        0.0,
    ),
    "Waiter": lambda twin: (),
    "Turns": lambda twin: (),
    "ByteStream": lambda twin: (Lock(), print, 0, print, print, print, print, print, print),
    "Exchange": lambda twin: (
        made(twin, "ByteStream"),
        made(twin, "Lane"),
        twin.Turns(),
        print,
        print,
    ),
}


def made(twin: SimpleNamespace, name: str) -> Any:
    return getattr(twin, name)(*MADE[name](twin))


def public(cls: type) -> list[str]:
    """List the public attributes of a class, its slots and inherited ones among them."""
    return sorted(name for name in dir(cls) if not name.startswith("_"))


def special(cls: type) -> set[str]:
    """List the special methods a class has of its own."""
    ordinary = {"__new__", "__reduce__", "__setstate__", "__getstate__", "__pyx_vtable__"}
    ordinary |= {"__module__", "__doc__", "__slots__", "__reduce_cython__", "__setstate_cython__"}
    ordinary |= {"__annotations__", "__final__", "__firstlineno__", "__static_attributes__"}
    return {name for name in vars(cls) if name.startswith("__")} - ordinary


def parameters(function: Any) -> list[tuple[str, Any, Any]]:
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


def test_names_that_are_tried_here_are_all(twin: SimpleNamespace) -> None:
    assert set(CLASSES) == set(MADE)
    assert {name for name in vars(twin) if name not in ("name", "COMPILED")} == {
        *CLASSES,
        *FUNCTIONS,
    }


@pytest.mark.compiled
def test_both_have_the_same_names() -> None:
    pure, compiled = both()
    assert set(vars(pure)) == set(vars(compiled))
    for one, other in zip(*MODULES.values(), strict=True):
        assert importlib.import_module(one).__all__ == importlib.import_module(other).__all__


@pytest.mark.compiled
@pytest.mark.parametrize("name", CLASSES)
def test_classes_have_the_same_attributes(name: str) -> None:
    pure, compiled = (getattr(twin, name) for twin in both())
    assert public(pure) == public(compiled)
    assert (
        special(pure) - {"__init__"}
        == special(compiled) - {"__init__", "__dealloc__"} - _RICH[name]
    )


# Cython makes the whole set of comparisons out of one.
_RICH = {name: set() for name in CLASSES} | {
    "Frame": {"__ne__", "__lt__", "__le__", "__gt__", "__ge__"}
}


@pytest.mark.compiled
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_take_the_same(name: str) -> None:
    pure, compiled = (getattr(twin, name) for twin in both())
    assert parameters(pure) == parameters(compiled)
    assert inspect.getdoc(pure) == inspect.getdoc(compiled)
    assert inspect.getdoc(pure)
    assert (pure.__name__, compiled.__name__) == (name, name)


def methods() -> Iterator[tuple[str, str]]:
    for name in CLASSES:
        cls = getattr(PURE, name)
        for attribute in public(cls):
            if inspect.isfunction(getattr(cls, attribute)):
                yield name, attribute


@pytest.mark.compiled
@pytest.mark.parametrize(("name", "method"), list(methods()))
def test_methods_take_the_same(name: str, method: str) -> None:
    pure, compiled = (getattr(getattr(twin, name), method) for twin in both())
    assert parameters(pure) == parameters(compiled)
    assert inspect.getdoc(pure) == inspect.getdoc(compiled)
    assert inspect.getdoc(pure)


@pytest.mark.compiled
@pytest.mark.parametrize("name", CLASSES)
def test_docstrings_are_the_same_word_for_word(name: str) -> None:
    pure, compiled = (getattr(twin, name) for twin in both())
    assert inspect.cleandoc(pure.__doc__) == inspect.cleandoc(compiled.__doc__)
    for attribute in {*public(pure), *special(pure)} - {"__init__", "__hash__"}:
        one, other = getattr(pure, attribute), getattr(compiled, attribute)
        if inspect.isfunction(one) or isinstance(one, property):
            assert inspect.cleandoc(one.__doc__ or "") == inspect.cleandoc(
                _own_words(other) or _in_text(name, attribute)
            ), attribute


def _own_words(thing: Any) -> str:
    """Return what a thing says of itself; a slot's wrapper only says what all of its kind do."""
    return (
        ""
        if inspect.ismethoddescriptor(thing) and "wrapper" in type(thing).__name__
        else thing.__doc__ or ""
    )


def _in_text(name: str, method: str) -> str:
    """Find the docstring of a special method in the .pyx: at run time it is lost."""
    for module in MODULES["compiled"]:
        text = (ROOT / f"{module.rpartition('.')[2]}.pyx").read_text(encoding="utf-8")
        rest = "".join(re.split(rf"cdef class {name}\b", text, maxsplit=1)[1:])
        if f"def {method}(" in rest:
            head, _, body = rest.partition(f"def {method}(")
            assert "\ncdef class" not in head
            return body.partition('"""')[2].partition('"""')[0]
    raise AssertionError(f"{name}.{method} is not in the compiled twin")


@pytest.mark.compiled
@pytest.mark.parametrize("name", CLASSES)
def test_constructors_take_the_same(name: str) -> None:
    """A compiled constructor can't be asked for its parameters, so it is called in every way."""
    pure, compiled = both()
    wanted = list(inspect.signature(getattr(pure, name).__init__).parameters.values())[1:]
    required = [p for p in wanted if p.default is p.empty]
    by_position = [p for p in wanted if p.kind is p.POSITIONAL_OR_KEYWORD]
    for twin in (pure, compiled):
        cls = getattr(twin, name)
        values = dict(zip([p.name for p in by_position], MADE[name](twin), strict=False))
        cls(**values)  # every name is one
        cls(*values.values())  # and they are in order
        cls(**{p.name: values[p.name] for p in required})  # the rest has defaults
        for missing in required:
            with pytest.raises(TypeError):
                cls(**{key: value for key, value in values.items() if key != missing.name})
        with pytest.raises(TypeError):
            cls(**values, nonsense=1)
        given = [values.get(p.name, p.default) for p in by_position]
        cls(*given)
        with pytest.raises(TypeError):  # no further ones by position
            cls(*given, None)
        for extra in wanted[len(by_position) :]:
            cls(**values, **{extra.name: extra.default})
    if name in ("Frame", "FrameDecoder", "CallTable", "Method", "Caller", "BoundCall"):
        for attribute in public(getattr(pure, name)):
            one, other = (getattr(made(twin, name), attribute) for twin in (pure, compiled))
            if not callable(one) and name != "BoundCall":
                assert type(one) is type(other), attribute
                assert one == other or attribute in ("decoders", "lanes"), attribute


@pytest.mark.parametrize("name", CLASSES)
def test_no_attribute_can_be_added(twin: SimpleNamespace, name: str) -> None:
    thing = made(twin, name)
    with pytest.raises(AttributeError):
        thing.nonsense = 1
    with pytest.raises((AttributeError, TypeError)):
        thing.__dict__  # noqa: B018


@pytest.mark.compiled
@pytest.mark.parametrize("name", [name for name in CLASSES if name not in BASES])
def test_classes_are_final(name: str) -> None:
    pure, compiled = (getattr(twin, name) for twin in both())
    assert pure.__final__  # for type checkers; at run time Python lets it pass
    with pytest.raises(TypeError):
        type("Sub", (compiled,), {})


@pytest.mark.parametrize("name", BASES)
def test_bases_may_have_classes_under_them(twin: SimpleNamespace, name: str) -> None:
    sub = type("Sub", (getattr(twin, name),), {"__slots__": ()})
    with pytest.raises(AttributeError):
        sub(*MADE[name](twin)).nonsense = 1


@pytest.mark.compiled
@pytest.mark.parametrize("name", CLASSES)
def test_no_class_of_the_compiled_twin_can_be_changed(name: str) -> None:
    _, compiled = both()
    with pytest.raises(TypeError):
        getattr(compiled, name).nonsense = 1


@pytest.mark.compiled
@pytest.mark.parametrize("module", MODULES["compiled"][:2])  # the callers know no bytes
def test_numbers_are_those_of_the_wire(module: str) -> None:
    told = importlib.import_module(module).constants()
    assert len(told) > 10
    assert told == {name: getattr(wire, name) for name in told}


@pytest.mark.compiled
def test_the_one_number_of_streams_is_that_of_the_wire() -> None:
    told = importlib.import_module(MODULES["compiled"][2]).constants()
    assert told == {"CREDIT_MAX": wire.CREDIT_MAX}


@pytest.mark.compiled
def test_the_one_number_of_chains_is_that_of_the_wire() -> None:
    told = importlib.import_module(MODULES["compiled"][4]).constants()
    assert told == {"FLAG_ONEWAY": wire.FLAG_ONEWAY}


@pytest.mark.compiled
@pytest.mark.parametrize(
    ("name", "number"),
    [("SEGMENTS_MAX", "max_segments"), ("NAME_MAX", "max_name"), ("METADATA_MAX", "max_metadata")],
)
def test_limits_are_those_of_the_wire(name: str, number: str) -> None:
    pure = {
        **vars(importlib.import_module(MODULES["pure"][0])),
        **vars(importlib.import_module(MODULES["pure"][1])),
    }
    assert pure[name] == wire.LIMIT_CEILINGS[number]
    assert pure["DEPTH_ROOM"] == wire.LIMIT_CEILINGS["max_depth"] + 1


def test_module_docstrings_name_each_other() -> None:
    for pure, compiled in zip(*MODULES.values(), strict=True):
        one = ast.get_docstring(ast.parse(_text(pure, "py")))
        other = _text(compiled, "pyx").split('"""')[1]
        assert one is not None
        assert f"`{compiled.rpartition('.')[2]}.pyx`" in one
        assert f"`{pure.rpartition('.')[2]}.py`" in other


def _text(module: str, suffix: str) -> str:
    return (ROOT / f"{module.rpartition('.')[2]}.{suffix}").read_text(encoding="utf-8")
