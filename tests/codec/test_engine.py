"""Every type goes both ways, over msgpack and JSON, with both engines."""

import datetime as dt
import enum
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrpc.codec import ENGINE, Mismatch, fast, plain
from fastrpc.errors import CodecError, ConfigError
from tests.codec import samples
from tests.codec.samples import REFUSED, ROUND_TRIPS, STRUCTS, VALUES, Line, Point

ENGINES = {"msgspec": fast, "plain": plain}
CODECS = {
    f"{name}-{kind}": getattr(engine, f"{kind.capitalize()}Codec")()
    for name, engine in ENGINES.items()
    for kind in ("msgpack", "json")
}
TWINS = {
    kind: SimpleNamespace(fast=CODECS[f"msgspec-{kind}"], plain=CODECS[f"plain-{kind}"])
    for kind in ("msgpack", "json")
}


@pytest.fixture(params=CODECS)
def codec(request: pytest.FixtureRequest) -> Any:
    return CODECS[request.param]


@pytest.fixture(params=TWINS)
def twins(request: pytest.FixtureRequest) -> SimpleNamespace:
    return TWINS[request.param]


def same(one: object, other: object) -> bool:
    """Equal and of equal types, NaN included."""
    return type(one) is type(other) and (one == other or repr(one) == repr(other))


def outcome(work: Any, *args: Any) -> tuple[str, Any]:
    try:
        return "value", work(*args)
    except (Mismatch, ConfigError) as error:
        return type(error).__name__, str(error)
    except Exception as error:
        return "error", type(error)


def label(value: object) -> str:
    if isinstance(value, (set, frozenset)):  # their order is another in each process
        value = f"{type(value).__name__} of {sorted(map(str, value))}"
    return str(value).replace("tests.codec.samples.", "")[:40]


@pytest.mark.parametrize(("type_", "value"), ROUND_TRIPS, ids=label)
def test_round_trip(codec: Any, type_: Any, value: Any) -> None:
    data = codec.encode(value)
    assert type(data) is bytes
    read = codec.decoder(type_)(data)
    assert same(read, value)
    assert same(codec.convert(codec.decode(data), type_), value)
    for required, rest in ((1, None), (0, None), (0, int), (1, str)):
        arguments = codec.arguments([type_], required, rest)(codec.encode([value]))
        assert len(arguments) == 1
        assert same(arguments[0], value)
    rest = type(None) if type_ is None else type_
    (read,) = codec.arguments([], 0, rest)(codec.encode([value]))
    assert same(read, value)


@pytest.mark.parametrize("kind", ["msgpack", "json"])
@pytest.mark.parametrize(("type_", "value"), STRUCTS, ids=label)
def test_round_trip_of_structs(kind: str, type_: Any, value: Any) -> None:
    codec = CODECS[f"msgspec-{kind}"]
    data = codec.encode(value)
    assert same(codec.decoder(type_)(data), value)
    assert same(codec.convert(codec.decode(data), type_), value)
    assert same(codec.arguments([type_], 1, None)(codec.encode([value]))[0], value)


@pytest.mark.parametrize(("type_", "text"), REFUSED, ids=label)
def test_types_that_cannot_be_read_are_refused_when_built(
    codec: Any, type_: Any, text: str
) -> None:
    for build in (
        lambda: codec.decoder(type_),
        lambda: codec.arguments([int, type_], 2, None),
        lambda: codec.arguments([], 0, type_),
        lambda: codec.convert(None, type_),
        lambda: codec.decoder(list[type_] if type_ != "int" else type_),
    ):
        with pytest.raises(ConfigError) as caught:
            build()
        assert text in str(caught.value)


def test_a_refused_field_is_named(codec: Any) -> None:
    @dataclass
    class Bad:
        c: complex

    with pytest.raises(ConfigError, match=r"^Bad\.c: values of type complex can't be sent"):
        codec.decoder(Bad)


