"""Keep the calls of one side of a connection, under the numbers that either side knows.

Numbers of calls must rise, and names of methods are sent once. A relay that loses a call,
lets another overtake it or sends one twice would break both. So it numbers them anew, in
the order in which they go on, and puts the name into a frame whose binding was lost.

Rules of the room:
  * nothing here knows sockets, and nothing waits;
  * a frame that needs no change goes on byte for byte.
"""

import struct
from dataclasses import dataclass, field
from typing import Final, NamedTuple, final

from fastrpc.errors import FrameError
from fastrpc.frame import Frame, FrameDecoder, encode_frame
from fastrpc.testing.faults import FaultKind, Rule
from fastrpc.wire import (
    BIT_SEG,
    FLAG_HEARTBEAT,
    FLAG_ONEWAY,
    FLAG_REPLY,
    HEADER_ARG,
    HEADER_BASE,
    HEADER_FULL,
    HEADER_MAX,
    ID_MAX,
    MAGIC,
    MASK_KIND,
    SKIP_MAX,
)

__all__ = ["Head", "Ledger", "Passage", "answer_of", "split"]

#: Longest frame that is carried: as long as any that a reader would even skip.
FRAME_MAX: Final = SKIP_MAX

_HEAD: Final = struct.Struct(">HHBBBBQL")
_ID: Final = struct.Struct(">Q")
_ID_AT: Final = 8
_ARG: Final = struct.Struct(">L")
_NAME: Final = struct.Struct(">H")
_NAME_AT: Final = 28


class Head(NamedTuple):
    """What a relay has to know of a frame."""

    kind: int
    id: int
    is_reply: bool
    is_oneway: bool
    is_heartbeat: bool

    @classmethod
    def of(cls, frame: bytes) -> "Head":
        """Read it from the bytes of a whole frame."""
        _, _, _, flags, _, kind, id, _ = _HEAD.unpack_from(frame)
        reply, oneway, beat = flags & FLAG_REPLY, flags & FLAG_ONEWAY, flags & FLAG_HEARTBEAT
        return cls(kind & MASK_KIND, id, bool(reply), bool(oneway), bool(beat))


def split(buffer: bytearray) -> list[bytes]:
    """Take the whole frames out of *buffer*, byte for byte.

    Raises:
        FrameError: These are no frames, or one is too long.
    """
    frames, at = [], 0
    while len(buffer) - at >= HEADER_BASE:
        magic, head, _, _, _, _, _, body = _HEAD.unpack_from(buffer, at)
        if magic != MAGIC or not HEADER_BASE <= head <= HEADER_MAX:
            raise FrameError(f"no frame begins with {bytes(buffer[at : at + 16])!r}")
        if body > FRAME_MAX:
            raise FrameError(f"a body of {body} bytes is over {FRAME_MAX}")
        if len(buffer) - at < head + body:
            break
        frames.append(bytes(buffer[at : at + head + body]))
        at += head + body
    del buffer[:at]
    return frames


def answer_of(frame: bytes) -> tuple[object, ...]:
    """Return what a reply says, value or error, and not how long it took: to be compared."""
    said = _read(frame)
    kept = said.bits & ~BIT_SEG
    return said.status, said.serializer, said.arg, kept, said.payload, tuple(said.buffers)


@final
@dataclass(slots=True, eq=False)
class Passage:
    """One call on its way.

    Attributes:
        id: Its number, as the caller has it.
        method: What is called.
        rules: What shall happen to it.
        request: Its first frame.
        is_oneway: Whether nobody waits for an answer.
        sent: The numbers under which it went on.
        answers: What came back, by these numbers.
        held: Frames that wait, while its request is delayed.
        is_lost: Whether its request is lost, and so is all that follows.
        is_cancelled: Whether the caller has given up.
    """

    id: int
    method: str
    rules: list[Rule]
    request: bytes
    is_oneway: bool
    sent: list[int] = field(default_factory=list)
    answers: dict[int, bytes] = field(default_factory=dict)
    held: list[bytes] | None = None
    is_lost: bool = False
    is_cancelled: bool = False

    def rule(self, kind: FaultKind, part: str = "") -> Rule | None:
        """Return the first rule of a kind that it meets."""
        for rule in self.rules:
            if rule.kind is kind and part in ("", rule.part):
                return rule
        return None


@final
class Ledger:
    """The calls that one side has made.

    Attributes:
        open: Those that have not ended, by the caller's number.
        sent: The same by the numbers under which they went on.
    """

    def __init__(self) -> None:
        self.open: dict[int, Passage] = {}
        self.sent: dict[int, Passage] = {}
        self._names: dict[int, bytes] = {}
        self._told: set[int] = set()  # method numbers that the callee knows
        self._last = 0
        self._tops: list[int] = [0]  # by number that went on: highest of the caller's so far

    def name_of(self, frame: bytes) -> str:
        """Return the method that a request is for, and keep its number."""
        head = int.from_bytes(frame[2:4], "big")
        arg = _ARG.unpack_from(frame, HEADER_BASE)[0] if head >= HEADER_ARG else 0
        size = _NAME.unpack_from(frame, _NAME_AT)[0] if head >= HEADER_FULL else 0
        name = frame[head : head + size]
        if not name:
            return self._names.get(arg, b"").decode(errors="replace")
        if arg:
            self._names[arg] = name
        return name.decode(errors="replace")

    def begin(self, passage: Passage) -> None:
        """Note a call that was made."""
        self.open[passage.id] = passage

    def number(self, passage: Passage) -> bytes:
        """Return the request of a call that goes on now, with the next number."""
        self._last += 1
        passage.sent.append(self._last)
        self.sent[self._last] = passage
        self._tops.append(max(self._tops[-1], passage.id))
        return with_id(self._bound(passage.request), self._last)

    def _bound(self, frame: bytes) -> bytes:
        """Return a request that says the method's name, unless the callee knows it."""
        head = int.from_bytes(frame[2:4], "big")
        arg = _ARG.unpack_from(frame, HEADER_BASE)[0] if head >= HEADER_ARG else 0
        name = self._names.get(arg)
        if name is None or arg in self._told:
            return frame
        self._told.add(arg)
        if head >= HEADER_FULL and _NAME.unpack_from(frame, _NAME_AT)[0]:
            return frame
        said = _read(frame)
        return encode_frame(
            said.kind, said.id, serializer=said.serializer, oneway=said.oneway,
            status=said.status, bits=said.bits & ~BIT_SEG, arg=arg, time=said.time, name=name,
            metadata=said.metadata, payload=said.payload, buffers=said.buffers,
        )  # fmt: skip

    def end(self, passage: Passage) -> None:
        """Forget a call."""
        self.open.pop(passage.id, None)
        for number in passage.sent:
            self.sent.pop(number, None)

    def taken(self, number: int) -> int:
        """Return the highest number of the caller's that a GOAWAY with *number* may mean."""
        if number >= ID_MAX:
            return number
        return self._tops[min(number, len(self._tops) - 1)]


def with_id(frame: bytes, id: int) -> bytes:
    """Return a frame with another number."""
    (before,) = _ID.unpack_from(frame, _ID_AT)
    if before == id:
        return frame
    return b"".join((frame[:_ID_AT], _ID.pack(id), frame[_ID_AT + 8 :]))


def _read(frame: bytes) -> Frame:
    (read,) = FrameDecoder(max_body=len(frame)).feed(frame)
    return read
