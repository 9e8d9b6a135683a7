"""The raw codec gives and takes bytes, and says so when it can't."""

from typing import Any

import pytest

from fastrpc.codec import Mismatch, RawCodec
from fastrpc.errors import CodecError, ConfigError

codec = RawCodec()


def test_encode() -> None:
    data = b"abc"
    assert codec.encode(data) is data
    assert codec.encode(bytearray(data)) == codec.encode(memoryview(data)) == data
    for value in ("x", None, 5, [b"x"]):
        with pytest.raises(CodecError, match=rf"takes bytes only, got {type(value).__name__}"):
            codec.encode(value)


@pytest.mark.parametrize("type_", [bytes, Any, object, bytearray, memoryview])
def test_decoder(type_: Any) -> None:
    value = codec.decoder(type_)(b"abc")
    assert value == b"abc"
    assert type(value) is (type_ if type_ in (bytearray, memoryview) else bytes)
    assert codec.convert(b"abc", type_) == b"abc"
    assert codec.arguments([type_], 1, None)(b"abc")[0] == b"abc"


def test_other_types_are_refused() -> None:
    for build in (codec.decoder, lambda type_: codec.arguments([type_], 1, None)):
        with pytest.raises(ConfigError, match="the raw codec gives bytes"):
            build(int)
    with pytest.raises(Mismatch):
        codec.convert(b"x", int)
    with pytest.raises(Mismatch, match="expected bytes, got int"):
        codec.convert(5, bytes)


def test_arguments() -> None:
    assert codec.arguments([], 0, None)(b"") == ()
    with pytest.raises(Mismatch, match="expected no arguments, got 1 bytes"):
        codec.arguments([], 0, None)(b"x")
    assert codec.arguments([], 0, bytes)(b"x") == (b"x",)
    assert codec.arguments([bytes, int], 1, None)(b"x") == (b"x",)
    with pytest.raises(ConfigError, match="carries one argument"):
        codec.arguments([bytes, bytes], 2, None)
