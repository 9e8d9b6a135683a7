"""Fingerprints are the same everywhere, and differ where the wire does."""

import enum
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from dataclasses import field as with_factory
from typing import Any, Literal, NamedTuple, TypedDict

import pytest

from fastrpc.call import describe_service
from tests.codec import samples


def fingerprint(fn: Callable[..., Any]) -> str:
    (method,) = describe_service(fn, "f").methods.values()
    return method.fingerprint()


@dataclass
class Place:
    """Another class with the fields of Point, in another order."""

    y: int = 7
    x: int = with_factory(kw_only=True)


@dataclass
class Knot:
    v: int
    next: "Knot2 | None" = None


@dataclass
class Knot2:
    """The same as Knot, which is the same as Node: a tree unfolded once."""

    v: int
    next: Knot | None = None


class Shade(enum.Enum):
    NIGHT = "blue"
    BLOOD = "red"


class AsDict(TypedDict):
    x: int
    y: int


class AsTuple(NamedTuple):
    x: int
    y: str = "1"


@dataclass
class Required:
    x: int
    y: int


def plain(a: int, b: str = "x") -> list[int]: ...
def other_default(a: int, b: str = "y") -> list[int]: ...
async def waits(a: int, b: str = "x") -> list[int]: ...
def documented(a: int, b: str = "x") -> list[int]:
    """Do something."""
    raise NotImplementedError


def of_tuple(a: int, b: str = "x") -> tuple[int, ...]: ...
def no_default(a: int, b: str) -> list[int]: ...
def renamed(a: int, c: str = "x") -> list[int]: ...
def by_name(a: int, *, b: str = "x") -> list[int]: ...
def by_position(a: int, b: str = "x", /) -> list[int]: ...
def wider(a: int | None, b: str = "x") -> list[int]: ...
def other_result(a: int, b: str = "x") -> list[str]: ...
def more(a: int, b: str = "x", *rest: int) -> list[int]: ...
def moved(b: str, a: int) -> list[int]: ...


def point(p: samples.Point) -> None: ...
def place(p: Place) -> None: ...
def required(p: Required) -> None: ...
def as_dict(p: AsDict) -> None: ...
def as_tuple(p: AsTuple) -> None: ...
def pair(p: tuple[int, str]) -> None: ...
def node(p: samples.Node) -> None: ...
def knot(p: Knot) -> None: ...
def knot2(p: Knot2) -> None: ...
def colour(p: samples.Color) -> None: ...
def shade(p: Shade) -> None: ...
def literal(p: Literal["red", "blue"]) -> None: ...
def fewer(p: Literal["red"]) -> None: ...
def union(p: int | str | None) -> None: ...
def other_union(p: None | str | int) -> None: ...  # noqa: RUF036
def hidden(p: int, /) -> None: ...
def hidden_too(other: int, /) -> None: ...
def named(*, a: int, b: int) -> None: ...
def named_too(*, b: int, a: int) -> None: ...
def one(p: int) -> int: ...
async def items(p: int) -> AsyncIterator[int]:
    yield 1


def feed(p: AsyncIterator[int]) -> int: ...


@pytest.mark.parametrize(
    "same",
    [
        [plain, other_default, waits, documented],
        [point, place],
        [node, knot, knot2],
        [colour, shade, literal],
        [union, other_union],
        [hidden, hidden_too],
        [named, named_too],
        [required, as_dict],
    ],
    ids=lambda fns: fns[0].__name__,
)  # fmt: skip
def test_what_nobody_sees_on_the_wire_does_not_count(same: list[Any]) -> None:
    assert len(set(map(fingerprint, same))) == 1


def test_what_is_seen_counts() -> None:
    different = [
        plain, no_default, renamed, by_name, by_position, wider, other_result, more, moved,
        point, required, as_tuple, pair, node, literal, fewer, union, hidden, named,
        one, items, feed,
    ]  # fmt: skip
    prints = [fingerprint(fn) for fn in different]
    assert len(set(prints)) == len(different)
    assert {len(text) for text in prints} == {16}


#: Written down: they must be the same with every release and on every Python.
KNOWN = {
    "plain": "a4a6cfbb570a9b22",
    "point": "220d370f7d7ebd93",
    "node": "d1caf03458cfbb8f",
    "colour": "320636dd51568d61",
    "items": "8b3e8f729df58e3e",
    "as_tuple": "28c17976a2f05927",
}


@pytest.mark.parametrize("name", KNOWN)
def test_fingerprints_are_for_ever(name: str) -> None:
    assert fingerprint(globals()[name]) == KNOWN[name]


PROBE = """
from dataclasses import dataclass
from fastrpc.call import describe_service
from typing import Literal

@dataclass
class Node:
    kind: Literal["a", "b", "c"]
    next: "Node | None" = None

class Service:
    def one(self, node: Node, *, limit: int | str | None = None) -> dict[str, set[Node]]: ...
    async def two(self, a: int = 1, **rest: bytes) -> frozenset[str]: ...

print([method.fingerprint() for method in describe_service(Service).methods.values()])
"""


@pytest.mark.slow
def test_the_seed_of_hashes_does_not_count() -> None:
    told = {
        subprocess.run(
            [sys.executable, "-c", PROBE],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout
        for seed in ("0", "1", "4711")
    }
    assert told == {"['0e737f7ecbe9273e', '95c86e194d9d86cf']\n"}


def test_many_circles_end() -> None:
    """A web of records that all hold each other is named in no time."""
    names = [f"R{number}" for number in range(12)]
    scope: dict[str, Any] = {"dataclass": dataclass}
    for name in names:
        fields = "\n".join(f"    {other.lower()}: '{other} | None' = None" for other in names)
        exec(f"@dataclass\nclass {name}:\n{fields}\n", scope)
    for name in names:
        scope[name].__module__ = "webbed"
    module = type(sys)("webbed")
    vars(module).update(scope)
    sys.modules["webbed"] = module
    try:
        exec("def f(a: R0) -> None: ...", vars(module))
        exec("def g(a: R7) -> None: ...", vars(module))
        assert fingerprint(vars(module)["f"]) == fingerprint(vars(module)["g"])
    finally:
        del sys.modules["webbed"]
