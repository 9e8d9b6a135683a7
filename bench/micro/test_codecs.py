"""The codecs on the small value: plain, as arguments of a method, as a typed result."""

from collections.abc import Callable
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.values import SMALL, Small
from fastrpc.codec import default_codecs

CODECS = default_codecs()
NAMES = ["msgpack", "json"]


def work(name: str) -> dict[str, Callable[[], Any]]:
    """Return what one codec is timed at."""
    codec = CODECS.get(name)
    encoded, arguments = codec.encode(SMALL), codec.encode((SMALL,))
    untyped = codec.arguments([Any], 1, None)
    typed, result = codec.arguments([Small], 1, None), codec.decoder(Small)
    small = Small(**SMALL)
    return {
        "encode a dict": lambda: codec.encode(SMALL),
        "encode a dataclass": lambda: codec.encode(small),
        "decode a dict": lambda: codec.decode(encoded),
        "decode untyped arguments": lambda: untyped(arguments),
        "decode typed arguments": lambda: typed(arguments),
        "decode a typed result": lambda: result(encoded),
    }


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("what", work("msgpack"))
def test_codec(benchmark: BenchmarkFixture, what: str, name: str) -> None:
    benchmark.group = what
    assert benchmark(work(name)[what])
