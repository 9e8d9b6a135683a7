"""Sets and maps can't be made slow by values chosen for their hashes."""

import time
import uuid
from decimal import Decimal
from typing import Any, NamedTuple

import pytest

from fastrpc.codec import Mismatch, fast, plain
from fastrpc.codec.containers import COLLISIONS_MAX

MODULUS = 2**61 - 1  # Python's integers hash to what is left after dividing by it
COUNT = 4_000


class Key(NamedTuple):
    id: Decimal


def colliding(kind: str, count: int) -> list[Any]:
    numbers = [MODULUS * (n + 1) for n in range(count)]
    return {
        "UUID": [str(uuid.UUID(int=n)) for n in numbers],
        "Decimal": [str(n) for n in numbers],
        "int": numbers,
        "tuple": [[str(n)] for n in numbers],
    }[kind]


CASES: list[tuple[str, Any, str]] = [
    ("msgpack", set[uuid.UUID], "UUID"),
    ("msgpack", frozenset[Decimal], "Decimal"),
    ("msgpack", set[Key], "tuple"),
    ("msgpack", set[tuple[Decimal]], "tuple"),
    ("json", set[uuid.UUID], "UUID"),
    ("json", set[int], "int"),
    ("json", set, "int"),
    ("json", set[int | str], "int"),
    ("json", list[set[int] | None], "int"),
]


def codecs(kind: str) -> list[Any]:
    name = f"{kind.capitalize()}Codec"
    return [getattr(engine, name)() for engine in (fast, plain)]


@pytest.mark.parametrize(("kind", "type_", "values"), CASES, ids=str)
def test_colliding_values_are_refused_quickly(kind: str, type_: Any, values: str) -> None:
    for codec in codecs(kind):
        items = colliding(values, COUNT)
        data = codec.encode([items] if "list" in str(type_) else items)
        start = time.process_time()
        with pytest.raises(Mismatch, match="too many values with the same hash"):
            codec.decoder(type_)(data)
        with pytest.raises(Mismatch):
            codec.arguments([type_], 1, None)(codec.encode([codec.decode(data)]))
        with pytest.raises(Mismatch):
            codec.convert(codec.decode(data), type_)
        assert time.process_time() - start < 1  # unguarded: 2 s for 3,000 UUIDs


@pytest.mark.parametrize("type_", [dict[uuid.UUID, int], dict[Decimal, int], dict[int, int]])
def test_colliding_keys_are_refused(type_: Any) -> None:
    kinds = {dict[uuid.UUID, int]: "UUID", dict[Decimal, int]: "Decimal", dict[int, int]: "int"}
    for codec in codecs("json"):
        keys = colliding(kinds[type_], COUNT)
        data = codec.encode({str(key): 1 for key in keys})
        with pytest.raises(Mismatch, match="same hash"):
            codec.decoder(type_)(data)


@pytest.mark.parametrize("kind", ["msgpack", "json"])
def test_the_limit_of_collisions(kind: str) -> None:
    for codec in codecs(kind):
        at_limit = codec.encode(colliding("UUID", COLLISIONS_MAX + 1))
        assert len(codec.decoder(set[uuid.UUID])(at_limit)) == COLLISIONS_MAX + 1
        over = codec.encode(colliding("UUID", COLLISIONS_MAX + 2))
        with pytest.raises(Mismatch, match="same hash"):
            codec.decoder(set[uuid.UUID])(over)


def test_equal_values_do_not_count() -> None:
    for codec in codecs("msgpack"):
        data = codec.encode([str(uuid.UUID(int=5))] * 1000)
        assert codec.decoder(set[uuid.UUID])(data) == {uuid.UUID(int=5)}


def test_the_guard_is_not_paid_where_hashes_are_secret() -> None:
    codec = fast.MsgpackCodec()
    for type_ in (set[str], set[int], dict[str, int], dict[int, str], dict, list[set[bytes]]):
        assert type(codec.decoder(type_)).__name__ == "builtin_function_or_method"


def test_untyped_lists_in_a_set_become_tuples() -> None:
    for codec in codecs("msgpack"):
        assert codec.decoder(set)(codec.encode([[1, [2]], "a"])) == {(1, (2,)), "a"}


def test_what_has_no_hash_is_named() -> None:
    for codec in codecs("msgpack"):
        with pytest.raises(Mismatch, match=r"^item 1: dict can't be in a set$"):
            codec.convert([1, {}], set)
        with pytest.raises(Mismatch, match=r"^item 0: list can't be in a set$"):
            codec.convert([[1]], set[list[int]])
        with pytest.raises(Mismatch, match=r"^item 0: Decimal can't be in a set$"):
            codec.convert(["sNaN"], set[Decimal])
