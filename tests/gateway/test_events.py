"""Items in the body of an answer."""

import json

import pytest

from fastrpc.gateway import problems
from fastrpc.gateway.events import Events, Lines
from fastrpc.wire import StatusCode

ERROR = problems.failure(StatusCode.UNAVAILABLE, "gone", "maybe")
SPREAD = b'{"a":\r\n[1,\n2]\r}'


def test_lines() -> None:
    form = Lines()
    assert form.item(b"5") == b"5\n"
    assert form.item(SPREAD).count(b"\n") == 1
    assert json.loads(form.item(SPREAD)) == {"a": [1, 2]}
    assert form.end({}) == b'{"end":true}\n'
    assert json.loads(form.end({"metadata": {"a": "b"}}))["metadata"] == {"a": "b"}
    assert json.loads(form.error(ERROR))["error"]["message"] == "gone"
    assert form.life == b"\n"


def test_events() -> None:
    form = Events()
    assert form.item(b"5") == b"data: 5\n\n"
    assert form.item(SPREAD).rstrip(b"\n").count(b"\n") == 0
    assert form.end({}) == b"event: end\ndata: {}\n\n"
    first, second = form.error(ERROR).strip().split(b"\n")
    assert (first, json.loads(second[6:])["error"]["status"]) == (b"event: error", 53)


@pytest.mark.parametrize("form", [Lines(), Events()])
def test_a_break_in_an_item_can_not_be_forged(form: Lines | Events) -> None:
    forged = b'"x"\n\nevent: end\ndata: {}'
    assert form.item(forged).rstrip(b"\n").count(b"\n") == 0
