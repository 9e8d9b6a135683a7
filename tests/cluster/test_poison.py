"""Whatever stands in a registry, clients keep the last good list (T30)."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import fastrpc
from fastrpc.cluster import Change, Gone, Instance, InstanceState, Listing, Put
from fastrpc.cluster.instance import (
    INSTANCE_MAX,
    INSTANCES_MAX,
    decode_instance,
    encode_instance,
)
from fastrpc.cluster.resolver import Resolver
from fastrpc.cluster.roll import Freshness, Roll
from fastrpc.transport import parse_target
from tests.cluster.test_resolver import Scripted
from tests.cluster.virtual import run

FIELDS = ["id", "addresses", "weight", "zone", "version", "group", "tags", "state", "more"]
GOOD: dict[str, Any] = {"id": "a", "addresses": ["tcp://10.0.0.1:7000"]}

names = st.text("abcXYZ019._~-", min_size=1, max_size=12)
addresses = st.one_of(
    st.sampled_from(["tcp://h:1", "tls://[::1]:7", "unix:///run/x", "unix://@a", "mem://m", "h:1"]),
    st.sampled_from(["tcp://h", "ftp://h:1", "etcd://h:1/x", "tcp://h:99999", "tcp://a b:1", ""]),
    st.text(max_size=40),
)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=4,
)  # fmt: skip
entries = st.builds(
    lambda given, odd: {**GOOD, **given, **odd},
    st.fixed_dictionaries(
        {},
        optional={
            "id": names | st.text(max_size=20),
            "addresses": st.lists(addresses, max_size=10),
            "weight": st.floats() | st.integers(),
            "zone": names | st.text(max_size=20),
            "tags": st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=40),
            "state": st.sampled_from(["up", "draining", "down", "UP", "x"]),
        },
    ),
    st.dictionaries(st.sampled_from(FIELDS), plain, max_size=2),
)


def check(text: bytes) -> None:
    """Read *text*; what comes out must be something that can be called and written again."""
    try:
        found = decode_instance(text)
    except fastrpc.CodecError as error:
        assert str(error)
        return
    assert all(parse_target(each) for each in found.addresses)
    assert 0 < found.weight < float("inf")
    try:
        again = encode_instance(found)
    except fastrpc.ConfigError:
        assert len(text) > INSTANCE_MAX / 6  # defaults are longer than what was left out
        return
    assert decode_instance(again) == found


@given(st.binary(max_size=200))
@example(b'{"id":"a","addresses":["tcp://h:1"],"x":' + b"[" * 4000)
@example(b'{"id":"a","addresses":["unix:///' + b"\xff" * 9 + b'"]}')
@example(b'{"id":"a","addresses":["unix:///\\ud800"]}')
@example(b'{"id":"a","addresses":["tcp://h:1"],"weight":' + b"9" * 4000 + b"}")
@example(b" " * (INSTANCE_MAX + 1))
def test_any_bytes(text: bytes) -> None:
    check(text)


@pytest.mark.slow
@given(entries)
def test_entries_that_are_nearly_right(entry: dict[str, Any]) -> None:
    check(json.dumps(entry).encode())


@pytest.mark.slow
@given(entries, st.integers(0, 300), st.integers(0, 255))
def test_entries_with_a_byte_of_another_kind(entry: dict[str, Any], at: int, byte: int) -> None:
    text = bytearray(json.dumps(entry).encode())
    text[at % len(text)] = byte
    check(bytes(text))


ids = st.sampled_from("abcdef")
instances = st.builds(
    lambda id, state, weight: Instance(
        id=id, addresses=("tcp://10.0.0.1:7000",), state=state, weight=weight
    ),
    ids,
    st.sampled_from(InstanceState),
    st.sampled_from([1.0, 2.0]),
)
listings = st.builds(
    lambda found, skipped: Listing(tuple(found), skipped),
    st.lists(instances, max_size=8),  # the same id twice is possible, and wrong
    st.integers(0, 20_000),
)
changes = st.one_of(listings, st.builds(Put, instances), st.builds(Gone, ids, st.booleans()))
steps = st.lists(st.tuples(st.sampled_from([0.0, 1.0, 61.0]), changes | st.none()), max_size=30)


def expected(known: dict[str, Instance], change: Change) -> None:
    """Apply *change* to *known* as if every word were true."""
    if isinstance(change, Listing):
        known.clear()
        known.update({each.id: each for each in change.instances})
    elif isinstance(change, Put):
        known[change.instance.id] = change.instance
    else:
        known.pop(change.id, None)


@pytest.mark.slow
@given(steps)
def test_a_roll_never_loses_what_is_there(sequence: list[tuple[float, Change | None]]) -> None:
    roll, now = Roll(60.0), 0.0
    known: dict[str, Instance] = {}
    for pause, change in sequence:
        now += pause
        if change is None:
            before = roll.instances
            roll.on_lost(now)
            assert roll.instances == before
            assert roll.freshness is not Freshness.FRESH
            continue
        roll.take(change, now)
        expected(known, change)
        listed = {each.id: each for each in roll.instances}
        assert len(listed) == len(roll.instances)
        assert known.items() <= listed.items()
        kept = [listed[id] for id in listed.keys() - known.keys()]
        assert all(each.state is InstanceState.UP for each in kept)
        assert not kept or roll.is_suspect
        assert roll.soonest > now
    roll.tick(now + 61)
    assert {each.id: each for each in roll.instances} == known


poison = st.sampled_from([
    None, 7, "x", Listing((None,)), Put(None), Gone(None), Gone([]),  # type: ignore[arg-type]
    fastrpc.RegistryLost("no"), ValueError("a mistake"), OSError(5, "no"),
])  # fmt: skip


@pytest.mark.slow
@settings(max_examples=60)
@given(st.lists(st.lists(changes | poison, max_size=6), max_size=6))
def test_a_resolver_outlives_everything(watches: list[list[Any]]) -> None:
    async def main() -> None:
        good = Listing(tuple(Instance(id=each, addresses=("tcp://h:1",)) for each in "xyz"))
        resolver = Resolver(Scripted(*watches, [good, asyncio.Event]), "Shop", changed=lambda: None)
        resolver.begin()
        await asyncio.sleep(120)
        # It is still there, and takes what is good.
        assert resolver.freshness is Freshness.FRESH
        assert [each.id for each in resolver.instances][:3] == ["x", "y", "z"]
        await resolver.aclose()

    run(main())


def test_a_list_without_end_is_cut() -> None:
    roll = Roll()
    roll.take(
        Listing(tuple(Instance(id=f"i{n}", addresses=("tcp://h:1",)) for n in range(10_100))), 0.0
    )
    assert len(roll.instances) == INSTANCES_MAX
    for n in range(100):
        roll.take(Put(Instance(id=f"j{n}", addresses=("tcp://h:1",))), 0.0)
    assert len(roll.instances) == INSTANCES_MAX
