"""What is a refusal of server code, and what only passes through it."""

import asyncio
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

import fastrpc
from fastrpc import errors
from fastrpc.call import class_named, refusal_of
from fastrpc.call.metadata import encode_metadata
from fastrpc.call.refusal import REFUSALS
from fastrpc.wire import NOT_RUN


class NotYours(fastrpc.PermissionDenied):
    """Derived, as applications do."""


class Hostile(fastrpc.PermissionDenied):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Lying(fastrpc.PermissionDenied):
    @property
    def method(self) -> str:  # type: ignore[override]
        raise RuntimeError("no")

    @method.setter
    def method(self, value: str) -> None: ...


def raised(make: Callable[[], BaseException]) -> BaseException:
    """Raise here, in code that is not the library's."""
    try:
        raise make()
    except BaseException as exc:
        return exc


def let_through(act: Callable[[], Any]) -> BaseException:
    try:
        act()
    except Exception as exc:
        return exc
    raise AssertionError("it should have raised")


@pytest.mark.parametrize("kind", REFUSALS)
def test_what_the_application_raises_is_one(kind: type[fastrpc.CallError]) -> None:
    for exc in (kind("because"), raised(lambda: kind("because"))):
        refusal = refusal_of(exc)
        assert refusal is not None
        assert (refusal.kind, refusal.text, refusal.status) == (kind, "because", kind.status)
        assert class_named(refusal.name) is kind


def test_every_status_that_promises_something_has_its_class() -> None:
    assert {kind.status for kind in REFUSALS} >= NOT_RUN
    faults = {errors.Internal, errors.RemoteError, errors.RpcError, errors.StreamEnded}
    found = {cls for cls in vars(errors).values() if isinstance(cls, type)}
    found = {cls for cls in found if issubclass(cls, errors.CallError)} - {errors.CallError}
    assert found == faults | set(REFUSALS)


def test_derived_classes_count_as_what_they_derive_from() -> None:
    refusal = refusal_of(raised(lambda: NotYours("not yours")))
    assert refusal is not None
    assert refusal.kind is fastrpc.PermissionDenied


@pytest.mark.parametrize(
    "make",
    [
        lambda: fastrpc.MethodNotFound("there", method="Other.get"),
        lambda: fastrpc.RpcError(1, "x"),
        lambda: fastrpc.RemoteError("x"),
        lambda: fastrpc.Internal("x"),
        lambda: fastrpc.ConnectionDraining("x"),
        lambda: fastrpc.CodecError("x"),
        lambda: PermissionError("x"),
        asyncio.CancelledError,
        lambda: Hostile("x"),
        lambda: Lying("x"),
    ],
)
def test_what_is_none(make: Callable[[], BaseException]) -> None:
    assert refusal_of(raised(make)) is None


def test_the_answer_to_another_call_is_none() -> None:
    error = fastrpc.Overloaded("there")
    error.call_id = "abc-1"
    assert refusal_of(raised(lambda: error)) is None


@pytest.mark.parametrize(
    "act",
    [
        lambda: encode_metadata({"UPPER": "x"}),  # InvalidArgument, and names no method
        lambda: encode_metadata({"key": "x" * 70_000}),  # TooLarge
    ],
)
def test_what_the_library_raises_is_none(act: Callable[[], Any]) -> None:
    exc = let_through(act)
    assert isinstance(exc, fastrpc.CallError)
    assert not exc.method
    assert refusal_of(exc) is None


def test_what_a_policy_raises_is_one() -> None:
    namespace: dict[str, Any] = {"__name__": "fastrpc.policy.token", "fastrpc": fastrpc}
    exec("def go():\n    raise fastrpc.Unauthenticated('who?')", namespace)
    refusal = refusal_of(let_through(namespace["go"]))
    assert refusal is not None
    assert refusal.kind is fastrpc.Unauthenticated


@pytest.mark.parametrize("name", ["fastrpcs.auth", "fastrpc_auth", "__main__"])
def test_modules_with_a_name_like_ours_are_not_ours(name: str) -> None:
    namespace: dict[str, Any] = {"__name__": name, "fastrpc": fastrpc}
    exec("def go():\n    raise fastrpc.Unauthenticated('who?')", namespace)
    assert refusal_of(let_through(namespace["go"])) is not None


def test_a_status_that_promises_not_run_is_told_only_if_that_is_so() -> None:
    refusal = refusal_of(fastrpc.Unavailable("x"))
    assert refusal is not None
    assert refusal.may_be_told(started=False)
    assert not refusal.may_be_told(started=True)
    maybe = refusal_of(fastrpc.Unavailable("x", ran="maybe"))
    assert maybe is not None
    assert not maybe.may_be_told(started=False)
    late = refusal_of(fastrpc.DeadlineExceeded("x"))
    assert late is not None
    assert late.may_be_told(started=True)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(None, None), (0, 0), (1.5, 1500), (1e30, 86_400_000), (float("inf"), 86_400_000)]
    + [(bad, None) for bad in (-1.0, float("nan"), "soon")],
)
def test_how_long_to_stay_away(seconds: Any, told: int | None) -> None:
    refusal = refusal_of(fastrpc.Overloaded("x", retry_after=seconds))
    assert refusal is not None
    assert refusal.retry_ms == told


@pytest.mark.parametrize("name", ["", "fastrpc.", "PermissionDenied", "fastrpc.Internal"])
def test_no_other_name_means_a_class(name: str) -> None:
    assert class_named(name) is None


def test_a_recursion_does_not_hide_who_raised() -> None:
    def down(depth: int) -> NoReturn:
        if depth:
            down(depth - 1)
        raise fastrpc.PermissionDenied("deep")

    assert refusal_of(let_through(lambda: down(500))) is not None
