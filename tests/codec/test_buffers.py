"""Arrays arrive as what they were; what a peer says of them is checked."""

import pickle
import tracemalloc
from typing import Any

import msgpack
import numpy as np
import numpy.typing as npt
import pytest

from fastrpc.codec import JsonCodec, Mismatch, MsgpackCodec
from fastrpc.codec.buffers import BESIDE_FROM
from fastrpc.codec.pickled import PickleCodec
from fastrpc.codec.plain import JsonCodec as PlainJson
from fastrpc.codec.plain import MsgpackCodec as PlainMsgpack
from fastrpc.errors import CodecError

ENGINES = [MsgpackCodec, PlainMsgpack]
ARRAYS = [
    np.arange(6, dtype=dtype).reshape(2, 3)
    for dtype in ("i1", ">i2", "<u4", "u8", "f2", ">f4", "f8", "c8")
] + [
    np.array([True, False]),
    np.array(5.0), np.zeros((0, 3)), np.zeros((2, 0)), np.array(["a", "bcd"]), np.array([b"x", b"yz"]),
    np.array(["2026-01-02"], dtype="M8[D]"), np.array([3], dtype="m8[ms]"),
    np.asfortranarray(np.arange(12).reshape(3, 4)), np.arange(20)[::3], np.arange(20)[::-1],
]  # fmt: skip


def same(one: Any, other: Any) -> bool:
    return (
        one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    )


@pytest.mark.parametrize("make", ENGINES)
@pytest.mark.parametrize("number", range(len(ARRAYS)))
def test_small_ones_go_inside(make: Any, number: int) -> None:
    codec, array = make(), ARRAYS[number]
    codec.buffers.taken = taken = []
    for read in (codec.decode, codec.decoder(np.ndarray), codec.decoder(Any)):
        assert same(read(codec.encode(array)), array)
    (inside,) = codec.decode(codec.encode([array]))
    assert same(inside, array)
    assert inside.flags.writeable
    assert taken == []


def test_both_engines_write_the_same() -> None:
    for array in ARRAYS:
        assert MsgpackCodec().encode(array) == PlainMsgpack().encode(array)


@pytest.mark.parametrize("make", [*ENGINES, PickleCodec])
def test_large_ones_go_beside(make: Any) -> None:
    codec = make()
    codec.buffers.taken = taken = []
    array = np.arange(BESIDE_FROM, dtype=">u2").reshape(2, -1)
    payload = codec.encode({"deep": [array]})
    assert len(payload) < 300
    assert [memoryview(each).nbytes for each in taken] == [array.nbytes]
    assert np.shares_memory(np.frombuffer(taken[0], "u1"), array)  # not a copy
    arrived = codec.buffers.read(codec.decode, payload, [bytes(each) for each in taken])
    (found,) = arrived["deep"]
    assert same(found, array)
    assert found.flags.writeable
    assert codec.buffers.given == []


@pytest.mark.parametrize("make", ENGINES)
def test_large_bytes_are_lifted(make: Any) -> None:
    codec = make()
    codec.buffers.taken = taken = []
    given = [b"a" * BESIDE_FROM, bytearray(b"b" * BESIDE_FROM), memoryview(b"c" * BESIDE_FROM), b"d", 5,
             memoryview(bytes(2 * BESIDE_FROM))[::2]]  # fmt: skip
    lifted = codec.lift(given)
    assert lifted[3] == b"d"
    assert lifted[4] == 5
    assert lifted[5] is given[5]  # not in one piece
    payload = codec.encode(lifted[:5])
    assert len(payload) < 100
    arrived = codec.buffers.read(codec.decode, payload, [bytes(each) for each in taken])
    assert arrived == [bytes(each) for each in given[:3]] + [b"d", 5]  # type: ignore[arg-type]


