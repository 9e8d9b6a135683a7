"""Take the instances from the target itself: `static:tcp://a:7000,tcp://b:7000`.

Each target is an instance, for every service alike. Nothing changes, and nothing can be
published.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final, final

from fastrpc.cluster.instance import Instance, check_service, id_of
from fastrpc.cluster.registry import Change, Listing, Losses, Registry
from fastrpc.cluster.target import ClusterTarget
from fastrpc.errors import ConfigError, RegistryLost

__all__ = ["SERVICE", "StaticRegistry"]

#: Name that stands for all, where names of services are listed.
SERVICE: Final = "static"


@final
class StaticRegistry(Registry):
    """The instances of a target that names them all.

    Args:
        target: Which does.
        ttl: Of no use: nothing expires.
    """

    can_publish = False

    def __init__(self, target: ClusterTarget, *, ttl: float = float("inf")) -> None:
        self._listing = Listing(
            tuple(Instance(id=id_of(each), addresses=(each,)) for each in target.targets)
        )
        self._closed = asyncio.Event()

    async def publish(self, service: str, instance: Instance) -> None:
        """Refuse, see `Registry`."""
        raise ConfigError("nothing can be published in a target that names its servers")

    async def withdraw(self, service: str, id: str) -> None:
        """Do nothing: nothing here is ours."""

    async def list(self, service: str) -> Listing:
        """Return the instances, whatever the service."""
        check_service(service)
        return self._listing

    async def watch(self, service: str) -> AsyncGenerator[Change, None]:
        """Give the instances, and then nothing."""
        check_service(service)
        yield self._listing
        await self._closed.wait()
        raise RegistryLost("this registry is closed")

    async def services(self) -> tuple[str, ...]:
        """Return the one name that stands for all."""
        return (SERVICE,)

    async def wait_lost(self, since: int = 0) -> int:
        """Wait for ever: nothing was published."""
        return await Losses().wait(since)

    async def aclose(self) -> None:
        """Let go; twice is fine."""
        self._closed.set()
