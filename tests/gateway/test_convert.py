"""Payloads said in another serializer, and what can't be said there."""

from typing import Any

import msgpack
import pytest

from fastrpc.errors import CodecError, FastRPCError, TooLarge, Unsupported
from fastrpc.frame import Frame
from fastrpc.gateway.convert import (
    converted,
    json_of,
    more_of,
    packed,
    params_of,
    string,
    told_of,
    value_of,
)
from fastrpc.wire import Kind, Limits

RAW, MSGPACK, JSON = 0, 1, 2
LIMITS = Limits(max_depth=4, max_items=20)


@pytest.mark.parametrize(
    ("payload", "serializer", "wanted", "result"),
    [
        (b"[1,\"x\"]", JSON, JSON, b"[1,\"x\"]"),
        (b"", JSON, JSON, b"null"),
        (b"", RAW, JSON, b"null"),
        (b"", RAW, MSGPACK, b"\xc0"),
        (b"[1,null]", JSON, MSGPACK, b"\x92\x01\xc0"),
        (b"\x92\x01\xc0", MSGPACK, JSON, b"[1,null]"),
        (b"\xff", RAW, MSGPACK, b"\xc4\x01\xff"),
        (b"\xff", RAW, JSON, b'"/w=="'),
    ],
)  # fmt: skip
def test_says_the_same(payload: bytes, serializer: int, wanted: int, result: bytes) -> None:
    assert converted(payload, serializer, wanted, LIMITS) == result


@pytest.mark.parametrize(
    ("payload", "serializer", "wanted", "words"),
    [
        (b"\xd4\x05\x00", MSGPACK, JSON, "extension"),
        (b"\x91" * 70 + b"\x90", MSGPACK, JSON, "max_depth"),
        (b"[" * 9 + b"]" * 9, JSON, MSGPACK, "max_depth"),
        (b"[" + b"1," * 30 + b"1]", JSON, MSGPACK, "max_items"),
        (b"[1", JSON, MSGPACK, "JSON"),
        (b"99999999999999999999999", JSON, MSGPACK, "MSGPACK"),
        (b"x", 5, JSON, "serializer 5"),
        (b"x", 5, MSGPACK, "serializer 5"),
    ],
)
def test_refuses_what_it_can_not_say(
    payload: bytes, serializer: int, wanted: int, words: str
) -> None:
    with pytest.raises(FastRPCError, match=words):
        converted(payload, serializer, wanted, LIMITS)


def call(payload: bytes, serializer: int) -> Frame:
    return Frame(Kind.CALL, 1, payload=payload, serializer=serializer)


def test_arguments_are_an_array_or_a_map() -> None:
    assert params_of(call(b"[1]", JSON), JSON, "x", LIMITS) == b"[1]"
    assert params_of(call(b'["\\"*\\""]', JSON), JSON, "x", LIMITS) == b'["\\"*\\""]'
    assert params_of(call(b"\x81\xa1a\x01", MSGPACK), JSON, "x", LIMITS) == b'{"a":1}'
    assert params_of(call(b"\x01\x02", RAW), MSGPACK, "x", LIMITS) == b"\x91\xc4\x02\x01\x02"
    assert params_of(call(b"\x01\x02", RAW), JSON, "x", LIMITS) == b'["AQI="]'
    for payload, serializer in ((b'{"a":1,"*":[2]}', JSON), (b"\x81\xa1*\x91\x02", MSGPACK)):
        with pytest.raises(Unsupported, match="x has arguments by position or by name"):
            params_of(call(payload, serializer), JSON, "x", LIMITS)


def test_reads_and_writes_what_an_error_says() -> None:
    body: dict[str, Any] = {"message": "é\ud800", "data": [1]}
    frame = Frame(Kind.CALL, 1, status=50, serializer=1, payload=packed({"message": "é"}))
    assert told_of(frame) == {"message": "é"}
    assert told_of(Frame(Kind.CALL, 1, status=50)) == {}
    assert msgpack.unpackb(string(body["message"])) == "é?"
    assert json_of(body["data"]) == b"[1]"
    with pytest.raises(CodecError):
        json_of({1j: 1})
    with pytest.raises(TooLarge):
        value_of(b"[[[[[[[[]]]]]]]]", LIMITS)


def test_what_an_error_tells_beside_type_and_message() -> None:
    told = {"type": "T", "message": "m", "data": 0, "trace": "t", "causes": [], "retry_ms": 5}
    assert more_of(told | {"odd": 1}) == {"data": 0, "trace": "t", "causes": [], "retry_ms": 5}
    assert more_of({"type": "T"}) == {}
