"""Make of a server what a registry is told: where it can be dialled, one entry a service.

"0.0.0.0" is where one listens, and nowhere to connect to. What stands in its place is
what somebody has said, else the address with which this machine goes to the registry:
who finds a server there comes from the same direction. No packet is sent for that.

Rules of the room:
  * an address of this machine alone is told only if there is no other;
  * nothing is guessed that somebody has said.
"""

import asyncio
import ipaddress
import logging
import re
import secrets
import socket
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

from fastrpc.cluster.announcer import Announcer
from fastrpc.cluster.engines import open_registry
from fastrpc.cluster.instance import ADDRESSES_MAX, Instance, check_id
from fastrpc.cluster.registry import Registry
from fastrpc.cluster.target import ClusterTarget, parse_cluster
from fastrpc.errors import ConfigError
from fastrpc.server.announcing import AnnounceOptions
from fastrpc.transport import Target, parse_target
from fastrpc.transport.address import is_loopback

__all__ = ["Hosts", "find_hosts", "make_announcer", "make_entries", "make_id", "reachable"]

#: Host of a target that means every address of this machine, and the family behind it.
_EVERYWHERE: Final = {
    "0.0.0.0": socket.AF_INET,
    "::": socket.AF_INET6,
}

#: Which door is behind an address of a scheme for a client of ours.
_DOORS: Final = {"ws": "websocket", "wss": "websocket", "http": "upgrade", "https": "upgrade"}
_OTHER_TONGUES: Final = frozenset({"jsonrpc", "msgpackrpc"})

#: Longest wait for the name of a registry, in seconds.
_PATIENCE: Final = 1.0

#: What stands for this machine, for each family that it has one for.
Hosts = dict[int, str]


