"""Tables travel as Arrow streams, and hostile streams are refused."""

import contextlib
import datetime as dt
import struct
from decimal import Decimal
from typing import Annotated, Any

import pyarrow as pa
import pytest
from pyarrow import ipc

from fastrpc.codec.arrow import ArrowCodec
from fastrpc.errors import CodecError, ConfigError
from fastrpc.testing.codec import CODEC_CHECKS, check_codec
from tests.codec.hostile import refusal, survives

codec = ArrowCodec()
TABLE = pa.table({"a": [1, 2, None], "b": ["x", "grüße", None]})
WIDE = pa.table(
    {
        "flags": [True, None],
        "whole": pa.array([1, 2], pa.int8()),
        "real": [1.5, None],
        "data": [b"\x00", b""],
        "lists": [[1, 2], []],
        "records": [{"x": 1, "y": "a"}, None],
        "maps": pa.array([[("a", 1)], []], pa.map_(pa.string(), pa.int32())),
        "category": pa.array(["u", "v"]).dictionary_encode(),
        "at": pa.array([dt.datetime(2026, 1, 2), None], pa.timestamp("us", "UTC")),
        "day": [dt.date(2026, 1, 2), None],
        "price": [Decimal("1.10"), None],
        "nothing": pa.nulls(2),
        "pairs": pa.array([[1, 2], [3, 4]], pa.list_(pa.int16(), 2)),
        "either": pa.UnionArray.from_sparse(
            pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["x", "y"])]
        ),
    }
)
BATCH = TABLE.to_batches()[0]
SAMPLES = [
    (pa.Table, TABLE),
    (pa.Table, WIDE),
    (pa.Table, TABLE.schema.empty_table()),
    (pa.RecordBatch, BATCH),
    (pa.Table | None, None),
    (None, None),
]


@pytest.mark.parametrize("check", CODEC_CHECKS)
def test_conforms(check: str) -> None:
    check_codec(codec, SAMPLES, only=check)


def test_the_payload_is_an_ipc_stream() -> None:
    assert ipc.open_stream(codec.encode((TABLE,))).read_all() == TABLE
    assert codec.encode(()) == b""


def test_batches() -> None:
    read = codec.decoder(pa.RecordBatch)
    assert read(codec.encode(TABLE)) == BATCH
    assert read(codec.encode(TABLE.schema.empty_table())).num_rows == 0
    two = pa.Table.from_batches([BATCH, BATCH])
    assert codec.decoder(pa.Table)(codec.encode(two)) == two
    assert "expected one record batch, got 2" in refusal(read, codec.encode(two))


def test_what_is_no_table_is_refused() -> None:
    for value, text in ((5, "got int"), ({"t": TABLE}, "not by name"), ((TABLE, 1), "got 2")):
        with pytest.raises(CodecError, match=text):
            codec.encode(value)
    for wanted in (int, Any, list[pa.Table], pa.Array, Annotated[int, TABLE.schema]):
        with pytest.raises(ConfigError, match="the arrow codec carries a pyarrow"):
            codec.decoder(wanted)


SCHEMA = pa.schema(
    [pa.field("a", pa.int64(), nullable=False), pa.field("b", pa.float64()), ("c", pa.string())]
)


def test_a_schema_in_the_annotation_is_what_arrives() -> None:
    read = codec.decoder(Annotated[pa.Table, SCHEMA])
    given = pa.table({"z": [1], "b": [2], "a": pa.array([3], pa.int32())})
    assert read(codec.encode(given)) == pa.table({"a": [3], "b": [2.0], "c": [None]}, schema=SCHEMA)
    assert codec.decoder(Annotated[pa.Table, "a note"])(codec.encode(given)) == given


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"b": [1.5]}, "column 'a': it is missing"),
        ({"a": [None, 1]}, "column 'a': it has nulls"),
        ({"a": ["1"]}, "column 'a': expected int64, got another type"),
        ({"a": [1.5]}, "column 'a': expected int64, got numbers out of its range"),
        ({"a": pa.array([2**63], pa.uint64())}, "numbers out of its range"),
    ],
)
def test_columns_that_do_not_fit(given: Any, text: str) -> None:
    read = codec.decoder(Annotated[pa.Table, SCHEMA])
    assert text in refusal(read, codec.encode(pa.table(given)))


def test_a_column_that_comes_twice() -> None:
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    read = codec.decoder(Annotated[pa.Table, SCHEMA])
    assert "it comes more than once" in refusal(read, codec.encode(twice))


def usable(data: bytes) -> Any:
    """Read a table and look at every value of it."""
    table = codec.decoder(pa.Table)(data)
    with contextlib.suppress(ValueError, OverflowError, ArithmeticError):
        table.to_pylist()  # a date may be one that Python does not have
    return table


