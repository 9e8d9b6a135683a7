"""Codes of JSON-RPC and statuses of ours: there, and back again."""

import json

import msgpack
import pytest

from fastrpc.frame import Frame
from fastrpc.gateway.jsonerrors import CODES, STATUSES, error_object, error_of, reply_of, text_of
from fastrpc.wire import NOT_RUN, Kind, StatusCode


def reply(status: int, arg: int = 0, **told: object) -> Frame:
    payload = msgpack.packb(told) if told else b""
    return Frame(Kind.CALL, 1, reply=True, status=status, arg=arg, serializer=1, payload=payload)


def test_is_the_table_of_the_wire_document() -> None:
    for status in StatusCode:
        if status in (0, 10, 41, 60):  # ok, ours alone, ours alone, with codes of their own
            assert status not in CODES
        elif status not in (40, 44, 50, 54, 70):
            assert CODES[status] == -32000 - status
    assert (CODES[40], CODES[44], CODES[50], CODES[54], CODES[70]) == (
        -32602, -32601, -32603, -32603, -32600,
    )  # fmt: skip


@pytest.mark.parametrize("status", sorted({*CODES} - {70, 71}))
def test_every_status_comes_back(status: int) -> None:
    said = json.loads(error_of(reply(status, message="words", type="Odd", retry_ms=50)))
    assert said["data"].get("ran") == ("no" if status in NOT_RUN else None)
    assert reply_of(said) == (status, 0, {"type": "Odd", "message": "words", "retry_ms": 50})


@pytest.mark.parametrize("code", [0, 1, 1001, 2**32 - 1])
def test_every_code_of_an_application_comes_back(code: int) -> None:
    said = json.loads(error_of(reply(60, code, message="words", type="Mine", data={"a": [1]})))
    assert said["code"] == code
    assert reply_of(said) == (60, code, {"type": "Mine", "message": "words", "data": {"a": [1]}})


def test_a_reply_that_says_nothing_has_words_all_the_same() -> None:
    assert json.loads(error_of(reply(52))) == {
        "code": -32052, "message": "status 52", "data": {"type": "", "status": 52, "ran": "no"},
    }  # fmt: skip
    assert json.loads(text_of(reply(52))) == "status 52"
    assert json.loads(text_of(reply(52, message="words"))) == "words"
    assert json.loads(error_object(5, "words", [1])) == {"code": 5, "message": "words", "data": [1]}


@pytest.mark.parametrize("code", sorted(STATUSES))
def test_codes_that_we_know_are_statuses(code: int) -> None:
    assert reply_of({"code": code, "message": "m"})[0] == STATUSES[code]


def test_nobody_can_claim_a_status_that_the_code_does_not_have() -> None:
    for code, status in ((-32601, 52), (5, 44), (-32600, 70), (-32601, 0), (-32603, "50")):
        said = {"code": code, "message": "m", "data": {"type": "x", "status": status}}
        assert reply_of(said)[0] == STATUSES.get(code, 60)
        assert reply_of(said)[2]["data"] == said["data"]
