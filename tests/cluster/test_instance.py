import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrpc.cluster import Instance, InstanceState
from fastrpc.cluster.instance import (
    ADDRESSES_MAX,
    INSTANCE_MAX,
    TAGS_MAX,
    WEIGHT_MAX,
    WEIGHT_MIN,
    check_id,
    check_service,
    decode_instance,
    encode_instance,
    id_of,
)
from fastrpc.errors import CodecError, ConfigError

PLAIN = Instance(id="a-1", addresses=("tcp://10.0.0.1:7000",))
RICH = Instance(
    id="~.A_b-1",
    addresses=("tcp://[::1]:7000", "unix:///run/a.sock", "wss://a.example.com/rpc"),
    weight=0.25,
    zone="eu-1",
    version="2.1",
    group="blue",
    tags=(("farbe", "grün"), ("rack", "")),
    state=InstanceState.DRAINING,
)


@pytest.mark.parametrize("instance", [PLAIN, RICH])
def test_it_is_read_as_it_was_written(instance: Instance) -> None:
    text = encode_instance(instance)
    assert decode_instance(text) == instance
    assert set(json.loads(text)) == set(Instance.__slots__)


def test_what_an_older_version_leaves_out_and_a_newer_one_adds() -> None:
    text = b'{"id": "a-1", "addresses": ["tcp://10.0.0.1:7000"], "mood": {"deep": [1]}}'
    assert decode_instance(text) == PLAIN


def test_tags_in_another_order_are_the_same_tags() -> None:
    turned = replace(RICH, tags=RICH.tags[::-1])
    assert turned == RICH
    assert hash(turned) == hash(RICH)
    assert encode_instance(turned) == encode_instance(RICH)


def test_another_state_is_the_same_in_all_else() -> None:
    assert RICH.with_state(InstanceState.UP) == replace(RICH, state=InstanceState.UP)


WRONG: list[tuple[str, Any]] = [
    ("id", ""), ("id", "a b"), ("id", "a/b"), ("id", "a\n"), ("id", "ä"), ("id", "x" * 129),
    ("id", None),
    ("addresses", ()), ("addresses", ["tcp://a:1"]), ("addresses", "tcp://a:1"),
    ("addresses", ("tcp://a:1",) * (ADDRESSES_MAX + 1)),
    ("weight", 0), ("weight", -1.0), ("weight", WEIGHT_MAX + 1), ("weight", float("nan")),
    ("weight", WEIGHT_MIN / 2), ("weight", 1e-310), ("weight", 5e-324), ("weight", float("inf")), ("weight", True), ("weight", "1"), ("weight", None),
    ("zone", "a b"), ("zone", None), ("version", "x" * 129), ("group", 7),
    ("tags", {"a": "b"}), ("tags", (("a",),)), ("tags", (("a", 1),)), ("tags", ("ab",)),
    ("tags", (("a", "1"), ("a", "2"))),
    ("tags", tuple((str(number), "") for number in range(TAGS_MAX + 1))),
    ("state", "up"), ("state", None),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), WRONG)
def test_what_makes_no_sense_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"instance: {field} must be"):
        replace(PLAIN, **{field: value})


@pytest.mark.parametrize("address", ["", "tcp://", "ftp://a:1", "tcp://a:1 ", "etcd://a/b", 7])
def test_addresses_are_targets(address: Any) -> None:
    with pytest.raises(ConfigError, match="target"):
        replace(PLAIN, addresses=(address,))


def test_what_is_at_a_limit_is_fine() -> None:
    replace(PLAIN, weight=WEIGHT_MIN)
    replace(
        PLAIN,
        id="x" * 128,
        addresses=("tcp://a:1",) * ADDRESSES_MAX,
        weight=WEIGHT_MAX,
        tags=tuple((str(number), "") for number in range(TAGS_MAX)),
    )


def test_what_is_too_long_is_not_written_and_not_read() -> None:
    def with_tag(length: int) -> Instance:
        return replace(PLAIN, tags=(("t", "x" * length),))

    spare = INSTANCE_MAX - len(encode_instance(with_tag(0)))
    assert decode_instance(encode_instance(with_tag(spare))) == with_tag(spare)
    with pytest.raises(ConfigError, match=f"a-1: {INSTANCE_MAX + 1} bytes are over"):
        encode_instance(with_tag(spare + 1))
    with pytest.raises(CodecError, match=f"over {INSTANCE_MAX}"):
        decode_instance(encode_instance(PLAIN) + b" " * INSTANCE_MAX)


@pytest.mark.parametrize(
    "text",
    [
        b"", b"null", b"[]", b"{}", b"{", b"\xff", b'"\xff"', b"[" * INSTANCE_MAX,
        b'{"id": "a", "x": ' + b"[" * 4000, b'{"id": "a", "addresses": null}',
        b'{"id": "a", "addresses": []}', b'{"id": 1, "addresses": ["tcp://a:1"]}',
        b'{"id": "a", "addresses": ["tcp://a:1"], "weight": 1e999}',
        b'{"id": "a", "addresses": ["tcp://a:1"], "weight": NaN}',
        b'{"id": "a", "addresses": ["tcp://a:1"], "weight": 1e-310}',
        b'{"id": "a", "addresses": ["tcp://a:1"], "state": "asleep"}',
        b'{"id": "a", "addresses": ["tcp://a:1"], "tags": {"a": 1}}',
        b'{"id": "a", "addresses": ["tcp://a:1"], "zone": "\\ud800"}',
        b'{"id": "a", "addresses": ["tcp://a\\u0000:1"]}',
    ],
)  # fmt: skip
def test_poison_is_one_kind_of_error(text: bytes) -> None:
    with pytest.raises(CodecError):
        decode_instance(text)


@given(st.binary(max_size=200) | st.text('{}[]":,aidrestcp/0 ', max_size=80).map(str.encode))
def test_no_bytes_are_more_than_an_error(text: bytes) -> None:
    try:
        found = decode_instance(text)
    except CodecError:
        return
    assert decode_instance(encode_instance(found)) == found


@pytest.mark.parametrize("name", ["A", "shop.Arith", "_x", "0", "x" * 128])
def test_names_of_services(name: str) -> None:
    assert check_service(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "-a", "~a", "a/b", "a b", "ä", "x" * 129, "a\n", None, 7]
)
def test_what_is_no_name_of_a_service(name: object) -> None:
    with pytest.raises(ConfigError, match="service's name"):
        check_service(name)


@pytest.mark.parametrize(
    "address", ["tcp://10.0.0.1:7000", "unix:///" + "x" * 90, "tcp://[::1]:7000", "", "ä"]
)
def test_an_id_of_an_address_is_one_and_stays(address: str) -> None:
    assert check_id(id_of(address)) == id_of(address)
    assert id_of(address) != id_of(address + "0")


def test_an_id_can_be_read_by_people() -> None:
    assert id_of("tcp://10.0.0.1:7000").startswith("10.0.0.1-7000-")
    assert id_of("tcp://a-b:1") != id_of("tcp://a:b-1")
