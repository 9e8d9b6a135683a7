"""Speak msgpack-rpc: [0, id, method, params], [1, id, error, result], [2, method, params].

Arguments and results pass unread, as slices of the message. The protocol knows no statuses
and no streams: errors go out as [type, text], as neovim writes and reads them, and come in
as whatever the peer made of them.

Rules of the room:
  * an id has 32 bits and is not used twice while it is open;
  * what is no message of the protocol ends the connection: nobody knows where the next begins.
"""

from typing import Any, ClassVar, Final

import msgpack  # type: ignore[import-untyped]

from fastrpc.errors import FastRPCError, ProtocolError, Unsupported
from fastrpc.frame import Frame, check_msgpack
from fastrpc.gateway.convert import converted, params_of, string, told_of
from fastrpc.gateway.msgpackends import Ends, scalar_end
from fastrpc.gateway.tongue import NAME_LENGTH_MAX, Shape, Sink, Tongue, stranger
from fastrpc.wire import Kind, Serializer, StatusCode

REQUEST: Final = 0
RESPONSE: Final = 1
NOTIFICATION: Final = 2

ID_MAX: Final = 2**32 - 1

_MSGPACK: Final = int(Serializer.MSGPACK)
_NIL: Final = b"\xc0"
_TYPES: Final = frozenset({StatusCode.SERVER_ERROR, StatusCode.APPLICATION})
_FOREIGN: Final = "MsgpackRpcError"


class MsgpackRpc(Tongue):
    """Translate between msgpack-rpc and frames; arguments are those of `Tongue`."""

    name: ClassVar[str] = "msgpack-rpc"
    door: ClassVar[str] = "msgpackrpc"
    serializer: ClassVar[Serializer] = Serializer.MSGPACK

    def __init__(self, to_peer: Sink, to_session: Sink, **options: Any) -> None:
        """Say nothing yet."""
        super().__init__(to_peer, to_session, **options)
        self._ends = Ends(self.longest)
        self._open: dict[int, int] = {}  # the peer's number of a call, by ours
        self._ids: set[int] = set()  # of those
        self._asked: dict[int, tuple[int, int]] = {}  # the session's number, and serializer
        self._numbers: dict[int, int] = {}  # and back
        self._last_asked = 0

    @property
    def is_waiting(self) -> bool:
        """Whether part of a message has come and the rest has not."""
        return self._ends.has_more

    # Messages of the peer's

    def _feed(self, data: bytes) -> None:
        try:
            for message in self._ends.feed(data):
                self.messages += 1
                self._message(message)
        except ProtocolError as error:
            raise stranger(self.name, data, str(error)) if self.is_dialled else error from None

    def _end(self) -> None:
        if self._ends.has_more:
            raise ProtocolError("the stream ends in the middle of a message")

    def _message(self, data: bytes) -> None:
        count, at = _count(data)
        kind, at = _whole(data, at)
        if (kind, count) == (NOTIFICATION, 3):
            self._notification(data, at)
            return
        if kind not in (REQUEST, RESPONSE) or count != 4:
            raise ProtocolError(f"no message has type {kind} and {count} parts")
        id, at = _whole(data, at)
        if id > ID_MAX:
            raise ProtocolError("a message id has more than 32 bits")
        if kind == REQUEST:
            self._request(data, at, id)
        else:
            self._response(data, at, id)

    def _request(self, data: bytes, at: int, id: int) -> None:
        if id in self._ids:  # an answer that says so would be taken for that of the first
            raise ProtocolError(f"message id {id} belongs to a call that is not answered yet")
        name, at = _text(data, at)
        fault = _fault(name, data, at)
        shape = Shape.CALL if fault else self._shape_of(name)
        if shape is not Shape.CALL:
            fault = f"{name.decode(errors='replace')} is a stream, and {self.name} has none"
        if fault:
            self._respond(id, _error(fault, is_wrong=True), _NIL)
            return
        number = self._next_id()
        self._open[number] = id
        self._ids.add(id)
        self._frame(Kind.CALL, number, serializer=_MSGPACK, name=name, payload=data[at:])

    def _notification(self, data: bytes, at: int) -> None:
        name, at = _text(data, at)
        if _fault(name, data, at):
            self.vain += 1
            return
        self._frame(
            Kind.CALL, self._next_id(), oneway=True, serializer=_MSGPACK, name=name,
            payload=data[at:],
        )  # fmt: skip

    def _response(self, data: bytes, at: int, id: int) -> None:
        found = self._asked.pop(id, None)
        if found is None:
            if id > self._last_asked:  # out of nowhere, and not late: the session counts it
                self._frame(Kind.CALL, 0, reply=True, serializer=_MSGPACK, payload=_NIL)
            else:
                self._stray()
            return
        number, wanted = found
        del self._numbers[number]
        if data[at : at + 1] != _NIL:
            self._fail(number, StatusCode.APPLICATION, self._read_error(data))
            return
        try:
            payload = converted(data[at + 1 :], _MSGPACK, wanted, self.limits)
        except FastRPCError as fault:
            self._refuse(number, StatusCode.RESULT_UNSENDABLE, f"the answer: {fault}")
        else:
            self._frame(Kind.CALL, number, reply=True, serializer=wanted, payload=payload)

    def _read_error(self, data: bytes) -> dict[str, Any]:
        """Return what the peer calls an error, of any shape, as the body of ours."""
        broken = check_msgpack(data, self.limits.max_depth + 1, self.limits.max_items)
        try:
            error = msgpack.unpackb(data, unicode_errors="replace")[2] if not broken else None
        except ValueError:  # keys that are neither text nor bytes
            error = None
        text = _text_in(error)
        body = {"type": _FOREIGN, "message": text or "the server gave no message"}
        return body if isinstance(error, str | bytes | None) else body | {"data": error}

    # Frames of the session's

    def _answer(self, frame: Frame) -> None:
        id = self._open.pop(frame.id, None)
        if id is None:
            return
        self._ids.discard(id)
        error, result = _NIL, _NIL
        try:
            if frame.status:
                is_wrong = frame.status == StatusCode.BAD_REQUEST
                error = _error(_told(frame), is_wrong=is_wrong)
            else:
                result = converted(frame.payload, frame.serializer, _MSGPACK, self.limits)
        except FastRPCError as fault:
            error = _error(f"the result: {fault}")
        self._respond(id, error, result)

    def _respond(self, id: int, error: bytes, result: bytes) -> None:
        self._to_peer(b"\x94\x01" + _number(id) + error + result)

    def _ask(self, frame: Frame, name: bytes) -> None:
        params = params_of(frame, _MSGPACK, self.name, self.limits)
        if not _is_array(params[0]):
            raise Unsupported(f"{self.name} has arguments by position only")
        what = string(name.decode()) + params
        if frame.oneway:
            self._to_peer(b"\x93\x02" + what)
            return
        id = self._next_asked()
        self._asked[id] = frame.id, frame.serializer or _MSGPACK
        self._numbers[frame.id] = id
        self._to_peer(b"\x94\x00" + _number(id) + what)

    def _next_asked(self) -> int:
        """Return an id of 32 bits that is not in use."""
        while True:
            self._last_asked = self._last_asked % ID_MAX + 1
            if self._last_asked not in self._asked:
                return self._last_asked

    def _forget(self, id: int) -> None:
        number = self._numbers.pop(id, None)
        if number is not None:
            del self._asked[number]
            self._late += 1

    def _item(self, frame: Frame) -> None:
        pass  # no stream was opened

    def _part(self, status: int, message: str) -> None:
        pass  # there is no message that could say so


