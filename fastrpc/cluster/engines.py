"""Open the registry that a target names; its engine is loaded when it is asked for.

Rules of the room:
  * an engine is a `Registry` made of a `ClusterTarget` and the time to live;
  * who has not installed what it stands on is told the name of the extra.
"""

import importlib
from dataclasses import dataclass
from typing import Final, final

from fastrpc.cluster.registry import Registry
from fastrpc.cluster.target import ClusterTarget, parse_cluster
from fastrpc.errors import ConfigError

__all__ = ["ENGINES", "TTL", "Engine", "open_registry"]

#: Seconds for which an entry outlives its owner, if nobody says otherwise.
TTL: Final = 15.0


#: Longest of all.
TTL_MAX: Final = 86_400


@final
@dataclass(frozen=True, slots=True)
class Engine:
    """Where an engine is to be found.

    Attributes:
        module: Where it is.
        name: What makes it: `name(target, ttl=seconds)`.
        extra: Which extra of the package brings what it stands on, "" if none is needed.
    """

    module: str
    name: str
    extra: str = ""


ENGINES: Final = {
    "static": Engine("fastrpc.cluster.registries.static", "StaticRegistry"),
    "file": Engine("fastrpc.cluster.registries.files", "FileRegistry"),
    "dns": Engine("fastrpc.cluster.registries.dns", "DnsRegistry", "dns"),
    "registry": Engine("fastrpc.cluster.registries.embedded", "EmbeddedRegistry"),
    "etcd": Engine("fastrpc.cluster.registries.etcd", "EtcdRegistry", "etcd"),
    "zookeeper": Engine("fastrpc.cluster.registries.zookeeper", "ZooKeeperRegistry", "zookeeper"),
    "redis": Engine("fastrpc.cluster.registries.redis", "RedisRegistry", "redis"),
}


def open_registry(target: str | ClusterTarget, *, ttl: float = TTL) -> Registry:
    """Return the registry that *target* names; it connects when it is first asked.

    Args:
        target: Such as "etcd://10.0.0.5:2379"; a service behind it is not looked at.
        ttl: Seconds for which what is published outlives its publisher.

    Raises:
        ConfigError: There is no such registry, the time makes no sense, or a library that
            the engine stands on is not installed.
    """
    where = parse_cluster(target) if isinstance(target, str) else target
    known: object = ttl
    if isinstance(known, bool) or not isinstance(known, int | float) or not 1 <= known <= TTL_MAX:
        raise ConfigError(f"ttl must be 1 to {TTL_MAX} seconds, got {ttl!r}")
    engine = ENGINES[where.scheme]
    try:
        make = getattr(importlib.import_module(engine.module), engine.name)
    except ModuleNotFoundError as error:
        if not engine.extra or (error.name or "").startswith("fastrpc"):
            raise
        raise ConfigError(
            f"{where.scheme} needs {error.name}: pip install 'fastrpc[{engine.extra}]'"
        ) from error
    registry: Registry = make(where, ttl=ttl)
    return registry
