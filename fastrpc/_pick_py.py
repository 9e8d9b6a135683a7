"""Choose the instance that a call goes to, send it there, and learn from how it went.

`_pick.pyx` is the same in Cython; this file is the plain one and the owner of the
docstrings. The common call stays here from end to end: picked, put into a lane, its
reply timed. Whatever else may happen to it is handed up: `slow` gets calls that no
instance takes now, `failed` those that came back with an error.

The average of latency is Finagle's peak EWMA (twitter/finagle, `PeakEwma.scala`): it
jumps to what is slower and sinks exponentially to what is faster. Two members, chosen
by chance, are compared by latency times calls in flight (Mitzenmacher, "The Power of
Two Choices in Randomized Load Balancing", 1996).

The other balancers are Python of their own (`cluster/balancers`), and have here what each
of their picks does with a thousand members behind it: `InFlight` and `Line` for the least
loaded, `InFlight` and `Bounded` for keys, `Rota` for weights.

Rules of the room:
  * time is an argument, or the clock that was given; chance has a seed;
  * calls in flight are what the call tables hold: nothing is counted twice;
  * a change here without the same change in `_pick.pyx` does not merge.

Size: may grow to 680, for it mirrors `_pick.pyx` and carries the docstrings of both.
"""

import math
from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextvars import ContextVar
from heapq import heappop, heappush
from typing import Any, Final, final

from fastrpc._caller_py import shorter
from fastrpc._lane_py import Lane

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

#: Seconds that a member counts as which has calls and no reply yet.
UNKNOWN: Final = 1e4

#: Differences of latency below this are noise, in seconds: there the load alone decides.
NOISE: Final = 1e-3

#: What rounding may do to a bound, and to a moment of a rota.
ROUNDED: Final = 1e-9

#: Most turns from one of a member's to the next.
RAREST: Final = 2.0**40

#: So many points of a ring at most are looked at without ado.
NEAR: Final = 8

#: Sectors of the ring, and bits of a point within its sector.
SECTORS: Final = 128
WITHIN: Final = 57

_WORD: Final = 2**64 - 1
_HALF: Final = 2**32 - 1
_INSIDE: Final = 2**WITHIN - 1
_SCRAMBLE: Final = 0x2545F4914F6CDD1D
_SPREAD: Final = 0x9E3779B97F4A7C15
_STIR: Final = 0xD6E8FEB86659FD93


class MemberFields:
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

    __slots__ = (
        "_turn", "answered", "calls", "cap", "decay", "errors", "lanes", "latency", "seen",
        "streak", "weight",
    )  # fmt: skip

    def __init__(self, lanes: list[Lane], decay: float, weight: float = 1.0) -> None:
        self.lanes = lanes
        self.decay = decay
        self.weight = weight
        self.latency = self.seen = self.answered = 0.0
        self.calls = self.errors = self.streak = self.cap = 0
        self._turn = 0

    @property
    def in_flight(self) -> int:
        """Calls that were sent to it and have not ended."""
        return sum(len(lane.table) for lane in self.lanes)

    def takes(self) -> bool:
        """Return whether it takes a call now."""
        if self.cap and self.in_flight >= self.cap:
            return False
        return any(
            lane.ready and not lane.crowded and len(lane.table) < lane.peer_calls
            for lane in self.lanes
        )

    def lane(self) -> Lane | None:
        """Return a lane that takes a call now; those that do take turns."""
        if self.cap and self.in_flight >= self.cap:
            return None
        lanes = self.lanes
        count = len(lanes)
        for _ in range(count):
            self._turn = self._turn + 1 if self._turn + 1 < count else 0
            lane = lanes[self._turn]
            if lane.ready and not lane.crowded and len(lane.table) < lane.peer_calls:
                return lane
        return None

    def cost(self, now: float) -> float:
        """Return what a call to it costs beside others at *now*; infinity if it takes none."""
        waiting, is_ready = 0, False
        for lane in self.lanes:
            used = len(lane.table)
            waiting += used
            is_ready = is_ready or (lane.ready and not lane.crowded and used < lane.peer_calls)
        if not is_ready or (self.cap and waiting >= self.cap):
            return math.inf
        latency = self.latency
        if not self.seen:
            return (UNKNOWN + waiting) / self.weight if waiting else 0.0
        if now > self.seen:
            latency *= math.exp((self.seen - now) / self.decay)
        return max(latency, NOISE) * (waiting + 1) / self.weight

    def note(self, seconds: float, now: float) -> None:
        """Note a call that ended well.

        Args:
            seconds: How long it took.
            now: When it ended.
        """
        self.calls += 1
        self.streak = 0
        self.answered = now
        self.observe(seconds, now)

    def blame(self, seconds: float, now: float) -> None:
        """Note a call whose end counts against the member; arguments as `note` has them."""
        self.calls += 1
        self.errors += 1
        self.streak += 1
        self.observe(seconds, now)

    def given_up(self, started: float, now: float) -> None:
        """Note a call whose caller did not wait for its end.

        It counts against the member if that has answered nobody since the call was sent:
        else a server that hangs would look idle to callers that are impatient.

        Args:
            started: When it was sent.
            now: When it was given up.
        """
        if self.answered < started:
            self.blame(now - started, now)
        else:
            self.observe(now - started, now)

    def observe(self, seconds: float, now: float) -> None:
        """Let the average know a latency; arguments as `note` has them."""
        if seconds > self.latency or not self.seen:
            self.latency = seconds
        elif now > self.seen:
            kept = math.exp((self.seen - now) / self.decay)
            self.latency = self.latency * kept + seconds * (1.0 - kept)
        self.seen = now


