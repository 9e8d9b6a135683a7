"""Answer JSON-RPC that comes in the body of a POST.

Rules of the room:
  * one message or batch for each request; where there is nothing to say, 204 says it;
  * nobody is called, and no items are pushed: who waits for one answer gets one.
"""

import weakref
from typing import TYPE_CHECKING, Any, Final, final

from fastrpc.gateway import problems
from fastrpc.gateway.bridge import Bridge, inside
from fastrpc.gateway.calls import metadata_of, time_of
from fastrpc.gateway.exchange import Answer, Exchange
from fastrpc.gateway.jsonrpc import JsonRpc
from fastrpc.gateway.tongue import shapes_of
from fastrpc.wire import Kind, StatusCode

if TYPE_CHECKING:
    from fastrpc.gateway.http import HttpConnection
    from fastrpc.server.hall import Hall

AGENT: Final = "JSON-RPC over HTTP"


class PostedRpc(JsonRpc):
    """Translate JSON-RPC whose calls have what stands in the head of a request, too.

    Attributes:
        metadata: Of each call.
        time: Milliseconds that each may take, 0 for any.
    """

    def __init__(self, to_session: Any, **options: Any) -> None:
        super().__init__(None, to_session, **options)
        self.metadata = b""
        self.time = 0

    def _frame(self, kind: Kind, id: int, **fields: Any) -> None:
        if fields.get("name"):
            fields |= {"metadata": self.metadata, "time": self.time}
        super()._frame(kind, id, **fields)


@final
class JsonLink:
    """One session that JSON-RPC talks to, behind one connection.

    Args:
        connection: Whose requests it answers.
        hall: Of its server.

    Attributes:
        bridge: To the session.
        tongue: What translates.
        answer: Who waits for it.
    """

    def __init__(self, connection: "HttpConnection", hall: "Hall") -> None:
        self._connection = connection
        self.answer: JsonRpcAnswer | None = None
        # Weak, or the two would have each other, and all the answers, when they are gone.
        this = weakref.proxy(self)
        self.tongue = PostedRpc(
            lambda frames: this.bridge.feed(frames),
            limits=hall.side.limits, shape_of=shapes_of(hall.side.router),
        )  # fmt: skip
        self.bridge: Bridge = inside(
            hall, connection.peer, connection.transport, self.tongue.take, self._closed,
            agent=AGENT, pause=lambda wanted: None,
        )  # fmt: skip

    def fail(self, text: str) -> None:
        """Answer what is open, because the session has ended."""
        if self.answer is not None:
            self.answer.broken(text)

    def _closed(self, at_once: bool) -> None:
        self._connection.link_closed(self, at_once=at_once)


@final
class JsonRpcAnswer(Answer):
    """Answer a message, or a batch.

    Args:
        exchange: What is answered.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._metadata = metadata_of(exchange.request)
        self._time = time_of(exchange.request)

    def ask(self, body: bytes) -> None:
        """Make the calls."""
        link = self._exchange.connection.link_to(self._exchange.hall, JsonLink)
        link.answer = self
        link.tongue.metadata, link.tongue.time = self._metadata, self._time
        link.tongue.message(body, self._respond)

    def broken(self, text: str) -> None:
        """Answer that the session has ended."""
        self._exchange.tell(problems.failure(StatusCode.UNAVAILABLE, text, "maybe"))

    def _respond(self, text: bytes | None) -> None:
        if text is None:
            self._exchange.respond(204, media_type="")
        else:
            self._exchange.respond(200, text)
