"""Ask a server to speak WebSocket: the client's half of the handshake.

Rules of the room:
  * what answers anything but yes is a `ConnectFailed` that quotes it;
  * an answer has at most `HEAD_MAX` bytes, and the time that dialling has.
"""

import asyncio
from collections.abc import Callable
from typing import Final, final

from websockets.client import ClientProtocol
from websockets.typing import Origin, Subprotocol
from websockets.uri import WebSocketURI

from fastrpc.transport.address import Target
from fastrpc.transport.upgrade import UpgradeStep
from fastrpc.transport.websocket import WebSocketPipe
from fastrpc.transport.websocket_handshake import BINARY_SUBPROTOCOL
from fastrpc.wire import BODY_MAX

#: Longest head of an answer.
HEAD_MAX: Final = 8 * 2**10

_QUOTED: Final = 200  # bytes of a strange answer that an error repeats


@final
class WebSocketDial(UpgradeStep):
    """What stands on a connection until its server speaks WebSocket.

    Args:
        target: Whom we ask, `ws://` or `wss://`.
        protocol_factory: Makes the protocol that follows, on a pipe of bytes.
        origin: What to say to a server that lets only certain pages in; nothing by default.
    """

    def __init__(
        self,
        target: Target,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        *,
        origin: str | None = None,
    ) -> None:
        super().__init__(target, protocol_factory)
        uri = WebSocketURI(target.is_secure, target.host, target.port, target.path, "", None, None)
        self._handshake = ClientProtocol(
            uri,
            origin=Origin(origin) if origin is not None else None,
            subprotocols=[Subprotocol(BINARY_SUBPROTOCOL)],
        )
        self._answer = b""

    def request(self) -> bytes:
        """Return the request."""
        return self._handshake.connect().serialize()

    def data_received(self, data: bytes) -> None:
        """Read the answer, and go on if it is yes."""
        if self.done.done():
            return
        self._answer = answer = self._answer + data
        head, end, early = answer.partition(b"\r\n\r\n")
        line = head.partition(b"\r\n")[0]
        if not line.startswith(b"HTTP/1."[: len(line)]):
            self.refuse(f"no answer of HTTP's, it begins with {answer[:_QUOTED]!r}")
        elif len(head) > HEAD_MAX:
            self.refuse(f"the head of its answer is longer than {HEAD_MAX} bytes")
        elif end:
            self._take(line.decode("latin-1"), head + end, early)

    def _take(self, line: str, head: bytes, early: bytes) -> None:
        if line.split(" ", 2)[1:2] != ["101"]:
            words = early[:_QUOTED].decode(errors="replace").strip()
            self.refuse(f"it answered {line[:_QUOTED]!r}{f', {words!r}' if words else ''}")
            return
        self._handshake.receive_data(head)
        if fault := self._handshake.handshake_exc:
            self.refuse(f"it answered {line[:_QUOTED]!r}, but no WebSocket: {fault}")
        elif self._handshake.subprotocol != BINARY_SUBPROTOCOL:
            self.refuse(f"it speaks WebSocket, but not the subprotocol {BINARY_SUBPROTOCOL}")
        else:
            assert self.transport is not None
            # What a body may be is the session's to know, and no message is kept here.
            pipe = WebSocketPipe(self.transport, is_client=True, max_message=BODY_MAX)
            self.transport.set_protocol(pipe)
            self.hand_over(pipe)
            if early and pipe.get_protocol() is not None:
                pipe.data_received(early)
