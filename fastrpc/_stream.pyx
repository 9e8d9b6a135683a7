# cython: language_level=3
"""Carry the items of a stream: the compiled half of `_stream_py.py`.

`_stream_py.py` is the same in plain Python and says why things are as they are;
here stand only the reasons that are C's own.

Rules of the room:
  * C memory belongs to a class that frees it in `__dealloc__`;
  * an item that is there costs no coroutine: what is awaited answers by `am_send`;
  * a change here without the same change in `_stream_py.py` does not merge.
"""

cimport cython
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastrpc._lane cimport Lane, Sink

from collections import deque

from fastrpc._frame import FrameDecoder, encode_frame
from fastrpc.errors import CodecError, ConfigError, FastRPCError, ProtocolError, TooLarge

cdef extern from "Python.h":
    int PYGEN_RETURN
    int PYGEN_NEXT
    ctypedef struct PyAsyncMethods:
        void* am_send
    ctypedef struct PyTypeObject:
        PyAsyncMethods* tp_as_async

__all__ = ["Inlet", "ItemReader", "Outlet"]

cdef enum:
    MSGPACK = 1
    FRAMED = 0x20
    KIND_CREDIT = 5
    OUT_HIGH = 65536
    SPENT_MOST = 4096  # places of items taken that a list may keep at its front

cdef Py_ssize_t CREDIT_MAX = 2147483647
_NO_ERROR = RuntimeError("the stream has not ended")


def constants():
    """Return the C copies of the numbers in `wire`, by name."""
    return {"CREDIT_MAX": CREDIT_MAX}


cdef struct Coming:
    uint32_t cost
    uint8_t serializer


@cython.final
cdef class Inlet(Sink):
    """The receiving half of a stream: items wait here until they are taken.

    Args:
        lane: The connection's lane.
        id: Message id of the stream.
        own: Whether the stream is one of ours.
        window: Credit that the peer has at the start, in bytes.
        serializer: How items are usually encoded.
        decode: Decoder of those.
        unpack: `unpack(serializer, item)` reads all others: payloads, and frames
            whose payload is not plain.
        explain: `explain(number, exc)` returns what to raise for the item of that
            number, counted from 1, that can't be read.

    Attributes:
        count: Items taken so far.
        is_over: Whether no more will come.
    """

    cdef Lane _lane
    cdef uint64_t _id
    cdef bint _own
    cdef int _serializer
    cdef Py_ssize_t _window, _credit, _freed
    cdef object _decode, _unpack, _explain, _error, _waiter
    cdef list _items  # from `_at` on; None where they were taken
    cdef Coming* _coming  # beside them
    cdef Py_ssize_t _at, _room
    cdef readonly Py_ssize_t count
    cdef readonly bint is_over

    def __init__(
        self, Lane lane not None, id, bint own, window, serializer, decode, unpack, explain
    ):
        self._lane = lane
        self._id = id
        self._own = own
        self._window = self._credit = window
        self._serializer = serializer
        self._decode = decode
        self._unpack = unpack
        self._explain = explain
        self._items = []
        lane.add_sink(id, own, self)

    def __dealloc__(self):
        PyMem_Free(self._coming)

    def __len__(self):
        """Return how many items wait."""
        return len(self._items) - self._at

    def push(self, serializer, item, cost, last):
        """Take an item that came; for the lane.

        Args:
            serializer: How the item is encoded; with FRAMED beside it, *item* is a frame's bytes.
            item: Its payload, or the frame if that is not plain.
            cost: Bytes of the whole frame.
            last: Whether no more will come.

        Raises:
            ProtocolError: The peer had no credit.
        """
        self._push(serializer, item, cost, last)

    cdef int _push(self, int serializer, object item, Py_ssize_t cost, bint last) except -1:
        cdef Py_ssize_t at = len(self._items)
        cdef Py_ssize_t room
        cdef Coming* grown
        if self.is_over:
            return 0
        if self._credit <= 0:
            raise ProtocolError(f"stream {self._id}: an item came without credit")
        self._credit -= cost
        if at == self._room:
            room = max(16, at * 2)
            grown = <Coming*>PyMem_Realloc(self._coming, room * sizeof(Coming))
            if grown == NULL:
                raise MemoryError
            self._coming = grown
            self._room = room
        self._coming[at].cost = <uint32_t>cost
        self._coming[at].serializer = <uint8_t>serializer
        self._items.append(item)
        if last:
            self.end(None)
        elif self._waiter is not None:
            self._wake()
        return 0

    def end(self, error):
        """Let no more come; what waits can still be taken, then *error* is raised."""
        if self.is_over:
            return
        self.is_over = True
        self._error = error
        self._lane.drop_sink(self._id, self._own)
        self._wake()

    def drop(self):
        """Let no more come, and forget what waits."""
        self.end(None)
        self._error = None
        self._items = []
        self._at = 0

    def wait(self):
        """Return a waiter that is done when there is an item, or no more will come.

        Raises:
            ConfigError: Somebody waits already.
        """
        if self._waiter is not None and not self._waiter.done():
            raise ConfigError("a stream can be read by one task at a time")
        self._waiter = waiter = self._lane.share.create_future()
        if len(self._items) > self._at or self.is_over:
            self._wake()
        return waiter

    def take(self):
        """Return the next item.

        Raises:
            StopAsyncIteration: No more will come.
            LookupError: None has come yet.
            Exception: Why the stream ended, once; or what is wrong with the item.
        """
        return self._take()

    cdef object _take(self):
        cdef list items = self._items
        cdef Py_ssize_t at = self._at
        cdef int serializer
        if at == len(items):
            if not self.is_over:
                raise LookupError("no item has come yet")
            error, self._error = self._error, None
            if error is not None:
                raise error
            raise StopAsyncIteration
        item = items[at]
        serializer = self._coming[at].serializer
        self._freed += self._coming[at].cost
        self._at = at + 1
        if self._at == len(items):
            items.clear()
            self._at = 0
        else:
            items[at] = None
            if self._at >= SPENT_MOST and self._at * 2 >= len(items):
                self._close_up()
        self.count += 1
        if self._freed * 2 >= self._window and not self.is_over:
            self._grant()
        try:
            return self._read(serializer, item)
        except Exception as exc:
            failure = exc
        raise self._explain(self.count, failure) from None

    cdef int _close_up(self) except -1:
        """Let go of the places at the front whose items were taken."""
        cdef Py_ssize_t i, left = len(self._items) - self._at
        for i in range(left):
            self._coming[i] = self._coming[self._at + i]
        del self._items[:self._at]
        self._at = 0
        return 0

    cdef object _read(self, int serializer, object item):
        if serializer & FRAMED:
            serializer &= ~FRAMED
            item = FrameDecoder().feed(item)[0]
        if serializer != self._serializer or type(item) is not bytes:
            return self._unpack(serializer, item)
        if serializer == MSGPACK:
            self._lane._measure(<bytes>item)
        return self._decode(item)

    cdef int _grant(self) except -1:
        cdef Py_ssize_t freed = self._freed
        self._freed = 0
        self._credit += freed
        self._lane.send(encode_frame(KIND_CREDIT, self._id, reply=not self._own, arg=freed))
        return 0

    cdef int _wake(self) except -1:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        return 0


