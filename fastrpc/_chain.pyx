# cython: language_level=3
"""Send and answer calls through interceptors: the compiled half of `_chain_py.py`.

`_chain_py.py` is the same in plain Python and says why things are as they are; here
stand only the reasons that are C's own: what is awaited answers by `am_send`, so
that no coroutine of ours stands around those of the user.

Rules of the room:
  * a change here without the same change in `_chain_py.py` does not merge.
"""

cimport cython
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from libc.stdint cimport uint64_t

from fastrpc._caller cimport seconds_in, shorter
from fastrpc._lane cimport Lane

import asyncio
from asyncio.tasks import _enter_task, _leave_task

from fastrpc._lane import drive
from fastrpc.errors import DeadlineExceeded, Internal

cdef extern from "Python.h":
    int PYGEN_RETURN
    int PYGEN_NEXT
    int PyIter_Send(object iter, object arg, PyObject** result) except? -1
    object PyContext_CopyCurrent()
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1
    bint PyCoro_CheckExact(object thing)
    ctypedef struct PyAsyncMethods:
        void* am_send
    ctypedef struct PyTypeObject:
        PyAsyncMethods* tp_as_async

__all__ = [
    "AtOnce", "CallFields", "ChainCaller", "Done", "Pending", "ReplyFields", "Sender", "Sent", "Through", "advance", "begin", "checked", "innermost",
]  # fmt: skip

cdef enum:
    FLAG_ONEWAY = 0x40

_running_loop = asyncio.get_running_loop


def constants():
    """Return the C copies of the numbers in `wire`, by name."""
    return {"FLAG_ONEWAY": FLAG_ONEWAY}


cdef class CallFields:
    """What `call.Call` keeps; see there for what it means."""

    cdef public object method, args, kwargs, packed_metadata, source, items, reply_metadata
    cdef public object sender, passed
    cdef public double deadline
    cdef public bint is_called, is_oneway
    cdef public object number

    def __init__(
        self, method, args, kwargs, metadata=b"", deadline=0.0, source=None, number=0,
        is_oneway=False, items=None,
    ):
        self.method = method
        self.args = args
        self.kwargs = kwargs
        self.packed_metadata = metadata
        self.deadline = deadline
        self.source = source
        self.number = number
        self.is_oneway = is_oneway
        self.items = items
        self.reply_metadata = ()


cdef class ReplyFields:
    """What `call.Reply` keeps; see there for what it means."""

    cdef public object value, packed_metadata, items

    def __init__(self, value=None, metadata=b"", items=None):
        self.value = value
        self.packed_metadata = metadata
        self.items = items


cdef ReplyFields _reply(type make, object value, object metadata):
    # Not by a call: arguments would be parsed for each of millions.
    cdef ReplyFields reply = ReplyFields.__new__(make)
    reply.value = value
    reply.packed_metadata = metadata
    return reply


@cython.final
@cython.freelist(64)
cdef class Done:
    """Awaited, it gives *value* at once."""

    cdef readonly object value

    def __init__(self, value):
        self.value = value

    def __await__(self):
        """Return the value."""
        return _Step.__new__(_Step, self)


def advance(coroutine):
    """Let *coroutine* take a step; return whether it has ended, and what came of it.

    That is its result, or what it waits for.
    """
    cdef PyObject* result = NULL
    cdef int how = PyIter_Send(coroutine, None, &result)
    value = <object>result
    Py_DECREF(value)
    return how == PYGEN_RETURN, value


def innermost(CallFields call not None):
    """Be the innermost handler of every chain: what the call itself brings along.

    Raises:
        Internal: It brings nothing.
        TypeError: It is no call.
    """
    if call.sender is None:
        raise Internal("an interceptor made a call of its own; change the one it is given")
    return call.sender(call)


def checked(reply, str name not None):
    """Return what interceptors gave for a call of *name*, which must be a reply.

    Raises:
        Internal: It is something else.
    """
    return _checked(reply, name)


