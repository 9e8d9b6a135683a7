"""Remember which connections there were, so that none is played again.

Whoever records the bytes of a connection can send them once more: token, calls and all. A
client makes a nonce of its own for each connection, so one that comes twice is no client's.

Rules of the room:
  * memory is bounded: after `NONCES_MAX` newer ones the oldest is forgotten.
"""

from hashlib import blake2b
from typing import Final, final

from fastrpc.errors import ProtocolError
from fastrpc.wire import StatusCode

#: Nonces that are remembered, some 100 bytes each.
NONCES_MAX: Final = 32_768


@final
class Nonces:
    """The nonces that one server has seen.

    Args:
        most: How many are remembered.
    """

    __slots__ = ("_most", "_seen")

    def __init__(self, most: int = NONCES_MAX) -> None:
        self._most = most
        self._seen: dict[bytes, None] = {}

    def take(self, nonce: str) -> None:
        """Note the nonce of a new connection; "" is that of a client which has none.

        Raises:
            ProtocolError: Status 43: it has been there.
        """
        if not nonce:
            return
        mark = blake2b(nonce.encode(), digest_size=16).digest()
        if mark in self._seen:
            text = "HELLO: its nonce was used before: this is the recording of a connection"
            raise ProtocolError(text, status=StatusCode.UNAUTHENTICATED)
        if len(self._seen) >= self._most:
            del self._seen[next(iter(self._seen))]
        self._seen[mark] = None
