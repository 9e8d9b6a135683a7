import concurrent.futures
import traceback
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastrpc
from fastrpc.call import ErrorRegistry
from fastrpc.codec import Mismatch, default_codecs
from fastrpc.frame import Frame
from fastrpc.session import outcome
from fastrpc.session.payloads import Payloads
from fastrpc.wire import NOT_RUN, Kind, Limits, Serializer, StatusCode

HERE = "tcp://127.0.0.1:7000"
decode = msgspec.msgpack.decode


def slot_of(started: float = 0.0, deadline: float = 0.0) -> outcome.Slot:
    return (None, None, "Arith.add", started, deadline)


def reply_of(status: int, body: Any = None, **fields: Any) -> Frame:
    payload = b"" if body is None else msgspec.msgpack.encode(body)
    return Frame(
        Kind.CALL, 1, reply=True, serializer=Serializer.MSGPACK, status=status, payload=payload,
        **fields,
    )  # fmt: skip


def refusal(status: int, body: Any = None, slot: outcome.Slot | None = None, **fields: Any) -> Any:
    return outcome.refusal(slot or slot_of(), reply_of(status, body, **fields), decode, HERE)


CLASSES = {
    StatusCode.BAD_REQUEST: fastrpc.InvalidArgument,
    StatusCode.CANCELLED: fastrpc.Cancelled,
    StatusCode.UNAUTHENTICATED: fastrpc.Unauthenticated,
    StatusCode.NOT_FOUND: fastrpc.MethodNotFound,
    StatusCode.FORBIDDEN: fastrpc.PermissionDenied,
    StatusCode.TOO_LARGE: fastrpc.TooLarge,
    StatusCode.UNSUPPORTED: fastrpc.Unsupported,
    StatusCode.SERVER_ERROR: fastrpc.RemoteError,
    StatusCode.DEADLINE: fastrpc.DeadlineExceeded,
    StatusCode.OVERLOADED: fastrpc.Overloaded,
    StatusCode.UNAVAILABLE: fastrpc.Unavailable,
    StatusCode.RESULT_UNSENDABLE: fastrpc.Internal,
    StatusCode.APPLICATION: fastrpc.RpcError,
}


@pytest.mark.parametrize(("status", "kind"), CLASSES.items(), ids=lambda value: str(value))
def test_every_status_has_its_class_and_says_whether_it_ran(
    status: StatusCode, kind: type[fastrpc.CallError]
) -> None:
    for body in (None, {}, {"message": "words", "type": "Kind"}):
        error = refusal(status, body)
        assert type(error) is kind
        assert error.status == status
        assert error.method == "Arith.add"
        if status in NOT_RUN:
            assert error.ran == "no"
        else:
            assert error.ran in ("maybe", "yes")
        assert str(error)


@pytest.mark.parametrize("status", [1, 99, 255])
def test_a_status_of_the_future_is_still_an_error(status: int) -> None:
    error = refusal(status)
    assert type(error) is fastrpc.Internal
    assert f"status {status}" in str(error)


def test_what_the_handler_said() -> None:
    error = refusal(60, {"type": "E", "message": "m", "data": [1]}, arg=7)
    assert (error.code, error.type, error.message, error.data) == (7, "E", "m", [1])
    error = refusal(50, {"type": "ValueError", "message": "m", "trace": "T", "data": 1})
    assert (error.type, error.message, error.trace, error.data) == ("ValueError", "m", "T", 1)
    assert refusal(50, {"trace": 5}).trace is None
    assert refusal(52, {"retry_ms": 1500}).retry_after == 1.5
    assert refusal(60, {"retry_ms": 10}).retry_after == 0.01
    for wrong in (-1, "1", True, 1.5, None):
        assert refusal(52, {"retry_ms": wrong}).retry_after is None


@pytest.mark.parametrize(
    "payload",
    [
        b"\xc1", b"\x91", b"\x80" * 3, b"plain text", msgspec.msgpack.encode([1, 2]),
        b"\x91" * 1000, b"\xdd\xff\xff\xff\xff", b"\x81\xa7message\xc1",
    ],
)  # fmt: skip
def test_an_error_body_that_is_none_leaves_the_status(payload: bytes) -> None:
    frame = reply_of(52)
    frame.payload = payload
    error: Any = outcome.refusal(slot_of(), frame, decode, HERE)
    assert type(error) is fastrpc.Overloaded
    frame.serializer = Serializer.JSON
    assert outcome.error_map(frame, decode) == {}


