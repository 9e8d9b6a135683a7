# cython: language_level=3
"""What `_lane.pyx` uses of the compiled frames: an index of `_frame.pyx`."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t


cdef struct Header:
    uint16_t size
    uint8_t flags
    uint8_t status
    uint8_t bits
    uint64_t id
    uint32_t body
    uint32_t arg
    uint32_t time
    uint16_t name
    uint16_t meta
    void* segments  # a list, where they were received one by one


cdef class Frame:
    cdef public object kind, id, serializer, reply, oneway, heartbeat, status, bits
    cdef public object arg, time, name, metadata, payload, buffers, oversize
    cdef list _fields(self)


cdef class Splitter:
    cdef public uint32_t max_body
    cdef readonly uint16_t magic
    cdef bytearray _rest
    cdef Py_ssize_t _need
    cdef bytes _head
    cdef bytes _big
    cdef bytes _prefix  # name and metadata of a frame that comes segment by segment
    cdef list _segments, _spans
    cdef bint _is_padding, _stained
    cdef Py_ssize_t _big_at
    cdef uint32_t _skip
    cdef bint _halted
    cdef int _setup(self, object max_body, object magic) except -1
    cdef int _split(self, const uint8_t* data, Py_ssize_t size) except -1
    cdef int _filled(self, Py_ssize_t nbytes) except -1
    cdef Py_ssize_t _plan_segments(self, const uint8_t* head, const uint8_t* body, Py_ssize_t left, Py_ssize_t size) except -1
    cdef bint _next_segment(self) except -1
    cdef int _keep_segment(self) except -1
    cdef int _run(self, const uint8_t* data, Py_ssize_t end) except -1
    cdef int _check(self, const uint8_t* p, Py_ssize_t left, uint16_t head, uint32_t size) except -1
    cdef int _deliver(self, Header* head, const uint8_t* body, bytes owner, uint32_t oversize) except -1
    cdef int _on_frame(self, Header* head, const uint8_t* body, bytes owner, uint32_t oversize) except -1


cdef struct Entry:
    uint64_t id  # 0: free
    double started
    double deadline


cdef class CallTable:
    cdef Entry* _entries
    cdef Py_ssize_t _mask
    cdef Py_ssize_t _used
    cdef list _waiters
    cdef list _decoders
    cdef list _names
    cdef readonly uint64_t next_id
    cdef readonly double soonest
    cdef int _grow(self) except -1
    cdef int _place(self, Entry entry, object waiter, object decode, object name) except -1
    cdef uint64_t _enter(
        self, object waiter, object decode, object name, double started, double deadline
    ) except 0
    cdef Py_ssize_t _find(self, uint64_t id) noexcept
    cdef tuple _pull(self, uint64_t id)
    cdef int _drop(self, Py_ssize_t i) except -1
    cdef list _remove(self, list ids)


cdef Frame make_frame(Header* head, const uint8_t* body, bytes owner, uint32_t oversize)
cdef void pack_head(uint8_t* p, uint16_t size, uint8_t flags, uint8_t status, uint8_t bits,
                    uint64_t id, uint32_t body) noexcept nogil
cdef void put32(uint8_t* p, uint32_t value) noexcept nogil
cdef void put16(uint8_t* p, uint16_t value) noexcept nogil
cpdef str check_msgpack(object data, Py_ssize_t max_depth, Py_ssize_t max_items)
cdef bint is_sound(const uint8_t* p, Py_ssize_t size, Py_ssize_t most, Py_ssize_t pairs) noexcept
