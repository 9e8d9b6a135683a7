# cython: language_level=3
"""Get calls into a lane: from one event loop, or from threads that share a socket.

`_caller_py.py` is the same in plain Python and says why things are as they are;
here stand only the reasons that are C's own: a signal handler runs in what is
called from here, never between two lines, so that a count is noted as it comes.

Rules of the room:
  * a change here without the same change in `_caller_py.py` does not merge.
"""

cimport cython
from cpython.ref cimport Py_DECREF, PyObject
from libc.stdint cimport uint64_t

from fastrpc._lane cimport Lane
from fastrpc.errors import FastRPCError

from threading import Lock

cdef extern from "Python.h":
    int PyContextVar_Get(object var, PyObject* default, PyObject** value) except -1

__all__ = ["BoundCall", "ByteStream", "Caller", "Exchange", "Turns", "Waiter"]

cdef double NAP = 1.0
cdef double LEAST = 1e-6  # of a deadline that has passed: 0 would be none
cdef double FRESH = 0.05


cdef double seconds_in(object var) except? -1.0:
    """Return what `var.get()` does, without a call of Python's."""
    cdef PyObject* found = NULL
    PyContextVar_Get(var, NULL, &found)
    if found == NULL:
        raise LookupError(var)
    value = <object>found
    Py_DECREF(value)
    return value


cdef double shorter(double timeout, object inherited, object clock) except -1.0:
    """Return *timeout*, or what is left of the call in hand if that is less; 0 for none."""
    cdef double deadline, left
    if inherited is None:
        return timeout
    deadline = seconds_in(inherited)
    if deadline == 0.0:
        return timeout
    left = deadline - <double>clock()
    if left < LEAST:
        left = LEAST
    return min(timeout, left) if timeout > 0.0 else left


@cython.final
cdef class Caller:
    """Put plain calls straight into a lane; hand all others up.

    Views of one client share its *lanes*, a list that the client keeps.

    Args:
        lanes: The lanes to use in turn.
        slow: `slow(name, args, kwargs, decode)` returns an awaitable for calls
            that have to wait: no connection, no room, a slow peer.
        timeout: Seconds each call may take, 0 for no deadline.
        metadata: Packed metadata sent with each call.
        inherited: Context variable with the deadline of the call in hand, 0 for none.
    """

    cdef readonly list lanes
    cdef readonly object slow
    cdef readonly double timeout
    cdef readonly bytes metadata
    cdef readonly object inherited
    cdef Py_ssize_t _turn

    def __init__(
        self, list lanes not None, slow, timeout=0.0, bytes metadata not None=b"", inherited=None
    ):
        self.lanes = lanes
        self.slow = slow
        self.timeout = timeout
        self.metadata = metadata
        self.inherited = inherited

    def call(self, method, /, *args, **kwargs):
        """Start a call and return its awaitable."""
        return self._send(method, args, kwargs, None)

    def send(self, method, args, kwargs, decode):
        """Start a call whose result goes through *decode*."""
        return self._send(method, args, kwargs, decode)

    cdef object _send(self, str method, tuple args, object kwargs, object decode):
        cdef Py_ssize_t count = len(self.lanes)
        cdef Lane lane
        if count:
            if count > 1:
                self._turn = (self._turn + 1) % count
            lane = self.lanes[self._turn if self._turn < count else 0]
            if lane.ready and not lane.crowded and lane.table._used < lane.peer_calls:
                return lane._call(
                    method, args, kwargs, shorter(self.timeout, self.inherited, lane.share.clock),
                    self.metadata, decode,
                )
        return self.slow(method, args, kwargs, decode)


@cython.final
cdef class BoundCall:
    """A method of a stub: call it to call the remote one.

    Args:
        caller: Who sends.
        method: Full method name.
        decode: Decoder of the result, None for the connection's own.
    """

    cdef readonly Caller caller
    cdef readonly str method
    cdef readonly object decode

    def __init__(self, Caller caller not None, str method not None, decode=None):
        self.caller = caller
        self.method = method
        self.decode = decode

    def __call__(self, /, *args, **kwargs):
        """Start the call and return its awaitable."""
        return self.caller._send(self.method, args, kwargs, self.decode)


