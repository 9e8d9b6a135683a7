"""Turn objects into bytes and bytes into objects.

Rules of the room:
  * objects above, bytes below: nothing here knows frames, calls or sockets;
  * a type annotation is the whole schema: unknown fields of a record are ignored
    and missing ones take their default, so old and new services live together.
"""

from fastrpc.codec.contract import Codec, Mismatch
from fastrpc.codec.engine import ENGINE, JsonCodec, MsgpackCodec
from fastrpc.codec.extras import extra
from fastrpc.codec.raw import RawCodec
from fastrpc.codec.registry import CodecRegistry, default_codecs, is_typed_only

__all__ = [
    "ENGINE",
    "Codec",
    "CodecRegistry",
    "JsonCodec",
    "Mismatch",
    "MsgpackCodec",
    "RawCodec",
    "default_codecs",
    "extra",
    "is_typed_only",
]
