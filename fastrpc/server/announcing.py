"""Tell registries where a server is, and tell them first when it goes.

What keeps a server in registries stands above this storey, so it is found by name and
loaded when somebody announces for the first time.

Rules of the room:
  * a registry that is away keeps nobody from serving, and for no longer than told from
    ending;
  * who leaves says so, gives the word time to come around, and only then turns to those
    who are connected.
"""

import asyncio
import importlib
import logging
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final, Protocol, TypedDict, final

from fastrpc.call import ServiceInfo
from fastrpc.errors import ConfigError

if TYPE_CHECKING:
    from fastrpc.server.server import Server

#: What keeps services in a registry: module and attribute.
ANNOUNCER: Final = ("fastrpc.cluster.advertise", "make_announcer")

#: Seconds for which calls go on being taken after the farewell, if nobody says otherwise.
LEAVE_WAIT: Final = 2.0
LEAVE_WAIT_MAX: Final = 600.0

#: Seconds that a farewell may take when the registry is away: usually, and for who can't wait.
FAREWELL: Final = 3.0
_HURRY: Final = 0.6

_BUILT_IN: Final = "fastrpc."  # services that every server has


class AnnounceKeywords(TypedDict, total=False):
    """The keyword arguments of `Server.announce`, for type checkers; see `AnnounceOptions`."""

    services: Iterable[str] | None
    weight: float
    zone: str
    tags: Mapping[str, str] | None
    advertise: str | Sequence[str] | None
    id: str
    ttl: float
    leave_wait: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnounceOptions:
    """How a server stands in a registry; all keyword arguments of `Server.announce`.

    Attributes:
        services: Names of those to announce; None for all that are registered by now.
        weight: Its share of the calls beside others; 1 is usual.
        zone: Where it stands, such as a data centre.
        tags: Whatever else somebody wants to choose by.
        advertise: Host to be told where the server listens at every address of the machine;
            or whole targets, such as "tcp://203.0.113.7:7000", in place of its own. None:
            the address with which this machine goes to the registry.
        id: Among the instances of a service; made up if "", and better so: it should be
            another after each start.
        ttl: Seconds for which the entry outlives the server, if the registry is a target.
        leave_wait: Seconds for which calls go on being taken once the registry knows that
            the server leaves, until clients know it, too.
    """

    services: Iterable[str] | None = None
    weight: float = 1.0
    zone: str = ""
    tags: Mapping[str, str] | None = None
    advertise: str | Sequence[str] | None = None
    id: str = ""
    ttl: float = 15.0
    leave_wait: float = LEAVE_WAIT

    def __post_init__(self) -> None:
        """Refuse values that make no sense; what an instance refuses, it says itself."""
        wait: object = self.leave_wait
        is_number = isinstance(wait, int | float) and not isinstance(wait, bool)
        if not is_number or not 0 <= self.leave_wait <= LEAVE_WAIT_MAX:
            raise ConfigError(f"leave_wait must be 0 to {LEAVE_WAIT_MAX:.0f} seconds, got {wait!r}")
        if not isinstance(self.tags, Mapping | None):
            raise ConfigError(f"tags must be a mapping, got {self.tags!r}")
        if isinstance(self.services, str):
            raise ConfigError(f"services must be several names, got {self.services!r}")

    def chosen(self, offered: Sequence[tuple[str, str, str]]) -> "tuple[tuple[str, str, str], ...]":
        """Return which of the services *offered* are to be announced.

        Raises:
            ConfigError: One that is wanted is not there, or there is none.
        """
        wanted = None if self.services is None else set(self.services)
        if wanted is not None and (unknown := wanted - {name for name, _, _ in offered}):
            raise ConfigError(f"no such service to announce: {', '.join(sorted(unknown))}")
        found = tuple(each for each in offered if wanted is None or each[0] in wanted)
        if not found:
            raise ConfigError("there is no service to announce: register one first")
        return found


def read_announce(options: Mapping[str, Any]) -> AnnounceOptions:
    """Return the keyword arguments of `Server.announce` as options.

    Raises:
        ConfigError: One is unknown or wrong; the message names it.
    """
    if unknown := sorted(set(options) - {each.name for each in fields(AnnounceOptions)}):
        raise ConfigError(f"unknown option of announce: {', '.join(unknown)}")
    return AnnounceOptions(**options)