def test_message_and_type_may_be_anything() -> None:
    error = refusal(50, {"message": 5, "type": ["x"]})
    assert str(error) == "['x']: 5"


# Deadlines


def test_late_tells_every_stage() -> None:
    error = outcome.late(
        "Arith.add", 10.0, 10.5, 10.51, HERE,
        handler=0.2, connecting=0.1, queued=0.05, attempts=3,
    )  # fmt: skip
    assert isinstance(error, TimeoutError)
    stages = error.stages
    assert stages.total == pytest.approx(0.51)
    assert (stages.connecting, stages.queued, stages.handler) == (0.1, 0.05, 0.2)
    assert stages.wire == pytest.approx(0.16)
    assert (error.attempts, error.address, error.ran) == (3, HERE, "maybe")
    assert str(error) == (
        "Arith.add: deadline of 500 ms passed after 510 ms: connecting 100.0 ms, queued 50.0 ms,"
        " on the wire 160.0 ms, in the handler 200.0 ms; 3 attempts, tcp://127.0.0.1:7000"
    )


def test_late_before_anything_was_sent() -> None:
    error = outcome.late("x", 0.0, 0.1, 0.11, HERE, queued=0.11, sent=False)
    assert (error.ran, error.stages.wire) == ("no", None)
    assert "queued 110.0 ms" in str(error)


def test_stages_never_go_below_zero() -> None:
    error = outcome.late("x", 1.0, 1.1, 0.9, HERE, handler=5.0, connecting=3.0)
    assert error.stages.total == 0.0
    assert error.stages.wire == 0.0


def test_whose_deadline_it_was() -> None:
    ours = refusal(51, {"message": "stopped after 100 ms"}, slot_of(1.0, 1.1), time=100_000)
    assert "deadline of 100 ms" in str(ours)
    assert ours.stages.handler == pytest.approx(0.1)
    for slot in (slot_of(), slot_of(1.0, 6.0)):
        theirs = refusal(51, {"message": "stopped after 100 ms"}, slot, time=100_000)
        assert str(theirs) == "stopped after 100 ms"
        assert theirs.stages.handler == pytest.approx(0.1)
        assert (theirs.address, theirs.method) == (HERE, "Arith.add")
    assert "deadline of 100 ms" in str(refusal(51, None, slot_of(1.0, 1.1)))


# Connections


def test_each_caller_gets_an_exception_of_its_own() -> None:
    cause = fastrpc.ConnectionLost("gone", "maybe")
    first, second = outcome.lost(cause, "a"), outcome.lost(cause, "b")
    assert first is not second is not cause
    assert (str(first), str(second), first.ran) == ("a: gone", "b: gone", "maybe")
    other = outcome.lost(fastrpc.ProtocolError("bad"), "c")
    assert str(other) == "c: ProtocolError: bad"


@pytest.mark.parametrize(
    ("status", "kind"),
    [(43, fastrpc.Unauthenticated), (45, fastrpc.PermissionDenied), (47, fastrpc.Unsupported),
     (53, fastrpc.ConnectFailed), (99, fastrpc.ConnectFailed)],
)  # fmt: skip
def test_a_refused_hello(status: int, kind: type[fastrpc.FastRPCError]) -> None:
    error = outcome.turned_down(HERE, Frame(Kind.HELLO, status=status))
    assert type(error) is kind
    assert f"{HERE} refused the connection" in str(error)
    assert error.ran == "no"


def test_goaway_means_not_run() -> None:
    leaving = outcome.going(HERE, Frame(Kind.GOAWAY, 5, status=53), decode)
    assert (type(leaving), leaving.ran) == (fastrpc.ConnectionDraining, "no")
    told = msgspec.msgpack.encode({"message": "you flood me"})
    angry = outcome.going(
        HERE, Frame(Kind.GOAWAY, 5, status=71, serializer=1, payload=told), decode
    )
    assert (type(angry), angry.ran) == (fastrpc.ConnectionLost, "no")
    assert "status 71: you flood me" in str(angry)


