"""Cut bytes into WebSocket frames, and make frames of bytes: RFC 6455, section 5.

Masking, the codes of a close and their rules are the library's (`websockets`). The headers
of frames are read here, because the library hands out whole messages only, and we carry a
stream of bytes: what is there of a message goes on at once. So nothing is kept of large
ones, a slow one counts as a sign of life while it comes, and the limits of the session
hold as they do over TCP.

Rules of the room:
  * no socket, no clock, no state but that of the frame at hand;
  * a length is compared with its limit before the payload is looked at;
  * what breaks the rules ends the reading for good, with a code and words for the peer.
"""

import os
import struct
from collections.abc import Iterable
from typing import Final, TypeAlias, final

from websockets.frames import Close, CloseCode

try:
    from websockets.speedups import apply_mask
except ModuleNotFoundError:  # pragma: no cover - a platform that the library has no wheel for
    from websockets.utils import apply_mask

__all__ = [
    "BINARY", "CLOSE", "MESSAGE_SENT", "PING", "PONG", "TEXT", "Close", "CloseCode", "FrameReader",
    "close_frame", "frame", "frames", "size_of",
]  # fmt: skip

CONTINUATION: Final = 0
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10

#: Longest payload of a control frame.
CONTROL_MAX: Final = 125

#: Longest message we send: what is larger goes as several. It is the least that libraries
#: take by default, and lets pongs through between the parts of a large body.
MESSAGE_SENT: Final = 2**20

#: Longest payload that is copied behind its header; a larger one is written beside it.
COPY_MAX: Final = 64 * 2**10

Bytes: TypeAlias = bytes | bytearray | memoryview

_FIN: Final = 0x80
_MASKED: Final = 0x80
_RESERVED: Final = 0x70
_MEDIUM: Final = struct.Struct(">BBH")
_LARGE: Final = struct.Struct(">BBQ")


@final
class FrameReader:
    """Give the parts of messages, and the control frames between them, as bytes come.

    Args:
        masked: Whether the peer is a client, which masks what it sends.
        max_message: Most bytes of a message, all its fragments together.

    Attributes:
        opcode: What the part returned last belongs to: `TEXT`, `BINARY`, `CLOSE`, `PING`
            or `PONG`.
        is_last: Whether the message ends with that part.
        fault: Code and words of what the peer did wrong; nothing is read after it.
        is_done: Nothing more is taken.
    """

    __slots__ = (
        "_at", "_data", "_is_final", "_left", "_mask", "_masked", "_max_message", "_message",
        "_size", "fault", "is_done", "is_last", "opcode",
    )  # fmt: skip

    def __init__(self, *, masked: bool, max_message: int) -> None:
        self._masked = masked
        self._max_message = max_message
        self._data = b""  # what has come, from _at on
        self._at = 0
        self._left = 0  # payload bytes of a data frame that are still to come
        self._mask = b""  # turned, so that it begins with the next byte's
        self._message = 0  # opcode of the message that is under way
        self._size = 0  # bytes of it, as its headers tell
        self._is_final = False  # the frame at hand is the last of its message
        self.opcode = 0
        self.is_last = False
        self.fault: tuple[int, str] | None = None
        self.is_done = False

    @property
    def waits(self) -> bool:
        """Whether bytes are here that were not read."""
        return self._at < len(self._data)

    @property
    def is_between(self) -> bool:
        """Whether the last data frame was read to its end."""
        return not self._left

    def feed(self, data: bytes) -> None:
        """Take the next bytes; `next` reads them."""
        if self.is_done:
            return
        self._data = self._data[self._at :] + data if self._at < len(self._data) else data
        self._at = 0

    def stop(self) -> None:
        """Drop what is here and what comes."""
        self.is_done = True
        self._data, self._at, self._left = b"", 0, 0

    def next(self, most: int = 2**62) -> Bytes | None:
        """Return the next part, None if more bytes have to come or it is done.

        Args:
            most: Longest part of a message to return, more than 0; a control frame is
                returned whole.
        """
        left = self._left
        if not left:
            part = self._head()
            if part is not None:
                return part
            left = self._left
        data, at = self._data, self._at
        size = min(left, len(data) - at, most)
        if not size:
            return None
        part = memoryview(data)[at : at + size]
        self._left = left = left - size
        self.opcode = self._message
        self.is_last = False
        if not left:
            self._end_frame()
        if self._masked:
            part = apply_mask(part, self._mask)
            turn = size & 3
            if turn and left:
                self._mask = self._mask[turn:] + self._mask[:turn]
        self._move(at + size)
        return part

    def _head(self) -> Bytes | None:
        """Read a header; return the payload if the frame is complete with it."""
        data, at = self._data, self._at
        there = len(data) - at
        if there < 2:
            return None
        first, second = data[at], data[at + 1]
        opcode, size = first & 0x0F, second & 0x7F
        if first & _RESERVED or (second >= _MASKED) is not self._masked or opcode > BINARY:
            if wrong := self._wrong(first, second):
                self._fail(CloseCode.PROTOCOL_ERROR, wrong)
                return None
        elif (opcode == CONTINUATION) is not (self._message != 0):
            wrong = "continues no message" if not opcode else "begins before the last one ended"
            self._fail(CloseCode.PROTOCOL_ERROR, f"a message that {wrong}")
            return None
        head = 2 if size < 126 else 4 if size == 126 else 10
        whole = head + 4 if self._masked else head
        if there < whole:
            return None
        if head > 2:
            size = int.from_bytes(data[at + 2 : at + head])
        mask = data[at + head : at + whole] if self._masked else b""
        if opcode > BINARY:
            return self._control(opcode, at + whole, size, mask)
        if self._size + size > self._max_message:
            words = f"a message of more than {self._max_message} bytes"
            self._fail(CloseCode.MESSAGE_TOO_BIG, words)
            return None
        self._size += size
        self._message = opcode or self._message
        self._is_final = first >= _FIN
        self._mask = mask
        self._left = size
        self._move(at + whole)
        if size:
            return None  # the payload is `next`'s
        self.opcode = self._message
        self._end_frame()
        return b""

    def _control(self, opcode: int, at: int, size: int, mask: bytes) -> bytes | None:
        if len(self._data) - at < size:
            return None  # the header is read again then
        part = self._data[at : at + size]
        self.opcode = opcode
        self.is_last = True
        self._move(at + size)
        return apply_mask(part, mask) if mask else part

    def _wrong(self, first: int, second: int) -> str:
        """Say what is wrong with the first two bytes of a header, if anything is."""
        opcode, size = first & 0x0F, second & 0x7F
        if first & _RESERVED:
            return "reserved bits are set, and no extension was agreed on"
        if self._masked and second < _MASKED:
            return "a frame that is not masked"
        if not self._masked and second >= _MASKED:
            return "a masked frame from a server"
        if opcode not in (CLOSE, PING, PONG):
            return f"opcode {opcode} is reserved"
        if first < _FIN:
            return "a control frame in fragments"
        return "a control frame of more than 125 bytes" if size > CONTROL_MAX else ""

    def _end_frame(self) -> None:
        """Note that a data frame is complete."""
        self.is_last = self._is_final
        if self._is_final:
            self._message = self._size = 0

    def _move(self, at: int) -> None:
        if at == len(self._data):
            self._data, self._at = b"", 0
        else:
            self._at = at

    def _fail(self, code: int, words: str) -> None:
        self.fault = code, words
        self.stop()


