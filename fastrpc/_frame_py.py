"""Turn bytes into frames and frames into bytes: the pure twin.

`_frame.pyx` is the same in Cython; this file is the plain one, the owner of the
docstrings, and the specification of both. What a connection does with its
frames is in `_lane_py.py`.

Rules of the room:
  * a length from the peer is compared with its limit before memory is taken;
  * payloads are owned bytes, never views of a buffer;
  * a change here without the same change in `_frame.pyx` does not merge.

Size: may grow to the budget of its twin (900), for it mirrors that file.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Any, Final, final

from fastrpc.errors import ConfigError, FrameError, ProtocolError
from fastrpc.wire import (
    BIG_BODY,
    BIT_SEG,
    BODY_MAX,
    DEFAULT_BODY,
    FLAG_HEARTBEAT,
    FLAG_ONEWAY,
    FLAG_REPLY,
    HEADER_ARG,
    HEADER_BASE,
    HEADER_FULL,
    HEADER_MAX,
    HEADER_TIME,
    ID_MAX,
    MAGIC,
    MASK_KIND,
    MASK_SERIALIZER,
    MSGPACK_FIXED,
    MSGPACK_VARIABLE,
    SEGMENT_ALIGN,
    SERIALIZERS,
    SKIP_MAX,
    VERSION,
)

__all__ = [
    "CallTable", "Frame", "FrameDecoder", "check_metadata", "check_msgpack", "encode_frame",
    "encode_pieces", "release_bodies", "writable",
]  # fmt: skip

HEAD: Final = struct.Struct(">HHBBBBQL")
HEAD_FULL: Final = struct.Struct(">HHBBBBQLLLHH")
_U32: Final = struct.Struct(">L")

SEGMENTS_MAX: Final = 1024  # wire.LIMIT_CEILINGS["max_segments"]
DEPTH_ROOM: Final = 513  # wire.LIMIT_CEILINGS["max_depth"] and one for the outermost value

Slot = tuple[Any, Callable[[bytes], Any] | None, str, float, float]

# Printable ASCII but space and capitals: what a metadata key is made of.
_KEY_BYTES: Final = bytes(b for b in range(0x21, 0x7F) if not ord("A") <= b <= ord("Z"))

# Bytes that don't start a msgpack container; deleting them counts those that may.
_NO_CONTAINER: Final = bytes(b for b in range(256) if not (0x80 <= b <= 0x9F or 0xDC <= b <= 0xDF))


@final
class Frame:
    """One frame, its fields in words.

    Attributes:
        kind: What it is, a `wire.Kind` number.
        id: Message id.
        serializer: How the payload is encoded, a `wire.Serializer` number.
        reply: The id is one of the receiver's.
        oneway: Nobody waits for an answer.
        heartbeat: A ping, or with `reply` a pong.
        status: How a call ended, a `wire.StatusCode` number.
        bits: END, ZIP, SEG and MORE.
        arg: Method number, credit, or application code.
        time: Milliseconds left (calls), handler time in microseconds (replies).
        name: Method name, if sent.
        metadata: Metadata, still packed.
        payload: Encoded value; with SEG the first segment.
        buffers: Further segments.
        oversize: Declared body size of a frame whose body was too large and is
            being skipped; 0 for all others.
    """

    __slots__ = (
        "arg",
        "bits",
        "buffers",
        "heartbeat",
        "id",
        "kind",
        "metadata",
        "name",
        "oneway",
        "oversize",
        "payload",
        "reply",
        "serializer",
        "status",
        "time",
    )

    def __init__(
        self,
        kind: int = 0,
        id: int = 0,
        *,
        serializer: int = 0,
        reply: bool = False,
        oneway: bool = False,
        heartbeat: bool = False,
        status: int = 0,
        bits: int = 0,
        arg: int = 0,
        time: int = 0,
        name: bytes = b"",
        metadata: bytes = b"",
        payload: bytes = b"",
        buffers: Sequence[bytes] = (),
        oversize: int = 0,
    ) -> None:
        self.kind = kind
        self.id = id
        self.serializer = serializer
        self.reply = reply
        self.oneway = oneway
        self.heartbeat = heartbeat
        self.status = status
        self.bits = bits
        self.arg = arg
        self.time = time
        self.name = name
        self.metadata = metadata
        self.payload = payload
        self.buffers = list(buffers)
        self.oversize = oversize

    def __repr__(self) -> str:
        """Tell the fields that are set."""
        told = {slot: getattr(self, slot) for slot in self.__slots__}
        return f"Frame({', '.join(f'{k}={v!r}' for k, v in told.items() if v)})"

    def __eq__(self, other: object) -> bool:
        """Compare field by field."""
        if not isinstance(other, Frame):
            return NotImplemented
        return all(getattr(self, slot) == getattr(other, slot) for slot in self.__slots__)

    __hash__ = None  # type: ignore[assignment]  # frames compare by value and can change


def encode_frame(
    kind: int,
    id: int,
    *,
    serializer: int = 0,
    reply: bool = False,
    oneway: bool = False,
    heartbeat: bool = False,
    status: int = 0,
    bits: int = 0,
    arg: int = 0,
    time: int = 0,
    name: bytes = b"",
    metadata: bytes = b"",
    payload: bytes = b"",
    buffers: Sequence[bytes] = (),
    header_size: int = 0,
) -> bytes:
    """Return the bytes of one frame, with the shortest header that holds it.

    Args:
        kind: A `wire.Kind` number, 0 to 15.
        id: Message id.
        serializer: How *payload* is encoded, 0 to 31.
        reply: The id is one of the receiver's.
        oneway: No answer wanted.
        heartbeat: Ping or pong.
        status: How a call ended.
        bits: END, ZIP and MORE; SEG is set by itself when there are buffers.
        arg: Method number, credit, or application code.
        time: Milliseconds left, or handler time in microseconds.
        name: Method name.
        metadata: Packed metadata.
        payload: Encoded value.
        buffers: Raw segments that follow the payload.
        header_size: Least header size; what it adds is filled with zeros.

    Raises:
        ConfigError: A field does not fit its place in the header.
    """
    return b"".join(
        encode_pieces(
            kind, id, serializer=serializer, reply=reply, oneway=oneway, heartbeat=heartbeat,
            status=status, bits=bits, arg=arg, time=time, name=name, metadata=metadata,
            payload=payload, buffers=buffers, header_size=header_size,
        )
    )  # fmt: skip


def encode_pieces(
    kind: int,
    id: int,
    *,
    serializer: int = 0,
    reply: bool = False,
    oneway: bool = False,
    heartbeat: bool = False,
    status: int = 0,
    bits: int = 0,
    arg: int = 0,
    time: int = 0,
    name: bytes = b"",
    metadata: bytes = b"",
    payload: bytes = b"",
    buffers: Sequence[bytes] = (),
    header_size: int = 0,
) -> list[Any]:
    """Return one frame as `encode_frame` does, in pieces: its buffers are not copied."""
    pieces: list[Any] = [payload]
    if buffers:
        bits |= BIT_SEG
        pieces = _segment_pieces([payload, *buffers], len(name) + len(metadata))
    size = len(name) + len(metadata) + sum(map(len, pieces))
    least = (
        HEADER_FULL
        if name or metadata
        else HEADER_TIME
        if time
        else HEADER_ARG
        if arg
        else HEADER_BASE
    )
    head = max(least, header_size)
    if size > BODY_MAX:
        raise ConfigError(f"body of {size} bytes is over {BODY_MAX}")
    if head > HEADER_MAX or head & 3:
        raise ConfigError(f"header size must be a multiple of 4 up to {HEADER_MAX}, got {head}")
    if not (0 <= serializer < SERIALIZERS and 0 <= kind <= MASK_KIND):
        raise ConfigError(f"serializer {serializer} or kind {kind} does not fit the header")
    flags = serializer
    flags |= (FLAG_REPLY if reply else 0) | (FLAG_ONEWAY if oneway else 0)
    flags |= FLAG_HEARTBEAT if heartbeat else 0
    _fits("status", status, 0xFF)
    _fits("bits", bits, 0xFF)
    _fits("kind beside the bits", bits & MASK_KIND, 0)
    _fits("id", id, 0xFFFFFFFFFFFFFFFF)
    _fits("arg", arg, 0xFFFFFFFF)
    _fits("time", time, 0xFFFFFFFF)
    _fits("name size", len(name), 0xFFFF)
    _fits("metadata size", len(metadata), 0xFFFF)
    full = HEAD_FULL.pack(
        MAGIC, head, VERSION, flags, status, bits | kind, id, size, arg, time,
        len(name), len(metadata),
    )  # fmt: skip
    pieces[0] = b"".join((full[:head].ljust(head, b"\0"), name, metadata, pieces[0]))
    return pieces


def _fits(field: str, value: int, limit: int) -> None:
    if not 0 <= value <= limit:
        raise ConfigError(f"{field} {value} does not fit the header")


def _segment_pieces(segments: Sequence[Any], at: int) -> list[Any]:
    """Return the table and the segments, each padded to where the next one begins."""
    if len(segments) > SEGMENTS_MAX:
        raise ConfigError(f"{len(segments)} segments are over {SEGMENTS_MAX}")
    sizes = [len(segment) for segment in segments]
    head = bytearray(struct.pack(f">{len(sizes) + 1}L", len(sizes), *sizes))
    head += bytes(-(at + len(head)) % SEGMENT_ALIGN)
    head += segments[0]
    pieces: list[Any] = [head]
    end = at + len(head)
    for segment in segments[1:]:
        if end % SEGMENT_ALIGN:
            pad = bytes(-end % SEGMENT_ALIGN)
            end += len(pad)
            if len(pieces) == 1:
                head += pad
            else:
                pieces.append(pad)
        pieces.append(segment)
        end += len(segment)
    pieces[0] = bytes(head)
    return pieces


def _split_segments(body: bytes, at: int) -> list[bytes]:
    """Cut the part of *body* from *at* on into its segments."""
    end = len(body)
    if end - at < 4:
        raise FrameError("segment table is cut off", "segment table")
    (count,) = _U32.unpack_from(body, at)
    if not 1 <= count <= SEGMENTS_MAX:
        raise FrameError(f"segment count {count} is not 1 to {SEGMENTS_MAX}", "segment table")
    pos = at + 4 + 4 * count
    if pos > end:
        raise FrameError("segment table is cut off", "segment table")
    out = []
    for size in struct.unpack_from(f">{count}L", body, at + 4):
        start = pos + -pos % SEGMENT_ALIGN
        if start > end or size > end - start:
            raise FrameError(f"segment of {size} bytes runs past the body", "segment table")
        if any(body[pos:start]):
            raise FrameError("bytes between segments are not zero", "segment table")
        pos = start + size
        out.append(body[start:pos])
    if pos != end:
        raise FrameError(f"{end - pos} bytes left over after the last segment", "segment table")
    return out


def check_msgpack(data: bytes, max_depth: int, max_items: int) -> str:
    """Say what a msgpack payload has that none may have; "" if nothing.

    Looks at container headers only, and takes no memory for what they claim.
    Malformed input passes: the decoder will say what is wrong with it. A map's
    keys may not be containers: Python hashes those in a way that a peer can
    foresee, and so could make a map of them slow without end.

    Args:
        data: One encoded value.
        max_depth: Deepest nesting, counting the outermost container as 1.
        max_items: Most elements in all containers together; a map's keys and
            values count one each.
    """
    if not isinstance(data, bytes):
        raise TypeError(f"check_msgpack() takes bytes, not {type(data).__name__}")
    if not 0 < max_depth < DEPTH_ROOM:
        raise ConfigError(f"max_depth must be 1 to {DEPTH_ROOM - 1}, got {max_depth}")
    size = len(data)
    if size <= max_items and len(data.translate(None, _NO_CONTAINER)) <= 1:
        return ""
    left = [1]  # how many values each open container still waits for
    maps = [False]  # whether it is a map: then every other value is a key
    pos = items = 0
    while left:
        if left[-1] == 0:
            left.pop()
            maps.pop()
            continue
        left[-1] -= 1
        if pos >= size:
            return ""
        byte = data[pos]
        pos += 1
        if 0x80 <= byte <= 0x9F:
            count = (byte & 15) * (2 if byte < 0x90 else 1)
        elif byte >= 0xDC and byte <= 0xDF:
            width = 4 if byte & 1 else 2
            count = int.from_bytes(data[pos : pos + width], "big") * (2 if byte >= 0xDE else 1)
            pos += width
            if pos > size:
                return ""
        else:
            if byte in MSGPACK_VARIABLE:
                width, extra = MSGPACK_VARIABLE[byte]
                pos += width + extra + int.from_bytes(data[pos : pos + width], "big")
            elif 0xA0 <= byte <= 0xBF:
                pos += byte & 31
            else:
                pos += MSGPACK_FIXED.get(byte, 0)
            continue
        items += min(count, size - pos)  # more is not there, which the decoder will say
        if items > max_items:
            return f"has more than {max_items} items (max_items)"
        if len(left) > max_depth:
            return f"is nested deeper than {max_depth} (max_depth)"
        if maps[-1] and left[-1] & 1:
            return "has a container as a map's key"
        left.append(count)
        maps.append(byte < 0x90 or byte >= 0xDE)
    return ""


def writable(data: bytes) -> memoryview:
    """Return a view of *data* that may be written to; nobody may use *data* afterwards.

    For memory that a peer's bytes were received into: who gets it shall have it as his own.
    """
    if not isinstance(data, bytes):
        raise TypeError(f"writable() takes bytes, not {type(data).__name__}")
    return memoryview(bytearray(data))


def release_bodies(everything: bool = False) -> None:
    """Let go of the memory of bodies over 2 MiB that was not used since the last call.

    Before the first call none is kept, so whoever calls has to go on doing so.

    Args:
        everything: Let go of all of it, and keep none until the next call.
    """
    # Nothing is kept here: Python can't write into a `bytes`.


def check_metadata(data: bytes, max_size: int, max_pairs: int) -> bool:
    """Say whether packed metadata is sound; who wants to know why not unpacks it.

    Args:
        data: Pairs of u8 key size, key, u16 value size, value.
        max_size: Most bytes.
        max_pairs: Most pairs.
    """
    if not isinstance(data, bytes):
        raise TypeError(f"check_metadata() takes bytes, not {type(data).__name__}")
    at, end, pairs = 0, len(data), 0
    if end > max_size:
        return False
    while at < end:
        stop = at + 1 + data[at]
        pairs += 1
        if stop == at + 1 or stop + 2 > end or pairs > max_pairs:
            return False
        if data[at + 1 : stop].translate(None, _KEY_BYTES):
            return False
        at = stop + 2 + int.from_bytes(data[stop : stop + 2], "big")
    return at == end


class Splitter:
    """Cut a byte stream into frames and call `_on_frame` for each."""

    __slots__ = (
        "_big",
        "_big_at",
        "_big_size",
        "_halted",
        "_head",
        "_need",
        "_rest",
        "_skip",
        "magic",
        "max_body",
    )

    def __init__(self, max_body: int, magic: int) -> None:
        if not 0 < max_body <= BODY_MAX:
            raise ConfigError(f"max_body must be 1 to {BODY_MAX}, got {max_body}")
        if not 0 <= magic <= 0xFFFF:
            raise ConfigError(f"magic must be 0 to 65535, got {magic}")
        self.max_body = max_body
        self.magic = magic
        self._rest = bytearray()  # the start of a frame that is not whole yet
        self._need = 0  # how long _rest must be before looking again is worth it
        self._head = b""  # header of the frame whose body goes into _big
        self._big: bytearray | None = None
        self._big_at = self._big_size = 0
        self._skip = 0  # bytes of a too large body still to be dropped
        self._halted = False  # keep what comes, deliver nothing

    def _split(self, data: bytes) -> None:
        while True:
            if self._rest or self._halted:
                self._rest += data
                if self._halted or len(self._rest) < self._need:
                    return
                data = bytes(self._rest)
                self._rest.clear()
            self._need = 0
            while data and self._big is not None:
                room = self._room()
                take = min(len(data), len(room))
                room[:take] = data[:take]
                data = data[take:]
                self._filled(take)
            self._run(data)
            # More is there only if a handler has fed it meanwhile, or it was halted.
            if self._halted or not self._rest or len(self._rest) < self._need:  # type: ignore[redundant-expr]
                return
            data = b""

    def _room(self) -> memoryview:
        """Return memory for what comes next of the large body; it grows with what came."""
        assert self._big is not None
        more = min(max(self._big_at, BIG_BODY), self._big_size - self._big_at)
        if self._big_at == len(self._big):
            self._big = self._big + bytes(more)  # a new one: the old may be in use
        return memoryview(self._big)[self._big_at :]

    def _filled(self, nbytes: int) -> None:
        """Count bytes received straight into the large body."""
        big = self._big
        self._big_at += nbytes
        if big is None or self._big_at < self._big_size:
            return
        self._big = None
        if not self._halted:  # else the lane was cut off while the body came
            self._deliver(self._head, 0, bytes(big), 0, len(big))

    def _run(self, data: bytes) -> None:
        """Deliver the whole frames of *data* and keep the rest."""
        pos, end = 0, len(data)
        try:
            while not self._halted:
                if self._skip:
                    step = min(self._skip, end - pos)
                    pos += step
                    self._skip -= step
                    if self._skip:
                        break
                if end - pos < HEADER_BASE:
                    if end - pos >= 2 and data[pos] << 8 | data[pos + 1] != self.magic:
                        self._check(data, pos, 0, 0, 0)  # no need to wait for strangers
                    self._need = HEADER_BASE if end - pos >= 2 else 2
                    break
                magic, head, version, _, _, _, _, size = HEAD.unpack_from(data, pos)
                if (
                    magic != self.magic
                    or version != VERSION
                    or size > self.max_body
                    or not HEADER_BASE <= head <= HEADER_MAX
                    or head & 3
                ):
                    self._check(data, pos, version, head, size)
                start = pos + head
                stop = start + size
                if start > end:
                    self._need = head
                    break
                if size > self.max_body:
                    at, pos = pos, start
                    self._skip = size
                    self._deliver(data, at, b"", 0, 0, size)
                elif stop <= end:
                    at, pos = pos, stop
                    self._deliver(data, at, data, start, stop)
                else:
                    if size >= BIG_BODY:
                        self._head = data[pos:start]
                        self._big = bytearray(data[start:])
                        self._big_at, self._big_size = end - start, size
                        pos = end
                    else:
                        self._need = head + size
                    break
        finally:
            self._rest[:0] = data[pos:]  # in front: a handler may have fed us what follows

    def _check(self, data: bytes, pos: int, version: int, head: int, size: int) -> None:
        """Raise what is wrong with a header; a body that can be skipped is fine."""
        seen = bytes(data[pos : pos + 64])
        if seen[:2] != self.magic.to_bytes(2, "big"):
            raise FrameError(f"not a frame: it starts with {seen[:16]!r}", "magic", seen)
        if not HEADER_BASE <= head <= HEADER_MAX or head & 3:
            raise FrameError(
                f"header size {head} is not a multiple of 4 in 20..256", "header size", seen
            )
        if version != VERSION:
            raise FrameError(f"version {version} is not {VERSION}", "version", seen)
        if size > BODY_MAX or (size > self.max_body and size > SKIP_MAX):
            raise FrameError(f"body of {size} bytes is over {self.max_body}", "body size", seen)

    def _deliver(
        self, head: bytes, at: int, data: bytes, start: int, stop: int, oversize: int = 0
    ) -> None:
        _, hsize, _, flags, status, bits, id, _ = HEAD.unpack_from(head, at)
        arg = time = name = meta = 0
        if hsize > HEADER_BASE:
            arg, time, name, meta = struct.unpack(
                ">LLHH", head[at + HEADER_BASE : at + min(hsize, HEADER_FULL)].ljust(12, b"\0")
            )
            if name + meta > (oversize or stop - start):
                raise FrameError(
                    f"name of {name} and metadata of {meta} bytes are longer than the body",
                    "name and meta",
                )
        self._on_frame(
            flags, status, bits, id, arg, time, name, meta, data, start, stop, oversize, hsize
        )

    def _on_frame(
        self, flags: int, status: int, bits: int, id: int, arg: int, time: int, name: int,
        meta: int, data: bytes, start: int, stop: int, oversize: int, hsize: int,
    ) -> None:  # fmt: skip
        raise AssertionError


def make_frame(
    flags: int, status: int, bits: int, id: int, arg: int, time: int,
    name: int, meta: int, data: bytes, start: int, stop: int, oversize: int,
) -> Frame:  # fmt: skip
    """Make the object for a frame that leaves this room."""
    if oversize:
        named = metadata = payload = b""
        buffers: list[bytes] = []
    else:
        named = data[start : start + name]
        metadata = data[start + name : start + name + meta]
        if bits & BIT_SEG:
            payload, *buffers = _split_segments(data[start:stop], name + meta)
        else:
            payload, buffers = data[start + name + meta : stop], []
    return Frame(
        bits & MASK_KIND, id, serializer=flags & MASK_SERIALIZER, reply=bool(flags & FLAG_REPLY),
        oneway=bool(flags & FLAG_ONEWAY), heartbeat=bool(flags & FLAG_HEARTBEAT), status=status,
        bits=bits & ~MASK_KIND, arg=arg, time=time, name=named, metadata=metadata, payload=payload,
        buffers=buffers, oversize=oversize,
    )  # fmt: skip


@final
class FrameDecoder(Splitter):
    """Turn bytes, cut anywhere, into frames.

    Args:
        max_body: Longest body that is taken in; longer ones are skipped and
            told by `Frame.oversize`, very long ones refused.
        magic: The two bytes every frame must begin with.
    """

    __slots__ = ("_error", "_frames")

    def __init__(self, max_body: int = DEFAULT_BODY, magic: int = MAGIC) -> None:
        super().__init__(max_body, magic)
        self._frames: list[Frame] = []
        self._error: FrameError | None = None

    def feed(self, data: bytes) -> list[Frame]:
        """Take the next bytes and return the frames that they complete.

        Raises:
            FrameError: The stream is not frames. Frames before the bad one are
                returned first, the error is raised by the next call; from then
                on by every call.
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"feed() takes bytes, not {type(data).__name__}")
        if self._error is not None:
            raise self._error
        try:
            self._split(bytes(data))
        except FrameError as exc:
            self._error = exc
            self._halted = True
            if not self._frames:
                raise
        frames, self._frames = self._frames, []
        return frames

    @property
    def waiting(self) -> bool:
        """Whether part of a frame has come and the rest has not."""
        return bool(self._rest or self._big is not None or self._skip)

    def _on_frame(self, *fields: Any) -> None:
        self._frames.append(make_frame(*fields[:-1]))


