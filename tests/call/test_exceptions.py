"""What of an exception travels, and what is made of it at the other end."""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastrpc
from fastrpc.call import ErrorRegistry
from fastrpc.codec import Mismatch, default_codecs
from fastrpc.errors import CodecError, RpcError

CODEC = default_codecs().get("msgpack")


class Plain(Exception):
    pass


@dataclass
class NotEnough(Exception):
    balance: Decimal
    wanted: Decimal = Decimal(0)


@dataclass(frozen=True)
class Frozen(Exception):
    code: int
    parts: dict[str, int] = field(default_factory=dict)


class Worded(Exception):
    """Keeps its arguments as attributes, annotates none, and makes a text of them."""

    def __init__(self, table: str, *, row: int = 0) -> None:
        super().__init__(f"no row {row} in {table}")
        self.table = table
        self.row = row


class Messaged(Exception):
    """Hands its text on, as most do, and keeps the rest."""

    def __init__(self, message: str, balance: int) -> None:
        super().__init__(message)
        self.balance = balance


class Annotated(Exception):
    """Has attributes that are set after it was made."""

    seconds: float
    attempts: int = 0
    limit: ClassVar[int] = 5
    _private: int = 7


class Slotted(Exception):
    __slots__ = ("seat",)


class SlottedOnce(Exception):
    __slots__ = "seat"
    seat: int


class Positional(Exception):
    def __init__(self, *parts: int, **named: int) -> None:
        super().__init__(*parts)
        self.named = named


class Anonymous(Exception):
    """Keeps its arguments under other names: they travel by position."""

    def __init__(self, balance: int, wanted: int) -> None:
        super().__init__(balance, wanted)


class Hooked(Exception):
    def __init__(self, secret: str) -> None:
        super().__init__("hooked")
        self.secret = secret

    def to_rpc(self) -> Any:
        return ["v1", self.secret[::-1]]

    @classmethod
    def from_rpc(cls, message: str, data: Any) -> "Hooked":
        version, secret = data
        assert version == "v1"
        made = cls(secret[::-1])
        made.args = (message,)
        return made


class Coded(RpcError):
    """An RpcError with a name and nothing else."""


class Telling(RpcError):
    """One with a constructor of its own, and data that holds its arguments."""

    def __init__(self, balance: int) -> None:
        super().__init__(402, f"only {balance}", {"balance": balance})
        self.balance = balance


class Quiet(RpcError):
    def __init__(self, balance: int) -> None:
        super().__init__(402, f"only {balance}")
        self.balance = balance


class Outer:
    class Inner(Exception):
        pass


def remote_of(known: ErrorRegistry, exc: Exception) -> RpcError:
    """Return what a client gets of *exc*, through bytes."""
    data = CODEC.decode(CODEC.encode(known.state_of(exc)))
    text = exc.message if isinstance(exc, RpcError) else str(exc)
    remote = RpcError(getattr(exc, "code", 0), text, data)
    remote.type = known.name_of(type(exc)) or ""
    return remote


def sent(exc: Exception) -> Any:
    known = ErrorRegistry([type(exc)], CODEC.convert)
    made = known.restore(remote_of(known, exc))
    assert made is not None
    assert type(made) is type(exc)
    assert str(made) == str(exc)
    assert made.args == exc.args
    return made


def test_arguments_travel() -> None:
    assert sent(Plain()).args == ()
    assert sent(Plain("no", 3, [1, {"a": None}])).args == ("no", 3, [1, {"a": None}])
    assert sent(KeyError("k")).args == ("k",)


def test_fields_of_dataclasses_arrive_as_their_types() -> None:
    made = sent(NotEnough(Decimal("1.50"), Decimal(0)))
    assert (made.balance, made.wanted) == (Decimal("1.50"), Decimal(0))
    assert type(made.balance) is Decimal
    frozen = sent(Frozen(5, {"a": 1}))
    assert (frozen.code, frozen.parts) == (5, {"a": 1})


def test_arguments_that_are_attributes_travel_by_name() -> None:
    known = ErrorRegistry([Worded])
    assert known.state_of(Worded("users", row=3)) == {"table": "users", "row": 3}
    assert sent(Worded("users", row=3)).row == 3


