"""Be what the calls of a view of a cluster go out through: pick, send, and see to failures."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, final

from fastrpc.call import Call, Reply
from fastrpc.call.deadline import within
from fastrpc.client.options import FailureMode
from fastrpc.cluster.attempts import Attempts, Request
from fastrpc.cluster.fleet import Fleet
from fastrpc.cluster.member import Member
from fastrpc.cluster.options import PERCENTILES
from fastrpc.errors import ConnectionLost
from fastrpc.frame import Lane, Picked
from fastrpc.policy import Resend, judge
from fastrpc.session import Late, Origin, Session
from fastrpc.session.origin import time_left

if TYPE_CHECKING:
    from fastrpc.cluster.client import ClusterClient

__all__ = ["CallPlan", "ClusterOrigin"]

#: Seconds until a second instance is asked as long as that is not known.
HEDGE_FIRST: Final = 0.1


@final
@dataclass(frozen=True, slots=True)
class CallPlan:
    """What a view of a cluster does about its calls.

    Attributes:
        mode: What becomes of those that fail.
        attempts: Most times each is sent.
        hedge_after: Seconds until a second instance is asked, or a share of calls.
        key: What the balancer goes by, None for nothing.
        key_of: Finds it in a call, in the place of *key*.
        idempotent: What the caller says of all methods; None for what they say.
    """

    mode: FailureMode
    attempts: int
    hedge_after: float | str
    key: object = None
    key_of: Callable[..., object] | None = None
    idempotent: bool | None = None

    def key_for(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None) -> object:
        """Return what the balancer goes by for a call."""
        return self.key if self.key_of is None else self.key_of(name, args, kwargs or {})


@final
class ClusterOrigin(Origin):
    """The instances of a cluster, as one view of its client uses them.

    Args:
        client: Whose view it is.
        plan: What to do about calls.
    """

    def __init__(self, client: "ClusterClient", plan: CallPlan) -> None:
        self._client = client
        self.plan = plan
        self.lanes = client.lanes
        self.codec = client.codec
        self.limits = client.limits
        self.chain = client.chain

    @property
    def fleet(self) -> Fleet:
        """The members."""
        return self._client.fleet

    # Calls that were sent by the lane and have failed

    def failed(self, picked: Picked, error: BaseException) -> bool:
        """Note how a call has failed; say whether its end is seen to here."""
        member: Any = picked.member
        self.fleet.failed(member, error, picked.started, time.monotonic())
        if picked.future.done():
            return True
        if self.plan.attempts == 1 or judge(error) is Resend.NEVER:
            return False
        _ = self._client.keep(self._send_again(picked, error))
        return True

    async def _send_again(self, picked: Picked, error: BaseException) -> None:
        future: asyncio.Future[Any] = picked.future
        task = asyncio.current_task()
        assert task is not None
        future.add_done_callback(lambda ended: task.cancel() if ended.cancelled() else None)
        key = self.plan.key_for(picked.method, picked.args, picked.kwargs)
        request = Request(
            picked.method, picked.args, picked.kwargs, picked.decode, picked.caller.metadata,
            picked.deadline, key,
        )  # fmt: skip
        member: Any = picked.member
        try:
            attempt = await Attempts(self, request, member).run(error)
        except asyncio.CancelledError:
            if not future.done():  # not its caller, but the client was closed
                future.set_exception(ConnectionLost(f"{picked.method}: closed here", "maybe"))
            raise
        except Exception as exc:
            if not future.done():
                future.set_exception(exc)
        else:
            if not future.done():
                future.set_result(attempt.value)

    # Calls that nobody takes at once, and those with interceptors

    def start_waiting(
        self,
        timeout: float,
        metadata: bytes,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any] | None,
        decode: Any,
    ) -> Awaitable[Any]:
        """Start a call that can't be sent at once."""
        return self._client.start(self._value(timeout, metadata, name, args, kwargs, decode))

    async def _value(
        self,
        seconds: float,
        metadata: bytes,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any] | None,
        decode: Any,
    ) -> Any:
        now = time.monotonic()
        seconds = within(seconds, now)
        deadline = now + seconds if seconds else 0.0
        key = self.plan.key_for(name, args, kwargs)
        request = Request(name, args, kwargs, decode, metadata, deadline, key)
        return (await Attempts(self, request).run()).value

    async def send_call(self, call: Call, decode: Any) -> Reply:
        """Be the innermost handler of calls that go through interceptors."""
        time_left(call)  # raises if there is none
        args, name = tuple(call.args), call.method
        key = self.plan.key_for(name, args, call.kwargs)
        packed = call.packed(self.limits)
        request = Request(name, args, call.kwargs, decode, packed, call.deadline, key)
        attempt = await Attempts(self, request).run()
        return Reply(attempt.value, attempt.trailers)

    # Places

    def at_once(
        self, key: object, now: float, avoid: Sequence[Member] = ()
    ) -> tuple[Member, Lane] | None:
        """Return an instance that takes a call now, and the lane to it."""
        member: Any = self._client.balancer.pick(key, now, avoid)
        lane = member.lane() if member is not None else None
        return None if lane is None else (member, lane)

    async def place(
        self,
        name: str,
        deadline: float,
        key: object,
        avoid: Sequence[Member],
        same: Member | None,
    ) -> tuple[Member, Lane, float, Late]:
        """Wait for an instance that takes a call.

        Returns it, the lane to it, the seconds that are left, and what makes the error of a
        call that is late all the same. Send before the next await.

        Args:
            name: Full method name.
            deadline: On the monotonic clock, 0 for none.
            key: What the balancer goes by.
            avoid: Those that were tried; taken only if all others take none.
            same: The one to take again, if it takes calls.
        """
        client = self._client
        now = time.monotonic()
        left = deadline - now if deadline else 0.0
        if not deadline or left > 0.0:
            client.begin()
            lane = same.lane() if same is not None and not same.is_retired else None
            if lane is not None and same is not None:
                return same, lane, left, client.late(name, now, deadline)
            if (found := self.at_once(key, now, avoid)) is not None:
                return *found, left, client.late(name, now, deadline)
        while True:
            lane, left, late = await client.wait_for_place(name, now, deadline)
            member = self.fleet.member_of(lane)
            if member is not None:
                return member, lane, left, late
            self.unused()

    async def session_for(self, name: str, seconds: float) -> tuple[Session, float, Late]:
        """Wait for a connection that takes a call, see `Origin`."""
        now = time.monotonic()
        deadline = now + seconds if seconds else 0.0
        _, lane, left, late = await self.place(name, deadline, self.plan.key, (), None)
        return lane.owner, left, late

    def session_at_once(self) -> Session | None:
        """Return a connection that takes a call right now."""
        found = self.at_once(self.plan.key, time.monotonic())
        return None if found is None else found[1].owner

    def lane_at_once(self, name: str) -> Lane:
        """Return a lane that takes a oneway call of *name* now."""
        found = self.at_once(self.plan.key, time.monotonic())
        return self._client.lane_at_once(name) if found is None else found[1]

    def unused(self) -> None:
        """Let the next in line have a place that was given."""
        self._client.unused()

    # What attempts ask

    def others(self, tried: Sequence[Member], now: float) -> bool:
        """Say whether an instance takes calls that was not tried and does not rest."""
        members = self.fleet.members.values()
        return any(
            each not in tried and each.rests_until <= now and each.takes() for each in members
        )

    def pays(self, now: float) -> bool:
        """Take one retry out of the budget; False if there is none left."""
        return self._client.pays(now)

    async def is_idempotent(self, name: str, deadline: float) -> bool:
        """Say whether *name* may be run twice; if nobody knows by *deadline*, it may not."""
        if self.plan.idempotent is not None:
            return self.plan.idempotent
        return await self._client.is_idempotent(name, deadline)

    async def pause(self, seconds: float) -> None:
        """Wait before another attempt.

        Raises:
            ConnectionLost: The client was closed meanwhile.
        """
        await self._client.pause(seconds)

    def took(self, name: str, seconds: float) -> None:
        """Note how long the first attempt of a call of *name* has taken."""
        self._client.timings.add(name, seconds)

    def with_key(
        self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> "ClusterOrigin":
        """Return an origin for what goes by the key of one call, such as a stream."""
        if self.plan.key_of is None:
            return self
        key = self.plan.key_for(name, args, kwargs)
        return ClusterOrigin(self._client, replace(self.plan, key=key, key_of=None))

    def hedge_delay(self, name: str) -> float:
        """Return how long to wait before a second instance is asked, in seconds."""
        after = self.plan.hedge_after
        if not isinstance(after, str):
            return after
        return self._client.timings.percentile(name, PERCENTILES[after]) or HEDGE_FIRST
