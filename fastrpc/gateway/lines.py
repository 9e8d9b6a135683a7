"""Speak JSON-RPC over a stream of bytes: one message per line.

That is how programs speak it over plain TCP. A message ends with a line feed, or with the
stream; a carriage return before it, and lines of nothing but space, do not count.

Rules of the room:
  * no byte is looked at twice;
  * what is too long is answered and then skipped as it comes, up to a limit.
"""

import re
from typing import TYPE_CHECKING, Any, ClassVar, Final

from fastrpc.errors import ProtocolError
from fastrpc.gateway.jsonerrors import error_object
from fastrpc.gateway.jsonmessages import nameless
from fastrpc.gateway.jsonrpc import TOO_LARGE_CODE, JsonRpc
from fastrpc.gateway.msgpackrpc import MsgpackRpc
from fastrpc.gateway.tongue import Sink, stranger
from fastrpc.gateway.wired import WiredVisitor
from fastrpc.wire import SKIP_MAX

if TYPE_CHECKING:
    from fastrpc.server.hall import Entrance, Hall

_SPACE: Final = b" \t\r\n"
_BLANK_LINES: Final = re.compile(rb"[ \t\r\n]*\n")


class JsonLines(JsonRpc):
    """Translate between lines of JSON-RPC and frames; arguments are those of `Tongue`."""

    probe: ClassVar[bytes] = b" "  # space before a message is none of it

    def __init__(self, to_peer: Sink, to_session: Sink, **options: Any) -> None:
        """Say nothing yet."""
        super().__init__(lambda text: to_peer(text + b"\n"), to_session, **options)
        self._rest = bytearray()  # of a line that is not whole yet
        self._skipped = 0  # bytes of a line that is too long

    @property
    def is_waiting(self) -> bool:
        """Whether part of a line has come and the rest has not."""
        return bool(self._rest or self._skipped)

    def _feed(self, data: bytes) -> None:
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            if data[start] in _SPACE and (blank := _BLANK_LINES.match(data, start)):
                end = blank.end() - 1  # of a run of them, which costs no more than one
            self._line(data[start:end], is_whole=True)
            start = end + 1
        if start < len(data):
            self._line(data[start:] if start else data, is_whole=False)

    def _end(self) -> None:
        if self._rest:
            self._line(b"", is_whole=True)

    def _line(self, part: bytes, *, is_whole: bool) -> None:
        """Take a piece of a line, or the rest of it."""
        if self._skipped:
            self._skip(part, is_whole)
        elif len(self._rest) + len(part) > self.longest:
            size = len(self._rest) + len(part)
            self._rest = bytearray()
            if self.is_dialled:
                raise stranger(self.name, part, self.too_long(size))
            # Before it is skipped: who waits for the answer may send nothing more.
            self._say(nameless(error_object(TOO_LARGE_CODE, self.too_long(size))))
            self._skipped = 0 if is_whole else size
        elif not is_whole:
            self._rest += part
        else:
            line = bytes(self._rest) + part if self._rest else part
            self._rest.clear()
            if line.strip(_SPACE):
                super()._feed(line)

    def _skip(self, part: bytes, is_whole: bool) -> None:
        self._skipped += len(part)
        if self._skipped > SKIP_MAX:
            raise ProtocolError(f"a line has more than {SKIP_MAX} bytes")
        if is_whole:
            self._skipped = 0


def open_jsonrpc(hall: "Hall", entrance: "Entrance", peer: str) -> WiredVisitor:
    """Return what talks to a visitor who speaks JSON-RPC, a line each."""
    return WiredVisitor(hall, peer, JsonLines)


def open_msgpackrpc(hall: "Hall", entrance: "Entrance", peer: str) -> WiredVisitor:
    """Return what talks to a visitor who speaks msgpack-rpc."""
    return WiredVisitor(hall, peer, MsgpackRpc)