@pytest.mark.parametrize("make", ENGINES)
def test_a_peer_that_takes_nothing_beside_gets_it_inside(make: Any) -> None:
    codec = make()
    codec.buffers.taken = taken = []
    array = np.zeros(BESIDE_FROM)
    payload = codec.buffers.inline(codec.encode, array)
    assert same(codec.decode(payload), array)
    assert taken == []
    assert codec.buffers.taken is taken


def ext(code: int, data: bytes) -> bytes:
    return msgpack.packb(msgpack.ExtType(code, data))  # type: ignore[no-any-return]


def parts(*values: Any) -> bytes:
    return ext(0x51, msgpack.packb(list(values)))


HOSTILE = [
    ext(0x50, b"\0\0\0\7"), ext(0x50, b"\0\0\0"), ext(0x50, b""), ext(0x51, b""), ext(0x51, b"\xc1"),
    ext(0x52, b"x"), parts(), parts("f8"), parts("f8", [1]), parts("f8", [1], b"x"), parts("f8", [2**62], b""),
    parts("f8", [-1], b""), parts("f8", [2**40, 2**40], b""), parts("O", [1], bytes(8)),
    parts("V8", [1], 5), parts("i4,f8", [1], bytes(12)), parts("nonsense", [1], b"x"),
    parts("f8", [1] * 33, bytes(8)), parts("f8", ["1"], bytes(8)), parts(5, [1], bytes(8)),
    parts("f8", [1], "12345678"), parts("f8", [True], bytes(8)), parts("f8", [1], bytes(8), 1),
    parts("f8", 1, bytes(8)), parts("f8", [1], -1), parts("f8", [1], 2**63), parts("S0", [10**9], b""),
    parts("f8", [0, 2**62], b""), parts("x" * 10_000, [1], b""), parts("datetime64[10000000000000Y]", [1], bytes(8)),
]  # fmt: skip


@pytest.mark.parametrize("make", ENGINES)
@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_what_is_no_array_is_refused(make: Any, number: int) -> None:
    codec = make()
    with pytest.raises(CodecError):
        codec.decode(HOSTILE[number])


@pytest.mark.parametrize("make", ENGINES)
def test_the_golden_bytes_are_read_and_written(make: Any) -> None:
    """The payload of the wire document's frame with segments: the payload itself is number 0."""
    codec, data = make(), np.array([1.0, 2.0]).tobytes()
    payload = bytes.fromhex("91d65000000001")
    assert codec.buffers.read(codec.decode, payload, [data]) == [data]
    codec.buffers.taken = taken = []
    (lifted,) = codec.lift([bytes(BESIDE_FROM)])
    assert codec.encode([lifted]) == payload
    assert len(taken) == 1
    with pytest.raises(CodecError, match="there is no buffer 0; 1 came"):
        codec.buffers.read(codec.decode, bytes.fromhex("91d65000000000"), [data])


@pytest.mark.parametrize("make", ENGINES)
def test_a_buffer_belongs_to_one_value(make: Any) -> None:
    codec = make()
    twice = msgpack.packb([msgpack.ExtType(0x51, msgpack.packb(["u1", [4], 1]))] * 2)
    with pytest.raises(CodecError, match="buffer 1 is meant twice"):
        codec.buffers.read(codec.decode, twice, [b"abcd"])


def test_annotations_are_kept_to() -> None:
    codec = MsgpackCodec()
    exact = codec.decoder(npt.NDArray[np.float64])
    assert same(exact(codec.encode(np.ones(3))), np.ones(3))
    with pytest.raises(Mismatch, match="expected ndarray of float64, got ndarray of int64"):
        exact(codec.encode(np.ones(3, "i8")))
    with pytest.raises(Mismatch, match="expected ndarray, got str"):
        codec.decoder(np.ndarray)(codec.encode("x"))
    assert same(
        codec.decoder(npt.NDArray[np.float32])(codec.encode([1, 2])), np.array([1, 2], "f4")
    )
    family = codec.decoder(npt.NDArray[np.floating[Any]])
    assert family(codec.encode(np.ones(3, "f2"))).dtype == "f2"
    args = codec.arguments([int, np.ndarray], 2, None)(codec.encode((1, np.ones(2))))
    assert args[0] == 1
    assert same(args[1], np.ones(2))


