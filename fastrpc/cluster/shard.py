"""Find the instance that owns a key, and send it the part of a call that has its keys.

Rules of the room:
  * whose a key is depends on the list alone: the ring has those who are listed as up, with
    the weights that they are listed with, so that all clients agree, and who rests for a
    moment or joins slowly moves no keys;
  * it is the ring of `balance="consistent_hash"`, so that a single call with a key goes the
    same way, as long as everybody may be picked;
  * a client that has just begun first tries all instances: else the first that answers would
    get everybody's parts for a moment;
  * a part is a call like any other: it goes to another instance if its owner can't be called
    now, and may do so if it fails.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Any, final

from fastrpc.cluster.attempts import Attempt, Attempts, Request
from fastrpc.cluster.balancers.ring import Ring, place_of
from fastrpc.cluster.broadcast import ToMember, wait_for_members
from fastrpc.cluster.member import Member
from fastrpc.cluster.origin import ClusterOrigin
from fastrpc.errors import ConfigError, InvalidArgument

if TYPE_CHECKING:
    from fastrpc.cluster.client import ClusterClient

__all__ = ["Shards", "owners"]


@final
class Shards:
    """Which instance owns which key."""

    def __init__(self) -> None:
        self._ring = Ring()
        self._weights: dict[str, float] = {}

    def owners(self, members: Sequence[Member], keys: Sequence[Any]) -> list[Member]:
        """Return whose each of *keys* is.

        Args:
            members: At least one.
            keys: Text, bytes, numbers or tuples of these.

        Raises:
            ConfigError: One is nothing that is the same in every process.
        """
        weights = {member.instance.id: member.instance.weight for member in members}
        if weights != self._weights:
            self._ring.update(weights)
            self._weights = weights
        by_id = {member.instance.id: member for member in members}
        return [by_id[self._owner(place_of(key))] for key in keys]

    def _owner(self, place: int) -> str:
        ids, at = self._ring.find(place)
        return ids[at] if at < len(ids) else next(self._ring.walk(place))


@final
class ToOwner(ToMember):
    """The instance that owns some keys: it gets the call first, if it may be picked.

    Args:
        client: Whose member it is.
        route: The view's.
        metadata: Packed metadata of the view.
        member: The instance.
        key: One of its keys; another instance is chosen by it, if it comes to that.
    """

    def __init__(
        self,
        client: "ClusterClient",
        route: ClusterOrigin,
        metadata: bytes,
        member: Member,
        key: object,
    ) -> None:
        super().__init__(client, route, metadata, member)
        self._key = key

    async def _send(self, request: Request) -> Attempt:
        request = replace(request, key=self._key)
        chosen = self._client.fleet.chosen  # who rests is left alone here as well
        first = self._member if self._member in chosen else None
        return await Attempts(self._route, request, first=first).run()


async def owners(
    client: "ClusterClient",
    route: ClusterOrigin,
    metadata: bytes,
    name: str,
    keys: Sequence[Any],
    deadline: float,
) -> list[ToOwner]:
    """Return whose each of *keys* is.

    Raises:
        InvalidArgument: One is nothing that can be a key.
        FastRPCError: Nobody can be called, or nobody in time.
    """
    members = await _ready(client, name, deadline)
    try:
        found = client.shards.owners(members, keys)
    except ConfigError as exc:
        raise InvalidArgument(f"{name}: {exc}", method=name) from None
    made: dict[Member, ToOwner] = {}
    for member, key in zip(found, keys, strict=True):
        if member not in made:
            made[member] = ToOwner(client, route, metadata, member, key)
    return [made[member] for member in found]


async def _ready(client: "ClusterClient", name: str, deadline: float) -> list[Member]:
    """Return who is listed as up, once somebody may be picked and everybody was tried."""
    started = time.monotonic()
    while True:
        members = await wait_for_members(client, name, deadline)
        if any(map(_is_new, members)):
            is_news = await client.wait_for_news(deadline)
            if not is_news:
                raise client.late(name, started, deadline)(time.monotonic(), sent=False)
        elif client.fleet.chosen:
            return members
        else:
            await client.wait_for_place(name, started, deadline)
            client.unused()


def _is_new(member: Member) -> bool:
    """Say whether a member that was there from the start is dialled for the first time."""
    if member.came > -inf or member.lanes:
        return False
    return not any(link.ended for link in member.links)
