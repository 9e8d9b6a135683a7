"""Open the compiled twins, or the pure ones. Nothing else may open either.

Only a missing extension falls back; a broken one raises. `FASTRPC_PURE=1` asks
for the pure twins, `COMPILED` says which are open.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING

#: The compiled twins; the pure ones have "_py" behind their names.
UNITS = (
    "fastrpc._frame", "fastrpc._lane", "fastrpc._stream", "fastrpc._caller", "fastrpc._chain",
    "fastrpc._pick",
)  # fmt: skip
_PURE = os.environ.get("FASTRPC_PURE", "0") not in ("", "0")


def _is_built() -> bool:
    from importlib.util import find_spec  # the common way does without

    return any(find_spec(unit) for unit in UNITS)


COMPILED = False
if not (TYPE_CHECKING or _PURE):
    try:
        for unit in UNITS:
            import_module(unit)
        COMPILED = True
    except ModuleNotFoundError:
        if _is_built():  # half of it, or something inside is missing: say so
            raise

if TYPE_CHECKING or not COMPILED:
    from fastrpc._caller_py import BoundCall, ByteStream, Caller, Exchange, Turns, Waiter
    from fastrpc._chain_py import (
        AtOnce,
        CallFields,
        ChainCaller,
        Done,
        Pending,
        ReplyFields,
        Sender,
        Sent,
        Through,
        advance,
        begin,
        checked,
        innermost,
    )
    from fastrpc._frame_py import (
        CallTable,
        Frame,
        FrameDecoder,
        check_msgpack,
        encode_frame,
        encode_pieces,
        release_bodies,
        writable,
    )
    from fastrpc._lane_py import Durations, Lane, LoopShare, Method, drive
    from fastrpc._pick_py import (
        Bounded,
        ClusterCall,
        ClusterCaller,
        InFlight,
        Line,
        MemberFields,
        Picked,
        Rota,
        TwoChoices,
        scattered,
    )
    from fastrpc._stream_py import Inlet, ItemReader, Outlet
else:
    from fastrpc._caller import BoundCall, ByteStream, Caller, Exchange, Turns, Waiter
    from fastrpc._chain import (
        AtOnce,
        CallFields,
        ChainCaller,
        Done,
        Pending,
        ReplyFields,
        Sender,
        Sent,
        Through,
        advance,
        begin,
        checked,
        innermost,
    )
    from fastrpc._frame import (
        CallTable,
        Frame,
        FrameDecoder,
        check_msgpack,
        encode_frame,
        encode_pieces,
        release_bodies,
        writable,
    )
    from fastrpc._lane import Durations, Lane, LoopShare, Method, drive
    from fastrpc._pick import (
        Bounded,
        ClusterCall,
        ClusterCaller,
        InFlight,
        Line,
        MemberFields,
        Picked,
        Rota,
        TwoChoices,
        scattered,
    )
    from fastrpc._stream import Inlet, ItemReader, Outlet

__all__ = [
    "COMPILED",
    "AtOnce",
    "BoundCall",
    "Bounded",
    "ByteStream",
    "CallFields",
    "CallTable",
    "Caller",
    "ChainCaller",
    "ClusterCall",
    "ClusterCaller",
    "Done",
    "Durations",
    "Exchange",
    "Frame",
    "FrameDecoder",
    "InFlight",
    "Inlet",
    "ItemReader",
    "Lane",
    "Line",
    "LoopShare",
    "MemberFields",
    "Method",
    "Outlet",
    "Pending",
    "Picked",
    "ReplyFields",
    "Rota",
    "Sender",
    "Sent",
    "Through",
    "Turns",
    "TwoChoices",
    "Waiter",
    "advance",
    "begin",
    "check_msgpack",
    "checked",
    "drive",
    "encode_frame",
    "encode_pieces",
    "innermost",
    "release_bodies",
    "scattered",
    "writable",
]
