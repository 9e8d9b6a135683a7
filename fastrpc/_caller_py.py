"""Get calls into a lane: from one event loop, or from threads that share a socket.

`Caller` and `BoundCall` are the loop's way, `Exchange` is the threads': who calls
sends, and one of those who wait reads for all. `_caller.pyx` is the same in Cython;
this file is the plain one and the owner of the docstrings.

A signal handler may raise between any two steps of Python, also while a lock is
awaited. So nothing here is needed to keep going: a thread marks that it has left
before it does anything else, a mark is seen by the others at the latest when they
look up, and what sleeps is a plain lock, for the threading module's conditions can
be left locked.

Rules of the room:
  * at most one thread reads, and as long as some wait, one will;
  * an outcome is set once, under the lock of the owner;
  * nobody holds the lock while waiting: what is sent under it is sent without;
  * an exception that hits between the kernel and the books ends the connection,
    for nobody knows where the stream stands;
  * a change here without the same change in `_caller.pyx` does not merge.

Size: may grow to 540, for it mirrors `_caller.pyx` and carries the docstrings of both.
"""

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from threading import Lock
from typing import Any, Final, final

from fastrpc._lane_py import Lane
from fastrpc.errors import FastRPCError

__all__ = ["BoundCall", "ByteStream", "Caller", "Exchange", "Turns", "Waiter"]

#: How long a thread sleeps at most before it looks up: see above.
NAP: Final = 1.0

LEAST: Final = 1e-6  # of a deadline that has passed: 0 would be none

#: So long after a call that was answered was made, its connection is taken for alive unseen.
FRESH: Final = 0.05


def shorter(
    timeout: float, inherited: ContextVar[float] | None, clock: Callable[[], float]
) -> float:
    """Return *timeout*, or what is left of the call in hand if that is less; 0 for none."""
    deadline = inherited.get() if inherited is not None else 0.0
    if not deadline:
        return timeout
    left = max(deadline - clock(), LEAST)
    return min(timeout, left) if timeout else left


@final
class Caller:
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

    __slots__ = ("_turn", "inherited", "lanes", "metadata", "slow", "timeout")

    def __init__(
        self,
        lanes: list[Lane],
        slow: Callable[..., Any],
        timeout: float = 0.0,
        metadata: bytes = b"",
        inherited: ContextVar[float] | None = None,
    ) -> None:
        self.lanes = lanes
        self.slow = slow
        self.timeout = timeout
        self.metadata = metadata
        self.inherited = inherited
        self._turn = 0

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
        lanes = self.lanes
        count = len(lanes)
        if count:
            if count > 1:
                self._turn = (self._turn + 1) % count
            lane = lanes[self._turn if self._turn < count else 0]
            if lane.ready and not lane.crowded and len(lane.table) < lane.peer_calls:
                timeout = shorter(self.timeout, self.inherited, lane.share.clock)
                return lane.call(method, args, kwargs, timeout, self.metadata, decode)
        return self.slow(method, args, kwargs, decode)


@final
class BoundCall:
    """A method of a stub: call it to call the remote one.

    Args:
        caller: Who sends.
        method: Full method name.
        decode: Decoder of the result, None for the connection's own.
    """

    __slots__ = ("caller", "decode", "method")

    def __init__(
        self, caller: Caller, method: str, decode: Callable[[bytes], Any] | None = None
    ) -> None:
        self.caller = caller
        self.method = method
        self.decode = decode

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Start the call and return its awaitable."""
        return self.caller.send(self.method, args, kwargs, self.decode)


@final
class Waiter:
    """What a thread waits on; the lane sees it as a future.

    Attributes:
        is_done: Whether there is an outcome.
        value: It, if it is no error.
        error: It, if it is one.
        is_plain: Whether it is a value, and nothing is left to be done.
        deadline: Clock's time of its call's deadline, 0 for none.
        has_left: Set by its thread when it waits no more, first of all.
    """

    __slots__ = ("_turn", "deadline", "error", "has_left", "is_done", "is_plain", "value")

    def __init__(self) -> None:
        self.is_done = False
        self.value: Any = None
        self.error: BaseException | None = None
        self.is_plain = False
        self.deadline = 0.0
        self.has_left = False
        self._turn: Any = None  # a lock that is free when it is time to look again

    def done(self) -> bool:
        """Return whether there is an outcome."""
        return self.is_done

    def set_result(self, value: Any) -> None:
        """End with a value, unless it has ended."""
        if not self.is_done:
            self.value = value
            self.is_done = True
            self.wake()

    def set_exception(self, error: BaseException) -> None:
        """End with an error, unless it has ended."""
        if not self.is_done:
            self.error = error
            self.is_done = True
            self.wake()

    def result(self) -> Any:
        """Return the value or raise the error; RuntimeError if there is none yet."""
        if self.error is not None:
            raise self.error
        if not self.is_done:
            raise RuntimeError("there is no outcome yet")
        return self.value

    def wake(self) -> None:
        """Let the thread look again. Needs the owner's lock."""
        if self._turn is not None and self._turn.locked():
            self._turn.release()

    def arm(self) -> None:
        """Make ready to sleep; a `wake` from here on is not missed. Needs the owner's lock."""
        if self._turn is None:
            self._turn = Lock()
        self._turn.acquire(False)

    def sleep(self, seconds: float | None) -> bool:
        """Sleep until woken, or until the time is up, or for a nap; tell whether woken."""
        if self._turn is None or self.is_done:
            return True
        nap = NAP if seconds is None else min(max(seconds, 0.0), NAP)
        return bool(self._turn.acquire(True, nap))