cdef ReplyFields _checked(object reply, str name):
    if isinstance(reply, ReplyFields):
        return <ReplyFields>reply
    raise Internal(f"an interceptor of {name} gave {type(reply).__name__} for a Reply", method=name)


def begin(CallFields call not None, inherited, clock):
    """Note that the handler of *call* is called now, with the deadline that it has by now.

    Args:
        call: An interceptor may have changed its deadline.
        inherited: Context variable that the deadline goes to, for the handler's own calls.
        clock: Returns seconds, monotonic.

    Raises:
        DeadlineExceeded: It has passed.
    """
    _begin(call, inherited, clock)


cdef int _begin(CallFields call, object inherited, object clock) except -1:
    if call.deadline and call.deadline <= <double>clock():
        text = f"{call.method}: the deadline passed before the handler was called"
        error = DeadlineExceeded(text, ran="no", method=call.method)
        error.call_id = getattr(call, "id", "")
        raise error
    if call.deadline != seconds_in(inherited):
        inherited.set(call.deadline)
    call.is_called = True
    return 0


@cython.final
cdef class AtOnce:
    """The innermost handler of a method that does not wait.

    Args:
        handler: The user's callable.
        is_coroutine: Whether it gives a coroutine, one that never waits.
        make: Class of replies.
        inherited: Context variable that the call's deadline goes to: an interceptor may
            have changed it.
        clock: Returns seconds, monotonic.
    """

    cdef object _handler, _inherited, _clock
    cdef type _make
    cdef bint _is_coroutine

    def __init__(self, handler, is_coroutine, type make not None, inherited, clock):
        self._handler = handler
        self._is_coroutine = is_coroutine
        self._make = make
        self._inherited = inherited
        self._clock = clock

    def __call__(self, CallFields call not None):
        """Run the handler and return what gives its reply."""
        cdef Done done
        _begin(call, self._inherited, self._clock)
        if type(call.kwargs) is dict and not call.kwargs:
            value = self._handler(*call.args)
        else:
            value = self._handler(*call.args, **call.kwargs)
        if self._is_coroutine:
            value = drive(value)
        done = Done.__new__(Done)
        done.value = _reply(self._make, value, call.reply_metadata)
        return done


@cython.final
cdef class Through:
    """Run calls of one method through the interceptors as far as they go without waiting.

    A step runs in a context of its own, in the name of a task that has nothing to do.

    Args:
        name: Full method name.
        chain: The outermost handler.
        sender: The innermost, see `AtOnce`.
        make: Class of calls.
        steps: Has the idle task, `task()`, and takes over what waits, `keep(...)`; see
            `FirstSteps`.
        running: Handlers of all connections that have not ended.
        most: Most of them.
        most_here: Most of one connection.
        limit: `limit(time)` returns the deadline of a call with that much time, in ms.
        has_limit: Whether there is a deadline even for calls that say none.
        inherited: Context variable that the deadline goes to.
    """

    cdef object _chain, _sender, _steps, _running, _limit, _inherited, _loop
    cdef str _name
    cdef type _make
    cdef Py_ssize_t _most, _most_here
    cdef bint _has_limit

    def __init__(
        self, str name not None, chain, sender, type make not None, steps, running, most,
        most_here, limit, has_limit, inherited,
    ):
        self._name = name
        self._chain = chain
        self._sender = sender
        self._make = make
        self._steps = steps
        self._running = running
        self._most = most
        self._most_here = most_here
        self._limit = limit
        self._has_limit = has_limit
        self._inherited = inherited
        self._loop = steps.loop

    def __call__(self, owner, flags, id, time, bytes metadata not None, args):
        """Run a call; return True and its reply, or False and what is left of it.

        Nothing is left where it has not begun: False and None, it may not run now.
        An exception is left where it was raised before the handler was called.

        Args:
            owner: The lane's.
            flags: Of the call's header.
            id: Its message id.
            time: Milliseconds left, 0 for no deadline.
            metadata: What came beside the arguments, packed.
            args: Positional arguments.
        """
        cdef CallFields call = CallFields.__new__(self._make)
        cdef double deadline = 0.0
        cdef PyObject* result = NULL
        cdef int how = 0
        if len(self._running) >= self._most or len(owner.running) >= self._most_here:
            return False, None
        task = self._steps.task()
        if time or self._has_limit:
            deadline = self._limit(time)
        try:
            _enter_task(self._loop, task)
        except RuntimeError:
            return False, None
        try:
            context = PyContext_CopyCurrent()
            PyContext_Enter(context)
            try:
                if deadline or seconds_in(self._inherited):
                    self._inherited.set(deadline)
                call.method = self._name
                call.args = args
                call.kwargs = {}
                call.packed_metadata = metadata
                call.deadline = deadline
                call.source = owner
                call.number = id
                call.is_oneway = flags & FLAG_ONEWAY
                call.reply_metadata = ()
                call.sender = self._sender
                coroutine = _coroutine_of(self._chain(call))
                how = PyIter_Send(coroutine, None, &result)
                value = <object>result
                Py_DECREF(value)
                if how == PYGEN_RETURN:
                    return True, _checked(value, self._name)
            finally:
                PyContext_Exit(context)
        except BaseException as exc:
            if call.is_called:
                raise
            return False, exc
        finally:
            _leave_task(self._loop, task)
        return False, self._steps.keep(coroutine, value, context, call)


