"""Talk to one session in frames, for whoever answers requests over HTTP.

One connection has a link for each server that its requests go to, made with the first call.
The session behind it is a real one, so limits, interceptors, deadlines and errors are those of
every other connection.

Rules of the room:
  * it knows frames and no HTTP;
  * each call is answered once, and a session that ends answers those that are open.
"""

from typing import TYPE_CHECKING, Final, Protocol, final

from fastrpc.frame import Frame, encode_frame
from fastrpc.gateway.bridge import Bridge, inside
from fastrpc.gateway.convert import packed, told_of
from fastrpc.session import failure
from fastrpc.version import __version__
from fastrpc.wire import BIT_END, Kind, Serializer, StatusCode

if TYPE_CHECKING:
    from fastrpc.gateway.http import HttpConnection
    from fastrpc.server.hall import Hall

_AGENT: Final = f"HTTP through fastrpc/{__version__}"
_MSGPACK: Final = int(Serializer.MSGPACK)
_JSON: Final = int(Serializer.JSON)


class AnyLink(Protocol):
    """A session behind a connection, and what talks to it.

    Attributes:
        bridge: To the session.
    """

    bridge: Bridge

    def fail(self, text: str) -> None:
        """Answer what is open, because the session has ended."""
        ...


class Caller(Protocol):
    """Who waits for what becomes of a call."""

    def settle(self, frame: Frame) -> None:
        """Take the reply, which is the last of it."""
        ...

    def item(self, frame: Frame) -> None:
        """Take an item."""
        ...

    def credit(self, amount: int) -> None:
        """Note that more items may be sent."""
        ...

    def broken(self, status: int, text: str) -> None:
        """Note that the session has ended, and the call with it."""
        ...


@final
class Link:
    """One session, behind one connection.

    Args:
        connection: Whose requests it answers.
        hall: Of its server.

    Attributes:
        bridge: To the session.
        hall: Of its server.
    """

    def __init__(self, connection: "HttpConnection", hall: "Hall") -> None:
        self.hall = hall
        self._connection = connection
        self._last_id = 0
        self._calls: dict[int, Caller] = {}
        self._last_words = 0, ""
        # Reading goes on whatever the session says: it gets what was asked for only.
        self.bridge: Bridge = inside(
            hall, connection.peer, connection.transport, self._take, self._closed,
            agent=_AGENT, pause=lambda wanted: None,
        )  # fmt: skip

    def call(
        self,
        caller: Caller,
        name: bytes,
        payload: bytes,
        *,
        metadata: bytes = b"",
        time: int = 0,
        opens: bool = False,
        ends: bool = False,
    ) -> int:
        """Call a method; return the number of the call.

        Args:
            caller: Who waits for the reply.
            name: Of the method.
            payload: JSON.
            metadata: Packed.
            time: Milliseconds it may take, 0 for any.
            opens: It is a stream.
            ends: The caller has no items for it.
        """
        self._last_id += 1
        self._calls[self._last_id] = caller
        self.bridge.feed(
            encode_frame(
                int(Kind.OPEN if opens else Kind.CALL), self._last_id, serializer=_JSON,
                bits=BIT_END if ends else 0, time=time, name=name, metadata=metadata,
                payload=payload,
            )
        )  # fmt: skip
        return self._last_id

    def item(self, id: int, payload: bytes) -> bytes:
        """Return the frame of an item of the caller's, for the bridge."""
        return encode_frame(int(Kind.DATA), id, serializer=_JSON, payload=payload)

    def end_items(self, id: int) -> None:
        """Tell that there are no more items."""
        self.bridge.feed(encode_frame(int(Kind.HALF), id))

    def grant(self, id: int, amount: int) -> None:
        """Let the callee send more items."""
        self.bridge.feed(encode_frame(int(Kind.CREDIT), id, arg=amount))

    def cancel(self, id: int) -> None:
        """Give a call up."""
        if self._calls.pop(id, None) is not None:
            self.bridge.feed(encode_frame(int(Kind.CANCEL), id, status=int(StatusCode.CANCELLED)))

    def fail(self, text: str) -> None:
        """End all that is open, because the session has ended."""
        status, words = self._last_words
        calls, self._calls = self._calls, {}
        for caller in calls.values():
            caller.broken(status or int(StatusCode.UNAVAILABLE), words or text)

    def _closed(self, at_once: bool) -> None:
        self._connection.link_closed(self, at_once=at_once)

    def _take(self, frame: Frame) -> None:
        if frame.kind == Kind.CALL and frame.reply:
            if (caller := self._calls.pop(frame.id, None)) is not None:
                caller.settle(frame)
        elif frame.kind == Kind.DATA:
            if (caller := self._calls.get(frame.id)) is not None:
                caller.item(frame)
        elif frame.kind == Kind.CREDIT:
            if (caller := self._calls.get(frame.id)) is not None:
                caller.credit(frame.arg)
        elif frame.kind in (Kind.CALL, Kind.OPEN):
            if not frame.oneway:
                self._refuse(frame.id)
        elif frame.status and frame.status != StatusCode.UNAVAILABLE:  # HELLO refused, or GOAWAY
            self._last_words = frame.status, str(told_of(frame).get("message", ""))

    def _refuse(self, id: int) -> None:
        """Answer a call that the server makes: nobody over HTTP can take one."""
        body = failure.refusal(StatusCode.NOT_FOUND, "who asks over HTTP can't be called")
        self.bridge.feed(
            encode_frame(
                int(Kind.CALL), id, reply=True, status=int(StatusCode.NOT_FOUND),
                serializer=_MSGPACK, payload=packed(body),
            )
        )  # fmt: skip