@cython.final
cdef class Waiter:
    """What a thread waits on; the lane sees it as a future.

    Attributes:
        is_done: Whether there is an outcome.
        value: It, if it is no error.
        error: It, if it is one.
        is_plain: Whether it is a value, and nothing is left to be done.
        deadline: Clock's time of its call's deadline, 0 for none.
        has_left: Set by its thread when it waits no more, first of all.
    """

    cdef public bint is_done, is_plain, has_left
    cdef public double deadline
    cdef public object value, error
    cdef object _turn

    def __init__(self):
        pass  # C's zeros are right, but arguments are not

    def done(self):
        """Return whether there is an outcome."""
        return self.is_done

    cpdef set_result(self, value):
        """End with a value, unless it has ended."""
        if not self.is_done:
            self.value = value
            self.is_done = True
            self.wake()

    def set_exception(self, error):
        """End with an error, unless it has ended."""
        if not self.is_done:
            self.error = error
            self.is_done = True
            self.wake()

    def result(self):
        """Return the value or raise the error; RuntimeError if there is none yet."""
        if self.error is not None:
            raise self.error
        if not self.is_done:
            raise RuntimeError("there is no outcome yet")
        return self.value

    cpdef wake(self):
        """Let the thread look again. Needs the owner's lock."""
        if self._turn is not None and self._turn.locked():
            self._turn.release()

    cpdef arm(self):
        """Make ready to sleep; a `wake` from here on is not missed. Needs the owner's lock."""
        if self._turn is None:
            self._turn = Lock()
        self._turn.acquire(False)

    def sleep(self, seconds):
        """Sleep until woken, or until the time is up, or for a nap; tell whether woken."""
        if self._turn is None or self.is_done:
            return True
        return self._turn.acquire(True, NAP if seconds is None else min(max(seconds, 0.0), NAP))


@cython.final
cdef class Turns:
    """A line of threads, one of which leads. Every use needs the owner's lock.

    Whoever comes first leads, and hands on when it leaves; the others sleep until
    what they wait for has come or it is their turn.

    Attributes:
        line: Who waits, some of whom may have left; may be looked at without a lock.
    """

    cdef Waiter _leader
    cdef readonly dict line

    def __init__(self):
        self._leader = None
        self.line = {}

    cdef Waiter _leads(self):
        if self._leader is not None and self._leader.has_left:
            self._leader = None
        return self._leader

    @property
    def leader(self):
        """Who leads, if anybody does."""
        return self._leads()

    cpdef bint lead(self, Waiter waiter, bint in_order=False) except -1:
        """Make *waiter* the leader, if there is none.

        Args:
            waiter: Who wants to.
            in_order: Only if nobody came before it.
        """
        if self._leads() is None:
            if in_order and self._first() not in (None, waiter):
                return False
            self._leader = waiter
            if self.line:
                self.line.pop(waiter, None)
        return self._leader is waiter

    def follow(self, Waiter waiter not None):
        """Let *waiter* sleep until it has an outcome or may lead."""
        if not waiter.is_done:
            waiter.arm()
            self.line.setdefault(waiter)

    cpdef leave(self, Waiter waiter):
        """Take *waiter* out, and wake the next if nobody leads."""
        cdef Waiter following
        if self._leader is waiter:
            self._leader = None
        if self.line:
            self.line.pop(waiter, None)
            if self._leads() is None:
                following = self._first()
                if following is not None:
                    following.wake()

    def wake_all(self):
        """Let all look again."""
        for waiter in self.line:
            waiter.wake()

    cdef Waiter _first(self):
        """Return who is next; those that left without a word are forgotten."""
        cdef Waiter waiter
        while self.line:
            waiter = next(iter(self.line))
            if not waiter.has_left:
                return waiter
            del self.line[waiter]
        return None