cdef object _coroutine_of(object awaitable):
    # An interceptor may leave its handler as it is, or call it from a plain function.
    return awaitable if PyCoro_CheckExact(awaitable) else _awaited(awaitable)


async def _awaited(awaitable):
    return await awaitable


@cython.final
@cython.freelist(256)
cdef class Sent:
    """A call that has left: the call table has it in a future's place, and it can be awaited.

    Args:
        future: Wakes who awaits.
        make: Class of replies.

    Attributes:
        trailers: Packed metadata that came with the reply.
    """

    cdef object _future, _value, _error
    cdef type _make
    cdef public bytes trailers

    def __init__(self, future, type make not None):
        self._future = future
        self._make = make
        self.trailers = b""

    def done(self):
        """Return whether there is an outcome, or nobody waits for it any more."""
        return bool(self._future.done())

    def set_result(self, value):
        """End with a value."""
        self._future.set_result(None)
        self._value = value

    def set_exception(self, error):
        """End with an error."""
        self._future.set_result(None)
        self._error = error

    def __await__(self):
        """Wait for the outcome; give the reply, or raise the error."""
        return _Step.__new__(_Step, self)

    cdef int _send(self, object sent, PyObject** result) except -1:
        if not self._future.done():
            self._future._asyncio_future_blocking = True
            Py_INCREF(self._future)
            result[0] = <PyObject*>self._future
            return PYGEN_NEXT
        self._future.result()  # raises if it was cancelled
        if self._error is not None:
            raise self._error
        reply = _reply(self._make, self._value, self.trailers)
        Py_INCREF(reply)
        result[0] = <PyObject*>reply
        return PYGEN_RETURN


@cython.final
@cython.freelist(256)
cdef class _Step:
    """What `await` iterates over; the object it is made for says what happens."""

    cdef object _owner

    def __cinit__(self, owner):
        self._owner = owner

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        cdef PyObject* result = NULL
        cdef int how = _step_on(<PyObject*>self, <PyObject*>None, &result)
        value = <object>result
        Py_DECREF(value)
        if how == PYGEN_NEXT:
            return value
        raise StopIteration(value)

    def send(self, value):
        """Go on; what is sent goes to the chain."""
        cdef PyObject* result = NULL
        cdef int how = _step_on(<PyObject*>self, <PyObject*>value, &result)
        found = <object>result
        Py_DECREF(found)
        if how == PYGEN_NEXT:
            return found
        raise StopIteration(found)

    def throw(self, kind, value=None, trace=None):
        """Raise an error where the chain waits."""
        if type(self._owner) is _Chain:
            return (<_Chain>self._owner)._throw(kind, value, trace)
        raise kind if value is None else value

    def close(self):
        """Give up the chain."""
        if type(self._owner) is _Chain:
            (<_Chain>self._owner).coroutine.close()


