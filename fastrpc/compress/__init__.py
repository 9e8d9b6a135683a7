"""Turn bytes into fewer bytes and back, with a cap on what comes out.

Rules of the room:
  * bytes on both sides: nothing here knows what they mean, who sent them, or how;
  * whoever sends a payload does not decide how much memory it takes to inflate.
"""

from fastrpc.compress.contract import Compressor, Data
from fastrpc.compress.lz4_frame import Lz4Compressor
from fastrpc.compress.payload import COMPRESS_FROM, Compression, check_threshold, pack, unpack
from fastrpc.compress.registry import CompressorRegistry, choose_compressors, default_compressors
from fastrpc.compress.zlib_stream import ZlibCompressor
from fastrpc.compress.zstd_frame import ZstdCompressor

__all__ = [
    "COMPRESS_FROM",
    "Compression",
    "Compressor",
    "CompressorRegistry",
    "Data",
    "Lz4Compressor",
    "ZlibCompressor",
    "ZstdCompressor",
    "check_threshold",
    "choose_compressors",
    "default_compressors",
    "pack",
    "unpack",
]
