"""Error bodies of whatever can be raised: none of this may raise."""

import enum
import itertools
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrpc.call import ErrorRegistry
from fastrpc.errors import RpcError
from fastrpc.session import failure
from fastrpc.session.failure import CAUSE_TEXT_MAX, CAUSES_MAX, TEXT_MAX, TRACE_MAX

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
    with pytest.raises(ValueError, match="x") as caught:
        raise ValueError("x")
    assert failure.trace_of(caught.value).endswith('raise ValueError("x")\n')
    assert failure.log_info(caught.value) is None
    monkeypatch.setattr(failure.traceback, "format_tb", fail)
    assert failure.trace_of(caught.value) == ""


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


# Errors that are meant for the caller, and what they were raised from


class Known(Exception):
    pass


class Blunt(Exception):
    """Has a state that can't be read."""

    @property
    def code(self) -> int:
        raise ValueError("no code")

    def to_rpc(self) -> Any:
        raise SystemExit

    @classmethod
    def from_rpc(cls, message: str, data: Any) -> "Blunt":
        return cls(message)


class Level(enum.IntEnum):
    LOW = 3


KNOWN = ErrorRegistry({"bank.Known": Known, "Blunt": Blunt})


def raised_from(*chain: BaseException) -> BaseException:
    for above, below in itertools.pairwise(chain):
        above.__cause__ = below
    return chain[0]


def test_a_registered_error_goes_out_under_its_name_with_its_state() -> None:
    told = failure.application(Known("no", 3), KNOWN, False)
    body = {"type": "bank.Known", "message": "('no', 3)", "data": {"args": ["no", 3]}}
    assert told == (0, body)
    assert failure.application(ValueError("no"), KNOWN, False) is None


@pytest.mark.parametrize(("code", "sent"), [(7, 7), (Level.LOW, 3), (True, 0), (-1, 0), ("7", 0)])
def test_the_code_of_a_class_or_an_exception(code: Any, sent: int) -> None:
    error = Known("no")
    error.code = code  # type: ignore[attr-defined]
    told = failure.application(error, KNOWN, False)
    assert told is not None
    assert (told[0], type(told[0])) == (sent, int)


def test_a_state_that_can_not_be_read_is_left_out() -> None:
    told = failure.application(Blunt("sorry"), KNOWN, False)
    assert told == (0, {"type": "Blunt", "message": "sorry"})


def test_causes_are_told_if_they_are_meant_for_callers() -> None:
    error = raised_from(
        Known("a"), OSError("/secret"), RpcError(5, "b"), KeyError("row 7"), Known("c")
    )
    told = failure.application(error, KNOWN, False)
    assert told is not None
    assert told[1]["causes"] == [
        {"type": "RpcError", "message": "b"}, {"type": "bank.Known", "message": "c"},
    ]  # fmt: skip
    assert "secret" not in str(told)
    unmeant = failure.unexpected(raised_from(ValueError("x"), OSError("/secret")), KNOWN, False)
    assert unmeant == {"type": "ValueError", "message": "x"}
    traced = failure.unexpected(raised_from(ValueError("x"), OSError("/seen")), KNOWN, True)
    assert traced["causes"] == [{"type": "OSError", "message": "/seen"}]


def test_causes_are_few_and_short_and_chains_may_be_rings() -> None:
    many = raised_from(*[Known("x" * 9000) for _ in range(50)])
    told = failure.causes_of(many, KNOWN, False)
    assert len(told) == CAUSES_MAX
    assert all(len(cause["message"]) == CAUSE_TEXT_MAX for cause in told)
    ring = [Known("a"), Known("b")]
    raised_from(*ring, ring[0])
    assert [cause["message"] for cause in failure.causes_of(ring[0], KNOWN, False)] == ["b"]
    itself = raised_from(*[Known("me")] * 2)
    assert failure.causes_of(itself, KNOWN, True) == []
    far = raised_from(Known("a"), *[ValueError() for _ in range(5000)], Known("b"))
    assert failure.causes_of(far, KNOWN, False) == []


# What fits