def test_replies_this_side_can_not_take() -> None:
    large = outcome.unreadable(slot_of(), reply_of(0, oversize=9000), 8000)
    assert type(large) is fastrpc.TooLarge
    assert "9000 bytes is over this client's max_body of 8000" in str(large)
    odd = outcome.unreadable(slot_of(), reply_of(0, bits=0x20), 8000)
    assert type(odd) is fastrpc.Unsupported
    assert (large.ran, odd.ran) == ("yes", "yes")
    broken = outcome.undecodable(slot_of(), ValueError("no int"))
    assert (type(broken), broken.ran) == (fastrpc.CodecError, "yes")
    assert str(broken) == "Arith.add: the reply can't be decoded: no int"
    other = outcome.undecodable(slot_of(), Mismatch("expected int, got str", "item 3"))
    assert (type(other), other.ran) == (fastrpc.CodecError, "yes")
    assert str(other) == "Arith.add: result, item 3: expected int, got str"
    deep = outcome.undecodable(slot_of(), fastrpc.TooLarge("nested deeper than 64"))
    assert (type(deep), deep.ran) == (fastrpc.TooLarge, "yes")


# What the server's log calls a call


@pytest.mark.parametrize(
    ("nonce", "called"),
    [
        ("0123456789abcdef", "01234567-7"), ("n0nce", "n0nce-7"), ("", "7"), ("-- --", "7"),
        ("a b\u00e9\u0661c", "abc-7"), ("x" * 128, "xxxxxxxx-7"), ("%s\n%d", "sd-7"),
    ],
)  # fmt: skip
def test_a_call_has_a_name_that_is_fit_for_logs(nonce: str, called: str) -> None:
    assert outcome.call_id(nonce, 7) == called


def told(status: int, body: Any = None, call: str = "ab12-7") -> fastrpc.CallError:
    return outcome.refusal(slot_of(), reply_of(status, body), decode, HERE, call)


@pytest.mark.parametrize("status", CLASSES)
def test_every_answered_call_knows_what_the_log_calls_it(status: StatusCode) -> None:
    error = told(status, {"message": "words"})
    assert error.call_id == "ab12-7"
    logged = status in (StatusCode.SERVER_ERROR, StatusCode.RESULT_UNSENDABLE)
    notes = ["call ab12-7 in the server's log"] if logged else []
    assert getattr(error, "__notes__", []) == notes
    assert "ab12" not in str(error)
    assert fastrpc.ConnectionLost("gone").status == 10
    assert refusal(status).call_id == ""


# Causes


def chain(error: BaseException | None) -> list[tuple[str, str]]:
    told = []
    while error is not None:
        assert isinstance(error, fastrpc.RemoteError)
        told.append((error.type, error.message))
        error = error.__cause__
    return told


@pytest.mark.parametrize("status", [50, 60])
def test_the_remote_cause_is_chained(status: int) -> None:
    causes = [{"type": "B", "message": "b"}, {"type": "C", "message": "c"}]
    error = told(status, {"type": "A", "message": "a", "causes": causes})
    assert chain(error) == [("A", "a"), ("B", "b"), ("C", "c")]
    assert chain(told(status, {"type": "A", "message": "a", "causes": causes * 50}))[6:] == []


@pytest.mark.parametrize("causes", [5, "x", {"type": "B"}, [5, None, []], None, [[{}]]])
def test_causes_of_no_sense_are_none(causes: Any) -> None:
    assert told(60, {"causes": causes}).__cause__ is None


# Exceptions that are made again


class NotEnough(Exception):
    def __init__(self, balance: int) -> None:
        super().__init__(f"only {balance}")
        self.balance = balance


class Strict(Exception):
    def __init__(self, *args: Any) -> None:
        raise SystemExit("not like this")


class Vain(Exception):
    def __init__(self, *args: Any) -> None:
        raise Unprintable


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError


@dataclass(frozen=True)
class Frozen(Exception):
    a: int


class Coded(fastrpc.RpcError):
    def __init__(self, balance: int) -> None:
        """Forget the base."""
        self.balance = balance


KNOWN = ErrorRegistry(
    [NotEnough, Strict, Vain, Frozen, Coded], default_codecs().get("msgpack").convert
)


def restored(name: str, data: Any = None, status: int = 60, **body: Any) -> Any:
    body |= {"type": name, "message": "m", "data": data}
    return outcome.restored(told(status, body), KNOWN)


