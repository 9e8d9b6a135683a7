# cython: language_level=3
"""Answer and match calls between the bytes and the loop: the compiled lane.

`_lane_py.py` is the same in plain Python and says why things are as they are;
here stand only the reasons that are C's own.

Rules of the room:
  * C memory belongs to a class that frees it in `__dealloc__`;
  * what the garbage collector has to see (waiters, handlers) is in Python lists;
  * header fields are copied out before Python code may run;
  * a change here without the same change in `_lane_py.py` does not merge.

Size: may grow to 1240, for streams, compression and buffers pass here, and the time of calls.
"""

cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport Py_DECREF, PyObject
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.buffer cimport PyBUF_WRITE
from libc.math cimport frexp, ldexp
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef extern from "Python.h":
    int PYGEN_RETURN
    int PyIter_Send(object iter, object arg, PyObject** result) except? -1

cdef extern from "pythread.h":
    unsigned long PyThread_get_thread_ident() noexcept

from fastrpc._frame cimport (
    CallTable, Entry, Header, Splitter, check_msgpack, is_sound, make_frame, pack_head, put16,
    put32,
)
from fastrpc.errors import CodecError, ConfigError, MethodNotFound, ProtocolError, TooLarge

from fastrpc._frame import encode_frame, encode_pieces

__all__ = ["Durations", "Lane", "LoopShare", "Method", "drive"]

cdef enum:
    FLAG_REPLY = 0x80
    FLAG_ONEWAY = 0x40
    FLAG_HEARTBEAT = 0x20
    MASK_SERIALIZER = 0x1F
    MASK_KIND = 0x0F
    BIT_END = 0x10
    BIT_ZIP = 0x20
    BIT_MORE = 0x80
    HEADER_BASE = 20
    HEADER_ARG = 24
    HEADER_TIME = 28
    HEADER_FULL = 32
    SERIALIZERS = 32
    BIG_BODY = 32768
    BASELINE_BODY = 1048576
    BASELINE_CALLS = 128
    MAGIC = 0xFA57
    SCRATCH_SIZE = 262144
    NARROW_SIZE = 2048
    OUT_HIGH = 65536
    OUT_LEAST = 512
    OUT_KEPT = 131072  # no larger buffer is kept between two uses
    NAME_MAX = 255  # wire.LIMIT_CEILINGS["max_name"]
    METADATA_MAX = 65535  # wire.LIMIT_CEILINGS["max_metadata"]
    DEPTH_FREE = 64
    SEGMENT_COST = 12  # of its place in the table, and of the padding before it
    MODE_SYNC = 0
    MODE_INLINE = 1
    FRAMED = 0x20  # beside the serializer of an item that waits as the bytes of its frame
    RAW = 0
    MSGPACK = 1
    OVERLOADED = 52
    KIND_CALL = 0
    KIND_OPEN = 2
    KIND_DATA = 3
    PARTS = 16  # buckets of durations to a doubling
    SHORTEST = -20
    BUCKETS = 592
    SAMPLED = 16  # one call in so many is timed, the first among them

cdef uint64_t ID_MAX = 9223372036854775807
cdef uint32_t U32_MAX = 4294967295
cdef double LEAST = 2.0**-20, LONGEST = 2.0**17


def constants():
    """Return the C copies of the numbers in `wire`, by name."""
    return {
        "FLAG_REPLY": FLAG_REPLY, "FLAG_ONEWAY": FLAG_ONEWAY, "FLAG_HEARTBEAT": FLAG_HEARTBEAT,
        "MASK_SERIALIZER": MASK_SERIALIZER, "MASK_KIND": MASK_KIND, "BIT_END": BIT_END, "BIT_ZIP": BIT_ZIP,
        "BIT_MORE": BIT_MORE, "HEADER_BASE": HEADER_BASE,
        "HEADER_ARG": HEADER_ARG, "HEADER_TIME": HEADER_TIME, "HEADER_FULL": HEADER_FULL,
        "SERIALIZERS": SERIALIZERS, "BIG_BODY": BIG_BODY, "BASELINE_BODY": BASELINE_BODY,
        "BASELINE_CALLS": BASELINE_CALLS, "MAGIC": MAGIC, "ID_MAX": ID_MAX,
    }


@cython.final
cdef class LoopShare:
    """What all lanes of one event loop have in common.

    Args:
        create_future: Makes a waiter.
        call_soon: Runs a callable in the loop's next turn.
        clock: Returns seconds, monotonic.
        is_running: Says whether the loop runs.
        thread: Number of the thread that the lanes belong to, 0 for any.
        loop: The loop that the lanes belong to.
    """

    def __init__(self, create_future, call_soon, clock, is_running, thread, loop):
        self.create_future = create_future
        self.call_soon = call_soon
        self.clock = clock
        self.is_running = is_running
        self.thread = thread
        self.loop = loop
        scratch = bytearray(SCRATCH_SIZE)
        self.view = memoryview(scratch)
        self.narrow = self.view[:NARROW_SIZE]
        self._scratch = <const uint8_t*>PyByteArray_AS_STRING(scratch)

    def __dealloc__(self):
        PyMem_Free(self._spare)