@cython.final
cdef class ItemReader:
    """Iterate over the items of an inlet.

    Args:
        inlet: Where they come from.
        keep: What has to live as long as somebody iterates.
    """

    cdef _Step _step

    def __init__(self, Inlet inlet not None, keep=None):
        self._step = _Step(inlet, keep)

    def __aiter__(self):
        """Return itself."""
        return self

    def __anext__(self):
        """Return the next item; raises as `Inlet.take` does."""
        return self._step


cdef class _Awaited:
    """What a coroutine has beside its slots: `anext(reader, None)` and tasks ask for it by name."""

    def send(self, value):
        return next(self)

    def throw(self, kind, value=None, trace=None):
        raise kind if value is None else value

    def close(self):
        pass


@cython.final
cdef class _Step(_Awaited):
    """Awaited, it gives the next item; one serves for all of a reader's."""

    cdef Inlet inlet
    cdef object keep

    def __cinit__(self, Inlet inlet not None, keep):
        self.inlet = inlet
        self.keep = keep

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        cdef PyObject* result = NULL
        cdef int how = _read_on(<PyObject*>self, NULL, &result)
        value = <object>result
        Py_DECREF(value)
        if how == PYGEN_NEXT:
            return value
        raise StopIteration(value)


cdef int _read_on(PyObject* given, PyObject* sent, PyObject** result) except -1:
    """Go on awaiting the next item; `am_send` of a step, see PEP 492 and PyIter_Send."""
    cdef Inlet inlet = (<_Step>given).inlet
    result[0] = NULL
    if len(inlet._items) > inlet._at or inlet.is_over:
        value = inlet._take()
        Py_INCREF(value)
        result[0] = <PyObject*>value
        return PYGEN_RETURN
    waiter = inlet.wait()
    waiter._asyncio_future_blocking = True
    Py_INCREF(waiter)
    result[0] = <PyObject*>waiter
    return PYGEN_NEXT


@cython.final
cdef class _Turn(_Awaited):
    """Awaited, it lets the loop do other things; or, if it is done, nothing at all."""

    cdef bint _is_done

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        if self._is_done:
            raise StopIteration
        self._is_done = True