cdef int _step_on(PyObject* given, PyObject* sent, PyObject** result) except -1:
    """Be `am_send` of a step, see PyIter_Send."""
    owner = (<_Step>given)._owner
    if type(owner) is Sent:
        return (<Sent>owner)._send(<object>sent, result)
    if type(owner) is Done:
        value = (<Done>owner).value
        Py_INCREF(value)
        result[0] = <PyObject*>value
        return PYGEN_RETURN
    return (<_Chain>owner)._send(<object>sent, result)


@cython.final
@cython.freelist(256)
cdef class _Chain:
    """A chain that is awaited: gives the value of its reply."""

    cdef object coroutine
    cdef str name

    cdef int _send(self, object sent, PyObject** result) except -1:
        cdef PyObject* found = NULL
        cdef int how = PyIter_Send(self.coroutine, sent, &found)
        if how == PYGEN_NEXT:
            result[0] = found
            return how
        reply = <object>found
        Py_DECREF(reply)
        value = _checked(reply, self.name).value
        Py_INCREF(value)
        result[0] = <PyObject*>value
        return PYGEN_RETURN

    cdef object _throw(self, object kind, object value, object trace):
        try:
            if value is None and trace is None:  # Python warns of more
                return self.coroutine.throw(kind)
            return self.coroutine.throw(kind, value, trace)
        except StopIteration as stop:
            reply = stop.value
        raise StopIteration(_checked(reply, self.name).value)


@cython.final
cdef class Sender:
    """The innermost handler of a calling side: puts a call into a lane.

    Args:
        lanes: The lanes that may take it; the list is kept by the client.
        slow: `slow(call, decode)` does it for calls that have to wait.
        decode: Decoder of the result, None for the connection's own.
        pack: `pack(call)` returns the metadata of a call as it is sent.
        make: Class of replies.
        clock: Returns seconds, monotonic.
    """

    cdef list _lanes
    cdef object _slow, _decode, _pack, _clock
    cdef type _make
    cdef Py_ssize_t _turn

    def __init__(self, list lanes not None, slow, decode, pack, type make not None, clock):
        self._lanes = lanes
        self._slow = slow
        self._decode = decode
        self._pack = pack
        self._make = make
        self._clock = clock

    def __call__(self, CallFields call not None):
        """Send *call* and return what gives its reply."""
        cdef Py_ssize_t count = len(self._lanes)
        cdef Lane lane
        cdef Sent sent
        cdef double timeout = 0.0
        cdef uint64_t id
        if count:
            self._turn = (self._turn + 1) % count
            lane = self._lanes[self._turn]
            if lane.ready and not lane.crowded and lane.table._used < lane.peer_calls:
                if call.deadline:
                    timeout = call.deadline - <double>self._clock()
                    if timeout <= 0.0:
                        return self._slow(call, self._decode)
                metadata = call.packed_metadata
                if type(metadata) is not bytes:
                    metadata = self._pack(call)
                sent = Sent.__new__(Sent)
                sent._future = lane.share.create_future()
                sent._make = self._make
                sent.trailers = b""
                args = call.args if type(call.args) is tuple else tuple(call.args)
                lane._start(
                    call.method, args, call.kwargs, timeout, metadata, self._decode, sent, 0, &id
                )
                return sent
        return self._slow(call, self._decode)


