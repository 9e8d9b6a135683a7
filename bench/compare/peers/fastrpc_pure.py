"""fastrpc without its extension, as FASTRPC_PURE=1 makes it."""

from collections.abc import Sequence
from typing import ClassVar

from bench.compare.load import Load
from bench.compare.peers.fastrpc_tcp import FastRpc


class FastRpcPure(FastRpc):
    """Both ends run the pure twin."""

    loads: ClassVar[Sequence[Load]] = (Load(1), Load(256))
    compiled: ClassVar[bool] = False


PEER = FastRpcPure()
