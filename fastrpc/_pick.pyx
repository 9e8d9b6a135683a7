# cython: language_level=3
"""Choose the instance that a call goes to, send it there, and learn from how it went.

`_pick_py.py` is the same in plain Python and says why things are as they are.

Rules of the room:
  * a change here without the same change in `_pick_py.py` does not merge.
"""

cimport cython
from libc.math cimport INFINITY, exp
from libc.stdint cimport uint64_t

from fastrpc._caller cimport shorter
from fastrpc._lane cimport Lane

__all__ = ["ClusterCall", "ClusterCaller", "MemberFields", "Picked", "TwoChoices"]

cdef double UNKNOWN = 1e4
cdef double NOISE = 1e-3
cdef uint64_t SCRAMBLE = 0x2545F4914F6CDD1DULL
cdef uint64_t SPREAD = 0x9E3779B97F4A7C15ULL


cdef class MemberFields:
    """What `cluster.Member` keeps about the calls to one instance.

    Attributes:
        lanes: The lanes to it; its links keep the list.
        weight: Its share of the calls beside others, above 0.
        latency: Moving average, in seconds; 0 as long as nothing is known.
        seen: When the average last changed, 0 for never.
        answered: When a reply came last, 0 for never.
        cap: Most calls in flight there, 0 for what its connections take.
        calls: How many calls have ended, well or not.
        errors: How many of them count against it.
        streak: How many of these came without a good one between.
    """

    cdef public list lanes
    cdef public double decay, weight, latency, seen, answered
    cdef public uint64_t calls, errors, streak
    cdef public Py_ssize_t cap
    cdef Py_ssize_t _turn

    def __init__(self, list lanes not None, double decay, double weight=1.0):
        self.lanes = lanes
        self.decay = decay
        self.weight = weight

    @property
    def in_flight(self):
        """Calls that were sent to it and have not ended."""
        return self._waiting()

    cdef Py_ssize_t _waiting(self) except -1:
        cdef Lane lane
        cdef Py_ssize_t found = 0
        for lane in self.lanes:
            found += lane.table._used
        return found

    def takes(self):
        """Return whether it takes a call now."""
        return self._takes()

    cdef bint _takes(self) except -1:
        cdef Lane lane
        if self.cap and self._waiting() >= self.cap:
            return False
        for lane in self.lanes:
            if lane.ready and not lane.crowded and lane.table._used < lane.peer_calls:
                return True
        return False

    def lane(self):
        """Return a lane that takes a call now; those that do take turns."""
        return self._lane()

    cdef Lane _lane(self):
        cdef Py_ssize_t count = len(self.lanes)
        cdef Lane lane
        if self.cap and self._waiting() >= self.cap:
            return None
        for _ in range(count):
            self._turn = self._turn + 1 if self._turn + 1 < count else 0
            lane = self.lanes[self._turn]
            if lane.ready and not lane.crowded and lane.table._used < lane.peer_calls:
                return lane
        return None

    def cost(self, double now):
        """Return what a call to it costs beside others at *now*; infinity if it takes none."""
        return self._cost(now)

    cdef double _cost(self, double now) except -1.0:
        cdef Py_ssize_t waiting = 0, used
        cdef bint is_ready = False
        cdef double latency = self.latency
        cdef Lane lane
        for lane in self.lanes:
            used = lane.table._used
            waiting += used
            is_ready = is_ready or (lane.ready and not lane.crowded and used < lane.peer_calls)
        if not is_ready or (self.cap and waiting >= self.cap):
            return INFINITY
        if self.seen == 0.0:
            return (UNKNOWN + waiting) / self.weight if waiting else 0.0
        if now > self.seen:
            latency *= exp((self.seen - now) / self.decay)
        return max(latency, NOISE) * (waiting + 1) / self.weight

    def note(self, double seconds, double now):
        """Note a call that ended well.

        Args:
            seconds: How long it took.
            now: When it ended.
        """
        self._note(seconds, now)

    def blame(self, double seconds, double now):
        """Note a call whose end counts against the member; arguments as `note` has them."""
        self._blame(seconds, now)

    def given_up(self, double started, double now):
        """Note a call whose caller did not wait for its end.

        It counts against the member if that has answered nobody since the call was sent:
        else a server that hangs would look idle to callers that are impatient.

        Args:
            started: When it was sent.
            now: When it was given up.
        """
        self._given_up(started, now)

    def observe(self, double seconds, double now):
        """Let the average know a latency; arguments as `note` has them."""
        self._observe(seconds, now)

    # Not cpdef: a class of Python's under this one would be looked through at each call.

    cdef void _note(self, double seconds, double now) noexcept:
        self.calls += 1
        self.streak = 0
        self.answered = now
        self._observe(seconds, now)

    cdef void _blame(self, double seconds, double now) noexcept:
        self.calls += 1
        self.errors += 1
        self.streak += 1
        self._observe(seconds, now)

    cdef void _given_up(self, double started, double now) noexcept:
        if self.answered < started:
            self._blame(now - started, now)
        else:
            self._observe(now - started, now)

    cdef void _observe(self, double seconds, double now) noexcept:
        cdef double kept
        if seconds > self.latency or self.seen == 0.0:
            self.latency = seconds
        elif now > self.seen:
            kept = exp((self.seen - now) / self.decay)
            self.latency = self.latency * kept + seconds * (1.0 - kept)
        self.seen = now