def size_of(data: Bytes) -> int:
    """Return how many bytes *data* has."""
    return data.nbytes if isinstance(data, memoryview) else len(data)


def frame(opcode: int, payload: Bytes, masked: bool) -> bytes:
    """Return one whole frame with a copy of *payload*."""
    head = _head_of(opcode, size_of(payload), masked)
    if masked:
        mask = os.urandom(4)
        return b"".join((head, mask, apply_mask(payload, mask)))
    return b"".join((head, payload))


def frames(
    opcode: int, pieces: Iterable[Bytes], masked: bool, most: int = MESSAGE_SENT
) -> list[Bytes]:
    """Return what to write for *pieces*: messages of at most *most* bytes.

    Large pieces stand in the list themselves, or masked, but not joined.
    """
    out: list[Bytes] = []
    message: list[memoryview] = []
    room = most
    for piece in pieces:
        rest = memoryview(piece).cast("B")
        while rest:
            part, rest = rest[:room], rest[room:]
            message.append(part)
            room -= len(part)
            if not room:
                _add_message(out, opcode, message, most, masked)
                message, room = [], most
    if message:
        _add_message(out, opcode, message, most - room, masked)
    return out


def close_frame(code: int, words: str, masked: bool) -> bytes:
    """Return a close with a reason, which is cut to fit.

    Args:
        code: A code that may be sent; 1005 is sent as no code at all.
        words: The reason, for people.
        masked: Whether we are the client.
    """
    if code == CloseCode.NO_STATUS_RCVD:
        return frame(CLOSE, b"", masked)
    reason = words.encode()[: CONTROL_MAX - 2].decode(errors="ignore")
    return frame(CLOSE, Close(code, reason).serialize(), masked)


def _add_message(
    out: list[Bytes], opcode: int, message: list[memoryview], size: int, masked: bool
) -> None:
    head = _head_of(opcode, size, masked)
    if not masked:
        out.append(head)
        out += message
        return
    mask = os.urandom(4)
    out.append(head + mask)
    twice, at = mask + mask, 0
    for part in message:
        turn = at & 3
        out.append(apply_mask(part, twice[turn : turn + 4]))
        at += len(part)


def _head_of(opcode: int, size: int, masked: bool) -> bytes:
    flag = _MASKED if masked else 0
    if size < 126:
        return bytes((_FIN | opcode, flag | size))
    if size < 2**16:
        return _MEDIUM.pack(_FIN | opcode, flag | 126, size)
    return _LARGE.pack(_FIN | opcode, flag | 127, size)
