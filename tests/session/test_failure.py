"""Error bodies of whatever can be raised: none of this may raise."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrpc.call import ErrorRegistry
from fastrpc.errors import RpcError
from fastrpc.session import failure
from fastrpc.session.failure import TEXT_MAX, TRACE_MAX

encode = msgspec.msgpack.encode
decode = msgspec.msgpack.decode


NOBODY = ErrorRegistry()


def application(exc: BaseException, traced: bool = False) -> tuple[int, dict[str, Any]]:
    meant = failure.application(exc, NOBODY, traced)
    assert meant is not None
    return meant


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError


class Exiting(Exception):
    def __str__(self) -> str:
        raise SystemExit


class Text(str):
    __slots__ = ()

    def __getitem__(self, key: Any) -> str:
        raise ValueError


class Strange(Exception):
    def __str__(self) -> str:
        return Text("strange")


class Number(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]


@pytest.mark.parametrize("kind", [Unprintable, Exiting, Number, Strange])
def test_text_of_what_can_not_be_printed(kind: type[Exception]) -> None:
    assert failure.text_of(kind()) == f"<{kind.__name__} that can't be printed>"


@given(st.text(st.characters(), max_size=3000))
def test_any_text_fits_the_wire(text: str) -> None:
    told = failure.clipped(text)
    assert len(told) <= TEXT_MAX
    assert decode(encode(told)) == told
    assert text[:TEXT_MAX].startswith(told) or "\ufffd" in told or "?" in told


def test_traces_end_with_the_exception_and_are_no_longer_than_allowed() -> None:
    def deep(n: int) -> None:
        if n:
            deep(n - 1)
        raise ValueError("x" * 300)

    with pytest.raises(ValueError, match="xxx") as caught:
        deep(200)
    trace = failure.trace_of(caught.value)
    assert len(trace) <= TRACE_MAX
    assert trace.endswith("x\n")
    with pytest.raises(Unprintable) as unprintable:
        raise Unprintable
    assert "Unprintable" in failure.trace_of(unprintable.value)


def test_traces_that_can_not_be_made_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*exc: object) -> list[str]:
        raise RecursionError

    monkeypatch.setattr(failure.traceback, "format_exception", fail)
    assert failure.trace_of(ValueError()) == ""
    assert failure.log_info(ValueError()) is None


def test_an_error_on_purpose_with_all_it_has() -> None:
    assert application(RpcError(7, "no", {"a": 1})) == (
        7,
        {"type": "RpcError", "message": "no", "data": {"a": 1}},
    )


@pytest.mark.parametrize("code", ["7", 7.0, True, -1, 2**32, None])
def test_codes_of_no_sense_become_0(code: Any) -> None:
    error = RpcError(7, "no")
    error.code = code
    assert application(error)[0] == 0


def test_an_error_whose_class_forgot_its_base() -> None:
    class Forgetful(RpcError):
        def __init__(self) -> None: ...

    assert application(Forgetful()) == (0, {"type": "Forgetful", "message": ""})


@pytest.mark.parametrize("message", [Unprintable(), Text("a"), b"bytes", 5, None])
def test_messages_that_are_no_text(message: Any) -> None:
    error = RpcError(7, "no")
    error.message = message
    told = application(error)[1]["message"]
    assert type(told) is str


def test_an_unexpected_error_shows_its_trace_on_demand_only() -> None:
    error = ValueError("wrong")
    told = failure.unexpected(error, NOBODY, False)
    assert told == {"type": "ValueError", "message": "wrong"}
    assert "ValueError: wrong" in failure.unexpected(error, NOBODY, True)["trace"]
    assert "RpcError: [7] no" in application(RpcError(7, "no"), traced=True)[1]["trace"]


def test_names_of_classes_are_clipped() -> None:
    kind = type("X" * 10_000, (Exception,), {})
    assert len(failure.type_of(kind())) == 200


def test_refusals_are_named_after_their_status() -> None:
    assert failure.refusal(44, "x" * 5000) == {"type": "not_found", "message": "x" * TEXT_MAX}


def test_data_that_can_not_be_encoded_is_left_out() -> None:
    body = {"type": "A", "message": "b", "data": object()}
    assert decode(failure.encoded(encode, body)) == {"type": "A", "message": "b"}