@cython.final
cdef class TwoChoices:
    """Two members by chance, and the one that costs less.

    Args:
        seed: Of its chance; 0 is as good as any.

    Attributes:
        members: Those to choose from.
    """

    cdef readonly list members
    cdef uint64_t _state

    def __init__(self, seed=0):
        self.members = []
        self._state = (<uint64_t>(seed & 0xFFFFFFFFFFFFFFFF)) * SCRAMBLE ^ SPREAD
        if not self._state:
            self._state = SPREAD

    def update(self, members, double now):
        """Choose from *members* from now on."""
        self.members = list(members)

    def pick(self, key, double now, avoid=()):
        """Return a member that takes a call now, None if there is none.

        Args:
            key: Is not looked at.
            now: Time of the clock.
            avoid: Members that are taken only if all others take none.
        """
        return self._pick(now, avoid)

    cdef MemberFields _pick(self, double now, avoid):
        cdef Py_ssize_t count = len(self.members)
        cdef Py_ssize_t first, second
        cdef uint64_t word
        cdef MemberFields one, other
        cdef double mine, its
        if not count:
            return None
        word = self._chance()
        first = <Py_ssize_t>((word & 0xFFFFFFFF) * <uint64_t>count >> 32)
        if count > 1:
            second = <Py_ssize_t>((word >> 32) * <uint64_t>(count - 1) >> 32)
            second += second >= first
            if not avoid:
                one, other = self.members[first], self.members[second]
                mine, its = one._cost(now), other._cost(now)
                if its < mine:
                    return other
                if mine < INFINITY:
                    return one
        return self._any(first, avoid)

    cdef uint64_t _chance(self) noexcept:
        cdef uint64_t x = self._state
        x ^= x >> 12
        x ^= x << 25
        x ^= x >> 27
        self._state = x
        return x * SCRAMBLE

    cdef MemberFields _any(self, Py_ssize_t first, avoid):
        cdef MemberFields member, spare = None
        for member in self.members[first:] + self.members[:first]:
            if member._takes():
                if member not in avoid:
                    return member
                spare = spare or member
        return spare


@cython.final
@cython.freelist(256)
cdef class Picked:
    """A call that has left for a member: the call table has it in a future's place.

    It keeps what is needed to send the call once more.

    Attributes:
        caller: Who sent it.
        member: Where to.
        method: Full method name.
        args: Positional arguments.
        kwargs: Arguments by name, or None.
        decode: Decoder of the result, None for the connection's own.
        deadline: Of the call, on the caller's clock, 0 for none.
        future: What the user waits for.
        started: When it was sent.
    """

    cdef readonly ClusterCaller caller
    cdef readonly MemberFields member
    cdef readonly str method
    cdef readonly tuple args
    cdef readonly object kwargs, decode, future
    cdef readonly double deadline, started
    cdef bint _is_noted

    def __init__(
        self, ClusterCaller caller not None, MemberFields member not None, str method not None,
        tuple args not None, kwargs, decode, double deadline, future, double started,
    ):
        self.caller = caller
        self.member = member
        self.method = method
        self.args = args
        self.kwargs = kwargs
        self.decode = decode
        self.deadline = deadline
        self.future = future
        self.started = started

    def done(self):
        """Return whether there is an outcome, or nobody waits for it any more."""
        if not self.future.done():
            return False
        if not self._is_noted:
            self._is_noted = True
            self.member._given_up(self.started, self.caller.clock())
        return True

    def set_result(self, value):
        """End with a value."""
        cdef double now = self.caller.clock()
        self._is_noted = True
        self.member._note(now - self.started, now)
        self.future.set_result(value)

    def set_exception(self, error):
        """End with an error, unless somebody takes it from here."""
        self._is_noted = True
        if not self.caller.failed(self, error):
            self.future.set_exception(error)


