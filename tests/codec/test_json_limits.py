"""Depth and items of JSON: at the limit, one past it, and never slow."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrpc.codec import fast, plain
from fastrpc.codec.json_limits import DIGITS_MAX, check_json
from fastrpc.errors import TooLarge

VALUES = st.recursive(
    st.one_of(st.none(), st.integers(), st.text(max_size=4), st.sampled_from(['"', "\\", "[{,:"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


def items_of(value: Any) -> int:
    if isinstance(value, dict):
        return 2 * len(value) + sum(map(items_of, value.values()))
    return len(value) + sum(map(items_of, value)) if isinstance(value, list) else 0


@pytest.mark.slow
@given(VALUES, st.booleans())
def test_counts_are_exact(value: Any, spaced: bool) -> None:
    data = json.dumps(value, indent=1 if spaced else None).encode()
    depth, items = depth_of(value), items_of(value)
    check_json(data, depth, items)
    if depth:
        with pytest.raises(TooLarge, match=rf"deeper than {depth - 1} \(max_depth\)"):
            check_json(data, depth - 1, items + 99)
    if items:
        with pytest.raises(TooLarge, match=rf"more than {items - 1} items \(max_items\)"):
            check_json(data, depth + 99, items - 1)


@pytest.mark.parametrize("engine", [fast, plain], ids=["msgspec", "plain"])
def test_limits_hold_in_every_way_of_reading(engine: Any) -> None:
    codec = engine.JsonCodec(max_depth=3, max_items=5)
    reads = [codec.decode, codec.decoder(Any), codec.arguments([], 0, Any)]
    reads += [codec.arguments([Any], 1, None), codec.arguments([Any] * 5, 1, None)]
    for read in reads:
        read(b"[[[]]]")
        with pytest.raises(TooLarge, match="max_depth"):
            read(b"[[[[]]]]")
        if read != reads[3]:
            read(b"[1,2,3,4,5]")
        with pytest.raises(TooLarge, match="max_items"):
            read(b"[1,2,3,4,5,6]")


@pytest.mark.parametrize("engine", [fast, plain], ids=["msgspec", "plain"])
def test_the_default_limits(engine: Any) -> None:
    codec = engine.JsonCodec()
    codec.decode(b"[" * 64 + b"]" * 64)
    with pytest.raises(TooLarge):
        codec.decode(b"[" * 65 + b"]" * 65)
    codec.decode(b"[" + b"0," * 99_999 + b"0]")
    with pytest.raises(TooLarge):
        codec.decode(b"[" + b"0," * 100_000 + b"0]")


@pytest.mark.parametrize("depth", [10**5, 10**6])
@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'["\\"",'])
def test_deep_nesting_is_an_error_and_no_crash(depth: int, opening: bytes) -> None:
    for engine in (fast, plain):
        with pytest.raises(TooLarge):
            engine.JsonCodec().decode(opening * depth)


HOSTILE = [
    b'"' + b'\\"' * 2**20,
    b'["' + b"\\" * 2**21,
    b'""' * 2**20,
    b"[" + b'"[[[[' * 2**19,
    b"[]" * 70 + b'""' * 2**20,
    b"[]" * 70 + b"1 " * 2**20,
    b"," * 2**21,
    b"]" * 2**21,
    b'{"a":1}' * 2**18,
    b"[1" + b" " * 2**21 + b",[" * 70,
]


@pytest.mark.parametrize("data", HOSTILE, ids=lambda data: repr(data[:12]))
def test_hostile_text_takes_little_time(data: bytes) -> None:
    start = time.process_time()
    for engine in (fast, plain):
        with pytest.raises(Exception):  # noqa: B017, PT011  a limit, or no JSON
            engine.JsonCodec().decode(data)
    assert time.process_time() - start < 2


def test_brackets_in_text_do_not_count() -> None:
    value = ["[" * 100, {"{" * 100: "," * 100_001}]
    data = json.dumps(value).encode()
    for engine in (fast, plain):
        assert engine.JsonCodec().decode(data) == value


@pytest.mark.parametrize("wrap", [b"%b", b"[1,%b]", b'{"a":-%b}', b"[%b.5]"])
def test_a_number_with_too_many_digits(wrap: bytes) -> None:
    check_json(wrap % (b"9" * 512), 128, 100_000)
    with pytest.raises(TooLarge, match="^a JSON number has more than 512 digits$"):
        check_json(wrap % (b"9" * 513), 128, 100_000)


def test_a_text_may_hold_many_digits() -> None:
    check_json(b'["' + b"9" * 5000 + b'", 1]', 128, 100_000)


def test_digits_in_texts_are_looked_at_once() -> None:
    # A search that begins anew at each digit takes DIGITS_MAX times as long: 8 s in place of 0.02.
    def seconds(data: bytes) -> float:
        started = time.process_time()
        check_json(data, 64, 100_000)
        return time.process_time() - started

    run = b"1" * DIGITS_MAX + b" "
    digits = b'["' + run * 2000 + b'"]'
    letters = b'["' + b"a" * (len(run) * 2000) + b'"]'
    assert min(seconds(digits) for _ in range(3)) < 60 * max(
        min(seconds(letters) for _ in range(3)), 1e-4
    )