@final
class TwoChoices:
    """Two members by chance, and the one that costs less.

    Args:
        seed: Of its chance; 0 is as good as any.

    Attributes:
        members: Those to choose from.
    """

    __slots__ = ("_state", "members")

    def __init__(self, seed: int = 0) -> None:
        self.members: list[Any] = []
        self._state = (seed * _SCRAMBLE ^ _SPREAD) & _WORD or _SPREAD

    def update(self, members: list[Any], now: float) -> None:
        """Choose from *members* from now on."""
        self.members = list(members)

    def pick(self, key: object, now: float, avoid: Collection[Any] = ()) -> Any:
        """Return a member that takes a call now, None if there is none.

        Args:
            key: Is not looked at.
            now: Time of the clock.
            avoid: Members that are taken only if all others take none.
        """
        members = self.members
        count = len(members)
        if not count:
            return None
        word = self._chance()
        first = (word & _HALF) * count >> 32
        if count > 1:
            second = (word >> 32) * (count - 1) >> 32
            second += second >= first
            one, other = members[first], members[second]
            if not avoid:
                mine, its = one.cost(now), other.cost(now)
                if its < mine:
                    return other
                if mine < math.inf:
                    return one
        return self._any(first, avoid)

    def _chance(self) -> int:
        """Return the next word of xorshift64* (Vigna, 2016)."""
        x = self._state
        x ^= x >> 12
        x = (x ^ x << 25) & _WORD
        x ^= x >> 27
        self._state = x
        return x * _SCRAMBLE & _WORD

    def _any(self, first: int, avoid: Collection[Any]) -> Any:
        """Return the first that takes a call, from place *first* on; the avoided ones last."""
        members = self.members
        turned = members[first:] + members[:first]
        spare = None
        for member in turned:
            if member.takes():
                if member not in avoid:
                    return member
                spare = spare or member
        return spare


@final
class InFlight:
    """Calls in flight of each of many members, as far as is known.

    Args:
        members: Whose; each has `takes()` and `in_flight`.

    Attributes:
        total: Their sum.
    """

    __slots__ = ("_counts", "_members", "total")

    def __init__(self, members: Iterable[Any]) -> None:
        self._members = list(members)
        self._counts = [0] * len(self._members)
        self.total = 0
        self.ask()

    @property
    def counts(self) -> list[int]:
        """Calls in flight of each, by place."""
        return self._counts[:]

    def ask(self) -> None:
        """Ask all members."""
        for place, member in enumerate(self._members):
            self.note(place, member.in_flight)

    def note(self, place: int, count: int) -> None:
        """Note that the member at *place* has *count* calls in flight."""
        self._check(place)
        self.total += count - self._counts[place]
        self._counts[place] = count

    def room(self, place: int) -> int:
        """Ask the member at *place*; return its calls in flight, -1 if it takes none now."""
        self._check(place)
        member = self._members[place]
        return member.in_flight if member.takes() else -1

    def _check(self, place: int) -> None:
        if not 0 <= place < len(self._members):
            raise IndexError("there is no such place")


