# cython: language_level=3
"""Choose the instance that a call goes to, send it there, and learn from how it went.

`_pick_py.py` is the same in plain Python and says why things are as they are.

Rules of the room:
  * a change here without the same change in `_pick_py.py` does not merge.
"""

cimport cython
from cpython.array cimport array
from cpython.bytearray cimport PyByteArray_AS_STRING
from libc.math cimport INFINITY, ceil, exp, floor, trunc
from libc.stdint cimport uint64_t

from fastrpc._caller cimport shorter
from fastrpc._lane cimport Lane

__all__ = [
    "Bounded",
    "ClusterCall",
    "ClusterCaller",
    "InFlight",
    "Line",
    "MemberFields",
    "Picked",
    "Rota",
    "TwoChoices",
    "scattered",
]

cdef double UNKNOWN = 1e4
cdef double NOISE = 1e-3
cdef double ROUNDED = 1e-9
cdef double RAREST = 1099511627776.0
cdef Py_ssize_t NEAR = 8
cdef Py_ssize_t SECTORS = 128
cdef int WITHIN = 57
cdef uint64_t INSIDE = (1ULL << 57) - 1
cdef uint64_t SCRAMBLE = 0x2545F4914F6CDD1DULL
cdef uint64_t SPREAD = 0x9E3779B97F4A7C15ULL
cdef uint64_t STIR = 0xD6E8FEB86659FD93ULL


cdef struct Due:
    double first
    uint64_t second  # decides between equals
    Py_ssize_t place


cdef struct Share:
    double gap, debt
    uint64_t count


cdef inline bint before(Due* one, Due* other) noexcept:
    return one.first < other.first or (one.first == other.first and one.second < other.second)


cdef void rise(Due* heap, Py_ssize_t at) noexcept:
    """Let an entry go up to where it belongs."""
    cdef Due entry = heap[at]
    cdef Py_ssize_t above
    while at > 0:
        above = (at - 1) >> 1
        if not before(&entry, &heap[above]):
            break
        heap[at] = heap[above]
        at = above
    heap[at] = entry


cdef void sink(Due* heap, Py_ssize_t used) noexcept:
    """Let the first entry go down to where it belongs."""
    cdef Due entry = heap[0]
    cdef Py_ssize_t at = 0, below = 1
    while below < used:
        if below + 1 < used and before(&heap[below + 1], &heap[below]):
            below += 1
        if not before(&heap[below], &entry):
            break
        heap[at] = heap[below]
        at, below = below, 2 * below + 1
    heap[at] = entry


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

    cdef Py_ssize_t _room(self) except -2:
        cdef Py_ssize_t waiting = 0, used
        cdef bint is_ready = False
        cdef Lane lane
        for lane in self.lanes:
            used = lane.table._used
            waiting += used
            is_ready = is_ready or (lane.ready and not lane.crowded and used < lane.peer_calls)
        return waiting if is_ready and not (self.cap and waiting >= self.cap) else -1

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
cdef class InFlight:
    """Calls in flight of each of many members, as far as is known.

    Args:
        members: Whose; each has `takes()` and `in_flight`.

    Attributes:
        total: Their sum.
    """

    cdef list _members
    cdef bytearray _memory
    cdef Py_ssize_t* _counts
    cdef readonly Py_ssize_t total

    def __init__(self, members):
        self._members = list(members)
        self._memory = bytearray(len(self._members) * sizeof(Py_ssize_t))
        self._counts = <Py_ssize_t*>PyByteArray_AS_STRING(self._memory)
        self.total = 0
        self.ask()

    @property
    def counts(self):
        """Calls in flight of each, by place."""
        return [self._counts[place] for place in range(len(self._members))]

    def ask(self):
        """Ask all members."""
        cdef Py_ssize_t place
        for place in range(len(self._members)):
            member = self._members[place]
            if isinstance(member, MemberFields):
                self._note(place, (<MemberFields>member)._waiting())
            else:
                self._note(place, member.in_flight)

    def note(self, Py_ssize_t place, Py_ssize_t count):
        """Note that the member at *place* has *count* calls in flight."""
        self._check(place)
        self._note(place, count)

    def room(self, Py_ssize_t place):
        """Ask the member at *place*; return its calls in flight, -1 if it takes none now."""
        self._check(place)
        return self._room(place)

    cdef int _check(self, Py_ssize_t place) except -1:
        if not 0 <= place < len(self._members):
            raise IndexError("there is no such place")
        return 0

    cdef void _note(self, Py_ssize_t place, Py_ssize_t count) noexcept:
        self.total += count - self._counts[place]
        self._counts[place] = count

    cdef Py_ssize_t _room(self, Py_ssize_t place) except? -2:
        member = self._members[place]
        if isinstance(member, MemberFields):
            return (<MemberFields>member)._room()
        return member.in_flight if member.takes() else -1