def test_a_registered_exception_comes_with_the_remote_error_behind_it() -> None:
    error = restored("NotEnough", {"balance": 3}, trace="T", causes=[{"type": "B"}])
    assert type(error) is NotEnough
    assert (error.balance, str(error)) == (3, "only 3")
    remote = error.__cause__
    assert type(remote) is fastrpc.RpcError
    assert (remote.type, remote.message, remote.data, remote.trace, remote.call_id, remote.method) == (
        "NotEnough", "m", {"balance": 3}, "T", "ab12-7", "Arith.add",
    )  # fmt: skip
    assert (remote.ran, chain(remote)[1]) == ("yes", ("B", ""))
    frozen = restored("Frozen", {"a": 1})
    assert (frozen, type(frozen.__cause__)) == (Frozen(1), fastrpc.RpcError)


def test_one_of_rpc_error_has_all_its_fields_whatever_its_constructor_does() -> None:
    error = restored("Coded", {"balance": 3})
    assert type(error) is Coded
    assert (error.balance, error.message, error.data, error.call_id, error.method, error.ran) == (
        3, "m", {"balance": 3}, "ab12-7", "Arith.add", "yes",
    )  # fmt: skip
    assert str(error) == "[0] m"


@pytest.mark.parametrize(
    ("name", "data", "note"),
    [
        ("NotEnough", None, "CodecError: its state did not come with it"),
        ("NotEnough", {"balance": "3"}, "CodecError: 'balance': expected int, got str"),
        ("NotEnough", {}, "CodecError: argument 'balance' is missing"),
        ("Strict", {"args": []}, "SystemExit: not like this"),
        ("Vain", {"args": []}, "Unprintable: <Unprintable that can't be printed>"),
    ],
)
def test_what_can_not_be_made_again_says_why(name: str, data: Any, note: str) -> None:
    error = restored(name, data)
    assert type(error) is fastrpc.RpcError
    assert (error.type, error.data, error.message) == (name, data, "m")
    assert error.__notes__ == [f"no {name} could be made of it: {note}"]


def test_only_errors_that_were_meant_are_made_again() -> None:
    assert type(restored("Elsewhere", {"balance": 3})) is fastrpc.RpcError
    assert type(restored("NotEnough", {"balance": 3}, 50)) is fastrpc.RemoteError
    assert type(restored("NotEnough", {"balance": 3}, 52)) is fastrpc.Overloaded


def test_settling_ends_the_call_with_it() -> None:
    waiter = concurrent.futures.Future[Any]()
    slot = (waiter, None, "Arith.add", 0.0, 0.0)
    lane: Any = SimpleNamespace(serializer=1)
    body = {"type": "NotEnough", "data": {"balance": 3}}
    side: Any = SimpleNamespace(by_number={}, decoders=[None, decode], errors=KNOWN)
    outcome.settle(slot, reply_of(60, body), lane, side, Payloads(Limits()), HERE, "x-1")
    assert type(waiter.exception()) is NotEnough


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)  # fmt: skip
KEYS = ["message", "type", "data", "retry_ms", "trace", "causes"]
NAMES = ["NotEnough", "Strict", "Vain", "Frozen", "Coded", "os.system", "KeyboardInterrupt"]
BODIES = (
    ANYTHING
    | st.dictionaries(st.sampled_from(KEYS), ANYTHING)
    | st.fixed_dictionaries(
        {"type": st.sampled_from(NAMES), "data": ANYTHING | st.dictionaries(
            st.sampled_from(["balance", "a", "args", "message"]), ANYTHING)},
        optional={"causes": st.lists(ANYTHING, max_size=8)},
    )
)  # fmt: skip


@pytest.mark.slow
@given(BODIES, st.sampled_from([1, 40, 50, 51, 54, 60, 99]), st.integers(0, 2**32 - 1))
def test_whatever_a_body_says_it_is_one_typed_error(body: Any, status: int, code: int) -> None:
    frame = reply_of(status, body, arg=code)
    error = outcome.restored(outcome.refusal(slot_of(), frame, decode, HERE, "x-1"), KNOWN)
    if isinstance(error, fastrpc.CallError):
        assert (error.method, error.call_id) == ("Arith.add", "x-1")
    else:
        assert type(error) in (NotEnough, Frozen)
        assert isinstance(error.__cause__, fastrpc.RpcError)
    "".join(traceback.format_exception(error))


@given(st.binary(max_size=200))
def test_whatever_bytes_come_it_is_one_typed_error(payload: bytes) -> None:
    frame = reply_of(60)
    frame.payload = payload
    error = outcome.restored(outcome.refusal(slot_of(), frame, decode, HERE), KNOWN)
    assert type(error) is fastrpc.RpcError
