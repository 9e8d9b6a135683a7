"""Dial servers that speak other tongues: `jsonrpc://` and `msgpackrpc://`.

The client on top is an ordinary one, and so is its session. Between that and the
connection stands a tongue, which the stage of dialling puts there.

Rules of the room:
  * nothing is asked first: such servers say nothing until they are called, and who speaks
    something else is found out with the first answer.
"""

import asyncio
from typing import ClassVar, cast, final

from fastrpc.gateway.bridge import Bridge
from fastrpc.gateway.lines import JsonLines
from fastrpc.gateway.msgpackrpc import MsgpackRpc
from fastrpc.gateway.tongue import Tongue
from fastrpc.gateway.translation import Translation
from fastrpc.gateway.wired import Wired
from fastrpc.session import Session
from fastrpc.transport.upgrade import UpgradeStep


@final
class _WiredServer(Wired):
    """A foreign server that a client has dialled.

    Args:
        session: The client's.
        kind: What the server speaks.
    """

    def __init__(self, session: Session, kind: type[Tongue]) -> None:
        """Wait for `connection_made`."""
        super().__init__()
        self._session = session
        self._kind = kind
        self._end: asyncio.TimerHandle | None = None

    @property
    def bridge(self) -> Bridge:
        """What the session has for a transport."""
        assert self._translation is not None
        return self._translation.bridge

    def begin(self, transport: asyncio.Transport) -> Translation:
        """Let the session begin: the tongue answers its HELLO."""
        return Translation(
            self._session, transport, self._kind, self._to_peer, self._closed, dialled=True
        )

    def part(self, transport: asyncio.Transport) -> None:
        """Close: what was called with still goes out, if the server reads it in time."""
        transport.close()  # there are no last words of a server's to wait for
        # A timer of its own: the client that closed has stopped those of its sessions.
        loop, patience = asyncio.get_running_loop(), self._session.side.limits.write_stall
        self._end = loop.call_later(patience, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the session, too."""
        if self._end is not None:
            self._end.cancel()
        super().connection_lost(exc)


class ForeignDial(UpgradeStep):
    """Puts a tongue between a client's session and a foreign server.

    Nothing is asked: the server says nothing until it is called.
    """

    #: What the server speaks.
    kind: ClassVar[type[Tongue]]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Make the session, and let it begin."""
        self.transport = cast("asyncio.Transport", transport)
        if self.done.done():  # given up in this very step
            self.abort()
            return
        try:
            session = cast("Session", self._protocol_factory())
        except Exception as error:
            self.done.set_exception(error)
            self.abort()
            return
        wired = _WiredServer(session, self.kind)
        transport.set_protocol(wired)
        wired.connection_made(transport)
        self.done.set_result((wired.bridge, session))
        wired.bridge.open()


@final
class JsonRpcDial(ForeignDial):
    """Dials `jsonrpc://`."""

    kind = JsonLines


@final
class MsgpackRpcDial(ForeignDial):
    """Dials `msgpackrpc://`."""

    kind = MsgpackRpc
