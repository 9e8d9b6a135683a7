"""Make calls of threads in other shapes than one value: whole replies, many calls at once.

Rules of the room:
  * many calls leave in one write, as far as the server takes them; the rest follows as
    room comes, and each keeps the deadline that it had when all of them began;
  * what happens to one call is told in its place and does not disturb the others.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, final

from fastrpc.call import Reply
from fastrpc.errors import FastRPCError, TransportError
from fastrpc.frame import Waiter
from fastrpc.session import outcome
from fastrpc.wire import Kind

if TYPE_CHECKING:
    from fastrpc.session.blocking import BlockingSession


@final
class _ReplyWaiter:
    """What the call table has in a waiter's place, for who wants the whole reply."""

    __slots__ = ("_waiter", "trailers")

    def __init__(self, waiter: Waiter) -> None:
        self._waiter = waiter
        self.trailers = b""

    def done(self) -> bool:
        """Return whether there is an outcome, or nobody waits for it."""
        return bool(self._waiter.done())

    def set_result(self, value: Any) -> None:
        """End with a value."""
        self._waiter.set_result(Reply(value, self.trailers))

    def set_exception(self, error: BaseException) -> None:
        """End with an error."""
        self._waiter.set_exception(error)


def exchange(
    session: "BlockingSession",
    name: str,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None,
    timeout: float,
    metadata: bytes,
) -> Reply:
    """Make a call and return its whole reply; the arguments are those of `Lane.call`."""

    def enter(left: float) -> Waiter:
        waiter = Waiter()
        # The call table has what takes value and metadata, the thread waits on what that ends.
        session.start(name, args, kwargs, left, metadata, None, _ReplyWaiter(waiter), Kind.CALL)
        return waiter

    reply: Reply = session.finish(None, name, args, kwargs, timeout, metadata, None, enter)
    return reply


@final
class Batch:
    """Many calls of one thread, made together.

    Args:
        session: The connection.
        calls: Method and arguments of each.
        timeout: Seconds until the deadline of all, 0 for none.
        metadata: Packed metadata sent with each.

    Attributes:
        results: For each call its result, or its exception.
    """

    def __init__(
        self,
        session: "BlockingSession",
        calls: Sequence[tuple[str, tuple[Any, ...]]],
        timeout: float,
        metadata: bytes,
    ) -> None:
        self._session = session
        self._timeout = timeout
        self._metadata = metadata
        self._clock = session.side.share.clock
        self._started = self._clock()
        self._deadline = self._started + timeout if timeout else 0.0
        self._todo = deque((place, name, args) for place, (name, args) in enumerate(calls))
        self._sent: deque[tuple[int, str, Waiter]] = deque()
        self.results: list[Any] = [None] * len(calls)

    def run(self) -> None:
        """Make the calls and wait for all of them."""
        lane = self._session.lane
        try:
            while self._todo or self._sent:
                # Half a table at a time, so that the server is never without work.
                if self._todo and (not self._sent or len(lane.table) * 2 <= lane.peer_calls):
                    self._send()
                if self._sent:
                    self._take()
        finally:
            self._leave()

    def _send(self) -> None:
        left = self._deadline - self._clock()
        line, name = self._session.line, self._todo[0][1]
        try:
            if self._deadline and left <= 0.0:
                self._refuse_rest()
                return
            enter = line.enter_at_once if self._sent else line.enter
            enter(name, left if self._deadline else 0.0, self._enter)
        except FastRPCError:
            self._refuse_rest()

    def _enter(self, left: float) -> None:
        """Queue as many calls as there is room for, and write them. Under the lock."""
        session, lane = self._session, self._session.lane
        is_whole = False
        lane.corked = True
        try:
            while self._todo and len(lane.table) < lane.peer_calls:
                place, name, args = self._todo[0]
                try:
                    waiter: Waiter = lane.call(name, args, None, left, self._metadata, None)
                except (FastRPCError, TypeError) as exc:
                    self.results[place] = exc
                else:
                    waiter.deadline = self._deadline
                    self._sent.append((place, name, waiter))
                self._todo.popleft()
            is_whole = True
        finally:
            lane.corked = False
            if not is_whole:  # out of a signal handler: the lane may be in the midst of it
                session.pipe.broken("interrupted while sending")
        session.flush()

    def _take(self) -> None:
        """Wait for the oldest call that is under way."""
        place, name, waiter = self._sent[0]
        if not waiter.is_done:
            self._session.complete(waiter, name, self._timeout)
        self.results[place] = waiter.value if waiter.error is None else waiter.error
        self._sent.popleft()
        if self._session.line.turns.line:
            self._session.tidy()

    def _refuse_rest(self) -> None:
        while self._todo:
            place, name, _ = self._todo.popleft()
            self.results[place] = self._why_not(name)

    def _why_not(self, name: str) -> Exception:
        """Return why a call could not be sent."""
        session = self._session
        try:
            with session.lock:
                session.check_open(name)
        except TransportError as exc:
            return exc
        now = self._clock()
        return outcome.late(
            name, self._started, self._deadline, now, session.address,
            queued=now - self._started, sent=False,
        )  # fmt: skip

    def _leave(self) -> None:
        """Make room for others; calls that nobody waits for any more are given up."""
        for _, _, waiter in self._sent:
            waiter.is_done = True  # the sweep finds it so
        if self._sent:
            self._session.sweep()
        self._session.tidy()