@pytest.mark.parametrize("make", [JsonCodec, PlainJson])
def test_text_has_lists(make: Any) -> None:
    codec = make()
    data = codec.encode(np.array([[1.5, 2.0]]))
    assert codec.decode(data) == [[1.5, 2.0]]
    assert same(codec.decoder(npt.NDArray[np.float32])(data), np.array([[1.5, 2.0]], "f4"))
    for wrong in (b"[[1],[1,2]]", b'[{"a":1}]', b'["x"]'):
        with pytest.raises(Mismatch):
            codec.decoder(npt.NDArray[np.float64])(wrong)
    with pytest.raises(TypeError, match="can't be sent as text"):
        codec.encode(np.zeros(1, "c8"))


@pytest.mark.parametrize("make", [MsgpackCodec, PlainMsgpack, JsonCodec, PlainJson])
def test_numbers_of_numpy_are_numbers(make: Any) -> None:
    codec = make()
    assert codec.decode(codec.encode([np.float64(1.5), np.int32(7), np.bool_(True)])) == [
        1.5,
        7,
        True,
    ]


@pytest.mark.parametrize("make", [MsgpackCodec, PlainMsgpack, JsonCodec, PlainJson])
@pytest.mark.parametrize("dtype", ["O", "i4,f8"])
def test_what_is_no_plain_array_is_not_sent(make: Any, dtype: str) -> None:
    with pytest.raises(TypeError, match="can't be sent"):
        make().encode(np.zeros(2, dtype))


def test_small_buffers_stay_in_a_pickle() -> None:
    codec = PickleCodec()
    codec.buffers.taken = taken = []
    small = np.arange(10)
    assert same(pickle.loads(codec.encode(small)), small)
    assert taken == []


@pytest.mark.parametrize("make", ENGINES)
@pytest.mark.parametrize(
    "dtype",
    [
        "M8[1s/0]", "m8[1s/2]", "M8[0s]", "M8[-1s]", "M8[s]x", "i1,i1", "i4, (2,)f8", "(100000,)i4",
        "{'names':['a'],'formats':['i1']}", "O", "|O", "i8" * 20, "int64", "f" + "9" * 30, " i8", "i8\n",
        "<", "", "U" + "9" * 10, "M8[999999999999999999Y]",
    ],
)  # fmt: skip
def test_only_what_arrays_say_of_themselves_is_asked_of_numpy(make: Any, dtype: str) -> None:
    codec = make()
    data = msgpack.packb([dtype, [1], bytes(8)])
    with pytest.raises(CodecError, match="dtype"):
        codec.decode(msgpack.packb(msgpack.ExtType(0x51, data)))


@pytest.mark.parametrize("make", ENGINES)
@pytest.mark.parametrize("count", [33, 65_535, 65_536, 1_000_000])
def test_a_shape_is_not_read_to_its_end(make: Any, count: int) -> None:
    codec = make()
    data = msgpack.packb(["u1", [0] * count, b""])
    tracemalloc.start()
    try:
        payload = msgpack.packb(msgpack.ExtType(0x51, data))
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        with pytest.raises(CodecError, match="dimensions"):
            codec.decode(payload)
        assert tracemalloc.get_traced_memory()[1] - before < 3 * len(payload) + 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("make", ENGINES)
def test_arrays_of_every_sort_say_so_in_what_is_taken(make: Any) -> None:
    codec = make()
    for dtype in [
        *"?bhilqBHILQefdgFDG",
        "S3",
        "U5",
        "V4",
        "M8[ns]",
        "m8[25s]",
        "M8[D]",
        "m8",
        ">i4",
        ">U2",
    ]:
        array = np.zeros(3, dtype)
        assert codec.decode(codec.encode(array)).dtype == array.dtype
