# cython: language_level=3
"""The compiled lane as `_caller.pyx` sees it: an index of `_lane.pyx`, whole, as Cython wants it."""

cimport cython
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastrpc._frame cimport CallTable, Header, Splitter


@cython.final
cdef class LoopShare:
    cdef readonly object call_soon, clock, create_future, is_running, loop, narrow, view
    cdef readonly unsigned long thread
    cdef const uint8_t* _scratch  # what *view* shows; it can't move while it is shown
    cdef uint8_t* _spare  # an out buffer between two uses, so that idle lanes hold none
    cdef Py_ssize_t _spare_cap
    cdef bint _busy  # a lane reads from the scratch: nobody may write there


@cython.final
cdef class Durations:
    cdef uint64_t _counts[592]
    cdef readonly uint64_t count
    cdef readonly double total, max
    cpdef add(self, double seconds)


@cython.final
cdef class Method:
    cdef readonly bytes name
    cdef readonly int mode
    cdef readonly object handler
    cdef readonly list decoders
    cdef readonly object info
    cdef public object through
    cdef public bint is_sheddable
    cdef public uint64_t calls, errors, shed
    cdef readonly Durations times
    cpdef note(self, double seconds)


cdef class Sink:
    cdef int _push(self, int serializer, object item, Py_ssize_t cost, bint last) except -1


@cython.final
cdef class Lane(Splitter):
    cdef readonly object owner
    cdef readonly LoopShare share
    cdef readonly CallTable table
    cdef list _bound
    cdef public object router
    cdef public list encoders, decoders
    cdef public int serializer
    cdef public Py_ssize_t max_depth, max_items, max_methods, max_metadata, max_metadata_pairs
    cdef public Py_ssize_t peer_body, peer_calls, peer_methods
    cdef public bint raw, opened, ready, draining, paused, stalled, ticking, crowded, corked, has_segments
    cdef public uint64_t last_id, calls_in, calls_out, replies_in, bytes_in, bytes_out
    cdef public uint64_t late, unknown, given_up, shed
    cdef public tuple refusals
    cdef public list taken
    cdef public object lift, pack
    cdef public Py_ssize_t zip_from
    cdef tuple _beside
    cdef dict _numbers, _own_sinks, _peer_sinks
    cdef Sink _sink  # of the last item
    cdef uint64_t _sink_id
    cdef bint _sink_own
    cdef list _extras, _parts
    cdef uint8_t* _out
    cdef Py_ssize_t _out_len, _out_cap, _out_size
    cdef bint _scheduled, _splitting, _narrow
    cdef double _arrived
    cdef object _write, _writelines
    cdef bytearray _private
    cdef int _guarded(self, const uint8_t* data, Py_ssize_t size) except -1
    cdef int _later(self, object frame) except -1
    cdef int _hand_up(self) except -1
    cdef int _item(self, Header* given, const uint8_t* body, bytes owner, uint32_t oversize) except -1
    cdef bytes _payload(self, Header* head, const uint8_t* body, bytes owner)
    cdef int _match(self, Header* head, const uint8_t* body, bytes owner) except -1
    cdef int _settle(self, object waiter, object value) except -1
    cdef int _measure(self, bytes payload) except -1
    cdef int _rise(self, uint64_t id) except -1
    cdef Method _bind(self, uint32_t number, bytes name)
    cdef int _answer(self, Header* given, const uint8_t* body, bytes owner) except -1
    cdef int _shed(self, uint8_t flags, uint64_t id, Method method) except -1
    cdef object _recall(self, Header* head, Method method, bytes payload, bytes metadata)
    cdef bytes _encode_result(self, int* serializer, object value)
    cdef bytes _encode(self, int serializer, object value)
    cdef int _reply(self, uint64_t id, uint8_t flags, bytes body, uint8_t status, uint32_t arg, uint32_t time, bytes metadata) except -1
    cdef list _buffers_of(self, bytes body)
    cdef Py_ssize_t _size_of(self, bytes body) except -1
    cdef bytes _squeezed(self, bytes body)
    cdef object _lifted(self, object value, tuple args, object kwargs)
    cdef int _put_pieces(self, list pieces) except -1
    cdef object _call(self, str name, tuple args, object kwargs, double timeout, bytes metadata, object decode)
    cdef object _start(self, str name, tuple args, object kwargs, double timeout, bytes metadata, object decode, object waiter, uint8_t bits, uint64_t* given)
    cdef Py_ssize_t _put_item(self, uint64_t id, bint own, int serializer, bytes body) except -1
    cdef int _check_loop(self) except -1
    cdef bytes _encode_arguments(self, str name, tuple args, object kwargs, bytes metadata, int* serializer)
    cdef int _request(self, str name, uint64_t id, uint8_t flags, uint8_t bits, uint32_t millis, bytes metadata, bytes body) except -1
    cdef int _cancel(self, object id, int status) except -1
    cdef uint8_t* _reserve(self, Py_ssize_t size) except NULL
    cdef int _commit(self, Py_ssize_t head, bytes body) except -1
    cdef void _put_away(self) noexcept
    cdef int _schedule(self) except -1
    cpdef flush(self)