async def find_hosts(registry: Sequence[tuple[str, int]]) -> Hosts:
    """Return the addresses with which this machine goes to the hosts of *registry*.

    A registry on this machine says nothing about it; neither does one whose name is not
    known. Then it is the host name, if it stands for anything, else loopback.
    """
    loop = asyncio.get_running_loop()
    found: Hosts = {}
    for host, port in registry:
        for family, address in await _resolve(loop, host, port or 1):
            if source := _source_of(family, address):
                found.setdefault(family, source)
    if found:
        return found
    name = socket.gethostname()
    families = {family for family, _ in await _resolve(loop, name, 1)}
    if families:
        return dict.fromkeys(families, name)
    return {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


async def _resolve(
    loop: asyncio.AbstractEventLoop, host: str, port: int
) -> list[tuple[int, tuple[Any, ...]]]:
    try:
        async with asyncio.timeout(_PATIENCE):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except (OSError, TimeoutError, UnicodeError):
        return []
    return [(int(each[0]), each[4]) for each in found if each[0] in _EVERYWHERE.values()]


def _source_of(family: int, address: tuple[Any, ...]) -> str:
    """Return the address that a packet to *address* would come from; "" if there is no way."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect(address)  # chooses a route, and sends nothing
            source = str(sock.getsockname()[0])
    except OSError:
        return ""
    is_narrow = ipaddress.ip_address(source).is_link_local or is_loopback(source)
    return "" if is_narrow else source  # both mean something else on another machine


def reachable(
    doors_by_target: "dict[str, tuple[str, ...]]",
    hosts: Hosts,
    advertise: str | Sequence[str] | None = None,
) -> tuple[str, ...]:
    """Return the targets that others can dial, best first.

    Args:
        doors_by_target: Where the server listens, and what is spoken there.
        hosts: What stands for this machine.
        advertise: Hosts to be told in place of "every address"; or whole targets, such as
            "tcp://203.0.113.7:7000", and then they are all that is told.

    Raises:
        ConfigError: *advertise* makes no sense, or nothing can be reached.
    """
    told = [advertise] if isinstance(advertise, str) else list(advertise or ())
    if whole := [each for each in told if "://" in each]:
        if len(whole) < len(told):
            raise ConfigError("advertise: either hosts or whole targets, such as tcp://host:7000")
        return tuple(str(_dialled(parse_target(each))) for each in whole[:ADDRESSES_MAX])
    targets = [
        target
        for target, doors in (
            (parse_target(text), doors) for text, doors in doors_by_target.items()
        )
        if target.scheme not in _OTHER_TONGUES and _DOORS.get(target.scheme, "fastrpc") in doors
    ]
    found = _named(targets, hosts, told)
    if not found:  # for this machine has no address of their kind, as far as we know
        name = socket.gethostname()
        found = _named(targets, dict.fromkeys(_EVERYWHERE.values(), name), told)
    # Addresses of this machine alone lead whoever comes from elsewhere astray.
    public = [text for text, target in found.items() if not target.is_private]
    if not found:
        raise ConfigError("the server listens nowhere that clients from a registry could use")
    return tuple((public or list(found))[:ADDRESSES_MAX])


def _named(targets: Sequence[Target], hosts: Hosts, told: Sequence[str]) -> dict[str, Target]:
    """Return where *targets* can be dialled, each place once, by their text."""
    return {str(each): each for target in targets for each in _dial_of(target, hosts, told)}


def _dial_of(target: Target, hosts: Hosts, told: Sequence[str]) -> list[Target]:
    family = _EVERYWHERE.get(target.host) if target.has_host else None
    if family is None:
        return [target]
    if told:
        return [_dialled(parse_target(str(replace(target, host=_bare(each))))) for each in told]
    return [replace(target, host=hosts[family])] if family in hosts else []


def _bare(host: str) -> str:
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def _dialled(target: Target) -> Target:
    if target.has_host and (not target.port or not target.host or target.host in _EVERYWHERE):
        raise ConfigError(f"advertise: nobody can dial {target}")
    return target


def make_id(address: str) -> str:
    """Return an id that nobody has had before, and in which people see the server."""
    readable = re.sub(r"[^A-Za-z0-9._~-]+", "-", address.partition("://")[2]).strip("-")
    return f"{readable[:100] or 'server'}-{secrets.token_hex(6)}"


def make_entries(
    services: Iterable[tuple[str, str, str]], instance: Instance
) -> list[tuple[str, Instance]]:
    """Return what is to be announced: for each service one instance like *instance*.

    A service in several versions or groups has one for each; their ids differ in the end.

    Args:
        services: Name, version and group of each.
        instance: What they have in common.

    Raises:
        ConfigError: A name, version or group can't stand in a registry.
    """
    found: list[tuple[str, Instance]] = []
    counts: dict[str, int] = {}
    for name, version, group in dict.fromkeys(services):
        number = counts[name] = counts.get(name, 0) + 1
        id = check_id(instance.id if number == 1 else f"{instance.id}.{number}")
        found.append((name, replace(instance, id=id, version=version, group=group)))
    return found


async def make_announcer(
    registry: str | Registry,
    doors_by_target: dict[str, tuple[str, ...]],
    services: Sequence[tuple[str, str, str]],
    options: AnnounceOptions,
    log: logging.Logger | None = None,
) -> Announcer:
    """Return what keeps a server in *registry*; `Server.announce` asks for it, by name.

    Args:
        registry: A target, which is opened and belongs to the announcer, or a registry.
        doors_by_target: Where the server listens, and what is spoken there.
        services: Name, version and group of each.
        options: How it is to stand there.
        log: Where to say that the registry is away.

    Raises:
        ConfigError: The registry can't be used or an option is wrong.
    """
    given: object = registry  # whatever people give in spite of the annotation
    if not isinstance(given, str | Registry):
        raise ConfigError(f"registry must be a target or a Registry, got {given!r}")
    where = parse_cluster(given) if isinstance(given, str) else getattr(given, "target", None)
    if isinstance(given, str) and isinstance(where, ClusterTarget) and where.service:
        raise ConfigError(
            f"registry {where}: {where.service} is a service, and servers announce those they have;"
            f" end it with a slash if it is a prefix"
        )
    hosts = await find_hosts(where.hosts if isinstance(where, ClusterTarget) else ())
    addresses = reachable(doors_by_target, hosts, options.advertise)
    like = Instance(
        id=options.id or make_id(addresses[0]),
        addresses=addresses,
        weight=options.weight,
        zone=options.zone,
        tags=tuple((options.tags or {}).items()),
    )
    entries = make_entries(services, like)
    if isinstance(registry, str):
        opened = open_registry(registry, ttl=options.ttl)
        return Announcer(opened, entries, owns=True, log=log)
    return Announcer(registry, entries, log=log)