@cython.final
cdef class Durations:
    """How often which duration occurred, to within 3 %; 0 and less count as the shortest.

    Attributes:
        count: How many were counted.
        total: Their sum, in seconds.
        max: The longest.
    """

    def __init__(self):
        pass

    cpdef add(self, double seconds):
        """Count a duration."""
        cdef int exponent
        cdef Py_ssize_t place
        cdef double fraction
        if not seconds > 0.0:  # less than nothing, or no number
            seconds = 0.0
        fraction = frexp(min(max(seconds, LEAST), LONGEST), &exponent)  # 0.5 to below 1
        place = (exponent - 1 - SHORTEST) * PARTS + <int>((fraction - 0.5) * 2 * PARTS)
        self._counts[min(place, BUCKETS - 1)] += 1
        self.count += 1
        self.total += seconds
        self.max = max(self.max, seconds)

    def buckets(self):
        """Return lower and upper bound and count of each bucket that is not empty."""
        cdef int place
        found = []
        for place in range(BUCKETS):
            if self._counts[place]:
                lower = ldexp(1 + place % PARTS / <double>PARTS, place // PARTS + SHORTEST)
                upper = ldexp(1 + (place % PARTS + 1) / <double>PARTS, place // PARTS + SHORTEST)
                found.append((lower, upper, self._counts[place]))
        return found


@cython.final
cdef class Method:
    """What a lane needs to know to answer calls of one method.

    Args:
        name: Full name, as bytes.
        mode: How the handler runs, a `call.Mode` number; 0 and 1 run in the lane.
        handler: The callable.
        decoders: Per serializer number, bytes to positional arguments, or None.
        info: Whatever the owner wants to find again.

    Attributes:
        through: Runs a call that the lane may not run as far as it goes without waiting,
            see `Through`; None if only the owner can.
        calls: How many calls were taken.
        errors: Those of them whose handler raised, or whose result can't be sent.
        is_sheddable: Whether its calls are refused while there are `Lane.refusals`.
        shed: Calls that were refused so.
        times: How long calls took, None as long as none was timed.
    """

    def __init__(self, bytes name not None, mode, handler, decoders, info=None):
        if len(decoders) != SERIALIZERS:
            raise ConfigError(f"decoders must have {SERIALIZERS} places, got {len(decoders)}")
        self.name = name
        self.mode = mode
        self.handler = handler
        self.decoders = list(decoders)
        self.info = info
        self.calls = 0
        self.errors = 0

    cpdef note(self, double seconds):
        """Count how long a call took."""
        if self.times is None:
            self.times = Durations()
        self.times.add(seconds)


cdef class Sink:
    """What takes the items of one stream; `Inlet` is one."""

    cdef int _push(self, int serializer, object item, Py_ssize_t cost, bint last) except -1:
        raise AssertionError


@cython.final
cdef class Lane(Splitter):
    """Bytes in, calls answered and matched, bytes out: one connection's lane.

    The owner wires it (`attach`, and the attributes), hands it what arrives
    (`get_buffer` and `buffer_updated`, or `feed`), and gets called for what is
    not plain. It must have these methods:

    * `frames(list)`: frames for the slow lane, in order;
    * `broken(exc)`: the stream can't go on; the lane takes nothing more;
    * `start(method, frame, args)`: run a handler that the lane may not run;
    * `waits(method, frame, args, rest)`: go on with what `Method.through` began;
    * `replied(method, frame, reply)`: send what it gave, metadata and all;
    * `expired(method, frame)`: the deadline passed before the handler started;
    * `bind(method, frame, exc)`: arguments are no plain array, or don't fit;
    * `raised(method, frame, exc)`: the handler raised;
    * `unsendable(method, frame, exc)`: the result can't be encoded or is too
      large (*exc* is None then);
    * `answered(slot, frame)`: a reply that is not a plain value;
    * `undecodable(slot, frame, exc)`: a plain reply that can't be decoded;
    * `inline(serializer, value)`: return it encoded with nothing beside it;
    * `tick()`: calls are open; call `sweep` now and then;
    * `room()`: replies came while `crowded` was set;
    * `hold(outlet)`: a stream wants to send while the lane is paused; wake it later.

    Args:
        owner: See above.
        share: What the loop's lanes share.
        max_body: Longest body taken in; raise it once the peer has said HELLO.
        first_id: The first id of our own calls.
    """

    def __init__(self, owner, LoopShare share not None, max_body, first_id=1):
        self._setup(max_body, MAGIC)
        self.owner = owner
        self.share = share
        self.table = CallTable(first_id)
        self._bound = []
        self.router = None
        self.encoders = [None] * SERIALIZERS
        self.decoders = [None] * SERIALIZERS
        self.serializer = MSGPACK
        self.max_depth = DEPTH_FREE
        self.max_items = 100_000
        self.max_methods = 4096
        self.max_metadata = 16384
        self.max_metadata_pairs = 64
        self.peer_body = BASELINE_BODY
        self.peer_calls = BASELINE_CALLS
        self.peer_methods = 4096
        self.taken = []
        self.lift = list
        self._numbers = {}
        self._parts = []

    def __dealloc__(self):
        PyMem_Free(self._out)

    # Wiring

    def attach(self, write, writelines):
        """Give the lane its way out; what was queued before stays queued."""
        self._write = write
        self._writelines = writelines

    def detach(self):
        """Cut the lane off for good and return the calls that were open."""
        self._halted = True
        self.ready = self.opened = self.stalled = False
        self._write = self._writelines = None
        self._parts.clear()
        self._out_len = self._out_size = 0
        self._rest.clear()
        self._extras = self._own_sinks = self._peer_sinks = self._sink = None
        return self.table.drain()

    def bound_method(self, number):
        """Return the method that the peer calls by *number*, if any."""
        if not 0 <= number < len(self._bound):
            return None
        return self._bound[number]

    @property
    def waiting(self):
        """Whether part of a frame has come and the rest has not."""
        return bool(self._rest or self._big is not None or self._skip)

    @property
    def unsent(self):
        """Bytes that wait for the next flush."""
        return self._out_size

    def add_sink(self, id, bint own, Sink sink not None):
        """Give the items of the stream *id* to *sink*, see `Inlet.push`.

        Args:
            id: Message id of the stream.
            own: Whether it is a stream of ours.
            sink: What takes them.
        """
        if self._own_sinks is None:  # most connections never have any
            self._own_sinks, self._peer_sinks = {}, {}
        self._sink = None
        (self._own_sinks if own else self._peer_sinks)[id] = sink

    def drop_sink(self, id, bint own):
        """Drop the items of the stream *id* from now on; twice is fine."""
        self._sink = None
        if self._own_sinks is not None:
            (self._own_sinks if own else self._peer_sinks).pop(id, None)

    # In

    def get_buffer(self, hint):
        """Return the memory that the next bytes should go to."""
        if self._big is not None:
            # No reference to it: whoever reads lets go of the view before the lane of the body.
            return PyMemoryView_FromMemory(
                PyBytes_AS_STRING(self._big) + self._big_at,
                PyBytes_GET_SIZE(self._big) - self._big_at,
                PyBUF_WRITE,
            )
        if self.share._busy:  # a handler runs the loop while the scratch is read
            self._private = bytearray(OUT_HIGH)
            return self._private
        self._private = None  # one that was never read into
        return self.share.narrow if self._narrow else self.share.view

    def buffer_updated(self, Py_ssize_t nbytes):
        """Take the *nbytes* bytes that were put into the last buffer."""
        if self._big is not None:
            self.bytes_in += nbytes
            self._guarded(NULL, nbytes)
            self._narrow = self._big is None
        elif self._private is not None:
            private, self._private = self._private, None
            self._narrow = False
            self.feed(bytes(private[:nbytes]))
        else:
            self._narrow = False
            self.bytes_in += nbytes
            if self._splitting:
                self._rest += self.share._scratch[:nbytes]
                return
            self.share._busy = True
            try:
                self._guarded(self.share._scratch, nbytes)
            finally:
                self.share._busy = False

    def feed(self, bytes data not None):
        """Take the next bytes; errors go to the owner, nothing is raised."""
        self.bytes_in += PyBytes_GET_SIZE(data)
        if self._splitting:
            self._rest += data
            return
        self._guarded(<const uint8_t*>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))

    def resume(self):
        """Go on after the peer has read; the owner has cleared `paused`."""
        if self.stalled:
            self.stalled = self._halted = False
            self._guarded(<const uint8_t*>b"", 0)

    cdef int _guarded(self, const uint8_t* data, Py_ssize_t size) except -1:
        self._splitting = True
        self._arrived = 0.0
        try:
            if data == NULL:
                self._filled(size)
                self._split(<const uint8_t*>b"", 0)
            else:
                self._split(data, size)
            while self._extras:
                self._hand_up()
                self._split(<const uint8_t*>b"", 0)
            if self.crowded:
                self.owner.room()
        except Exception as exc:
            self._halted = True
            self.stalled = False
            self.owner.broken(exc)
        finally:
            self._splitting = False
            if self._out_size:
                self.flush()
        return 0

    cdef int _later(self, object frame) except -1:
        if self._extras is None:  # most connections never have any
            self._extras = []
        self._extras.append(frame)
        return 0

    cdef int _hand_up(self) except -1:
        frames, self._extras = self._extras, None
        self.owner.frames(frames)
        return 0

    cdef int _on_frame(
        self, Header* head, const uint8_t* body, bytes owner, uint32_t oversize
    ) except -1:
        cdef uint8_t kind
        if head.bits or head.flags & FLAG_HEARTBEAT or oversize or not self.opened:
            kind = head.bits & MASK_KIND
            if kind == KIND_DATA and self.opened and not head.bits & BIT_MORE:
                return self._item(head, body, owner, oversize)
            if (
                self.opened
                and (kind == KIND_CALL or kind == KIND_OPEN)
                and not head.flags & (FLAG_REPLY | FLAG_HEARTBEAT)
            ):
                self._rise(head.id)
                if head.name and not oversize:
                    self._bind(head.arg, PyBytes_FromStringAndSize(<const char*>body, head.name))
            self._later(make_frame(head, body, owner, oversize))
            if not self.opened:
                self._hand_up()
            return 0
        if self._extras:
            self._hand_up()
            if self._halted:
                return 0
        if head.flags & FLAG_REPLY:
            self._match(head, body, owner)
        else:
            self._answer(head, body, owner)
            if self._out_size >= OUT_HIGH:
                self.flush()
            if self.paused:
                self.stalled = self._halted = True
        return 0

    cdef int _item(
        self, Header* given, const uint8_t* body, bytes owner, uint32_t oversize
    ) except -1:
        cdef Header head = given[0]
        cdef bint own = head.flags & FLAG_REPLY
        cdef Sink sink
        cdef int serializer = head.flags & MASK_SERIALIZER
        cdef uint8_t raw[HEADER_FULL]
        if self._extras:
            self._hand_up()
            if self._halted:
                return 0
        if self._own_sinks is None:
            return 0
        # Most items follow one of the same stream.
        if self._sink is None or self._sink_id != head.id or self._sink_own != own:
            self._sink = (self._own_sinks if own else self._peer_sinks).get(head.id)
            self._sink_id = head.id
            self._sink_own = own
            if self._sink is None:
                return 0
        sink = self._sink
        if oversize or head.bits & ~(MASK_KIND | BIT_END):
            item = make_frame(&head, body, owner, oversize)
            if not oversize and head.body < BIG_BODY:
                pack_head(
                    raw, HEADER_FULL, head.flags, head.status, head.bits, head.id, head.body
                )
                put32(raw + 20, head.arg)
                put32(raw + 24, head.time)
                put16(raw + 28, head.name)
                put16(raw + 30, head.meta)
                item = (
                    PyBytes_FromStringAndSize(<const char*>raw, HEADER_FULL)
                    + PyBytes_FromStringAndSize(<const char*>body, head.body)
                )
                serializer |= FRAMED
        else:
            item = self._payload(&head, body, owner)
        return sink._push(
            serializer, item,
            head.size + <Py_ssize_t>(oversize if oversize else head.body),
            head.bits & BIT_END and not own,
        )

    cdef bytes _payload(self, Header* head, const uint8_t* body, bytes owner):
        cdef Py_ssize_t start = <Py_ssize_t>head.name + head.meta
        if owner is not None and start == 0:
            return owner
        return PyBytes_FromStringAndSize(<const char*>body + start, head.body - start)

    @cython.boundscheck(True)
    cdef int _match(self, Header* head, const uint8_t* body, bytes owner) except -1:
        cdef CallTable table = self.table
        cdef Py_ssize_t i = table._find(head.id)
        cdef int serializer = head.flags & MASK_SERIALIZER
        cdef Entry entry
        cdef bytes payload
        if i < 0:
            if head.id >= table.next_id or head.id == 0:
                self.unknown += 1
            else:
                self.late += 1
            return 0
        self.replies_in += 1
        entry = table._entries[i]
        waiter, own, name = table._waiters[i], table._decoders[i], table._names[i]
        table._drop(i)  # at once: *i* means nothing any more once Python code has run
        decode = own
        if decode is None or serializer != self.serializer:
            decode = self.decoders[serializer]
        if head.status or head.meta or decode is None:
            slot = (waiter, own, name, entry.started, entry.deadline)
            self.owner.answered(slot, make_frame(head, body, owner, 0))
            return 0
        payload = self._payload(head, body, owner)
        try:
            if serializer == MSGPACK:
                self._measure(payload)
            value = decode(payload)
        except Exception as exc:
            slot = (waiter, own, name, entry.started, entry.deadline)
            self.owner.undecodable(slot, make_frame(head, body, owner, 0), exc)
        else:
            self._settle(waiter, value)
        return 0

    cdef int _settle(self, object waiter, object value) except -1:
        try:
            waiter.set_result(value)
        except Exception:
            if not waiter.done():
                raise
            self.given_up += 1
            self.late += 1
        return 0

    def measure(self, bytes payload not None):
        """Look at a msgpack payload before it is decoded.

        Raises:
            TooLarge: It is nested too deep, or has too many items.
        """
        self._measure(payload)

    cdef int _measure(self, bytes payload) except -1:
        if PyBytes_GET_SIZE(payload) > min(DEPTH_FREE, min(self.max_depth, self.max_items)):
            broken = check_msgpack(payload, self.max_depth, self.max_items)
            if broken:
                raise TooLarge(broken)
        return 0

    cdef int _rise(self, uint64_t id) except -1:
        if id <= self.last_id:
            raise ProtocolError(f"call id {id} came after {self.last_id}: ids must rise")
        if id > ID_MAX:
            raise ProtocolError(f"call id {id} is over {ID_MAX}")
        self.last_id = id
        self.calls_in += 1
        return 0

    cdef Method _bind(self, uint32_t number, bytes name):
        """Note that the peer calls *name* by *number* from now on."""
        cdef Method known
        if number < <size_t>len(self._bound):
            known = self._bound[number]
            if known is not None:
                if known.name != name:
                    raise ProtocolError(f"method number {number} is bound to {known.name!r} already")
                return known
        known = self.router.get(name) if self.router is not None else None
        if known is not None and 0 < number <= self.max_methods:
            while <size_t>len(self._bound) <= number:
                self._bound.append(None)
            self._bound[number] = known
        return known

    cdef int _answer(self, Header* given, const uint8_t* body, bytes owner) except -1:
        cdef Header head = given[0]
        cdef Method method = None
        cdef int serializer = head.flags & MASK_SERIALIZER
        cdef double now, begun = 0.0
        cdef bint is_timed
        cdef bytes payload, out, metadata = b""
        self._rise(head.id)
        if head.name:
            method = self._bind(head.arg, PyBytes_FromStringAndSize(<const char*>body, head.name))
        elif head.arg < <size_t>len(self._bound):
            method = self._bound[head.arg]
        if self.refusals is not None and method is not None and method.is_sheddable:
            self._shed(head.flags, head.id, method)
            return 0
        if method is None or self.draining or (
            head.meta
            and not is_sound(body + head.name, head.meta, self.max_metadata, self.max_metadata_pairs)
        ):
            head.status = 0
            self._later(make_frame(&head, body, owner, 0))
            return 0
        head.status = 0
        if head.time:
            now = self.share.clock()
            if self._arrived == 0.0:
                self._arrived = now
            elif now - self._arrived > head.time / 1000.0:
                self.owner.expired(method, make_frame(&head, body, owner, 0))
                return 0
        decode = method.decoders[serializer]
        payload = self._payload(&head, body, owner)
        if head.meta:
            metadata = PyBytes_FromStringAndSize(<const char*>body + head.name, head.meta)
        failure = None
        args = ()
        if decode is not None:
            try:
                if serializer == MSGPACK:
                    self._measure(payload)
                args = decode(payload)
            except Exception as exc:
                failure = exc
        # *body* may point into the scratch, which a handler's own loop could
        # overwrite: from here on only *payload* is used.
        if decode is None or failure is not None:
            self.owner.bind(method, self._recall(&head, method, payload, metadata), failure)
            return 0
        reply = None
        if method.mode > MODE_INLINE and method.through is None:
            self.owner.start(method, self._recall(&head, method, payload, metadata), args)
            return 0
        is_timed = method.calls % SAMPLED == 0
        method.calls += 1
        if is_timed:
            begun = self.share.clock()
        try:
            if method.through is not None:
                is_over, reply = method.through(
                    self.owner, head.flags, head.id, head.time, metadata, args
                )
                if not is_over:
                    self.owner.waits(
                        method, self._recall(&head, method, payload, metadata), args, reply
                    )
                    return 0
                result = reply.value
            else:
                result = method.handler(*args)
                if method.mode == MODE_INLINE:
                    result = drive(result)
        except BaseException as exc:
            if is_timed:
                method.note(self.share.clock() - begun)
            method.errors += 1
            self.owner.raised(method, self._recall(&head, method, payload, metadata), exc)
            return 0
        if is_timed:
            method.note(self.share.clock() - begun)
        if head.flags & FLAG_ONEWAY:
            return 0
        if reply is not None and (reply.packed_metadata or reply.items is not None):
            self.owner.replied(method, self._recall(&head, method, payload, metadata), reply)
            return 0
        try:
            out = self._encode_result(&serializer, result)
        except Exception as exc:
            failure = exc
            out = b""
        if failure is not None or self._size_of(out) > self.peer_body:
            method.errors += 1
            self.owner.unsendable(method, self._recall(&head, method, payload, metadata), failure)
            return 0
        self._reply(head.id, FLAG_REPLY | serializer, out, 0, 0, 0, b"")
        return 0

    def shed_call(self, uint64_t id, bint oneway, Method method not None):
        """Refuse the peer's call *id* with one of `refusals`, and count it."""
        self._shed(FLAG_ONEWAY if oneway else 0, id, method)
        if not self._splitting:
            self._schedule()

    cdef int _shed(self, uint8_t flags, uint64_t id, Method method) except -1:
        cdef bytes body
        self.shed += 1
        method.shed += 1
        if not flags & FLAG_ONEWAY:
            body = self.refusals[<Py_ssize_t>(self.shed % <size_t>len(self.refusals))]
            if PyBytes_GET_SIZE(body) > self.peer_body:
                body = b""
            self._reply(id, FLAG_REPLY | MSGPACK, body, OVERLOADED, 0, 0, b"")
        return 0

    cdef object _recall(self, Header* head, Method method, bytes payload, bytes metadata):
        """Make the frame of a plain call whose payload was copied already."""
        frame = make_frame(head, NULL, None, 1)
        frame.oversize = 0
        frame.payload = payload
        frame.metadata = metadata
        if head.name:
            frame.name = method.name
        return frame

    # Out

    def encode_result(self, int serializer, value):
        """Return serializer and bytes of a handler's result.

        Large plain bytes go raw if the peer takes that: no copy is made of them.
        Arguments may have gone so, too, and say nothing about the result: what
        is no bytes is msgpack then.
        """
        body = self._encode_result(&serializer, value)
        return serializer, body

    cdef bytes _encode_result(self, int* serializer, object value):
        if type(value) is bytes:
            if (
                self.raw and serializer[0] == MSGPACK and PyBytes_GET_SIZE(<bytes>value) >= BIG_BODY
            ):
                serializer[0] = RAW
                return <bytes>value
        elif self.has_segments and serializer[0] == MSGPACK and _is_large(value):
            value = self.lift((value,))[0]
        elif serializer[0] == RAW and not isinstance(value, (bytes, bytearray, memoryview)):
            serializer[0] = MSGPACK
        return self._encode(serializer[0], value)

    @cython.boundscheck(True)
    cdef bytes _encode(self, int serializer, object value):
        cdef list taken = self.taken
        encode = self.encoders[serializer]
        if encode is None:
            raise CodecError(f"no codec for serializer {serializer}")
        try:
            body = encode(value)
        except BaseException:
            taken.clear()
            raise
        if type(body) is not bytes:
            raise CodecError(f"serializer {serializer} gave {type(body).__name__}, not bytes")
        if taken:
            if not self.has_segments:
                taken.clear()
                return self.owner.inline(serializer, value)
            self._beside = (body, taken.copy())
            taken.clear()
        return <bytes>body

    cdef list _buffers_of(self, bytes body):
        """Return what the codec put beside *body*, once; it holds for what it encoded last."""
        cdef tuple beside
        beside, self._beside = self._beside, None
        return beside[1] if beside is not None and beside[0] is body else None

    def size_of(self, bytes body not None):
        """Return how many bytes of a frame *body* takes, with what is beside it; at most."""
        return self._size_of(body)

    cdef Py_ssize_t _size_of(self, bytes body) except -1:
        cdef tuple beside = self._beside
        if beside is None or beside[0] is not body:
            return PyBytes_GET_SIZE(body)
        return len(body) + sum(map(len, beside[1])) + SEGMENT_COST * (len(beside[1]) + 2)

    cdef bytes _squeezed(self, bytes body):
        """Return *body* compressed, if that is agreed on and worth it."""
        if PyBytes_GET_SIZE(body) < self.zip_from or self.pack is None:
            return None
        return self.pack(body)

    def reply(
        self, id, serializer, bytes body not None, status=0, arg=0, time=0,
        bytes metadata not None=b"",
    ):
        """Queue the terminal reply of the peer's call *id*.

        Args:
            id: The peer's number of the call.
            serializer: How *body* is encoded.
            body: Encoded value or error.
            status: How the call ended.
            arg: Application code.
            time: Microseconds spent in the handler, 0 if nobody measured.
            metadata: Packed metadata.
        """
        self._reply(id, FLAG_REPLY | serializer, body, status, arg, min(time, U32_MAX), metadata)
        if not self._splitting:
            self._schedule()

    cdef int _reply(
        self, uint64_t id, uint8_t flags, bytes body, uint8_t status, uint32_t arg, uint32_t time,
        bytes metadata,
    ) except -1:
        cdef uint16_t size = HEADER_TIME if time else HEADER_ARG if arg else HEADER_BASE
        cdef uint8_t bits = 0
        cdef uint8_t* p
        cdef bytes packed
        cdef list buffers = self._buffers_of(body) if self._beside is not None else None
        if status == 0 and self.zip_from:
            packed = self._squeezed(body)
            if packed is not None:
                body = packed
                bits = BIT_ZIP
        if buffers is not None or PyBytes_GET_SIZE(metadata):
            self._put_pieces(
                encode_pieces(
                    0, id, serializer=flags & MASK_SERIALIZER, reply=True, status=status, bits=bits,
                    arg=arg, time=time, metadata=metadata, payload=body, buffers=buffers or (),
                )
            )
            return 0
        p = self._reserve(HEADER_TIME)
        pack_head(p, size, flags, status, bits, id, <uint32_t>PyBytes_GET_SIZE(body))
        put32(p + 20, arg)
        put32(p + 24, time)
        self._commit(size, body)
        return 0

    def send(self, bytes data not None):
        """Queue a whole frame that `encode_frame` made."""
        self._commit(0, data)
        if not self._splitting:
            self._schedule()

    def call(self, str name not None, tuple args not None, kwargs, double timeout,
             bytes metadata not None, decode):
        """Send a call and return its waiter.

        Args:
            name: Full method name.
            args: Positional arguments.
            kwargs: Keyword arguments, or None.
            timeout: Seconds until the deadline, 0 for none.
            metadata: Packed metadata.
            decode: Decoder of the result, None for the connection's own.

        Raises:
            CodecError: The arguments can't be encoded; nothing was sent.
            TooLarge: They are larger than the peer accepts; nothing was sent.
            ConfigError: Another thread or event loop than the lane's calls.
        """
        return self._call(name, args, kwargs, timeout, metadata, decode)

    cdef object _call(
        self, str name, tuple args, object kwargs, double timeout, bytes metadata, object decode
    ):
        cdef uint64_t id
        return self._start(name, args, kwargs, timeout, metadata, decode, None, 0, &id)

    def start(self, str name not None, tuple args not None, kwargs, double timeout,
              bytes metadata not None, decode, waiter, uint8_t bits):
        """Send a call, or open a stream, and return its id; the rest is as `call` has it.

        Args:
            name: Full method name.
            args: Positional arguments.
            kwargs: Keyword arguments, or None.
            timeout: Seconds until the deadline, 0 for none.
            metadata: Packed metadata.
            decode: Decoder of the value.
            waiter: Told of the end, in a future's place.
            bits: Kind CALL, or kind OPEN and whether END.
        """
        cdef uint64_t id
        self._start(name, args, kwargs, timeout, metadata, decode, waiter, bits, &id)
        return id

    cdef object _start(
        self, str name, tuple args, object kwargs, double timeout, bytes metadata, object decode,
        object waiter, uint8_t bits, uint64_t* given,
    ):
        cdef double started = 0.0, deadline = 0.0
        cdef uint32_t millis = 0
        cdef int serializer = self.serializer
        cdef bytes body
        cdef bint quiet
        cdef uint64_t id
        self._check_loop()
        body = self._encode_arguments(name, args, kwargs, metadata, &serializer)
        if waiter is None:
            waiter = self.share.create_future()
        if timeout > 0.0:
            started = self.share.clock()
            deadline = started + timeout
            millis = <uint32_t>min(timeout * 1000.0, U32_MAX - 1.0) + 1
        quiet = self.table._used == 0 and self._out_size == 0
        id = self.table._enter(waiter, decode, name, started, deadline)
        try:
            self._request(name, id, serializer, bits, millis, metadata, body)
        except BaseException:
            self.table._pull(id)
            raise
        if not self.ticking:
            self.ticking = True
            self.owner.tick()
        if quiet and not (self._splitting or self.corked):
            self.flush()
        else:
            self._schedule()
        given[0] = id
        return waiter

    def notify(self, str name not None, tuple args not None, kwargs, bytes metadata not None):
        """Send a oneway call; errors as `call` has them."""
        self._check_loop()
        cdef int serializer = self.serializer
        cdef bytes body = self._encode_arguments(name, args, kwargs, metadata, &serializer)
        cdef uint64_t id = self.table.next_id
        if id >= ID_MAX:
            raise ProtocolError("the ids of this connection are used up")
        self.table.next_id = id + 1
        self._request(name, id, FLAG_ONEWAY | serializer, 0, 0, metadata, body)
        self._schedule()

    cdef int _check_loop(self) except -1:
        cdef LoopShare share = self.share
        if share.thread and share.thread != PyThread_get_thread_ident():
            raise ConfigError("this client belongs to the event loop of another thread")
        if not share.is_running():
            raise ConfigError("this client is connected on another event loop; make one per loop")
        return 0

    cdef bytes _encode_arguments(
        self, str name, tuple args, object kwargs, bytes metadata, int* serializer
    ):
        cdef bytes body = None
        cdef Py_ssize_t size
        value = args
        if kwargs:
            value = {**kwargs, "*": args} if args else kwargs
        elif len(args) == 1 and self.raw and serializer[0] == MSGPACK:
            only = args[0]
            if type(only) is bytes and PyBytes_GET_SIZE(<bytes>only) >= BIG_BODY:
                serializer[0] = RAW
                body = <bytes>only
        if self.serializer == RAW:
            if kwargs or len(args) > 1:
                raise CodecError(f"{name}: the raw codec carries one bytes argument, no names")
            value = args[0] if args else b""
        if body is None:
            if self.has_segments and serializer[0] == MSGPACK:
                value = self._lifted(value, args, kwargs)
            try:
                body = self._encode(serializer[0], value)
            except Exception as exc:
                raise CodecError(f"{name}: arguments can't be encoded: {exc}") from exc
        size = self._size_of(body) + PyBytes_GET_SIZE(metadata)
        if size > self.peer_body - NAME_MAX and self._numbers.get(name, 0) <= 0:
            size += PyBytes_GET_SIZE(_encode_name(name))
        if size > self.peer_body:
            raise TooLarge(
                f"{name}: arguments of {size} bytes are over the server's max_body of"
                f" {self.peer_body}",
                method=name,
            )
        return body

    cdef object _lifted(self, object value, tuple args, object kwargs):
        """Return the arguments with large bytes put beside the payload."""
        cdef bint has_large = False
        for item in args:
            has_large = has_large or _is_large(item)
        if has_large:
            args = tuple(self.lift(args))
            value = {**kwargs, "*": args} if kwargs else args
        if kwargs:
            has_large = False
            for item in kwargs.values():
                has_large = has_large or _is_large(item)
            if has_large:
                named = dict(zip(kwargs, self.lift(tuple(kwargs.values()))))
                value = {**named, "*": args} if args else named
        return value

    cdef int _request(
        self, str name, uint64_t id, uint8_t flags, uint8_t bits, uint32_t millis, bytes metadata,
        bytes body,
    ) except -1:
        cdef bytes named = b""
        cdef Py_ssize_t number = 0
        cdef Py_ssize_t count = PyBytes_GET_SIZE(body), named_size = 0, meta_size
        cdef uint8_t* p
        cdef bytes packed
        cdef list buffers = self._buffers_of(body) if self._beside is not None else None
        if self.zip_from:
            packed = self._squeezed(body)
            if packed is not None:
                body = packed
                bits |= BIT_ZIP
                count = PyBytes_GET_SIZE(body)
        known = self._numbers.get(name)
        if known is not None:
            number = known
        meta_size = PyBytes_GET_SIZE(metadata)
        if meta_size > METADATA_MAX:
            text = f"{name}: metadata of {meta_size} bytes is over {METADATA_MAX}"
            raise TooLarge(text, method=name)
        if number <= 0:
            named = _encode_name(name)
            named_size = PyBytes_GET_SIZE(named)
            number = -number if number else len(self._numbers) + 1
            if number <= self.peer_methods:
                self._numbers[name] = number
            else:
                number = 0
        self.calls_out += 1
        if buffers is not None:
            self._put_pieces(
                encode_pieces(
                    bits & MASK_KIND, id, serializer=flags & MASK_SERIALIZER,
                    oneway=bool(flags & FLAG_ONEWAY), bits=bits & ~MASK_KIND, arg=number,
                    time=millis, name=named, metadata=metadata, payload=body, buffers=buffers,
                )
            )
            return 0
        if named_size or meta_size:
            p = self._reserve(HEADER_FULL + named_size + meta_size)
            pack_head(
                p, HEADER_FULL, flags, 0, bits, id, <uint32_t>(named_size + meta_size + count)
            )
            put32(p + 20, <uint32_t>number)
            put32(p + 24, millis)
            put16(p + 28, <uint16_t>named_size)
            put16(p + 30, <uint16_t>meta_size)
            memcpy(p + HEADER_FULL, PyBytes_AS_STRING(named), named_size)
            memcpy(p + HEADER_FULL + named_size, PyBytes_AS_STRING(metadata), meta_size)
            self._commit(HEADER_FULL + named_size + meta_size, body)
            return 0
        p = self._reserve(HEADER_TIME)
        pack_head(
            p, HEADER_TIME if millis else HEADER_ARG, flags, 0, bits, id, <uint32_t>count
        )
        put32(p + 20, <uint32_t>number)
        put32(p + 24, millis)
        self._commit(HEADER_TIME if millis else HEADER_ARG, body)
        return 0

    def forget(self, name):
        """Send *name* in full again with its next call: the peer does not know it."""
        number = self._numbers.get(name, 0)
        if number > 0:
            self._numbers[name] = -number

    def cancel(self, uint64_t id):
        """Give up a call of ours and tell the peer; False if it has ended before."""
        if self.table._pull(id) is None:
            return False
        self._cancel(id, 42)
        return True

    def put_item(self, uint64_t id, bint own, int serializer, bytes body not None):
        """Queue an item of a stream and return what it costs of the credit.

        Args:
            id: Message id of the stream.
            own: Whether it is a stream of ours.
            serializer: How *body* is encoded.
            body: Encoded item.
        """
        return self._put_item(id, own, serializer, body)

    cdef Py_ssize_t _put_item(self, uint64_t id, bint own, int serializer, bytes body) except -1:
        cdef Py_ssize_t size
        cdef uint8_t bits = KIND_DATA
        cdef bytes packed
        cdef list pieces, buffers = self._buffers_of(body) if self._beside is not None else None
        if self.zip_from:
            packed = self._squeezed(body)
            if packed is not None:
                body = packed
                bits |= BIT_ZIP
        size = PyBytes_GET_SIZE(body)
        if buffers is not None:
            pieces = encode_pieces(
                KIND_DATA, id, serializer=serializer, reply=not own, bits=bits & ~MASK_KIND,
                payload=body, buffers=buffers,
            )
            self._put_pieces(pieces)
            size = sum(map(len, pieces)) - HEADER_BASE
        else:
            pack_head(
                self._reserve(HEADER_BASE), HEADER_BASE, serializer | (0 if own else FLAG_REPLY), 0,
                bits, id, <uint32_t>size,
            )
            self._commit(HEADER_BASE, body)
        if self._out_size >= OUT_HIGH:
            self.flush()
        elif not self._splitting:
            self._schedule()
        return HEADER_BASE + size

    def sweep(self, now):
        """Give up cancelled and late calls, tell the peer, return the late ones."""
        late = self.table.expire(now)
        for id in self.table.abandoned():
            self._cancel(id, 42)
        for id, _ in late:
            self._cancel(id, 41)
        self.ticking = self.table._used > 0
        return [slot for _, slot in late]

    cdef int _cancel(self, object id, int status) except -1:
        self.given_up += 1
        self.send(encode_frame(6, id, status=status))
        return 0

    cdef uint8_t* _reserve(self, Py_ssize_t size) except NULL:
        """Return room for *size* bytes at the end of the out buffer."""
        cdef Py_ssize_t cap = self._out_cap
        cdef uint8_t* grown
        if cap == 0 and self.share._spare != NULL:
            self._out = self.share._spare
            self._out_cap = cap = self.share._spare_cap
            self.share._spare = NULL
        if cap - self._out_len < size:
            cap = max(cap * 2, OUT_LEAST)
            while cap - self._out_len < size:
                cap *= 2
            grown = <uint8_t*>PyMem_Realloc(self._out, cap)
            if grown == NULL:
                raise MemoryError
            self._out = grown
            self._out_cap = cap
        return self._out + self._out_len

    cdef int _commit(self, Py_ssize_t head, bytes body) except -1:
        """Count *head* bytes just written to the out buffer and add *body*."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(body)
        self._out_len += head
        self._out_size += head + size
        if size >= BIG_BODY:
            if self._out_len:
                self._parts.append(PyBytes_FromStringAndSize(<char*>self._out, self._out_len))
            self._parts.append(body)
            self._out_len = 0
        elif size:
            memcpy(self._reserve(size), PyBytes_AS_STRING(body), size)
            self._out_len += size
        return 0

    cdef int _put_pieces(self, list pieces) except -1:
        if self._out_len:
            self._parts.append(PyBytes_FromStringAndSize(<char*>self._out, self._out_len))
            self._out_len = 0
        self._parts += pieces
        self._out_size += sum(map(len, pieces))
        return 0

    cdef void _put_away(self) noexcept:
        """Leave the empty out buffer to the next lane that needs one."""
        if self.share._spare == NULL and self._out_cap <= OUT_KEPT:
            self.share._spare = self._out
            self.share._spare_cap = self._out_cap
        else:
            PyMem_Free(self._out)
        self._out = NULL
        self._out_cap = 0

    cdef int _schedule(self) except -1:
        if not self._scheduled:
            self._scheduled = True
            self.share.call_soon(self.flush)
        return 0

    cpdef flush(self):
        """Write what is queued, in one go."""
        cdef bytes small
        cdef list fresh = None
        if self._parts:
            fresh = []  # first: making it may run the collector, and that a call
        self._scheduled = False
        if self._out_size == 0 or self._write is None:
            return
        small = PyBytes_FromStringAndSize(<char*>self._out, self._out_len)
        self.bytes_out += self._out_size
        self._out_len = self._out_size = 0
        self._put_away()
        if fresh is not None:
            parts, self._parts = self._parts, fresh
            if small:
                parts.append(small)
            self._writelines(parts)
        else:
            self._write(small)


cdef bint _is_large(object value) except -1:
    """Say whether *value* is bytes that are better not copied."""
    if type(value) is bytes:
        return PyBytes_GET_SIZE(<bytes>value) >= BIG_BODY
    if type(value) is bytearray:
        return len(value) >= BIG_BODY
    return type(value) is memoryview and value.nbytes >= BIG_BODY


cdef bytes _encode_name(object name):
    """Return a method's name as bytes; raise if no server can have it."""
    if not isinstance(name, str):
        raise TypeError(f"Expected str, got {type(name).__name__}")
    try:
        named = (<str>name).encode()
    except UnicodeEncodeError:
        named = b""
    if not 0 < len(named) <= NAME_MAX:
        text = f"{name[:64]!a} can't be a method: its name has 1 to {NAME_MAX} bytes of UTF-8"
        raise MethodNotFound(text, method=name)
    return named


cpdef object drive(object coroutine):
    """Run a coroutine that never suspends to its end."""
    # The C way: a result that is no exception costs no exception.
    cdef PyObject* result = NULL
    cdef int how = PyIter_Send(coroutine, None, &result)
    value = <object>result
    Py_DECREF(value)
    if how == PYGEN_RETURN:
        return value
    coroutine.close()
    raise RuntimeError("the handler waits although its code has no await")
