"""Let those in who ask over HTTP to speak WebSocket.

With the subprotocol `fastrpc.1` it is the binary protocol, and a session of the server's
talks to the pipe itself. With `jsonrpc` it is JSON-RPC, one text each way, and a session
stands behind a translator.

Rules of the room:
  * who is refused has lost nothing: the connection is the asker's still;
  * one text is answered, or ends the connection with words, and nothing is kept of it.
"""

import asyncio
import logging
from collections.abc import Collection
from functools import partial
from typing import TYPE_CHECKING, Final, final

from fastrpc.errors import ProtocolError
from fastrpc.gateway.bridge import greet
from fastrpc.gateway.jsonrpc import JsonRpc
from fastrpc.gateway.tongue import ENVELOPE
from fastrpc.gateway.translation import Translation
from fastrpc.gateway.visitor import TranslatedVisitor
from fastrpc.session import Session
from fastrpc.session.watch import PING
from fastrpc.transport.websocket import WebSocketPipe
from fastrpc.transport.websocket_frames import CloseCode
from fastrpc.transport.websocket_handshake import (
    BINARY_SUBPROTOCOL,
    SUBPROTOCOLS,
    Decision,
    HeaderList,
    decide,
)
from fastrpc.transport.websocket_text import WebSocketText

if TYPE_CHECKING:
    from fastrpc.server.doorway import Visitor
    from fastrpc.server.hall import Hall
    from fastrpc.transport.websocket_end import WebSocketEnd

AGENT: Final = "JSON-RPC over WebSocket"


def open_websocket(
    hall: "Hall",
    visitor: "Visitor",
    transport: asyncio.Transport,
    method: str,
    target: str,
    headers: HeaderList,
    early: bytes = b"",
    *,
    origins: Collection[str] = (),
    subprotocols: Collection[str] = SUBPROTOCOLS,
) -> Decision:
    """Answer a request to speak WebSocket, and begin if the answer is yes.

    If it is no (`subprotocol` of the result is empty), nothing was written or changed, and
    `response` of the result is what to tell the asker.

    Args:
        hall: Of the server that is asked for.
        visitor: Who has the connection until now; it is counted in *hall* from now on.
        transport: The connection.
        method: Of the request.
        target: Its path.
        headers: Its headers, as they came.
        early: What came behind the request.
        origins: See `decide`.
        subprotocols: See `decide`.
    """
    decision = decide(method, target, headers, origins=origins, subprotocols=subprotocols)
    if not decision.subprotocol:
        return decision
    transport.write(decision.response)
    end: WebSocketEnd
    if decision.subprotocol == BINARY_SUBPROTOCOL:
        most = hall.side.limits.max_body + ENVELOPE
        end = pipe = WebSocketPipe(transport, is_client=False, max_message=most)
        transport.set_protocol(pipe)
        hall.begin(visitor, pipe, visitor.peer)
    else:
        texts = TextVisitor(hall, visitor.peer, transport)
        hall.succeed(visitor, texts)
        end = texts.end
        transport.set_protocol(end)
        texts.begin()
    end.on_fault = partial(_complain, hall, visitor.peer)
    if early:
        end.data_received(early)
    return decision


def _complain(hall: "Hall", peer: str, words: str) -> None:
    hall.side.complain(logging.WARNING, peer, f"closing: {words}")


@final
class TextVisitor(TranslatedVisitor):
    """Someone who speaks JSON-RPC in texts.

    Args:
        hall: Of the server.
        peer: Where it comes from.
        outer: The connection.

    Attributes:
        end: What stands on the connection.
    """

    def __init__(self, hall: "Hall", peer: str, outer: asyncio.Transport) -> None:
        super().__init__(hall, peer)
        self._outer = outer
        self.end = WebSocketText(
            outer,
            on_message=self._take,
            on_lost=self._lost,
            on_pause=self._paused,
            on_resume=self._resumed,
            max_message=hall.side.limits.max_body + ENVELOPE,
        )

    @property
    def door(self) -> str:
        """What is spoken: JSON-RPC, in WebSocket messages."""
        return "websocket"

    def begin(self) -> None:
        """Put a session behind it."""
        hall = self._hall
        self._translation = Translation(
            Session(hall.side, client=False, address=self.peer), self._outer, JsonRpc,
            self.end.send, self._closed, pause=self._pause,
        )  # fmt: skip
        greet(hall, self._translation.bridge, AGENT, hall.side.limits)
        hall.admission.greeted(self)
        hall.side.ticker.watch(self)

    def abort(self, cause: Exception) -> None:
        """Close at once."""
        super().abort(cause)
        self.end.abort()

    # What the ticker calls

    def slow_tick(self, now: float, late: bool) -> None:
        """Find peers that are silent, or that never end what they say."""
        end, watch = self.end, self._watch
        blind = late or not end.is_reading()
        why = watch.silent(now, blind, end.bytes_in, self._hall.side.limits.idle_ping)
        if why == PING:
            end.ping()
            why = ""
        why = why or watch.slow(now, blind, end.bytes_in, end.messages, end.is_waiting)
        if why:
            end.fail(CloseCode.POLICY_VIOLATION, why)

    # What the session, and the tongue, want

    def _closed(self, at_once: bool) -> None:
        if at_once:
            self.end.abort()
        else:
            self.end.close(CloseCode.GOING_AWAY, "the server closed the connection")

    def _pause(self, wanted: bool) -> None:
        if wanted:
            self.end.pause_reading()
        else:
            self.end.resume_reading()

    # What the connection tells

    def _take(self, text: bytes) -> None:
        if self._translation is None:
            return
        try:
            self._translation.feed(text)
        except ProtocolError as error:
            self.end.fail(CloseCode.POLICY_VIOLATION, str(error))

    def _paused(self) -> None:
        if self._translation is not None:
            self._translation.pause_writing()

    def _resumed(self) -> None:
        if self._translation is not None:
            self._translation.resume_writing()

    def _lost(self, exc: Exception | None) -> None:
        if self._translation is not None:
            self._translation.lose(exc)
            self._translation = None
        self.depart()
