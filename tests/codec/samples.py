"""Types, and values that travel as them, for the tests of every codec."""

import collections
import datetime as dt
import enum
import uuid
from collections.abc import Collection, Iterable, Mapping, MutableSequence, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from decimal import Decimal
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    Required,
    TypedDict,
    TypeVar,
    Union,
)

import msgspec


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 5


class Perm(enum.IntFlag):
    READ = 1
    WRITE = 2


class Mixed(enum.Enum):
    ONE = 1
    TWO = "two"


@dataclass
class Point:
    x: int
    y: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    a: Point
    b: Point
    tags: list[str] = field(default_factory=list)


@dataclass
class Node:
    v: int
    next: "Node | None" = None


@dataclass
class Tree:
    kids: "list[Tree]"


@dataclass
class Positive:
    x: int

    def __post_init__(self) -> None:
        if self.x < 0:
            raise ValueError("x must not be negative")


T = TypeVar("T")


@dataclass
class Box(Generic[T]):
    v: T
    many: list[T]


class Pair(NamedTuple):
    a: int
    b: str = "z"


OldPair = collections.namedtuple("OldPair", "a b")


class Movie(TypedDict):
    a: int
    b: NotRequired[str]


class Partial(TypedDict, total=False):
    a: Required[int]
    b: str


class Plain(msgspec.Struct):
    a: int
    b: int = 2
    c: list[int] = []


class Renamed(msgspec.Struct, rename="camel", kw_only=True):
    a_b: int
    c_d: int | msgspec.UnsetType = msgspec.UNSET


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    a: int


class Cat(msgspec.Struct, tag=True):
    a: int


class Dog(msgspec.Struct, tag=True):
    s: str


class Chain(msgspec.Struct, tag=True):
    next: "Chain | None" = None


class Row(msgspec.Struct, array_like=True):
    a: int
    b: int = 2


class Ids(msgspec.Struct):
    s: set[uuid.UUID]


UserId = NewType("UserId", int)
UTC = dt.UTC
U = uuid.UUID(int=5)
MOMENT = dt.datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)

