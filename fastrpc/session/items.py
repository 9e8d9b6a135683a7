"""Read the items of one stream, whatever way they come.

Plain items are read in the lane's unit; what comes here is the rest: other
serializers, payloads that are not plain, and errors that need words.
"""

from collections.abc import Callable
from typing import Any, Protocol, final

from fastrpc.codec import Mismatch
from fastrpc.errors import (
    CallError,
    CodecError,
    FastRPCError,
    InvalidArgument,
    TooLarge,
    Unsupported,
)
from fastrpc.frame import Frame, Inlet, Lane
from fastrpc.session.payloads import Payloads
from fastrpc.session.side import Side
from fastrpc.wire import Kind


class Carrier(Protocol):
    """A connection, of a loop or of threads, as far as items need it."""

    lane: Lane
    side: Side
    serializers: frozenset[int]
    payloads: Payloads

    def call_id(self, id: int) -> str:
        """Return what the logs of both sides call a call."""
        ...


@final
class Items:
    """How the items of a stream are read.

    Args:
        session: The connection.
        name: The method, for messages.
        own: Whether the stream is one of ours.
        annotation: Type of an item.
    """

    __slots__ = ("_annotation", "_explain", "_id", "_name", "_own", "_session")

    def __init__(self, session: Carrier, name: str, own: bool, annotation: Any) -> None:
        self._session = session
        self._name = name
        self._own = own
        self._annotation = annotation
        self._id = 0
        self._explain: Callable[[Exception], Exception] | None = None

    def inlet(self, id: int, serializer: int, decode: Callable[[bytes], Any]) -> Inlet:
        """Return the receiving half of the stream *id*."""
        session = self._session
        self._id = id
        self._explain = getattr(session.side.by_number.get(serializer), "explain", None)
        window = session.side.limits.window
        return Inlet(
            session.lane, id, self._own, window, serializer, decode, self.unpack, self.explain
        )

    def unpack(self, serializer: int, item: bytes | Frame) -> Any:
        """Return the value of an item that is not plain."""
        session = self._session
        if isinstance(item, bytes):
            item = Frame(Kind.DATA, serializer=serializer, payload=item)
        elif item.oversize:
            most = session.side.limits.max_body
            raise TooLarge(f"{item.oversize} bytes are over max_body of {most}")
        codec = session.side.by_number.get(serializer)
        if codec is None or serializer not in session.serializers:
            raise Unsupported(f"serializer {serializer} was not agreed on")
        return session.payloads.read(item, codec, codec.decoder(self._annotation))

    def explain(self, number: int, exc: Exception) -> Exception:
        """Return the error for the item of that number that can't be read."""
        where = f"{self._name}: item {number}"
        if self._explain is not None:
            exc = self._explain(exc)
        if isinstance(exc, TooLarge | Unsupported):
            return self._told(type(exc)(f"{where}: {exc}", ran="yes", method=self._name))
        if isinstance(exc, Mismatch):
            text = str(exc.inside(where))
        elif isinstance(exc, FastRPCError):
            text = f"{where}: {exc}"
        else:
            text = f"{where} can't be decoded: {exc}"
        if self._own:
            error = CodecError(text)
            error.ran = "yes"
            return error
        return self._told(InvalidArgument(text, ran="yes", method=self._name))

    def _told(self, error: CallError) -> CallError:
        """Name the call: who sent the item is told, not blamed on the handler."""
        error.call_id = self._session.call_id(self._id)
        return error
