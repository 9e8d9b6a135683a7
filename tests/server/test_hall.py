"""Halls by themselves: who is here, whose a path is, when the last one has gone."""

import asyncio
import logging
from typing import Any

import pytest

import fastrpc
from fastrpc.errors import ConfigError
from fastrpc.server.hall import Hall
from fastrpc.server.options import ServerOptions

CALM = logging.getLogger("tests.calm")


class Visitor:
    """Somebody who came in."""

    door = "fastrpc"

    def __init__(self, peer: str = "mem://x") -> None:
        self.peer = peer
        self.cause: Exception | None = None

    def abort(self, cause: Exception) -> None:
        self.cause = cause


class Side:
    """As much of what sessions share as a hall looks at."""

    def __init__(self) -> None:
        self.share = self
        self.told: list[tuple[str, str]] = []

    def create_future(self) -> Any:
        return asyncio.get_running_loop().create_future()

    def complain(self, level: int, peer: str, words: str) -> None:
        self.told.append((peer, words))


def hall_of(**options: Any) -> Hall:
    hall = Hall(fastrpc.Server(log=CALM), ServerOptions(**options))
    side: Any = Side()
    hall.side = side
    return hall


def told(hall: Hall) -> Any:
    side: Any = hall.side
    return side.told


def test_a_path_belongs_to_the_longest_mount() -> None:
    hall, first, second, inner = (hall_of() for _ in range(4))
    hall.mount("/a", first)
    hall.mount("/a/b/", second)
    second.mount("/c", inner)
    assert hall.route("/") == (hall, "/")
    assert hall.route("/ab") == (hall, "/ab")
    assert hall.route("/a") == (first, "/")
    assert hall.route("/a/x") == (first, "/x")
    assert hall.route("/a/b/x/y") == (second, "/x/y")
    assert hall.route("/a/b/c") == (inner, "/")


@pytest.mark.parametrize(
    ("path", "says"),
    [("a", "is as '/name'"), ("/", "is as '/name'"), ("", "is as '/name'"), ("/a/", "already")],
)
def test_mounts_that_are_none(path: str, says: str) -> None:
    hall = hall_of()
    hall.mount("/a", hall_of())
    with pytest.raises(ConfigError, match=says):
        hall.mount(path, hall_of())


def test_nobody_is_mounted_into_himself() -> None:
    hall = hall_of()
    with pytest.raises(ConfigError, match="itself"):
        hall.mount("/a", hall)


def test_who_is_one_too_many_is_turned_away() -> None:
    hall = hall_of(max_connections=1)
    first, second = Visitor(), Visitor("mem://y")
    hall.arrive(first)  # type: ignore[arg-type]
    hall.admission.greeted(first)  # type: ignore[arg-type]
    hall.arrive(second)  # type: ignore[arg-type]
    assert first.cause is None
    assert "turned away: more than 1 connections" in str(second.cause)
    assert isinstance(second.cause, fastrpc.ConnectionLost)
    assert [peer for peer, _ in told(hall)] == ["mem://y"]
    hall.depart(second)  # type: ignore[arg-type]
    hall.depart(second)  # type: ignore[arg-type]
    assert hall.admission.visitors == [first]


def test_who_comes_while_it_closes_is_turned_away() -> None:
    hall, late = hall_of(), Visitor()
    hall.is_closing = True
    hall.arrive(late)  # type: ignore[arg-type]
    assert "the server is shutting down" in str(late.cause)


@pytest.mark.asyncio
async def test_it_is_empty_when_the_last_one_has_gone() -> None:
    hall, visitors = hall_of(), [Visitor(), Visitor()]
    await hall.emptied(60)  # nobody is there to wait for
    for visitor in visitors:
        hall.arrive(visitor)  # type: ignore[arg-type]
    waiting = asyncio.ensure_future(hall.emptied(60))
    await asyncio.sleep(0)
    hall.depart(visitors[0])  # type: ignore[arg-type]
    await asyncio.sleep(0)
    assert not waiting.done()
    hall.depart(visitors[1])  # type: ignore[arg-type]
    await waiting


@pytest.mark.asyncio
async def test_patience_has_an_end() -> None:
    hall, visitor = hall_of(), Visitor()
    hall.arrive(visitor)  # type: ignore[arg-type]
    await hall.emptied(0)
    assert hall.admission.visitors == [visitor]
