# cython: language_level=3
"""Turn bytes into frames and frames into bytes: the compiled twin.

`_frame_py.py` is the same in plain Python and says why things are as they are;
here stand only the reasons that are C's own.

Rules of the room:
  * a length from the peer is compared with its limit before it is added to a
    position or memory is taken;
  * no raw pointer is used after a call into Python, unless the memory behind it
    is held by an object that this function holds;
  * a change here without the same change in `_frame_py.py` does not merge.

Size: up to 1200 lines, for large bodies and their segments have their memory from here
and from nowhere else.
"""

cimport cython
from cpython.bytearray cimport PyByteArray_GET_SIZE
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

from cpython.list cimport PyList_GET_ITEM
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.ref cimport PyObject
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from fastrpc.errors import ConfigError, FrameError, ProtocolError

__all__ = [
    "CallTable", "Frame", "FrameDecoder", "check_metadata", "check_msgpack", "encode_frame",
    "encode_pieces", "release_bodies", "writable",
]

# C copies of wire.py; a test compares them with it through `constants()`.
cdef enum:
    MAGIC = 0xFA57
    VERSION = 1
    HEADER_BASE = 20
    HEADER_ARG = 24
    HEADER_TIME = 28
    HEADER_FULL = 32
    HEADER_MAX = 256
    FLAG_REPLY = 0x80
    FLAG_ONEWAY = 0x40
    FLAG_HEARTBEAT = 0x20
    MASK_SERIALIZER = 0x1F
    BIT_SEG = 0x40
    MASK_KIND = 0x0F
    SEGMENT_ALIGN = 8
    SERIALIZERS = 32
    SKIP_MAX = 67108864
    BIG_BODY = 32768
    BODY_MAX = 2147483647
    DEFAULT_BODY = 16777216

cdef extern from *:
    """
    /* The field is to become private some day; it has to be reset until then. */
    #ifdef Py_GIL_DISABLED
    #define is_ours_alone(body) 0 /* a count of one proves nothing there */
    #else
    #define is_ours_alone(body) (Py_REFCNT(body) == 1)
    #endif
    #ifdef __linux__
    #include <sys/mman.h>
    #endif
    static void use_large_pages(char *from, Py_ssize_t size) {
    #if defined(__linux__) && defined(MADV_HUGEPAGE)
        const size_t page = 2097152;
        size_t start = ((size_t)from + page - 1) & ~(page - 1);
        size_t stop = ((size_t)from + (size_t)size) & ~(page - 1);
        if (stop > start)
            madvise((void *)start, stop - start, MADV_HUGEPAGE); /* no harm if it fails */
    #endif
    }
    static void forget_hash(PyObject *body) {
        _Py_COMP_DIAG_PUSH
        _Py_COMP_DIAG_IGNORE_DEPR_DECLS
        ((PyBytesObject *)body)->ob_shash = -1;
        _Py_COMP_DIAG_POP
    }
    """
    void forget_hash(PyObject* body) noexcept
    bint is_ours_alone(PyObject* body) noexcept
    void use_large_pages(char* start, Py_ssize_t size) noexcept

cdef uint64_t ID_MAX = 9223372036854775807

cdef enum:
    LARGE_FROM = 2097152  # bytes that must have come before the rest gets pages of that size
    BODIES = 4
    BODIES_MAX = 2097152  # bytes of a body that is kept for as long as its size is the last one
    BODIES_LARGE = 67108864  # of all larger ones, as long as somebody asks for their release
    SEGMENTS_MAX = 1024  # wire.LIMIT_CEILINGS["max_segments"]
    DEPTH_ROOM = 513  # wire.LIMIT_CEILINGS["max_depth"] and one for the outermost value


def constants():
    """Return the C copies of the numbers in `wire`, by name."""
    return {
        "MAGIC": MAGIC, "VERSION": VERSION, "HEADER_BASE": HEADER_BASE, "HEADER_ARG": HEADER_ARG,
        "HEADER_TIME": HEADER_TIME, "HEADER_FULL": HEADER_FULL, "HEADER_MAX": HEADER_MAX,
        "FLAG_REPLY": FLAG_REPLY, "FLAG_ONEWAY": FLAG_ONEWAY, "FLAG_HEARTBEAT": FLAG_HEARTBEAT,
        "MASK_SERIALIZER": MASK_SERIALIZER, "BIT_SEG": BIT_SEG, "MASK_KIND": MASK_KIND,
        "SEGMENT_ALIGN": SEGMENT_ALIGN, "SERIALIZERS": SERIALIZERS, "SKIP_MAX": SKIP_MAX,
        "BIG_BODY": BIG_BODY, "BODY_MAX": BODY_MAX, "DEFAULT_BODY": DEFAULT_BODY,
        "ID_MAX": ID_MAX,
    }


