"""Speak CBOR with cbor2: like msgpack, with integers of any length.

Values look as they do over msgpack: a time with a zone is a tag of its own, other times,
UUIDs and decimals are text.

Rules of the room:
  * cbor2 sees only what `cbor_limits` let pass;
  * what it raises becomes a `CodecError` without its words: they repeat what was sent.
"""

import datetime as dt
from collections.abc import Callable
from typing import Any, Final

import cbor2

from fastrpc.codec.cbor_limits import BIGNUM_MAX, check_cbor
from fastrpc.codec.engine import built_in
from fastrpc.codec.limited import Limited
from fastrpc.codec.simplify import moment_text
from fastrpc.errors import CodecError
from fastrpc.wire import Serializer

_BITS_MAX: Final = BIGNUM_MAX * 8


class CborCodec(Limited):
    """Speak CBOR, RFC 8949.

    Args:
        max_depth: Deepest nesting of a payload.
        max_items: Most elements of a payload, all containers together.
    """

    name = "cbor"
    serializer = int(Serializer.CBOR)

    def encode(self, value: object, /) -> bytes:
        """Return *value* as CBOR."""
        return cbor2.dumps(built_in(value, dt.datetime), encoders=_ENCODERS)

    def decode(self, data: bytes, /) -> object:
        """Return the value in *data*, after checking its limits."""
        data = bytes(data)
        check_cbor(data, self.max_depth, self.max_items)
        try:
            return cbor2.loads(data, max_depth=self.max_depth + 2, allow_duplicate_keys=False)
        except Exception as error:
            raise CodecError(f"CBOR can't be read ({type(error).__name__})") from None


def _moment(encoder: cbor2.CBOREncoder, value: dt.datetime) -> None:
    text = moment_text(value)
    if value.utcoffset() is None:
        encoder.encode_string(text)
    else:
        encoder.encode_semantic(0, text)


def _integer(encoder: cbor2.CBOREncoder, value: int) -> None:
    if value.bit_length() > _BITS_MAX:
        raise CodecError(f"an integer of more than {BIGNUM_MAX} bytes can't be sent as CBOR")
    encoder.encode_int(value)


def _view(encoder: cbor2.CBOREncoder, value: memoryview) -> None:
    encoder.encode_bytes(bytes(value))


_ENCODERS: Final[dict[type, Callable[[Any, Any], None]]] = {
    dt.datetime: _moment,
    int: _integer,
    memoryview: _view,
}
