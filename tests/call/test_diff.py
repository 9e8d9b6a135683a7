"""Every kind of change is found, in both directions, and judged as the table says."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, TypedDict

import msgspec
import pytest

from fastrpc.call import (
    RULES,
    Change,
    ChangeKind,
    compare,
    describe_service,
    read_document,
    rpc,
    write_document,
)
from fastrpc.call.diff import _NAMES
from fastrpc.call.flow import BREAKING, Finding
from fastrpc.codec import JsonCodec, MsgpackCodec

K = ChangeKind
CODECS = (JsonCodec(), MsgpackCodec())


def contract(*fns: Callable[..., Any], **options: str) -> dict[str, Any]:
    return read_document(write_document([describe_service(fn, "f", **options) for fn in fns]))


def kinds(old: Callable[..., Any], new: Callable[..., Any]) -> list[ChangeKind]:
    return [change.kind for change in compare(contract(old), contract(new))]


# Parameters: the method before, the method after, what changed, and what the way back is.


def none() -> None: ...
def a(a: int) -> None: ...
def b(b: int) -> None: ...
def a_one(a: int = 1) -> None: ...
def a_two(a: int = 2) -> None: ...
def a_b(a: int, b: int) -> None: ...
def b_a(b: int, a: int) -> None: ...
def named(*, a: int) -> None: ...
def named_one(*, a: int = 1) -> None: ...
def placed(a: int, /) -> None: ...
def placed_b(b: int, /) -> None: ...
def rest(*a: int) -> None: ...
def rest_b(*b: int) -> None: ...
def keywords(**k: int) -> None: ...
def a_rest(a: int, *more: int) -> None: ...
def a_b_rest(a: int, b: int = 1, *more: int) -> None: ...


@pytest.mark.parametrize(
    ("old", "new", "there", "back"),
    [
        (none, a, [K.PARAMETER_ADDED_REQUIRED], [K.PARAMETER_REMOVED]),
        (none, a_one, [K.PARAMETER_ADDED], [K.PARAMETER_REMOVED]),
        (none, named_one, [K.PARAMETER_ADDED], [K.PARAMETER_REMOVED]),
        (none, rest, [K.PARAMETER_ADDED], [K.PARAMETER_REMOVED]),
        (none, keywords, [K.PARAMETER_ADDED], [K.PARAMETER_REMOVED]),
        (a, b, [K.PARAMETER_RENAMED], [K.PARAMETER_RENAMED]),
        (placed, placed_b, [K.PARAMETER_RENAMED_UNSEEN], [K.PARAMETER_RENAMED_UNSEEN]),
        (rest, rest_b, [K.PARAMETER_RENAMED_UNSEEN], [K.PARAMETER_RENAMED_UNSEEN]),
        (a, a_one, [K.PARAMETER_MADE_OPTIONAL], [K.PARAMETER_MADE_REQUIRED]),
        (a_one, a_two, [K.PARAMETER_DEFAULT_CHANGED], [K.PARAMETER_DEFAULT_CHANGED]),
        (a_b, b_a, [K.PARAMETER_MOVED] * 2, [K.PARAMETER_MOVED] * 2),
        (a, b_a, [K.PARAMETER_ADDED_REQUIRED, K.PARAMETER_MOVED], [K.PARAMETER_REMOVED, K.PARAMETER_MOVED]),
        (a_rest, a_b_rest, [K.PARAMETER_ADDED, K.PARAMETER_MOVED], [K.PARAMETER_REMOVED]),
        (a, named, [K.PARAMETER_POSITION_LOST], [K.PARAMETER_POSITION_GAINED]),
        (a, placed, [K.PARAMETER_NAME_LOST], [K.PARAMETER_NAME_GAINED]),
    ],
)  # fmt: skip
def test_parameters(old: Any, new: Any, there: list[ChangeKind], back: list[ChangeKind]) -> None:
    assert kinds(old, new) == there
    assert kinds(new, old) == back


# Types: T before and after, what is said of an argument and of a result.


class Plain(msgspec.Struct):
    a: int


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    a: int


@dataclass
class A:
    a: int


@dataclass
class AB:
    a: int
    b: int


@dataclass
class ABDefault:
    a: int
    b: int = 0


class DictA(TypedDict):
    a: int


class DictMaybe(TypedDict):
    a: NotRequired[int]


class StrictAB(msgspec.Struct, forbid_unknown_fields=True):
    a: int
    b: int = 0


class Short(NamedTuple):
    a: int


class Long(NamedTuple):
    a: int
    b: int = 0


@dataclass
class Maybe:
    a: int = 0


Limited = Annotated[int, msgspec.Meta(ge=5)]

TYPES: list[tuple[Any, Any, list[ChangeKind], list[ChangeKind]]] = [
    (int, float, [K.ARGUMENT_TYPE_WIDENED], [K.RESULT_TYPE_WIDENED]),
    (float, int, [K.ARGUMENT_TYPE_NARROWED], [K.RESULT_TYPE_NARROWED]),
    (int, str, [K.ARGUMENT_TYPE_NARROWED], [K.RESULT_TYPE_WIDENED]),
    (int, int | None, [K.ARGUMENT_CHOICE_ADDED], [K.RESULT_CHOICE_ADDED]),
    (int | None, int, [K.ARGUMENT_CHOICE_REMOVED], [K.RESULT_CHOICE_REMOVED]),
    (Literal["a"], Literal["a", "b"], [K.ARGUMENT_CHOICE_ADDED], [K.RESULT_CHOICE_ADDED]),
    (Literal["a", "b"], Literal["a"], [K.ARGUMENT_CHOICE_REMOVED], [K.RESULT_CHOICE_REMOVED]),
    (Limited, int, [K.ARGUMENT_LIMIT_LOOSENED], [K.RESULT_LIMIT_LOOSENED]),
    (int, Limited, [K.ARGUMENT_LIMIT_TIGHTENED], [K.RESULT_LIMIT_TIGHTENED]),
    (Short, Long, [K.ARGUMENT_LENGTH_WIDENED], [K.RESULT_LENGTH_WIDENED]),
    (Long, Short, [K.ARGUMENT_LENGTH_NARROWED], [K.RESULT_LENGTH_NARROWED]),
    (A, ABDefault, [K.ARGUMENT_FIELD_ADDED], [K.RESULT_FIELD_ADDED]),
    (ABDefault, A, [K.ARGUMENT_FIELD_REMOVED], [K.RESULT_FIELD_REMOVED]),
    (A, AB, [K.ARGUMENT_FIELD_ADDED_REQUIRED], [K.RESULT_FIELD_ADDED]),
    (AB, A, [K.ARGUMENT_FIELD_REMOVED], [K.RESULT_FIELD_REMOVED_REQUIRED]),
    (StrictAB, Strict, [K.ARGUMENT_FIELD_REFUSED], [K.RESULT_FIELD_REMOVED]),
    (Strict, StrictAB, [K.ARGUMENT_FIELD_ADDED], [K.RESULT_FIELD_ADDED_CLOSED]),
    (Maybe, A, [K.ARGUMENT_FIELD_MADE_REQUIRED], [K.RESULT_FIELD_MADE_REQUIRED]),
    (A, Maybe, [K.ARGUMENT_FIELD_MADE_OPTIONAL], [K.RESULT_FIELD_GIVEN_DEFAULT]),
    (DictA, DictMaybe, [K.ARGUMENT_FIELD_MADE_OPTIONAL], [K.RESULT_FIELD_MADE_OMITTED]),
    (DictMaybe, DictA, [K.ARGUMENT_FIELD_MADE_REQUIRED], [K.RESULT_FIELD_MADE_REQUIRED]),
    (list[A], list[AB], [K.ARGUMENT_FIELD_ADDED_REQUIRED], [K.RESULT_FIELD_ADDED]),
    (Any, int, [K.ARGUMENT_TYPE_NARROWED], [K.RESULT_TYPE_NARROWED]),
    (AsyncIterator[int], AsyncIterator[float], [K.ARGUMENT_TYPE_WIDENED], [K.RESULT_TYPE_WIDENED]),
    (AsyncIterator[int], int, [K.STREAM_CHANGED], [K.STREAM_CHANGED]),
    (int, AsyncIterator[int], [K.STREAM_CHANGED], [K.STREAM_CHANGED]),
    (A, Plain, [], []),
    (A, DictA, [], []),
]


def taking(annotation: Any) -> Callable[..., Any]:
    async def f(value): ...  # type: ignore[no-untyped-def]

    f.__annotations__ = {"value": annotation, "return": None}
    return f


def giving(annotation: Any) -> Callable[..., Any]:
    async def f(): ...  # type: ignore[no-untyped-def]

    f.__annotations__ = {"return": annotation}
    return f


@pytest.mark.parametrize(
    ("old", "new", "argument", "result"), TYPES, ids=lambda value: str(value)[:40]
)
def test_types(old: Any, new: Any, argument: list[ChangeKind], result: list[ChangeKind]) -> None:
    assert kinds(taking(old), taking(new)) == argument
    assert kinds(giving(old), giving(new)) == result


# What each of those types may look like when a caller, or a service, writes it.
WRITTEN: dict[Any, tuple[list[Any], list[Any]]] = {
    int: ([1, -3], [1, -3]),
    float: ([1.5], [1.5]),
    str: (["a"], ["a"]),
    int | None: ([1, None], [1, None]),
    Literal["a"]: (["a"], ["a"]),
    Literal["a", "b"]: (["a", "b"], ["a", "b"]),
    Limited: ([5, 9], [5, 9]),
    Short: ([[1]], [Short(1)]),
    Long: ([[1], [1, 2]], [Long(1)]),
    A: ([{"a": 1}], [A(1)]),
    AB: ([{"a": 1, "b": 2}], [AB(1, 2)]),
    ABDefault: ([{"a": 1}, {"a": 1, "b": 2}], [ABDefault(1)]),
    Plain: ([{"a": 1}], [Plain(1)]),
    Strict: ([{"a": 1}], [Strict(1)]),
    StrictAB: ([{"a": 1}, {"a": 1, "b": 2}], [StrictAB(1)]),
    Maybe: ([{}, {"a": 1}], [Maybe()]),
    DictA: ([{"a": 1}], [{"a": 1}]),
    DictMaybe: ([{}, {"a": 1}], [{}, {"a": 1}]),
    list[A]: ([[{"a": 1}]], [[A(1)]]),
    list[AB]: ([[{"a": 1, "b": 2}]], [[AB(1, 2)]]),
    Any: ([1, "a", None], [1, "a", None]),
}


@pytest.mark.parametrize(
    ("old", "new"),
    [(old, new) for old, new, *_ in TYPES if old in WRITTEN and new in WRITTEN],
    ids=lambda value: str(value)[:40],
)
def test_the_codecs_agree_with_the_verdict(old: Any, new: Any) -> None:
    """Breaking is what some value of the one side is refused by the other, and nothing else."""

    def refused(values: list[Any], reader: Any) -> bool:
        count = 0
        for codec in CODECS:
            for value in values:
                try:
                    codec.decoder(reader)(codec.encode(value))
                except Exception:
                    count += 1
        return count > 0

    for make, values, reader in ((taking, WRITTEN[old][0], new), (giving, WRITTEN[new][1], old)):
        changes = compare(contract(make(old)), contract(make(new)))
        assert any(change.breaking for change in changes) == refused(values, reader), make


# Methods and traits.


def test_methods_come_and_go() -> None:
    assert [change.kind for change in compare(contract(), contract(a))] == [K.METHOD_ADDED]
    assert [change.kind for change in compare(contract(a), contract())] == [K.METHOD_REMOVED]
    assert compare(contract(a), contract(a)) == []


def test_versions_and_groups_are_other_methods() -> None:
    changes = compare(contract(a), contract(a, version="2", group="eu"))
    assert [(change.kind, change.method) for change in changes] == [
        (K.METHOD_REMOVED, "f"),
        (K.METHOD_ADDED, "f@2/eu"),
    ]


def test_traits() -> None:
    once = rpc(idempotent=True)(lambda: None)
    shielded = rpc(cancel="shield", cost=5)(lambda: None)
    bare = rpc()(lambda: None)
    assert kinds(bare, once) == [K.IDEMPOTENT_GAINED]
    assert kinds(once, bare) == [K.IDEMPOTENT_LOST]
    assert kinds(bare, shielded) == kinds(shielded, bare) == [K.CANCEL_CHANGED, K.COST_CHANGED]


def test_docs_and_names_of_classes_are_nobodys_business() -> None:
    def documented(a: int) -> None:
        """Do something."""

    assert kinds(a, documented) == []


def test_contracts_that_do_not_tell_of_new_traits_are_no_change() -> None:
    old = contract(a)
    for key in ("cancel", "cost", "idempotent", "doc", "mode"):
        del old["services"][0]["methods"][0][key]
    assert compare(read_document(old), contract(a)) == []


# The table.


def test_every_kind_has_a_verdict_and_a_sentence() -> None:
    assert set(RULES) == set(ChangeKind)
    for rule in RULES.values():
        assert rule.why.endswith(".")
        assert len(rule.why) <= 80


def test_findings_and_verdicts_agree() -> None:
    assert set(_NAMES) == set(Finding)
    for finding, (argument, result) in _NAMES.items():
        assert RULES[result].breaking == (finding in BREAKING)
        if finding is not Finding.FIELD_HAS_DEFAULT:  # never an argument's
            assert RULES[argument].breaking == (finding in BREAKING)


def test_every_kind_is_made_by_a_test_here() -> None:
    seen = {kind for _, _, argument, result in TYPES for kind in (*argument, *result)}
    marks = test_parameters.pytestmark[0].args[1]  # type: ignore[attr-defined]
    seen |= {kind for _, _, there, back in marks for kind in (*there, *back)}
    seen |= {K.METHOD_ADDED, K.METHOD_REMOVED, K.IDEMPOTENT_GAINED, K.IDEMPOTENT_LOST}
    seen |= {K.CANCEL_CHANGED, K.COST_CHANGED}
    assert seen == set(ChangeKind)


def test_a_change_tells_all() -> None:
    (change,) = compare(contract(taking(list[A])), contract(taking(list[AB])))
    assert change == Change(
        kind=K.ARGUMENT_FIELD_ADDED_REQUIRED,
        method="f",
        where="parameter 'value', an item, field 'b'",
        text="integer added",
    )
    assert change.describe() == {
        "kind": "argument-field-added-required",
        "breaking": True,
        "method": "f",
        "where": "parameter 'value', an item, field 'b'",
        "text": "integer added",
        "why": "Old callers don't send it.",
    }
    (change,) = compare(contract(giving(int)), contract(giving(str)))
    assert (change.where, change.text) == ("result", "was integer, is string")