cdef inline uint16_t get16(const uint8_t* p) noexcept nogil:
    return <uint16_t>((<uint32_t>p[0] << 8) | p[1])


cdef inline uint32_t get32(const uint8_t* p) noexcept nogil:
    return (<uint32_t>p[0] << 24) | (<uint32_t>p[1] << 16) | (<uint32_t>p[2] << 8) | p[3]


cdef inline uint64_t get64(const uint8_t* p) noexcept nogil:
    return (<uint64_t>get32(p) << 32) | get32(p + 4)


cdef void put16(uint8_t* p, uint16_t value) noexcept nogil:
    p[0] = <uint8_t>(value >> 8)
    p[1] = <uint8_t>(value & 0xFF)


cdef void put32(uint8_t* p, uint32_t value) noexcept nogil:
    p[0] = <uint8_t>(value >> 24)
    p[1] = <uint8_t>((value >> 16) & 0xFF)
    p[2] = <uint8_t>((value >> 8) & 0xFF)
    p[3] = <uint8_t>(value & 0xFF)


cdef void pack_head(uint8_t* p, uint16_t size, uint8_t flags, uint8_t status, uint8_t bits,
                    uint64_t id, uint32_t body) noexcept nogil:
    """Write the 20 bytes that every header begins with."""
    put16(p, MAGIC)
    put16(p + 2, size)
    p[4] = VERSION
    p[5] = flags
    p[6] = status
    p[7] = bits
    put32(p + 8, <uint32_t>(id >> 32))
    put32(p + 12, <uint32_t>id)
    put32(p + 16, body)


@cython.final
@cython.freelist(64)
cdef class Frame:
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

    def __init__(
        self,
        kind=0,
        id=0,
        *,
        serializer=0,
        reply=False,
        oneway=False,
        heartbeat=False,
        status=0,
        bits=0,
        arg=0,
        time=0,
        name=b"",
        metadata=b"",
        payload=b"",
        buffers=(),
        oversize=0,
    ):
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

    cdef list _fields(self):
        return [
            ("arg", self.arg), ("bits", self.bits), ("buffers", self.buffers),
            ("heartbeat", self.heartbeat), ("id", self.id), ("kind", self.kind),
            ("metadata", self.metadata), ("name", self.name), ("oneway", self.oneway),
            ("oversize", self.oversize), ("payload", self.payload), ("reply", self.reply),
            ("serializer", self.serializer), ("status", self.status), ("time", self.time),
        ]

    def __repr__(self):
        """Tell the fields that are set."""
        return f"Frame({', '.join([f'{k}={v!r}' for k, v in self._fields() if v])})"

    def __eq__(self, other):
        """Compare field by field."""
        if not isinstance(other, Frame):
            return NotImplemented
        return self._fields() == (<Frame>other)._fields()

    __hash__ = None


def encode_frame(
    kind,
    id,
    *,
    serializer=0,
    reply=False,
    oneway=False,
    heartbeat=False,
    status=0,
    bits=0,
    arg=0,
    time=0,
    bytes name not None=b"",
    bytes metadata not None=b"",
    bytes payload not None=b"",
    buffers=(),
    header_size=0,
):
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
    cdef list pieces = _pieces(
        kind, id, serializer, reply, oneway, heartbeat, status, bits, arg, time, name, metadata,
        payload, buffers, header_size,
    )
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def encode_pieces(
    kind,
    id,
    *,
    serializer=0,
    reply=False,
    oneway=False,
    heartbeat=False,
    status=0,
    bits=0,
    arg=0,
    time=0,
    bytes name not None=b"",
    bytes metadata not None=b"",
    bytes payload not None=b"",
    buffers=(),
    header_size=0,
):
    """Return one frame as `encode_frame` does, in pieces: its buffers are not copied."""
    return _pieces(
        kind, id, serializer, reply, oneway, heartbeat, status, bits, arg, time, name, metadata,
        payload, buffers, header_size,
    )