@cython.final
cdef class ClusterCaller:
    """Put plain calls into a lane of the member that the balancer picks; hand all others up.

    Args:
        balancer: Has `pick(key, now)`.
        slow: `slow(name, args, kwargs, decode)` returns an awaitable for calls that
            nobody takes now.
        failed: `failed(picked, error)` is told of every call that ended in an error, and
            says whether it sees to the end of it.
        key: What the balancer is given, None for nothing.
        key_of: `key_of(name, args, kwargs)` returns it, in the place of *key*; None
            if there is one key for all.
        timeout: Seconds each call may take, 0 for no deadline.
        metadata: Packed metadata sent with each call.
        inherited: Context variable with the deadline of the call in hand, 0 for none.
        clock: Returns seconds, monotonic.
    """

    cdef readonly object balancer, slow, failed, key, key_of, inherited, clock
    cdef readonly double timeout
    cdef readonly bytes metadata
    cdef TwoChoices _two  # the balancer, if it is one of them

    def __init__(
        self, balancer, slow, failed, key, key_of, double timeout, bytes metadata not None,
        inherited, clock,
    ):
        self.balancer = balancer
        self.slow = slow
        self.failed = failed
        self.key = key
        self.key_of = key_of
        self.timeout = timeout
        self.metadata = metadata
        self.inherited = inherited
        self.clock = clock
        self._two = balancer if isinstance(balancer, TwoChoices) else None

    def call(self, method, /, *args, **kwargs):
        """Start a call and return its awaitable."""
        return self._send(method, args, kwargs, None)

    def send(self, method, args, kwargs, decode):
        """Start a call whose result goes through *decode*."""
        return self._send(method, args, kwargs, decode)

    cdef object _send(self, str method, tuple args, object kwargs, object decode):
        cdef double now = self.clock()
        cdef double timeout
        cdef MemberFields member
        cdef Lane lane = None
        cdef Picked picked
        cdef uint64_t id
        if self._two is not None:
            member = self._two._pick(now, ())
        else:
            key = self.key if self.key_of is None else self.key_of(method, args, kwargs)
            member = self.balancer.pick(key, now)
        if member is not None:
            lane = member._lane()
        if lane is None:
            return self.slow(method, args, kwargs, decode)
        timeout = shorter(self.timeout, self.inherited, self.clock)
        picked = Picked.__new__(Picked)
        picked.caller = self
        picked.member = member
        picked.method = method
        picked.args = args
        picked.kwargs = kwargs
        picked.decode = decode
        picked.deadline = now + timeout if timeout > 0.0 else 0.0
        picked.future = lane.share.create_future()
        picked.started = now
        lane._start(method, args, kwargs, timeout, self.metadata, decode, picked, 0, &id)
        return picked.future


@cython.final
cdef class ClusterCall:
    """A method of a stub: call it to call a remote one.

    Args:
        caller: Who sends.
        method: Full method name.
        decode: Decoder of the result, None for the connection's own.
    """

    cdef readonly ClusterCaller caller
    cdef readonly str method
    cdef readonly object decode

    def __init__(self, ClusterCaller caller not None, str method not None, decode=None):
        self.caller = caller
        self.method = method
        self.decode = decode

    def __call__(self, /, *args, **kwargs):
        """Start the call and return its awaitable."""
        return self.caller._send(self.method, args, kwargs, self.decode)