@pytest.mark.parametrize("type_", [pair[0] for pair in ROUND_TRIPS], ids=label)
def test_both_engines_take_and_refuse_the_same(twins: SimpleNamespace, type_: Any) -> None:
    readers = [twins.fast.decoder(type_), twins.plain.decoder(type_)]
    for value in VALUES:
        kind, data = outcome(twins.fast.encode, value)
        if kind != "value":
            continue
        decoded = [outcome(read, data) for read in readers]
        assert (decoded[0][0] == "value") == (decoded[1][0] == "value"), (value, decoded)
        if decoded[0][0] == "value":
            assert same(decoded[0][1], decoded[1][1]), (value, decoded)
        told = [
            outcome(twin.convert, twin.decode(data), type_) for twin in (twins.fast, twins.plain)
        ]
        assert told[0][0] == told[1][0], (value, told)
        assert same(told[0][1], told[1][1]), (value, told)  # the error texts, too
        if told[0][0] != "value":
            assert told[0][0] == "Mismatch"
        assert (told[0][0] == "value") == (decoded[0][0] == "value")


PLAIN_TYPES = [
    *(None, bool, int, float, str, bytes, Any, dt.datetime, dt.date, dt.time, dt.timedelta),
    *(samples.uuid.UUID, samples.Decimal, samples.Color, samples.Level, samples.Literal["a", 1]),
    *(Point, Line, samples.Pair, samples.Movie, samples.Node, list, dict, samples.Positive),
]
KEY_TYPES = [int, str, float, dt.date, samples.uuid.UUID, samples.Color, samples.Decimal]


def either(types: list[Any]) -> Any:
    """Return a union, or its first member if the others can't be told from it."""
    wanted = types[0]
    for other in types[1:]:
        if outcome(TWINS["msgpack"].plain.decoder, wanted | other)[0] == "value":
            wanted = wanted | other
    return wanted


TYPES = st.recursive(
    st.sampled_from(PLAIN_TYPES),
    lambda inner: st.one_of(
        inner.map(lambda t: list[t]),
        inner.map(lambda t: tuple[t, ...]),
        st.tuples(inner, inner).map(lambda ts: tuple[ts]),
        st.tuples(st.sampled_from(KEY_TYPES), inner).map(lambda ts: dict[ts]),
        st.sampled_from(KEY_TYPES).map(lambda t: set[t]),
        st.lists(
            st.sampled_from([t for t in PLAIN_TYPES if isinstance(t, type)]), min_size=2, max_size=4
        ).map(either),
    ),
    max_leaves=4,
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=17),
    st.datetimes(timezones=st.sampled_from([None, dt.UTC])),
    st.dates(),
    st.times(timezones=st.sampled_from([None, dt.UTC])),
    st.timedeltas(),
    st.uuids(),
    st.decimals(),
    st.sampled_from([samples.Color.RED, samples.Level.LOW, samples.Perm.READ]),
    st.builds(Point, st.integers(0, 9), st.integers(0, 9)),
    st.builds(samples.Pair, st.integers(0, 9), st.text(max_size=2)),
)
KEYS = st.one_of(
    st.text(max_size=3), st.integers(-9, 9), st.dates(), st.uuids(), st.sampled_from(["x", "a"])
)
ANY_VALUE = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(KEYS, inner, max_size=3),
        st.frozensets(KEYS, max_size=3),
    ),
    max_leaves=6,
)


@pytest.mark.slow
@given(ANY_VALUE)
def test_msgpack_engines_write_the_same_bytes(value: Any) -> None:
    written = [
        outcome(twin.encode, value) for twin in (TWINS["msgpack"].fast, TWINS["msgpack"].plain)
    ]
    assert written[0] == written[1]


@given(ANY_VALUE)
def test_json_engines_write_the_same_meaning(value: Any) -> None:
    texts = [outcome(twin.encode, value) for twin in (TWINS["json"].fast, TWINS["json"].plain)]
    assert texts[0][0] == texts[1][0]
    if texts[0][0] == "value":
        decode = TWINS["json"].fast.decode
        assert same(decode(texts[0][1]), decode(texts[1][1]))


@given(TYPES, ANY_VALUE, st.sampled_from(["msgpack", "json"]))
def test_engines_agree_on_any_type_and_value(type_: Any, value: Any, kind: str) -> None:
    twins = TWINS[kind]
    written, data = outcome(twins.fast.encode, value)
    if written != "value":
        return
    plain_values = [outcome(twin.decode, data) for twin in (twins.fast, twins.plain)]
    assert plain_values[0][0] == plain_values[1][0] == "value"
    assert same(plain_values[0][1], plain_values[1][1])
    told = [outcome(t.convert, plain_values[0][1], type_) for t in (twins.fast, twins.plain)]
    assert told[0][0] == told[1][0], told
    assert same(told[0][1], told[1][1]), told
    read = [outcome(t.decoder(type_), data) for t in (twins.fast, twins.plain)]
    assert (read[0][0] == "value") == (read[1][0] == "value"), read
    if read[0][0] == "value":
        assert same(read[0][1], read[1][1]), read


