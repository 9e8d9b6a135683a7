"""Annotations are resolved, or the parameter is named."""

import functools
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from typing import TYPE_CHECKING, Annotated, Any, Optional

import pytest

from fastrpc.call import describe_service
from fastrpc.call.hints import is_stream, type_text
from fastrpc.errors import ConfigError

if TYPE_CHECKING:
    from decimal import Decimal


class Item: ...


class Service:
    class Nested: ...

    def text(self, a: "int", b: "Item", c: "list[Item]") -> "Item": ...

    def nested(self, a: "Nested") -> "list[Nested]": ...  # type: ignore[name-defined]

    def annotated(self, a: Annotated[int, "note"]) -> None: ...

    def none(self, a: None) -> None: ...

    def anything(self, a, b: object, c: Any): ...


def types_of(name: str) -> list[Any]:
    info = describe_service(Service()).methods[f"Service.{name}"]
    return [parameter.annotation for parameter in info.parameters] + [info.returns]


def test_text_is_resolved() -> None:
    assert types_of("text") == [int, Item, list[Item], Item]


def test_names_of_the_class_are_found() -> None:
    assert types_of("nested") == [Service.Nested, list[Service.Nested]]


def test_annotated_is_kept() -> None:
    assert types_of("annotated")[0] == Annotated[int, "note"]


def test_none_and_any() -> None:
    assert types_of("none") == [type(None), type(None)]
    assert types_of("anything") == [Any, Any, Any, Any]


def test_what_cannot_be_resolved_is_named() -> None:
    class Bank:
        def pay(self, ok: int, amount: "Decimal") -> None: ...

    with pytest.raises(
        ConfigError, match=r"Bank\.pay: the annotation of parameter 'amount', "
    ) as e:
        describe_service(Bank())
    assert "name 'Decimal' is not defined" in str(e.value)
    assert "import its names at the top" in str(e.value)


def test_a_result_that_cannot_be_resolved_is_named() -> None:
    def pay() -> "Decimal": ...

    with pytest.raises(ConfigError, match=r"pay: the annotation of its result"):
        describe_service(pay)


def test_what_a_partial_has_bound_need_not_be_known() -> None:
    def pay(account: "Decimal", amount: int) -> None: ...

    (info,) = describe_service(functools.partial(pay, None)).methods.values()
    assert [(p.name, p.annotation) for p in info.parameters] == [("amount", int)]


def test_a_default_of_none_means_that_none_is_fine() -> None:
    def find(limit: int = None, name: "str" = None, any=None) -> None: ...  # type: ignore[assignment]  # noqa: RUF013

    (info,) = describe_service(find).methods.values()
    assert [p.annotation for p in info.parameters] == [int | None, str | None, Any]


@pytest.mark.parametrize("origin", [AsyncIterator, AsyncIterable, AsyncGenerator])
def test_streams(origin: Any) -> None:
    assert is_stream(origin)
    assert is_stream(origin[int] if origin is not AsyncGenerator else origin[int, None])
    for other in (int, list[int], Any, None):
        assert not is_stream(other)


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (Any, "Any"),
        (None, "None"),
        (type(None), "None"),
        (int, "int"),
        (Item, "Item"),
        (Optional[Item], "Item | None"),  # noqa: UP045
        (dict[str, list[Item]], "dict[str, list[Item]]"),
        (tuple[int, ...], "tuple[int, ...]"),
        (Annotated[list[int], 5], "list[int]"),
        (AsyncIterator[int], "AsyncIterator[int]"),
        ("text", "text"),
    ],
)
def test_type_text(annotation: Any, text: str) -> None:
    assert type_text(annotation) == text
