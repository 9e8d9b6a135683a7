"""Errors in JSON."""

import datetime as dt
import json

import pytest

from fastrpc.frame import Frame
from fastrpc.gateway import problems
from fastrpc.gateway.convert import packed
from fastrpc.gateway.request import RefusedError
from fastrpc.wire import Kind, Serializer, StatusCode


def frame(status: int, code: int = 0, **body: object) -> Frame:
    payload = packed(body) if body else b""
    return Frame(int(Kind.CALL), 1, reply=True, status=status, arg=code,
                 serializer=int(Serializer.MSGPACK), payload=payload)  # fmt: skip


def test_an_error_reply_in_full() -> None:
    error = problems.error_of(
        frame(60, 7, message="m", type="T", data=[1], trace="t", causes=[{"type": "C"}], odd=1)
    )
    assert error == {
        "status": 60, "name": "application", "message": "m", "type": "T", "ran": "yes", "code": 7,
        "data": [1], "trace": "t", "causes": [{"type": "C"}],
    }  # fmt: skip
    assert problems.http_of(error) == 500


def test_an_error_reply_without_a_word() -> None:
    error = problems.error_of(frame(52))
    assert (error["message"], error["type"], error["ran"]) == ("status 52", "overloaded", "no")
    assert problems.http_of(error) == 429


@pytest.mark.parametrize(
    ("status", "ran"),
    [(40, "no"), (50, "yes"), (51, "maybe"), (53, "no"), (54, "yes"), (99, "yes")],
)
def test_whether_it_ran(status: int, ran: str) -> None:
    assert problems.error_of(frame(status))["ran"] == ran


def test_a_handlers_refusal_in_our_words_has_its_own_status() -> None:
    error = problems.error_of(frame(60, 40, message="m", type="fastrpc.InvalidArgument"))
    assert problems.http_of(error) == 400
    assert problems.http_of(error | {"type": "Other"}) == 500
    assert problems.http_of(error | {"code": 9999}) == 500


def test_when_to_come_back() -> None:
    assert problems.retry_header({"retry_ms": 1001}) == [("Retry-After", "2")]
    assert problems.retry_header({"retry_ms": 0}) == [("Retry-After", "0")]
    assert problems.retry_header({}) == problems.retry_header({"retry_ms": -1}) == []
    assert problems.retry_header({"retry_ms": "1\r\nX: y"}) == []


def test_what_json_can_not_say_is_left_out() -> None:
    error = problems.failure(StatusCode.APPLICATION, "m", "yes")
    assert json.loads(problems.encoded(error | {"data": dt.date(2026, 1, 2)}))["error"]["data"]
    told = json.loads(problems.encoded(error | {"data": {"a": object()}}))["error"]
    assert "data" not in told
    assert told["message"] == "m"


def test_a_refusal_ran_nothing() -> None:
    told = problems.refusal(RefusedError(414, "long", StatusCode.TOO_LARGE))
    assert (told["status"], told["name"], told["ran"]) == (46, "too_large", "no")


def test_every_status_has_one_of_http() -> None:
    left = set(StatusCode) - set(problems.HTTP_OF)
    assert left == {StatusCode.NETWORK}, "it is never sent"