cdef list _pieces(
    object kind, object id, object serializer, object reply, object oneway, object heartbeat,
    object status, object bits, object arg, object time, bytes name, bytes metadata,
    bytes payload, object buffers, object header_size,
):
    cdef uint8_t raw[HEADER_MAX]
    cdef list pieces = [payload]
    cdef Py_ssize_t size = len(name) + len(metadata)
    if buffers:
        bits |= BIT_SEG
        pieces = _segment_pieces([payload, *buffers], size)
    for piece in pieces:
        size += len(piece)
    least = (
        HEADER_FULL if name or metadata else HEADER_TIME if time else HEADER_ARG if arg
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
    memset(raw, 0, HEADER_MAX)
    pack_head(raw, head, flags, status, bits | kind, id, <uint32_t>size)
    put32(raw + 20, arg)
    put32(raw + 24, time)
    put16(raw + 28, <uint16_t>len(name))
    put16(raw + 30, <uint16_t>len(metadata))
    pieces[0] = PyBytes_FromStringAndSize(<char*>raw, head) + name + metadata + pieces[0]
    return pieces


cdef int _fits(str field, value, limit) except -1:
    if not 0 <= value <= limit:
        raise ConfigError(f"{field} {value} does not fit the header")
    return 0


cdef inline Py_ssize_t _aligned(Py_ssize_t pos) noexcept nogil:
    return (pos + SEGMENT_ALIGN - 1) // SEGMENT_ALIGN * SEGMENT_ALIGN


cdef list _segment_pieces(list segments, Py_ssize_t at):
    """Return the table and the segments, each padded to where the next one begins."""
    cdef uint8_t word[4]
    cdef bytearray head = bytearray()
    cdef list pieces = [head]
    cdef Py_ssize_t end, i
    if len(segments) > SEGMENTS_MAX:
        raise ConfigError(f"{len(segments)} segments are over {SEGMENTS_MAX}")
    for number in [len(segments)] + [len(segment) for segment in segments]:
        put32(word, number)
        head += word[:4]
    end = at + len(head)
    head += bytes(_aligned(end) - end)
    head += segments[0]
    end = at + len(head)
    for i in range(1, len(segments)):
        if end != _aligned(end):
            pad = bytes(_aligned(end) - end)
            end += len(pad)
            if len(pieces) == 1:
                head += pad
            else:
                pieces.append(pad)
        pieces.append(segments[i])
        end += len(segments[i])
    pieces[0] = bytes(head)
    return pieces


cdef list _split_segments(const uint8_t* body, Py_ssize_t end, Py_ssize_t at):
    """Cut the part of *body* from *at* on into its segments."""
    cdef Py_ssize_t pos, start, i
    cdef uint32_t count, size
    cdef const uint8_t* table
    if end - at < 4:
        raise FrameError("segment table is cut off", "segment table")
    count = get32(body + at)
    if not 1 <= count <= SEGMENTS_MAX:
        raise FrameError(f"segment count {count} is not 1 to {SEGMENTS_MAX}", "segment table")
    pos = at + 4 + 4 * <Py_ssize_t>count
    if pos > end:
        raise FrameError("segment table is cut off", "segment table")
    table = body + at + 4
    out = []
    for i in range(count):
        size = get32(table + 4 * i)
        start = _aligned(pos)
        if start > end or size > end - start:
            raise FrameError(f"segment of {size} bytes runs past the body", "segment table")
        while pos < start:
            if body[pos]:
                raise FrameError("bytes between segments are not zero", "segment table")
            pos += 1
        pos = start + size
        out.append(PyBytes_FromStringAndSize(<const char*>body + start, size))
    if pos != end:
        raise FrameError(f"{end - pos} bytes left over after the last segment", "segment table")
    return out


cpdef str check_msgpack(object data, Py_ssize_t max_depth, Py_ssize_t max_items):
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
    cdef uint64_t left[DEPTH_ROOM]
    cdef bint maps[DEPTH_ROOM]
    cdef const uint8_t* p
    cdef Py_ssize_t size, pos = 0, depth = 1
    cdef uint64_t items = 0, count = 0
    cdef uint8_t byte
    cdef int broken = 0
    if not isinstance(data, bytes):
        raise TypeError(f"check_msgpack() takes bytes, not {type(data).__name__}")
    if not 0 < max_depth < DEPTH_ROOM:
        raise ConfigError(f"max_depth must be 1 to {DEPTH_ROOM - 1}, got {max_depth}")
    p = <const uint8_t*>PyBytes_AS_STRING(data)
    size = PyBytes_GET_SIZE(data)
    left[0] = 1
    maps[0] = False
    while depth:
        if left[depth - 1] == 0:
            depth -= 1
            continue
        left[depth - 1] -= 1
        if pos >= size:
            return ""
        byte = p[pos]
        pos += 1
        if byte < 0x80 or byte >= 0xE0:
            continue
        if byte <= 0x9F:
            count = byte & 15
            if byte < 0x90:
                count *= 2
        elif byte <= 0xBF:
            pos += byte & 31
            continue
        elif byte >= 0xDC:
            # A header that is cut off claims nothing that could still follow.
            if byte & 1:
                if size - pos < 4:
                    return ""
                count = get32(p + pos)
                pos += 4
            else:
                if size - pos < 2:
                    return ""
                count = get16(p + pos)
                pos += 2
            if byte >= 0xDE:
                count *= 2
        else:
            pos += _leaf(p, pos, size, byte)
            continue
        items += min(count, <uint64_t>(size - pos))
        if <Py_ssize_t>items > max_items:
            broken = 1
            break
        if depth > max_depth:
            broken = 2
            break
        if maps[depth - 1] and left[depth - 1] & 1:
            broken = 3
            break
        left[depth] = count
        maps[depth] = byte < 0x90 or byte >= 0xDE
        depth += 1
    if broken == 1:
        return f"has more than {max_items} items (max_items)"
    if broken == 2:
        return f"is nested deeper than {max_depth} (max_depth)"
    if broken == 3:
        return "has a container as a map's key"
    return ""


cdef Py_ssize_t _leaf(const uint8_t* p, Py_ssize_t pos, Py_ssize_t size, uint8_t byte) noexcept nogil:
    """Return how many bytes belong to a value of fixed or stated length."""
    cdef Py_ssize_t width, extra = 0, n
    if byte <= 0xC3:
        return 0
    if byte <= 0xC9 or byte >= 0xD9:
        width = 1 << ((byte - 0xC4) % 3) if byte <= 0xC9 else 1 << (byte - 0xD9)
        extra = 1 if 0xC7 <= byte <= 0xC9 else 0
        if size - pos < width:
            return size
        if width == 1:
            n = p[pos]
        elif width == 2:
            n = get16(p + pos)
        else:
            n = get32(p + pos)
        return width + extra + n
    if byte <= 0xCB:
        return 4 if byte == 0xCA else 8
    if byte <= 0xD3:
        return 1 << ((byte - 0xCC) & 3)
    return 1 + (1 << (byte - 0xD4))


# The last large bodies of one and the same size. Memory that goes back to the system and
# is taken anew with each body costs as much as receiving it; what nobody else holds any
# more is used again.
cdef list _bodies = []
cdef Py_ssize_t _bodies_size = 0, _bodies_turn = 0
cdef bint _keeps_large = False, _bodies_used = False


cdef bint is_sound(const uint8_t* p, Py_ssize_t size, Py_ssize_t most, Py_ssize_t pairs) noexcept:
    """Say whether packed metadata is sound, see `check_metadata`."""
    cdef Py_ssize_t at = 0, stop, i
    if size > most:
        return False
    while at < size:
        stop = at + 1 + p[at]
        pairs -= 1
        if stop == at + 1 or stop + 2 > size or pairs < 0:
            return False
        for i in range(at + 1, stop):
            if p[i] < 0x21 or p[i] > 0x7E or 0x41 <= p[i] <= 0x5A:
                return False
        at = stop + 2 + get16(p + stop)
    return at == size


@cython.final
cdef class _Writable:
    """Bytes that belong to whoever has this, to be written to."""

    cdef bytes _data

    def __getbuffer__(self, Py_buffer* view, int flags):
        PyBuffer_FillInfo(
            view, self, PyBytes_AS_STRING(self._data), PyBytes_GET_SIZE(self._data), 0, flags
        )


def writable(bytes data not None):
    """Return a view of *data* that may be written to; nobody may use *data* afterwards.

    For memory that a peer's bytes were received into: who gets it shall have it as his own.
    """
    cdef _Writable owner = _Writable.__new__(_Writable)
    if PyBytes_GET_SIZE(data) <= 1:  # Python has one object for all of a kind
        return memoryview(bytearray(data))
    owner._data = data
    return memoryview(owner)


def check_metadata(bytes data not None, Py_ssize_t max_size, Py_ssize_t max_pairs):
    """Say whether packed metadata is sound; who wants to know why not unpacks it.

    Args:
        data: Pairs of u8 key size, key, u16 value size, value.
        max_size: Most bytes.
        max_pairs: Most pairs.
    """
    return is_sound(
        <const uint8_t*>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), max_size, max_pairs
    )


