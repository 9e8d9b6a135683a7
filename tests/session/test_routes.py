"""The table of methods: names in, decoders and modes out."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

import fastrpc
from fastrpc.call import Mode
from fastrpc.codec import default_codecs
from fastrpc.errors import ConfigError
from fastrpc.session.routes import Route, Routes, is_timed
from fastrpc.wire import Limits


class Shapes:
    """Methods of every shape."""

    def none(self) -> None: ...

    def two(self, a: int, b: int = 2) -> None: ...

    def octets(self, data: bytes) -> None: ...

    def rest(self, *items: int) -> None: ...

    def named(self, *, a: int) -> None: ...

    def optional(self, *, a: int = 1) -> None: ...

    async def inline(self) -> None: ...

    @fastrpc.rpc(blocking=True)
    def thread(self) -> None: ...

    async def stream(self) -> Any:
        yield 1


@pytest.fixture
def routes() -> Routes:
    limits = Limits(max_name=30)
    return Routes(default_codecs(limits).with_pickle(), limits)


def test_which_codecs_have_a_fast_way(routes: Routes) -> None:
    routes.add(Shapes(), None)
    fast = {
        key.decode().removeprefix("Shapes."): [n for n, d in enumerate(method.decoders) if d]
        for key, method in routes.table.items()
    }
    # Never pickle: whether it may be used stands in HELLO, which the lane does not know.
    assert fast == {
        "none": [0, 1, 2], "two": [1, 2], "octets": [0, 1, 2], "rest": [1, 2], "named": [],
        "optional": [0, 1, 2], "inline": [0, 1, 2], "thread": [0, 1, 2], "stream": [],
    }  # fmt: skip


def test_modes_and_names(routes: Routes) -> None:
    routes.add(Shapes(), "S")
    modes = {key: Mode(method.mode) for key, method in routes.table.items()}
    assert modes[b"S.none"] is Mode.SYNC
    assert modes[b"S.inline"] is Mode.INLINE
    assert modes[b"S.thread"] is Mode.THREAD
    assert modes[b"S.stream"] is Mode.STREAM
    assert {method.info.info.name.encode() for method in routes.table.values()} == set(routes.table)


def test_all_or_none(routes: Routes) -> None:
    routes.add(len_of, "S.two")
    with pytest.raises(ConfigError, match=r"'S\.two' is registered already"):
        routes.add(Shapes(), "S")
    assert set(routes.table) == {b"S.two"}
    assert [service["name"] for service in routes.describe()["services"]] == ["S.two"]


def test_names_over_the_limit(routes: Routes) -> None:
    routes.add(len_of, "x" * 30)
    with pytest.raises(ConfigError, match="over max_name"):
        routes.add(len_of, "x" * 31)


@dataclass
class Cat:
    lives: int


@dataclass
class Dog:
    legs: int


def test_types_that_no_codec_can_carry_name_the_method(routes: Routes) -> None:
    def feed(pet: Cat | Dog) -> None: ...

    with pytest.raises(ConfigError, match=r"^feed: argument 'pet': "):
        routes.add(feed, None)
    assert not routes.table


def first(pets: int, pet: complex) -> None: ...


def named(*, pet: complex) -> None: ...


def named_with_default(*, pet: complex = 1j) -> None: ...


def rest(*pet: complex) -> None: ...


def keywords(**pet: complex) -> None: ...


@pytest.mark.parametrize("handler", [first, named, named_with_default, rest, keywords])
def test_types_that_no_codec_can_carry_name_the_parameter(routes: Routes, handler: Any) -> None:
    text = rf"^{handler.__name__}: argument 'pet': values of type complex can't be sent"
    with pytest.raises(ConfigError, match=text):
        routes.add(handler, None)
    assert not routes.table


def len_of(text: str) -> int:
    return len(text)


@pytest.mark.parametrize(
    ("mode", "timed"),
    [
        (Mode.SYNC, [0, 16, 32]),
        (Mode.INLINE, [0, 16, 32]),
        (Mode.TASK, list(range(33))),
        (Mode.THREAD, list(range(33))),
        (Mode.STREAM, list(range(33))),
    ],
)
def test_of_calls_that_need_not_wait_one_in_sixteen_is_timed(mode: Mode, timed: list[int]) -> None:
    method: Any = SimpleNamespace(info=SimpleNamespace(info=SimpleNamespace(mode=mode)))
    assert [before for before in range(33) if is_timed(method, before)] == timed


def test_failures_are_counted_by_status() -> None:
    info: Any = None
    route = Route(info)
    for status in (50, 42, 50):
        route.failed(status)
    assert route.failures == {50: 2, 42: 1}