@final
class CallTable:
    """Open calls of one connection, by id.

    Ids rise from *first* by one and are never used again, so a late reply can't
    wake the wrong caller. Use from one thread only.

    Args:
        first: The first id.
    """

    __slots__ = ("_open", "next_id", "soonest")

    def __init__(self, first: int = 1) -> None:
        if not 1 <= first <= ID_MAX:
            raise ConfigError(f"first id must be 1 to {ID_MAX}, got {first}")
        self._open: dict[int, Slot] = {}
        self.next_id = first
        self.soonest = 0.0

    def __len__(self) -> int:
        """Return how many calls are open."""
        return len(self._open)

    def open(
        self,
        waiter: Any,
        decode: Callable[[bytes], Any] | None = None,
        name: str = "",
        started: float = 0.0,
        deadline: float = 0.0,
    ) -> int:
        """Enter a call and return its id.

        Args:
            waiter: Future that gets the result.
            decode: Decoder of the result, None for the connection's own.
            name: Method, for messages.
            started: When the caller began, on the caller's clock.
            deadline: When `expire` gives the call back, 0 for never.
        """
        slot = (waiter, decode, name, started, deadline)
        id = self.next_id
        if id >= ID_MAX:
            raise ProtocolError("the ids of this connection are used up")
        self.next_id = id + 1
        self._open[id] = slot
        if deadline and (deadline < self.soonest or not self.soonest):
            self.soonest = deadline
        return id

    def take(self, id: int) -> Slot | None:
        """Remove the call *id* and return what `open` was given.

        Returns None when no such call is open. That is ordinary, not an error:
        the caller may have given up before the reply came.
        """
        return self._open.pop(id, None)

    def expire(self, now: float) -> list[tuple[int, Slot]]:
        """Remove and return the calls whose deadline is not after *now*."""
        if not self.soonest or now < self.soonest:
            return []
        late = [(id, slot) for id, slot in self._open.items() if slot[4] and slot[4] <= now]
        for id, _ in late:
            del self._open[id]
        self.soonest = min((slot[4] for slot in self._open.values() if slot[4]), default=0.0)
        late.sort(key=lambda entry: entry[0])
        return late

    def abandoned(self) -> list[int]:
        """Remove the calls whose waiter is done already, and return their ids."""
        # `done` may be anybody's code, and close or open calls itself.
        gone = sorted(id for id, slot in list(self._open.items()) if slot[0].done())
        return [id for id in gone if self._open.pop(id, None) is not None]

    def drain(self, above: int = 0) -> list[tuple[int, Slot]]:
        """Remove and return the calls with an id over *above*, oldest first."""
        gone = sorted(
            (entry for entry in self._open.items() if entry[0] > above),
            key=lambda entry: entry[0],
        )
        for id, _ in gone:
            del self._open[id]
        if not self._open:
            self.soonest = 0.0
        return gone