@given(st.binary(max_size=40))
def test_no_bytes_do_more_than_raise(data: bytes) -> None:
    for codec in CODECS.values():
        for read in (codec.decode, codec.decoder(list[Point]), codec.arguments([int], 0, str)):
            outcome(read, data)


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, object(), 1j, range(3), Point, "\ud800"])
def test_what_cannot_be_sent_is_the_same_error(value: Any) -> None:
    told = []
    for twin in (TWINS["msgpack"].fast, TWINS["msgpack"].plain):
        with pytest.raises((TypeError, OverflowError, UnicodeEncodeError)) as caught:
            twin.encode([value])
        told.append((caught.type, str(caught.value)))
    assert told[0] == told[1]


class Text(str):
    __slots__ = ()


class Number(int):
    pass


@pytest.mark.parametrize("value", [Text("x"), Number(1), samples.collections.deque([1])])
def test_subclasses_that_would_lose_their_class_are_refused(codec: Any, value: Any) -> None:
    with pytest.raises(TypeError, match=rf"values of type {type(value).__name__} can't be sent"):
        codec.encode({"a": value})


@pytest.mark.parametrize(
    "value",
    [
        samples.collections.OrderedDict(a=1),
        samples.collections.Counter("a"),
        {"a": (1,)},
        enum.Flag("F", "A").A,
    ],
)
def test_subclasses_of_containers_are_sent_as_such(codec: Any, value: Any) -> None:
    codec.encode(value)


def test_bytes_of_the_wire_document() -> None:
    for twin in (TWINS["msgpack"].fast, TWINS["msgpack"].plain):
        assert twin.encode([2, 3]) == bytes.fromhex("920203")
        assert twin.encode({"type": "NoMethod", "message": "Arith.Pow"}) == bytes.fromhex(
            "82a474797065a84e6f4d6574686f64a76d657373616765a941726974682e506f77"
        )
        assert twin.decode(b"\x05") == 5
    for twin in (TWINS["json"].fast, TWINS["json"].plain):
        assert twin.encode([2, 3]) == b"[2,3]"


def test_the_hot_path_is_c() -> None:
    codec = TWINS["msgpack"].fast
    for function in (
        codec.encode,
        codec.decode,
        codec.arguments([int, list[Point]], 2, None),
        codec.arguments([], 0, None),
        codec.decoder(Point),
    ):
        assert type(function).__name__ == "builtin_function_or_method"


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 20])
def test_arguments_count(codec: Any, count: int) -> None:
    read = codec.arguments([int, str, int], 2, None)
    values = [1, "a", 3, 4, 5][:count] if count < 20 else [1] * 20
    if count in (2, 3):
        assert list(read(codec.encode(values))) == values
    else:
        assert outcome(read, codec.encode(values))[0] != "value"


@pytest.mark.parametrize("count", [16, 17, 18])
def test_more_arguments_than_a_short_array_has(codec: Any, count: int) -> None:
    read = codec.arguments([int] * 17, 16, None)
    kind, values = outcome(read, codec.encode(list(range(count))))
    assert (kind == "value") == (count < 18)
    if kind == "value":
        assert list(values) == list(range(count))


def test_rest_arguments(codec: Any) -> None:
    read = codec.arguments([int, str], 1, float)
    assert list(read(codec.encode([1]))) == [1]
    assert list(read(codec.encode([1, "a", 2, 3.5]))) == [1, "a", 2.0, 3.5]
    for bad in ([], ["a"], [1, 2], [1, "a", "b"], {"a": 1}, 5, None):
        assert outcome(read, codec.encode(bad))[0] != "value"


@pytest.mark.parametrize("payload", [{"a": 1}, 5, None, "ab", {}])
@pytest.mark.parametrize("required", [0, 1])
def test_arguments_take_arrays_only(codec: Any, payload: Any, required: int) -> None:
    for rest in (None, int):
        read = codec.arguments([int], required, rest)
        assert outcome(read, codec.encode(payload))[0] != "value"


