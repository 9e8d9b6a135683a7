"""grpc.aio with 1 MiB of bytes each way."""

from collections.abc import Sequence
from typing import ClassVar

from bench.compare.load import Load
from bench.compare.peers.grpc_aio import GrpcAio
from bench.values import BLOB


class GrpcAioBig(GrpcAio):
    """The same two ends, another load."""

    loads: ClassVar[Sequence[Load]] = (Load(1, size=len(BLOB)), Load(4, size=len(BLOB)))


PEER = GrpcAioBig()
