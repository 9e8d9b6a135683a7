"""Every compressor of the house passes the checks that are made for users, too."""

import threading
import zlib
from typing import Any

import pytest

from fastrpc.compress import (
    Compressor,
    CompressorRegistry,
    Lz4Compressor,
    ZlibCompressor,
    ZstdCompressor,
)
from fastrpc.testing.compressor import COMPRESSOR_CHECKS, check_compressor

COMPRESSORS: dict[str, Compressor] = {
    "zlib": ZlibCompressor(),
    "zlib, smallest": ZlibCompressor(level=9),
    "zstd": ZstdCompressor(),
    "zstd, fastest": ZstdCompressor(level=1),
    "lz4": Lz4Compressor(),
    "lz4, smaller": Lz4Compressor(level=3),
}


@pytest.mark.parametrize("check", COMPRESSOR_CHECKS)
@pytest.mark.parametrize("name", COMPRESSORS)
def test_compressor_conforms(name: str, check: str) -> None:
    check_compressor(COMPRESSORS[name], only=check)


class Broken:
    """A compressor of a user's own that is fine until a test breaks one part."""

    name = "broken"

    def __init__(self) -> None:
        inner = ZlibCompressor()
        self.compress: Any = inner.compress
        self.decompress: Any = inner.decompress


def test_a_compressor_of_a_users_own_conforms() -> None:
    compressor = Broken()
    check_compressor(compressor)
    assert CompressorRegistry([compressor]).names == ("broken",)


def all_of_it(data: bytes, size: int) -> bytes:
    plain = zlib.decompress(data)
    if len(plain) != size:
        raise ValueError(size)
    return plain


def padded(data: bytes, size: int) -> bytes:
    return (zlib.decompress(data) + bytes(size))[:size]


def whatever_follows(data: bytes, size: int) -> bytes:
    stream = zlib.decompressobj()
    plain = stream.decompress(data)
    if len(plain) != size or not stream.eof:
        raise ValueError(size)
    return plain


def believing(data: bytes, size: int) -> bytes:
    plain = bytearray(size)
    plain[:] = all_of_it(data, size)
    return bytes(plain)


def only_bytes(data: bytes) -> bytes:
    if not isinstance(data, bytes):
        raise TypeError("bytes, please")
    return zlib.compress(data)


def only_here(data: bytes, size: int) -> bytes:
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("not in this thread")
    return zlib.decompress(data)


BREAKS: dict[str, tuple[str, Any]] = {
    "identity": ("name", "Not Lower"),
    "round trip": ("decompress", lambda data, size: bytearray(zlib.decompress(data))),
    "smaller": ("compress", lambda data: zlib.compress(data, 0)),
    "exact size": ("decompress", lambda data, size: zlib.decompress(data)),
    "end": ("decompress", whatever_follows),
    "damaged": ("decompress", padded),
    "bomb": ("decompress", all_of_it),
    "promise": ("decompress", believing),
    "buffers": ("compress", only_bytes),
    "threads": ("decompress", only_here),
}


@pytest.mark.parametrize("check", BREAKS)
def test_the_checks_find_what_is_broken(check: str) -> None:
    compressor = Broken()
    attribute, value = BREAKS[check]
    setattr(compressor, attribute, value)
    with pytest.raises(AssertionError, match=rf"^{check} of compressor "):
        check_compressor(compressor, only=check)


def test_every_check_is_known_to_find_something() -> None:
    assert set(BREAKS) == set(COMPRESSOR_CHECKS)