def test_empty_payload_raises(codec: Any) -> None:
    for read in (codec.decode, codec.arguments([], 0, None), codec.arguments([int], 0, None)):
        with pytest.raises(Exception):  # noqa: B017, PT011  whichever the library has
            read(b"")


def test_values_own_their_memory(codec: Any) -> None:
    data = bytearray(codec.encode([b"abc", "text"] if codec.name == "msgpack" else ["text"]))
    value = codec.decode(memoryview(data))
    read = codec.arguments([Any] * len(value), len(value), None)(memoryview(data))
    data[:] = bytes(len(data))
    assert value[-1] == "text"
    assert list(read) == value


def test_unknown_msgpack_extensions_are_refused() -> None:
    for twin in (TWINS["msgpack"].fast, TWINS["msgpack"].plain):
        for data in (b"\xd4\x05x", b"\x91\xd4\x50x"):
            with pytest.raises(CodecError, match=r"msgpack extension type (5|80) is not known"):
                twin.decode(data)


@pytest.mark.parametrize("nanoseconds", [0, 1, 499, 500, 501, 1500, 999_999_999])
def test_nanoseconds_are_rounded(nanoseconds: int) -> None:
    stamp = b"\xc7\x0c\xff" + nanoseconds.to_bytes(4, "big") + (5).to_bytes(8, "big")
    short = b"\xd7\xff" + ((nanoseconds << 34) | 5).to_bytes(8, "big")
    for data in (stamp, short, b"\x91" + stamp, b"\x81\xa1a" + short, b"\x81" + short + b"\x01"):
        values = [twin.decode(data) for twin in (TWINS["msgpack"].fast, TWINS["msgpack"].plain)]
        assert values[0] == values[1]


BAD_JSON = [
    *(
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"1e400",
        b'"\\ud800"',
        b'["\\udc00"]',
        b"\xef\xbb\xbf1",
    ),
    *(
        b"01",
        b"1.",
        b"[1,]",
        b'{"a":1,}',
        b'"\x01"',
        b'"\xff"',
        b"[1] x",
        b"",
        b"\xc2\xa01",
        b"'a'",
    ),
    *(b"9" * 513, b"9" * 4301, "1".encode("utf-16"), b"{1:2}", b"[", b'{"a"', b"nul"),
]
GOOD_JSON = [
    b" [1 ,\n2 ]\t",
    b'"\\ud83d\\ude00"',
    b"-0",
    b"1E5",
    b'"\\/"',
    b'{"a":1,"a":2}',
    b"9" * 512,
]


@pytest.mark.parametrize("data", BAD_JSON, ids=repr)
def test_what_is_no_json_is_refused_by_both(data: bytes) -> None:
    for twin in (TWINS["json"].fast, TWINS["json"].plain):
        with pytest.raises(Exception):  # noqa: B017, PT011  whichever the library has
            twin.decode(data)


@pytest.mark.parametrize("data", GOOD_JSON, ids=lambda data: repr(data[:20]))
def test_odd_json_is_read_by_both(data: bytes) -> None:
    values = [twin.decode(data) for twin in (TWINS["json"].fast, TWINS["json"].plain)]
    assert values[0] == values[1]


OLD = samples.dataclass(type("Person", (), {"__annotations__": {"name": str}}))
NEW = samples.dataclass(
    type(
        "Person",
        (),
        {"__annotations__": {"name": str, "age": int, "tags": tuple}, "age": 0, "tags": ()},
    )
)


def test_old_and_new_services_live_together(codec: Any) -> None:
    newer = codec.encode(NEW("ann", 5, ("x",)))
    assert codec.decoder(OLD)(newer) == OLD("ann")
    assert codec.decoder(NEW)(codec.encode(OLD("ann"))) == NEW("ann", 0, ())
    assert codec.decoder(samples.Movie)(codec.encode({"a": 1, "later": 2})) == {"a": 1}
    assert codec.decoder(samples.Pair)(codec.encode([1])) == samples.Pair(1, "z")
    for value in ({"age": 5}, {}):
        with pytest.raises(Mismatch, match=r"^field 'name' is missing$"):
            codec.convert(value, NEW)