def test_the_text_stands_for_an_argument_called_message() -> None:
    assert ErrorRegistry([Messaged]).state_of(Messaged("no", 3)) == {"balance": 3}
    assert sent(Messaged("no", 3)).balance == 3


def test_declared_attributes_travel_beside_the_arguments() -> None:
    error = Annotated("late")
    assert ErrorRegistry([Annotated]).state_of(error) == {"args": ["late"], "attempts": 0}
    error.seconds, error.attempts = 1.5, 2
    made = sent(error)
    assert (made.seconds, made.attempts) == (1.5, 2)
    slotted = Slotted()
    slotted.seat = "4a"  # type: ignore[attr-defined]
    assert sent(slotted).seat == "4a"
    once = SlottedOnce("x")
    once.seat = 4
    assert sent(once).seat == 4


def test_arguments_of_other_names_travel_by_position() -> None:
    assert sent(Anonymous(1, 2)).args == (1, 2)
    assert sent(Positional(1, 2)).named == {}


def test_a_class_may_have_words_of_its_own() -> None:
    assert ErrorRegistry([Hooked]).state_of(Hooked("abc")) == ["v1", "cba"]
    assert sent(Hooked("abc")).secret == "abc"


def test_classes_of_rpc_error_keep_their_data() -> None:
    made = sent(Coded(7, "no", {"a": 1}))
    assert (made.code, made.message, made.data) == (7, "no", {"a": 1})
    assert ErrorRegistry([Coded]).state_of(Coded(7)) is None
    assert sent(Coded(7, "no")).data is None
    telling = sent(Telling(3))
    assert (telling.balance, telling.code, telling.data) == (3, 402, {"balance": 3})
    assert sent(Quiet(3)).balance == 3


def test_names() -> None:
    known = ErrorRegistry([Plain, Outer.Inner])
    assert known.name_of(Plain) == "Plain"
    assert known.name_of(Outer.Inner) == "Outer.Inner"

    class Local(Exception):
        pass

    known.add(Local)
    assert known.name_of(Local) == "Local"
    known.add(Local)  # the same twice is fine
    assert len(known) == 3
    assert known.name_of(ValueError) is None
    assert ErrorRegistry({"bank.Plain": Plain}).name_of(Plain) == "bank.Plain"


def test_only_the_exact_class_and_the_exact_name() -> None:
    class Below(Plain):
        pass

    known = ErrorRegistry([Plain])
    assert known.name_of(Below) is None
    for name in ("plain", "tests.call.test_exceptions.Plain", "ValueError", "os.system", ""):
        remote = RpcError(0, "", {"args": []})
        remote.type = name
        assert known.restore(remote) is None


WRONG: list[tuple[Any, str]] = [
    (KeyboardInterrupt, "no subclass of Exception"),
    (SystemExit, "no subclass of Exception"),
    (int, "builtins.int is no subclass of Exception"),
    (ValueError("an instance"), "a ValueError is no subclass"),
    ("ValueError", "a str is no subclass"),
    (StopIteration, "end of an iteration"),
    (StopAsyncIteration, "end of an iteration"),
    (fastrpc.Overloaded, "fastrpc's own"),
    (fastrpc.RemoteError, "fastrpc's own"),
    (fastrpc.RpcError, "fastrpc's own"),
    (type("Mine", (fastrpc.Unavailable,), {}), "fastrpc's own"),
    (type("Half", (Exception,), {"to_rpc": len}), "both to_rpc and from_rpc"),
    (type("Torn", (Exception,), {"__annotations__": {"a": "Nowhere"}}), "can't be resolved"),
    (type("RpcError", (Exception,), {}), "no class of their own"),
    (type("fastrpc.PermissionDenied", (Exception,), {}), "a refusal of fastrpc's own"),
]


@pytest.mark.parametrize(("kind", "words"), WRONG, ids=lambda value: str(value)[:40])
def test_classes_that_can_not_travel_are_refused(kind: Any, words: str) -> None:
    with pytest.raises(fastrpc.ConfigError, match=words):
        ErrorRegistry([kind])