@final
class Line:
    """Members in a line: the least loaded first, of these who has waited longest.

    Args:
        calls: What is known of their calls in flight.
        steps: By how much a call takes each up; a load is rounded down to whole ones.
        start: Place of who comes first of equals.
    """

    __slots__ = ("_heap", "_steps", "_turn", "calls")

    def __init__(self, calls: InFlight, steps: list[float], start: int) -> None:
        if len(steps) != len(calls._counts):
            raise ValueError("each member needs a step")
        self.calls = calls
        self._steps = steps[:]
        self.order(start)

    def order(self, start: int) -> None:
        """Line up all by what is known of them, from place *start* on among equals."""
        size = len(self._steps)
        if not 0 <= start <= size:
            raise ValueError("there is no such place")
        self._turn = 0
        self._heap: list[tuple[int, int, int]] = []  # level, turn, place
        for place in (*range(start, size), *range(start)):
            self._enter(place)

    def take(self, avoid: Collection[Any] = ()) -> int:
        """Return the place of the first that takes a call, which is counted; -1 for nobody.

        Who takes none leaves the line, who has more calls than was known goes back in it.

        Args:
            avoid: Members that are passed over.
        """
        calls = self.calls
        passed = []
        while self._heap:
            level, _, place = heappop(self._heap)
            count = calls.room(place)
            if count < 0:
                continue
            if int(count * self._steps[place]) > level:  # calls that we have not sent
                calls.note(place, count)
                self._enter(place)
            elif avoid and calls._members[place] in avoid:
                passed.append(place)
            else:
                calls.note(place, count + 1)
                self._enter(place)
                for each in passed:
                    self._enter(each)
                return place
        return -1

    def _enter(self, place: int) -> None:
        """Put a member at the end of those of its level."""
        if len(self._heap) == len(self._steps):  # a member that was asked has picked, too
            return
        level = int(self.calls._counts[place] * self._steps[place])
        heappush(self._heap, (level, self._turn, place))
        self._turn += 1


@final
class Rota:
    """Whose turn it is, for members that have turns at even distances.

    Args:
        gaps: Turns from one of its own to the next, by place.
        debts: Turns it has had too few before.

    Attributes:
        turn: Turns taken.
    """

    __slots__ = ("_counts", "_debts", "_gaps", "_later", "_ready", "turn")

    def __init__(self, gaps: list[float], debts: list[float]) -> None:
        if len(debts) != len(gaps):
            raise ValueError("each member needs a gap and a debt")
        if not all(0.0 < gap <= RAREST for gap in gaps):
            raise ValueError("a gap must be above 0 and at most 2**40 turns")
        self._gaps, self._debts = gaps[:], debts[:]
        self._counts = [0] * len(gaps)
        self.turn = 0
        self._ready: list[tuple[int, int]] = []  # those that may come, by when they must
        self._later: list[tuple[int, int]] = []  # those that may not yet, by when they may
        for place in range(len(gaps)):
            self._plan(place)

    @property
    def counts(self) -> list[int]:
        """How many turns each has had, by place."""
        return self._counts[:]

    def take(self) -> int:
        """Give the turn to whoever must come soonest, and return its place."""
        ready, later = self._ready, self._later
        if not ready:  # what rounding has left empty
            if not later:
                raise IndexError("there is nobody who could have a turn")
            self.turn = later[0][0]
        while later and later[0][0] <= self.turn:
            self._plan(heappop(later)[1])
        if not ready:
            raise IndexError("nobody is ready")
        _, place = heappop(ready)
        self.turn += 1
        self._counts[place] += 1
        self._plan(place)
        return place

    def _plan(self, place: int) -> None:
        """Note when a member may have its next turn, or when it must."""
        gap = self._gaps[place]
        may = (self._counts[place] - self._debts[place]) * gap
        since = int(may + ROUNDED)
        if since <= self.turn:
            heappush(self._ready, (math.ceil(may + gap - ROUNDED), place))
        else:
            heappush(self._later, (since, place))


@final
class Bounded:
    """Members that have room, as long as none has much more than its share of all calls.

    Args:
        calls: What is known of their calls in flight.
        places: Place of each member by its id.
        shares: Which part of all calls is each one's, by place.
        load: As many times its share each may have, but for rounding.
    """

    __slots__ = ("_load", "_places", "_shares", "calls")

    def __init__(
        self, calls: InFlight, places: dict[str, int], shares: list[float], load: float
    ) -> None:
        if len(shares) != len(calls._counts):
            raise ValueError("each member needs a share")
        self.calls = calls
        self._places = places
        self._shares = shares[:]
        self._load = load

    def has_room(self, place: int) -> bool:
        """Return whether the member at *place* takes a call now, and has room below its bound."""
        return self._room(place) >= 0

    def take(
        self,
        sectors: Sequence[tuple[Sequence[int], list[str]] | None],
        point: int,
        avoid: Collection[Any] = (),
    ) -> int:
        """Return the place of the first that has room from *point* on, and count its call.

        Args:
            sectors: Of the ring, 128: points, an array of type "Q", sorted, and whose they
                are; None for one that is not made yet.
            point: Of the key, 64 bits; the first seven say the sector.
            avoid: Members that are passed over.

        Returns:
            -1 for nobody, if it is none of the next eight in the sector.
        """
        calls = self.calls
        if len(sectors) != SECTORS:
            raise ValueError("a ring has 128 sectors")
        sector = sectors[point >> WITHIN]
        if sector is None:
            return -1
        points, ids = sector
        if not isinstance(points, array) or points.typecode != "Q" or type(ids) is not list:
            raise TypeError("a sector is an array of type Q and a list")
        at = bisect_left(points, point & _INSIDE)
        for id in ids[at : at + NEAR]:  # mostly it is the first
            place = self._places[id]
            count = self._room(place)
            if count >= 0 and not (avoid and calls._members[place] in avoid):
                calls.note(place, count + 1)
                return place
        return -1

    def _room(self, place: int) -> int:
        """Return the calls in flight of a member that has room, -1 if it has none."""
        count = self.calls.room(place)
        bound = (self.calls.total + 1) * self._load * self._shares[place] - ROUNDED
        return count if count <= 0 or count < bound else -1