@cython.final
cdef class Line:
    """Members in a line: the least loaded first, of these who has waited longest.

    Args:
        calls: What is known of their calls in flight.
        steps: By how much a call takes each up; a load is rounded down to whole ones.
        start: Place of who comes first of equals.
    """

    cdef readonly InFlight calls
    cdef Py_ssize_t _size, _used
    cdef uint64_t _turn
    cdef bytearray _memory, _more
    cdef Due* _heap
    cdef double* _steps

    def __init__(self, InFlight calls not None, list steps not None, Py_ssize_t start):
        cdef Py_ssize_t place, size = len(steps)
        if size != len(calls._members):
            raise ValueError("each member needs a step")
        self.calls = calls
        self._size = size
        self._memory = bytearray(size * sizeof(Due))
        self._heap = <Due*>PyByteArray_AS_STRING(self._memory)
        self._more = bytearray(size * sizeof(double))
        self._steps = <double*>PyByteArray_AS_STRING(self._more)
        for place in range(size):
            self._steps[place] = steps[place]
        self.order(start)

    def order(self, Py_ssize_t start):
        """Line up all by what is known of them, from place *start* on among equals."""
        cdef Py_ssize_t place, size = self._size
        if not 0 <= start <= size:
            raise ValueError("there is no such place")
        self._turn = 0
        self._used = 0
        for place in range(start, size):
            self._enter(place)
        for place in range(start):
            self._enter(place)

    def take(self, avoid=()):
        """Return the place of the first that takes a call, which is counted; -1 for nobody.

        Who takes none leaves the line, who has more calls than was known goes back in it.

        Args:
            avoid: Members that are passed over.
        """
        cdef InFlight calls = self.calls
        cdef Py_ssize_t place, count
        cdef double level
        cdef list passed = []
        while self._used:
            place, level = self._heap[0].place, self._heap[0].first
            self._used -= 1
            self._heap[0] = self._heap[self._used]
            sink(self._heap, self._used)
            count = calls._room(place)
            if count < 0:
                continue
            if floor(count * self._steps[place]) > level:  # calls that we have not sent
                calls._note(place, count)
                self._enter(place)
            elif avoid and calls._members[place] in avoid:
                passed.append(place)
            else:
                calls._note(place, count + 1)
                self._enter(place)
                for each in passed:
                    self._enter(each)
                return place
        return -1

    cdef void _enter(self, Py_ssize_t place) noexcept:
        cdef Due* entry
        if self._used == self._size:  # a member that was asked has picked, too
            return
        entry = &self._heap[self._used]
        entry.first = floor(self.calls._counts[place] * self._steps[place])
        entry.second = self._turn
        entry.place = place
        self._turn += 1
        rise(self._heap, self._used)
        self._used += 1


@cython.final
cdef class Rota:
    """Whose turn it is, for members that have turns at even distances.

    Args:
        gaps: Turns from one of its own to the next, by place.
        debts: Turns it has had too few before.

    Attributes:
        turn: Turns taken.
    """

    cdef readonly uint64_t turn
    cdef Py_ssize_t _size, _ready_used, _later_used
    cdef bytearray _memory, _more
    cdef Due* _ready
    cdef Due* _later
    cdef Share* _shares

    def __init__(self, list gaps not None, list debts not None):
        cdef Py_ssize_t place, size = len(gaps)
        if len(debts) != size:
            raise ValueError("each member needs a gap and a debt")
        self._size = size
        self._memory = bytearray(2 * size * sizeof(Due))
        self._ready = <Due*>PyByteArray_AS_STRING(self._memory)
        self._later = self._ready + size
        self._more = bytearray(size * sizeof(Share))
        self._shares = <Share*>PyByteArray_AS_STRING(self._more)
        self._ready_used = self._later_used = 0
        self.turn = 0
        for place in range(size):
            if not 0.0 < gaps[place] <= RAREST:
                raise ValueError("a gap must be above 0 and at most 2**40 turns")
            self._shares[place].gap = gaps[place]
            self._shares[place].debt = debts[place]
        for place in range(size):
            self._plan(place)

    @property
    def counts(self):
        """How many turns each has had, by place."""
        return [self._shares[place].count for place in range(self._size)]

    def take(self):
        """Give the turn to whoever must come soonest, and return its place."""
        cdef Py_ssize_t place
        if not self._ready_used:  # what rounding has left empty
            if not self._later_used:
                raise IndexError("there is nobody who could have a turn")
            self.turn = <uint64_t>self._later[0].first
        while self._later_used and self._later[0].first <= self.turn:
            place = self._later[0].place
            self._later_used -= 1
            self._later[0] = self._later[self._later_used]
            sink(self._later, self._later_used)
            self._plan(place)
        if not self._ready_used:
            raise IndexError("nobody is ready")
        place = self._ready[0].place
        self._ready_used -= 1
        self._ready[0] = self._ready[self._ready_used]
        sink(self._ready, self._ready_used)
        self.turn += 1
        self._shares[place].count += 1
        self._plan(place)
        return place

    cdef void _plan(self, Py_ssize_t place) noexcept:
        """Note when a member may have its next turn, or when it must."""
        cdef Share* share = &self._shares[place]
        cdef double may = (share.count - share.debt) * share.gap
        cdef double since = trunc(may + ROUNDED)
        cdef Due* entry
        if since <= self.turn:
            entry = &self._ready[self._ready_used]
            entry.first = ceil(may + share.gap - ROUNDED)
            entry.second = entry.place = place
            rise(self._ready, self._ready_used)
            self._ready_used += 1
        else:
            entry = &self._later[self._later_used]
            entry.first = since
            entry.second = entry.place = place
            rise(self._later, self._later_used)
            self._later_used += 1