@final
class Turns:
    """A line of threads, one of which leads. Every use needs the owner's lock.

    Whoever comes first leads, and hands on when it leaves; the others sleep until
    what they wait for has come or it is their turn.

    Attributes:
        line: Who waits, some of whom may have left; may be looked at without a lock.
    """

    __slots__ = ("_leader", "line")

    def __init__(self) -> None:
        self._leader: Waiter | None = None
        self.line: dict[Waiter, None] = {}

    @property
    def leader(self) -> Waiter | None:
        """Who leads, if anybody does."""
        if self._leader is not None and self._leader.has_left:
            self._leader = None
        return self._leader

    def lead(self, waiter: Waiter, in_order: bool = False) -> bool:
        """Make *waiter* the leader, if there is none.

        Args:
            waiter: Who wants to.
            in_order: Only if nobody came before it.
        """
        if self.leader is None:
            if in_order and self._first() not in (None, waiter):
                return False
            self._leader = waiter
            self.line.pop(waiter, None)
        return self._leader is waiter

    def follow(self, waiter: Waiter) -> None:
        """Let *waiter* sleep until it has an outcome or may lead."""
        if not waiter.is_done:
            waiter.arm()
            self.line.setdefault(waiter)

    def leave(self, waiter: Waiter) -> None:
        """Take *waiter* out, and wake the next if nobody leads."""
        if self._leader is waiter:
            self._leader = None
        if self.line:
            self.line.pop(waiter, None)
            if self.leader is None and (following := self._first()) is not None:
                following.wake()

    def wake_all(self) -> None:
        """Let all look again."""
        for waiter in self.line:
            waiter.wake()

    def _first(self) -> Waiter | None:
        """Return who is next; those that left without a word are forgotten."""
        while self.line:
            waiter = next(iter(self.line))
            if not waiter.has_left:
                return waiter
            del self.line[waiter]
        return None


