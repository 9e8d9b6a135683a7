"""Let a connection that began as HTTP go on as something else.

`GET /path` with `Connection: Upgrade`, and 101 in return: from there on the same bytes carry
frames (`Upgrade: fastrpc`), or WebSocket messages. What both have in common is here: a protocol
that stands on the connection until the peer has agreed, and then makes way.

Rules of the room:
  * not one byte is lost: what came behind the answer goes to the protocol that follows;
  * a peer that says no, too much or nothing sensible is a `ConnectFailed` that quotes it;
  * the protocol that follows is made once the peer has agreed, and never without an end.
"""

import asyncio
from collections.abc import Callable
from typing import Any, cast, final

from fastrpc.errors import ConnectFailed
from fastrpc.transport.address import Target
from fastrpc.transport.head import BadAnswer, ask_upgrade, refused_upgrade


class UpgradeStep(asyncio.Protocol):
    """What stands on a connection until its peer speaks what we want.

    Put it on a connected, or encrypted, transport and wait for `done`. A kind of upgrade
    says what is asked (`request`), reads the answer (`data_received`), and then calls
    `hand_over` or `refuse`, once.

    Args:
        target: Whom we ask.
        protocol_factory: Makes the protocol that follows; called when the peer has agreed.

    Attributes:
        done: Gives the transport to use and the protocol on it, which has seen
            `connection_made` and every byte that came early; or fails.
        transport: The connection below.
    """

    def __init__(
        self, target: Target, protocol_factory: Callable[[], asyncio.BaseProtocol]
    ) -> None:
        self.target = target
        self.transport: asyncio.Transport | None = None
        self.done: asyncio.Future[tuple[asyncio.Transport, asyncio.BaseProtocol]] = (
            asyncio.get_running_loop().create_future()
        )
        self._protocol_factory = protocol_factory

    def request(self) -> bytes:
        """Return what is sent first."""
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop has a class of its own
        self.transport.write(self.request())

    def data_received(self, data: bytes) -> None:
        """Read the answer."""
        raise NotImplementedError

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail: who closes has not agreed."""
        self.refuse(f"closed before it answered{f': {exc}' if exc else ''}")

    def refuse(self, why: str) -> None:
        """End the connection, because of what the peer said or did."""
        if not self.done.done():
            self.done.set_exception(ConnectFailed(f"can't connect to {self.target} ({why})"))
        self.abort()

    def hand_over(self, transport: asyncio.Transport, early: bytes = b"") -> None:
        """Make the protocol that follows and let it begin on *transport*.

        Args:
            transport: The connection below itself, or what carries bytes over it.
            early: What came behind the answer.
        """
        if self.done.done():  # given up in this very step
            self.abort()
            return
        try:
            protocol = self._protocol_factory()
        except Exception as error:
            self.done.set_exception(error)
            self.abort()
            return
        transport.set_protocol(protocol)
        self.done.set_result((transport, protocol))
        protocol.connection_made(transport)
        feed(protocol, early)

    def abort(self) -> None:
        """End the connection below at once; the protocol that follows finds out."""
        if self.transport is not None:
            self.transport.abort()


@final
class HttpUpgrade(UpgradeStep):
    """Asks an HTTP server to let frames through: `Upgrade: fastrpc`."""

    def request(self) -> bytes:
        """Return the request."""
        self._reader = ask_upgrade(self.target)
        return self._reader.request

    def data_received(self, data: bytes) -> None:
        """Read the answer's head; what stands behind it is not ours."""
        if self.done.done():
            return
        try:
            count = self._reader.take(data)
        except BadAnswer as error:
            self.refuse(str(error))
            return
        answer = self._reader.answer
        if answer is not None and self.transport is not None:
            if why := refused_upgrade(answer):
                self.refuse(why)
            else:
                self.hand_over(self.transport, data[count:])


def feed(protocol: Any, data: bytes) -> None:
    """Give *data* to a protocol of either kind, as a transport would."""
    if not data:
        return
    if not isinstance(protocol, asyncio.BufferedProtocol):
        protocol.data_received(data)
        return
    rest = memoryview(data)
    while rest:
        space = memoryview(protocol.get_buffer(len(rest))).cast("B")
        size = min(len(space), len(rest))
        space[:size] = rest[:size]
        protocol.buffer_updated(size)
        rest = rest[size:]
