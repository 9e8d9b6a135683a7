"""Signatures and descriptions read as the author wrote them."""

import datetime as dt
import json
from collections.abc import Callable
from typing import Any, Literal, Optional

import pytest

from fastrpc.call import describe_service
from fastrpc.call.method import Traits
from fastrpc.errors import ConfigError


def plain(a, b=2): ...
def typed(a: int, b: "str" = "x", *, c: float | None = None) -> None: ...
def positional(a: int, /, b: int) -> int: ...
def all_positional(a, b=1, /): ...
def keyword_only(*, a: int, b=2) -> dict[str, list[int]]: ...
def rest(a, *args: int, b: int, **kwargs: "list[str]") -> Any: ...
def everything(a, /, b, *args, c, d=None, **kw): ...
def nested(a: dict[str, tuple[int, ...]], b: Callable[[int], str]) -> Literal["a", 1]: ...
def optional(a: int = None, b: Optional[int] = 3) -> "dt.datetime": ...  # type: ignore[assignment]  # noqa: RUF013, UP045
def bare(a: list, b: dict) -> tuple: ...  # type: ignore[type-arg]
def default(a: dt.date = dt.date(2026, 1, 2), b: list[int] = []) -> object: ...  # noqa: B006


@pytest.mark.parametrize(
    ("fn", "text"),
    [
        (plain, "plain(a, b=2)"),
        (typed, "typed(a: int, b: str = 'x', *, c: float | None = None) -> None"),
        (positional, "positional(a: int, /, b: int) -> int"),
        (all_positional, "all_positional(a, b=1, /)"),
        (keyword_only, "keyword_only(*, a: int, b=2) -> dict[str, list[int]]"),
        (rest, "rest(a, *args: int, b: int, **kwargs: list[str])"),
        (everything, "everything(a, /, b, *args, c, d=None, **kw)"),
        (
            nested,
            "nested(a: dict[str, tuple[int, ...]], b: Callable[[int], str]) -> Literal['a', 1]",
        ),
        (optional, "optional(a: int | None = None, b: int | None = 3) -> datetime"),
        (bare, "bare(a: list, b: dict) -> tuple"),
        (default, "default(a: date = datetime.date(2026, 1, 2), b: list[int] = [])"),
    ],
)
def test_signature(fn: Any, text: str) -> None:
    service = describe_service(fn)
    (info,) = service.methods.values()
    assert info.signature() == text
    json.dumps(service.describe())


def test_defaults_are_told_as_plain_values() -> None:
    (info,) = describe_service(default).methods.values()
    defaults = [parameter.describe()["default"] for parameter in info.parameters]
    assert defaults == ["datetime.date(2026, 1, 2)", "[]"]
    (info,) = describe_service(rest).methods.values()
    told = [parameter.describe() for parameter in info.parameters]
    assert [item["kind"] for item in told] == ["positional", "rest", "keyword_only", "keywords"]
    assert [item["required"] for item in told] == [True, False, True, False]
    assert not any("default" in item for item in told)


def test_traits_check_their_name() -> None:
    assert Traits(name="fine.name").name == "fine.name"
    with pytest.raises(ConfigError):
        Traits(name="not fine")