#: A type and a value of it that must come back equal, over msgpack and JSON alike.
ROUND_TRIPS: list[tuple[Any, Any]] = [
    (Any, {"a": [1, 2.5, "x", None, True]}),
    (object, [1]),
    (None, None),
    (bool, True),
    (bool, False),
    (int, 0),
    (int, 2**64 - 1),
    (int, -(2**63)),
    (float, 1.5),
    (float, 0.1),
    (float, -0.0),
    (float, 1e300),
    (str, 'grüße \U0001f600 \x00 " \\ \u2028'),
    (bytes, b"\x00\xff"),
    (bytearray, bytearray(b"xy")),
    (list, [1, "a", [None]]),
    (list[int], [1, 2]),
    (list[Point], [Point(1), Point(2, 3)]),
    (dict, {"a": 1}),
    (dict[str, int], {"a": 1, "b": 2}),
    (dict[int, str], {1: "a", -2: "b"}),
    (dict[str, Point], {"a": Point(1)}),
    (dict[uuid.UUID, int], {U: 1}),
    (dict[dt.date, int], {dt.date(2026, 1, 2): 1}),
    (dict[Decimal, int], {Decimal("1.50"): 1}),
    (dict[float, int], {1.5: 1}),
    (dict[Color, int], {Color.RED: 1}),
    (dict[Level, int], {Level.HIGH: 1}),
    (dict[int | str, int], {"a": 1}),
    (dict[Literal["a", "b"], int], {"a": 1}),
    (dict[bytes, int], {b"x": 1}),
    (tuple, (1, "a")),
    (tuple[int, str], (1, "a")),
    (tuple[int, ...], (1, 2, 3)),
    (tuple[()], ()),
    (set, {1, 2}),
    (set[int], {1, 2}),
    (set[uuid.UUID], {U}),
    (set[tuple[int, int]], {(1, 2), (3, 4)}),
    (set[Pair], {Pair(1, "a")}),
    (frozenset, frozenset({"a"})),
    (frozenset[str], frozenset({"a", "b"})),
    (dt.datetime, MOMENT),
    (dt.datetime, MOMENT.replace(tzinfo=None)),
    (dt.datetime, dt.datetime(1, 1, 1, tzinfo=UTC)),
    (dt.datetime, dt.datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
    (dt.datetime, dt.datetime(1969, 12, 31, 23, 59, 59, 1, tzinfo=UTC)),
    (dt.datetime, MOMENT.astimezone(dt.timezone(-dt.timedelta(hours=3, minutes=30)))),
    (dt.date, dt.date(2026, 1, 2)),
    (dt.time, dt.time(3, 4, 5)),
    (dt.time, dt.time(3, 4, 5, 6, tzinfo=UTC)),
    (dt.time, dt.time(3, 4, 5, tzinfo=dt.timezone(dt.timedelta(hours=2)))),
    (dt.timedelta, dt.timedelta(0)),
    (dt.timedelta, dt.timedelta(days=3, seconds=4, microseconds=5)),
    (dt.timedelta, dt.timedelta(days=-1, seconds=5, microseconds=3)),
    (dt.timedelta, dt.timedelta.max),
    (dt.timedelta, dt.timedelta.min),
    (uuid.UUID, U),
    (Decimal, Decimal("1.50")),
    (Decimal, Decimal("-1E+30")),
    (Color, Color.BLUE),
    (Level, Level.HIGH),
    (Perm, Perm.READ | Perm.WRITE),
    (Point, Point(1, 5)),
    (Line, Line(a=Point(1), b=Point(2, 3), tags=["x"])),
    (Node, Node(1, Node(2, Node(3)))),
    (Tree, Tree([Tree([]), Tree([Tree([])])])),
    (Positive, Positive(0)),
    (Box[int], Box(1, [2, 3])),
    (Box[Point], Box(Point(1), [Point(2)])),
    (Pair, Pair(1, "b")),
    (OldPair, OldPair(1, "b")),
    (Movie, {"a": 1, "b": "x"}),
    (Movie, {"a": 1}),
    (Partial, {"a": 1}),
    (int | None, None),
    (int | None, 5),
    (Optional[Point], Point(1)),  # noqa: UP045
    (Union[int, str, None], "a"),  # noqa: UP007
    (int | float, 1),
    (int | float, 1.5),
    (Point | int | None, Point(3)),
    (Point | int | None, 3),
    (list[int] | str, [1]),
    (list[int] | str, "a"),
    (dt.datetime | None, MOMENT),
    (Decimal | int, 5),
    (Literal["a", "b"], "b"),
    (Literal[1, "a", None], None),
    (Literal["a"] | int, 7),
    (Any | None, [1]),
    (Annotated[int, "a note"], 5),
    (UserId, 5),
    (Sequence[int], [1]),
    (MutableSequence[int], [1]),
    (Collection[int], [1]),
    (Iterable[int], [1]),
    (AbstractSet[int], {1}),
    (Mapping[str, int], {"a": 1}),
    (TypeVar("Bound", bound=int), 5),
]

#: The same for msgspec's own classes: only the fast engine knows all of them.
STRUCTS: list[tuple[Any, Any]] = [
    (Plain, Plain(1)),
    (Renamed, Renamed(a_b=1)),
    (Renamed, Renamed(a_b=1, c_d=2)),
    (Strict, Strict(1)),
    (Cat, Cat(1)),
    (Cat | Dog, Dog("x")),
    (list[Cat | Dog], [Cat(1), Dog("x")]),
    (Chain, Chain(Chain())),
    (Row, Row(1, 3)),
    (Row | None, Row(1)),
    (Ids, Ids({U})),
    (dict[str, Plain], {"a": Plain(1)}),
    (Annotated[int, msgspec.Meta(ge=3)], 3),
]

#: Types that no codec of ours reads, and a part of what is said about each.
REFUSED: list[tuple[Any, str]] = [
    (Point | Line, "Point | Line: Point and Line can't be told apart"),
    (Point | dict, "can't be told apart"),
    (list[int] | set[int], "list[int] and set[int] can't be told apart"),
    (bytes | str, "bytes and str can't be told apart"),
    (uuid.UUID | str, "UUID and str can't be told apart"),
    (dt.datetime | str, "datetime and str can't be told apart"),
    (int | Level, "int and Level can't be told apart"),
    (complex, "complex can't be sent; use a dataclass"),
    (range, "range can't be sent"),
    (collections.deque, "deque can't be sent"),
    (TypeVar("Chosen", int, str), "has constraints"),
    (Mixed, "enum Mixed: values must be all int or all str"),
    (enum.Enum("Huge", {"A": 2**70}), "enum Huge: values must fit into 64 bits"),
    (dict[tuple[int, int], int], "keys of type tuple[int, int] can't be sent"),
    (dict[Point, int], "keys of type Point can't be sent"),
    (dict[list[int], int], "keys of type list[int] can't be sent"),
    ("int", "text that was never resolved"),
    (list["int"], "text that was never resolved"),
    (Literal[b"x"], "Literal: values must be all int or all str"),
]

#: Anything a peer may send where something else was expected.
VALUES: list[Any] = [
    *(value for _, value in ROUND_TRIPS),
    *(1, 2, 3, -1, 2**63, 1.0, 1e16, float("inf")),
    *(
        "",
        "a",
        "red",
        "1",
        "1.5",
        "-1",
        "01",
        "eA==",
        "nan",
        "Infinity",
        "1_0",
        " 1",
        str(U),
        U.hex,
    ),
    *("2026-01-02", "2026-01-02T03:04:05", "2026-01-02 03:04:05.123456789Z", "2026-02-30"),
    *("2026-01-02T03:04:05-0230", "9999-12-31T23:59:59.9999999", "2026-01-02T03:04:05+24:00"),
    *("03:04:05", "23:59:59.9999999", "03:04:05.5+01:00", "03:04", "24:00:00"),
    *("P1D", "PT5.5S", "-PT0.5S", "+P1DT1H2M3S", "P", "PT", "P1.5DT1H", "P1W", "PT1.S", "P1D2D"),
    *(b"", U.bytes, "{" + str(U) + "}"),
    *([], [1, "a"], ["a", "b"], [None], [1, 1], [1.5], [[1]], [[1, 2], [1, 2]], [{}], [[]]),
    *({}, {"x": 1}, {"x": 1, "y": "q"}, {"x": 1, "z": 4}, {"x": -5}, {"a": "x"}, {"a": 1, "b": 2}),
    *({1: "a"}, {"1": "a"}, {"1": 1}, {1: 1}, {b"x": 1}, {"v": 1, "next": {"v": "s"}}),
    *({"v": 1, "many": ["q"]}, {"kids": [{"kids": [{}]}]}, {"a": {"x": 1}, "b": {"x": "s"}}),
    *({"type": "Cat", "a": 1}, {"type": "?"}, {"aB": "s"}, {"s": ["q"]}, {"k" * 50: "x"}),
]
