"""Cutting JSON: both cutters cut alike, and refuse alike."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrpc.errors import FastRPCError, TooLarge
from fastrpc.gateway import jsontext
from fastrpc.gateway.jsontext import MEMBERS, MalformedError, check
from fastrpc.wire import Limits

Cut = Callable[[bytes], Any]
CUTTERS = {
    "members": (jsontext.members, jsontext.members_plainly),
    "elements": (jsontext.elements, jsontext.elements_plainly),
}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=10,
)  # fmt: skip
BAD_OBJECTS = [
    b"{", b"{}x", b'{"id":}', b'{"id":nul}', b'{"id":NaN}', b'{"id":1,}', b"{id:1}", b'{"id" 1}',
    b'{"id":1 "x":2}', b'{"id":01}', b'{"id":"\\x"}', b'{"id":"a\nb"}', b'{"id":"\\ud800"}', b'{,}',
    b'{"id":1.}', b'{"id":-}', b'{"id":"', b'{"id":[}', b"{1:2}", b'{"id":Infinity}',
]  # fmt: skip
BAD_ARRAYS = [b"[", b"[1", b"[1,]", b"[,]", b"[1 2]", b"[1]]", b"[nul]", b"[}", b'["\\ud800"]']


def test_the_fast_cutter_is_another() -> None:
    assert jsontext.members is not jsontext.members_plainly


@pytest.mark.parametrize("number", [0, 1], ids=["fast", "plain"])
def test_gives_the_bytes_that_stood_there(number: int) -> None:
    cut = CUTTERS["members"][number]
    text = (
        ' { "id" : 1.50 ,\n"x":{"id":7}, "params":[ 1 , "é" ],"method":"m", "\\u0072esult":null } '
    )
    found = cut(text.encode())
    assert found == dict.fromkeys(MEMBERS, b"") | {
        "id": b"1.50", "params": '[ 1 , "é" ]'.encode(), "method": b'"m"', "result": b"null",
    }  # fmt: skip
    assert cut(b"{}") == dict.fromkeys(MEMBERS, b"")
    assert cut(b'{"id":1,"id":2}')["id"] == b"2"
    parts = CUTTERS["elements"][number]
    assert parts(b' [ {"a": 1} , 2,[ ] ]') == [b'{"a": 1}', b"2", b"[ ]"]
    assert parts(b"[ ]") == []


@pytest.mark.parametrize("text", BAD_OBJECTS, ids=repr)
def test_both_refuse_what_is_no_object(text: bytes) -> None:
    for cut in CUTTERS["members"]:
        with pytest.raises(MalformedError):
            cut(text)


@pytest.mark.parametrize("text", BAD_ARRAYS, ids=repr)
def test_both_refuse_what_is_no_array(text: bytes) -> None:
    for cut in CUTTERS["elements"]:
        with pytest.raises(MalformedError):
            cut(text)


@pytest.mark.slow
@given(
    st.dictionaries(st.sampled_from(MEMBERS) | st.text(max_size=4), VALUES, max_size=6),
    st.booleans(),
)
def test_both_cut_objects_alike(value: Any, spaced: bool) -> None:
    text = json.dumps(value, indent=1 if spaced else None, ensure_ascii=spaced)
    try:
        data = text.encode()
    except UnicodeEncodeError:
        return
    outcomes = []
    for cut in CUTTERS["members"]:
        try:
            outcomes.append(cut(data))
        except MalformedError:
            outcomes.append(None)
    assert outcomes[0] == outcomes[1]
    if outcomes[0] is not None:
        assert {name: json.loads(part) for name, part in outcomes[0].items() if part} == {
            name: value[name] for name in MEMBERS if name in value
        }


@pytest.mark.slow
@given(st.lists(VALUES, max_size=5))
def test_both_cut_arrays_alike(value: list[Any]) -> None:
    data = json.dumps(value).encode()
    fast, plain = (cut(data) for cut in CUTTERS["elements"])
    assert fast == plain
    assert [json.loads(part) for part in fast] == value


def test_limits_depth_items_and_digits() -> None:
    limits = Limits(max_depth=5, max_items=50)
    deep = 5 + jsontext.ENVELOPE_DEPTH
    check(b"[" * deep + b"]" * deep, limits, 1)
    with pytest.raises(TooLarge, match="max_depth"):
        check(b"[" * (deep + 1) + b"]" * (deep + 1), limits, 1)
    most = 50 + jsontext.ENVELOPE_ITEMS
    check(json.dumps([0] * most).encode(), limits, 1)
    with pytest.raises(TooLarge, match="max_items"):
        check(json.dumps([0] * (most + 1)).encode(), limits, 1)
    with pytest.raises(TooLarge, match="digits"):
        check(b"[" + b"1" * 5000 + b"]", limits, 1)
    with pytest.raises(MalformedError, match="UTF-8"):
        check(b'"\xff"', limits, 1)


def test_what_stays_in_the_room_is_no_error_of_the_library() -> None:
    assert not issubclass(MalformedError, FastRPCError)