@pytest.mark.slow
def test_damage_is_an_error_or_another_table() -> None:
    before = pa.total_allocated_bytes()
    for table in (TABLE, WIDE.select(["lists", "category", "either"])):
        data = codec.encode(table)
        assert survives(usable, data) > 100
        assert pa.total_allocated_bytes() - before < 2**22


def stream(table: Any, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, table.schema, options=ipc.IpcWriteOptions(**options)) as out:
        out.write(table)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def test_compressed_streams_are_refused() -> None:
    for name in ("lz4", "zstd"):
        data = stream(pa.table({"a": [0] * 1000}), compression=name)
        assert "a compressed Arrow stream is not taken" in refusal(codec.decoder(pa.Table), data)


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["x"], pa.string_view()),
        pa.array([b"x"], pa.binary_view()),
        pa.array([[1]], pa.list_view(pa.int8())),
        pa.array([[1]], pa.large_list_view(pa.int8())),
        pa.RunEndEncodedArray.from_arrays([2], [1]),
        pa.array([{"in": ["x"]}], pa.struct([("in", pa.list_(pa.string_view()))])),
    ],
    ids=lambda column: str(column.type),
)
def test_types_whose_rows_share_memory_are_refused(column: Any) -> None:
    table = pa.table({"a": column})
    with pytest.raises(CodecError, match="a type that is not taken"):
        codec.encode(table)
    assert "a type that is not taken" in refusal(codec.decoder(pa.Table), stream(table))


def test_rows_without_bytes() -> None:
    assert usable(codec.encode(pa.table({"a": pa.nulls(100_000)}))).num_rows == 100_000
    for rows in (100_001, 2**31 - 1):
        nulls = pa.NullArray.from_buffers(pa.null(), rows, [None])
        batch = pa.RecordBatch.from_arrays([nulls], names=["a"])
        assert "more than 100000 rows" in refusal(codec.decoder(pa.Table), stream(batch))


def test_limits() -> None:
    many = pa.table({f"c{number}": [number] for number in range(20)})
    data = stream(many)
    assert ArrowCodec(max_items=41).decoder(pa.Table)(data) == many
    assert "max_items" in refusal(ArrowCodec(max_items=40).decoder(pa.Table), data)
    assert "max_items" in refusal(ArrowCodec(max_items=19).decoder(pa.Table), data)
    batches = stream(pa.Table.from_batches([BATCH] * 50))
    assert "max_items" in refusal(ArrowCodec(max_items=100).decoder(pa.Table), batches)
    deep = pa.array([1])
    for _ in range(9):
        deep = pa.ListArray.from_arrays([0, 1], deep)
    assert ArrowCodec(max_depth=10).decoder(pa.Table)(stream(pa.table({"a": deep})))
    assert "max_depth" in refusal(
        ArrowCodec(max_depth=9).decoder(pa.Table), stream(pa.table({"a": deep}))
    )


def flat(*words: int) -> bytes:
    data = struct.pack(f"<{len(words)}i", *words)
    return b"\xff\xff\xff\xff" + struct.pack("<i", len(data)) + data


EOS = b"\xff\xff\xff\xff\x00\x00\x00\x00"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "it does not end where it should"),
        (EOS, "it does not end where it should"),
        (codec.encode(TABLE) + b"\x00", "it does not end where it should"),
        (codec.encode(TABLE)[8:], "a message does not begin as it should"),
        (b"\xff\xff\xff\xff\xff\xff\xff\x7f", "a message is longer than what is left"),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff", "a message is longer than what is left"),
        (flat(1000), "a place is outside of its message"),
        (flat(-4), "a place is outside of its message"),
        (flat(0), "a message has nothing in it"),
        (flat(4, 2**31 - 1), "a place is outside of its message"),
        (codec.encode(TABLE)[:-8] * 2, "a schema is not where it should be"),
    ],
)
def test_malformed_streams(data: bytes, text: str) -> None:
    assert text in refusal(codec.decoder(pa.Table), data)


def test_without_an_end_mark_it_ends_with_its_bytes() -> None:
    assert codec.decoder(pa.Table)(codec.encode(TABLE)[:-8]) == TABLE


def test_shared_parts_are_counted_every_time() -> None:
    # All fields of a wide schema are made to be one field, whose name is long.
    names = ["n" * 5000, *(f"c{number}" for number in range(300))]
    data = stream(pa.table({name: [1] for name in names}))
    (size,) = struct.unpack_from("<i", data, 4)
    places = _vector_of(data[8 : 8 + size], len(names))
    first = places[0] + struct.unpack_from("<I", data, 8 + places[0])[0]
    changed = bytearray(data)
    for place in places:
        struct.pack_into("<I", changed, 8 + place, (first - place) % 2**32)
    assert "uses its parts too often" in refusal(codec.decoder(pa.Table), bytes(changed))


def _vector_of(data: bytes, count: int) -> list[int]:
    """Return the places of the items of the only vector that has *count* of them."""
    at = data.index(struct.pack("<I", count)) + 4
    return [at + 4 * number for number in range(count)]