@cython.final
@cython.freelist(256)
cdef class Pending:
    """A call through interceptors: it runs where it is awaited, or else in a task.

    A task has the context that the call was made in, whoever begins it.

    Args:
        coroutine: The chain, not yet begun; it gives a reply.
        name: Full method name.
    """

    cdef object _begun, _context, _coroutine, _task
    cdef str _name

    def __init__(self, coroutine, str name not None):
        self._coroutine = coroutine
        self._name = name
        self._context = PyContext_CopyCurrent()

    def __await__(self):
        """Run the chain here, or wait for its task; give the reply's value."""
        cdef _Chain chain
        if self._coroutine is not None:
            chain = _Chain.__new__(_Chain)
            chain.coroutine = _coroutine_of(self._coroutine)
            chain.name = self._name
            self._coroutine = self._context = None
            return _Step.__new__(_Step, chain)
        if self._task is None:
            raise RuntimeError("a call with interceptors can be awaited once")
        return self._task.__await__()

    def begin(self):
        """Run in a task, unless somebody has begun to await."""
        if self._coroutine is not None:
            self._begun, context = _coroutine_of(self._coroutine), self._context
            self._coroutine = self._context = None
            waiting = _value_of(self._begun, self._name)
            self._task = _running_loop().create_task(waiting, context=context)
            self._task.add_done_callback(self._close)

    def _close(self, task):
        self._begun.close()
        self._begun = None


async def _value_of(coroutine, name):
    return checked(await coroutine, name).value


@cython.final
cdef class ChainCaller:
    """Start calls through interceptors.

    Args:
        chain: The outermost handler.
        sender: The innermost, for calls by name.
        make: Class of calls.
        timeout: Seconds each call may take, 0 for no deadline.
        metadata: Packed metadata sent with each call.
        inherited: Context variable with the deadline of the call in hand, 0 for none.
        clock: Returns seconds, monotonic.
    """

    cdef object _chain, _metadata, _inherited, _clock
    cdef type _make
    cdef Sender _sender
    cdef double _timeout
    cdef list _fresh

    def __init__(
        self, chain, Sender sender not None, type make not None, timeout, metadata, inherited, clock
    ):
        self._chain = chain
        self._sender = sender
        self._make = make
        self._timeout = timeout
        self._metadata = metadata
        self._inherited = inherited
        self._clock = clock
        self._fresh = []

    def call(self, str method not None, /, *args, **kwargs):
        """Start a call and return its awaitable."""
        return self._start(self._sender, method, args, kwargs)

    def send(self, sender, str method not None, /, *args, **kwargs):
        """Start a call with an innermost handler of its own, such as one of a stub's method."""
        return self._start(sender, method, args, kwargs)

    def make(self, method, args, kwargs, sender):
        """Return a call with this caller's deadline and metadata."""
        return self._made(method, args, kwargs, sender)

    cdef object _made(self, object method, object args, object kwargs, object sender):
        cdef double timeout = shorter(self._timeout, self._inherited, self._clock)
        cdef CallFields call = CallFields.__new__(self._make)
        call.method = method
        call.args = args
        call.kwargs = kwargs
        call.packed_metadata = self._metadata
        call.deadline = <double>self._clock() + timeout if timeout else 0.0
        call.number = 0
        call.reply_metadata = ()
        call.sender = sender
        return call

    cdef object _start(self, object sender, str method, tuple args, object kwargs):
        cdef Pending pending
        if not self._fresh:
            _running_loop().call_soon(self._begin)
        pending = Pending.__new__(Pending)
        pending._coroutine = self._chain(self._made(method, args, kwargs, sender))
        pending._name = method
        pending._context = PyContext_CopyCurrent()
        self._fresh.append(pending)
        return pending

    def _begin(self):
        fresh, self._fresh = self._fresh, []
        for pending in fresh:
            (<Pending>pending).begin()


# A slot that Cython has no word for. The type is ready and nobody has used it yet.
(<PyTypeObject*>_Step).tp_as_async.am_send = <void*>_step_on
