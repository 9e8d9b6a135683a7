"""check_msgpack: the limits exactly, whatever the input, against a model and two decoders."""

from types import SimpleNamespace
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrpc.errors import ConfigError
from fastrpc.wire import LIMIT_CEILINGS
from tests.frame.model import Pairs, measure, pack
from tests.frame.twins import agree, both, outcome

DEEPEST = LIMIT_CEILINGS["max_depth"]

# One of each marker that is no container: ints, floats, text, bytes, extensions.
LEAVES = [
    b"\x00", b"\x7f", b"\xe0", b"\xff", b"\xc0", b"\xc2", b"\xc3",
    b"\xca" + bytes(4), b"\xcb" + bytes(8), b"\xcc\x91", b"\xcd" + bytes(2), b"\xce" + bytes(4),
    b"\xcf" + bytes(8), b"\xd0\x91", b"\xd1\x91\x91", b"\xd2" + bytes(4), b"\xd3" + bytes(8),
    b"\xa0", b"\xa3\x61\x62\x63", b"\xd9\x02\x61\x62", b"\xda\x00\x02\x61\x62",
    b"\xdb\x00\x00\x00\x02\x61\x62", b"\xc4\x02\x91\x92", b"\xc5\x00\x02\x81\x82",
    b"\xc6\x00\x00\x00\x02\xdc\xdd", b"\xc7\x02\x05\x91\x91", b"\xc8\x00\x02\x05\x91\x91",
    b"\xc9\x00\x00\x00\x02\x05\x91\x91", b"\xd4\x05\x91", b"\xd5\x05\x91\x91",
    b"\xd6\x05" + bytes(4), b"\xd7\x05" + bytes(8), b"\xd8\x05" + bytes(16),
]  # fmt: skip


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(inner, max_size=20),
        st.lists(st.tuples(inner, inner), max_size=4).map(Pairs),
        st.lists(st.tuples(st.sampled_from(LEAVES), inner), max_size=4).map(Pairs),
    )


VALUES = st.recursive(st.sampled_from(LEAVES), _containers, max_leaves=30)
WIDE = st.integers(0, 2)
DEPTHS = st.sampled_from([1, 2, 3, 4, 64, DEEPEST])
ITEMS = st.sampled_from([0, 1, 2, 3, 10, 20, 100, 100_000])


def unpacked(data: bytes) -> Any:
    """Read with PyPI's msgpack, maps as pairs."""
    return msgpack.unpackb(
        data, object_pairs_hook=Pairs, strict_map_key=False, raw=True,
        ext_hook=lambda code, data: data,
    )  # fmt: skip


def possible(value: object, max_depth: int, max_items: int) -> set[str]:
    """Return what may be said of a well-formed value: the first broken limit met counts."""
    depth, items, keyed = measure(value)
    broken = set()
    if items > max_items:
        broken.add(f"has more than {max_items} items (max_items)")
    if depth > max_depth:
        broken.add(f"is nested deeper than {max_depth} (max_depth)")
    if keyed:
        broken.add("has a container as a map's key")
    return broken or {""}


@given(value=VALUES, wide=WIDE, max_depth=DEPTHS, max_items=ITEMS)
def test_a_whole_value_is_measured_exactly(
    twin: SimpleNamespace, value: object, wide: int, max_depth: int, max_items: int
) -> None:
    data = pack(value, wide)
    assert measure(unpacked(data)) == measure(value)  # the model measures what msgpack sees
    assert twin.check_msgpack(data, max_depth, max_items) in possible(value, max_depth, max_items)


@given(value=VALUES, wide=WIDE, max_depth=DEPTHS, max_items=ITEMS, cut=st.integers(0, 200))
def test_a_value_cut_short_is_never_called_worse_than_the_whole(
    twin: SimpleNamespace, value: object, wide: int, max_depth: int, max_items: int, cut: int
) -> None:
    data = pack(value, wide)
    verdict = twin.check_msgpack(data[: cut % (len(data) + 1)], max_depth, max_items)
    assert verdict in possible(value, max_depth, max_items) | {""}


NESTED = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(max_size=40),
              st.binary(max_size=300)),
    lambda inner: st.lists(inner, max_size=18) | st.dictionaries(st.text(max_size=4), inner, max_size=18),
    max_leaves=40,
)  # fmt: skip


def size_of(value: object) -> tuple[int, int]:
    """Return depth and items of a Python value."""
    inner = list(value) if isinstance(value, list) else []
    if isinstance(value, dict):
        inner = [*value.keys(), *value.values()]
    elif not isinstance(value, list):
        return 0, 0
    parts = [size_of(part) for part in inner]
    return 1 + max((part[0] for part in parts), default=0), len(inner) + sum(p[1] for p in parts)


@given(value=NESTED)
@pytest.mark.parametrize(
    "encode", [msgspec.msgpack.encode, msgpack.packb], ids=["msgspec", "msgpack"]
)
def test_what_real_encoders_write_passes_at_the_limit_and_not_below(
    twin: SimpleNamespace, encode: Any, value: object
) -> None:
    data = encode(value)
    depth, items = size_of(value)
    assert twin.check_msgpack(data, max(depth, 1), items) == ""
    if items:
        verdict = twin.check_msgpack(data, max(depth, 1), items - 1)
        assert verdict == f"has more than {items - 1} items (max_items)"
    if depth > 1:
        verdict = twin.check_msgpack(data, depth - 1, items)
        assert verdict == f"is nested deeper than {depth - 1} (max_depth)"


