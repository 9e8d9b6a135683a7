"""fastrpc with 1 MiB of bytes each way."""

from collections.abc import Sequence
from typing import ClassVar

from bench.compare.load import Load
from bench.compare.peers.fastrpc_tcp import FastRpc
from bench.values import BLOB


class FastRpcBig(FastRpc):
    """The same two ends, another load."""

    loads: ClassVar[Sequence[Load]] = (
        Load(1, call="blob", size=len(BLOB)),
        Load(4, call="blob", size=len(BLOB)),
    )


PEER = FastRpcBig()
