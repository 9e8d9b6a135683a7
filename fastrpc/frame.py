"""Open the compiled twins, or the pure ones. Nothing else may open either.

Only a missing extension falls back; a broken one raises. `FASTRPC_PURE=1` asks
for the pure twins, `COMPILED` says which are open.
"""

import os
from typing import TYPE_CHECKING

_PURE = os.environ.get("FASTRPC_PURE", "0") not in ("", "0")

if TYPE_CHECKING or _PURE:
    from fastrpc._frame_py import CallTable, Frame, FrameDecoder, check_msgpack, encode_frame
    from fastrpc._lane_py import BoundCall, Caller, Lane, LoopShare, Method, drive

    COMPILED = False
else:
    try:
        from fastrpc._frame import CallTable, Frame, FrameDecoder, check_msgpack, encode_frame
        from fastrpc._lane import BoundCall, Caller, Lane, LoopShare, Method, drive

        COMPILED = True
    except ModuleNotFoundError as exc:
        if exc.name != "fastrpc._frame":  # something inside it is missing: say so
            raise
        from fastrpc._frame_py import CallTable, Frame, FrameDecoder, check_msgpack, encode_frame
        from fastrpc._lane_py import BoundCall, Caller, Lane, LoopShare, Method, drive

        COMPILED = False

__all__ = [
    "COMPILED",
    "BoundCall",
    "CallTable",
    "Caller",
    "Frame",
    "FrameDecoder",
    "Lane",
    "LoopShare",
    "Method",
    "check_msgpack",
    "drive",
    "encode_frame",
]
