"""Write the items of a stream into the body of an answer: as events, or as lines.

Events (`text/event-stream`) are what `EventSource` in a browser reads: each item is the data of
a message, the end an event `end`, a failure an event `error`. Lines (`application/x-ndjson`)
are for everything else: each item is a line of JSON, and the last line is none of them: it is
`{"end": true}`, or `{"error": {...}}`. What ends without it was cut off.

Rules of the room:
  * an item passes unread; what would end its line early is space in JSON, and becomes one;
  * a sign of life means nothing: a comment, or an empty line.
"""

from typing import Any, ClassVar, Final, Protocol

from fastrpc.gateway import problems
from fastrpc.gateway.convert import json_of

EVENTS: Final = "text/event-stream"
LINES: Final = "application/x-ndjson"

#: Types of a body of lines, by any name that is in use.
LINE_TYPES: Final = frozenset({LINES, "application/ndjson", "application/jsonl"})

_BREAKS: Final = bytes.maketrans(b"\r\n", b"  ")


class Form(Protocol):
    """How items look in the body of an answer."""

    media_type: ClassVar[str]
    life: ClassVar[bytes]

    def item(self, payload: bytes) -> bytes:
        """Return an item."""
        ...

    def end(self, told: dict[str, Any]) -> bytes:
        """Return what comes after the last item; *told* is the metadata of the end."""
        ...

    def error(self, error: dict[str, Any]) -> bytes:
        """Return what comes last when it failed."""
        ...


class Events:
    """Items as server-sent events."""

    media_type: ClassVar[str] = EVENTS
    life: ClassVar[bytes] = b":\n\n"

    def item(self, payload: bytes) -> bytes:
        """Return an item as a message."""
        return b"data: %b\n\n" % payload.translate(_BREAKS)

    def end(self, told: dict[str, Any]) -> bytes:
        """Return the event that there is no more."""
        return b"event: end\ndata: %b\n\n" % json_of(told)

    def error(self, error: dict[str, Any]) -> bytes:
        """Return the event that it failed."""
        return b"event: error\ndata: %b\n\n" % problems.encoded(error)


class Lines:
    """Items as lines of JSON."""

    media_type: ClassVar[str] = LINES
    life: ClassVar[bytes] = b"\n"

    def item(self, payload: bytes) -> bytes:
        """Return an item as a line."""
        return payload.translate(_BREAKS) + b"\n"

    def end(self, told: dict[str, Any]) -> bytes:
        """Return the line that there is no more."""
        return json_of({"end": True} | told) + b"\n"

    def error(self, error: dict[str, Any]) -> bytes:
        """Return the line that it failed."""
        return problems.encoded(error) + b"\n"