def scattered(word: int) -> int:
    """Return 64 bits for a word: far apart for words that are alike."""
    word = word * _SPREAD & _WORD
    return ((word ^ word >> 32) * _STIR & _WORD) ^ word >> 29


@final
class Picked:
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

    __slots__ = (
        "_is_noted", "args", "caller", "deadline", "decode", "future", "kwargs", "member", "method",
        "started",
    )  # fmt: skip

    def __init__(
        self, caller: "ClusterCaller", member: MemberFields, method: str, args: tuple[Any, ...],
        kwargs: Mapping[str, Any] | None, decode: Callable[[bytes], Any] | None,
        deadline: float, future: Any, started: float,
    ) -> None:  # fmt: skip
        self.caller = caller
        self.member = member
        self.method = method
        self.args = args
        self.kwargs = kwargs
        self.decode = decode
        self.deadline = deadline
        self.future = future
        self.started = started
        self._is_noted = False

    def done(self) -> bool:
        """Return whether there is an outcome, or nobody waits for it any more."""
        if not self.future.done():
            return False
        if not self._is_noted:
            self._is_noted = True
            self.member.given_up(self.started, self.caller.clock())
        return True

    def set_result(self, value: Any) -> None:
        """End with a value."""
        now = self.caller.clock()
        self._is_noted = True
        self.member.note(now - self.started, now)
        self.future.set_result(value)

    def set_exception(self, error: BaseException) -> None:
        """End with an error, unless somebody takes it from here."""
        self._is_noted = True
        if not self.caller.failed(self, error):
            self.future.set_exception(error)


@final
class ClusterCaller:
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

    __slots__ = (
        "balancer", "clock", "failed", "inherited", "key", "key_of", "metadata", "slow", "timeout",
    )  # fmt: skip

    def __init__(
        self,
        balancer: Any,
        slow: Callable[..., Any],
        failed: Callable[[Picked, BaseException], bool],
        key: object,
        key_of: Callable[..., object] | None,
        timeout: float,
        metadata: bytes,
        inherited: ContextVar[float] | None,
        clock: Callable[[], float],
    ) -> None:
        self.balancer = balancer
        self.slow = slow
        self.failed = failed
        self.key = key
        self.key_of = key_of
        self.timeout = timeout
        self.metadata = metadata
        self.inherited = inherited
        self.clock = clock

    def call(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Start a call and return its awaitable."""
        return self.send(method, args, kwargs, None)

    def send(
        self,
        method: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any] | None,
        decode: Callable[[bytes], Any] | None,
    ) -> Any:
        """Start a call whose result goes through *decode*."""
        key = self.key if self.key_of is None else self.key_of(method, args, kwargs)
        now = self.clock()
        member = self.balancer.pick(key, now)
        lane = member.lane() if member is not None else None
        if lane is None:
            return self.slow(method, args, kwargs, decode)
        timeout = shorter(self.timeout, self.inherited, self.clock)
        future = lane.share.create_future()
        deadline = now + timeout if timeout else 0.0
        picked = Picked(self, member, method, args, kwargs, decode, deadline, future, now)
        lane.start(method, args, kwargs, timeout, self.metadata, decode, picked, 0)
        return future


@final
class ClusterCall:
    """A method of a stub: call it to call a remote one.

    Args:
        caller: Who sends.
        method: Full method name.
        decode: Decoder of the result, None for the connection's own.
    """

    __slots__ = ("caller", "decode", "method")

    def __init__(
        self, caller: ClusterCaller, method: str, decode: Callable[[bytes], Any] | None = None
    ) -> None:
        self.caller = caller
        self.method = method
        self.decode = decode

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Start the call and return its awaitable."""
        return self.caller.send(self.method, args, kwargs, self.decode)
