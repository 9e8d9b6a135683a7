"""Requests as they are read, answers as they are gathered."""

import json

import pytest

from fastrpc.gateway.jsonmessages import Answers, Held, failure, nameless, read_request, success
from fastrpc.gateway.jsontext import members


def test_reads_a_request() -> None:
    request = read_request(members(b'{"jsonrpc":"2.0","method":"m","params":{"a":1},"id":"x"}'))
    assert request == (b'"x"', False, False, b"m", b'{"a":1}', "")
    request = read_request(members(b'{"jsonrpc":"2.0","method":"\\u00e9"}'))
    assert request == (b"null", True, False, "é".encode(), b"[]", "")
    request = read_request(members(b'{"method":"m","params":[],"id":null}'))
    assert request == (b"null", True, True, b"m", b"[]", "")


@pytest.mark.parametrize("old", [False, True])
def test_writes_answers_in_the_version_of_the_question(old: bool) -> None:
    head = b'{"jsonrpc":"2.0",' if not old else b"{"
    request = read_request(members(head + b'"method":"m","params":[],"id":7}'))
    assert request.is_old is old
    good, bad = json.loads(success(request, b"[1]")), json.loads(failure(request, b'"no"'))
    extra = {} if old else {"jsonrpc": "2.0"}
    assert good == {"id": 7, "result": [1]} | extra | ({"error": None} if old else {})
    assert bad == {"id": 7, "error": "no"} | extra | ({"result": None} if old else {})
    assert json.loads(nameless(b"{}")) == {"jsonrpc": "2.0", "id": None, "error": {}}


def test_gathers_answers_and_says_them_once() -> None:
    said: list[bytes | None] = []
    held = Held()
    batch = Answers(said.append, 3, held, is_batch=True)
    batch.add(b"1")
    batch.add(None)
    assert (said, batch.size, held.size) == ([], 1, 1)
    other = Answers(said.append, 2, held, is_batch=True)
    other.add(b"333")
    assert held.size == 4
    batch.add(b"22")
    assert (said, batch.size, held.size) == ([b"[1,22]"], 3, 3)
    Answers(said.append, 1, held, is_batch=False).add(b"{}")
    Answers(said.append, 1, held, is_batch=False).add(None)
    silent = Answers(said.append, 2, held, is_batch=True)
    silent.add(None)
    silent.add(None)
    assert said[1:] == [b"{}", None, None]
