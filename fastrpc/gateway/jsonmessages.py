"""Read requests of JSON-RPC, and write answers to them.

Rules of the room:
  * an id goes back as the bytes it came in;
  * who asks in version 1.0 is answered in it.
"""

from collections.abc import Callable
from typing import Final, NamedTuple, final

from fastrpc.errors import FastRPCError
from fastrpc.gateway.convert import value_of
from fastrpc.gateway.jsontext import Members
from fastrpc.gateway.tongue import NAME_LENGTH_MAX
from fastrpc.wire import Limits

#: Longest id, in bytes of JSON.
ID_LENGTH_MAX: Final = 1024

NULL: Final = b"null"

_LIMITS: Final = Limits()
_OLD: Final = (b"", b'"1.0"')

Respond = Callable[[bytes | None], None]


class Request(NamedTuple):
    """One request, as far as it could be read.

    Attributes:
        id: As it came; null where there is none that could go back.
        is_silent: It is a notification.
        is_old: It is one of version 1.0.
        name: Method.
        params: An array or an object.
        fault: Why it is no request; empty if it is one.
    """

    id: bytes
    is_silent: bool
    is_old: bool
    name: bytes
    params: bytes
    fault: str


def read_request(found: Members) -> Request:
    """Return the request that the members of a message are."""
    id, method, fault = found["id"], found["method"], ""
    params = found["params"] or b"[]"
    # Version 1.0 names no version and has an id always; null stands for a notification.
    is_old = found["jsonrpc"] in _OLD and bool(id) and bool(method)
    if not is_old and found["jsonrpc"] != b'"2.0"':
        fault = 'jsonrpc must be "2.0"'
    name = _name_in(method)
    if name is None:
        fault = fault or f"method must be a text of at most {NAME_LENGTH_MAX} bytes"
    if params[:1] not in (b"[", b"{"):
        fault = fault or "params must be an array or an object"
    is_silent = not id or (is_old and id == NULL)
    if id and not _is_id(id):
        id, fault = NULL, f"an id is text, a number or null, of at most {ID_LENGTH_MAX} bytes"
    return Request(id or NULL, is_silent, is_old, name or b"", params, fault)


def success(request: Request, result: bytes) -> bytes:
    """Return the response with a result."""
    if request.is_old:
        return b'{"id":%b,"result":%b,"error":null}' % (request.id, result)
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (request.id, result)


def failure(request: Request, error: bytes) -> bytes:
    """Return the response with an error."""
    if request.is_old:
        return b'{"id":%b,"result":null,"error":%b}' % (request.id, error)
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (request.id, error)


def nameless(error: bytes) -> bytes:
    """Return the response to what was no request: nobody knows its id."""
    return b'{"jsonrpc":"2.0","id":null,"error":%b}' % error


@final
class Held:
    """What waits in all batches of one connection that are not answered yet.

    Attributes:
        size: Bytes of it.
    """

    __slots__ = ("size",)

    def __init__(self) -> None:
        """Begin with nothing."""
        self.size = 0


@final
class Answers:
    """What is still to be said to one message, a request or a batch.

    Args:
        respond: Told once, when all is said; None if there is nothing to say.
        missing: How many answers are awaited.
        held: Counts what waits here, too, until all of it is said.
        is_batch: Whether they go in an array.

    Attributes:
        size: Bytes of those that are there.
        missing: How many are awaited still.
        is_batch: Whether they go in an array.
    """

    __slots__ = ("_held", "_parts", "_respond", "is_batch", "missing", "size")

    def __init__(self, respond: Respond, missing: int, held: Held, *, is_batch: bool) -> None:
        self._respond = respond
        self._held = held
        self._parts: list[bytes] = []
        self.missing = missing
        self.is_batch = is_batch
        self.size = 0

    def add(self, part: bytes | None) -> None:
        """Take one; None for a request that gets no answer."""
        if part is not None:
            self._parts.append(part)
            self.size += len(part)
            self._held.size += len(part)
        self.missing -= 1
        if self.missing:
            return
        self._held.size -= self.size
        if not self._parts:
            self._respond(None)
        elif self.is_batch:
            self._respond(b"[" + b",".join(self._parts) + b"]")
        else:
            self._respond(self._parts[0])


def _is_id(id: bytes) -> bool:
    return len(id) <= ID_LENGTH_MAX and (id[:1] in b'"-0123456789' or id == NULL)


def _name_in(method: bytes) -> bytes | None:
    """Return the name that a text in JSON says; None if it is no text, or too long."""
    if method[:1] != b'"' or len(method) > NAME_LENGTH_MAX:
        return None
    if b"\\" not in method:
        return method[1:-1]
    try:
        return str(value_of(method, _LIMITS)).encode()
    except (FastRPCError, UnicodeEncodeError):
        return None
