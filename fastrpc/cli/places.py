"""Find out what a target of `ls` and `top` names: services, instances of one, or a server.

Rules of the room:
  * nothing is asked of the instances here, only of who knows them;
  * a registry that does not answer is an error; one that lists nobody is not.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Final, final

from fastrpc.cli.asking import single
from fastrpc.cluster import (
    ClusterTarget,
    InstanceState,
    Listing,
    Registry,
    is_cluster,
    open_registry,
    parse_cluster,
)
from fastrpc.errors import ConfigError, FastRPCError, RegistryLost

#: Seconds that a registry has for all its answers to one command.
PATIENCE: Final = 15.0

#: Services whose instances are counted at the same time.
_AT_ONCE: Final = 16

#: Registries that know one list, whatever the service.
_NAMELESS: Final = ("static", "dns")

#: What is asked for there.
_ANY: Final = "any"

#: Most names that an error repeats.
_NAMED: Final = 10


@final
@dataclass(frozen=True, slots=True)
class ServiceRow:
    """A service, and how many instances of it are listed.

    Attributes:
        name: Of the service.
        instances: How many are listed.
        states: How many are in which state.
        skipped: Entries that could not be read.
        problem: Why they can't be listed, "" if they can.
    """

    name: str
    instances: int
    states: dict[str, int]
    skipped: int
    problem: str = ""


def named_service(where: ClusterTarget) -> str:
    """Return the service that a target names, "" if it names none and has to."""
    return where.service or (_ANY if where.scheme in _NAMELESS else "")


async def list_instances(target: str) -> Listing | None:
    """Return the instances that *target* names; None if it names a registry and no service.

    Raises:
        ConfigError: It can't be a target.
        RegistryLost: Nobody could be asked.
    """
    if not is_cluster(target):
        return Listing((single(target),))
    where = parse_cluster(target)
    service = named_service(where)
    if not service:
        return None
    registry = open_registry(where)
    try:
        async with asyncio.timeout(PATIENCE):
            return await registry.list(service)
    except TimeoutError:
        raise _silent(where) from None
    finally:
        await registry.aclose()


async def list_services(target: str) -> tuple[ServiceRow, ...]:
    """Return the services of the registry that *target* names, sorted by name.

    Raises:
        ConfigError: It can't be a target.
        RegistryLost: Nobody could be asked.
    """
    where = parse_cluster(target)
    registry = open_registry(where)
    room = asyncio.Semaphore(_AT_ONCE)
    try:
        async with asyncio.timeout(PATIENCE):
            names = await registry.services()
            return tuple(await asyncio.gather(*(_row(registry, name, room) for name in names)))
    except TimeoutError:
        raise _silent(where) from None
    finally:
        await registry.aclose()


async def only_service(where: ClusterTarget, registry: Registry) -> str:
    """Return the service that *where* names, or the only one there is.

    Raises:
        ConfigError: There are several, or none.
        RegistryLost: Nobody could be asked.
    """
    if named := named_service(where):
        return named
    try:
        async with asyncio.timeout(PATIENCE):
            names = await registry.services()
    except TimeoutError:
        raise _silent(where) from None
    if len(names) == 1:
        return names[0]
    if not names:
        raise ConfigError(f"target {where}: no service is listed there")
    some = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
    raise ConfigError(f"target {where}: which service? there are {some}")


async def _row(registry: Registry, name: str, room: asyncio.Semaphore) -> ServiceRow:
    async with room:
        try:
            listing = await registry.list(name)
        except FastRPCError as error:
            return ServiceRow(name, 0, {}, 0, str(error) or type(error).__name__)
    counted = Counter(each.state for each in listing.instances)
    states = {state.value: counted[state] for state in InstanceState}
    return ServiceRow(name, len(listing.instances), states, listing.skipped)


def _silent(where: ClusterTarget) -> RegistryLost:
    return RegistryLost(f"{where}: no answer within {PATIENCE:g} s")