def test_what_is_too_large_goes_in_order_of_its_worth() -> None:
    body = {"type": "A", "message": "b", "trace": "t" * 500, "causes": [{"type": "c" * 100}],
            "data": "d" * 50}  # fmt: skip
    kept = [
        sorted(decode(told)) if (told := failure.encoded(encode, dict(body), most)) else []
        for most in (1000, 500, 100, 20, 10)
    ]
    assert kept == [
        ["causes", "data", "message", "trace", "type"], ["causes", "data", "message", "type"],
        ["data", "message", "type"], ["message", "type"], [],
    ]  # fmt: skip


def test_data_that_no_caller_would_read_is_left_out() -> None:
    deep: Any = "x" * 64
    for _ in range(failure.ERROR_DEPTH):
        deep = [deep]
    for data in (deep, [0] * failure.ERROR_ITEMS):
        body = {"type": "A", "message": "b", "data": data}
        assert decode(failure.encoded(encode, body)) == {"type": "A", "message": "b"}


class Exploding(dict[str, Any]):
    def items(self) -> Any:
        raise KeyboardInterrupt


def test_data_whose_own_code_raises_is_left_out() -> None:
    def strict(value: Any) -> bytes:
        if "data" in value:
            value["data"].items()
        return encode(value)

    body = {"type": "A", "message": "b", "data": Exploding(a=1)}
    assert decode(failure.encoded(strict, body)) == {"type": "A", "message": "b"}


# Whatever an exception is


def _raise(*args: Any, **kwargs: Any) -> Any:
    raise SystemExit("of an exception's own code")


def _recurse(*args: Any, **kwargs: Any) -> Any:
    return _recurse()


class HostileMeta(type):
    __name__ = property(_raise)  # type: ignore[assignment]
    __module__ = property(_raise)  # type: ignore[assignment]
    __hash__ = _raise  # type: ignore[assignment]
    __eq__ = _raise  # type: ignore[assignment]
    __instancecheck__ = _raise
    __subclasscheck__ = _raise


MEMBERS = [
    "__str__", "__repr__", "args", "__class__", "__cause__", "__context__", "__traceback__",
    "__notes__", "__suppress_context__", "__dict__", "add_note", "with_traceback", "code",
    "message", "data", "type", "to_rpc", "__eq__", "__hash__", "__reduce__", "__getattribute__",
]  # fmt: skip
ACTS: list[Any] = [
    _raise, _recurse, lambda *args: "\ud800" * 5000, lambda *args: 5, lambda *args: None,
    lambda *args: b"\xff", lambda *args: [object()], lambda *args: args,
]  # fmt: skip


@st.composite
def hostile(draw: st.DrawFn) -> Callable[[], BaseException]:
    """Make an exception whose members raise, recurse or are not what they should be.

    It is hidden in a function, or it would be Hypothesis that trips over it.
    """
    base = draw(st.sampled_from([Exception, RpcError, KeyError, OSError, BaseException]))
    chosen = draw(st.dictionaries(st.sampled_from(MEMBERS), st.sampled_from(ACTS), max_size=5))
    body: dict[str, Any] = {}
    for name, act in chosen.items():
        body[name] = property(act) if draw(st.booleans()) else act
    meta = draw(st.sampled_from([type, HostileMeta]))
    name = draw(st.sampled_from(["Odd", "x" * 300, "two\nlines"]))
    kind = type.__call__(meta, name, (base,), body)
    exc: BaseException = base.__new__(kind, "text", 5)
    return lambda: exc


@pytest.mark.slow
@given(hostile(), hostile(), st.booleans())
def test_whatever_is_raised_there_is_a_body(
    make: Callable[[], BaseException], make_cause: Callable[[], BaseException], traced: bool
) -> None:
    exc, cause = make(), make_cause()
    link = BaseException.__dict__["__cause__"].__set__
    link(exc, cause)
    link(cause, exc)
    for errors in (NOBODY, KNOWN):
        meant = failure.application(exc, errors, traced)
        body = meant[1] if meant is not None else failure.unexpected(exc, errors, traced)
        told = decode(failure.encoded(encode, body, 30_000))
        assert type(told["type"]) is type(told["message"]) is str
        assert len(told["type"]) <= 200
        assert len(told["message"]) <= TEXT_MAX
        assert set(told) <= {"type", "message", "data", "causes", "trace"}
        assert ("trace" in body) is traced
    info = failure.log_info(exc)
    assert info is None or info[1] is exc