@cython.final
cdef class ByteStream:
    """Bytes out of and into one socket that threads share.

    Args:
        lock: Lock of the owner.
        send: `send(data, flags)` sends what goes at once and returns how much that was.
        flags: For *send*.
        recv_into: Waits for bytes, puts them into a buffer, returns how many.
        readable: `readable(seconds)` waits for bytes and returns whether there are any.
        clock: Returns seconds, monotonic.
        get_buffer: Returns the memory that the next bytes should go to.
        deliver: Takes so many bytes that were put there; called under the lock.
        broken: Told why the stream can't go on; called under the lock.

    Attributes:
        unsent: What is still to be sent; may be looked at without a lock.
        sent: Bytes sent so far.
        is_over: Set by the owner when the stream has ended.
        turns: Who reads, and who waits to.
    """

    cdef readonly object lock
    cdef readonly list unsent
    cdef readonly Turns turns
    cdef readonly uint64_t sent
    cdef public bint is_over
    cdef object _acquire, _release, _send, _flags, _recv_into, _readable, _clock
    cdef object _get_buffer, _deliver, _broken
    cdef Py_ssize_t _arrived  # a read that the owner has not taken yet, or -1

    def __init__(
        self, lock, send, flags, recv_into, readable, clock, get_buffer, deliver, broken
    ):
        self.lock = lock
        self._acquire = lock.acquire
        self._release = lock.release
        self._send = send
        self._flags = flags
        self._recv_into = recv_into
        self._readable = readable
        self._clock = clock
        self._get_buffer = get_buffer
        self._deliver = deliver
        self._broken = broken
        self._arrived = -1
        self.unsent = []
        self.sent = 0
        self.is_over = False
        self.turns = Turns()

    cpdef write(self):
        """Send as much of `unsent` as goes at once. Needs the lock."""
        cdef list unsent = self.unsent
        cdef Py_ssize_t count
        why = "interrupted while sending"
        try:
            while unsent and not self.is_over:
                data = unsent[0] if len(unsent) == 1 else b"".join(unsent)
                unsent.clear()
                try:
                    count = self._send(data, self._flags)
                except BlockingIOError as exc:
                    if exc.errno is None:
                        raise
                    count = 0
                self.sent += count
                if count < len(data):
                    unsent.append(memoryview(data)[count:])
                    if not count:
                        break
            why = ""
        except OSError as exc:
            if exc.errno is None:
                raise
            why = str(exc)
        finally:
            if why:
                self._broken(why)

    cpdef flush(self):
        """Do the same, if there is anything, without the lock."""
        if self.unsent:
            self._acquire()
            try:
                self.write()
            finally:
                self._release()

    cpdef fail(self, why):
        """Tell the owner that the stream can't go on."""
        self._acquire()
        try:
            self._broken(why)
        finally:
            self._release()

    cpdef bint read(self, double deadline, Waiter reader=None) except -1:
        """Wait for bytes and hand them over; False if none came in time, or never will.

        Only for who leads, or before there are others.

        Args:
            deadline: Clock's time to give up, 0 for never.
            reader: Who leads; it leaves at once if it is done then.
        """
        if deadline and not self._readable(max(deadline - <double>self._clock(), 0.0)):
            return False
        if self._arrived >= 0:
            self.fail("interrupted while reading")
            return False
        try:
            self._arrived = self._recv_into(self._get_buffer(-1))
        except OSError as exc:
            if exc.errno is None:
                raise
            self.fail(str(exc))
            return False
        if self._arrived == 0:
            self.fail("the connection was closed by the peer")
            return False
        self._hand_over(reader)
        self.flush()
        return not self.is_over

    cdef int _hand_over(self, Waiter reader) except -1:
        try:
            self._acquire()
            try:
                self._deliver(self._arrived)
                self._arrived = -1
                if reader is not None and reader.is_done:
                    reader.has_left = True
                    self.turns.leave(reader)
            finally:
                self._release()
        finally:
            if self._arrived >= 0:
                self.fail("interrupted while reading")
        return 0


