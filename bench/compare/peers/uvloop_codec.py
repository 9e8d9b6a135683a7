"""What the codec alone adds to the platform's limit: the uvloop echo with msgspec in it.

The value is encoded and decoded on both sides, as every RPC has to; 24 bytes stand
where a header would. There is no framing, no call number, no check, no limit.
"""

import asyncio
from typing import Any

import msgspec

from bench.compare.peers.uvloop_echo import Echo, UvloopEcho

HEADER = b"h" * 24
encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder().decode


class CodecEcho(Echo):
    """Decodes what it reads and sends it back encoded anew."""

    def data_received(self, data: bytes) -> None:
        """Answer."""
        self.transport.write(HEADER + encode(decode(memoryview(data)[len(HEADER) :])))


class CodecCaller(Echo):
    """Sends a value and wakes the caller with what came back."""

    waiter: asyncio.Future[Any]

    def data_received(self, data: bytes) -> None:
        """Wake the caller."""
        self.waiter.set_result(decode(memoryview(data)[len(HEADER) :]))

    def call(self, payload: Any) -> asyncio.Future[Any]:
        """Send a value; the future gets its echo."""
        self.waiter = asyncio.get_running_loop().create_future()
        self.transport.write(HEADER + encode(payload))
        return self.waiter


class UvloopCodec(UvloopEcho):
    """Two protocols, one value in flight."""

    answering = CodecEcho
    calling = CodecCaller


PEER = UvloopCodec()