@final
class ByteStream:
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

    __slots__ = (
        "_arrived", "_broken", "_clock", "_deliver", "_flags", "_get_buffer", "_readable",
        "_recv_into", "_send", "is_over", "lock", "sent", "turns", "unsent",
    )  # fmt: skip

    def __init__(
        self,
        lock: Any,
        send: Callable[[Any, int], int],
        flags: int,
        recv_into: Callable[[Any], int],
        readable: Callable[[float], bool],
        clock: Callable[[], float],
        get_buffer: Callable[[int], Any],
        deliver: Callable[[int], None],
        broken: Callable[[str], None],
    ) -> None:
        self.lock = lock
        self._send = send
        self._flags = flags
        self._recv_into = recv_into
        self._readable = readable
        self._clock = clock
        self._get_buffer = get_buffer
        self._deliver = deliver
        self._broken = broken
        self._arrived: list[int] = []  # a read that the owner has not taken yet
        self.unsent: list[bytes | memoryview] = []
        self.sent = 0
        self.is_over = False
        self.turns = Turns()

    def write(self) -> None:
        """Send as much of `unsent` as goes at once. Needs the lock."""
        unsent = self.unsent
        why = "interrupted while sending"
        try:
            while unsent and not self.is_over:
                data = unsent[0] if len(unsent) == 1 else b"".join(unsent)
                unsent.clear()  # from here on it can't be told what went out
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
            if exc.errno is None:  # not the kernel's, but out of a signal handler
                raise
            why = str(exc)
        finally:
            if why:
                self._broken(why)

    def flush(self) -> None:
        """Do the same, if there is anything, without the lock."""
        if self.unsent:
            with self.lock:
                self.write()

    def fail(self, why: str) -> None:
        """Tell the owner that the stream can't go on."""
        with self.lock:
            self._broken(why)

    def read(self, deadline: float, reader: Waiter | None = None) -> bool:
        """Wait for bytes and hand them over; False if none came in time, or never will.

        Only for who leads, or before there are others.

        Args:
            deadline: Clock's time to give up, 0 for never.
            reader: Who leads; it leaves at once if it is done then.
        """
        if deadline and not self._readable(max(deadline - self._clock(), 0.0)):
            return False
        arrived = self._arrived
        if arrived:  # who read last was interrupted before the owner had it all
            self.fail("interrupted while reading")
            return False
        try:
            # recv and the note of its count in one call: an exception out of a signal
            # handler comes before the bytes were taken, or after they were noted.
            arrived.extend(map(self._recv_into, (self._get_buffer(-1),)))
        except OSError as exc:
            if exc.errno is None:
                raise
            self.fail(str(exc))
            return False
        finally:
            if arrived and arrived[0]:
                self._hand_over(arrived, reader)
        if arrived:
            self.fail("the connection was closed by the peer")
            return False
        self.flush()
        return not self.is_over

    def _hand_over(self, arrived: list[int], reader: Waiter | None) -> None:
        try:
            with self.lock:
                self._deliver(arrived[0])
                arrived.clear()
                if reader is not None and reader.is_done:
                    reader.has_left = True
                    self.turns.leave(reader)
        finally:
            if arrived:
                self.fail("interrupted while reading")


@final
class Exchange:
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

    __slots__ = ("_clock", "_given_up", "_lane", "_line", "_stream", "fresh_until")

    def __init__(
        self,
        stream: ByteStream,
        lane: Lane,
        line: Turns,
        clock: Callable[[], float],
        given_up: Callable[[], None],
    ) -> None:
        self._stream = stream
        self._lane = lane
        self._line = line
        self._clock = clock
        self._given_up = given_up
        self.fresh_until = 0.0

    def call(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any] | None,
        timeout: float,
        metadata: bytes,
        decode: Callable[[bytes], Any] | None,
    ) -> Waiter | None:
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
        stream, lane = self._stream, self._lane
        turns = stream.turns
        waiter: Waiter | None = None
        leads = is_whole = False
        now = self._clock()
        if now >= self.fresh_until:
            return None
        try:
            with stream.lock:
                if not lane.ready or self._line.line or len(lane.table) >= lane.peer_calls:
                    return None
                waiter = self.enter(name, args, kwargs, timeout, metadata, decode)
                if timeout:
                    waiter.deadline = now + timeout
                if stream.unsent:
                    stream.write()
                # Who still has something to send does both, and not here.
                if stream.unsent or stream.is_over or turns.leader is not None:
                    is_whole = True
                    return waiter
                leads = True
                turns.lead(waiter)
            while not waiter.is_done and stream.read(waiter.deadline, waiter):
                pass
            is_whole = True
        finally:
            if waiter is not None:
                if not is_whole:
                    waiter.is_done = True  # the sweep finds it so
                if leads and not waiter.has_left:
                    waiter.has_left = True
                    with stream.lock:
                        turns.leave(waiter)
                if not is_whole:
                    self._given_up()
        if waiter.done() and waiter.error is None:
            self.fresh_until = now + FRESH
            waiter.is_plain = not self._line.line and lane.ready
        return waiter

    def refresh(self) -> None:
        """Take the connection for alive for a while."""
        self.fresh_until = self._clock() + FRESH

    def enter(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any] | None,
        timeout: float,
        metadata: bytes,
        decode: Callable[[bytes], Any] | None,
    ) -> Waiter:
        """Put a call into the lane and its bytes into the stream. Needs the lock."""
        is_whole = False
        try:
            waiter: Waiter = self._lane.call(name, args, kwargs, timeout, metadata, decode)
            self._lane.flush()
            is_whole = True
        except (FastRPCError, TypeError):
            is_whole = True  # nothing was sent
            raise
        finally:
            if not is_whole:  # out of a signal handler: the lane may be in the midst of it
                self._stream._broken("interrupted while sending")
        return waiter