def _count(data: bytes) -> tuple[int, int]:
    """Return how many parts the message has, and where the first begins."""
    byte = data[0]
    if 0x90 <= byte <= 0x9F:
        return byte & 15, 1
    if byte not in (0xDC, 0xDD):
        raise ProtocolError("a message is an array")
    start = 5 if byte == 0xDD else 3
    return int.from_bytes(data[1:start], "big"), start


def _whole(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at *at* and where it ends."""
    byte = data[at] if at < len(data) else 0xC0
    if byte < 0x80:
        return byte, at + 1
    if not 0xCC <= byte <= 0xCF:
        raise ProtocolError("type and id of a message are whole numbers")
    end = at + 1 + (1 << (byte - 0xCC))
    return int.from_bytes(data[at + 1 : end], "big"), end


def _text(data: bytes, at: int) -> tuple[bytes, int]:
    """Return the text at *at*, which may be written as bytes, and where it ends; or nothing."""
    byte = data[at]
    if not (0xA0 <= byte <= 0xBF or 0xC4 <= byte <= 0xC6 or 0xD9 <= byte <= 0xDB):
        return b"", 0
    end = scalar_end(data, at)
    width = 0 if byte <= 0xBF else 1 << (byte - (0xC4 if byte <= 0xC6 else 0xD9))
    return data[at + 1 + width : end], end


def _fault(name: bytes, data: bytes, at: int) -> str:
    """Return why name and params of a message are none; empty if they are."""
    if not at or not 0 < len(name) <= NAME_LENGTH_MAX:
        return f"the method must be a text of 1 to {NAME_LENGTH_MAX} bytes"
    byte = data[at]
    if _is_array(byte) or 0x80 <= byte <= 0x8F or byte in (0xDE, 0xDF):
        return ""
    return "params must be an array"


def _is_array(byte: int) -> bool:
    return 0x90 <= byte <= 0x9F or byte in (0xDC, 0xDD)


def _number(id: int) -> bytes:
    if id < 0x80:
        return id.to_bytes(1, "big")
    return b"\xce" + id.to_bytes(4, "big")


def _error(text: str, *, is_wrong: bool = False) -> bytes:
    """Return what a client is told; the type is 1 where the request was wrong, else 0.

    neovim shows the text of this shape, of no other array, and pynvim takes it for granted.
    """
    return b"\x92" + bytes([is_wrong]) + string(text)


def _told(frame: Frame) -> str:
    """Return the text for a reply whose status is not ok."""
    told = told_of(frame)
    text, kind = (str(told.get(key) or "") for key in ("message", "type"))
    text = text or f"status {frame.status}"
    return f"{kind}: {text}" if kind and frame.status in _TYPES else text


def _text_in(error: Any) -> str:
    """Return the text in what a peer calls an error: neovim sends [type, text]."""
    if isinstance(error, bytes):
        return error.decode(errors="replace")
    if isinstance(error, list):
        return next((text for part in error if (text := _words(part))), "") or repr(error)
    if isinstance(error, dict):
        return _words(error.get("message")) or repr(error)
    return _words(error) or ("" if error is None else repr(error))


def _words(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value if isinstance(value, str) else ""
