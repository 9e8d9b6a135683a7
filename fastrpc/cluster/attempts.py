"""Send a call as often as it takes: elsewhere, to the same again, or to two at once.

The plain call never comes here; it is sent by the lane and comes here when it has failed,
or when nobody takes it at once.

Rules of the room:
  * one deadline over all attempts;
  * a call is sent again only if it was not run, or if that does no harm (`policy.resend`);
  * the budget pays for every try that an instance has to work for;
  * who is not waited for any more is told so at once.
"""

import asyncio
import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from fastrpc.cluster.member import Member
from fastrpc.errors import DeadlineExceeded, FastRPCError
from fastrpc.frame import Lane
from fastrpc.policy import Backoff, Resend, has_run, judge, pushback
from fastrpc.session import Late

if TYPE_CHECKING:
    from fastrpc.cluster.origin import ClusterOrigin

__all__ = ["Attempt", "Attempts", "Request"]

#: First wait before the same instance is asked again, in seconds, and the longest.
IN_PLACE: Final = (0.02, 1.0)


@final
@dataclass(frozen=True, slots=True)
class Request:
    """A call, as often as it is sent.

    Attributes:
        name: Full method name.
        args: Positional arguments.
        kwargs: Arguments by name, or None.
        decode: Decoder of the result, None for the connection's own.
        metadata: Packed metadata.
        deadline: On the monotonic clock, 0 for none.
        key: What the balancer goes by.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] | None
    decode: Callable[[bytes], Any] | None
    metadata: bytes
    deadline: float
    key: object


@final
class Attempt:
    """One sending of a call: the call table has it in a future's place.

    Attributes:
        member: Where it went.
        value: What came of it,
        error: or why nothing did.
        trailers: Packed metadata that came with the reply.
        future: Done when it has ended.
    """

    __slots__ = (
        "_id", "_is_noted", "_lane", "_origin", "_started", "error", "future", "late", "member",
        "trailers", "value",
    )  # fmt: skip

    def __init__(self, origin: "ClusterOrigin", member: Member, lane: Lane, late: Late) -> None:
        self._origin = origin
        self._lane = lane
        self._id = 0
        self._started = time.monotonic()
        self._is_noted = False
        self.member = member
        self.value: Any = None
        self.error: BaseException | None = None
        self.trailers = b""
        self.future: asyncio.Future[None] = lane.share.create_future()
        self.late = late

    def send(self, request: Request, left: float) -> None:
        """Send *request* on the lane, with *left* seconds to go."""
        self._id = self._lane.start(
            request.name, request.args, request.kwargs, left, request.metadata, request.decode,
            self, 0,
        )  # fmt: skip

    def done(self) -> bool:
        """Return whether it has ended, or nobody waits for it any more."""
        return self.future.done()

    def set_result(self, value: Any) -> None:
        """End with a value."""
        now = time.monotonic()
        self.member.note(now - self._started, now)
        self._is_noted = True
        self.value = value
        self.future.set_result(None)

    def set_exception(self, error: BaseException) -> None:
        """End with an error."""
        self._is_noted = True
        self._origin.fleet.failed(self.member, error, self._started, time.monotonic())
        self.error = error
        self.future.set_result(None)

    async def wait(self) -> None:
        """Wait for its end; whoever is cancelled meanwhile has given it up."""
        try:
            await self.future
        except asyncio.CancelledError:
            self.give_up()
            raise

    def in_words(self, deadline: float) -> BaseException:
        """Return its error; one that came too late tells where the time went.

        Args:
            deadline: Of the call, on the monotonic clock, 0 for none.
        """
        error, now = self.error, time.monotonic()
        assert error is not None
        if not isinstance(error, DeadlineExceeded) or not 0.0 < deadline <= now:
            return error
        return self.late(now, handler=error.stages.handler)

    def give_up(self) -> None:
        """Wait for it no more, and tell the instance."""
        self.future.cancel()
        self._lane.cancel(self._id)
        if not self._is_noted:
            self._is_noted = True
            self.member.given_up(self._started, time.monotonic())


@final
class Attempts:
    """The attempts of one call.

    Args:
        origin: Whose call it is.
        request: The call.
        member: Where it was sent before, if it was.
        first: Where to send it first, if that takes calls.
    """

    def __init__(
        self,
        origin: "ClusterOrigin",
        request: Request,
        member: Member | None = None,
        first: Member | None = None,
    ) -> None:
        self._origin = origin
        self._request = request
        self._sent = 0 if member is None else 1
        self._tried: list[Member] = [] if member is None else [member]
        self._first = first
        self._free = 1
        self._backoff: Backoff | None = None
        self._may_have_run = False

    async def run(self, error: BaseException | None = None) -> Attempt:
        """Send the call until it ends well; return that attempt.

        Args:
            error: How the attempt before ended, if there was one.

        Raises:
            Exception: What the last attempt raised.
        """
        while True:
            if error is not None:
                if not await self._is_worth_another(error):
                    raise self._honest(error)
                self._may_have_run = self._may_have_run or has_run(error)
            try:
                attempt = await self._send()
            except FastRPCError as exc:
                raise self._honest(exc) from error
            if self._origin.plan.mode == "hedge" and self._sent < self._origin.plan.attempts:
                attempt = await self._race(attempt)
            else:
                await attempt.wait()
            if attempt.error is None:
                return attempt
            error = attempt.in_words(self._request.deadline)

    def _honest(self, error: BaseException) -> BaseException:
        """Return *error*; it must not say "not run" if an earlier attempt may have run."""
        if not self._may_have_run or not isinstance(error, FastRPCError) or error.ran != "no":
            return error
        error = copy.copy(error)
        error.ran = "maybe"
        return error

    async def _send(self) -> Attempt:
        """Wait for an instance that takes the call, and send it there."""
        origin, request = self._origin, self._request
        same = self._first
        if self._tried:
            same = self._tried[-1] if origin.plan.mode == "retry" else None
        member, lane, left, late = await origin.place(
            request.name, request.deadline, request.key, self._tried, same
        )
        return self._sent_to(member, lane, left, late)

    def _sent_to(self, member: Member, lane: Lane, left: float, late: Late) -> Attempt:
        attempt = Attempt(self._origin, member, lane, late)
        try:
            attempt.send(self._request, left)
        except BaseException:
            self._origin.unused()
            raise
        self._sent += 1
        self._tried.append(member)
        return attempt

    async def _is_worth_another(self, error: BaseException) -> bool:
        """Say whether the call is to be sent again, and wait until it may be."""
        origin, request = self._origin, self._request
        verdict = judge(error)
        if verdict is Resend.NEVER or self._sent >= origin.plan.attempts:
            return False
        if verdict is Resend.IF_IDEMPOTENT and not await self._may_run_twice():
            return False
        now = time.monotonic()
        pause = self._pause(error, now)
        if request.deadline and now + pause >= request.deadline:
            return False
        if verdict is Resend.FREE and self._free:
            self._free -= 1
        elif not origin.pays(now):
            return False
        if pause:
            await origin.pause(pause)
        return True

    async def _may_run_twice(self) -> bool:
        request = self._request
        return await self._origin.is_idempotent(request.name, request.deadline)

    def _pause(self, error: BaseException, now: float) -> float:
        """Return how long to wait before the next attempt, in seconds."""
        asked = pushback(error)
        if self._origin.plan.mode == "retry":
            if self._backoff is None:
                self._backoff = Backoff(first=IN_PLACE[0], cap=IN_PLACE[1])
            return max(asked, self._backoff.next())
        if not asked or self._origin.others(self._tried, now):
            return 0.0
        return asked

    # Two at once

    async def _race(self, first: Attempt) -> Attempt:
        """Wait for *first*; if that takes long, ask others too, and return who is best."""
        origin, name, began = self._origin, self._request.name, time.monotonic()
        running = [first]
        try:
            is_alone = not await self._may_run_twice()
            while True:
                is_alone = is_alone or self._sent >= origin.plan.attempts
                done, _ = await asyncio.wait(
                    [each.future for each in running],
                    timeout=None if is_alone else origin.hedge_delay(name),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if not done:
                    is_alone = not self._ask(running)
                for each in [each for each in running if each.future in done]:
                    if each.error is None or len(running) == 1:
                        return each
                    running.remove(each)
                    self._may_have_run = self._may_have_run or has_run(each.error)
        finally:
            # Of a first attempt that has lost it is known that it takes at least so long.
            origin.took(name, time.monotonic() - began)
            for each in running:
                if not each.future.done():
                    each.give_up()

    def _ask(self, running: list[Attempt]) -> bool:
        """Send the call to one more; False if nobody takes it, or nobody pays."""
        origin, request = self._origin, self._request
        now = time.monotonic()
        found = origin.at_once(request.key, now, self._tried)
        if found is None or found[0] in self._tried or not origin.pays(now):
            return False
        left = request.deadline - now if request.deadline else 0.0
        if request.deadline and left <= 0.0:
            return False
        running.append(self._sent_to(*found, left, running[0].late))
        return True
