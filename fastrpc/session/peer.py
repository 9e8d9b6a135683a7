"""Call whoever is at the other end of one connection.

The server's way to its clients: a handler asks for its `Peer`, and `Server.peers`
gives all of them.
"""

import asyncio
import time
from collections.abc import Awaitable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, final

from fastrpc.call import Identity, Peer, read_identity
from fastrpc.call.deadline import LEAST
from fastrpc.errors import ConnectionDraining, ConnectionLost, Unavailable
from fastrpc.frame import Lane
from fastrpc.protocol import State
from fastrpc.session import outcome
from fastrpc.session.origin import Decode, Late, Origin
from fastrpc.session.view import View

if TYPE_CHECKING:
    from fastrpc.session.session import Session


@final
class ConnectedPeer(View, Origin, Peer):
    """The other end of a connection, as something to call."""

    def __init__(self, session: "Session") -> None:
        self._session = session
        self._identity: Identity | None = None
        self.lanes = [session.lane]
        self.codec = session.side.by_number[session.lane.serializer]
        self.limits = session.side.limits
        super().__init__(self, 0.0, b"")

    def __repr__(self) -> str:
        """Tell where it is."""
        return f"<Peer {self.address}{'' if self.is_open else ', gone'}>"

    @property
    def address(self) -> str:  # type: ignore[override]
        """Where it is."""
        return self._session.peer

    @property
    def is_open(self) -> bool:  # type: ignore[override]
        """Whether calls may be sent."""
        return self._session.may_call

    @property
    def identity(self) -> Identity | None:  # type: ignore[override]
        """Who it is by its certificate; asked first when it is gone, nobody knows."""
        if self._identity is None:
            self._identity = read_identity(self._session.info("ssl_object"))
        return self._identity

    def call_id(self, number: int) -> str:
        """Return what the logs of both sides call a call of this peer's."""
        return self._session.call_id(number)

    def dismiss(self, why: str) -> None:
        """Close the connection as soon as what this turn of the loop sends is written."""
        self._session.side.ticker.loop.call_soon(self._session.dismiss, why)

    def lane_at_once(self, name: str) -> Lane:
        """Return the lane if it takes a oneway call of *name* now."""
        lane = self._session.lane
        if not lane.ready:
            self._check_open(name)
            raise Unavailable(f"{name}: not sent: {self.address} reads too slowly", method=name)
        return lane

    def start_waiting(
        self,
        timeout: float,
        metadata: bytes,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any] | None,
        decode: Decode | None,
    ) -> Awaitable[Any]:
        """Start a call that waits until the peer reads, or takes another call."""
        call = self.wait_and_call(timeout, metadata, name, args, kwargs, decode)
        return asyncio.ensure_future(call)

    async def session_for(self, name: str, seconds: float) -> "tuple[Session, float, Late]":
        """Wait until the peer takes a call, see `Origin`."""
        session = self._session
        lane = session.lane
        started = time.monotonic()
        deadline = started + seconds if seconds else 0.0
        while not lane.ready or len(lane.table) >= lane.peer_calls:
            self._check_open(name)
            try:
                async with asyncio.timeout(seconds or None):
                    await session.until_room()
            except TimeoutError:
                now = time.monotonic()
                late = outcome.late(
                    name, started, deadline, now, self.address, queued=now - started, sent=False
                )
                raise late from None
            seconds = max(deadline - time.monotonic(), LEAST) if deadline else 0.0
        queued = time.monotonic() - started
        return (
            session,
            seconds,
            partial(outcome.late, name, started, deadline, address=self.address, queued=queued),
        )

    def unused(self) -> None:
        """Do nothing: here all who wait look for themselves."""

    def _check_open(self, name: str) -> None:
        if self._session.state is State.CLOSED:
            raise ConnectionLost(f"{name}: not sent: {self.address} is gone", "no")
        if not self._session.may_call:
            raise ConnectionDraining(f"{name}: {self.address} takes no more calls")