@pytest.mark.compiled
@given(
    data=st.one_of(
        st.builds(pack, VALUES, WIDE),
        st.binary(max_size=40),
        st.lists(st.sampled_from([b"\x91", b"\x81", b"\x90", b"\xdc\x00", b"\xdd\xff", b"\xde\x00\x01",
                                  b"\xdf\x00\x00\x00\x02", b"\xd9\x05", b"\x00", b"\xa1", b"\xc8"])).map(b"".join),
    ),
    spoil=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=3),
    cut=st.integers(0, 300),
    max_depth=DEPTHS,
    max_items=st.one_of(ITEMS, st.just(-1)),
)  # fmt: skip
def test_both_twins_say_the_same_of_anything(
    data: bytes, spoil: list[tuple[int, int]], cut: int, max_depth: int, max_items: int
) -> None:
    pure, compiled = both()
    changed = bytearray(data)
    for at, byte in spoil:
        if changed:
            changed[at % len(changed)] = byte
    data = bytes(changed[:cut]) if cut % 3 == 0 else bytes(changed)
    verdict = pure.check_msgpack(data, max_depth, max_items)
    agree(
        "msgpack payloads", verdict, compiled.check_msgpack(data, max_depth, max_items),
        (data, max_depth, max_items),
    )  # fmt: skip
    if verdict == "":  # whatever a decoder makes of it keeps to the limits
        try:
            value = msgspec.msgpack.decode(data, strict=False)
        except (msgspec.DecodeError, RecursionError, ValueError, TypeError, OverflowError):
            return
        depth, items = size_of(value)
        assert depth <= max_depth
        assert items <= max(max_items, 0) or max_items < 0


@pytest.mark.parametrize("levels", [100_000, 1_000_000])
def test_deep_nesting_is_seen_early(twin: SimpleNamespace, levels: int) -> None:
    data = b"\x91" * levels + b"\xc0"
    assert twin.check_msgpack(data, 64, 100_000) == "is nested deeper than 64 (max_depth)"


def test_deep_nesting_behind_a_claim_that_is_cut_off_is_seen_too(twin: SimpleNamespace) -> None:
    data = b"\xdd\xff\xff\xff\xff" + b"\x91" * 1000
    assert twin.check_msgpack(data, 64, 100_000) == "is nested deeper than 64 (max_depth)"


def test_a_claim_of_what_can_not_follow_is_left_to_the_decoder(twin: SimpleNamespace) -> None:
    for data in (b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff\x01" + bytes(80), b"\xdc\x00"):
        assert twin.check_msgpack(data, 64, 100_000) == ""
        with pytest.raises(msgspec.DecodeError):
            msgspec.msgpack.decode(data)


@pytest.mark.parametrize("leaf", LEAVES, ids=bytes.hex)
def test_a_leaf_cut_anywhere_breaks_no_limit(twin: SimpleNamespace, leaf: bytes) -> None:
    for cut in range(len(leaf) + 1):
        for behind in (b"", b"\x90", b"\x91\x91\x91\x91"):
            data = b"\x92\x90" + leaf[:cut] + (behind if cut == len(leaf) else b"")
            assert twin.check_msgpack(data, 2, 100) == ""
    assert (
        twin.check_msgpack(b"\x92" + leaf + b"\x91\x90", 2, 100)
        == "is nested deeper than 2 (max_depth)"
    )


def test_many_items_are_seen(twin: SimpleNamespace) -> None:
    data = b"\xdd" + (100_001).to_bytes(4, "big") + bytes(100_001)
    assert twin.check_msgpack(data, 64, 100_001) == ""
    assert twin.check_msgpack(data, 64, 100_000) == "has more than 100000 items (max_items)"
    empties = b"\xdc\xff\xff" + b"\x90" * 65_535
    assert twin.check_msgpack(empties, 64, 65_535) == ""


def test_the_deepest_that_can_be_asked_for(twin: SimpleNamespace) -> None:
    data = b"\x91" * DEEPEST + b"\xc0"
    assert twin.check_msgpack(data, DEEPEST, 100_000) == ""
    verdict = twin.check_msgpack(b"\x91" + data, DEEPEST, 100_000)
    assert verdict == f"is nested deeper than {DEEPEST} (max_depth)"


@pytest.mark.parametrize("max_depth", [0, -1, DEEPEST + 1])
def test_depths_that_can_not_be_kept_are_refused(twin: SimpleNamespace, max_depth: int) -> None:
    with pytest.raises(ConfigError, match=f"^max_depth must be 1 to {DEEPEST}, got {max_depth}$"):
        twin.check_msgpack(b"\xc0", max_depth, 10)


@pytest.mark.parametrize("thing", [None, "text", bytearray(b"\xc0"), 5])
def test_only_bytes_are_looked_at(twin: SimpleNamespace, thing: Any) -> None:
    told = outcome(twin.check_msgpack, thing, 64, 10)
    assert told == (
        "raised",
        ("TypeError", f"check_msgpack() takes bytes, not {type(thing).__name__}"),
    )


@pytest.mark.parametrize(
    "head", [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdc\xff\xff"]
)
def test_what_is_there_of_a_container_that_claims_more_counts(
    twin: SimpleNamespace, head: bytes
) -> None:
    """The decoder makes of it what it can before it sees that there is no more."""
    assert twin.check_msgpack(b"\x91" + head + b"\xc0" * 2000, 64, 1000).endswith("(max_items)")
    assert twin.check_msgpack(b"\x91" + head + b"\xc0" * 500, 64, 1000) == ""
