"""Frames into bytes and bytes into frames.

A group has one line for each twin, so that the table shows their ratio.
"""

from types import SimpleNamespace
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.values import SMALL
from fastrpc.codec import default_codecs
from fastrpc.wire import Kind, Serializer

PAYLOAD = default_codecs().get("msgpack").encode((SMALL,))
NAME = b"Arith.add"
BATCH = 64

HEADERS: dict[str, dict[str, Any]] = {
    "20 bytes, a reply": {"reply": True},
    "24 bytes, a call by number": {"arg": 1},
    "28 bytes, with a deadline": {"arg": 1, "time": 30_000},
    "32 bytes, with its name": {"arg": 1, "name": NAME},
}


@pytest.mark.parametrize("header", HEADERS)
def test_encode_frame(benchmark: BenchmarkFixture, twin: SimpleNamespace, header: str) -> None:
    benchmark.group = f"encode a frame, header of {header}"
    encode, fields = twin.encode_frame, HEADERS[header]
    msgpack = int(Serializer.MSGPACK)

    def encode_one() -> bytes:
        frame: bytes = encode(0, 7, serializer=msgpack, payload=PAYLOAD, **fields)
        return frame

    assert benchmark(encode_one).endswith(PAYLOAD)


def frames(twin: SimpleNamespace, count: int, payload: bytes) -> bytes:
    """Return *count* calls behind one another."""
    return b"".join(
        twin.encode_frame(Kind.CALL, id, serializer=1, arg=1, payload=payload)
        for id in range(1, count + 1)
    )


def test_decode_batch(benchmark: BenchmarkFixture, twin: SimpleNamespace) -> None:
    benchmark.group = f"decode a read of {BATCH} small frames"
    decoder, chunk = twin.FrameDecoder(), frames(twin, BATCH, PAYLOAD)
    assert len(benchmark(decoder.feed, chunk)) == BATCH


def test_decode_one(benchmark: BenchmarkFixture, twin: SimpleNamespace) -> None:
    benchmark.group = "decode a read of one small frame"
    decoder, chunk = twin.FrameDecoder(), frames(twin, 1, PAYLOAD)
    assert len(benchmark(decoder.feed, chunk)) == 1


def test_decode_cut(benchmark: BenchmarkFixture, twin: SimpleNamespace) -> None:
    benchmark.group = "decode a small frame that comes in two reads"
    decoder, chunk = twin.FrameDecoder(), frames(twin, 1, PAYLOAD)
    head, rest = chunk[:30], chunk[30:]

    def feed_both() -> int:
        return len(decoder.feed(head)) + len(decoder.feed(rest))

    assert benchmark(feed_both) == 1


def test_decode_large(benchmark: BenchmarkFixture, twin: SimpleNamespace) -> None:
    benchmark.group = "decode a frame of 1 MiB in reads of 64 KiB"
    decoder, whole = twin.FrameDecoder(), frames(twin, 1, bytes(2**20))
    reads = [whole[at : at + 2**16] for at in range(0, len(whole), 2**16)]

    def feed_all() -> int:
        return sum(len(decoder.feed(read)) for read in reads)

    assert benchmark(feed_all) == 1


@pytest.mark.parametrize("shape", ["flat", "nested"])
def test_check_msgpack(benchmark: BenchmarkFixture, twin: SimpleNamespace, shape: str) -> None:
    benchmark.group = f"check the limits of a payload of 1,000 {shape} items"
    flat: list[object] = list(range(1000))
    value = flat if shape == "flat" else [[number] for number in flat]
    payload = default_codecs().get("msgpack").encode(value)
    assert benchmark(twin.check_msgpack, payload, 64, 100_000) == ""