@cython.final
cdef class Exchange:
    """Send a call and read until its reply has come: the threads' fast way.

    Args:
        stream: Bytes of the connection.
        lane: The connection's lane; it writes to *stream* and makes waiters of `Waiter`.
        line: Threads that wait for the server to take another call.
        clock: Returns seconds, monotonic.
        given_up: Called when a signal handler has ended a wait: `Lane.sweep` is due, and
            a stream that has ended has no reader any more.

    Attributes:
        fresh_until: Clock's time until which the connection is taken for alive.
    """

    cdef ByteStream _stream
    cdef Lane _lane
    cdef Turns _line
    cdef object _clock, _given_up
    cdef public double fresh_until

    def __init__(
        self, ByteStream stream not None, Lane lane not None, Turns line not None, clock, given_up
    ):
        self._stream = stream
        self._lane = lane
        self._line = line
        self._clock = clock
        self._given_up = given_up
        self.fresh_until = 0.0

    def call(
        self, name, tuple args not None, kwargs, double timeout, bytes metadata not None, decode
    ):
        """Send a call, and wait for its outcome if no other thread reads.

        Returns its waiter, done or not: one that is not has been put into the lane, and
        is to be waited for together with the other threads. None if the call may not be
        sent now: the connection is to be looked at, takes none, or others come first.

        Args:
            name: As the next ones: see `Lane.call`.
            args: Positional arguments.
            kwargs: Arguments by name.
            timeout: Seconds until the deadline, 0 for none.
            metadata: Packed metadata.
            decode: Decoder of the result.

        Raises:
            CodecError: As `Lane.call` does; nothing was sent.
            TooLarge: Likewise.
        """
        cdef ByteStream stream = self._stream
        cdef Lane lane = self._lane
        cdef Turns turns = stream.turns
        cdef Waiter waiter
        cdef bint is_whole = False
        cdef double now = self._clock()
        if now >= self.fresh_until:
            return None
        stream._acquire()
        try:
            if not lane.ready or self._line.line or lane.table._used >= lane.peer_calls:
                return None
            waiter = self._enter(name, args, kwargs, timeout, metadata, decode)
            if timeout:
                waiter.deadline = now + timeout
            if stream.unsent:
                stream.write()
            if stream.unsent or stream.is_over or turns._leads() is not None:
                return waiter
            turns.lead(waiter)
        finally:
            stream._release()
        try:
            while not waiter.is_done and stream.read(waiter.deadline, waiter):
                pass
            is_whole = True
        finally:
            if not is_whole:
                waiter.is_done = True
            if not waiter.has_left:
                waiter.has_left = True
                stream._acquire()
                try:
                    turns.leave(waiter)
                finally:
                    stream._release()
            if not is_whole:
                self._given_up()
        if waiter.is_done and waiter.error is None:
            self.fresh_until = now + FRESH
            waiter.is_plain = not self._line.line and lane.ready
        return waiter

    cpdef refresh(self):
        """Take the connection for alive for a while."""
        self.fresh_until = <double>self._clock() + FRESH

    def enter(
        self, name, tuple args not None, kwargs, double timeout, bytes metadata not None, decode
    ):
        """Put a call into the lane and its bytes into the stream. Needs the lock."""
        return self._enter(name, args, kwargs, timeout, metadata, decode)

    cdef Waiter _enter(
        self, str name, tuple args, object kwargs, double timeout, bytes metadata, object decode
    ):
        cdef Waiter waiter
        cdef bint is_whole = False
        try:
            waiter = self._lane._call(name, args, kwargs, timeout, metadata, decode)
            self._lane.flush()
            is_whole = True
        except (FastRPCError, TypeError):
            is_whole = True
            raise
        finally:
            if not is_whole:
                self._stream._broken("interrupted while sending")
        return waiter
