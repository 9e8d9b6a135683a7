"""What the tests of all compressors share."""

from typing import Any

import pytest

from fastrpc.compress import (
    Compressor,
    Data,
    Lz4Compressor,
    ZlibCompressor,
    ZstdCompressor,
    lz4_frame,
    zlib_stream,
    zstd_frame,
)
from fastrpc.compress.inflate import Step, inflate

COMPRESSORS: dict[str, Compressor] = {
    "zstd": ZstdCompressor(),
    "lz4": Lz4Compressor(),
    "zlib": ZlibCompressor(),
}
MODULES: dict[str, Any] = {"zstd": zstd_frame, "lz4": lz4_frame, "zlib": zlib_stream}

TEXT = b'{"id": 7, "name": "grace", "tags": ["red", "admin"], "score": 0.5}, ' * 30

NO_FRAME = b"\x50\x2a\x4d\x18\x04\x00\x00\x00skip"  # both zstd and lz4 pass it over


class Fed:
    """Counts the bytes that a library is given to inflate."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.count = 0
        monkeypatch.setattr(MODULES[name], "inflate", self._inflate)

    def _inflate(self, name: str, step: Step, data: Data, size: int, lag: int) -> bytes:
        def counted(piece: Data, most: int) -> tuple[bytes, Data, bool]:
            self.count += len(piece)
            return step(piece, most)

        return inflate(name, counted, data, size, lag)
