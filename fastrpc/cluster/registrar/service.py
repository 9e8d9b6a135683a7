"""Answer those who publish to a registry server, and those who look things up there.

Rules of the room:
  * a public method here can be called by anybody who can connect;
  * a watch holds no queue and no list: it is woken, and looks up what has changed since it
    last did; one that is too slow for the history gets a new list, which all share;
  * what callers send is checked before anything is done with it.
"""

import re
from collections.abc import AsyncIterator, Callable
from typing import Final, final

from fastrpc.call import GIVEN, Peer
from fastrpc.cluster.instance import INSTANCE_MAX, check_id, check_service
from fastrpc.cluster.registrar.contract import PART, News, Refusal, RegistryContract
from fastrpc.cluster.registrar.keeper import Keeper
from fastrpc.cluster.registrar.leases import Event, Row
from fastrpc.cluster.registrar.lists import Lists
from fastrpc.errors import ConfigError, RpcError

__all__ = ["OWNER_MAX", "TTL_MAX", "RegistryService"]

#: Longest of all leases, and the shortest.
TTL_MAX: Final = 86_400.0
TTL_MIN: Final = 1.0

#: Longest token of an owner.
OWNER_MAX: Final = 64

_PREFIX: Final = re.compile(r"[A-Za-z0-9._~-]{1,128}(/[A-Za-z0-9._~-]{1,128}){0,7}")
_OWNER: Final = re.compile(rf"[A-Za-z0-9._~-]{{1,{OWNER_MAX}}}")


@final
class RegistryService(RegistryContract):
    """Keep instances of services for their owners, as long as these say so.

    Args:
        keeper: What does.
        max_ttl: Seconds of the longest lease.
    """

    def __init__(self, keeper: Keeper, max_ttl: float = TTL_MAX) -> None:
        self._keeper = keeper
        self._leases = keeper.leases
        self._lists = Lists(keeper.leases, keeper.epoch)
        self._max_ttl = max_ttl

    async def publish(
        self,
        prefix: str,
        service: str,
        id: str,
        text: bytes,
        owner: str,
        ttl: float,
        peer: Peer = GIVEN,
    ) -> None:
        """Write an entry, or renew it: it is *owner*'s for *ttl* seconds from now."""
        place, id = _place(prefix, service), _checked(check_id, id)
        if len(text) > INSTANCE_MAX:
            raise _wrong(f"an entry of {len(text)} bytes is over {INSTANCE_MAX}")
        if not TTL_MIN <= ttl <= self._max_ttl:
            raise _wrong(f"ttl must be {TTL_MIN:g} to {self._max_ttl:g} seconds, got {ttl!r}")
        await self._keeper.publish(place, id, Row(text, _owner(owner), ttl), _via(peer))

    async def withdraw(self, prefix: str, service: str, id: str, owner: str) -> bool:
        """Take an entry away if it is *owner*'s; return whether it was."""
        place, id = _place(prefix, service), _checked(check_id, id)
        return await self._keeper.withdraw(place, id, _owner(owner))

    async def services(self, prefix: str) -> list[str]:
        """Return the names of services that have entries, sorted."""
        return self._leases.places(_prefix(prefix))

    async def listing(self, prefix: str, service: str) -> AsyncIterator[News]:
        """Give all entries of a service, in parts."""
        lists, number = self._lists.get(_place(prefix, service)), 0
        while (news := lists.part(number)).is_more:
            yield news
            number += 1
        yield news

    async def watch(
        self,
        prefix: str,
        service: str,
        epoch: str = "",
        revision: int = 0,
        peer: Peer = GIVEN,
    ) -> AsyncIterator[News]:
        """Give what has changed since a revision, or all if nobody knows any more; go on."""
        place = _place(prefix, service)
        told = revision if epoch == self._keeper.epoch else -1
        is_first = True
        wake = self._keeper.enter(via := _via(peer))
        self._leases.watch(place, wake.set)
        try:
            while True:
                wake.clear()
                changes = self._leases.since(place, told)
                if changes is None:
                    lists, number = self._lists.get(place), 0
                    told = lists.revision
                    while lists.part(number).is_more:
                        yield lists.part(number)
                        number += 1
                    yield lists.part(number)
                    del lists
                    is_first = False
                    continue  # it may have changed since
                if changes or is_first:
                    told, news = self._part(changes)
                    del changes
                    yield news
                    del news
                    is_first = False
                    continue
                await self._keeper.wait(wake)
        finally:
            self._leases.unwatch(place, wake.set)
            self._keeper.leave(wake, via)

    async def owned(self, owner: str, peer: Peer = GIVEN) -> AsyncIterator[int]:
        """Give 0 at once, and a number whenever *owner* has lost entries: to time, to another."""
        owner = _owner(owner)
        wake = self._keeper.enter(via := _via(peer))
        self._leases.guard(owner, wake.set)
        times = 0
        try:
            while True:
                yield times
                await self._keeper.wait(wake)
                wake.clear()
                times += 1
        finally:
            self._leases.unguard(owner, wake.set)
            self._keeper.leave(wake, via)

    # Inside

    def _part(self, changes: list[Event]) -> tuple[int, News]:
        """Return as many of *changes* as go into one message, and up to where they go."""
        entries: list[tuple[str, bytes | None, bool]] = []
        size = 0
        for each in changes:
            if size >= PART:
                break
            entries.append((each.id, each.text, each.is_explicit))
            size += len(each.id) + len(each.text or b"") + 8
        whole = len(entries) == len(changes)
        now = self._leases.revision if whole else changes[len(entries) - 1].revision
        return now, News(self._keeper.epoch, now, entries)


def _via(peer: Peer | None) -> str:
    """Return what tells the connection of *peer* from all others; "" without one."""
    return f"{peer.address} {peer.call_id(0)}" if peer is not None else ""


def _wrong(text: str) -> RpcError:
    return RpcError(Refusal.WRONG, text)


def _checked(check: Callable[[object], str], given: str) -> str:
    try:
        return check(given)
    except ConfigError as error:
        raise _wrong(_short(str(error))) from None


def _prefix(prefix: str) -> str:
    if not _PREFIX.fullmatch(prefix):
        raise _wrong(f"a prefix is 1 to 8 names with / between them, got {_short(repr(prefix))}")
    return prefix


def _place(prefix: str, service: str) -> str:
    return f"{_prefix(prefix)}/{_checked(check_service, service)}"


def _owner(token: str) -> str:
    if not _OWNER.fullmatch(token):
        raise _wrong(f"an owner's token is 1 to {OWNER_MAX} letters, digits and . _ ~ -")
    return token


def _short(text: str) -> str:
    """Return *text*, but not all that a peer could put into it."""
    return text if len(text) <= 200 else text[:200] + "..."
