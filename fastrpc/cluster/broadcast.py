"""Call one certain instance of a cluster: what broadcasts are made of.

Rules of the room:
  * everybody is every listed instance that is up, whatever is thought of it: one that rests,
    or is left alone for a while, must hear a broadcast, too;
  * who is being dialled is waited for until that attempt has ended; who can't be reached
    gives an error;
  * nothing is sent twice;
  * how each call ended is known to the member, as of any call.
"""

import copy
import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from fastrpc.call import Call, Reply
from fastrpc.client.broadcast import Recipient
from fastrpc.cluster.attempts import Attempt, Request
from fastrpc.cluster.instance import InstanceState
from fastrpc.cluster.member import Member
from fastrpc.cluster.origin import ClusterOrigin
from fastrpc.errors import ConnectFailed
from fastrpc.frame import Lane, checked
from fastrpc.session import Late, outcome
from fastrpc.session.origin import Decode, time_left

if TYPE_CHECKING:
    from fastrpc.cluster.client import ClusterClient

__all__ = ["ToMember", "everybody", "wait_for_members"]


class ToMember(Recipient):
    """One instance, as a view calls it.

    Args:
        client: Whose member it is.
        route: The view's.
        metadata: Packed metadata of the view.
        member: The instance.
    """

    def __init__(
        self, client: "ClusterClient", route: ClusterOrigin, metadata: bytes, member: Member
    ) -> None:
        self._client = client
        self._route = route
        self._metadata = metadata
        self._member = member
        self.id = member.instance.id

    def __str__(self) -> str:
        """Tell which it is, and where."""
        return f"{self.id} at {self._member.instance.addresses[0]}"

    async def call(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        decode: Decode | None,
        deadline: float,
    ) -> Any:
        """Make the call, through the interceptors if there are any."""
        chain = self._route.chain
        if chain is None:
            request = Request(name, args, kwargs, decode, self._metadata, deadline, None)
            return (await self._send(request)).value
        call = Call(name, args, kwargs, self._metadata, deadline)
        call.sender = partial(self._handle, decode)
        return checked(await chain(call), name).value

    async def _handle(self, decode: Decode | None, call: Call) -> Reply:
        """Be the innermost handler."""
        time_left(call)  # raises if there is none
        packed = call.packed(self._route.limits)
        attempt = await self._send(
            Request(call.method, tuple(call.args), call.kwargs, decode, packed, call.deadline, None)
        )
        return Reply(attempt.value, attempt.trailers)

    async def _send(self, request: Request) -> Attempt:
        """Send the call to the instance; return the attempt, which went well."""
        lane, left, late = await self._lane(request.name, request.deadline)
        attempt = Attempt(self._route, self._member, lane, late)
        attempt.send(request, left)
        await attempt.wait()
        if attempt.error is not None:
            raise attempt.in_words(request.deadline)
        return attempt

    async def _lane(self, name: str, deadline: float) -> tuple[Lane, float, Late]:
        """Wait for a connection to the instance, and for room on it.

        Returns the lane, the seconds that are left, 0 for no deadline, and what makes the
        error of a call that is late.

        Raises:
            ConnectFailed: There is no connection, and none is being made.
            DeadlineExceeded: The time was up first.
        """
        client, member = self._client, self._member
        started = time.monotonic()
        connecting = queued = 0.0
        while True:
            now = time.monotonic()
            left = deadline - now if deadline else 0.0
            late = partial(
                outcome.late, name, started, deadline, address=member.instance.addresses[0],
                connecting=connecting, queued=queued,
            )  # fmt: skip
            if deadline and left <= 0.0:
                raise late(now, sent=False)
            for lane in member.lanes:
                if lane.ready and len(lane.table) < lane.peer_calls:
                    return lane, left, late
            if member.lanes:
                await client.wait_for_room(member, deadline)
                queued += time.monotonic() - now
            else:
                self._check_dialling()
                await client.wait_for_news(deadline)
                connecting += time.monotonic() - now

    def _check_dialling(self) -> None:
        member = self._member
        if member.is_retired:
            raise ConnectFailed(f"{self} is not listed any more")
        if not member.links or any(link.is_dialling for link in member.links):
            return
        for link in member.links:
            if link.failure is not None:
                raise copy.copy(link.failure)  # its own for each: tracebacks are not shared
        raise ConnectFailed(f"{self}: there is no connection")


async def everybody(
    client: "ClusterClient", route: ClusterOrigin, metadata: bytes, name: str, deadline: float
) -> list[ToMember]:
    """Return who gets a broadcast: at least one.

    Raises:
        FastRPCError: As `wait_for_members` does.
    """
    members = await wait_for_members(client, name, deadline)
    return [ToMember(client, route, metadata, member) for member in members]


async def wait_for_members(client: "ClusterClient", name: str, deadline: float) -> list[Member]:
    """Return the members that are up; wait until there is one.

    Raises:
        Unavailable: None is listed.
        RegistryLost: Nobody knows whether any is.
        DeadlineExceeded: The time was up first.
        ConnectionLost: The client is closed.
    """
    started = time.monotonic()
    patience = started + client.patience
    until = min(deadline, patience) if deadline else patience
    client.begin()
    while True:
        members = client.fleet.members.values()
        up = [member for member in members if member.instance.state is InstanceState.UP]
        if up:
            return up
        if not await client.wait_for_news(until):
            now = time.monotonic()
            if deadline and now >= deadline:
                raise client.late(name, started, deadline)(now, sent=False)
            raise client.why_nobody()
