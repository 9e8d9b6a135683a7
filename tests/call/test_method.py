"""Signatures and descriptions read as the author wrote them."""

import datetime as dt
import json
from collections.abc import Callable
from typing import Any, Literal, Optional

import pytest

from fastrpc.call import describe_service
from fastrpc.call.method import Traits, method_key, rpc
from fastrpc.errors import ConfigError
from tests.codec import samples


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


@pytest.mark.parametrize(
    ("traits", "words"),
    [
        ({"cancel": "never"}, "cancel must be 'propagate' or 'shield', got 'never'"),
        ({"cancel": None}, "cancel must be"),
        ({"cost": 0}, "cost must be a whole number from 1 to 1000000, got 0"),
        ({"cost": 1_000_001}, "cost must be"),
        ({"cost": True}, "cost must be"),
        ({"cost": 1.5}, "cost must be"),
    ],
)
def test_traits_that_say_nothing_are_refused(traits: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        rpc(**traits)


def test_traits_are_described() -> None:
    (info,) = describe_service(
        rpc(cancel="shield", cost=1_000_000, idempotent=True)(plain)
    ).methods.values()
    told = info.describe()
    assert (told["cancel"], told["cost"], told["idempotent"]) == ("shield", 1_000_000, True)


def test_types_are_described() -> None:
    class Service:
        def one(self, node: samples.Node, colour: samples.Color) -> list[samples.Movie]: ...

    assert describe_service(Service).describe()["types"] == [
        {
            "name": "Node",
            "fields": [
                {"name": "v", "type": "int", "required": True},
                {"name": "next", "type": "Node | None", "required": False, "default": None},
            ],
        },
        {"name": "Color", "values": ["red", "blue"]},
        {
            "name": "Movie",
            "fields": [
                {"name": "a", "type": "int", "required": True},
                {"name": "b", "type": "NotRequired[str]", "required": False},
            ],
        },
    ]


@pytest.mark.parametrize(
    ("version", "group", "key"),
    [
        ("", "", "Arith.add"),
        ("2", "", "Arith.add@2"),
        ("", "eu", "Arith.add@/eu"),
        ("2.1-rc", "eu", "Arith.add@2.1-rc/eu"),
        ("é" * 64, "", "Arith.add@" + "é" * 64),
    ],
)
def test_the_name_on_the_wire(version: str, group: str, key: str) -> None:
    assert method_key("Arith.add", version, group) == key


def test_keys_are_different_for_different_versions_and_groups() -> None:
    labels = ["", "1", "2", "12", "eu"]
    keys = {method_key("A.b", version, group) for version in labels for group in labels}
    assert len(keys) == len(labels) ** 2


@pytest.mark.parametrize("label", ["a b", "a@b", "a/b", "a\n", "x" * 65])
@pytest.mark.parametrize("which", ["version", "group"])
def test_labels_that_cannot_travel(which: str, label: str) -> None:
    with pytest.raises(ConfigError, match=f"a {which} "):
        method_key("Arith.add", **{which: label})
    with pytest.raises(ConfigError, match=f"a {which} "):
        describe_service(plain, **{which: label})


def test_keys_have_room_on_the_wire() -> None:
    longest = "x" * (255 - len("@2/eu"))
    assert len(method_key(longest, "2", "eu")) == 255
    with pytest.raises(ConfigError, match="at most 255 bytes, got 256"):
        method_key(longest + "x", "2", "eu")
    for name in ("a@b", "a/b"):
        assert method_key(name) == name
        with pytest.raises(ConfigError, match="has no @ or / in its name"):
            method_key(name, "2")


def test_version_and_group_are_described() -> None:
    told = describe_service(plain, version="2", group="eu").describe()
    assert (told["version"], told["group"], told["name"]) == ("2", "eu", "plain")
    told = describe_service(plain).describe()
    assert (told["version"], told["group"]) == ("", "")


class TypeAliasType:
    """Stands for `type Number = ...` of 3.12, which this file can't write on 3.11."""

    __name__ = "Number"
    __value__ = int | float


def test_aliases_are_described() -> None:
    def fn(a): ...  # type: ignore[no-untyped-def]

    fn.__annotations__ = {"a": list[TypeAliasType()]}  # type: ignore[misc]
    assert describe_service(fn).describe()["types"] == [{"name": "Number", "type": "int | float"}]