@cython.final
cdef class Bounded:
    """Members that have room, as long as none has much more than its share of all calls.

    Args:
        calls: What is known of their calls in flight.
        places: Place of each member by its id.
        shares: Which part of all calls is each one's, by place.
        load: As many times its share each may have, but for rounding.
    """

    cdef readonly InFlight calls
    cdef dict _places
    cdef bytearray _memory
    cdef double* _shares
    cdef double _load

    def __init__(
        self, InFlight calls not None, dict places not None, list shares not None, double load
    ):
        cdef Py_ssize_t place, size = len(shares)
        if size != len(calls._members):
            raise ValueError("each member needs a share")
        self.calls = calls
        self._places = places
        self._load = load
        self._memory = bytearray(size * sizeof(double))
        self._shares = <double*>PyByteArray_AS_STRING(self._memory)
        for place in range(size):
            self._shares[place] = shares[place]

    def has_room(self, Py_ssize_t place):
        """Return whether the member at *place* takes a call now, and has room below its bound."""
        self.calls._check(place)
        return self._room(place) >= 0

    def take(self, list sectors not None, uint64_t point, avoid=()):
        """Return the place of the first that has room from *point* on, and count its call.

        Args:
            sectors: Of the ring, 128: points, an array of type "Q", sorted, and whose they
                are; None for one that is not made yet.
            point: Of the key, 64 bits; the first seven say the sector.
            avoid: Members that are passed over.

        Returns:
            -1 for nobody, if it is none of the next eight in the sector.
        """
        cdef Py_ssize_t low = 0, high, middle, place, count
        cdef unsigned long long* words
        cdef InFlight calls = self.calls
        cdef array points
        cdef list ids
        if len(sectors) != SECTORS:
            raise ValueError("a ring has 128 sectors")
        sector = sectors[<Py_ssize_t>(point >> WITHIN)]
        if sector is None:
            return -1
        points, ids = sector
        if points is None or ids is None or points.ob_descr.typecode != c"Q":
            raise TypeError("a sector is an array of type Q and a list")
        words, high = points.data.as_ulonglongs, len(points)
        point &= INSIDE
        while low < high:
            middle = (low + high) >> 1
            if words[middle] < point:
                low = middle + 1
            else:
                high = middle
        for id in ids[low : low + NEAR]:  # a copy: strangers' code runs in between
            place = self._places[id]
            calls._check(place)
            count = self._room(place)
            if count >= 0 and not (avoid and calls._members[place] in avoid):
                calls._note(place, count + 1)
                return place
        return -1

    cdef Py_ssize_t _room(self, Py_ssize_t place) except -2:
        """Return the calls in flight of a member that has room, -1 if it has none."""
        cdef Py_ssize_t count = self.calls._room(place)
        cdef double bound = (self.calls.total + 1) * self._load * self._shares[place] - ROUNDED
        return count if count <= 0 or count < bound else -1


def scattered(uint64_t word):
    """Return 64 bits for a word: far apart for words that are alike."""
    word *= SPREAD
    return ((word ^ word >> 32) * STIR) ^ word >> 29


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