def services_of(registered: Iterable[ServiceInfo]) -> list[tuple[str, str, str]]:
    """Return name, version and group of all that answers; what is a default has two of them."""
    found = []
    for service in registered:
        if not service.name.startswith(_BUILT_IN):
            found.append((service.name, service.version, service.group))
            if service.default:
                found.append((service.name, "", ""))
    return found


class RegistryLike(Protocol):
    """A `fastrpc.cluster.Registry`, as far as this storey knows of it."""

    async def publish(self, service: str, instance: Any) -> None:
        """Write an instance down."""
        ...


class Announcer(Protocol):
    """What keeps services in one registry."""

    def begin(self) -> None:
        """Publish from now on."""
        ...

    async def wait_tried(self) -> bool:
        """Wait a moment for the first round."""
        ...

    async def leave(self, patience: float) -> bool:
        """Withdraw; return whether anybody has heard of it."""
        ...

    async def rest(self) -> None:
        """State nothing more, and leave what was stated as it is."""
        ...

    async def aclose(self) -> None:
        """End without a word."""
        ...


@final
class Announcing:
    """The registries in which one server stands.

    Args:
        server: Which.
        log: Where to say that a registry is away.
    """

    def __init__(self, server: "Server", log: logging.Logger) -> None:
        self._server = server
        self._log = log
        self._announcers: dict[Announcer, float] = {}
        self._is_leaving = False

    @property
    def announcers(self) -> list[Any]:
        """Each a `fastrpc.cluster.announcer.Announcer`; for what watches a server."""
        return list(self._announcers)

    async def begin(
        self,
        registry: str | RegistryLike,
        registered: Iterable[ServiceInfo],
        keywords: AnnounceKeywords,
    ) -> None:
        """Announce the services of the server from now on.

        Args:
            registry: Where.
            registered: What the server has to offer.
            keywords: Fields of `AnnounceOptions`, by name.

        Raises:
            ConfigError: An option or the registry can't be used, or the server does not serve.
        """
        options = read_announce(keywords)
        doors = self._server.doors_by_target
        if not doors:
            raise ConfigError("start the server first: a registry is told where it listens")
        services = options.chosen(services_of(registered))
        module, attribute = ANNOUNCER
        make = getattr(importlib.import_module(module), attribute)
        announcer: Announcer = await make(registry, doors, services, options, self._log)
        if self._is_leaving:
            await announcer.aclose()
            raise ConfigError("the server is closed; make a new one")
        self._announcers[announcer] = options.leave_wait
        announcer.begin()
        try:
            await announcer.wait_tried()
        except BaseException:
            self._announcers.pop(announcer, None)
            await announcer.aclose()
            raise

    async def leave(self, *, hurry: bool) -> None:
        """Withdraw everywhere, and wait until those who watch know it.

        Args:
            hurry: Don't wait.
        """
        self._is_leaving = self._server.hall.is_leaving = True
        heard: list[float] = []

        async def leave_one(announcer: Announcer, wait: float) -> None:
            if await announcer.leave(_HURRY if hurry else FAREWELL):
                heard.append(wait)

        async with asyncio.TaskGroup() as group:
            for announcer, wait in self._announcers.items():
                group.create_task(leave_one(announcer, wait))
        if heard and not hurry:
            await asyncio.sleep(max(heard))

    async def rest(self) -> None:
        """State nothing more, and withdraw nothing: somebody else sees to the entries now."""
        for announcer in self._announcers:
            await announcer.rest()

    async def leave_before(self, closing: Coroutine[Any, Any, None], *, hurry: bool) -> None:
        """Leave, and then await *closing*; if the first is cancelled, so is the second."""
        try:
            await self.leave(hurry=hurry)
        except BaseException:
            ending = asyncio.ensure_future(closing)
            asyncio.get_running_loop().call_soon(ending.cancel)  # once it has begun
            await asyncio.wait((ending,))
            raise
        await closing

    def forget(self) -> None:
        """Let go of everything: it is the parent's, this is a child."""
        self._announcers = {}
