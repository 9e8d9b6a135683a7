"""Take the instances from DNS: `dns://name:7000`, and `dns://_arith._tcp.name`.

The first gives an instance for each address of the name, as the system resolves it (so
/etc/hosts counts). The second reads SRV records, which have ports and weights of their
own; that needs dnspython, `pip install 'fastrpc[dns]'`. Any service has the same list.

A name that does not exist, or has no addresses, is a list without instances and no
failure: a name server has said so. Whoever looks at lists doubts it, if it was not empty
before, and keeps those who were there for a while; so nothing is lost by a mistake in a
zone, and a service that was taken down is not called for ever. A name server that does
not answer, or can't, says nothing: `RegistryLost`.

Rules of the room:
  * nobody but those who look waits for a resolver that hangs: it has a thread of its own;
  * a name is looked up every 30 seconds, SRV records when their time is over, and what
    was hinted at comes no sooner than 30 seconds after the look before.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Final, final

from fastrpc.cluster.instance import INSTANCES_MAX, Instance, check_service, id_of
from fastrpc.cluster.registries.aside import Aside
from fastrpc.cluster.registry import Change, Listing, Losses, Registry
from fastrpc.cluster.target import ClusterTarget
from fastrpc.errors import ConfigError, RegistryLost
from fastrpc.transport import join_host

try:
    from fastrpc.cluster.registries.srv import look_up_service
except ModuleNotFoundError as _error:
    if not (_error.name or "").startswith("dns"):
        raise
    look_up_service = None  # type: ignore[assignment]

__all__ = ["DnsRegistry", "Found", "look_up_addresses"]

#: Seconds between looks, and the least between one and another that was hinted at.
EVERY: Final = 30.0

#: Least and most seconds for which SRV records are believed, whatever they say.
TTL_MIN: Final = 5.0
TTL_MAX: Final = 300.0

#: Seconds that a look may take.
PATIENCE: Final = 10.0

#: Answers of the resolver that say that there is nothing, and not that it doesn't know.
_NOTHING: Final = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


@final
@dataclass(frozen=True, slots=True)
class Found:
    """What a look has found.

    Attributes:
        listing: The instances.
        again: Seconds after which to look again.
    """

    listing: Listing
    again: float = EVERY


@final
class DnsRegistry(Registry):
    """The instances behind a name.

    Args:
        target: The name.
        ttl: Of no use: nothing is published.
        look: What looks, and blocks, instead of the resolver.
        clock: Returns seconds, monotonic.
        apart: Least seconds between a look and one that was hinted at.

    Raises:
        ConfigError: The name has SRV records, and dnspython is not installed.
    """

    can_publish = False

    def __init__(
        self,
        target: ClusterTarget,
        *,
        ttl: float = float("inf"),
        look: Callable[[], Found] | None = None,
        clock: Callable[[], float] = time.monotonic,
        apart: float = EVERY,
    ) -> None:
        ((self._name, port),) = target.hosts
        if look is None:
            look = _look_at(self._name, port)
        self._aside = Aside(look, "fastrpc-dns")
        self._clock = clock
        self._apart = apart
        self._looked = -float("inf")
        self._hints = 0
        self._wakers: set[asyncio.Event] = set()
        self._is_closed = False

    async def publish(self, service: str, instance: Instance) -> None:
        """Refuse, see `Registry`."""
        raise ConfigError("nothing can be published in DNS: whoever keeps the zone writes there")

    async def withdraw(self, service: str, id: str) -> None:
        """Do nothing: nothing here is ours."""

    async def list(self, service: str) -> Listing:
        """Return what the name stands for now."""
        check_service(service)
        return (await self._find()).listing

    async def watch(self, service: str) -> AsyncGenerator[Change, None]:
        """Give what the name stands for, and another list when that has changed."""
        check_service(service)
        told: Listing | None = None
        while True:
            found = await self._find()
            if found.listing != told:
                told = found.listing
                yield told
            await self._rest(found.again)

    async def services(self) -> tuple[str, ...]:
        """Return the name: it stands for all services."""
        return (self._name.replace(":", "-"),)

    def hint(self) -> None:
        """Look again soon, but no sooner than 30 seconds after the look before."""
        self._hints += 1
        self._wake()

    async def wait_lost(self, since: int = 0) -> int:
        """Wait for ever: nothing was published."""
        return await Losses().wait(since)

    async def aclose(self) -> None:
        """Let go; twice is fine."""
        self._is_closed = True
        self._wake()

    # Inside

    async def _find(self) -> Found:
        self._check_open()
        try:
            found = await self._aside.ask(PATIENCE)
        except TimeoutError:
            raise RegistryLost(f"dns {self._name}: no answer within {PATIENCE:.0f} s") from None
        self._looked = self._clock()
        self._check_open()
        return found

    async def _rest(self, again: float) -> None:
        """Wait until it is time to look again, or time for what was hinted at."""
        wake = asyncio.Event()
        self._wakers.add(wake)
        due, hints = self._clock() + again, self._hints
        try:
            while (left := due - self._clock()) > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await wake.wait()
                wake.clear()
                self._check_open()
                if self._hints != hints:
                    due = min(due, self._looked + self._apart)
        finally:
            self._wakers.discard(wake)

    def _wake(self) -> None:
        for wake in self._wakers:
            wake.set()

    def _check_open(self) -> None:
        if self._is_closed:
            raise RegistryLost("this registry is closed")


def look_up_addresses(name: str, port: int) -> Found:
    """Return an instance for each address of *name*. Blocks until there is an answer.

    Raises:
        RegistryLost: The resolver doesn't know.
    """
    try:
        answers = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno in _NOTHING:
            return Found(Listing(()))
        raise RegistryLost(f"dns {name}: {error.strerror or error}") from None
    except (OSError, UnicodeError) as error:
        raise RegistryLost(f"dns {name}: {error}") from None
    # The order is the resolver's, which may turn it at each look: that is no change.
    targets = sorted({f"tcp://{join_host(str(place[0]), port)}" for *_, place in answers})
    return Found(
        Listing(
            tuple(Instance(id=id_of(each), addresses=(each,)) for each in targets[:INSTANCES_MAX])
        )
    )


def _look_at(name: str, port: int) -> Callable[[], Found]:
    if port:
        return lambda: look_up_addresses(name, port)
    if look_up_service is None:
        raise ConfigError(f"dns://{name} needs dnspython: pip install 'fastrpc[dns]'")

    def look() -> Found:
        instances, skipped, ttl = look_up_service(name)
        ordered = tuple(sorted(instances, key=lambda each: each.id))
        return Found(Listing(ordered, skipped), min(max(ttl, TTL_MIN), TTL_MAX))

    return look