@pytest.mark.parametrize("name", ["", "x" * 201, "two\nlines", 5, b"Plain"])
def test_names_that_can_not_travel_are_refused(name: Any) -> None:
    with pytest.raises(fastrpc.ConfigError, match=r"Plain must be 1 to 200 printable"):
        ErrorRegistry({name: Plain})


@pytest.mark.parametrize("classes", ["Plain", b"x", 5, Plain, iter([Plain])])
def test_what_is_no_list_of_classes_is_refused(classes: Any) -> None:
    with pytest.raises(fastrpc.ConfigError, match="errors must be classes, or a map"):
        ErrorRegistry(classes)


def test_one_name_for_one_class() -> None:
    other = type("Plain", (Exception,), {"__module__": "elsewhere"})
    with pytest.raises(fastrpc.ConfigError, match=r"Plain and elsewhere\.Plain have one name"):
        ErrorRegistry([Plain, other])
    with pytest.raises(fastrpc.ConfigError, match="registered as 'Plain' already, not 'other'"):
        ErrorRegistry([Plain]).add(Plain, "other")


def restored(kind: type[Exception], data: Any) -> Exception:
    remote = RpcError(0, "text", data)
    remote.type = kind.__qualname__
    made = ErrorRegistry([kind], CODEC.convert).restore(remote)
    assert made is not None
    return made


def test_wrong_data_says_what_is_wrong() -> None:
    for kind, data, words in [
        (Plain, None, "state did not come"),
        (Plain, [1], "state did not come"),
        (Plain, {"args": 5}, "must be an array"),
        (NotEnough, {}, "argument 'balance' is missing"),
        (NotEnough, {"balance": "much"}, "'balance': expected Decimal"),
        (Frozen, {"code": 1, "parts": {"a": "x"}}, "'parts', .*: expected int, got str"),
        (Frozen, {"code": [1]}, "'code': expected int, got"),
        (Annotated, {"args": [], "attempts": "x"}, "'attempts': expected int, got str"),
        (Messaged, {"balance": None}, "'balance': expected int, got None"),
    ]:
        with pytest.raises(CodecError, match=words) as caught:
            restored(kind, data)
        assert not isinstance(caught.value, Mismatch)
    with pytest.raises(TypeError):
        restored(Anonymous, {"args": [1, 2, 3]})


def test_a_peer_sets_nothing_that_is_not_declared() -> None:
    made: Any = restored(
        Annotated,
        {"args": [1], "_private": 1, "limit": 1, "__class__": 1, "__cause__": 1, 5: 6, "x": 1},
    )
    assert (made._private, made.limit, made.__cause__) == (7, 5, None)
    assert not vars(made)
    named: Any = restored(Positional, {"parts": [1], "named": {"a": 1}})
    assert (named.args, named.named) == ((), {})


def test_what_is_made_must_be_one_of_the_class() -> None:
    class Liar(Exception):
        def to_rpc(self) -> None: ...

        @classmethod
        def from_rpc(cls, message: str, data: Any) -> Any:
            return data

    class Ending(Liar, StopIteration):
        pass

    for other in (None, 5, ValueError(), Ending()):
        with pytest.raises(CodecError, match="from_rpc returned something else"):
            restored_by_name("Liar", Liar, other)


def restored_by_name(name: str, kind: type[Exception], data: Any) -> Exception | None:
    remote = RpcError(0, "", data)
    remote.type = name
    return ErrorRegistry({name: kind}).restore(remote)


PLAIN_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False)
    | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@pytest.mark.slow
@given(st.lists(PLAIN_VALUES, max_size=4))
def test_any_plain_arguments_travel(args: list[Any]) -> None:
    sent(Plain(*args))


@pytest.mark.slow
@given(PLAIN_VALUES)
def test_whatever_comes_is_an_exception_of_the_class_or_an_error(data: Any) -> None:
    for kind in (
        Plain,
        NotEnough,
        Frozen,
        Worded,
        Messaged,
        Annotated,
        Positional,
        Anonymous,
        Quiet,
    ):
        try:
            made = restored(kind, data)
        except Exception as exc:
            assert isinstance(exc, CodecError | TypeError)
        else:
            assert type(made) is kind
