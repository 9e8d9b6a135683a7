"""Choose the library under msgpack and JSON: msgspec, or else the plain one.

Rules of the room:
  * only a missing msgspec falls back; a broken one raises;
  * both engines give the same bytes, values and error texts.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastrpc.codec.fast import Described, JsonCodec, MsgpackCodec, built_in

    ENGINE = "msgspec"
else:
    try:
        from fastrpc.codec.fast import Described, JsonCodec, MsgpackCodec, built_in

        ENGINE = "msgspec"
    except ModuleNotFoundError as exc:
        if exc.name != "msgspec":  # something inside it is missing: say so
            raise
        from fastrpc.codec.plain import Described, JsonCodec, MsgpackCodec, built_in

        ENGINE = "msgpack"

__all__ = ["ENGINE", "Described", "JsonCodec", "MsgpackCodec", "built_in"]