def test_msgspec_limits_hold_where_we_read_ourselves() -> None:
    codec = TWINS["msgpack"].fast
    Few = samples.Annotated[set[samples.uuid.UUID], samples.msgspec.Meta(max_length=1)]
    assert codec.convert([str(samples.U)], Few) == {samples.U}
    with pytest.raises(Mismatch, match="length <= 1"):
        codec.convert([str(samples.U), str(samples.uuid.UUID(int=6))], Few)
    with pytest.raises(Mismatch, match=r"^item 1: expected int >= 3$"):
        codec.convert([5, 1], list[samples.Annotated[int, samples.msgspec.Meta(ge=3)]])


@pytest.mark.parametrize(
    ("type_", "value", "text"),
    [
        (samples.Cat | samples.Dog, {"type": "secret"}, "field 'type': invalid value"),
        (samples.Cat | samples.Dog, {"type": "Cat"}, "field 'a' is missing"),
        (samples.Cat | samples.Dog, {"type": "Cat", "a": "x"}, "field 'a': expected int, got str"),
        (list[samples.Row], [[1], ["x"]], "item 1, item 0: expected int, got str"),
        (samples.Strict, {"a": 1, "c": 2}, "object contains unknown field c"),
        (samples.Row, 5, "expected list, got int"),
        (samples.Plain, {"a": None}, "field 'a': expected int, got None"),
    ],
)
def test_errors_that_only_msgspec_knows_are_told_alike(type_: Any, value: Any, text: str) -> None:
    with pytest.raises(Mismatch) as caught:
        TWINS["msgpack"].fast.convert(value, type_)
    assert str(caught.value) == text


def test_a_guard_that_cannot_be_kept_is_refused() -> None:
    class Tagged(samples.msgspec.Struct, tag=True):
        ids: set[samples.uuid.UUID]

    with pytest.raises(ConfigError, match=r"Tagged\.ids: .* need a guard"):
        TWINS["msgpack"].fast.decoder(Tagged)


def test_structs_that_cannot_be_told_apart_are_refused() -> None:
    codec = TWINS["msgpack"].fast
    with pytest.raises(ConfigError, match=r"can't be read: .* must be tagged"):
        codec.decoder(samples.Plain | samples.Strict)
    with pytest.raises(ConfigError, match=r"Point and Plain can't be told apart"):
        codec.decoder(Point | samples.Plain)
    with pytest.raises(ConfigError, match=r"values of type Cat \| Dog can't be sent"):
        TWINS["msgpack"].plain.decoder(samples.Cat | samples.Dog)


def test_what_is_nested_too_deeply_is_an_error_and_no_crash(codec: Any) -> None:
    value: Any = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises((RecursionError, ValueError)):
        codec.encode(value)
    if codec.name == "msgpack":  # JSON has its own limit, see test_json_limits
        with pytest.raises((RecursionError, ValueError)):
            codec.decode(b"\x91" * 1_000_000)


def test_the_engine_is_msgspec_here() -> None:
    assert ENGINE == "msgspec"


PURE = {**os.environ, "FASTRPC_PURE": "1"}
WITHOUT = """
import sys
sys.modules["msgspec"] = None
try:
    import msgspec
except ModuleNotFoundError as error:
    error.name == "msgspec" or sys.exit("another error")
from fastrpc import codec
assert codec.ENGINE == "msgpack", codec.ENGINE
assert codec.default_codecs().get("msgpack").encode([1]) == b"\\x91\\x01"
assert codec.default_codecs().get("json").decoder(set[int])(b"[1]") == {1}
"""
BROKEN = """
import sys, importlib.abc
class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "msgspec":
            raise ModuleNotFoundError("No module named 'inner'", name="inner")
sys.meta_path.insert(0, Finder())
try:
    import fastrpc.codec
except ModuleNotFoundError as error:
    sys.exit(0 if error.name == "inner" else "wrong error")
sys.exit("no error")
"""


@pytest.mark.slow
@pytest.mark.parametrize("program", [WITHOUT, BROKEN], ids=["missing", "broken"])
def test_only_a_missing_msgspec_falls_back(program: str) -> None:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=PURE)
    assert done.returncode == 0, done.stderr


def test_arguments_are_sequences(codec: Any) -> None:
    assert isinstance(codec.arguments([int], 1, None)(codec.encode([1])), Sequence)
