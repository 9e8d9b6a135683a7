from typing import Any

import msgspec
import pytest

import fastrpc
from fastrpc.codec import Mismatch
from fastrpc.frame import Frame
from fastrpc.session import outcome
from fastrpc.wire import NOT_RUN, Kind, Serializer, StatusCode

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