cdef int _turn_over(PyObject* given, PyObject* sent, PyObject** result) except -1:
    """Be `am_send` of a turn."""
    cdef _Turn turn = <_Turn>given
    Py_INCREF(None)
    result[0] = <PyObject*>None
    if turn._is_done:
        return PYGEN_RETURN
    turn._is_done = True
    return PYGEN_NEXT


cdef _Turn _DONE = _Turn()
_DONE._is_done = True


@cython.final
cdef class Outlet:
    """The sending half of a stream: items leave here while there is credit.

    Args:
        lane: The connection's lane.
        id: Message id of the stream.
        own: Whether the stream is one of ours.
        credit: What the peer lets us send at the start, in bytes.
        serializer: How items are encoded.

    Attributes:
        count: Items sent so far.
        is_over: Whether no more can be sent.
    """

    cdef Lane _lane
    cdef uint64_t _id
    cdef bint _own
    cdef Py_ssize_t _credit, _burst
    cdef int _serializer
    cdef object _line, _error
    cdef readonly Py_ssize_t count
    cdef readonly bint is_over

    def __init__(self, Lane lane not None, id, bint own, credit, serializer):
        self._lane = lane
        self._id = id
        self._own = own
        self._credit = credit
        self._serializer = serializer
        self._error = _NO_ERROR

    def grant(self, credit):
        """Take credit that the peer gave.

        Raises:
            ProtocolError: It is none, or too much.
        """
        if credit == 0 or self._credit + credit > CREDIT_MAX:
            raise ProtocolError(f"stream {self._id}: a credit of {credit} is not allowed")
        self._credit += credit
        self.wake()

    def wake(self):
        """Let who is first in line look again: there is credit, or room in the transport."""
        if self._line and not self._line[0].done():
            self._line[0].set_result(None)

    def close(self, error):
        """Let no more be sent; *error* is raised to whoever tries."""
        if self.is_over:
            return
        self.is_over = True
        self._error = error
        for waiter in self._line or ():
            if not waiter.done():
                waiter.set_result(None)

    def put(self, item):
        """Queue *item*, whatever the credit; for who has looked at `may_put`.

        Raises:
            TooLarge: It is larger than the peer accepts; nothing was sent.
            CodecError: It can't be encoded.
        """
        self._put(item)

    cdef int _put(self, object item) except -1:
        cdef Lane lane = self._lane
        cdef int serializer = self._serializer
        cdef bytes body
        try:
            body = lane._encode_result(&serializer, item)
        except FastRPCError:
            raise
        except Exception as exc:
            raise CodecError(f"an item can't be encoded: {exc}") from exc
        cdef Py_ssize_t cost
        cost = lane._size_of(body)
        if cost > lane.peer_body:
            raise TooLarge(
                f"an item of {cost} bytes is over the peer's max_body of {lane.peer_body}"
            )
        cost = lane._put_item(self._id, self._own, serializer, body)
        self._credit -= cost
        self._burst += cost
        self.count += 1
        return 0

    @property
    def may_put(self):
        """Whether an item may be sent right now."""
        return self._may_put()

    cdef bint _may_put(self) noexcept:
        return self._credit > 0 and not self._lane.paused and not self._line

    def send(self, item):
        """Send *item* as soon as there is credit; await what is returned.

        Raises:
            Exception: Of `put`, and why the stream has ended.
        """
        if self._may_put() and not self.is_over:
            self._put(item)
            return _DONE
        return self._send_later(item)

    async def pump(self, items):
        """Send all *items* and return True; False if the stream ended before they did."""
        cdef bint asking = True
        try:
            async for item in items:
                asking = False
                if not self._may_put():
                    await self._room()
                if self.is_over:
                    return False
                self._put(item)
                if self._burst >= OUT_HIGH:
                    self._burst = 0
                    await _Turn()
                asking = True
        except StopAsyncIteration:  # of a plain __anext__; Cython knows only awaited ones
            if not asking:
                raise
        return True

    async def _send_later(self, item):
        await self._room()
        if self.is_over:
            raise self._error.with_traceback(None)
        self._put(item)

    async def _room(self):
        """Wait until an item may be sent, behind all who came before."""
        lane = self._lane
        waiter = None
        if self._line is None:
            self._line = deque()
        line = self._line
        try:
            while not self.is_over:
                first = not line or line[0] is waiter
                if first and self._credit > 0 and not lane.paused:
                    return
                fresh = lane.share.create_future()
                if waiter is None:
                    line.append(fresh)
                else:
                    line[line.index(waiter)] = fresh
                waiter = fresh
                if lane.paused:
                    lane.owner.hold(self)
                await waiter
        finally:
            if waiter is not None and waiter in line:
                line.remove(waiter)
                self.wake()


# Slots that Cython has no word for. The types are ready and nobody has used them yet.
(<PyTypeObject*>_Step).tp_as_async.am_send = <void*>_read_on
(<PyTypeObject*>_Turn).tp_as_async.am_send = <void*>_turn_over