cdef bytes _make_body(Py_ssize_t size):
    """Return *size* bytes to be written to."""
    global _bodies_size, _bodies_turn, _bodies_used
    cdef PyObject* old
    cdef Py_ssize_t i, most = BODIES
    if size > BODIES_MAX:
        most = min(BODIES, BODIES_LARGE // size) if _keeps_large else 0
    if size != _bodies_size or most == 0:
        _bodies_size = size
        _bodies.clear()
        return PyBytes_FromStringAndSize(NULL, size)
    for i in range(len(_bodies)):
        old = <PyObject*>PyList_GET_ITEM(_bodies, i)
        if is_ours_alone(old):
            forget_hash(old)
            _bodies_used = True
            return <bytes>old
    body = PyBytes_FromStringAndSize(NULL, size)
    if len(_bodies) < most:
        _bodies.append(body)
    else:
        _bodies_turn = (_bodies_turn + 1) % most
        _bodies[_bodies_turn] = body
    return body


def release_bodies(everything=False):
    """Let go of the memory of bodies over 2 MiB that was not used since the last call.

    Before the first call none is kept, so whoever calls has to go on doing so.

    Args:
        everything: Let go of all of it, and keep none until the next call.
    """
    global _bodies_size, _keeps_large, _bodies_used
    if _bodies_size > BODIES_MAX and (everything or not _bodies_used):
        _bodies_size = 0
        _bodies.clear()
    _keeps_large = not everything
    _bodies_used = False


cdef class Splitter:
    """Cut a byte stream into frames and call `_on_frame` for each."""

    cdef int _setup(self, object max_body, object magic) except -1:
        if not 0 < max_body <= BODY_MAX:
            raise ConfigError(f"max_body must be 1 to {BODY_MAX}, got {max_body}")
        if not 0 <= magic <= 0xFFFF:
            raise ConfigError(f"magic must be 0 to 65535, got {magic}")
        self.max_body = max_body
        self.magic = magic
        self._rest = bytearray()
        return 0

    cdef int _split(self, const uint8_t* data, Py_ssize_t size) except -1:
        # The memory behind *data* is the caller's to hold, or that of *whole*.
        cdef Py_ssize_t take
        cdef bytes whole
        while True:
            if self._halted or PyByteArray_GET_SIZE(self._rest):
                self._rest += data[:size]
                if self._halted or PyByteArray_GET_SIZE(self._rest) < self._need:
                    return 0
                whole = bytes(self._rest)
                self._rest.clear()
                data = <const uint8_t*>PyBytes_AS_STRING(whole)
                size = PyBytes_GET_SIZE(whole)
            self._need = 0
            while size and self._big is not None:
                take = min(size, PyBytes_GET_SIZE(self._big) - self._big_at)
                memcpy(PyBytes_AS_STRING(self._big) + self._big_at, data, take)
                self._filled(take)
                data += take
                size -= take
            self._run(data, size)
            # More is there only if a handler has fed it meanwhile.
            if self._halted or PyByteArray_GET_SIZE(self._rest) < max(self._need, 1):
                return 0
            size = 0

    cdef int _filled(self, Py_ssize_t nbytes) except -1:
        """Count bytes received straight into the large body."""
        cdef bytes big = self._big, head = self._head
        cdef list segments = self._segments
        cdef Header fields
        self._big_at += nbytes
        if self._big_at < PyBytes_GET_SIZE(big):
            # Not before: who only says that much comes shall not make us take it.
            if self._big_at >= LARGE_FROM and self._big_at - nbytes < LARGE_FROM:
                use_large_pages(
                    PyBytes_AS_STRING(big) + self._big_at, PyBytes_GET_SIZE(big) - self._big_at
                )
            return 0
        if segments is not None:
            self._keep_segment()
            if self._next_segment():
                return 0
            big = self._prefix
            self._segments = self._spans = self._prefix = None
        self._big = None
        self._head = None
        if not self._halted:
            _unpack(<const uint8_t*>PyBytes_AS_STRING(head), &fields)
            if segments is not None:
                fields.segments = <void*>segments
                if self._stained:
                    raise FrameError("bytes between segments are not zero", "segment table")
            self._deliver(
                &fields, <const uint8_t*>PyBytes_AS_STRING(big), None if segments is not None else big, 0
            )
        return 0

    # A frame with segments whose table came with its start is received segment by segment,
    # each into memory of its own. Any other is received whole and cut up then, which finds
    # what is wrong with it.

    cdef Py_ssize_t _plan_segments(
        self, const uint8_t* head, const uint8_t* body, Py_ssize_t left, Py_ssize_t size
    ) except -1:
        """Get ready to receive the segments; return how much of *body* is before them, or 0."""
        cdef Header fields
        cdef Py_ssize_t at, pos, start, span
        cdef uint32_t count, i
        cdef list spans = []
        _unpack(head, &fields)
        at = <Py_ssize_t>fields.name + fields.meta
        if left < at + 4:
            return 0
        count = get32(body + at)
        pos = at + 4 + 4 * <Py_ssize_t>count
        if not 1 <= count <= SEGMENTS_MAX or left < pos:
            return 0
        for i in range(count):
            span = get32(body + at + 4 + 4 * i)
            start = _aligned(pos)
            if start > size or span > size - start:
                return 0
            if start > pos:
                spans.append(pos - start)
            spans.append(span)
            pos = start + span
        if pos != size:
            return 0
        spans.reverse()
        self._prefix = PyBytes_FromStringAndSize(<const char*>body, at)
        self._segments, self._spans, self._stained = [], spans, False
        self._next_segment()
        return at + 4 + 4 * <Py_ssize_t>count

    cdef bint _next_segment(self) except -1:
        """Begin with what comes next; False if that was all. Padding counts below zero."""
        cdef Py_ssize_t span
        while self._spans:
            span = self._spans.pop()
            if span == 0:
                self._segments.append(b"")
                continue
            self._is_padding = span < 0
            self._big = (
                _make_body(span) if span >= BIG_BODY
                else PyBytes_FromStringAndSize(NULL, -span if span < 0 else span)
            )
            self._big_at = 0
            return True
        return False

    cdef int _keep_segment(self) except -1:
        if self._is_padding:
            self._stained = self._stained or self._big.strip(b"\0") != b""
        else:
            self._segments.append(self._big)
        return 0

    cdef int _run(self, const uint8_t* data, Py_ssize_t end) except -1:
        """Deliver the whole frames of *data* and keep the rest."""
        cdef Py_ssize_t pos = 0, step, start
        cdef const uint8_t* p
        cdef uint32_t size
        cdef uint16_t head
        cdef Header fields
        try:
            while not self._halted:
                if self._skip:
                    step = min(<Py_ssize_t>self._skip, end - pos)
                    pos += step
                    self._skip -= <uint32_t>step
                    if self._skip:
                        break
                if end - pos < HEADER_BASE:
                    if end - pos >= 2 and get16(data + pos) != self.magic:
                        self._check(data + pos, end - pos, 0, 0)
                    self._need = HEADER_BASE if end - pos >= 2 else 2
                    break
                p = data + pos
                head = get16(p + 2)
                size = get32(p + 16)
                if (
                    get16(p) != self.magic
                    or p[4] != VERSION
                    or size > self.max_body
                    or head < HEADER_BASE
                    or head > HEADER_MAX
                    or head & 3
                ):
                    self._check(p, end - pos, head, size)
                if head > end - pos:
                    self._need = head
                    break
                start = pos + head
                if size > self.max_body:
                    _unpack(p, &fields)
                    pos = start
                    self._skip = size
                    self._deliver(&fields, p, None, size)
                elif size <= end - start:
                    _unpack(p, &fields)
                    pos = start + size
                    self._deliver(&fields, data + start, None, 0)
                else:
                    if size >= BIG_BODY:
                        # Whole at once: the system gives pages only to what is written.
                        self._head = PyBytes_FromStringAndSize(<const char*>p, head)
                        step = 0
                        if p[7] & BIT_SEG:
                            step = self._plan_segments(p, data + start, end - start, size)
                        if step == 0:
                            self._big = _make_body(size)
                            self._big_at = 0
                        pos = start + step
                        while pos < end:
                            step = min(end - pos, PyBytes_GET_SIZE(self._big) - self._big_at)
                            memcpy(PyBytes_AS_STRING(self._big) + self._big_at, data + pos, step)
                            pos += step
                            self._filled(step)
                    else:
                        self._need = head + size
                    break
        finally:
            if pos < end:
                self._rest[:0] = data[pos:end]
        return 0

    cdef int _check(self, const uint8_t* p, Py_ssize_t left, uint16_t head, uint32_t size) except -1:
        """Raise what is wrong with a header; a body that can be skipped is fine."""
        cdef bytes seen = PyBytes_FromStringAndSize(<const char*>p, min(left, 64))
        if get16(p) != self.magic:
            raise FrameError(f"not a frame: it starts with {seen[:16]!r}", "magic", seen)
        if head < HEADER_BASE or head > HEADER_MAX or head & 3:
            raise FrameError(
                f"header size {head} is not a multiple of 4 in 20..256", "header size", seen
            )
        if p[4] != VERSION:
            raise FrameError(f"version {p[4]} is not {VERSION}", "version", seen)
        if size > BODY_MAX or (size > self.max_body and size > SKIP_MAX):
            raise FrameError(f"body of {size} bytes is over {self.max_body}", "body size", seen)
        return 0

    cdef int _deliver(
        self, Header* head, const uint8_t* body, bytes owner, uint32_t oversize
    ) except -1:
        cdef uint32_t size = oversize if oversize else head.body
        if <uint32_t>head.name + head.meta > size:
            raise FrameError(
                f"name of {head.name} and metadata of {head.meta} bytes are longer than the body",
                "name and meta",
            )
        self._on_frame(head, body, owner, oversize)
        return 0

    cdef int _on_frame(
        self, Header* head, const uint8_t* body, bytes owner, uint32_t oversize
    ) except -1:
        raise AssertionError


cdef inline void _unpack(const uint8_t* p, Header* head) noexcept nogil:
    """Read a header that is known to be whole."""
    head.size = get16(p + 2)
    head.flags = p[5]
    head.status = p[6]
    head.bits = p[7]
    head.id = get64(p + 8)
    head.body = get32(p + 16)
    head.arg = get32(p + 20) if head.size >= HEADER_ARG else 0
    head.time = get32(p + 24) if head.size >= HEADER_TIME else 0
    head.name = get16(p + 28) if head.size >= HEADER_FULL else 0
    head.meta = get16(p + 30) if head.size >= HEADER_FULL else 0
    head.segments = NULL


cdef Frame make_frame(Header* head, const uint8_t* body, bytes owner, uint32_t oversize):
    """Make the object for a frame that leaves this room."""
    cdef Frame frame = Frame.__new__(Frame)
    cdef Py_ssize_t start = <Py_ssize_t>head.name + head.meta
    cdef list segments
    frame.kind = head.bits & MASK_KIND
    frame.id = head.id
    frame.serializer = head.flags & MASK_SERIALIZER
    frame.reply = bool(head.flags & FLAG_REPLY)
    frame.oneway = bool(head.flags & FLAG_ONEWAY)
    frame.heartbeat = bool(head.flags & FLAG_HEARTBEAT)
    frame.status = head.status
    frame.bits = head.bits & 0xF0
    frame.arg = head.arg
    frame.time = head.time
    frame.oversize = oversize
    frame.name = frame.metadata = frame.payload = b""
    frame.buffers = []
    if oversize:
        return frame
    frame.name = PyBytes_FromStringAndSize(<const char*>body, head.name)
    frame.metadata = PyBytes_FromStringAndSize(<const char*>body + head.name, head.meta)
    if head.bits & BIT_SEG:
        if head.segments != NULL:
            segments = <list>head.segments
        else:
            segments = _split_segments(body, head.body, start)
        frame.payload = segments.pop(0)
        frame.buffers = segments
    elif owner is not None and start == 0:
        frame.payload = owner
    else:
        frame.payload = PyBytes_FromStringAndSize(<const char*>body + start, head.body - start)
    return frame


@cython.final
cdef class FrameDecoder(Splitter):
    """Turn bytes, cut anywhere, into frames.

    Args:
        max_body: Longest body that is taken in; longer ones are skipped and
            told by `Frame.oversize`, very long ones refused.
        magic: The two bytes every frame must begin with.
    """

    cdef list _frames
    cdef object _error

    def __init__(self, max_body=DEFAULT_BODY, magic=MAGIC):
        self._setup(max_body, magic)
        self._frames = []
        self._error = None

    def feed(self, data):
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
        cdef bytes held = bytes(data)
        try:
            self._split(<const uint8_t*>PyBytes_AS_STRING(held), PyBytes_GET_SIZE(held))
        except FrameError as exc:
            self._error = exc
            self._halted = True
            if not self._frames:
                raise
        frames, self._frames = self._frames, []
        return frames

    @property
    def waiting(self):
        """Whether part of a frame has come and the rest has not."""
        return bool(self._rest or self._big is not None or self._skip)

    cdef int _on_frame(
        self, Header* head, const uint8_t* body, bytes owner, uint32_t oversize
    ) except -1:
        self._frames.append(make_frame(head, body, owner, oversize))
        return 0


@cython.final
cdef class CallTable:
    """Open calls of one connection, by id.

    Ids rise from *first* by one and are never used again, so a late reply can't
    wake the wrong caller. Use from one thread only.

    Args:
        first: The first id.
    """

    # Open addressing, at most half full, ids hash to themselves: they come in
    # order, so a call nearly always sits in its home slot. Collisions as in
    # Celis, "Robin Hood hashing" (1986), so that removing looks at one slot.
    def __init__(self, first=1):
        if not 1 <= first <= ID_MAX:
            raise ConfigError(f"first id must be 1 to {ID_MAX}, got {first}")
        self.next_id = first
        self.soonest = 0.0

    def __dealloc__(self):
        PyMem_Free(self._entries)

    def __len__(self):
        """Return how many calls are open."""
        return self._used

    cdef int _grow(self) except -1:
        cdef Py_ssize_t size = (self._mask + 1) * 2 if self._entries != NULL else 8
        # Lists first: making one may run the collector, and that anybody's code,
        # which may make calls of its own and find the table full before we do.
        cdef list waiters = [None] * size
        cdef list decoders = [None] * size
        cdef list names = [None] * size
        if self._entries != NULL and self._mask + 1 >= size:
            return 0
        cdef Entry* fresh = <Entry*>PyMem_Malloc(size * sizeof(Entry))
        cdef Entry* old = self._entries
        cdef Py_ssize_t i, mask = size - 1
        if fresh == NULL:
            raise MemoryError
        memset(fresh, 0, size * sizeof(Entry))
        cdef list old_waiters = self._waiters, old_decoders = self._decoders, old_names = self._names
        cdef Py_ssize_t old_mask = self._mask
        self._entries = fresh
        self._mask = mask
        self._waiters = waiters
        self._decoders = decoders
        self._names = names
        if old != NULL:
            for i in range(old_mask + 1):
                if old[i].id:
                    self._place(old[i], old_waiters[i], old_decoders[i], old_names[i])
        PyMem_Free(old)
        return 0

    cdef int _place(self, Entry entry, object waiter, object decode, object name) except -1:
        """Put an entry where it belongs: whoever is farther from home goes first."""
        cdef Py_ssize_t i = <Py_ssize_t>(entry.id & <uint64_t>self._mask), far = 0, other
        cdef Entry resident
        while self._entries[i].id:
            other = (i - <Py_ssize_t>(self._entries[i].id & <uint64_t>self._mask)) & self._mask
            if other < far:
                resident = self._entries[i]
                self._entries[i] = entry
                entry = resident
                waiter, self._waiters[i] = self._waiters[i], waiter
                decode, self._decoders[i] = self._decoders[i], decode
                name, self._names[i] = self._names[i], name
                far = other
            i = (i + 1) & self._mask
            far += 1
        self._entries[i] = entry
        self._waiters[i] = waiter
        self._decoders[i] = decode
        self._names[i] = name
        return 0

    cdef uint64_t _enter(
        self, object waiter, object decode, object name, double started, double deadline
    ) except 0:
        cdef uint64_t id
        cdef Entry entry
        while self._entries == NULL or self._used * 2 > self._mask:
            self._grow()
        id = self.next_id
        if id >= ID_MAX:
            raise ProtocolError("the ids of this connection are used up")
        self.next_id = id + 1
        entry.id = id
        entry.started = started
        entry.deadline = deadline
        self._place(entry, waiter, decode, name)
        self._used += 1
        if deadline != 0.0 and (self.soonest == 0.0 or deadline < self.soonest):
            self.soonest = deadline
        return id

    cdef Py_ssize_t _find(self, uint64_t id) noexcept:
        cdef Py_ssize_t i
        if self._used == 0 or id == 0:
            return -1
        i = <Py_ssize_t>(id & <uint64_t>self._mask)
        while self._entries[i].id:
            if self._entries[i].id == id:
                return i
            i = (i + 1) & self._mask
        return -1

    cdef tuple _pull(self, uint64_t id):
        """Take the call *id* out; None if it is not open."""
        cdef Py_ssize_t i = self._find(id)
        if i < 0:
            return None
        slot = (
            self._waiters[i], self._decoders[i], self._names[i],
            self._entries[i].started, self._entries[i].deadline,
        )
        i = self._find(id)  # again: making the tuple may have run the collector
        if i < 0:
            return None
        self._drop(i)
        return slot

    cdef int _drop(self, Py_ssize_t i) except -1:
        """Free slot *i*; entries behind it that are not at home move up."""
        cdef Py_ssize_t j
        self._used -= 1
        while True:
            j = (i + 1) & self._mask
            if self._entries[j].id == 0 or <Py_ssize_t>(
                self._entries[j].id & <uint64_t>self._mask
            ) == j:
                break
            self._entries[i] = self._entries[j]
            self._waiters[i] = self._waiters[j]
            self._decoders[i] = self._decoders[j]
            self._names[i] = self._names[j]
            i = j
        self._entries[i].id = 0
        self._waiters[i] = None
        self._decoders[i] = None
        self._names[i] = None
        return 0

    def open(self, waiter, decode=None, name="", started=0.0, deadline=0.0):
        """Enter a call and return its id.

        Args:
            waiter: Future that gets the result.
            decode: Decoder of the result, None for the connection's own.
            name: Method, for messages.
            started: When the caller began, on the caller's clock.
            deadline: When `expire` gives the call back, 0 for never.
        """
        return self._enter(waiter, decode, name, started, deadline)

    def take(self, id):
        """Remove the call *id* and return what `open` was given.

        Returns None when no such call is open. That is ordinary, not an error:
        the caller may have given up before the reply came.
        """
        return self._pull(id) if 0 < id <= ID_MAX else None

    cdef list _remove(self, list ids):
        cdef list out = []
        ids.sort()
        for id in ids:
            slot = self._pull(id)
            if slot is not None:  # else anybody's code took it while we looked for others
                out.append((id, slot))
        return out

    def expire(self, now):
        """Remove and return the calls whose deadline is not after *now*."""
        cdef double moment = now, deadline
        cdef list ids = []
        cdef Py_ssize_t i
        if self.soonest == 0.0 or moment < self.soonest:
            return []
        self.soonest = 0.0
        for i in range(self._mask + 1):
            if self._entries[i].id:
                deadline = self._entries[i].deadline
                if deadline == 0.0:
                    continue
                if deadline <= moment:
                    ids.append(self._entries[i].id)
                elif self.soonest == 0.0 or deadline < self.soonest:
                    self.soonest = deadline
        return self._remove(ids)

    def abandoned(self):
        """Remove the calls whose waiter is done already, and return their ids."""
        cdef list ids = []
        cdef Py_ssize_t i
        if self._used == 0:
            return ids
        for i in range(self._mask + 1):
            if self._entries[i].id and self._waiters[i].done():
                ids.append(self._entries[i].id)
        return [id for id, _ in self._remove(ids)]

    def drain(self, above=0):
        """Remove and return the calls with an id over *above*, oldest first."""
        cdef list ids = []
        cdef Py_ssize_t i
        if self._used:
            for i in range(self._mask + 1):
                if self._entries[i].id and self._entries[i].id > above:
                    ids.append(self._entries[i].id)
        gone = self._remove(ids)
        if self._used == 0:
            self.soonest = 0.0
        return gone
